#include "replicator/control/control_journal.h"

#include <algorithm>

#include "common/base/check.h"

namespace antipode::control {
namespace {

constexpr size_t kEventsInStatus = 20;

}  // namespace

ControlJournal::ControlJournal(const Limits& limits) : limits_(limits) {
    FT_CHECK(limits.samples > 0 && limits.events > 0, "a journal without room");
    FT_CHECK(limits.operations > 0 && limits.console_bytes > 0, "a journal without room");
}

void ControlJournal::add_sample(const Sample& sample) {
    if (samples_.size() == limits_.samples) samples_.pop_front();
    samples_.push_back(sample);
}

uint64_t ControlJournal::add_event(int64_t now_unix_ms, EventCode code, std::string_view text,
                                   std::optional<Severity> severity) {
    if (events_.size() == limits_.events) events_.pop_front();
    events_.push_back({++last_event_, now_unix_ms, code, severity.value_or(default_severity(code)),
                       printable(text, limits_.text_bytes)});
    return last_event_;
}

void ControlJournal::add_console(std::string_view bytes) {
    console_end_ += bytes.size();
    if (bytes.size() >= limits_.console_bytes) {
        console_ = bytes.substr(bytes.size() - limits_.console_bytes);
        return;
    }
    console_ += bytes;
    // Trimmed by halves, so that a chatty guest does not make each byte cost a move of the whole
    // tail.
    if (console_.size() > limits_.console_bytes * 2) {
        console_.erase(0, console_.size() - limits_.console_bytes);
    }
}

Result<uint64_t> ControlJournal::begin_operation(int64_t now_unix_ms, Method method,
                                                 std::string_view actor, std::string_view text) {
    if (operations_.size() == limits_.operations) {
        const auto ended = std::find_if(operations_.begin(), operations_.end(), [](const auto& o) {
            return o.state != OperationState::running;
        });
        if (ended == operations_.end()) {
            return fail(Errc::busy, "{} operations are running, no more are allowed",
                        operations_.size());
        }
        operations_.erase(ended);
    }
    Operation& made = operations_.emplace_back();
    made.id = ++last_operation_;
    made.method = method;
    made.actor = printable(actor, limits_.text_bytes);
    made.text = printable(text, limits_.text_bytes);
    made.started_unix_ms = now_unix_ms;
    return made.id;
}

Operation* ControlJournal::running_operation(uint64_t id) {
    for (Operation& operation : operations_) {
        if (operation.id == id && operation.state == OperationState::running) return &operation;
    }
    return nullptr;
}

const Operation* ControlJournal::find_operation(uint64_t id) const {
    for (const Operation& operation : operations_) {
        if (operation.id == id) return &operation;
    }
    return nullptr;
}

void ControlJournal::progress(uint64_t operation, std::optional<double> ratio,
                              std::string_view text) {
    Operation* found = running_operation(operation);
    if (found == nullptr) return;
    found->progress_ratio = ratio;
    found->text = printable(text, limits_.text_bytes);
}

void ControlJournal::end_operation(int64_t now_unix_ms, uint64_t operation, OperationState state,
                                   std::string_view text) {
    FT_CHECK(state != OperationState::running, "an operation ends in a final state");
    Operation* found = running_operation(operation);
    if (found == nullptr) return;
    found->state = state;
    found->text = printable(text, limits_.text_bytes);
    found->ended_unix_ms = now_unix_ms;
    if (state == OperationState::succeeded) found->progress_ratio = 1.0;
}

EventsReply ControlJournal::events(const EventsRequest& request) const {
    EventsReply reply;
    reply.newest = last_event_;
    reply.oldest = events_.empty() ? last_event_ + 1 : events_.front().sequence;
    const uint64_t limit = std::min<uint64_t>(request.limit, kEventsPerReplyMax);
    for (const Event& event : events_) {
        if (event.sequence <= request.after) continue;
        if (reply.events.size() >= limit) break;
        reply.events.push_back(event);
    }
    return reply;
}

HistoryReply ControlJournal::history(const HistoryRequest& request) const {
    HistoryReply reply;
    for (const Sample& sample : samples_) {
        if (sample.time_unix_ms > request.after_unix_ms) reply.samples.push_back(sample);
    }
    return reply;
}

ConsoleReply ControlJournal::console(const ConsoleRequest& request) const {
    ConsoleReply reply;
    reply.end = console_end_;
    const uint64_t kept = std::min<uint64_t>(console_.size(), limits_.console_bytes);
    const uint64_t oldest = console_end_ - kept;
    reply.begin = std::clamp(request.after, oldest, console_end_);
    const auto count = static_cast<size_t>(console_end_ - reply.begin);
    reply.text = printable(std::string_view(console_).substr(console_.size() - count), count);
    return reply;
}

void ControlJournal::fill(Status& status) const {
    const size_t first = events_.size() - std::min(events_.size(), kEventsInStatus);
    status.events.assign(events_.begin() + static_cast<std::ptrdiff_t>(first), events_.end());
    status.operations.assign(operations_.begin(), operations_.end());
    status.vm.console_tail = printable(console_, kConsoleTailBytesMax);
}

std::optional<Result<json::value>> ControlJournal::answer(Method method,
                                                          const json::object& params) const {
    const json::value value(params);
    const auto reply_with = [](auto& request, auto&& make) -> Result<json::value> {
        if (!request) return fail(std::move(request).error());
        return to_json(make(*request));
    };
    switch (method) {
        case Method::events: {
            auto request = parse_events_request(value);
            return reply_with(request, [&](const auto& r) { return events(r); });
        }
        case Method::history: {
            auto request = parse_history_request(value);
            return reply_with(request, [&](const auto& r) { return history(r); });
        }
        case Method::console: {
            auto request = parse_console_request(value);
            return reply_with(request, [&](const auto& r) { return console(r); });
        }
        case Method::operation: {
            auto request = parse_action_request(value);
            if (!request) return fail(std::move(request).error());
            const Operation* found = find_operation(request->operation);
            if (found == nullptr) {
                return fail(Errc::not_found, "operation {}: is not known, or was dropped",
                            request->operation);
            }
            return to_json(*found);
        }
        case Method::methods:
            return methods_json();
        default:
            return std::nullopt;
    }
}

}  // namespace antipode::control
