// Unix sockets by the path of their file.
//
// `name` is what the operator calls the socket; it comes first in every error: "control socket
// /run/x: ...".
#pragma once

#include <string>
#include <string_view>
#include <sys/stat.h>
#include <sys/un.h>

#include "common/base/result.h"
#include "common/base/unique_fd.h"

namespace antipode::env {

// Errc::invalid_argument for a path that is empty, or longer than an address holds.
Result<sockaddr_un> unix_address(const std::string& path, std::string_view name);

// A stream socket, connected; blocking.
Result<UniqueFd> connect_unix(const std::string& path, std::string_view name);

// A stream socket with this file, not listening yet; it does not block. The file of a process that
// is gone is replaced. Errc::already_exists for one that a living process serves, or that is no
// socket. The file has its mode from the first moment: nobody gets in between.
Result<UniqueFd> bind_unix(const std::string& path, std::string_view name, mode_t mode);

}  // namespace antipode::env
