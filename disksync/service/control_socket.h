// The control socket: the door of the web daemon and of operators, who are its file's group, to a
// running group of disks. One line in, one JSON document in a line out.
#pragma once

#include "common/env/posix/line_socket.h"

namespace antipode::disksync {

inline constexpr env::LineSocketKind kControlSocket{.name = "control socket",
                                                    .mode = 0660,
                                                    .connections_max = 16,
                                                    .line_bytes_max = 1024,
                                                    .answer_bytes_max = size_t{16} << 20,
                                                    .answer_limit = std::chrono::seconds(120)};

}  // namespace antipode::disksync
