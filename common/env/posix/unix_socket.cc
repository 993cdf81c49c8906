#include "common/env/posix/unix_socket.h"

#include <cerrno>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/log.h"

namespace antipode::env {
namespace {

bool connects(const UniqueFd& fd, const sockaddr_un& address) {
    return ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
}

// A socket's file whose process is gone refuses connections; one that answers is in use.
Result<> remove_stale(const std::string& path, std::string_view name, const sockaddr_un& address) {
    struct stat info {};
    if (::lstat(path.c_str(), &info) != 0) {
        if (errno == ENOENT) return {};
        return fail_errno(errno, "{} {}", name, path);
    }
    if (!S_ISSOCK(info.st_mode)) {
        return fail(Errc::already_exists, "{} {}: exists and is not a socket", name, path);
    }
    const UniqueFd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!probe) return fail_errno(errno, "{} {}", name, path);
    if (connects(probe, address) || errno == EAGAIN) {  // EAGAIN: its backlog is full, so it lives
        return fail(Errc::already_exists, "{} {}: another process serves it", name, path);
    }
    if (errno != ECONNREFUSED) return fail_errno(errno, "{} {}", name, path);
    logger("socket").info("{} {}: replacing the file of a process that is gone", name, path);
    if (::unlink(path.c_str()) != 0 && errno != ENOENT) {
        return fail_errno(errno, "{} {}: cannot remove it", name, path);
    }
    return {};
}

}  // namespace

Result<sockaddr_un> unix_address(const std::string& path, std::string_view name) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.empty() || path.size() >= sizeof(address.sun_path)) {
        return fail(Errc::invalid_argument, "{} {}: the path has {} bytes, 1 to {} fit", name, path,
                    path.size(), sizeof(address.sun_path) - 1);
    }
    path.copy(address.sun_path, path.size());
    return address;
}

Result<UniqueFd> connect_unix(const std::string& path, std::string_view name) {
    FT_TRY(const sockaddr_un address, unix_address(path, name));
    UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!fd || !connects(fd, address)) return fail_errno(errno, "{} {}", name, path);
    return fd;
}

Result<UniqueFd> bind_unix(const std::string& path, std::string_view name, mode_t mode) {
    FT_TRY(const sockaddr_un address, unix_address(path, name));
    FT_TRY_VOID(remove_stale(path, name, address));
    UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    // Linux takes the mode of the new file from the socket.
    if (!fd || ::fchmod(fd.get(), mode) != 0 ||
        ::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
        return fail_errno(errno, "{} {}", name, path);
    }
    return fd;
}

}  // namespace antipode::env
