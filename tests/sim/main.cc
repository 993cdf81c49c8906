// The campaign: runs seeds, counts, and tells the one command that replays a failing one.
//
//     tests/sim/run --seeds N [--start S]      N seeds from S on
//     ... --require-probes                     and fails if a probe was never hit
//     tests/sim/run --replay S                 one seed, with its timeline
//     tests/sim/run --bug NAME|all             (second build) seeds until the bug is found
//     ... --mix NAME                           the kind of trouble, see profile.h
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <fmt/format.h>
#include <signal.h>
#include <string>
#include <sys/wait.h>

#include "common/failover/deliberate_bugs.h"
#include "tests/sim/simulation.h"

namespace antipode::sim {
namespace {

struct Options {
    uint64_t seeds = 100;
    uint64_t start = 1;
    uint64_t replay = 0;
    uint64_t check_every = 50;  // each such seed runs twice, and its traces must be equal
    bool show_unseen = false;
    bool keep_going = false;
    bool require_probes = false;
    std::string bug;
    Mix mix = Mix::swarm;
};

struct Totals {
    uint64_t violations = 0;
    uint64_t faults = 0;
    uint64_t steps = 0;
    uint64_t outputs = 0;
    uint64_t boots = 0;
    uint64_t decisions = 0;
    uint64_t operators = 0;
    double virtual_seconds = 0;
    double recovery_max_seconds = 0;
};

// A failed check of the core aborts: say which seed it was, on the way out.
volatile uint64_t seed_running = 0;
std::string replay_options;  // what --replay needs beside the seed

std::string_view hunting;  // the deliberate bug, in a process that hunts one
volatile uint64_t tried = 0;

extern "C" void on_abort(int) {
    if (!hunting.empty()) {
        fmt::print("bug={} found=yes seeds={} as=\"a check of the core fails\"\n", hunting,
                   tried + 0);
        fflush(stdout);
        _exit(0);
    }
    fmt::print("seed {}: aborted\n  replay: tests/sim/run --replay {}{}\n", seed_running + 0,
               seed_running + 0, replay_options);
    fflush(stdout);
    _exit(1);
}

SimulationResult run_seed(uint64_t seed, Mix mix, Coverage& coverage, Verbose verbose) {
    seed_running = seed;
    Simulation simulation(seed, mix, coverage, verbose);
    return simulation.run();
}

int replay(const Options& options) {
    Coverage coverage;
    const SimulationResult result = run_seed(options.replay, options.mix, coverage, Verbose::yes);
    fmt::print("seed={} steps={} faults={} trace={:016x} {}\n", options.replay, result.steps,
               result.faults, result.trace_hash,
               result.violation ? "VIOLATION: " + *result.violation : "clean");
    return result.violation ? 1 : 0;
}

void report(uint64_t seed, const std::string& what) {
    fmt::print("seed {}: {}\n  replay: tests/sim/run --replay {}{}\n", seed, what, seed,
               replay_options);
}

void add(Totals& totals, const SimulationResult& result) {
    totals.faults += result.faults;
    totals.steps += result.steps;
    totals.outputs += result.outputs;
    totals.boots += result.boots;
    totals.decisions += result.decisions;
    totals.operators += result.operator_helped ? 1 : 0;
    totals.virtual_seconds += std::chrono::duration<double>(result.virtual_time).count();
    totals.recovery_max_seconds = std::max(totals.recovery_max_seconds,
                                           std::chrono::duration<double>(result.recovery).count());
}

void print_totals(const Options& options, const Totals& totals, const Coverage& coverage,
                  double seconds) {
    const auto [seen, all] = coverage.handled();
    fmt::print(
        "seeds={} violations={} faults={} states_hit={}/{} transitions_hit={}/{} probes_hit={}/{} "
        "outputs={} decisions={} boots={} operator_seeds={} virtual_hours={:.1f} "
        "slowest_recovery_s={:.1f} seconds={:.1f} seeds_per_minute={:.0f}\n",
        options.seeds, totals.violations, totals.faults, coverage.states_seen(),
        failover::kStateCount, seen, all, coverage.probes_seen(), coverage.probes().size(),
        totals.outputs, totals.decisions, totals.boots, totals.operators,
        totals.virtual_seconds / 3600, totals.recovery_max_seconds, seconds,
        static_cast<double>(options.seeds) / seconds * 60);
}

int campaign(const Options& options) {
    Coverage coverage;
    Totals totals;
    const auto begin = std::chrono::steady_clock::now();
    for (uint64_t i = 0; i < options.seeds; ++i) {
        const uint64_t seed = options.start + i;
        const SimulationResult result = run_seed(seed, options.mix, coverage, Verbose::no);
        add(totals, result);
        if (result.violation) {
            ++totals.violations;
            report(seed, *result.violation);
            if (!options.keep_going) {
                Coverage again;
                run_seed(seed, options.mix, again, Verbose::yes);
                break;
            }
        }
        if (i % options.check_every != 0) continue;
        Coverage again;
        if (run_seed(seed, options.mix, again, Verbose::no).trace_hash != result.trace_hash) {
            ++totals.violations;
            report(seed, "two runs of this seed differ");
            break;
        }
    }
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    for (const auto& [name, hits] : coverage.probes()) {
        fmt::print("probe {:>9}  {}{}\n", hits, name, hits == 0 ? "   NEVER HIT" : "");
    }
    if (options.show_unseen) coverage.print_unseen();
    print_totals(options, totals, coverage, took.count());
    const size_t unhit = coverage.probes().size() - coverage.probes_seen();
    if (options.require_probes && unhit > 0) {
        fmt::print("{} probes were never hit: what they stand for is not tried any more\n", unhit);
        return 1;
    }
    return totals.violations == 0 ? 0 : 1;
}

#ifdef ANTIPODE_DELIBERATE_BUGS
// The mix in which such a bug shows soonest. It is chosen for speed alone: the campaign shows that
// the core without the bug is clean in the same mix.
Mix mix_for(failover::Bug bug) {
    using failover::Bug;
    switch (bug) {
        case Bug::pair_before_in_sync:
            return Mix::far;
        case Bug::believe_old_witness:
            return Mix::strays;
        case Bug::act_before_durable:
            return Mix::power;
        case Bug::restored_store_keeps_identity:
            return Mix::tiebreaker;
        case Bug::third_site_vouches:
        case Bug::turn_while_pairing:
            return Mix::spares;
        default:
            return Mix::swarm;
    }
}

// In a process of its own, since a check of the core may be what finds it.
int hunt_one(const Options& options, failover::Bug bug) {
    const std::string_view name = failover::to_string(bug);
    const Mix mix = options.mix == Mix::swarm ? mix_for(bug) : options.mix;
    fflush(stdout);
    const pid_t child = fork();
    if (child == 0) {
        failover::deliberate_bug = bug;
        hunting = name;
        Coverage coverage;
        std::string found;
        while (tried < options.seeds && found.empty()) {
            tried = tried + 1;
            const uint64_t seed = options.start + tried - 1;
            found = run_seed(seed, mix, coverage, Verbose::no).violation.value_or("");
        }
        fmt::print("bug={} mix={} found={} seeds={} as=\"{}\"\n", name, to_string(mix),
                   found.empty() ? "no" : "yes", tried + 0, found);
        fflush(stdout);
        _exit(found.empty() ? 1 : 0);
    }
    int status = 0;
    return child > 0 && waitpid(child, &status, 0) == child && status == 0 ? 0 : 1;
}

int hunt(const Options& options) {
    int missed = 0;
    int hunted = 0;
    for (size_t b = 1; b < static_cast<size_t>(failover::Bug::count); ++b) {
        const auto bug = static_cast<failover::Bug>(b);
        if (options.bug == "all" || options.bug == failover::to_string(bug)) {
            missed += hunt_one(options, bug);
            ++hunted;
        }
    }
    fmt::print("bugs={} found={}\n", hunted, hunted - missed);
    return hunted > 0 && missed == 0 ? 0 : 1;
}
#endif

uint64_t number(const char* text) {
    char* end = nullptr;
    const uint64_t value = std::strtoull(text, &end, 10);
    if (end == text || *end != '\0') {
        fmt::print(stderr, "not a number: {}\n", text);
        std::exit(2);
    }
    return value;
}

int usage() {
    fmt::print(stderr,
               "usage: tests/sim/run [--seeds N] [--start S] [--replay S] [--mix NAME] [--unseen] "
               "[--keep-going] [--require-probes] [--check-every N] [--bug NAME|all]\n");
    return 2;
}

bool take(Options& options, std::string_view name, const char* value) {
    if (name == "--seeds") {
        options.seeds = number(value);
    } else if (name == "--start") {
        options.start = number(value);
    } else if (name == "--replay") {
        options.replay = number(value);
    } else if (name == "--check-every") {
        options.check_every = number(value);
    } else if (name == "--bug") {
        options.bug = value;
        replay_options += fmt::format(" --bug {}", value);
    } else if (name == "--mix") {
        const auto mix = mix_of(value);
        if (!mix) return false;
        options.mix = *mix;
        replay_options += fmt::format(" --mix {}", value);
    } else {
        return false;
    }
    return true;
}

int main_of(int argc, char** argv) {
    ::signal(SIGABRT, on_abort);
    Options options;
    for (int i = 1; i < argc; ++i) {
        const std::string_view name = argv[i];
        if (name == "--unseen") {
            options.show_unseen = true;
        } else if (name == "--keep-going") {
            options.keep_going = true;
        } else if (name == "--require-probes") {
            options.require_probes = true;
        } else {
            if (i + 1 >= argc || !take(options, name, argv[i + 1])) return usage();
            ++i;
        }
    }
    if (options.seeds == 0 || options.check_every == 0) return usage();
#ifdef ANTIPODE_DELIBERATE_BUGS
    if (!options.bug.empty() && options.replay == 0) return hunt(options);
    for (size_t b = 1; b < static_cast<size_t>(failover::Bug::count); ++b) {
        const auto bug = static_cast<failover::Bug>(b);
        if (failover::to_string(bug) == options.bug) failover::deliberate_bug = bug;
    }
#endif
    return options.replay != 0 ? replay(options) : campaign(options);
}

}  // namespace
}  // namespace antipode::sim

int main(int argc, char** argv) {
    return antipode::sim::main_of(argc, argv);
}
