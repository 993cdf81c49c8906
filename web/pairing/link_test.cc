#include "web/pairing/link_test.h"

#include <algorithm>
#include <array>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <vector>

#include "common/base/clock.h"

namespace antipode::web {
namespace {

namespace asio = boost::asio;
namespace json = boost::json;
using asio::ip::tcp;
using asio::ip::udp;
using boost::system::error_code;

constexpr auto kToken = asio::as_tuple(asio::use_awaitable);
constexpr int kDatagrams = 50;
constexpr auto kInterval = std::chrono::milliseconds(20);
constexpr auto kStragglers = std::chrono::milliseconds(1000);
constexpr size_t kDatagramBytes = 64;
constexpr auto kStreamTime = std::chrono::milliseconds(1000);
constexpr uint64_t kStreamBytesMax = uint64_t{256} << 20;
constexpr auto kStepLimit = std::chrono::seconds(4);
constexpr size_t kCountBytes = 8;

double seconds(Duration duration) {
    return std::chrono::duration<double>(duration).count();
}

// What a probe of the heartbeats' port has heard.
struct Pings {
    explicit Pings(const asio::any_io_executor& executor) : socket(executor), timer(executor) {}
    udp::socket socket;
    asio::steady_timer timer;
    std::array<Instant, kDatagrams> sent_at{};
    std::vector<double> round_trips;  // in the order of their coming
    std::array<bool, kDatagrams> heard{};
};

asio::awaitable<void> hear(std::shared_ptr<Pings> pings, std::string token) {
    std::array<char, 256> bytes{};
    for (;;) {
        const auto buffer = asio::buffer(bytes);
        const auto [error, size] = co_await pings->socket.async_receive(buffer, kToken);
        if (error == asio::error::connection_refused) continue;  // by a single ICMP message
        if (error) co_return;
        if (size != kDatagramBytes || std::string_view(bytes.data(), token.size()) != token)
            continue;
        const auto number = static_cast<uint8_t>(bytes[kLinkTokenBytes]);
        if (number >= kDatagrams || pings->heard[number]) continue;
        pings->heard[number] = true;
        pings->round_trips.push_back(seconds(MonotonicClock::now() - pings->sent_at[number]));
        if (pings->round_trips.size() == kDatagrams) pings->timer.cancel();
    }
}

void summarize(const std::vector<double>& round_trips, LinkReport& report) {
    report.received = static_cast<int>(round_trips.size());
    if (round_trips.empty()) return;
    double change = 0;
    for (size_t i = 1; i < round_trips.size(); ++i) {
        change += std::abs(round_trips[i] - round_trips[i - 1]);
    }
    if (round_trips.size() > 1) {
        report.jitter_seconds = change / static_cast<double>(round_trips.size() - 1);
    }
    std::vector<double> sorted = round_trips;
    std::sort(sorted.begin(), sorted.end());
    report.rtt_seconds = sorted[sorted.size() / 2];
}

asio::awaitable<void> ping(std::string from, std::string to, uint16_t port, std::string token,
                           LinkReport& report) {
    const auto executor = co_await asio::this_coro::executor;
    const auto pings = std::make_shared<Pings>(executor);
    error_code error;
    const udp::endpoint own(asio::ip::make_address(from), 0);
    const udp::endpoint other(asio::ip::make_address(to), port);
    pings->socket.open(own.protocol(), error);
    if (!error) pings->socket.bind(own, error);
    if (!error) pings->socket.connect(other, error);
    report.sent = kDatagrams;
    if (error) co_return;
    auto hearing = hear(pings, token);
    asio::co_spawn(executor, std::move(hearing), asio::detached);
    for (int i = 0; i < kDatagrams; ++i) {
        std::string datagram = token + static_cast<char>(i);
        datagram.resize(kDatagramBytes);
        pings->sent_at[static_cast<size_t>(i)] = MonotonicClock::now();
        pings->socket.send(asio::buffer(datagram), 0, error);
        pings->timer.expires_after(kInterval);
        co_await pings->timer.async_wait(kToken);
    }
    if (pings->round_trips.size() < kDatagrams) {
        pings->timer.expires_after(kStragglers);
        co_await pings->timer.async_wait(kToken);
    }
    summarize(pings->round_trips, report);
    pings->socket.close(error);
}

uint64_t read_count(const std::array<unsigned char, kCountBytes>& bytes) {
    uint64_t count = 0;
    for (const unsigned char byte : bytes) count = count << 8 | byte;
    return count;
}

asio::awaitable<Result<double>> stream_to(std::string from, std::string to, uint16_t port,
                                          std::string token) {
    const auto executor = co_await asio::this_coro::executor;
    boost::beast::tcp_stream stream(executor);
    const tcp::endpoint own(asio::ip::make_address(from), 0);
    error_code ignored;
    stream.socket().open(own.protocol(), ignored);
    stream.socket().bind(own, ignored);
    stream.expires_after(kStepLimit);
    const tcp::endpoint other(asio::ip::make_address(to), port);
    const auto [connect_error] = co_await stream.async_connect(other, kToken);
    if (connect_error) co_return fail(Errc::unreachable, "{}", connect_error.message());
    const Instant began = MonotonicClock::now();
    const auto hello = asio::buffer(token);
    const auto [hello_error, hello_size] = co_await asio::async_write(stream, hello, kToken);
    if (hello_error) co_return fail(Errc::unreachable, "{}", hello_error.message());
    // Zeros would be compressed by some lines.
    static const std::string block = [] {
        std::string out;
        uint64_t state = 0x9e3779b97f4a7c15;
        while (out.size() < (256 << 10)) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            out.append(reinterpret_cast<const char*>(&state), sizeof state);
        }
        return out;
    }();
    uint64_t sent = 0;
    while (MonotonicClock::now() - began < kStreamTime && sent < kStreamBytesMax) {
        const auto piece = asio::buffer(block);
        const auto [error, size] = co_await asio::async_write(stream, piece, kToken);
        if (error) co_return fail(Errc::unreachable, "{}", error.message());
        sent += size;
    }
    stream.socket().shutdown(tcp::socket::shutdown_send, ignored);
    stream.expires_after(kStepLimit);
    std::array<unsigned char, kCountBytes> counted{};
    const auto answer = asio::buffer(counted);
    const auto [error, size] = co_await asio::async_read(stream, answer, kToken);
    if (error) co_return fail(Errc::unreachable, "no answer: {}", error.message());
    const double took = seconds(MonotonicClock::now() - began);
    co_return static_cast<double>(read_count(counted)) / took;
}

constexpr std::string_view kOpenIt =
    "open it in the firewalls between the sites (firewall-cmd --permanent --add-service=antipode)";

}  // namespace

