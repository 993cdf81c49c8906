// Heartbeat: the UDP sockets and the clock around HeartbeatTracker: sends a heartbeat on every path
// each interval, and tells of those that come.
//
// A path is a pair of addresses, ours and the peer's; a second path goes over another network.
//
// Threads: all of it on the io_context's thread; the callback comes from the loop and may destroy
// the Heartbeat. On failure: create() says which address cannot be used; later errors of sockets
// are counted (HeartbeatStats::send_errors), for a network comes and goes.
#pragma once

#include <boost/asio/io_context.hpp>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/base/metrics.h"
#include "common/base/result.h"
#include "common/wire/heartbeat.h"
#include "replicator/stream/heartbeat_tracker.h"
#include "replicator/stream/line.h"

namespace antipode::stream {

struct HeartbeatPath {
    std::string listen;  // "10.0.0.1:7101"
    std::string peer;    // "10.0.0.2:7101"
};

struct HeartbeatConfig {
    std::vector<HeartbeatPath> paths;  // 1 to 8
    wire::HeartbeatKey key{};
    PairId pair;  // wire::pair_id(name)
    Member self;
    Name peer_site;
    Duration interval = std::chrono::milliseconds(20);
    // What this process has numbered already, to whomever: a peer takes no number twice.
    uint64_t sequence_before = 0;
    Registry* metrics = nullptr;  // outlives the heartbeat
};

using HeartbeatCallback = std::function<void(const HeartbeatEvent&)>;

class Heartbeat {
  public:
    static Result<std::unique_ptr<Heartbeat>> create(boost::asio::io_context& context,
                                                     HeartbeatConfig config,
                                                     HeartbeatCallback on_heartbeat);
    ~Heartbeat();
    Heartbeat(const Heartbeat&) = delete;
    Heartbeat& operator=(const Heartbeat&) = delete;

    void set_epoch(Epoch epoch);
    // A rehearsed loss of the line: while cut, nothing is sent and what comes is thrown away.
    void set_line(Line line);
    uint64_t sequence() const;  // of the last one that was sent
    HeartbeatStats stats() const;
    HeartbeatStats path_stats(size_t path) const;
    // Where a path listens: of use when the port was 0.
    std::string listen_address(size_t path) const;
    // Another peer address for a path, from the next heartbeat on.
    Result<> set_peer_address(size_t path, const std::string& address);

  private:
    class Impl;
    explicit Heartbeat(std::shared_ptr<Impl> impl);
    std::shared_ptr<Impl> impl_;
};

// 64 hexadecimal digits in a file that others cannot read.
Result<wire::HeartbeatKey> load_heartbeat_key(const std::string& path);
Result<wire::HeartbeatKey> parse_heartbeat_key(std::string_view text, const std::string& origin);
// Makes the file with a new random key, mode 0600; refuses to overwrite.
Result<wire::HeartbeatKey> write_new_heartbeat_key(const std::string& path);

}  // namespace antipode::stream
