#include "replicator/replay/engine_inbox.h"

#include <gtest/gtest.h>

namespace antipode::replay {
namespace {

class EngineInboxTest : public testing::Test {
  protected:
    uint64_t dropped() { return metrics_.counter("antipode_frames_dropped_total", "").value(); }

    Registry metrics_;
    Wakeup wakeup_;
    EngineInbox inbox_{wakeup_, 4, 2, metrics_};
};

TEST_F(EngineInboxTest, WhatHasComeIsTakenOnceAndInOrder) {
    EXPECT_FALSE(inbox_.any());
    EXPECT_TRUE(inbox_.push_console({std::byte{1}}));
    EXPECT_TRUE(inbox_.push_console({std::byte{2}}));
    EXPECT_TRUE(inbox_.push_control(VmControl::Kind::pause));
    inbox_.push_block({3, 7, vmm::BlockStatus::ok, {std::byte{9}}});
    EXPECT_TRUE(inbox_.any());
    const auto items = inbox_.take();
    ASSERT_EQ(items.consoles.size(), 2u);
    EXPECT_EQ(items.consoles[1].front(), std::byte{2});
    ASSERT_EQ(items.controls.size(), 1u);
    EXPECT_EQ(items.controls[0], VmControl::Kind::pause);
    ASSERT_EQ(items.blocks.size(), 1u);
    EXPECT_EQ(items.blocks[0].number, 7u);
    EXPECT_FALSE(inbox_.any());
    EXPECT_TRUE(inbox_.take().consoles.empty());
}

TEST_F(EngineInboxTest, WhatFindsNoRoomIsRefused) {
    for (int i = 0; i < 64; ++i) EXPECT_TRUE(inbox_.push_console({std::byte{1}}));
    EXPECT_FALSE(inbox_.push_console({std::byte{1}}));
    for (int i = 0; i < 16; ++i) EXPECT_TRUE(inbox_.push_control(VmControl::Kind::nmi));
    EXPECT_FALSE(inbox_.push_control(VmControl::Kind::nmi));
    // No request of the guest is ever lost.
    for (uint64_t i = 0; i < 1000; ++i) inbox_.push_block({0, i, vmm::BlockStatus::ok, {}});
    const auto items = inbox_.take();
    EXPECT_EQ(items.consoles.size(), 64u);
    EXPECT_EQ(items.controls.size(), 16u);
    EXPECT_EQ(items.blocks.size(), 1000u);
    EXPECT_TRUE(inbox_.push_console({std::byte{1}}));
    EXPECT_TRUE(inbox_.push_control(VmControl::Kind::nmi));
}

TEST_F(EngineInboxTest, FramesThatFindNoRoomAreCounted) {
    for (uint32_t i = 0; i < 4; ++i) EXPECT_TRUE(inbox_.push_frame(i, {std::byte{5}}));
    EXPECT_FALSE(inbox_.push_frame(4, {std::byte{5}}));
    EXPECT_EQ(dropped(), 1u);
    EXPECT_EQ(inbox_.frames.pop()->interface, 0u);
    inbox_.drop_frame();
    EXPECT_EQ(dropped(), 2u);
    EXPECT_TRUE(inbox_.push_frame(5, {}));
    EXPECT_FALSE(inbox_.any());  // frames and entries are looked at by themselves

    EXPECT_TRUE(inbox_.push_entry(LogIndex(1), {ExitNumber(1), Passed{}}));
    EXPECT_TRUE(inbox_.push_entry(LogIndex(2), {ExitNumber(1), Passed{}}));
    EXPECT_FALSE(inbox_.push_entry(LogIndex(3), {ExitNumber(1), Passed{}}));
    EXPECT_EQ(inbox_.entries.pop()->index, LogIndex(1));
    EXPECT_EQ(inbox_.entries.pop()->index, LogIndex(2));
}

}  // namespace
}  // namespace antipode::replay
