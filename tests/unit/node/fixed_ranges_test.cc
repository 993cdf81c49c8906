// Where a range of a disk may be read as it is behind a point of the execution.
#include "replicator/control/fixed_ranges.h"

#include <gtest/gtest.h>

namespace antipode::control {
namespace {

constexpr DiskRange kRange{4096, 4096};
constexpr DiskRange kBeside{8192, 4096};

class FixedRangesTest : public testing::Test {
  protected:
    std::optional<FixedRanges::Fix> fix(std::optional<DiskPoint> at, uint64_t exit,
                                        const DiskRange& range = kRange) {
        auto fixed = ranges_.add(range, at, exit, [this] { ++settled_; });
        if (!fixed) return std::nullopt;
        return *fixed;
    }
    int look(uint64_t exit, bool busy = false) {
        for (const auto& settled : ranges_.take_settled(
                 exit, [busy](const DiskRange&, const DiskPoint&) { return busy; })) {
            settled();
        }
        return settled_;
    }

    FixedRanges ranges_;
    int settled_ = 0;
};

TEST_F(FixedRangesTest, APlaceIsAnExitAndACount) {
    EXPECT_EQ(ranges_.asked(7), (DiskPoint{7, 1}));
    EXPECT_EQ(ranges_.asked(7), (DiskPoint{7, 2}));
    EXPECT_EQ(ranges_.now(7), (DiskPoint{7, 2}));
    EXPECT_EQ(ranges_.now(8), (DiskPoint{8, 0}));
    EXPECT_EQ(ranges_.asked(9), (DiskPoint{9, 1}));
}

TEST_F(FixedRangesTest, WhatComesBehindThePointAndMeetsTheRangeIsHeld) {
    (void)ranges_.asked(7);
    const auto fixed = fix(std::nullopt, 7);
    ASSERT_TRUE(fixed);
    EXPECT_EQ(fixed->point, (DiskPoint{7, 1}));
    EXPECT_TRUE(ranges_.holds(kRange, ranges_.asked(7)));
    EXPECT_TRUE(ranges_.holds({4096 + 4095, 1}, ranges_.asked(8)));
    EXPECT_TRUE(ranges_.holds({0, 4097}, ranges_.asked(8)));
    EXPECT_FALSE(ranges_.holds({0, 4096}, ranges_.asked(8)));
    EXPECT_FALSE(ranges_.holds(kBeside, ranges_.asked(8)));
    ranges_.remove(fixed->id);
    EXPECT_FALSE(ranges_.holds(kRange, ranges_.asked(8)));
}

TEST_F(FixedRangesTest, WhatComesBeforeThePointPasses) {
    const auto fixed = fix(DiskPoint{9, 1}, 7);
    ASSERT_TRUE(fixed);
    EXPECT_FALSE(ranges_.holds(kRange, ranges_.asked(8)));
    EXPECT_EQ(look(8), 0);
    EXPECT_EQ(look(9), 0);
    EXPECT_FALSE(ranges_.holds(kRange, ranges_.asked(9)));
    EXPECT_EQ(look(9, true), 0);  // it has not landed
    EXPECT_EQ(look(9), 1);
    EXPECT_TRUE(ranges_.holds(kRange, ranges_.asked(9)));
    EXPECT_EQ(look(10), 1);  // told once
}

TEST_F(FixedRangesTest, AnExitThatIsLeftHasAskedForAllItHad) {
    const auto first = fix(DiskPoint{9, 0}, 7);
    ASSERT_TRUE(first);
    EXPECT_EQ(look(8), 0);
    EXPECT_EQ(look(9), 1);
    ranges_.remove(first->id);
    ASSERT_TRUE(fix(DiskPoint{12, 3}, 9));
    EXPECT_EQ(look(12), 1);
    EXPECT_EQ(look(13), 2);
}

TEST_F(FixedRangesTest, APointThatIsOverIsRefused) {
    (void)ranges_.asked(7);
    (void)ranges_.asked(7);
    EXPECT_FALSE(fix(DiskPoint{7, 1}, 7));
    EXPECT_FALSE(fix(DiskPoint{7, 2}, 8));
    EXPECT_TRUE(fix(DiskPoint{7, 2}, 7));
    EXPECT_EQ(look(7), 1);
}

TEST_F(FixedRangesTest, NothingIsSettledThereWhileAWriteIsTriedAgain) {
    (void)ranges_.asked(7);
    ranges_.ended(1, FixedRanges::Effect::changes, true);
    ASSERT_TRUE(fix(DiskPoint{7, 1}, 7));
    EXPECT_EQ(look(8), 0);
    ranges_.ended(1, FixedRanges::Effect::changes, false);
    EXPECT_EQ(look(8), 1);
    ranges_.ended(2, FixedRanges::Effect::none, true);  // a read
    ASSERT_TRUE(fix(DiskPoint{9, 0}, 8, kBeside));
    EXPECT_EQ(look(9), 2);
    // Where it is recorded the guest was told of the failure.
    ranges_.ended(3, FixedRanges::Effect::changes, true);
    ASSERT_TRUE(fix(std::nullopt, 9, {0, 4096}));
    EXPECT_EQ(look(9), 3);
}

TEST_F(FixedRangesTest, OneAtATimeHasARange) {
    const auto first = fix(DiskPoint{9, 0}, 9);
    const auto second = fix(DiskPoint{9, 0}, 9, {0, 4097});
    ASSERT_TRUE(first && second);
    ASSERT_TRUE(fix(DiskPoint{9, 0}, 9, kBeside));
    EXPECT_EQ(look(9), 2);  // the first, and the one beside
    EXPECT_EQ(look(9), 2);
    ranges_.remove(first->id);
    EXPECT_EQ(look(9), 3);
}

TEST_F(FixedRangesTest, ACountBeginsAnewWithTheExits) {
    (void)ranges_.asked(0);
    ranges_.ended(1, FixedRanges::Effect::changes, true);
    ranges_.restart();
    EXPECT_EQ(ranges_.now(0), (DiskPoint{0, 0}));
    ASSERT_TRUE(fix(DiskPoint{0, 0}, 0));
    EXPECT_EQ(look(0), 1);
}

}  // namespace
}  // namespace antipode::control
