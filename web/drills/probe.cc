#include "web/drills/probe.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <charconv>

#include "web/child.h"

namespace antipode::web {
namespace {

namespace asio = boost::asio;
using SteadyClock = std::chrono::steady_clock;
using asio::ip::tcp;

constexpr auto kToken = asio::as_tuple(asio::use_awaitable);
constexpr auto kPause = std::chrono::milliseconds(250);
constexpr auto kConnectLimit = std::chrono::seconds(2);
constexpr size_t kOutputBytesMax = 8192;
constexpr uint64_t kExitsWanted = 100;

asio::awaitable<void> pause(asio::any_io_executor executor) {
    asio::steady_timer timer(std::move(executor));
    timer.expires_after(kPause);
    co_await timer.async_wait(kToken);
}

CheckOutcome passed(std::string text) {
    CheckOutcome outcome;
    outcome.passed = true;
    outcome.text = std::move(text);
    return outcome;
}

class Prober {
  public:
    Prober(asio::any_io_executor executor, Fleet& fleet, Worker& worker, const Settings& settings,
           DrillProbe probe)
        : executor_(std::move(executor)),
          fleet_(fleet),
          worker_(worker),
          settings_(settings),
          probe_(std::move(probe)) {}

    asio::awaitable<CheckOutcome> run() {
        const auto began = SteadyClock::now();
        const auto limit = std::chrono::duration_cast<SteadyClock::duration>(
            std::chrono::duration<double>(probe_.plan.check_seconds));
        CheckOutcome outcome;
        for (;;) {
            std::optional<CheckOutcome> tried = co_await attempt();
            if (tried) outcome = std::move(*tried);
            const auto spent = SteadyClock::now() - began;
            outcome.seconds = std::chrono::duration<double>(spent).count();
            if (outcome.passed) break;
            if (probe_.given_up->load()) {
                outcome.text = "the drill was stopped";
                break;
            }
            if (spent >= limit) {
                if (outcome.text.empty()) outcome.text = "not within its time";
                break;
            }
            co_await pause(executor_);
        }
        if (outcome.output.empty()) outcome.output = last_output_;
        co_return outcome;
    }

  private:
    asio::awaitable<std::optional<CheckOutcome>> attempt() {
        switch (probe_.plan.check) {
            case DrillCheck::runs:
                co_return co_await see_it_run();
            case DrillCheck::command:
                co_return co_await run_command();
            case DrillCheck::console:
                co_return co_await look_at_console();
            case DrillCheck::tcp:
                co_return co_await connect();
        }
        co_return std::nullopt;
    }

    asio::awaitable<std::optional<CheckOutcome>> see_it_run() {
        control::json::object none;
        auto answer = co_await fleet_.ask(probe_.socket, control::Method::drill, std::move(none));
        if (!answer) co_return std::nullopt;
        auto drill = control::parse_drill_status(*answer);
        if (!drill || drill->state != control::DrillState::running) co_return std::nullopt;
        if (!first_exits_) first_exits_ = drill->exits;
        if (drill->vcpu != control::VcpuState::running ||
            drill->exits < *first_exits_ + kExitsWanted) {
            co_return std::nullopt;
        }
        co_return passed(fmt::format("{} exits since it ran", drill->exits - *first_exits_));
    }

    asio::awaitable<std::optional<CheckOutcome>> run_command() {
        const auto found = settings_.drill_checks.find(probe_.plan.command);
        if (found == settings_.drill_checks.end()) co_return std::nullopt;
        ChildCommand command;
        command.argv = found->second;
        command.environment = {"ANTIPODE_PAIR=" + probe_.plan.pair, "ANTIPODE_SITE=" + probe_.site,
                               "ANTIPODE_DRILL=" + probe_.id};
        command.time_limit =
            std::chrono::milliseconds(static_cast<int64_t>(probe_.plan.check_seconds * 1000));
        command.output_bytes_max = kOutputBytesMax;
        command.given_up = probe_.given_up;
        auto work = [command = std::move(command)] { return run_child(command); };
        auto ended = co_await worker_.run<ChildOutcome>(executor_, std::move(work));
        CheckOutcome outcome;
        if (!ended) {
            outcome.text = ended.error().to_string();
            co_return outcome;
        }
        outcome.passed = ended->exit_code == 0;
        outcome.text = ended->verdict();
        outcome.output = ended->output;
        co_return outcome;
    }

