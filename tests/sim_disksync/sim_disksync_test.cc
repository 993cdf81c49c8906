// Simulated pairs of disks. One seed of a test: --gtest_filter=... and ANTIPODE_SEED=n.
#include <cstdlib>
#include <gtest/gtest.h>

#include "tests/sim_disksync/sim_world.h"

namespace antipode::disksync {
namespace {

// Sanitizers cost a factor of ten: fewer seeds there, the whole set in the release tree.
#if defined(__SANITIZE_ADDRESS__)
constexpr uint64_t kShare = 8;
#else
constexpr uint64_t kShare = 1;
#endif

SimCounts run_seeds(const SimWorld::Faults& faults, uint64_t seeds) {
    SimCounts all;
    uint64_t first = 1;
    seeds = (seeds + kShare - 1) / kShare;
    if (const char* only = std::getenv("ANTIPODE_SEED")) {
        first = std::strtoull(only, nullptr, 10);
        seeds = 1;
    }
    for (uint64_t seed = first; seed < first + seeds && !testing::Test::HasFailure(); ++seed) {
        SCOPED_TRACE("seed " + std::to_string(seed));
        SimWorld world(seed, faults);
        world.run();
        const SimCounts& counts = world.counts();
        all.writes += counts.writes;
        all.crashes += counts.crashes;
        all.power_failures += counts.power_failures;
        all.cuts += counts.cuts;
        all.promotions += counts.promotions;
        all.split_brains += counts.split_brains;
        all.resyncs += counts.resyncs;
        all.full_resyncs += counts.full_resyncs;
        all.prefix_checks += counts.prefix_checks;
        all.undo_checks += counts.undo_checks;
        all.promised_checks += counts.promised_checks;
        all.pulled_ahead += counts.pulled_ahead;
        all.detached += counts.detached;
        all.turns += counts.turns;
        all.view_checks += counts.view_checks;
        all.views_passed += counts.views_passed;
        all.returns += counts.returns;
    }
    std::printf(
        "writes %lu crashes %lu power %lu cuts %lu promotions %lu (connected %lu) split brains %lu "
        "resyncs %lu "
        "(full %lu) pulled ahead %lu; checks: prefix %lu undo %lu promised %lu views %lu "
        "(passed %lu) returns %lu\n",
        all.writes, all.crashes, all.power_failures, all.cuts, all.promotions, all.turns,
        all.split_brains, all.resyncs, all.full_resyncs, all.pulled_ahead, all.prefix_checks,
        all.undo_checks, all.promised_checks, all.view_checks, all.views_passed, all.returns);
    return all;
}

TEST(SimDisksync, Quiet) {
    const SimCounts counts = run_seeds({false, false, false, false, false, false}, 20);
    EXPECT_GT(counts.writes, 1000u / kShare);
}

TEST(SimDisksync, CutsOfTheLine) {
    const SimCounts counts = run_seeds({false, false, true, false, false, false}, 60);
    EXPECT_GT(counts.resyncs, 60u / kShare);
    EXPECT_GT(counts.view_checks, 1000u / kShare);
}

TEST(SimDisksync, KilledProcesses) {
    const SimCounts counts = run_seeds({true, false, true, false, false, false}, 100);
    EXPECT_GT(counts.prefix_checks, 50u / kShare);
    EXPECT_GT(counts.undo_checks, 5u / kShare);
    EXPECT_GT(counts.promised_checks, 50u / kShare);
}

TEST(SimDisksync, PowerFailures) {
    const SimCounts counts = run_seeds({true, true, true, false, false, false}, 200);
    EXPECT_GT(counts.power_failures, 200u / kShare);
}

TEST(SimDisksync, ThePeerTakesOver) {
    const SimCounts counts = run_seeds({true, true, true, true, false, false}, 200);
    EXPECT_GT(counts.promotions, 200u / kShare);
    EXPECT_GE(counts.returns, kShare == 1 ? 5u : 1u);
}

TEST(SimDisksync, SwitchOvers) {
    const SimCounts counts = run_seeds({false, false, false, false, false, false, true}, 60);
    EXPECT_GT(counts.turns, 40u / kShare);
    EXPECT_EQ(counts.split_brains, 0u);
}

TEST(SimDisksync, SwitchOversWithFaults) {
    const SimCounts counts = run_seeds({true, true, true, false, false, false, true}, 300);
    EXPECT_GT(counts.turns, 100u / kShare);
    EXPECT_EQ(counts.split_brains, 0u);
}

TEST(SimDisksync, SplitBrains) {
    const SimCounts counts = run_seeds({true, true, true, true, true, false}, 200);
    EXPECT_GT(counts.split_brains, 20u / kShare);
}

}  // namespace
}  // namespace antipode::disksync
