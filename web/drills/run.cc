#include "web/drills/run.h"

#include <algorithm>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/json/serialize.hpp>

#include "common/base/log.h"
#include "web/drills/probe.h"

namespace antipode::web {
namespace {

namespace asio = boost::asio;
using control::Method;
using control::OperationState;
using control::Severity;
using control::State;
using SteadyClock = std::chrono::steady_clock;

constexpr auto kToken = asio::as_tuple(asio::use_awaitable);
constexpr auto kPause = std::chrono::milliseconds(200);
constexpr std::chrono::duration<double> kCopyLimit{60};
constexpr std::chrono::duration<double> kDigestLimit{600};
constexpr std::chrono::duration<double> kMoveLimit{90};
constexpr std::chrono::duration<double> kProtectedLimit{300};
constexpr std::chrono::duration<double> kRestartLimit{180};
constexpr std::chrono::duration<double> kEventsLimit{2};  // they are fetched once a second

bool is_over(SteadyClock::time_point began, std::chrono::duration<double> limit) {
    return SteadyClock::now() - began > limit;
}

}  // namespace

DrillRun::DrillRun(Drills& drills, DrillEntry entry, DrillPlan plan)
    : drills_(drills), entry_(std::move(entry)), plan_(std::move(plan)), timer_(drills.executor_) {
    report_.id = entry_.id;
    report_.plan = plan_;
    report_.actor = entry_.actor;
    report_.started_unix_ms = entry_.created_unix_ms;
}

void DrillRun::ask_to_stop() {
    stopping_ = true;
    given_up_->store(true);
    timer_.cancel();
}

asio::awaitable<void> DrillRun::run() {
    Result<> done = co_await begin();
    if (done) {
        switch (plan_.kind) {
            case DrillKind::isolated:
                done = co_await isolated();
                break;
            case DrillKind::switchover:
                done = co_await switchover();
                break;
            case DrillKind::fault:
                done = co_await fault();
                break;
        }
    }
    // What was begun at a replicator is ended, whatever happened.
    stoppable_ = false;
    if (copy_runs_) {
        const Result<> ended = co_await end_copy();
        if (!ended) report_.find(Severity::warning, ended.error().to_string());
    }
    if (fault_runs_) {
        control::ActionRequest request;
        request.operation = fault_operation_;
        auto cancelled = co_await act(socket_, Method::cancel, std::move(request));
        note("fault_ended", cancelled ? "cancelled" : cancelled.error().to_string());
    }
    // The replicators' last events are on their way.
    const auto began = SteadyClock::now();
    while (!drills_.stopped_ && !is_over(began, kEventsLimit)) co_await pause();
    conclude(done);
    drills_.finish(*this);
}

// ---- Helpers

DrillRun::Step DrillRun::pause() {
    timer_.expires_after(kPause);
    co_await timer_.async_wait(kToken);
    if (drills_.stopped_) co_return fail(Errc::closed, "the page was stopped");
    if (stopping_ && stoppable_) co_return fail(Errc::closed, "stopped by an operator");
    co_return Result<>{};
}

void DrillRun::note(std::string code, std::string text) {
    report_.timeline.push_back({unix_ms_now(), "drill", std::move(code), text});
    drills_.keep(entry_, text);
}

const View* DrillRun::view_with(State state) const {
    for (const View* view : drills_.fleet_.views(plan_.pair)) {
        if (view->reachable && view->status && view->status->state == state) return view;
    }
    return nullptr;
}

const View* DrillRun::view_of(const std::string& socket) const {
    for (const View* view : drills_.fleet_.views(plan_.pair)) {
        if (view->socket == socket) return view;
    }
    return nullptr;
}

asio::awaitable<Result<control::ActionReply>> DrillRun::act(std::string socket, Method method,
                                                            control::ActionRequest request) {
    request.actor = "drill of " + entry_.actor;
    request.confirm = plan_.pair;
    auto asked = control::to_json(request);
    auto answer = co_await drills_.fleet_.ask(std::move(socket), method, std::move(asked));
    if (!answer) co_return fail(answer.error());
    co_return control::parse_action_reply(*answer);
}

asio::awaitable<Result<control::DrillStatus>> DrillRun::copy_status() {
    json::object none;
    auto answer = co_await drills_.fleet_.ask(socket_, Method::drill, std::move(none));
    if (!answer) co_return fail(answer.error());
    co_return control::parse_drill_status(*answer);
}

asio::awaitable<Result<control::Operation>> DrillRun::operation_status(uint64_t operation) {
    json::object asked;
    asked["operation"] = operation;
    auto answer = co_await drills_.fleet_.ask(socket_, Method::operation, std::move(asked));
    if (!answer) co_return fail(answer.error());
    co_return control::parse_operation(*answer);
}

void DrillRun::see(const View& view) {
    if (!view.reachable || !view.status) return;
    ++report_.samples;
    if (view.status->protection == control::Protection::protected_) ++report_.samples_protected;
}

// ---- Steps

DrillRun::Step DrillRun::begin() {
    const auto views = drills_.fleet_.views(plan_.pair);
    for (const View* view : views) {
        if (!view->status) continue;
        digests_before_[view->id] = {view->status->digest.checked, view->status->digest.mismatches};
        report_.epoch_before = std::max(report_.epoch_before, view->status->epoch);
        report_.site = view->status->site;
        report_.peer_site = view->status->peer_site;
    }
    note("begins", fmt::format("{} drill of {}", word(plan_.kind), plan_.pair));
    co_return Result<>{};
}

DrillRun::Step DrillRun::isolated() {
    const View* view = view_with(State::backup);
    if (view == nullptr) co_return fail(Errc::busy, "the backup of this VM is not on this host");
    socket_ = view->socket;
    report_.site = view->status->site;
    report_.peer_site = view->status->peer_site;
    control::ActionRequest request;
    request.duration_seconds = plan_.length_seconds();
    control::DrillOptions options;
    options.network = plan_.network;
    request.options = json::serialize(control::to_json(options));
    auto started = co_await act(socket_, Method::drill_start, std::move(request));
    if (!started) co_return fail(started.error());
    copy_runs_ = true;
    note("asked", started->consequence);
    if (auto went = co_await wait_for_copy(); !went) co_return went;
    DrillProbe probe;
    probe.plan = plan_;
    probe.id = entry_.id;
    probe.site = report_.site;
    probe.socket = socket_;
    probe.given_up = given_up_;
    note("check", plan_.check_text());
    CheckOutcome outcome = co_await run_probe(drills_.executor_, drills_.fleet_, drills_.worker_,
                                              drills_.settings_, std::move(probe));
    report_.check = std::move(outcome);
    note(report_.check->passed ? "check_passed" : "check_failed", report_.check->text);
    if (!report_.check->passed) {
        co_return fail(Errc::io, "the check has not passed: {}", report_.check->text);
    }
    const int64_t spent_ms = unix_ms_now() - report_.started_unix_ms;
    report_.service_seconds = static_cast<double>(spent_ms) / 1000;
    if (auto went = co_await wait_for_digests(); !went) co_return went;
    co_return Result<>{};
}

DrillRun::Step DrillRun::wait_for_copy() {
    const auto began = SteadyClock::now();
    for (;;) {
        auto copy = co_await copy_status();
        if (!copy) co_return fail(copy.error());
        if (copy->state == control::DrillState::running) {
            report_.rpo_seconds = copy->lag_seconds;
            report_.rpo_basis =
                "what the primary had executed and the copy had not; all that was visible outside "
                "is in the copy";
            report_.rto_seconds = copy->live_seconds;
            report_.rto_basis = "from the request until the copy ran";
            note("copy_runs", fmt::format("the log up to entry {}", copy->log_index));
            co_return Result<>{};
        }
        if (copy->state != control::DrillState::starting) {
            co_return fail(Errc::io, "the copy has ended: {}", copy->text);
        }
        if (is_over(began, kCopyLimit))
            co_return fail(Errc::unreachable, "the copy does not start");
        if (auto went = co_await pause(); !went) co_return went;
    }
}

DrillRun::Step DrillRun::wait_for_digests() {
    const auto began = SteadyClock::now();
    for (;;) {
        auto copy = co_await copy_status();
        if (!copy) co_return fail(copy.error());
        const bool known = std::all_of(copy->disks.begin(), copy->disks.end(),
                                       [](const auto& disk) { return !disk.sha256.empty(); });
        if (known) co_return Result<>{};
        const bool over = copy->state != control::DrillState::running;
        if (over || is_over(began, kDigestLimit)) {
            report_.find(Severity::warning,
                         "the disks' digests were not ready when the copy ended");
            co_return Result<>{};
        }
        if (auto went = co_await pause(); !went) co_return went;
    }
}

// The copy is ended and its files are removed; what is known of it goes into the report.
DrillRun::Step DrillRun::end_copy() {
    copy_runs_ = false;
    auto copy = co_await copy_status();
    if (copy) {
        const bool early =
            copy->state == control::DrillState::ended || copy->state == control::DrillState::failed;
        if (early) report_.find(Severity::error, "the copy ended by itself: " + copy->text);
        report_.copy = std::move(*copy);
        if (!early) {
            control::ActionRequest request;
            auto stopped = co_await act(socket_, Method::drill_stop, std::move(request));
            if (!stopped) co_return fail(stopped.error());
        }
    }
    control::ActionRequest request;
    auto cleaned = co_await act(socket_, Method::drill_clean, std::move(request));
    if (!cleaned) co_return fail(cleaned.error());
    note("cleaned", cleaned->consequence);
    co_return Result<>{};
}

DrillRun::Step DrillRun::switchover() {
    const View* view = view_with(State::primary);
    if (view == nullptr) view = view_with(State::backup);
    if (view == nullptr) co_return fail(Errc::busy, "the pair is not protected");
    const bool primary_here = view->status->state == State::primary;
    const std::string home = primary_here ? view->status->site : view->status->peer_site;
    const std::string away = primary_here ? view->status->peer_site : view->status->site;
    std::optional<double> there;
    std::optional<double> back;
    if (auto went = co_await move(away, there); !went) co_return went;
    stoppable_ = false;  // the VM is not left away from home
    if (auto went = co_await move(home, back); !went) co_return went;
    report_.rpo_seconds = 0;
    report_.rpo_basis = "the log was drained before each change of roles";
    if (there || back) {
        report_.rto_seconds = std::max(there.value_or(0), back.value_or(0));
        report_.rto_basis =
            fmt::format("the longer pause of the guest, as {} that handed over measured it",
                        there && back ? "each site" : "the site on this host");
    } else {
        report_.rto_basis = "the site that hands over measures it; it is not on this host";
    }
    co_return Result<>{};
}

// The VM goes to a site, and the pair is protected again.
DrillRun::Step DrillRun::move(const std::string& to, std::optional<double>& pause_time) {
    const int64_t since = unix_ms_now();
    const View* view = view_with(State::primary);
    if (view == nullptr) view = view_with(State::backup);
    if (view == nullptr) co_return fail(Errc::busy, "the pair is not protected");
    socket_ = view->socket;
    control::ActionRequest request;
    auto started = co_await act(socket_, Method::switchover, std::move(request));
    if (!started) co_return fail(started.error());
    note("switchover", fmt::format("to {}", to));
    const auto began = SteadyClock::now();
    const auto arrived = [&] {
        const View* primary = view_with(State::primary);
        const View* backup = view_with(State::backup);
        const auto sound = [](const View& each) {
            return each.status->protection == control::Protection::protected_;
        };
        return (primary != nullptr && primary->status->site == to && sound(*primary)) ||
               (backup != nullptr && backup->status->peer_site == to && sound(*backup));
    };
    bool ended = !started->operation;
    while (!ended || !arrived()) {
        if (!ended) {
            auto operation = co_await operation_status(*started->operation);
            if (!operation) co_return fail(operation.error());
            ended = operation->state != OperationState::running;
            if (ended && operation->state != OperationState::succeeded) {
                co_return fail(Errc::io, "the switchover to {}: {}", to, operation->text);
            }
        }
        if (is_over(began, kMoveLimit + kProtectedLimit)) {
            co_return fail(Errc::unreachable, "the VM is not protected at {}", to);
        }
        if (auto went = co_await pause(); !went) co_return went;
    }
    for (int i = 0; i < 10 && !pause_time; ++i) {  // the event follows within a second or two
        pause_time = pause_seconds(since);
        if (!pause_time)
            if (auto went = co_await pause(); !went) co_return went;
    }
    note("protected", fmt::format("the VM runs at {}", to));
    co_return Result<>{};
}

DrillRun::Step DrillRun::fault() {
    const bool kills = plan_.fault == "kill_primary";
    const View* view = nullptr;
    for (const View* each : drills_.fleet_.views(plan_.pair)) {
        if (!each->reachable || !each->status) continue;
        const bool fits = !plan_.site.empty() ? each->status->site == plan_.site
                                              : each->status->state == State::primary;
        if (fits) view = each;
    }
    if (view == nullptr && plan_.site.empty() && !kills) view = view_with(State::backup);
    if (view == nullptr) co_return fail(Errc::busy, "the site to rehearse at is not on this host");
    socket_ = view->socket;
    report_.site = view->status->site;
    report_.peer_site = view->status->peer_site;
    incarnation_ = view->status->incarnation;
    control::ActionRequest request;
    request.fault = plan_.fault;
    request.duration_seconds = plan_.length_seconds();
    fault_unix_ms_ = unix_ms_now();
    auto started = co_await act(socket_, Method::inject_fault, std::move(request));
    if (!started) co_return fail(started.error());
    fault_operation_ = started->operation.value_or(0);
    fault_runs_ = !kills;
    note("fault", started->consequence);
    if (auto went = co_await wait_for_fault(kills); !went) co_return went;
    co_return co_await wait_until_protected();
}

DrillRun::Step DrillRun::wait_for_fault(bool kills) {
    const auto began = SteadyClock::now();
    const auto limit = kills ? kRestartLimit : Seconds(plan_.length_seconds()) + kRestartLimit;
    for (;;) {
        const View* view = view_of(socket_);
        const bool replaced = view != nullptr && view->reachable && view->status &&
                              view->status->incarnation != incarnation_;
        if (replaced) {
            fault_runs_ = false;  // it was in the memory of the process that is gone
            note("restarted", fmt::format("the replicator of {} runs again", report_.site));
            co_return Result<>{};
        }
        if (!kills) {
            auto operation = co_await operation_status(fault_operation_);
            if (operation && operation->state != OperationState::running) {
                fault_runs_ = false;
                note("fault_ended", operation->text);
                co_return Result<>{};
            }
        }
        if (is_over(began, limit)) {
            co_return fail(Errc::unreachable,
                           "the replicator of {} has not come back: does its unit restart it?",
                           report_.site);
        }
        if (auto went = co_await pause(); !went) co_return went;
    }
}

DrillRun::Step DrillRun::wait_until_protected() {
    const auto began = SteadyClock::now();
    for (;;) {
        const auto views = drills_.fleet_.views(plan_.pair);
        const bool sound = std::all_of(views.begin(), views.end(), [](const View* view) {
            return view->reachable && view->status &&
                   view->status->protection == control::Protection::protected_;
        });
        if (sound && !views.empty()) break;
        if (is_over(began, kProtectedLimit)) {
            co_return fail(Errc::unreachable, "the pair is not protected again");
        }
        if (auto went = co_await pause(); !went) co_return went;
    }
    note("protected", "the pair is protected again");
    co_return Result<>{};
}

}  // namespace antipode::web
