// The failover state machine as data: what each state does with each event, and where it may lead.
//
// Every (state, event) cell is covered by exactly one row (checked when compiled): handled, with
// the states that it may lead to in one step (what follows by itself included; staying is always
// allowed); ignored, with the reason; or forbidden: the shell's error. step() looks a cell up first
// and checks afterwards that it went where the table says. tests/unit/failover walks the table,
// tests/model checks it against the Promela model; docs/PROTOCOL-failover.md tells what it is for.
//
// Threads: constants.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string_view>

#include "common/failover/input.h"

namespace antipode::failover {

using State = wire::SiteState;
constexpr size_t kStateCount = wire::kSiteStateCount;

// An input by what it means to the state machine. A hello and an answer of the tiebreaker mean
// different things depending on whose epoch is higher.
enum class Event : uint8_t {
    start = 0,
    session_up,
    session_down,
    peer_suspected,
    peer_trusted,
    epoch_heard,
    hello,           // the peer stands where we think, or its news concern nobody
    hello_fences,    // it acts in an epoch above ours
    hello_replaced,  // it is another incarnation than our partner
    begin,
    join,
    seed_begin,
    seed_loaded_said,
    hand_over,
    take_over_said,
    stopped_said,
    log_received,
    ack_received,
    tiebreaker_up,
    tiebreaker_down,
    record_none,            // the tiebreaker does not know the pair
    record_refused,         // no decision, or an old one
    record_same,            // the record stands in our epoch
    record_granted,         // above it, and we alone are in it
    record_paired_primary,  // above it, and we are in it as the primary
    record_paired_backup,   // above it, and we are in it as the backup
    record_lost,            // above it, without us
    persisted,
    disk_fenced,
    disk_flushed,
    log_drained,
    vm_halted,
    vm_paused,
    seed_ready,
    seed_cut,
    seed_loaded,
    seed_failed,
    memory_lost,
    log_produced,
    guest_stopped,
    vm_failed,
    force,
    take_over,
    switch_over,
    unprotect,
    protect,
    rejoin,
    reclaim,
    enrol_again,
    tick,
    stray,    // of another pair, another incarnation of ours, another store
    turn_to,  // another site of the pair is the peer from here on
};
constexpr size_t kEventCount = 52;
std::string_view to_string(Event event);
Event event_of(CommandKind kind);

// Which part of the core takes the event.
enum class EventGroup : uint8_t {
    start = 1,
    link,
    hello,
    message,
    epoch,
    log,
    ack,
    tiebreaker,
    answer,
    local,
    seed,
    command,
    tick,
    stray,
};
EventGroup event_group(Event event);

class StateSet {
  public:
    constexpr StateSet() = default;
    constexpr StateSet(std::initializer_list<State> states) {
        for (const State state : states) bits_ |= bit(state);
    }
    static constexpr StateSet all() {
        StateSet set;
        set.bits_ = ((uint32_t{1} << kStateCount) - 1) << 1;
        return set;
    }
    constexpr bool contains(State state) const { return (bits_ & bit(state)) != 0; }
    constexpr bool empty() const { return bits_ == 0; }
    constexpr StateSet without(StateSet other) const {
        StateSet set;
        set.bits_ = bits_ & ~other.bits_;
        return set;
    }
    constexpr StateSet with(StateSet other) const {
        StateSet set;
        set.bits_ = bits_ | other.bits_;
        return set;
    }

