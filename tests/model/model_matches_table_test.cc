// The model that spin checks (failover.pml) and the table that the product runs are one machine:
// every step that the model takes by name is in the table, and everything that the table allows is
// in the model, or below with the reason why it is not.
#include <fstream>
#include <gtest/gtest.h>
#include <iterator>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "common/failover/transition_table.h"

namespace antipode::failover {
namespace {

using S = State;
using E = Event;

struct Step {
    Event event;
    State from;
    State to;
    friend bool operator<(const Step& a, const Step& b) {
        return std::tie(a.event, a.from, a.to) < std::tie(b.event, b.from, b.to);
    }
};

std::string name(const Step& step) {
    std::ostringstream text;
    text << to_string(step.event) << ": " << wire::to_string(step.from) << " -> "
         << wire::to_string(step.to);
    return text.str();
}

std::optional<State> state_named(const std::string& name) {
    for (size_t s = 1; s <= kStateCount; ++s) {
        if (wire::to_string(static_cast<State>(s)) == name) return static_cast<State>(s);
    }
    return std::nullopt;
}

std::optional<Event> event_named(const std::string& name) {
    for (size_t e = 0; e < kEventCount; ++e) {
        if (to_string(static_cast<Event>(e)) == name) return static_cast<Event>(e);
    }
    return std::nullopt;
}

std::string model_text() {
    std::ifstream file(ANTIPODE_MODEL);
    std::string text{std::istreambuf_iterator<char>(file), {}};
    // What a deliberate mistake of the model adds is no part of the protocol.
    std::string kept;
    std::istringstream lines(text);
    bool mistake = false;
    for (std::string line; std::getline(lines, line);) {
        if (line.rfind("#ifdef BUG_", 0) == 0) mistake = true;
        if (line.rfind("#else", 0) == 0 || line.rfind("#endif", 0) == 0) mistake = false;
        if (!mistake) kept += line + "\n";
    }
    return kept;
}

std::set<Step> model_steps() {
    std::set<Step> steps;
    const std::string text = model_text();
    const std::regex go(R"(GO\((\w+),\s*(\w+),\s*(\w+)\))");
    for (std::sregex_iterator i(text.begin(), text.end(), go), end; i != end; ++i) {
        const std::smatch& match = *i;
        if (match[1] == "from") continue;  // the macro itself
        const auto from = state_named(match[1]);
        const auto event = event_named(match[2]);
        const auto to = state_named(match[3]);
        if (!from || !event || !to) {
            ADD_FAILURE() << match.str() << " uses a name that the table does not have";
            continue;
        }
        steps.insert({*event, *from, *to});
    }
    return steps;
}

std::set<Step> table_steps() {
    std::set<Step> steps;
    for (size_t s = 1; s <= kStateCount; ++s) {
        for (size_t e = 0; e < kEventCount; ++e) {
            const auto from = static_cast<State>(s);
            const auto event = static_cast<Event>(e);
            const Transition& cell = transition(from, event);
            for (size_t n = 1; n <= kStateCount; ++n) {
                const auto to = static_cast<State>(n);
                if (to != from && cell.next.contains(to)) steps.insert({event, from, to});
            }
        }
    }
    return steps;
}

// What the table has and the model does not.
struct Absent {
    std::set<Event> events;  // empty: all
    StateSet from;
    StateSet to;
    const char* why;
};

constexpr StateSet kEvery = StateSet::all();
constexpr StateSet kIdle{S::starting, S::halted};
constexpr StateSet kNotInTheModel{S::unprotected, S::forced, S::stopped};

const std::vector<Absent> kAbsent{
    {{}, kNotInTheModel, kEvery, "to its peer it is as solo, or gone; no operator is modelled"},
    {{}, kEvery, kNotInTheModel, "to its peer it is as solo, or gone; no operator is modelled"},
    {{E::force}, kEvery, {S::going_live}, "the one act that may break the promise"},
    {{E::take_over, E::unprotect, E::rejoin},
     kEvery,
     {S::asking_primary, S::asking_backup, S::rejoining},
     "operators: where a suspicion, or a hello, leads in the model at any time"},
    {{E::vm_failed}, kEvery, {S::halting}, "in the model its process crashes, at any time"},
    {{E::take_over_said}, {S::paired_backup}, {S::asking_backup}, "peer_suspected, at any time"},
    {{E::begin, E::record_paired_primary, E::record_paired_backup},
     {S::starting},
     kEvery,
     "the model begins with a pair that exists"},

    // ---- What is two steps in the model ----
    {{E::begin, E::record_paired_backup},
     {S::asking_primary, S::rejoining, S::switching_primary},
     {S::asking_backup},
     "paired_backup first, then peer_suspected"},
    {{E::persisted, E::disk_fenced},
     {S::going_live},
     {S::asking_primary},
     "paired_primary first, then peer_suspected"},
    {{E::vm_paused},
     {S::paired_primary},
     {S::asking_primary},
     "switching_primary first, then peer_suspected"},
    {{E::record_paired_primary},
     {S::pairing},
     {S::asking_primary},
     "paired_primary first, then peer_suspected"},
    {{E::persisted, E::disk_fenced, E::vm_halted, E::hello_fences, E::record_lost},
     {S::halting},
     {S::rejoining},
     "halted first, then hello"},

    // ---- What the model calls by one name of several ----
    {{E::disk_fenced, E::vm_halted, E::hello_fences, E::record_lost},
     {S::halting},
     {S::halted},
     "stopping, fencing and writing are one step: persisted"},
    {{E::disk_fenced},
     {S::going_live},
     {S::paired_primary, S::solo},
     "fencing and writing are one step: persisted"},
    {{E::hello_fences, E::hello_replaced, E::peer_trusted, E::persisted, E::tiebreaker_up,
      E::tiebreaker_down, E::record_none, E::record_refused, E::record_lost},
     kIdle,
     {S::rejoining},
     "hello, at any time that a VM runs alone at the peer"},
    {{E::hello},
     {S::asking_primary, S::asking_backup},
     {S::paired_primary, S::paired_backup},
     "record_same and peer_trusted wait for no hello in the model"},
    {{E::hello},
     {S::paired_backup, S::pairing, S::switching_primary},
     {S::asking_backup, S::asking_primary},
     "peer_suspected, at any time"},
    {{E::hello, E::hello_fences, E::seed_begin, E::seed_failed, E::record_lost},
     {S::rejoining},
     {S::halting},
     "the seeder is gone: peer_suspected or hello_replaced"},
    {{E::hello_fences},
     {S::solo, S::seeding, S::pairing},
     {S::halting},
     "the model tells a lone holder of a later epoch by record_lost"},
    {{E::join, E::seed_failed, E::session_down, E::tick},
     {S::seeding, S::pairing},
     {S::solo, S::asking_primary},
     "an attempt is given up: peer_suspected, at any time"},
    {{E::persisted, E::tiebreaker_up},
     {S::seeding},
     {S::pairing},
     "seed_ready waits for nothing in the model"},
    {{E::log_received},
     {S::paired_backup},
     {S::switching_backup},
     "hand_over waits for the log's end in the model"},

    // ---- What only a force or a new enrolment makes possible ----
    {{E::record_paired_primary},
     {S::paired_primary},
     {S::asking_primary},
     "enrolled again with another store; the model's tiebreaker loses nothing"},
    {{E::record_paired_backup},
     {S::paired_primary, S::solo, S::seeding, S::pairing, S::switching_backup},
     {S::halting},
     "without a force nobody makes us a backup who has not handed over or joined"},
};

bool covers(const Absent& absent, const Step& step) {
    return (absent.events.empty() || absent.events.count(step.event) > 0) &&
           absent.from.contains(step.from) && absent.to.contains(step.to);
}

TEST(ModelMatchesTable, TheModelTakesOnlyStepsOfTheTable) {
    const std::set<Step> table = table_steps();
    const std::set<Step> model = model_steps();
    EXPECT_GE(model.size(), 70u) << "the model was not read";
    for (const Step& step : model) {
        EXPECT_EQ(table.count(step), 1u) << name(step) << " is in the model only";
    }
}

TEST(ModelMatchesTable, WhatTheTableAllowsIsInTheModelOrExplained) {
    const std::set<Step> model = model_steps();
    for (const Step& step : table_steps()) {
        if (model.count(step) > 0) continue;
        bool explained = false;
        for (const Absent& entry : kAbsent) explained = explained || covers(entry, step);
        EXPECT_TRUE(explained) << name(step) << " is in the table only";
    }
}

// A reason that no longer explains anything, or explains away what is there, misleads.
TEST(ModelMatchesTable, EveryReasonIsNeededAndNoneCoversWhatIsInTheModel) {
    const std::set<Step> model = model_steps();
    const std::set<Step> table = table_steps();
    for (const Absent& entry : kAbsent) {
        bool needed = false;
        for (const Step& step : table) needed = needed || covers(entry, step);
        EXPECT_TRUE(needed) << "nothing is absent because: " << entry.why;
        for (const Step& step : model) {
            EXPECT_FALSE(covers(entry, step)) << name(step) << " is not absent: " << entry.why;
        }
    }
}

}  // namespace
}  // namespace antipode::failover
