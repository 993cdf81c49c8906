// The line between two sites, tried before they rely on it: datagrams to the port of the heartbeats
// and a connection to the port of the logging channel, in each direction, on the very ports that
// the replicators will use, so that a closed firewall is found now.
//
// The side that is tried answers with an Echo on its ports; the other tries it with probe_link().
// Every datagram and the connection begin with a token that both got over the pairing's own
// connection; what does not is dropped unanswered.
//
// Threads: the web thread only.
// INVARIANTS: an Echo lives at most kEchoLife, answers no more bytes than it is sent, and serves
// one connection at a time; a probe ends within 12 s.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/udp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/json/object.hpp>
#include <memory>
#include <optional>
#include <string>

#include "common/base/result.h"

namespace antipode::web {

constexpr size_t kLinkTokenBytes = 16;

class LinkEcho : public std::enable_shared_from_this<LinkEcho> {
  public:
    static constexpr auto kEchoLife = std::chrono::seconds(25);

    // Errc::already_exists when a port is in use.
    static Result<std::shared_ptr<LinkEcho>> start(boost::asio::any_io_executor executor,
                                                   const std::string& address,
                                                   uint16_t channel_port, uint16_t heartbeat_port,
                                                   std::string token);
    void stop();

  private:
    LinkEcho(boost::asio::any_io_executor executor, std::string token);
    boost::asio::awaitable<void> answer_datagrams();
    boost::asio::awaitable<void> accept();
    boost::asio::awaitable<void> take_stream(boost::asio::ip::tcp::socket socket);

    const std::string token_;
    boost::asio::ip::udp::socket datagrams_;
    boost::asio::ip::tcp::acceptor acceptor_;
    boost::asio::steady_timer life_;
};

struct LinkReport {
    int sent = 0;
    int received = 0;
    std::optional<double> rtt_seconds;  // the middle one
    std::optional<double> jitter_seconds;
    std::optional<double> bytes_per_second;
    std::string channel_error;  // empty = the connection was made and served

    double loss_ratio() const { return sent == 0 ? 1.0 : 1.0 - double(received) / sent; }
};

boost::asio::awaitable<LinkReport> probe_link(std::string from, std::string to,
                                              uint16_t channel_port, uint16_t heartbeat_port,
                                              std::string token);

boost::json::object to_json(const LinkReport& report);
LinkReport link_report_from(const boost::json::object& document);
// What the report means, for an operator: a sentence, and whether one can rely on the line.
enum class LinkVerdict { good, poor, broken };
struct LinkJudgment {
    LinkVerdict verdict = LinkVerdict::good;
    std::string text;
};
LinkJudgment judge_link(const LinkReport& report, std::string_view from, std::string_view to,
                        uint16_t channel_port, uint16_t heartbeat_port);

}  // namespace antipode::web
