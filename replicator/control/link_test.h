// LinkTest: measures the line between the two sites of a pair before it is trusted, with the very
// channel, heartbeats, keys and addresses that will carry the pair, and says what protection the
// line can carry. Both sites run it at the same time, in place of their replicators:
//
//   quiet     heartbeats and probes only: round trip, jitter, loss, clock offset
//   there     one site sends bulk that cannot be compressed, probes go on: throughput, and how
//             long a log entry waits beside bulk
//   back      the same the other way
//
// A replicator that runs at the other site takes no notice: the test's frames belong to a pair of
// another number. One thread, that of the io_context. On failure: the error says what to look at.
#pragma once

#include <boost/asio/io_context.hpp>
#include <optional>
#include <string>
#include <vector>

#include "common/base/clock.h"
#include "common/base/result.h"
#include "replicator/control/pair_config.h"

namespace antipode::control {

struct LinkTestOptions {
    Duration seconds = std::chrono::seconds(5);    // a phase
    Duration patience = std::chrono::seconds(60);  // for the other site to begin
};

struct LinkPathReport {
    std::string listen;
    std::string peer;
    std::optional<Duration> rtt;
    std::optional<Duration> jitter;
    std::optional<double> loss;
    std::optional<Duration> clock_offset;
};

struct LinkReport {
    std::string site;
    std::string peer_site;
    std::string peer_software;
    std::vector<LinkPathReport> paths;  // of heartbeats
    Duration quiet_p50{};               // round trip of a message on the channel
    Duration quiet_p99{};
    Duration loaded_p50{};  // the same beside bulk in either direction
    Duration loaded_p99{};
    double out_bytes_per_second = 0;  // of incompressible bulk, as it arrived
    double in_bytes_per_second = 0;
    Duration detection{};  // after which silence the peer would be suspected on this line
    uint64_t reconnects = 0;
};

// Runs the context until the test has ended.
Result<LinkReport> run_link_test(boost::asio::io_context& context, const PairConfig& pair,
                                 const LinkTestOptions& options);

// What the figures mean: lines of text, the worst first. Pure.
std::vector<std::string> judge(const LinkReport& report);
std::string to_text(const LinkReport& report);
std::string to_json_text(const LinkReport& report);

}  // namespace antipode::control
