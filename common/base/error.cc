#include "common/base/error.h"

#include <cerrno>
#include <system_error>

namespace antipode {

std::string_view to_string(Errc code) {
    switch (code) {
        case Errc::invalid_argument:
            return "invalid argument";
        case Errc::not_found:
            return "not found";
        case Errc::already_exists:
            return "already exists";
        case Errc::io:
            return "I/O error";
        case Errc::no_space:
            return "no space";
        case Errc::corrupt:
            return "corrupt";
        case Errc::protocol:
            return "protocol error";
        case Errc::version:
            return "version mismatch";
        case Errc::unreachable:
            return "unreachable";
        case Errc::denied:
            return "denied";
        case Errc::stale_epoch:
            return "stale epoch";
        case Errc::limit:
            return "limit reached";
        case Errc::busy:
            return "busy";
        case Errc::closed:
            return "closed";
        case Errc::unsupported:
            return "unsupported";
        case Errc::diverged:
            return "diverged";
    }
    return "unknown error";
}

std::string Error::to_string() const {
    return std::string(antipode::to_string(code)) + ": " + context;
}

Error Error::within(std::string_view what) && {
    context.insert(0, std::string(what) + ": ");
    return std::move(*this);
}

Error errno_error(int error_number, std::string_view what) {
    Errc code = Errc::io;
    switch (error_number) {
        case ENOENT:
            code = Errc::not_found;
            break;
        case EEXIST:
        case EADDRINUSE:
            code = Errc::already_exists;
            break;
        case ENOSPC:
        case EDQUOT:
        case EFBIG:
            code = Errc::no_space;
            break;
        case EACCES:
        case EPERM:
            code = Errc::denied;
            break;
        case EBUSY:
        case EAGAIN:
            code = Errc::busy;
            break;
        case EINVAL:
            code = Errc::invalid_argument;
            break;
        case ECONNREFUSED:
        case EHOSTUNREACH:
        case ENETUNREACH:
        case ETIMEDOUT:
            code = Errc::unreachable;
            break;
        case EOPNOTSUPP:
        case ENOSYS:
            code = Errc::unsupported;
            break;
        default:
            break;
    }
    return {code, std::string(what) + ": " + std::generic_category().message(error_number)};
}

}  // namespace antipode
