// Runs a program and waits for it, within limits: the replicator's keygen, the commands of hooks
// and the checks of drills. The child gets a process group of its own, no descriptor but the three,
// and an environment that is given in full; over its time the whole group is killed.
//
// Threads: any but the web thread, for it waits.
// INVARIANTS: it ends within the limit and a second; at most `output_bytes_max` are kept, the rest
// is read and dropped, so that a talkative child does not block; no child is left unreaped.
#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "common/base/result.h"

namespace antipode::web {

struct ChildCommand {
    std::vector<std::string> argv;  // argv[0] is the program's path
    std::vector<std::string> environment;
    std::chrono::milliseconds time_limit = std::chrono::seconds(30);
    size_t output_bytes_max = 16 * 1024;
    // Set to true by whoever does not want to wait any longer: the child's time is over then.
    std::shared_ptr<const std::atomic<bool>> given_up;
};

struct ChildOutcome {
    int exit_code = -1;  // -1: ended by a signal, or by its time limit
    bool timed_out = false;
    int signal = 0;
    std::string output;  // what it wrote to both, printable
    std::chrono::milliseconds took{0};

    // "exit code 3", "killed after 30 s", "killed by signal 11"
    std::string verdict() const;
};

// An error only when the program could not be started.
Result<ChildOutcome> run_child(const ChildCommand& command);

}  // namespace antipode::web
