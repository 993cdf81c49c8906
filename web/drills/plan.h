// What a drill is asked to do: the body of POST /api/v1/drills and what a schedule repeats. Flat
// and strict, so that the page, the command line and the database say the same.
//
// Threads: values.
// INVARIANTS: a plan that was parsed is complete and within its bounds.
#pragma once

#include <string>
#include <string_view>

#include "replicator/control/control_api.h"
#include "web/http/body.h"

namespace antipode::web {

enum class DrillKind {
    isolated = 1,  // a copy of the backup's VM runs beside it and is checked
    switchover,    // the VM goes to the other site and comes back
    fault,         // a rehearsed fault, until the pair is protected again
};
enum class DrillCheck {
    runs = 1,  // the copy's virtual CPU works
    command,   // a command of web.toml ends with 0
    console,   // after `send` was typed, `expect` is on the copy's console
    tcp,       // something accepts at `address`, in the isolated network
};

struct DrillPlan {
    std::string pair;
    DrillKind kind = DrillKind::isolated;
    std::string note;
    std::string site;  // whose replicator injects a fault; empty = the one that leads
    // isolated
    control::DrillNetwork network = control::DrillNetwork::none;
    DrillCheck check = DrillCheck::runs;
    std::string command;  // its name in web.toml
    std::string send;
    std::string expect;
    std::string address;          // ADDRESS:PORT
    double check_seconds = 60;    // until which it must have passed
    double duration_seconds = 0;  // of the copy, at most; of a fault. 0 = 600, 10
    // fault
    std::string fault;

    double length_seconds() const;
    control::Access access() const;  // the right it needs
    std::string check_text() const;  // in words
};

std::string_view word(DrillKind kind);
std::string_view word(DrillCheck check);

// Reads the plan's fields; the caller reads others and ends with done().
void read_plan(Body& body, DrillPlan& plan);
// What done() cannot see: fields that go together.
Result<> check_plan(const DrillPlan& plan);
json::object to_json(const DrillPlan& plan);

}  // namespace antipode::web
