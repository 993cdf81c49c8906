// What a replicator remembers for its operators: one sample a second for the charts, the last
// events, operations, and the tail of the guest's console. node.cc feeds it; answer() serves the
// reading methods of the control API out of it, so that the node itself answers only `status`,
// `metrics` and the actions.
//
// Threads: the core thread only.
// INVARIANTS
//   - Every ring is bounded; what falls out is dropped oldest first, and the replies show the gap.
//   - Event sequences and console offsets never go back.
//   - A running operation is never dropped before a finished one.
// Time is an argument (milliseconds since 1970): nothing here reads a clock.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>

#include "replicator/control/control_api.h"

namespace antipode::control {

class ControlJournal {
  public:
    struct Limits {
        size_t samples = 15 * 60;
        size_t events = 1024;
        size_t operations = 32;
        size_t console_bytes = size_t{64} << 10;
        size_t text_bytes = 1024;  // of an event or an operation
    };

    ControlJournal() : ControlJournal(Limits{}) {}
    explicit ControlJournal(const Limits& limits);

    void add_sample(const Sample& sample);
    uint64_t add_event(int64_t now_unix_ms, EventCode code, std::string_view text,
                       std::optional<Severity> severity = std::nullopt);
    void add_console(std::string_view bytes);

    // Errc::busy when every slot holds a running operation.
    Result<uint64_t> begin_operation(int64_t now_unix_ms, Method method, std::string_view actor,
                                     std::string_view text);
    // Both ignore an operation that has ended: a late report must not reopen it.
    void progress(uint64_t operation, std::optional<double> ratio, std::string_view text);
    void end_operation(int64_t now_unix_ms, uint64_t operation, OperationState state,
                       std::string_view text);
    const Operation* find_operation(uint64_t id) const;

    EventsReply events(const EventsRequest& request) const;
    HistoryReply history(const HistoryRequest& request) const;
    ConsoleReply console(const ConsoleRequest& request) const;

    // Fills the parts of a status that are kept here: events (the newest few), operations, console
    // tail.
    void fill(Status& status) const;
    // Answers events, history, console, operation and methods; nullopt for every other method.
    std::optional<Result<json::value>> answer(Method method, const json::object& params) const;

  private:
    Operation* running_operation(uint64_t id);

    const Limits limits_;
    std::deque<Sample> samples_;
    std::deque<Event> events_;
    std::deque<Operation> operations_;
    std::string console_;
    uint64_t console_end_ = 0;
    uint64_t last_event_ = 0;
    uint64_t last_operation_ = 0;
};

}  // namespace antipode::control
