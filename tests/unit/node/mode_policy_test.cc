// When a VM of mode `auto` goes by deltas, and when it comes back.
#include "replicator/control/mode_policy.h"

#include <gtest/gtest.h>

namespace antipode::control {
namespace {

using namespace std::chrono_literals;
using replay::DeltasReason;

class ModePolicyTest : public testing::Test {
  protected:
    // `figures` as they are, once a second; the mode afterwards.
    std::optional<DeltasReason> run(Duration duration, uint64_t heals_a_minute = 0,
                                    uint64_t deliveries_a_second = 0) {
        std::optional<DeltasReason> mode;
        for (const Instant until = now + duration; now < until;) {
            now += 1s;
            ++seconds;
            if (heals_a_minute != 0 && seconds % (60 / heals_a_minute) == 0) ++figures.heals;
            figures.deliveries_by_kick += deliveries_a_second;
            figures.kick_delta_bytes += deliveries_a_second * delivery_bytes;
            mode = policy.step(figures, now);
        }
        return mode;
    }
    // How long until the mode is another.
    Duration until_change(uint64_t heals_a_minute = 0, uint64_t deliveries_a_second = 0) {
        const auto before = policy.mode();
        const Instant begin = now;
        while (policy.mode() == before && now - begin < 24h) {
            run(1s, heals_a_minute, deliveries_a_second);
        }
        return now - begin;
    }

    Instant now{1000s};
    uint64_t seconds = 0;
    uint64_t delivery_bytes = 20'000;
    ModeFigures figures;
    ModePolicy policy{10min};
};

TEST_F(ModePolicyTest, AQuietGuestStaysInLockstep) {
    EXPECT_FALSE(run(2h));
    EXPECT_FALSE(run(2h, 4)) << "4 heals a minute are not too many";
    EXPECT_FALSE(run(1h, 0, 20)) << "an event at a kick now and then";
}

TEST_F(ModePolicyTest, FiveHealsInAMinuteAreTooMany) {
    run(10s);
    figures.heals += 4;
    EXPECT_FALSE(run(1s));
    figures.heals += 1;
    EXPECT_EQ(run(1s), DeltasReason::heals);
}

TEST_F(ModePolicyTest, HealsOfBeforeDoNotCount) {
    figures.heals = 1000;
    EXPECT_FALSE(run(1s));
}

TEST_F(ModePolicyTest, AHealThatIsGivenUpIsEnough) {
    run(10s);
    ++figures.heals_given_up;
    EXPECT_EQ(run(1s), DeltasReason::heal_given_up);
}

TEST_F(ModePolicyTest, ABackupThatIsSlowForHalfAMinute) {
    run(10s);
    figures.share = ModePolicy::kShareFloor;
    EXPECT_FALSE(run(29s));
    figures.share = 0.5;
    run(1s);
    figures.share = 0.02;
    EXPECT_FALSE(run(30s)) << "it counts from anew";
    EXPECT_EQ(run(1s), DeltasReason::backup_slow);
}

TEST_F(ModePolicyTest, ABusyGuestWhoseEventsCostMuch) {
    run(1s);
    EXPECT_FALSE(run(20s, 0, 100));
    EXPECT_EQ(run(20s, 0, 100), DeltasReason::busy);
}

TEST_F(ModePolicyTest, ABusyGuestWhoseEventsCostLittle) {
    delivery_bytes = 6000;
    EXPECT_FALSE(run(1h, 0, 100));
}

TEST_F(ModePolicyTest, ReturnsAfterItsTimeAndStays) {
    run(10s);
    ASSERT_EQ(run(60s, 30), DeltasReason::heals);
    const Duration took = until_change();
    EXPECT_GE(took, 9min);
    EXPECT_LE(took, 10min);
    EXPECT_FALSE(run(5h));
}

TEST_F(ModePolicyTest, DoesNotReturnWhileTheGuestDoesNotExit) {
    run(1s);
    ASSERT_EQ(run(60s, 0, 100), DeltasReason::busy);
    EXPECT_EQ(run(1h, 0, 100), DeltasReason::busy);
    EXPECT_LE(until_change(), 31s) << "it exits now";
}

TEST_F(ModePolicyTest, ReturnsThatFailAreFurtherApartUpToFourHours) {
    run(10s);
    run(60s, 30);
    ASSERT_EQ(policy.wait(), 10min);
    for (const Duration wait : {10min, 20min, 40min, 80min, 160min, 240min, 240min}) {
        EXPECT_EQ(policy.wait(), wait);
        until_change();    // it returns
        until_change(30);  // and differs at once
        ASSERT_TRUE(policy.mode());
    }
}

TEST_F(ModePolicyTest, AReturnThatLastedSetsTheWaitBack) {
    run(10s);
    run(60s, 30);
    until_change();
    until_change(30);
    ASSERT_EQ(policy.wait(), 20min);
    until_change();
    run(6min);
    until_change(30);
    EXPECT_EQ(policy.wait(), 10min);
}

TEST_F(ModePolicyTest, ASiteThatGoesLiveGoesOnInTheModeAndCountsFromThere) {
    policy.adopt(DeltasReason::backup_slow, now);
    figures.heals = 50;  // of this process, from when it was the backup
    EXPECT_EQ(run(5min), DeltasReason::backup_slow);
    EXPECT_LE(until_change(), 5min + 1s);
    policy.adopt(std::nullopt, now);
    EXPECT_FALSE(run(10s));
}

TEST_F(ModePolicyTest, AShortWaitNeedsNoWholeWindow) {
    policy = ModePolicy(4s);
    run(10s);
    ++figures.heals_given_up;
    run(1s);
    ASSERT_TRUE(policy.mode());
    EXPECT_LE(until_change(), 5s);
}

}  // namespace
}  // namespace antipode::control
