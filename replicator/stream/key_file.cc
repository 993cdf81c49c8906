#include "replicator/stream/key_file.h"

#include <cerrno>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/unique_fd.h"

namespace antipode::stream {
namespace {

constexpr size_t kKeyFileBytesMax = 4096;

}  // namespace

Result<std::string> read_key_file(const std::string& path, const char* what, KeySecrecy secrecy) {
    const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd) return fail_errno(errno, "{} {}", what, path);
    struct stat status {};
    if (fstat(fd.get(), &status) != 0) return fail_errno(errno, "{} {}", what, path);
    if (!S_ISREG(status.st_mode)) {
        return fail(Errc::invalid_argument, "{} {}: not a file", what, path);
    }
    if (secrecy == KeySecrecy::secret && (status.st_mode & S_IRWXO) != 0) {
        return fail(Errc::denied, "{} {}: mode is {:04o}, others must not have access (chmod 600)",
                    what, path, status.st_mode & 07777);
    }
    std::string text(kKeyFileBytesMax + 1, '\0');
    const ssize_t got = ::read(fd.get(), text.data(), text.size());
    if (got < 0) return fail_errno(errno, "{} {}", what, path);
    if (static_cast<size_t>(got) > kKeyFileBytesMax) {
        return fail(Errc::limit, "{} {}: longer than {} bytes, not a key", what, path,
                    kKeyFileBytesMax);
    }
    text.resize(static_cast<size_t>(got));
    return text;
}

Result<> write_new_key_file(const std::string& path, const std::string& text, const char* what,
                            KeySecrecy secrecy) {
    const mode_t mode = secrecy == KeySecrecy::secret ? 0600 : 0644;
    const UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode));
    if (!fd) return fail_errno(errno, "{} {}", what, path);
    if (::write(fd.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()) ||
        ::fsync(fd.get()) != 0) {
        const int error = errno;
        ::unlink(path.c_str());
        return fail_errno(error, "{} {}", what, path);
    }
    return {};
}

}  // namespace antipode::stream