    asio::awaitable<std::optional<CheckOutcome>> look_at_console() {
        if (!typed_ && !probe_.plan.send.empty()) {
            typed_ = true;
            control::ActionRequest request;
            request.text = probe_.plan.send;
            request.actor = "drill " + probe_.id;
            auto asked = control::to_json(request);
            (void)co_await fleet_.ask(probe_.socket, control::Method::drill_input,
                                      std::move(asked));
        }
        control::ConsoleRequest request;
        request.after = console_after_;
        auto asked = control::to_json(request);
        auto answer =
            co_await fleet_.ask(probe_.socket, control::Method::drill_console, std::move(asked));
        if (!answer) co_return std::nullopt;
        auto reply = control::parse_console_reply(*answer);
        if (!reply) co_return std::nullopt;
        console_after_ = reply->end;
        last_output_ += reply->text;
        if (last_output_.size() > kOutputBytesMax) {
            last_output_.erase(0, last_output_.size() - kOutputBytesMax);
        }
        if (last_output_.find(probe_.plan.expect) == std::string::npos) co_return std::nullopt;
        co_return passed("it is there");
    }

    asio::awaitable<std::optional<CheckOutcome>> connect() {
        using asio::experimental::awaitable_operators::operator||;
        auto endpoint = parse_drill_address(probe_.plan.address);
        if (!endpoint) co_return std::nullopt;
        tcp::socket socket(executor_);
        asio::steady_timer timer(executor_);
        timer.expires_after(kConnectLimit);
        auto first = co_await (socket.async_connect(*endpoint, kToken) || timer.async_wait(kToken));
        CheckOutcome outcome;
        if (first.index() == 1) {
            outcome.text = "does not answer";
            co_return outcome;
        }
        const auto error = std::get<0>(std::get<0>(first));
        outcome.passed = !error;
        outcome.text = error ? error.message() : "connected";
        co_return outcome;
    }

    const asio::any_io_executor executor_;
    Fleet& fleet_;
    Worker& worker_;
    const Settings& settings_;
    const DrillProbe probe_;
    std::optional<uint64_t> first_exits_;
    bool typed_ = false;
    uint64_t console_after_ = 0;
    std::string last_output_;
};

}  // namespace

Result<tcp::endpoint> parse_drill_address(const std::string& text) {
    const size_t colon = text.rfind(':');
    std::string host = text.substr(0, std::min(colon, text.size()));
    if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
        host = host.substr(1, host.size() - 2);
    }
    uint16_t port = 0;
    bool good = colon != std::string::npos;
    if (good) {
        const std::string_view digits = std::string_view(text).substr(colon + 1);
        const auto [end, error] =
            std::from_chars(digits.data(), digits.data() + digits.size(), port);
        good = error == std::errc() && end == digits.data() + digits.size() && port != 0;
    }
    boost::system::error_code error;
    const auto address = asio::ip::make_address(host, error);
    if (!good || error) {
        return fail(Errc::invalid_argument, "address: '{}' is not ADDRESS:PORT", text);
    }
    return tcp::endpoint(address, port);
}

Result<> check_command(const DrillPlan& plan, const Settings& settings) {
    if (plan.kind != DrillKind::isolated || plan.check != DrillCheck::command) return {};
    if (settings.drill_checks.contains(plan.command)) return {};
    return fail(Errc::not_found, "command: [drills.checks] of web.toml names no '{}'",
                plan.command);
}

asio::awaitable<CheckOutcome> run_probe(asio::any_io_executor executor, Fleet& fleet,
                                        Worker& worker, const Settings& settings,
                                        DrillProbe probe) {
    Prober prober(std::move(executor), fleet, worker, settings, std::move(probe));
    co_return co_await prober.run();
}

}  // namespace antipode::web
