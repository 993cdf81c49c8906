// Single stories that the campaign tells only now and then: the faults are written down here, the
// rest (network, timing, which side is quicker) still comes from the seed.
#include <gtest/gtest.h>

#include "tests/sim/simulation.h"

namespace antipode::sim {
namespace {

using failover::State;

constexpr const char* kLateWrite = "a site that has lost writes its disk before it hears of it";

// The process of the primary stands still, as under SIGSTOP or on a suspended host; the backup wins
// and goes on; the process wakes up, and its guest runs and writes before its core hears of it.
struct LateWaker {
    explicit LateWaker(uint64_t seed) : simulation(seed, Mix::usual, coverage, Verbose::no) {
        for (size_t i = 0; i < 2; ++i) {
            Site::Settings& settings = simulation.site(i).settings;
            settings.crash_at_write = settings.kill_at_change = 0;
            settings.runs_on_waking = 1;
        }
    }
    SimulationResult run() {
        return simulation.run_script([this] { look(); });
    }
    // Stops whoever runs the VM once the pair is protected.
    void look() {
        simulation.world().after(5ms, [this] {
            if (simulation.site(1).state() != State::paired_backup ||
                simulation.site(0).state() != State::paired_primary) {
                return look();
            }
            simulation.site(0).stop_for(60s);
            wake();
        });
    }
    // Lets it go on once the other site has won and runs the VM.
    void wake() {
        simulation.world().after(20ms, [this] {
            if (!simulation.site(0).stopped()) return;  // everything was healed before
            if (!wire::runs_vm(simulation.site(1).state())) return wake();
            last_before = simulation.site(0).disk();
            simulation.site(0).continue_now();
            last_after = simulation.site(0).disk();
        });
    }
    Coverage coverage;
    Simulation simulation;
    NodeId last_before = NodeId::none;
    NodeId last_after = NodeId::none;
};

TEST(Scenario, WhatALoserWritesBeforeItHearsOfItIsNeitherSeenNorKept) {
    uint64_t told = 0;
    for (uint64_t seed = 1; seed <= 60; ++seed) {
        LateWaker story(seed);
        const SimulationResult result = story.run();
        ASSERT_FALSE(result.violation.has_value()) << "seed " << seed << ": " << *result.violation;
        if (story.last_after == NodeId::none) continue;  // healed before the backup had won
        ++told;
        ASSERT_EQ(story.coverage.probes().at(kLateWrite), 1u) << "seed " << seed;
        ASSERT_NE(story.last_after, story.last_before) << "it wrote";
        const Lineage& lineage = story.simulation.checker().lineage;
        const NodeId seen = story.simulation.checker().seen();
        EXPECT_FALSE(lineage.has_through_boots(seen, story.last_after)) << "and nobody saw it";
        for (size_t i = 0; i < 2; ++i) {
            EXPECT_FALSE(
                lineage.has_through_boots(story.simulation.site(i).disk(), story.last_after))
                << "seed " << seed << ": and in the end no disk holds it";
        }
    }
    EXPECT_GT(told, 30u);
}

}  // namespace
}  // namespace antipode::sim
