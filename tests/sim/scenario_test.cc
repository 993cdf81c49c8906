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

// The tiebreaker decides for a process that dies before it hears of it. Its site is forced
// afterwards without the tiebreaker, and counts the epoch of that force from the same number: it
// stands in the record's own epoch, and the record names a dead process.
struct DecidedForTheDead {
    enum class Way : uint8_t { enrolled_alone = 1, enrolled_with_partner, forced };

    DecidedForTheDead(uint64_t seed, Way how)
        : simulation(seed, Mix::tiebreaker, coverage, Verbose::no), way(how) {
        for (size_t i = 0; i < 2; ++i) {
            Site::Settings& settings = simulation.site(i).settings;
            settings.crash_at_write = settings.kill_at_change = 0;
        }
    }
    SimulationResult run() {
        return simulation.run_script([this] {
            until([this] { return b().state() == State::paired_backup; },
                  [this] { way == Way::forced ? kill_both() : lose_the_store(); });
        });
    }

    Site& a() { return simulation.site(0); }
    Site& b() { return simulation.site(1); }
    // Looks every now and then; `then` once it holds.
    void until(std::function<bool()> holds, std::function<void()> then) {
        simulation.world().after(
            20ms, [this, holds = std::move(holds), then = std::move(then)]() mutable {
                if (holds()) return then();
                until(std::move(holds), std::move(then));
            });
    }
    // The next answer to `kind` is decided and never heard: A dies of it.
    void nobody_hears(wire::RequestKind kind, std::function<void()> then) {
        auto& deliver = simulation.tiebreaker().deliver;
        deliver = [this, usual = deliver, kind, then = std::move(then)](size_t site,
                                                                        const auto& answer) {
            const bool moved = answer.request.kind == kind && answer.request.epoch > Epoch(0) &&
                               answer.record.holder == answer.request.me;
            if (site != 0 || !moved || decided != Epoch(0)) return usual(site, answer);
            decided = answer.record.epoch;
            a().kill();
            then();
        };
    }
    void lose_the_store() {
        if (way == Way::enrolled_alone) b().keep_down(20s);
        until([this] { return way != Way::enrolled_alone || a().state() == State::solo; },
              [this] {
                  simulation.tiebreaker().wipe();
                  simulation.tiebreaker().restart();
                  nobody_hears(wire::RequestKind::create, [this] {
                      b().keep_down(8s);
                      force();
                  });
                  enrol();
              });
    }
    void enrol() {
        if (decided != Epoch(0)) return;
        simulation.checker().forced();
        a().input(failover::Command{failover::CommandKind::enrol_again, "web1"});
        simulation.world().after(50ms, [this] { enrol(); });
    }
    void kill_both() {
        b().keep_down(8s);
        a().kill();
        nobody_hears(wire::RequestKind::force, [this] {
            simulation.network().t_cut[0] = true;
            simulation.network().cut_changed();
        });
        force();
    }
    void force() {
        until(
            [this] {
                if (!a().alive() || a().state() != State::starting) {
                    return decided != Epoch(0) && a().state() == State::forced;
                }
                simulation.checker().forced();
                a().accept_loss();
                a().input(failover::Command{failover::CommandKind::force, "web1",
                                            failover::Loss::accepted});
                return false;
            },
            [this] {
                met = a().core()->epoch() == decided;
                simulation.network().t_cut[0] = false;
                simulation.network().cut_changed();
            });
    }

    Coverage coverage;
    Simulation simulation;
    const Way way;
    Epoch decided;
    bool met = false;  // A runs the VM in the very epoch that was decided for the dead
};

void expect_protection_after(DecidedForTheDead::Way way) {
    uint64_t told = 0;
    for (uint64_t seed = 1; seed <= 40; ++seed) {
        DecidedForTheDead story(seed, way);
        const SimulationResult result = story.run();
        ASSERT_FALSE(result.violation.has_value()) << "seed " << seed << ": " << *result.violation;
        told += story.met ? 1 : 0;
    }
    EXPECT_GT(told, 15u);
}

TEST(Scenario, AForceInTheEpochOfADeadEnrolmentEndsInProtection) {
    expect_protection_after(DecidedForTheDead::Way::enrolled_alone);
}

TEST(Scenario, AForceInTheEpochOfADeadEnrolmentWithThePartnerEndsInProtection) {
    expect_protection_after(DecidedForTheDead::Way::enrolled_with_partner);
}

TEST(Scenario, AForceInTheEpochOfADeadForceEndsInProtection) {
    expect_protection_after(DecidedForTheDead::Way::forced);
}

// A is forced before its first start has ended, so that it has pinned no store; its enrolment is
// decided, and it dies before it hears of that. Then only a force can bring the VM back.
TEST(Scenario, ASiteThatNeverPinnedAStoreCanBeForcedThroughTheTiebreaker) {
    uint64_t told = 0;
    for (uint64_t seed = 1; seed <= 40; ++seed) {
        DecidedForTheDead story(seed, DecidedForTheDead::Way::enrolled_alone);
        bool unpinned = false;
        story.simulation.tiebreaker().crash();
        story.b().keep_down(8s);
        const SimulationResult result = story.simulation.run_script([&] {
            story.until(
                [&] {
                    if (story.a().state() == State::forced) return true;
                    if (!story.a().alive()) return false;
                    story.simulation.checker().forced();
                    story.a().input(failover::Command{failover::CommandKind::force, "web1"});
                    return false;
                },
                [&] {
                    story.simulation.tiebreaker().restart();
                    story.nobody_hears(wire::RequestKind::create, [&] {
                        story.until([&] { return story.a().alive(); },
                                    [&] {
                                        unpinned = story.a().core()->durable().store ==
                                                   wire::StoreIdentity(0);
                                    });
                    });
                    story.enrol();
                });
        });
        ASSERT_FALSE(result.violation.has_value()) << "seed " << seed << ": " << *result.violation;
        told += unpinned ? 1 : 0;
    }
    EXPECT_GT(told, 15u);
}

}  // namespace
}  // namespace antipode::sim
