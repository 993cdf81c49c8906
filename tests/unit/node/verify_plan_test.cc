// What a verify compares, in which order, and what becomes of what differs.
#include "replicator/control/verify_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace antipode::control {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr uint64_t kChunk = VerifyAsk::kChunkBytes;
constexpr uint64_t kFast = uint64_t{1} << 40;

class VerifyPlanTest : public testing::Test {
  protected:
    void begin(std::vector<uint64_t> sizes, VerifyPlan::Repair repair = VerifyPlan::Repair::no,
               uint64_t rate = kFast) {
        plan_.emplace(std::move(sizes), repair, rate, 100, now_);
    }
    std::optional<VerifyBatch> next() {
        now_ += 1ms;
        return plan_->next(VerifyPlan::kWindowMax, now_);
    }
    VerifyPlan::Outcome compared(const VerifyBatch& batch, std::vector<uint32_t> differ = {}) {
        std::vector<bool> differs(batch.chunk_count);
        for (const uint32_t i : differ) differs[i] = true;
        return plan_->compared(batch.number, differs, now_);
    }

    Instant now_{1s};
    std::optional<VerifyPlan> plan_;
};

TEST_F(VerifyPlanTest, EveryChunkOfEveryDriveOnce) {
    begin({20 * kChunk, 0, kChunk / 2});
    std::vector<VerifyBatch> batches;
    while (const auto batch = next()) batches.push_back(*batch);
    EXPECT_THAT(batches, ElementsAre(VerifyBatch{101, VerifyPurpose::compare, {0, 0}, 16},
                                     VerifyBatch{102, VerifyPurpose::compare, {0, 16}, 4},
                                     VerifyBatch{103, VerifyPurpose::compare, {2, 0}, 1}));
    for (const auto& batch : batches) {
        EXPECT_FALSE(plan_->done());
        EXPECT_THAT(compared(batch).differ, IsEmpty());
    }
    EXPECT_TRUE(plan_->done());
    EXPECT_EQ(plan_->figures().compared_bytes, 20 * kChunk + kChunk / 2);
    EXPECT_EQ(plan_->figures().total_bytes, plan_->figures().compared_bytes);
}

TEST_F(VerifyPlanTest, NoDiskIsDoneAtOnce) {
    begin({});
    EXPECT_FALSE(next());
    EXPECT_TRUE(plan_->done());
    begin({0, 0});
    EXPECT_TRUE(plan_->done());
}

TEST_F(VerifyPlanTest, TheWindowAndTheRateBoundWhatIsOut) {
    begin({1000 * kChunk}, VerifyPlan::Repair::no, 16 * kChunk);  // a batch a second
    EXPECT_TRUE(plan_->next(4, now_));
    EXPECT_FALSE(plan_->next(4, now_ + 999ms));
    now_ += 1s;
    EXPECT_TRUE(plan_->next(4, now_));
    now_ += 1h;  // is not made up for
    EXPECT_TRUE(plan_->next(4, now_));
    EXPECT_FALSE(plan_->next(4, now_ + 1ms));
    EXPECT_FALSE(plan_->next(3, now_ + 1s));
    EXPECT_TRUE(plan_->next(4, now_ + 1s));
    EXPECT_FALSE(plan_->next(100, now_ + 1h));
}

TEST_F(VerifyPlanTest, WhatDiffersIsToldOnce) {
    begin({16 * kChunk});
    const auto batch = *next();
    const auto outcome = compared(batch, {3, 15});
    EXPECT_THAT(outcome.differ, ElementsAre(DriveChunk{0, 3}, DriveChunk{0, 15}));
    EXPECT_TRUE(plan_->done());
    EXPECT_EQ(plan_->figures().mismatches, 2u);
    EXPECT_THAT(compared(batch, {3}).differ, IsEmpty());  // an answer to nothing
    EXPECT_EQ(plan_->figures().mismatches, 2u);
}

TEST_F(VerifyPlanTest, ARepairComesBeforeTheWalkGoesOnAndIsLookedAt) {
    begin({40 * kChunk}, VerifyPlan::Repair::yes);
    const auto first = *next();
    (void)compared(first, {3});
    const auto repair = *next();
    EXPECT_EQ(repair, (VerifyBatch{102, VerifyPurpose::repair, {0, 3}, 1}));
    plan_->written(repair.number, now_);
    const auto again = *next();
    EXPECT_EQ(again, (VerifyBatch{103, VerifyPurpose::compare, {0, 3}, 1}));
    const auto outcome = compared(again);
    EXPECT_THAT(outcome.repaired, ElementsAre(DriveChunk{0, 3}));
    EXPECT_EQ(plan_->figures().repaired, 1u);
    EXPECT_EQ(plan_->figures().compared_bytes, 16 * kChunk);
    EXPECT_EQ(next()->first, (DriveChunk{0, 16}));
}

TEST_F(VerifyPlanTest, WhatCannotBeRepairedStaysAMismatch) {
    begin({kChunk}, VerifyPlan::Repair::yes);
    (void)compared(*next(), {0});
    for (int i = 0; i < VerifyPlan::kRepairsMax; ++i) {
        const auto repair = *next();
        ASSERT_EQ(repair.purpose, VerifyPurpose::repair);
        plan_->written(repair.number, now_);
        const auto outcome = compared(*next(), {0});
        EXPECT_THAT(outcome.differ, IsEmpty());
        EXPECT_THAT(outcome.repaired, IsEmpty());
    }
    EXPECT_TRUE(plan_->done());
    EXPECT_EQ(plan_->figures().mismatches, 1u);
    EXPECT_EQ(plan_->figures().repaired, 0u);
    begin({kChunk}, VerifyPlan::Repair::yes);
    (void)compared(*next(), {0});
    plan_->give_up(next()->number, now_);
    EXPECT_TRUE(plan_->done());
    EXPECT_EQ(plan_->figures().repaired, 0u);
}

TEST_F(VerifyPlanTest, WhatIsPutOffIsAskedAgainAndBeforeAnythingElse) {
    begin({40 * kChunk});
    const auto first = *next();
    plan_->put_off(first.number, "a heal", now_);
    EXPECT_FALSE(next());
    now_ += VerifyPlan::kLater;
    const auto again = *next();
    EXPECT_EQ(again.first, first.first);
    EXPECT_NE(again.number, first.number);
    EXPECT_EQ(plan_->figures().put_off, 1u);
    EXPECT_THAT(compared(first, {0}).differ, IsEmpty());  // too late
    EXPECT_EQ(plan_->figures().compared_bytes, 0u);
}

TEST_F(VerifyPlanTest, ItNeverEndsAsIfItHadComparedWhatItCouldNot) {
    begin({kChunk});
    const auto until = now_ + VerifyPlan::kPatience;
    while (now_ < until) {
        EXPECT_FALSE(plan_->failure(now_));
        if (const auto batch = next()) plan_->put_off(batch->number, "a drill runs", now_);
    }
    EXPECT_FALSE(plan_->done());
    EXPECT_THAT(*plan_->failure(now_), HasSubstr("a drill runs"));
}

TEST_F(VerifyPlanTest, NoTimePassesWhileItYields) {
    begin({kChunk});
    for (int i = 0; i < 100; ++i) plan_->yields(now_ += 1s);
    EXPECT_FALSE(plan_->failure(now_));
    ASSERT_TRUE(next());
    for (int i = 0; i < 100; ++i) plan_->yields(now_ += 1s);
    EXPECT_TRUE(plan_->failure(now_));
}

}  // namespace
}  // namespace antipode::control
