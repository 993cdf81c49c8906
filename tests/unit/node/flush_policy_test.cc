#include "replicator/control/flush_policy.h"

#include <chrono>
#include <gtest/gtest.h>

namespace antipode::control {
namespace {

using std::chrono::milliseconds;

class FlushPolicyTest : public testing::Test {
  protected:
    void add(replay::LogEntry::Body body, milliseconds at, Duration halted = {}) {
        policy_.added({ExitNumber(1), std::move(body)}, start_ + at, halted);
    }
    bool due(milliseconds at, Duration halted = {}) const {
        return policy_.due(start_ + at, halted);
    }

    const Instant start_ = Instant(std::chrono::seconds(100));
    FlushPolicy policy_;
};

TEST_F(FlushPolicyTest, NothingIsDueWhereNothingWaits) {
    EXPECT_FALSE(due(milliseconds(1'000'000)));
    EXPECT_FALSE(policy_.oldest());
    add(replay::FrameReceived{}, milliseconds(0));
    policy_.flushed();
    EXPECT_FALSE(due(milliseconds(1'000'000)));
}

TEST_F(FlushPolicyTest, TicksOfAHaltedGuestWaitForEachOther) {
    add(replay::TimerTick{}, milliseconds(0));
    add(replay::InputRead{vmm::InputKind::pm_timer, 1}, milliseconds(40), milliseconds(39));
    add(replay::DigestMark{}, milliseconds(80), milliseconds(78));
    EXPECT_EQ(policy_.oldest(), start_);
    EXPECT_EQ(policy_.deadline(), start_ + FlushPolicy::kIdleDelay);
    EXPECT_FALSE(due(milliseconds(99), milliseconds(95)));
    EXPECT_TRUE(due(milliseconds(100), milliseconds(95)));
}

// What the backup will have to execute is bounded, however few entries there are.
TEST_F(FlushPolicyTest, AGuestThatRunsIsNotKeptWaiting) {
    add(replay::TimerTick{}, milliseconds(0), milliseconds(500));
    EXPECT_FALSE(due(milliseconds(19), milliseconds(500)));
    EXPECT_TRUE(due(milliseconds(20), milliseconds(500)));
    EXPECT_FALSE(due(milliseconds(20), milliseconds(501)));
}

TEST_F(FlushPolicyTest, WhatComesFromOutsideLeavesSoon) {
    const auto waits = [](replay::LogEntry::Body body) {
        return FlushPolicy::may_wait({ExitNumber(1), std::move(body)});
    };
    EXPECT_FALSE(waits(replay::FrameReceived{}));
    EXPECT_FALSE(waits(replay::BlockDone{}));
    EXPECT_FALSE(waits(replay::ConsoleInput{}));
    EXPECT_FALSE(waits(replay::VmControl{}));
    EXPECT_FALSE(waits(replay::DeltaState{}));
    EXPECT_FALSE(waits(replay::OutputMark{}));
    add(replay::TimerTick{}, milliseconds(0));
    add(replay::BlockDone{}, milliseconds(30), milliseconds(30));
    EXPECT_EQ(policy_.deadline(), start_ + milliseconds(30) + FlushPolicy::kLivelyDelay);
    add(replay::BlockDone{}, milliseconds(31), milliseconds(31));  // the first one's delay stays
    EXPECT_TRUE(due(milliseconds(32), milliseconds(32)));
}

TEST_F(FlushPolicyTest, ABatchThatHasGrownLeaves) {
    replay::DeltaPages pages;
    pages.pages.push_back({1, std::vector<std::byte>(4096)});
    int count = 0;
    while (!due(milliseconds(1), milliseconds(1)) && count < 100) {
        add(pages, milliseconds(0));
        ++count;
    }
    EXPECT_EQ(count, 8);
}

}  // namespace
}  // namespace antipode::control
