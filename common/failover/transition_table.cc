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
    using G = EventGroup;
    // In the order of Event.
    static constexpr std::array<G, kEventCount> kGroups{
        G::start,                                              // start
        G::link,       G::link,       G::link,    G::link,     // session_up ... peer_trusted
        G::epoch,                                              // epoch_heard
        G::hello,      G::hello,      G::hello,                // hello ... hello_replaced
        G::message,    G::message,    G::message, G::message,  // begin ... seed_loaded_said
        G::message,    G::message,    G::message,              // hand_over ... stopped_said
        G::log,        G::ack,                                 // log_received, ack_received
        G::tiebreaker, G::tiebreaker,                          // tiebreaker_up, tiebreaker_down
        G::answer,     G::answer,     G::answer,  G::answer,   // record_none ... record_granted
        G::answer,     G::answer,     G::answer,            // record_paired_primary ... record_lost
        G::local,      G::local,      G::local,             // persisted ... disk_flushed
        G::local,      G::local,      G::local,             // log_drained ... vm_paused
        G::seed,       G::seed,       G::seed,    G::seed,  // seed_ready ... seed_failed
        G::local,      G::local,      G::local,   G::local,    // memory_lost ... vm_failed
        G::command,    G::command,    G::command, G::command,  // force ... unprotect
        G::command,    G::command,    G::command, G::command,  // protect ... enrol_again
        G::tick,       G::stray,      G::link,                 // tick, stray, turn_to
    };
    static_assert(kGroups.back() == G::link, "a group is missing");
    return kGroups[static_cast<size_t>(event)];
}

}  // namespace antipode::failover
