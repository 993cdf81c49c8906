// Turns of the clock: how much of it a share is, and that all take them at once.
#include "replicator/checkpoint/duty_cycle.h"

#include <gtest/gtest.h>

namespace antipode::checkpoint {
namespace {

constexpr Duration kStep = std::chrono::microseconds(10);

// How long a vCPU runs in one period, if it does as it is told from `begin` on.
Duration runs(uint32_t share_permille, Instant begin) {
    Duration total{};
    for (Instant now = begin; now < begin + DutyCycle::kPeriod;) {
        const Duration left = DutyCycle::may_run(now, share_permille);
        if (left == Duration::zero()) {
            now = std::min(DutyCycle::next_turn(now), begin + DutyCycle::kPeriod);
            continue;
        }
        const Duration ran = std::min(left, begin + DutyCycle::kPeriod - now);
        total += ran;
        now += ran;
    }
    return total;
}

TEST(DutyCycle, AShareIsThatPartOfAPeriodWhereverItBegins) {
    for (const uint32_t share : {1u, 20u, 333u, 500u, 999u, 1000u}) {
        for (Duration at{}; at < DutyCycle::kPeriod; at += std::chrono::milliseconds(3)) {
            EXPECT_EQ(runs(share, Instant(at)), DutyCycle::kPeriod * share / DutyCycle::kWhole)
                << share << " " << at.count();
        }
    }
}

TEST(DutyCycle, TheWholeNeverRests) {
    for (Duration at{}; at < 2 * DutyCycle::kPeriod; at += kStep) {
        EXPECT_GT(DutyCycle::may_run(Instant(at), DutyCycle::kWhole), Duration::zero());
    }
}

TEST(DutyCycle, WhoRestsDoesSoUntilTheNextTurnOfAll) {
    for (Duration at{}; at < 2 * DutyCycle::kPeriod; at += kStep) {
        const Instant next = DutyCycle::next_turn(Instant(at));
        EXPECT_GT(next, Instant(at));
        EXPECT_EQ(next.time_since_epoch() % DutyCycle::kPeriod, Duration::zero());
        EXPECT_GT(DutyCycle::may_run(next, 1), Duration::zero());
    }
}

}  // namespace
}  // namespace antipode::checkpoint
