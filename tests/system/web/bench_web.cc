// bench_web [SECONDS]: requests for a pair's status over TLS keep-alive connections, while 200 live
// subscribers are served: requests a second, latency, and whether every subscriber got every
// message. The daemon runs on one thread of this process, the clients on another.
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <boost/beast/ssl/ssl_stream.hpp>
#include <filesystem>
#include <fmt/format.h>
#include <future>
#include <iostream>
#include <thread>

#include "common/base/check.h"
#include "common/base/log.h"
#include "tests/unit/web/fake_pair.h"
#include "web/app.h"
#include "web/security/https.h"

namespace antipode::web::test {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
using asio::ip::tcp;
using Clock = std::chrono::steady_clock;
using Stream = beast::ssl_stream<tcp::socket>;
constexpr auto kToken = asio::as_tuple(asio::use_awaitable);

constexpr size_t kSubscribers = 200;
constexpr size_t kRequesters = 16;
constexpr double kRequestsPerSecondGoal = 2000;
constexpr double kP99Goal = 0.050;

// The daemon and its replicators, on a thread of their own.
class Daemon {
  public:
    Daemon() {
        std::string pattern = "/tmp/bench-web-XXXXXX";
        directory_ = ::mkdtemp(pattern.data());
        Settings settings;
        settings.server.port = 0;
        settings.fleet.directories = {directory_};
        settings.tls = true;
        settings.https = {directory_ + "/certificate.pem", directory_ + "/key.pem"};
        settings.server.connections_of_one_address_max = 512;
        FT_CHECK(make_self_signed(settings.https, {"localhost", "127.0.0.1"}).has_value(),
                 "certificate");
        for (const char* name : {"web1", "db-north", "mail"}) add(name);
        auto app = App::start(context_, std::move(settings));
        FT_CHECK(app.has_value(), "{}", app ? "" : app.error().to_string());
        app_ = std::move(*app);
        thread_ = std::thread([this] { context_.run(); });
    }
    ~Daemon() {
        asio::post(context_, [this] {
            app_->stop();
            servers_.clear();
        });
        thread_.join();
        std::filesystem::remove_all(directory_);
    }
    uint16_t port() const { return app_->port(); }
    uint64_t cut() {
        std::promise<uint64_t> promise;
        asio::post(context_, [&] { promise.set_value(app_->services().hub.cut_count()); });
        return promise.get_future().get();
    }

  private:
    void add(const std::string& name) {
        pairs_.push_back(std::make_unique<FakePair>(name, "prague", "lisbon", 7, unix_ms_now));
        pairs_.back()->run_for(900);
        control::ControlServerSettings settings;
        settings.path = directory_ + "/" + name + ".sock";
        auto server = control::ControlServer::start(context_, settings, pairs_.back()->handler(0));
        FT_CHECK(server.has_value(), "{}", settings.path);
        servers_.push_back(std::move(*server));
    }

