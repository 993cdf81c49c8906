// A wake is never lost, whenever it comes.
#include "replicator/replay/wakeup.h"

#include <gtest/gtest.h>
#include <thread>

namespace antipode::replay {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

TEST(WakeupTest, DoesNotSleepWhenThereIsSomethingToSee) {
    Wakeup wakeup;
    bool asked = false;
    wakeup.wait(std::nullopt, [&] { return asked = true; });
    EXPECT_TRUE(asked);
}

TEST(WakeupTest, EndsAtItsDeadline) {
    Wakeup wakeup;
    const Instant until = MonotonicClock::now() + milliseconds(5);
    wakeup.wait(until, [] { return false; });
    EXPECT_GE(MonotonicClock::now(), until);
    wakeup.wait(MonotonicClock::now() - seconds(1), [] { return false; });  // over already
}

TEST(WakeupTest, AnEarlierWakeIsNoWakeLater) {
    Wakeup wakeup;
    wakeup.wake();  // nobody waits: costs nothing and is not remembered; the queues are
    const Instant until = MonotonicClock::now() + milliseconds(5);
    wakeup.wait(until, [] { return false; });
    EXPECT_GE(MonotonicClock::now(), until);
}

// Two threads hand a number to and fro: one lost wake and they stand still for ever.
TEST(WakeupTest, NoWakeIsLost) {
    constexpr uint64_t kRounds = 20'000;
    Wakeup ping;
    Wakeup pong;
    std::atomic<uint64_t> value{0};
    std::thread other([&] {
        for (uint64_t odd = 1; odd < 2 * kRounds; odd += 2) {
            while (value.load(std::memory_order_acquire) != odd) {
                ping.wait(std::nullopt,
                          [&] { return value.load(std::memory_order_acquire) == odd; });
            }
            value.store(odd + 1, std::memory_order_release);
            pong.wake();
        }
    });
    for (uint64_t even = 0; even < 2 * kRounds; even += 2) {
        value.store(even + 1, std::memory_order_release);
        ping.wake();
        while (value.load(std::memory_order_acquire) != even + 2) {
            pong.wait(std::nullopt,
                      [&] { return value.load(std::memory_order_acquire) == even + 2; });
        }
    }
    other.join();
    EXPECT_EQ(value.load(), 2 * kRounds);
}

}  // namespace
}  // namespace antipode::replay
