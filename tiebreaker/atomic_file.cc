#include "tiebreaker/atomic_file.h"

#include <cerrno>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "common/env/posix/storage_file.h"

namespace antipode::tiebreaker {
namespace {

std::string directory_of(const std::string& path) {
    const size_t slash = path.rfind('/');
    if (slash == std::string::npos) return ".";
    return slash == 0 ? "/" : path.substr(0, slash);
}

Result<> write_all(int fd, std::string_view bytes, const std::string& path) {
    while (!bytes.empty()) {
        const ssize_t written = ::write(fd, bytes.data(), bytes.size());
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) return fail_errno(errno, "{}", path);
        bytes.remove_prefix(static_cast<size_t>(written));
    }
    if (::fsync(fd) != 0) return fail_errno(errno, "{}", path);
    return {};
}

}  // namespace

Result<> sync_directory_of(const std::string& path) {
    const std::string directory = directory_of(path);
    const UniqueFd fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!fd) return fail_errno(errno, "{}", directory);
    if (::fsync(fd.get()) != 0) return fail_errno(errno, "{}", directory);
    return {};
}

Result<> write_file(const std::string& path, std::string_view bytes, mode_t mode,
                    Existing existing) {
    std::string beside = path + ".XXXXXX";
    const UniqueFd fd(::mkostemp(beside.data(), O_CLOEXEC));
    if (!fd) return fail_errno(errno, "{}", path);
    auto done = [&]() -> Result<> {
        if (::fchmod(fd.get(), mode) != 0) return fail_errno(errno, "{}", path);
        FT_TRY_VOID(write_all(fd.get(), bytes, path));
        if (existing == Existing::replace) {
            if (::rename(beside.c_str(), path.c_str()) != 0) return fail_errno(errno, "{}", path);
            return {};
        }
        // A link, unlike a rename, does not replace what is there.
        if (::link(beside.c_str(), path.c_str()) != 0) return fail_errno(errno, "{}", path);
        ::unlink(beside.c_str());
        return {};
    }();
    if (!done) {
        ::unlink(beside.c_str());
        return done;
    }
    return sync_directory_of(path);
}

Result<std::string> read_file(const std::string& path, size_t bytes_max) {
    const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd) return fail_errno(errno, "{}", path);
    std::string out;
    while (true) {
        const size_t have = out.size();
        out.resize(have + 16384);
        const ssize_t got = ::read(fd.get(), out.data() + have, 16384);
        if (got < 0 && errno == EINTR) {
            out.resize(have);
            continue;
        }
        if (got < 0) return fail_errno(errno, "{}", path);
        out.resize(have + static_cast<size_t>(got));
        if (got == 0) return out;
        if (out.size() > bytes_max) {
            return fail(Errc::limit, "{}: has more than {} bytes", path, bytes_max);
        }
    }
}

Result<UniqueFd> lock_file(const std::string& path, std::string_view holder_hint) {
    UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    if (!fd) return fail_errno(errno, "{}", path);
    FT_TRY_VOID(env::give_to_owner_of_directory(fd.get(), path));
    if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
        if (errno == EWOULDBLOCK) {
            return fail(Errc::busy, "{}: is locked by another process ({})", path, holder_hint);
        }
        return fail_errno(errno, "{}", path);
    }
    return fd;
}

}  // namespace antipode::tiebreaker
