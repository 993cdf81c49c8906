#include "replicator/replay/interval_controller.h"

#include <gtest/gtest.h>

namespace antipode::replay {
namespace {

using namespace std::chrono_literals;
using Bound = IntervalController::Bound;
using Waiting = IntervalController::Waiting;

IntervalSettings settings(uint64_t bandwidth = 0) {
    IntervalSettings settings;
    settings.shortest = 2ms;
    settings.longest = 100ms;
    settings.pause_share_max = 0.1;
    settings.bandwidth_bytes_per_second = bandwidth;
    return settings;
}

TEST(IntervalControllerTest, IsShortWhereCheckpointsAreCheap) {
    IntervalController controller(settings());
    for (int i = 0; i < 10; ++i) controller.taken(100us, 1 << 20);
    EXPECT_EQ(controller.interval(), 2ms);
    EXPECT_EQ(controller.bound(), Bound::shortest);
}

TEST(IntervalControllerTest, KeepsTheShareOfThePause) {
    IntervalController controller(settings());
    controller.taken(3ms, 0);
    EXPECT_EQ(controller.interval(), 30ms);
    EXPECT_EQ(controller.bound(), Bound::pause);
}

TEST(IntervalControllerTest, KeepsTheBandwidth) {
    IntervalController controller(settings(10'000'000));
    controller.taken(100us, 500'000);
    EXPECT_EQ(controller.interval(), 50ms);
    EXPECT_EQ(controller.bound(), Bound::bandwidth);
}

TEST(IntervalControllerTest, TheOutputDelayIsTheEnd) {
    IntervalController controller(settings(10'000'000));
    controller.taken(100us, 500'000'000);
    EXPECT_EQ(controller.interval(), 100ms);
    EXPECT_EQ(controller.bound(), Bound::longest);
    controller.taken(Duration::max(), UINT64_MAX);
    EXPECT_EQ(controller.interval(), 100ms);
    EXPECT_EQ(controller.bound(), Bound::longest);
}

TEST(IntervalControllerTest, GrowsAtOnceAndShrinksSlowly) {
    IntervalController controller(settings());
    controller.taken(8ms, 0);
    EXPECT_EQ(controller.interval(), 80ms);
    controller.taken(100us, 0);
    EXPECT_EQ(controller.interval(), 80ms - 9750us);
    EXPECT_EQ(controller.bound(), Bound::pause);
    for (int i = 0; i < 400; ++i) {
        const Duration before = controller.interval();
        controller.taken(100us, 0);
        ASSERT_LE(controller.interval(), before);
    }
    EXPECT_EQ(controller.interval(), 2ms);
    EXPECT_EQ(controller.bound(), Bound::shortest);
}

TEST(IntervalControllerTest, NobodyWaitingMeansNoHurry) {
    IntervalController controller(settings());
    const Instant last(1s);
    EXPECT_EQ(controller.due(last, Waiting::something), last + 2ms);
    EXPECT_EQ(controller.due(last, Waiting::nothing), last + 100ms);
    controller.taken(5ms, 0);
    EXPECT_EQ(controller.due(last, Waiting::something), last + 50ms);
    EXPECT_EQ(controller.due(last, Waiting::nothing), last + 100ms);
}

}  // namespace
}  // namespace antipode::replay
