#include "replicator/control/stall_guard.h"

#include <gtest/gtest.h>

namespace antipode::control {
namespace {

using namespace std::chrono_literals;

class StallGuardTest : public testing::Test {
  protected:
    const Instant start_ = Instant(1h);
    StallGuard guard_{start_, 100ms};
};

TEST_F(StallGuardTest, ALoopThatTurnsMayAct) {
    for (auto after = 0ms; after < 1s; after += 90ms) {
        EXPECT_FALSE(guard_.turn(start_ + after));
        EXPECT_TRUE(guard_.may_act(start_ + after + 89ms));
    }
}

TEST_F(StallGuardTest, NobodyActsBeforeTheLoopHasNoticedTheGap) {
    EXPECT_TRUE(guard_.may_act(start_ + 99ms));
    EXPECT_FALSE(guard_.may_act(start_ + 100ms));
    EXPECT_TRUE(guard_.turn(start_ + 100ms));
    EXPECT_FALSE(guard_.may_act(start_ + 100ms)) << "the loop turns, but has no proof yet";
    EXPECT_FALSE(guard_.turn(start_ + 150ms)) << "one gap, one doubt";
    EXPECT_FALSE(guard_.may_act(start_ + 150ms)) << "turning on is no proof";
}

TEST_F(StallGuardTest, OnlyAnAnswerToWhatWasSentAfterTheGapIsAProof) {
    EXPECT_FALSE(guard_.proved(start_)) << "there was no doubt";
    guard_.turn(start_ + 3h);
    EXPECT_FALSE(guard_.proved(start_ + 3h - 1ns)) << "it was sent before";
    EXPECT_FALSE(guard_.may_act(start_ + 3h));
    EXPECT_TRUE(guard_.proved(start_ + 3h));
    EXPECT_TRUE(guard_.may_act(start_ + 3h));
    EXPECT_FALSE(guard_.proved(start_ + 3h)) << "it is proved";
}

TEST_F(StallGuardTest, ASecondGapAsksForAProofOfItsOwn) {
    guard_.turn(start_ + 1h);
    guard_.turn(start_ + 2h);
    EXPECT_FALSE(guard_.proved(start_ + 1h)) << "the answer was given before the second gap";
    EXPECT_TRUE(guard_.proved(start_ + 2h));
}

TEST_F(StallGuardTest, WhatLiesBeforeTheLoopBeganIsNoGap) {
    guard_.restart(start_ + 1h);
    EXPECT_FALSE(guard_.turn(start_ + 1h + 10ms));
    EXPECT_TRUE(guard_.may_act(start_ + 1h + 10ms));
}

}  // namespace
}  // namespace antipode::control