LinkEcho::LinkEcho(asio::any_io_executor executor, std::string token)
    : token_(std::move(token)), datagrams_(executor), acceptor_(executor), life_(executor) {}

Result<std::shared_ptr<LinkEcho>> LinkEcho::start(asio::any_io_executor executor,
                                                  const std::string& address, uint16_t channel_port,
                                                  uint16_t heartbeat_port, std::string token) {
    std::shared_ptr<LinkEcho> echo(new LinkEcho(executor, std::move(token)));
    error_code error;
    const auto own = asio::ip::make_address(address, error);
    if (error) return fail(Errc::invalid_argument, "address: '{}' is no IP address", address);
    const auto in_use = [&](uint16_t port) {
        const Errc code =
            error == asio::error::address_in_use ? Errc::already_exists : Errc::invalid_argument;
        return fail(code, "{} port {}: {}", address, port, error.message());
    };
    echo->datagrams_.open(udp::endpoint(own, 0).protocol(), error);
    if (!error) echo->datagrams_.bind(udp::endpoint(own, heartbeat_port), error);
    if (error) return in_use(heartbeat_port);
    const tcp::endpoint channel(own, channel_port);
    echo->acceptor_.open(channel.protocol(), error);
    echo->acceptor_.set_option(tcp::acceptor::reuse_address(true), error);
    echo->acceptor_.bind(channel, error);
    if (!error) echo->acceptor_.listen(1, error);
    if (error) return in_use(channel_port);
    echo->life_.expires_after(kEchoLife);
    echo->life_.async_wait([echo](error_code cancelled) {
        if (!cancelled) echo->stop();
    });
    auto answering = echo->answer_datagrams();
    asio::co_spawn(executor, std::move(answering), asio::detached);
    auto accepting = echo->accept();
    asio::co_spawn(executor, std::move(accepting), asio::detached);
    return echo;
}

void LinkEcho::stop() {
    error_code ignored;
    datagrams_.close(ignored);
    acceptor_.close(ignored);
    life_.cancel();
}

asio::awaitable<void> LinkEcho::answer_datagrams() {
    const auto self = shared_from_this();
    std::array<char, 256> bytes{};
    for (;;) {
        udp::endpoint from;
        const auto buffer = asio::buffer(bytes);
        const auto [error, size] = co_await datagrams_.async_receive_from(buffer, from, kToken);
        if (error == asio::error::connection_refused) continue;
        if (error) co_return;
        if (size != kDatagramBytes || std::string_view(bytes.data(), token_.size()) != token_) {
            continue;
        }
        error_code ignored;
        datagrams_.send_to(asio::buffer(bytes.data(), size), from, 0, ignored);
    }
}

