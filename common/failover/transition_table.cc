#include "common/failover/transition_table.h"

namespace antipode::failover {

std::string_view to_string(Event event) {
    constexpr std::array<std::string_view, kEventCount> kNames{
        "start",
        "session_up",
        "session_down",
        "peer_suspected",
        "peer_trusted",
        "epoch_heard",
        "hello",
        "hello_fences",
        "hello_replaced",
        "begin",
        "join",
        "seed_begin",
        "seed_loaded_said",
        "hand_over",
        "take_over_said",
        "stopped_said",
        "log_received",
        "ack_received",
        "tiebreaker_up",
        "tiebreaker_down",
        "record_none",
        "record_refused",
        "record_same",
        "record_granted",
        "record_paired_primary",
        "record_paired_backup",
        "record_lost",
        "persisted",
        "disk_fenced",
        "disk_flushed",
        "log_drained",
        "vm_halted",
        "vm_paused",
        "seed_ready",
        "seed_cut",
        "seed_loaded",
        "seed_failed",
        "memory_lost",
        "log_produced",
        "guest_stopped",
        "vm_failed",
        "force",
        "take_over",
        "switch_over",
        "unprotect",
        "protect",
        "rejoin",
        "reclaim",
        "enrol_again",
        "tick",
        "stray",
        "turn_to",
    };
    static_assert(kNames.back() == "turn_to");
    return kNames[static_cast<size_t>(event)];
}

Event event_of(CommandKind kind) {
    switch (kind) {
        case CommandKind::force:
            return Event::force;
        case CommandKind::take_over:
            return Event::take_over;
        case CommandKind::switch_over:
            return Event::switch_over;
        case CommandKind::unprotect:
            return Event::unprotect;
        case CommandKind::protect:
            return Event::protect;
        case CommandKind::rejoin:
            return Event::rejoin;
        case CommandKind::reclaim:
            return Event::reclaim;
        case CommandKind::enrol_again:
            return Event::enrol_again;
    }
    return Event::stray;
}

EventGroup event_group(Event event) {
    switch (event) {
        case Event::start:
            return EventGroup::start;
        case Event::session_up:
        case Event::session_down:
        case Event::peer_suspected:
        case Event::peer_trusted:
        case Event::turn_to:
            return EventGroup::link;
        case Event::epoch_heard:
            return EventGroup::epoch;
        case Event::hello:
        case Event::hello_fences:
        case Event::hello_replaced:
            return EventGroup::hello;
        case Event::begin:
        case Event::join:
        case Event::seed_begin:
        case Event::seed_loaded_said:
        case Event::hand_over:
        case Event::take_over_said:
        case Event::stopped_said:
            return EventGroup::message;
        case Event::log_received:
            return EventGroup::log;
        case Event::ack_received:
            return EventGroup::ack;
        case Event::tiebreaker_up:
        case Event::tiebreaker_down:
            return EventGroup::tiebreaker;
        case Event::record_none:
        case Event::record_refused:
        case Event::record_same:
        case Event::record_granted:
        case Event::record_paired_primary:
        case Event::record_paired_backup:
        case Event::record_lost:
            return EventGroup::answer;
        case Event::persisted:
        case Event::disk_fenced:
        case Event::disk_flushed:
        case Event::log_drained:
        case Event::vm_halted:
        case Event::vm_paused:
        case Event::memory_lost:
        case Event::log_produced:
        case Event::guest_stopped:
        case Event::vm_failed:
            return EventGroup::local;
        case Event::seed_ready:
        case Event::seed_cut:
        case Event::seed_loaded:
        case Event::seed_failed:
            return EventGroup::seed;
        case Event::force:
        case Event::take_over:
        case Event::switch_over:
        case Event::unprotect:
        case Event::protect:
        case Event::rejoin:
        case Event::reclaim:
        case Event::enrol_again:
            return EventGroup::command;
        case Event::tick:
            return EventGroup::tick;
        case Event::stray:
            return EventGroup::stray;
    }
    return EventGroup::stray;
}

}  // namespace antipode::failover
