// Asks the replicated disks on this host (disksync): one line over a group's control socket, one
// JSON answer. The sockets stand in disks/ below each directory of the replicators' sockets.
//
// Threads: the web thread only.
// INVARIANTS: connecting and the answer are bounded in time and bytes; so is the number of groups.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/json/object.hpp>
#include <chrono>
#include <string>
#include <vector>

#include "common/base/result.h"

namespace antipode::web {

struct DiskGroup {
    std::string name;
    std::string socket;
};

// What a group says of itself, or why it does not.
struct DiskGroupView {
    DiskGroup group;
    Result<boost::json::object> status;
};

std::vector<DiskGroup> disk_groups(const std::vector<std::string>& directories);  // by name

// Errc::unreachable: no answer. A group's own refusal comes with the code and text that it gave.
boost::asio::awaitable<Result<boost::json::object>> ask_disk_group(std::string socket,
                                                                   std::string line,
                                                                   std::chrono::milliseconds limit);

// All of them at once.
boost::asio::awaitable<std::vector<DiskGroupView>> ask_disk_groups(std::vector<DiskGroup> groups);

}  // namespace antipode::web
