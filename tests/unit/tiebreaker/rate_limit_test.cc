#include "tiebreaker/rate_limit.h"

#include <gtest/gtest.h>

namespace antipode::tiebreaker {
namespace {

using std::chrono::milliseconds;

TEST(TokenBucket, GivesItsBurstThenItsRate) {
    Instant now{};
    TokenBucket bucket(10, 3, now);
    for (int i = 0; i < 3; ++i) EXPECT_TRUE(bucket.take(now));
    EXPECT_FALSE(bucket.take(now));
    EXPECT_EQ(bucket.wait(now), milliseconds(100));
    now += milliseconds(99);
    EXPECT_FALSE(bucket.take(now));
    now += milliseconds(1);
    EXPECT_TRUE(bucket.take(now));
    EXPECT_FALSE(bucket.take(now));
}

TEST(TokenBucket, WaitingAsLongAsItSaysIsEnough) {
    Instant now{};
    TokenBucket bucket(7, 1, now);
    for (int i = 0; i < 1000; ++i) {
        ASSERT_TRUE(bucket.take(now)) << i;
        now += bucket.wait(now);
    }
    EXPECT_NEAR(std::chrono::duration<double>(now - Instant{}).count(), 1000.0 / 7, 0.01);
}

TEST(TokenBucket, NeverHoldsMoreThanItsBurst) {
    Instant now{};
    TokenBucket bucket(1000, 5, now);
    now += std::chrono::hours(100);
    int taken = 0;
    while (bucket.take(now)) ++taken;
    EXPECT_EQ(taken, 5);
    EXPECT_FALSE(bucket.take(now - std::chrono::hours(1)));  // time that goes back gives nothing
}

}  // namespace
}  // namespace antipode::tiebreaker