  private:
    static constexpr uint32_t bit(State state) {
        return uint32_t{1} << static_cast<uint8_t>(state);
    }
    uint32_t bits_ = 0;
};

enum class Treatment : uint8_t { unset = 0, handled, ignored, forbidden };

struct Transition {
    Treatment treatment = Treatment::unset;
    StateSet next;          // of handled: beside the state itself
    std::string_view note;  // of ignored and forbidden: why; refused commands are told it
};

struct Row {
    Event event;
    StateSet in;
    Treatment treatment;
    StateSet next;
    std::string_view note;
};

namespace table {

using S = State;
using E = Event;
constexpr auto kHandled = Treatment::handled;
constexpr auto kIgnored = Treatment::ignored;
constexpr auto kForbidden = Treatment::forbidden;
constexpr StateSet kAll = StateSet::all();
constexpr StateSet kIdle{S::starting, S::halted};
constexpr StateSet kStopped{S::stopped};
// Output leaves here, or will.
constexpr StateSet kRuns{S::paired_primary, S::asking_primary, S::solo,   S::unprotected,
                         S::forced,         S::seeding,        S::pairing};
constexpr StateSet kLive{S::solo, S::unprotected, S::forced, S::paired_primary, S::asking_primary};
// No request, acknowledgement or copy is under way that only the present peer can end.
constexpr StateSet kTurns{S::starting, S::halted, S::solo, S::unprotected, S::forced};
// Where a halting site ends up, going on by itself.
constexpr StateSet kHaltEnds{S::halted, S::rejoining, S::stopped};

constexpr Row kRows[] = {
    {E::start, {S::starting}, kHandled, {}, {}},
    {E::start, kAll.without({S::starting}), kForbidden, {}, "started twice"},

    // ---- The link to the peer ----
    {E::session_up, kAll.without(kStopped), kHandled, {}, {}},
    {E::session_up, kStopped, kIgnored, {}, "this process has ended its part"},
    {E::session_down, {S::seeding}, kHandled, {S::solo}, {}},
    {E::session_down, kAll.without({S::seeding}), kHandled, {}, {}},
    {E::peer_suspected,
     {S::paired_primary, S::switching_primary},
     kHandled,
     {S::asking_primary},
     {}},
    {E::peer_suspected, {S::paired_backup, S::switching_backup}, kHandled, {S::asking_backup}, {}},
    {E::peer_suspected, {S::seeding}, kHandled, {S::solo}, {}},
    {E::peer_suspected, {S::pairing}, kHandled, {S::solo, S::asking_primary}, {}},
    {E::peer_suspected, {S::rejoining}, kHandled, {S::halting}, {}},
    {E::peer_suspected,
     {S::starting, S::asking_primary, S::asking_backup, S::going_live, S::solo, S::unprotected,
      S::forced, S::halting, S::halted, S::stopped},
     kHandled,
     {},
     {}},
    {E::peer_trusted, {S::asking_primary}, kHandled, {S::paired_primary}, {}},
    {E::peer_trusted, {S::asking_backup}, kHandled, {S::paired_backup}, {}},
    {E::peer_trusted, kIdle, kHandled, {S::rejoining}, {}},
    {E::peer_trusted,
     kAll.without(kIdle).without({S::asking_primary, S::asking_backup}),
     kHandled,
     {},
     {}},
    {E::epoch_heard, kAll.without(kStopped), kHandled, {}, {}},
    {E::epoch_heard, kStopped, kIgnored, {}, "this process has ended its part"},

    // Where no promise binds this site to its peer.
    {E::turn_to, kTurns, kHandled, {}, {}},
    {E::turn_to, kAll.without(kTurns), kIgnored, {}, "bound to its peer"},

    // ---- How the peer stands ----
    {E::hello, kIdle, kHandled, {S::rejoining}, {}},
    {E::hello, {S::paired_primary, S::switching_primary}, kHandled, {S::asking_primary}, {}},
    {E::hello, {S::paired_backup}, kHandled, {S::asking_backup}, {}},
    {E::hello, {S::asking_primary}, kHandled, {S::paired_primary}, {}},
    {E::hello, {S::asking_backup}, kHandled, {S::paired_backup}, {}},
    {E::hello, {S::rejoining}, kHandled, {S::halting}, {}},
    {E::hello, {S::seeding}, kHandled, {S::solo}, {}},
    {E::hello, {S::pairing}, kHandled, {S::solo, S::asking_primary}, {}},
    {E::hello,
     {S::going_live, S::solo, S::unprotected, S::forced, S::switching_backup, S::halting},
     kHandled,
     {},
     {}},
    {E::hello, kStopped, kIgnored, {}, "this process has ended its part"},
    {E::hello_fences, kIdle, kHandled, {S::rejoining}, {}},
    {E::hello_fences, {S::rejoining}, kHandled, {S::halting}, {}},
    {E::hello_fences,
     kRuns.with({S::paired_backup, S::asking_backup, S::going_live, S::switching_primary,
                 S::switching_backup}),
     kHandled,
     {S::halting},
     {}},
    {E::hello_fences, {S::halting}, kHandled, kHaltEnds, {}},
    {E::hello_fences, kStopped, kIgnored, {}, "this process has ended its part"},
    {E::hello_replaced,
     {S::paired_primary, S::switching_primary},
     kHandled,
     {S::asking_primary},
     {}},
    {E::hello_replaced, {S::paired_backup, S::switching_backup}, kHandled, {S::asking_backup}, {}},
    {E::hello_replaced, {S::seeding}, kHandled, {S::solo}, {}},
    {E::hello_replaced, {S::pairing}, kHandled, {S::solo, S::asking_primary}, {}},
    {E::hello_replaced, {S::rejoining}, kHandled, {S::halting}, {}},
    {E::hello_replaced, {S::asking_primary, S::asking_backup, S::going_live}, kHandled, {}, {}},
    {E::hello_replaced, kIdle, kHandled, {S::rejoining}, {}},
    {E::hello_replaced, {S::solo, S::unprotected, S::forced, S::halting}, kHandled, {}, {}},
    {E::hello_replaced, kStopped, kIgnored, {}, "this process has ended its part"},

    // ---- What the peer says ----
    {E::begin, {S::starting, S::rejoining}, kHandled, {S::paired_backup, S::asking_backup}, {}},
    {E::begin,
     {S::switching_primary, S::asking_primary},
     kHandled,
     {S::paired_backup, S::asking_backup},
     {}},
    {E::begin, {S::paired_backup}, kHandled, {}, {}},
    {E::begin,
     kAll.without(
         {S::starting, S::rejoining, S::switching_primary, S::asking_primary, S::paired_backup}),
     kIgnored,
     {},
     "not waiting to be a backup"},
    {E::join, {S::solo}, kHandled, {S::seeding}, {}},
    {E::join, {S::seeding}, kHandled, {}, {}},
    {E::join, {S::pairing}, kHandled, {S::solo, S::asking_primary}, {}},
    {E::join,
     kAll.without({S::solo, S::seeding, S::pairing}),
     kIgnored,
     {},
     "not solo, or not willing to seed"},
    {E::seed_begin, {S::rejoining}, kHandled, {S::halting}, {}},
    {E::seed_begin, kAll.without({S::rejoining}), kIgnored, {}, "did not ask to be seeded"},
    {E::seed_loaded_said, {S::pairing, S::paired_primary}, kHandled, {}, {}},
    {E::seed_loaded_said,
     kAll.without({S::pairing, S::paired_primary}),
     kIgnored,
     {},
     "no seed is awaited"},
    {E::hand_over, {S::paired_backup}, kHandled, {S::switching_backup}, {}},
    {E::hand_over,
     kAll.without({S::paired_backup}),
     kIgnored,
     {},
     "not its backup, or taken already"},
    {E::take_over_said, {S::paired_backup}, kHandled, {S::asking_backup}, {}},
    {E::take_over_said, kAll.without({S::paired_backup}), kIgnored, {}, "not its backup"},
    {E::stopped_said, {S::paired_backup}, kHandled, {S::stopped}, {}},
    {E::stopped_said, kAll.without({S::paired_backup}), kIgnored, {}, "not its backup"},
    {E::log_received, {S::paired_backup}, kHandled, {S::switching_backup}, {}},
    {E::log_received, {S::rejoining, S::asking_backup}, kHandled, {}, {}},
    {E::log_received,
     kAll.without({S::paired_backup, S::rejoining, S::asking_backup}),
     kIgnored,
     {},
     "follows no log"},
    {E::ack_received,
     {S::paired_primary, S::asking_primary, S::pairing, S::switching_primary},
     kHandled,
     {},
     {}},
    {E::ack_received,
     kAll.without({S::paired_primary, S::asking_primary, S::pairing, S::switching_primary}),
     kIgnored,
     {},
     "nothing waits for an acknowledgement"},

    // ---- The tiebreaker ----
    {E::tiebreaker_up, {S::seeding}, kHandled, {S::pairing}, {}},
    // A force that waits for the tiebreaker is over with each of these; an idle site then sees to
    // its peer.
    {E::tiebreaker_up, kIdle, kHandled, {S::rejoining}, {}},
    {E::tiebreaker_up, kAll.without(kIdle).without({S::seeding, S::stopped}), kHandled, {}, {}},
    {E::tiebreaker_up, kStopped, kIgnored, {}, "this process has ended its part"},
    {E::tiebreaker_down, kIdle, kHandled, {S::rejoining}, {}},
    {E::tiebreaker_down, kAll.without(kIdle).without(kStopped), kHandled, {}, {}},
    {E::tiebreaker_down, kStopped, kIgnored, {}, "this process has ended its part"},
    {E::record_none, kIdle, kHandled, {S::rejoining}, {}},
    {E::record_none, kAll.without(kIdle).without(kStopped), kHandled, {}, {}},
    {E::record_none, kStopped, kIgnored, {}, "this process has ended its part"},
    {E::record_refused, kIdle, kHandled, {S::rejoining}, {}},
    {E::record_refused, kAll.without(kStopped).without(kIdle), kHandled, {}, {}},
    {E::record_refused, kStopped, kIgnored, {}, "this process has ended its part"},
    {E::record_same, {S::asking_primary}, kHandled, {S::paired_primary}, {}},
    {E::record_same, {S::asking_backup}, kHandled, {S::paired_backup}, {}},
    // Going live: the force's epoch is that of an earlier process; it goes on above it.
    {E::record_same, {S::forced}, kHandled, {S::solo, S::going_live}, {}},
    {E::record_same, {S::rejoining}, kHandled, {S::halting}, {}},
    {E::record_same,
     kAll.without({S::asking_primary, S::asking_backup, S::forced, S::rejoining, S::stopped}),
     kHandled,
     {},
     {}},
    {E::record_same, kStopped, kIgnored, {}, "this process has ended its part"},
    {E::record_granted, kIdle, kHandled, {S::going_live}, {}},
    {E::record_granted, {S::rejoining}, kHandled, {S::halting}, {}},
    {E::record_granted, {S::going_live}, kHandled, {}, {}},
    {E::record_granted,
     kRuns.with({S::paired_backup, S::asking_backup, S::switching_primary, S::switching_backup}),
     kHandled,
     {S::going_live},
     {}},
    {E::record_granted, {S::halting, S::stopped}, kIgnored, {}, "told again once it has halted"},
    {E::record_paired_primary, {S::starting}, kHandled, {S::going_live}, {}},
    {E::record_paired_primary,
     {S::switching_backup, S::asking_backup, S::paired_backup},
     kHandled,
     {S::going_live},
     {}},
    {E::record_paired_primary, {S::pairing}, kHandled, {S::paired_primary, S::asking_primary}, {}},
    {E::record_paired_primary, {S::paired_primary}, kHandled, {S::asking_primary}, {}},
    {E::record_paired_primary, {S::asking_primary}, kHandled, {}, {}},
    {E::record_paired_primary,
     {S::seeding, S::solo, S::unprotected, S::forced},
     kHandled,
     {S::asking_primary},
     {}},
    {E::record_paired_primary,
     {S::going_live, S::rejoining, S::switching_primary, S::halting, S::halted, S::stopped},
     kIgnored,
     {},
     "cannot be the primary from here; asked again later"},
    {E::record_paired_backup, {S::starting}, kHandled, {S::paired_backup, S::asking_backup}, {}},
    {E::record_paired_backup,
     {S::rejoining, S::asking_primary},
     kHandled,
     {S::paired_backup, S::asking_backup, S::halting},
     {}},
    {E::record_paired_backup,
     {S::switching_primary},
     kHandled,
     {S::paired_backup, S::asking_backup},
     {}},
    {E::record_paired_backup, {S::paired_backup}, kHandled, {}, {}},
    {E::record_paired_backup, {S::asking_backup}, kHandled, {}, {}},
    {E::record_paired_backup,
     {S::paired_primary, S::solo, S::unprotected, S::forced, S::seeding, S::pairing,
      S::switching_backup, S::halted},
     kHandled,
     {S::halting},
     {}},
    {E::record_paired_backup,
     {S::going_live, S::halting, S::stopped},
     kIgnored,
     {},
     "cannot be a backup from here; asked again later"},
    {E::record_lost, kIdle, kHandled, {S::rejoining}, {}},
    {E::record_lost, {S::rejoining}, kHandled, {S::halting}, {}},
    {E::record_lost,
     kRuns.with({S::paired_backup, S::asking_backup, S::going_live, S::switching_primary,
                 S::switching_backup}),
     kHandled,
     {S::halting},
     {}},
    {E::record_lost, {S::halting}, kHandled, kHaltEnds, {}},
    {E::record_lost, kStopped, kIgnored, {}, "this process has ended its part"},

    // ---- What this site was told to do is done ----
    {E::persisted, kIdle, kHandled, {S::rejoining}, {}},
    {E::persisted, {S::going_live}, kHandled, kLive, {}},
    {E::persisted, {S::halting}, kHandled, kHaltEnds, {}},
    {E::persisted, {S::seeding}, kHandled, {S::pairing}, {}},
    {E::persisted,
     kAll.without(kIdle).without({S::going_live, S::halting, S::seeding}),
     kHandled,
     {},
     {}},
    {E::disk_fenced, {S::going_live}, kHandled, kLive, {}},
    {E::disk_fenced, {S::halting}, kHandled, kHaltEnds, {}},
    {E::disk_fenced, kAll.without({S::going_live, S::halting}), kHandled, {}, {}},
    {E::disk_flushed, kAll, kHandled, {}, {}},
    {E::log_drained, {S::going_live, S::switching_backup, S::asking_backup}, kHandled, {}, {}},
    {E::log_drained,
     {S::halting, S::halted, S::rejoining, S::stopped},
     kIgnored,
     {},
     "the VM was halted meanwhile"},
    {E::log_drained,
     kRuns.with({S::starting, S::paired_backup, S::switching_primary}),
     kForbidden,
     {},
     "no log is being consumed"},
    {E::vm_halted, {S::halting}, kHandled, kHaltEnds, {}},
    {E::vm_halted, {S::halted, S::stopped, S::rejoining}, kIgnored, {}, "it has halted"},
    {E::vm_halted,
     kAll.without({S::halting, S::halted, S::stopped, S::rejoining}),
     kForbidden,
     {},
     "the VM was not to halt"},
    {E::vm_paused, {S::paired_primary}, kHandled, {S::switching_primary, S::asking_primary}, {}},
    {E::vm_paused, kRuns.without({S::paired_primary}).with({S::going_live}), kHandled, {}, {}},
    {E::vm_paused,
     kAll.without(kRuns).without({S::going_live}),
     kIgnored,
     {},
     "the VM was halted meanwhile"},
    {E::seed_ready, {S::seeding}, kHandled, {S::pairing}, {}},
    {E::seed_ready, kAll.without({S::seeding}), kIgnored, {}, "that attempt was given up"},
    {E::seed_cut, {S::pairing}, kHandled, {}, {}},
    {E::seed_cut, kAll.without({S::pairing}), kIgnored, {}, "that attempt was given up"},
    {E::seed_loaded, {S::rejoining}, kHandled, {}, {}},
    {E::seed_loaded, kAll.without({S::rejoining}), kIgnored, {}, "that attempt was given up"},
    {E::seed_failed, {S::seeding}, kHandled, {S::solo}, {}},
    {E::seed_failed, {S::pairing}, kHandled, {S::solo, S::asking_primary}, {}},
    {E::seed_failed, {S::rejoining}, kHandled, {S::halting}, {}},
    {E::seed_failed,
     kAll.without({S::seeding, S::pairing, S::rejoining}),
     kIgnored,
     {},
     "that attempt was given up"},
    {E::memory_lost, {S::halted, S::halting, S::rejoining}, kHandled, {}, {}},
    {E::memory_lost,
     kAll.without({S::halted, S::halting, S::rejoining}),
     kIgnored,
     {},
     "no stopped VM is kept here"},

    // ---- The VM ----
    {E::log_produced, kRuns.with({S::going_live, S::switching_primary}), kHandled, {}, {}},
    {E::log_produced,
     kAll.without(kRuns).without({S::going_live, S::switching_primary}),
     kIgnored,
     {},
     "the VM was halted meanwhile"},
    {E::guest_stopped, kAll.without(kIdle).without(kStopped), kHandled, {S::stopped}, {}},
    {E::guest_stopped, kIdle.with(kStopped), kIgnored, {}, "no VM runs here"},
    {E::vm_failed,
     kAll.without(kIdle).without({S::halting, S::stopped}),
     kHandled,
     {S::halting},
     {}},
    {E::vm_failed, kIdle.with({S::halting, S::stopped}), kIgnored, {}, "no VM runs here"},

    // ---- People ----
    {E::force, {S::asking_primary, S::asking_backup}, kHandled, {S::going_live}, {}},
    {E::force, kIdle, kHandled, {S::going_live}, {}},
    {E::force, {S::solo, S::unprotected}, kHandled, {S::going_live}, {}},
    {E::force,
     kAll.without(kIdle).without({S::asking_primary, S::asking_backup, S::solo, S::unprotected}),
     kIgnored,
     {},
     "only a site that waits for the tiebreaker, runs nothing or was overruled can be forced"},
    {E::take_over, {S::paired_backup}, kHandled, {S::asking_backup}, {}},
    {E::take_over,
     kAll.without({S::paired_backup}),
     kIgnored,
     {},
     "this site is not a paired backup"},
    {E::switch_over, {S::paired_primary}, kHandled, {}, {}},
    {E::switch_over,
     kAll.without({S::paired_primary}),
     kIgnored,
     {},
     "this site is not a paired primary"},
    {E::unprotect, {S::paired_primary}, kHandled, {S::asking_primary}, {}},
    {E::unprotect, {S::solo}, kHandled, {S::unprotected}, {}},
    {E::unprotect,
     kAll.without({S::paired_primary, S::solo}),
     kIgnored,
     {},
     "this site is neither a paired primary nor solo"},
    {E::protect, {S::unprotected}, kHandled, {S::solo}, {}},
    {E::protect, {S::asking_primary, S::going_live}, kHandled, {}, {}},
    {E::protect,
     kAll.without({S::unprotected, S::asking_primary, S::going_live}),
     kIgnored,
     {},
     "this site is not unprotected"},
    {E::rejoin, kIdle, kHandled, {S::rejoining}, {}},
    {E::rejoin, kAll.without(kIdle), kIgnored, {}, "this site is not halted"},
    {E::reclaim, kIdle, kHandled, {}, {}},
    {E::reclaim, kAll.without(kIdle), kIgnored, {}, "this site is not halted"},
    {E::enrol_again, kRuns, kHandled, {}, {}},
    {E::enrol_again,
     kAll.without(kRuns),
     kIgnored,
     {},
     "only the site that runs the VM can enrol it again"},

    {E::tick, {S::paired_primary, S::switching_primary}, kHandled, {S::asking_primary}, {}},
    {E::tick, {S::pairing}, kHandled, {S::solo, S::asking_primary}, {}},
    {E::tick,
     kAll.without({S::paired_primary, S::switching_primary, S::pairing}),
     kHandled,
     {},
     {}},
    {E::stray, kAll, kIgnored, {}, "not for this pair, this process or this store"},
};

using Cells = std::array<std::array<Transition, kEventCount>, kStateCount>;

constexpr Cells build() {
    Cells cells{};
    for (const Row& row : kRows) {
        for (size_t s = 0; s < kStateCount; ++s) {
            if (!row.in.contains(static_cast<State>(s + 1))) continue;
            Transition& cell = cells[s][static_cast<size_t>(row.event)];
            if (cell.treatment != Treatment::unset) throw "a cell is covered twice";
            cell = {row.treatment, row.next, row.note};
        }
    }
    for (const auto& row : cells) {
        for (const Transition& cell : row) {
            if (cell.treatment == Treatment::unset) throw "a cell is not covered";
            const bool explained = cell.treatment == Treatment::handled || !cell.note.empty();
            if (!explained) throw "a cell is not explained";
        }
    }
    return cells;
}

inline constexpr Cells kCells = build();

}  // namespace table

constexpr const Transition& transition(State state, Event event) {
    return table::kCells[static_cast<size_t>(state) - 1][static_cast<size_t>(event)];
}

}  // namespace antipode::failover
