// The admin socket: the administrator's door to a running tiebreaker.
//
// One line in, some lines out: "forget PAIR", "status", "metrics". The last line is "ok" or
// "error: ...". Only what changes a running daemon's memory or shows it is done here; everything
// else `antipode-tiebreaker admin` reads from the store itself.
#pragma once

#include "common/env/posix/line_socket.h"

namespace antipode::tiebreaker {

inline constexpr env::LineSocketKind kAdminSocket{.name = "admin socket",
                                                  .mode = 0600,
                                                  .connections_max = 8,
                                                  .line_bytes_max = 256,
                                                  .answer_bytes_max = size_t{16} << 20,
                                                  .answer_limit = std::chrono::seconds(30)};

}  // namespace antipode::tiebreaker
