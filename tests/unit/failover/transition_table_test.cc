// The table as such; that it is covered exactly once is checked when it is compiled.
#include "common/failover/transition_table.h"

#include <gtest/gtest.h>
#include <set>
#include <string>

namespace antipode::failover {
namespace {

template <typename Function>
void each_cell(const Function& function) {
    for (size_t s = 0; s < kStateCount; ++s) {
        for (size_t e = 0; e < kEventCount; ++e) {
            const auto state = static_cast<State>(s + 1);
            const auto event = static_cast<Event>(e);
            function(state, event, transition(state, event));
        }
    }
}

TEST(TransitionTable, EveryStateAndEventHasItsOwnName) {
    std::set<std::string> names;
    for (size_t s = 0; s < kStateCount; ++s) {
        names.emplace(wire::to_string(static_cast<State>(s + 1)));
    }
    EXPECT_EQ(names.size(), kStateCount);
    names.clear();
    for (size_t e = 0; e < kEventCount; ++e) names.emplace(to_string(static_cast<Event>(e)));
    EXPECT_EQ(names.size(), kEventCount);
    EXPECT_EQ(names.count("?"), 0u);
}

TEST(TransitionTable, NothingThatComesFromOutsideIsForbidden) {
    const std::set<EventGroup> local{EventGroup::start, EventGroup::local, EventGroup::seed,
                                     EventGroup::command, EventGroup::tick};
    each_cell([&](State state, Event event, const Transition& cell) {
        if (local.count(event_group(event)) > 0) return;
        EXPECT_NE(cell.treatment, Treatment::forbidden)
            << to_string(event) << " in " << wire::to_string(state);
    });
}

TEST(TransitionTable, OnlyHandledCellsLeadSomewhere) {
    each_cell([](State state, Event event, const Transition& cell) {
        if (cell.treatment == Treatment::handled) return;
        EXPECT_TRUE(cell.next.empty()) << to_string(event) << " in " << wire::to_string(state);
    });
}

TEST(TransitionTable, EveryStateIsReachedAndStartingOnlyAtTheStart) {
    StateSet reached;
    each_cell([&](State, Event, const Transition& cell) { reached = reached.with(cell.next); });
    for (size_t s = 0; s < kStateCount; ++s) {
        const auto state = static_cast<State>(s + 1);
        EXPECT_EQ(reached.contains(state), state != State::starting) << wire::to_string(state);
    }
}

// The heart of it, read off the table: the VM begins to run only from going_live, and output is let
// go freely only by states that are entered from there or from each other.
TEST(TransitionTable, AVmStartsToRunOnlyByGoingLive) {
    each_cell([](State state, Event event, const Transition& cell) {
        if (wire::runs_vm(state) || state == State::going_live) return;
        for (size_t s = 0; s < kStateCount; ++s) {
            const auto next = static_cast<State>(s + 1);
            if (!cell.next.contains(next) || !wire::runs_vm(next)) continue;
            // A primary that had handed its VM over asks for it back; it stays paused until it
            // wins.
            EXPECT_TRUE(state == State::switching_primary && next == State::asking_primary)
                << to_string(event) << " in " << wire::to_string(state) << " -> "
                << wire::to_string(next);
        }
    });
}

TEST(TransitionTable, OpenOutputNeedsAGrant) {
    const StateSet open{State::solo, State::unprotected, State::forced, State::seeding};
    each_cell([&](State state, Event event, const Transition& cell) {
        if (open.contains(state) || state == State::going_live) return;
        for (size_t s = 0; s < kStateCount; ++s) {
            const auto next = static_cast<State>(s + 1);
            if (!cell.next.contains(next) || !open.contains(next)) continue;
            // A copy that is given up before a pair request could have left.
            EXPECT_TRUE(state == State::pairing && next == State::solo)
                << to_string(event) << " in " << wire::to_string(state) << " -> "
                << wire::to_string(next);
        }
    });
}

TEST(TransitionTable, EveryCommandHasItsEvent) {
    std::set<Event> events;
    for (const CommandKind kind :
         {CommandKind::force, CommandKind::take_over, CommandKind::switch_over,
          CommandKind::unprotect, CommandKind::protect, CommandKind::rejoin, CommandKind::reclaim,
          CommandKind::enrol_again}) {
        EXPECT_EQ(event_group(event_of(kind)), EventGroup::command);
        events.insert(event_of(kind));
    }
    EXPECT_EQ(events.size(), 8u);
}

}  // namespace
}  // namespace antipode::failover