    asio::io_context context_{1};
    std::string directory_;
    std::vector<std::unique_ptr<FakePair>> pairs_;
    std::vector<std::unique_ptr<control::ControlServer>> servers_;
    std::unique_ptr<App> app_;
    std::thread thread_;
};

struct Counts {
    std::vector<double> latencies;
    uint64_t failures = 0;
    std::vector<uint64_t> messages;  // of each subscriber
    bool done = false;
};

beast::http::request<beast::http::empty_body> request_for(const std::string& target) {
    beast::http::request<beast::http::empty_body> request(beast::http::verb::get, target, 11);
    request.set(beast::http::field::host, "localhost");
    return request;
}

asio::awaitable<bool> open(Stream& stream, uint16_t port) {
    const tcp::endpoint endpoint(asio::ip::address_v4::loopback(), port);
    const auto [failed] = co_await stream.next_layer().async_connect(endpoint, kToken);
    if (failed) co_return false;
    stream.next_layer().set_option(tcp::no_delay(true));
    const auto [refused] = co_await stream.async_handshake(asio::ssl::stream_base::client, kToken);
    co_return !refused;
}

asio::awaitable<void> subscribe(asio::ssl::context& tls, uint16_t port, Counts& counts,
                                size_t index) {
    const auto executor = co_await asio::this_coro::executor;
    Stream stream(tcp::socket(executor), tls);
    const bool connected = co_await open(stream, port);
    const auto request = request_for("/api/v1/live?pair=web1");
    if (connected) co_await beast::http::async_write(stream, request, kToken);
    std::array<char, 65536> chunk{};
    const auto space = asio::buffer(chunk);
    while (connected && !counts.done) {
        const auto [error, size] = co_await stream.async_read_some(space, kToken);
        if (error) co_return;
        const std::string_view text(chunk.data(), size);
        for (size_t at = text.find("event: "); at != std::string_view::npos;
             at = text.find("event: ", at + 7)) {
            ++counts.messages[index];
        }
    }
}

asio::awaitable<void> ask(asio::ssl::context& tls, uint16_t port, Counts& counts) {
    const auto executor = co_await asio::this_coro::executor;
    Stream stream(tcp::socket(executor), tls);
    const bool connected = co_await open(stream, port);
    const auto request = request_for("/api/v1/pairs/web1");
    beast::flat_buffer buffer;
    while (connected && !counts.done) {
        const auto begin = Clock::now();
        beast::http::response<beast::http::string_body> response;
        co_await beast::http::async_write(stream, request, kToken);
        const auto [error, size] =
            co_await beast::http::async_read(stream, buffer, response, kToken);
        if (error || response.result_int() != 200) {
            ++counts.failures;
            co_return;
        }
        counts.latencies.push_back(std::chrono::duration<double>(Clock::now() - begin).count());
    }
}

void start(asio::io_context& context, asio::awaitable<void> task) {
    asio::co_spawn(context, std::move(task), [](const std::exception_ptr& thrown) {
        if (thrown) std::rethrow_exception(thrown);
    });
}

double quantile(std::vector<double>& sorted, double q) {
    return sorted.empty() ? 0
                          : sorted[static_cast<size_t>(q * static_cast<double>(sorted.size() - 1))];
}

struct Outcome {
    double per_second = 0;
    double p50 = 0;
    double p99 = 0;
    uint64_t failures = 0;
    uint64_t least_messages = 0;
};

Outcome measure(uint16_t port, size_t subscribers, double seconds) {
    asio::ssl::context tls(
        asio::ssl::context::tls_client);  // loads; who serves is not in question here
    asio::io_context context(1);
    Counts counts;
    counts.messages.resize(subscribers);
    for (size_t i = 0; i < subscribers; ++i) start(context, subscribe(tls, port, counts, i));
    const auto settle = Clock::now() + std::chrono::seconds(2);
    while (Clock::now() < settle) context.run_for(std::chrono::milliseconds(50));
    const std::vector<uint64_t> before = counts.messages;
    for (size_t i = 0; i < kRequesters; ++i) start(context, ask(tls, port, counts));
    context.restart();  // without a subscriber it has run out of work
    const auto begin = Clock::now();
    context.run_for(std::chrono::duration_cast<std::chrono::milliseconds>(
        std::chrono::duration<double>(seconds)));
    const double spent = std::chrono::duration<double>(Clock::now() - begin).count();
    counts.done = true;
    Outcome outcome;
    outcome.failures = counts.failures;
    outcome.per_second = static_cast<double>(counts.latencies.size()) / spent;
    std::sort(counts.latencies.begin(), counts.latencies.end());
    outcome.p50 = quantile(counts.latencies, 0.5);
    outcome.p99 = quantile(counts.latencies, 0.99);
    outcome.least_messages = subscribers == 0 ? 0 : UINT64_MAX;
    for (size_t i = 0; i < subscribers; ++i) {
        outcome.least_messages = std::min(outcome.least_messages, counts.messages[i] - before[i]);
    }
    return outcome;
}

int run(double seconds) {
    set_log_levels("warn");
    Daemon daemon;
    const Outcome alone = measure(daemon.port(), 0, seconds);
    const Outcome busy = measure(daemon.port(), kSubscribers, seconds);
    const auto line = [](const char* what, const Outcome& outcome) {
        std::cout << fmt::format("{:<28} {:>8.0f} requests/s   p50 {:>6.2f} ms   p99 {:>6.2f} ms\n",
                                 what, outcome.per_second, outcome.p50 * 1e3, outcome.p99 * 1e3);
    };
    line("status, alone", alone);
    line("status, 200 live subscribers", busy);
    const uint64_t cut = daemon.cut();
    // Each second brings an overview and a pair; one of each may lie at either end of the window.
    const auto expected = static_cast<uint64_t>(2 * (seconds - 2));
    std::cout << fmt::format(
        "each subscriber got at least {} messages in {:.0f} s (expected {}), {} were cut\n",
        busy.least_messages, seconds, expected, cut);
    const bool good = busy.per_second >= kRequestsPerSecondGoal && busy.p99 <= kP99Goal &&
                      busy.failures == 0 && alone.failures == 0 && cut == 0 &&
                      busy.least_messages >= expected;
    std::cout << fmt::format(
        "goals: {:.0f} requests/s, p99 {:.0f} ms, no message late, none cut: {}\n",
        kRequestsPerSecondGoal, kP99Goal * 1e3, good ? "met" : "MISSED");
    return good ? 0 : 1;
}

}  // namespace
}  // namespace antipode::web::test

int main(int argc, char** argv) {
    return antipode::web::test::run(argc > 1 ? std::atof(argv[1]) : 10);
}
