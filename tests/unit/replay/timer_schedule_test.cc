// When ticks are due: periods, catching up, and what is dropped.
#include "replicator/replay/timer_schedule.h"

#include <gtest/gtest.h>

#include "replicator/vmm/layout.h"

namespace antipode::replay {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::seconds;
using Repeat = vmm::I8254::Repeat;

constexpr Instant kStart{seconds(1000)};
constexpr uint32_t kTicks = 11932;  // 100 Hz
constexpr Duration kPeriod = nanoseconds(uint64_t{kTicks} * 1'000'000'000 / vmm::layout::kPitHz);

class TimerScheduleTest : public testing::Test {
  protected:
    void program(Repeat repeat, uint32_t ticks, Instant now) {
        schedule_ = {repeat, ticks, schedule_.generation + 1};
        timer_.follow(schedule_, now);
    }
    // Delivers whatever is due, as the engine does: one at a time.
    int deliver_all(Instant now) {
        int count = 0;
        for (; timer_.due(now); ++count) timer_.delivered(now);
        return count;
    }

    TimerSchedule timer_;
    vmm::I8254::Schedule schedule_;
};

TEST_F(TimerScheduleTest, NothingIsDueBeforeAnythingIsProgrammed) {
    EXPECT_FALSE(timer_.due(kStart));
    EXPECT_FALSE(timer_.next());
    EXPECT_EQ(timer_.counter_ticks(kStart), 0u);
    program(Repeat::none, 0, kStart);
    EXPECT_FALSE(timer_.due(kStart + seconds(100)));
}

TEST_F(TimerScheduleTest, ThePeriodCountsFromTheProgramming) {
    program(Repeat::periodic, kTicks, kStart);
    EXPECT_EQ(timer_.next(), kStart + kPeriod);
    EXPECT_FALSE(timer_.due(kStart + kPeriod - nanoseconds(1)));
    EXPECT_TRUE(timer_.due(kStart + kPeriod));
    timer_.delivered(kStart + kPeriod);
    EXPECT_EQ(timer_.next(), kStart + 2 * kPeriod);
}

TEST_F(TimerScheduleTest, ALateTickDoesNotMoveTheNext) {
    program(Repeat::periodic, kTicks, kStart);
    const Instant late = kStart + kPeriod + milliseconds(3);
    EXPECT_TRUE(timer_.due(late));
    timer_.delivered(late);
    EXPECT_EQ(timer_.next(), kStart + 2 * kPeriod);
}

TEST_F(TimerScheduleTest, ATickIsOwedForEachPeriod) {
    program(Repeat::periodic, kTicks, kStart);
    EXPECT_EQ(deliver_all(kStart + 50 * kPeriod), 50);
    EXPECT_EQ(deliver_all(kStart + 50 * kPeriod), 0);
    EXPECT_EQ(timer_.dropped_count(), 0u);
}

TEST_F(TimerScheduleTest, MoreThanASecondBehindIsDroppedAndCounted) {
    program(Repeat::periodic, kTicks, kStart);
    const Instant now = kStart + 500 * kPeriod + kPeriod / 2;
    EXPECT_EQ(deliver_all(now), 2);  // the one that noticed, and the one of the last period
    EXPECT_EQ(timer_.dropped_count(), 498u);
    EXPECT_EQ(timer_.next(), kStart + 501 * kPeriod);  // the phase is kept
}

TEST_F(TimerScheduleTest, ASecondBehindIsStillCaughtUp) {
    program(Repeat::periodic, kTicks, kStart);
    const Instant now = kStart + kPeriod + TimerSchedule::kOwedMax;
    const auto owed = (now - kStart) / kPeriod;
    EXPECT_EQ(deliver_all(now), owed);
    EXPECT_EQ(timer_.dropped_count(), 0u);
}

TEST_F(TimerScheduleTest, OneShotIsDueOnce) {
    program(Repeat::once, kTicks, kStart);
    EXPECT_EQ(deliver_all(kStart + 10 * kPeriod), 1);
    EXPECT_FALSE(timer_.next());
}

TEST_F(TimerScheduleTest, FollowingTheSameProgrammingChangesNothing) {
    program(Repeat::periodic, kTicks, kStart);
    for (int i = 1; i < 100; ++i) timer_.follow(schedule_, kStart + i * (kPeriod / 100));
    EXPECT_EQ(timer_.next(), kStart + kPeriod);
}

TEST_F(TimerScheduleTest, ProgrammingAgainStartsAgain) {
    program(Repeat::periodic, kTicks, kStart);
    program(Repeat::periodic, kTicks, kStart + kPeriod / 2);
    EXPECT_EQ(timer_.next(), kStart + kPeriod + kPeriod / 2);
    program(Repeat::none, 0, kStart + kPeriod);
    EXPECT_FALSE(timer_.next());
}

TEST_F(TimerScheduleTest, AOneShotThatIsOverIsOver) {
    program(Repeat::once, kTicks, kStart);
    // The device ends by itself, without being programmed: the generation is the same.
    timer_.follow({Repeat::none, 0, schedule_.generation}, kStart + kPeriod);
    EXPECT_FALSE(timer_.next());
}

TEST_F(TimerScheduleTest, TheCounterCountsWithinThePeriod) {
    program(Repeat::periodic, kTicks, kStart);
    EXPECT_EQ(timer_.counter_ticks(kStart), 0u);
    EXPECT_EQ(timer_.counter_ticks(kStart + milliseconds(1)), vmm::layout::kPitHz / 1000);
    EXPECT_NEAR(static_cast<double>(timer_.counter_ticks(kStart + kPeriod)), kTicks, 1);
    // A tick that is owed: the counter has gone around.
    EXPECT_GT(timer_.counter_ticks(kStart + 3 * kPeriod), 2u * kTicks);
    EXPECT_EQ(deliver_all(kStart + 3 * kPeriod), 3);
    EXPECT_LT(timer_.counter_ticks(kStart + 3 * kPeriod), 2u);
}

TEST_F(TimerScheduleTest, TheClockMayStandBeforeTheProgramming) {
    program(Repeat::periodic, kTicks, kStart);
    EXPECT_EQ(timer_.counter_ticks(kStart - seconds(1)), 0u);
    EXPECT_FALSE(timer_.due(kStart - seconds(1)));
}

TEST_F(TimerScheduleTest, TheShortestAndTheLongestPeriod) {
    program(Repeat::periodic, 1, kStart);
    EXPECT_EQ(timer_.next(), kStart + nanoseconds(838));
    program(Repeat::periodic, 65536, kStart);
    EXPECT_EQ(timer_.next(), kStart + nanoseconds(54'925'401));
}

TEST_F(TimerScheduleTest, AnHourOfTheShortestPeriodIsDroppedAtOnce) {
    program(Repeat::periodic, 1, kStart);
    EXPECT_TRUE(timer_.due(kStart + seconds(3600)));
    timer_.delivered(kStart + seconds(3600));
    EXPECT_LE(deliver_all(kStart + seconds(3600)), 1);
    EXPECT_GT(timer_.dropped_count(), 4'000'000'000u);
}

}  // namespace
}  // namespace antipode::replay