asio::awaitable<void> LinkEcho::accept() {
    const auto self = shared_from_this();
    for (;;) {
        auto [error, socket] = co_await acceptor_.async_accept(kToken);
        if (error) co_return;
        co_await take_stream(std::move(socket));
    }
}

asio::awaitable<void> LinkEcho::take_stream(tcp::socket socket) {
    boost::beast::tcp_stream stream(std::move(socket));
    stream.expires_after(kStepLimit);
    std::string token(token_.size(), '\0');
    const auto head = asio::buffer(token);
    const auto [head_error, head_size] = co_await asio::async_read(stream, head, kToken);
    if (head_error || token != token_) co_return;
    std::vector<char> bytes(256 << 10);
    uint64_t count = 0;
    while (count < kStreamBytesMax * 2) {
        const auto buffer = asio::buffer(bytes);
        const auto [error, size] = co_await stream.async_read_some(buffer, kToken);
        if (error == asio::error::eof) break;
        if (error) co_return;
        count += size;
    }
    std::array<unsigned char, kCountBytes> counted{};
    for (size_t i = 0; i < kCountBytes; ++i) {
        counted[i] = static_cast<unsigned char>(count >> (8 * (kCountBytes - 1 - i)));
    }
    const auto answer = asio::buffer(counted);
    co_await asio::async_write(stream, answer, kToken);
}

asio::awaitable<LinkReport> probe_link(std::string from, std::string to, uint16_t channel_port,
                                       uint16_t heartbeat_port, std::string token) {
    LinkReport report;
    co_await ping(from, to, heartbeat_port, token, report);
    auto streamed = co_await stream_to(from, to, channel_port, token);
    if (streamed) {
        report.bytes_per_second = *streamed;
    } else {
        report.channel_error = streamed.error().context;
    }
    co_return report;
}

json::object to_json(const LinkReport& report) {
    const auto or_null = [](const std::optional<double>& value) {
        return value ? json::value(*value) : json::value(nullptr);
    };
    json::object out;
    out["sent"] = report.sent;
    out["received"] = report.received;
    out["loss_ratio"] = report.loss_ratio();
    out["rtt_seconds"] = or_null(report.rtt_seconds);
    out["jitter_seconds"] = or_null(report.jitter_seconds);
    out["bytes_per_second"] = or_null(report.bytes_per_second);
    out["channel_error"] = report.channel_error;
    return out;
}

LinkReport link_report_from(const json::object& document) {
    LinkReport report;
    const auto number = [&](std::string_view name) -> std::optional<double> {
        const json::value* found = document.if_contains(name);
        if (found == nullptr || !found->is_number()) return std::nullopt;
        return found->to_number<double>();
    };
    report.sent = static_cast<int>(std::clamp(number("sent").value_or(0), 0.0, 1e6));
    report.received = static_cast<int>(std::clamp(number("received").value_or(0), 0.0, 1e6));
    report.rtt_seconds = number("rtt_seconds");
    report.jitter_seconds = number("jitter_seconds");
    report.bytes_per_second = number("bytes_per_second");
    const json::value* error = document.if_contains("channel_error");
    if (error != nullptr && error->is_string()) {
        report.channel_error = std::string(error->get_string()).substr(0, 200);
    }
    return report;
}

LinkJudgment judge_link(const LinkReport& report, std::string_view from, std::string_view to,
                        uint16_t channel_port, uint16_t heartbeat_port) {
    const std::string way = fmt::format("{} to {}", from, to);
    if (report.received == 0) {
        return {LinkVerdict::broken, fmt::format("{}: no datagram came through to UDP port {}; {}",
                                                 way, heartbeat_port, kOpenIt)};
    }
    if (!report.channel_error.empty()) {
        return {LinkVerdict::broken, fmt::format("{}: TCP port {}: {}; {}", way, channel_port,
                                                 report.channel_error, kOpenIt)};
    }
    const double megabits = report.bytes_per_second.value_or(0) * 8 / 1e6;
    const std::string figures = fmt::format(
        "{}: round trip {:.1f} ms, jitter {:.1f} ms, loss {:.0f} %, {:.0f} Mbit/s over one "
        "connection",
        way, report.rtt_seconds.value_or(0) * 1e3, report.jitter_seconds.value_or(0) * 1e3,
        report.loss_ratio() * 100, megabits);
    if (report.loss_ratio() > 0.02) {
        return {LinkVerdict::poor, figures + ": more than 2 % are lost, expect false alarms"};
    }
    if (megabits < 10) {
        return {LinkVerdict::poor, figures + ": a busy VM's log may need more than that"};
    }
    return {LinkVerdict::good, figures};
}

}  // namespace antipode::web
