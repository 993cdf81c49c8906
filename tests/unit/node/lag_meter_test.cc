#include "replicator/control/lag_meter.h"

#include <chrono>
#include <gtest/gtest.h>

namespace antipode::control {
namespace {

using std::chrono::milliseconds;

TEST(LagMeter, IsTheAgeOfTheOldestUnappliedBatch) {
    const Instant start{};
    LagMeter lag;
    EXPECT_EQ(lag.seconds(start, Duration::zero()), Duration::zero());
    lag.sent(LogIndex(10), start, start);
    lag.sent(LogIndex(20), start + milliseconds(100), start + milliseconds(105));
    EXPECT_EQ(lag.entries(), 20u);
    EXPECT_EQ(lag.seconds(start + milliseconds(150), milliseconds(20)), milliseconds(140));
    lag.applied(LogIndex(10));
    EXPECT_EQ(lag.seconds(start + milliseconds(150), milliseconds(20)), milliseconds(40));
    EXPECT_EQ(lag.since_sent(start + milliseconds(150), milliseconds(20)), milliseconds(35));
    lag.applied(LogIndex(5));  // an old report changes nothing
    EXPECT_EQ(lag.entries(), 10u);
    lag.applied(LogIndex(20));
    EXPECT_EQ(lag.seconds(start + milliseconds(150), milliseconds(20)), Duration::zero());
}

TEST(LagMeter, IsBoundedAndStaysRightAboutTheOldest) {
    const Instant start{};
    LagMeter lag;
    for (uint64_t i = 1; i <= 5 * LagMeter::kMarksMax; ++i) {
        lag.sent(LogIndex(i), start + milliseconds(i), start + milliseconds(i + 1));
    }
    EXPECT_EQ(lag.entries(), 5 * LagMeter::kMarksMax);
    const auto now = start + milliseconds(5 * LagMeter::kMarksMax);
    EXPECT_GE(lag.seconds(now, Duration::zero()), milliseconds(5 * LagMeter::kMarksMax - 64));
}

}  // namespace
}  // namespace antipode::control
