// Wan: the lines between nodes, what is forwarded over them, and the commands that change both.
//
//     forward tcp a->b 10.1.0.254:7100 10.2.0.1:7100
//         whoever connects to the first address (from a's side) reaches the second (on b's side)
//     forward udp a<->b 10.1.0.254:7101 10.1.0.1:7101 10.2.0.254:7101 10.2.0.1:7101
//         what arrives at the first address goes from the third to the fourth, and back the same
//         way: each node sees its peer as one fixed address
//     set a->b delay_ms=50 rate_mbytes=125     also a<->b and all (Settings in direction.h)
//     cut a->b [mode=blackhole|hold|reset]     heal a->b
//     break all                                resets every TCP connection, and no more
//     stats                                    a line of JSON
//     script FILE                              runs a script (script.h) beside other commands
//
// Runs on one thread, that of its io_context. Buffers are bounded: a connection holds at most
// kBufferBytesMax a direction, a datagram forward kDatagramsMax.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/base/result.h"
#include "tests/system/wan_link/direction.h"
#include "tests/system/wan_link/script.h"

namespace antipode::wan {

inline constexpr size_t kBufferBytesMax = 64 * 1024 * 1024;
inline constexpr size_t kDatagramsMax = 65536;
inline constexpr size_t kConnectionsMax = 1024;

// The two directions between a pair of nodes, seen from the first.
struct Line {
    Direction* out;
    Direction* back;
    Duration round_trip() const { return out->settings().delay + back->settings().delay; }
};

class Forward {
  public:
    virtual ~Forward() = default;
    // A direction's cut changed; look at both.
    virtual void cut_changed() = 0;
    virtual void break_connections() = 0;
    virtual size_t connections() const = 0;
};

class Wan {
  public:
    Wan(boost::asio::io_context& context, uint64_t seed);

    // One command; what to answer.
    Result<std::string> execute(std::string_view command);
    // Runs a script's text from now on; an earlier one is given up.
    Result<> run_script(std::string_view text);

  private:
    using Key = std::pair<std::string, std::string>;

    Direction& direction(const std::string& from, const std::string& to);
    Result<std::vector<Direction*>> select(std::string_view who);
    Result<std::string> add_forward(const std::vector<std::string_view>& words);
    Result<std::string> set(const std::vector<std::string_view>& words);
    Result<std::string> cut(const std::vector<std::string_view>& words);
    std::string stats() const;
    void next_step();
    void run_step(const std::string& command);

    boost::asio::io_context& context_;
    uint64_t seed_;
    std::map<Key, std::unique_ptr<Direction>> directions_;
    std::vector<std::unique_ptr<Forward>> forwards_;
    std::optional<Script> script_;
    boost::asio::steady_timer script_timer_;
    Instant script_at_{};
};

// Both in their own files.
Result<std::unique_ptr<Forward>> make_tcp_forward(boost::asio::io_context& context, Line line,
                                                  std::string_view listen, std::string_view target);
struct DatagramEnds {
    std::string_view listen;
    std::string_view peer;
};
Result<std::unique_ptr<Forward>> make_udp_forward(boost::asio::io_context& context, Line line,
                                                  DatagramEnds near, DatagramEnds far);

}  // namespace antipode::wan
