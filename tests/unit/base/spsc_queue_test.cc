#include "common/base/spsc_queue.h"

#include <cstdint>
#include <gtest/gtest.h>
#include <memory>
#include <thread>

namespace antipode {
namespace {

TEST(SpscQueue, FullQueueLeavesTheValue) {
    SpscQueue<std::unique_ptr<int>> queue(3);
    EXPECT_EQ(queue.capacity(), 4u);
    for (int i = 0; i < 4; ++i) EXPECT_TRUE(queue.push(std::make_unique<int>(i)));
    auto extra = std::make_unique<int>(9);
    EXPECT_FALSE(queue.push(std::move(extra)));
    ASSERT_NE(extra, nullptr);
    EXPECT_EQ(**queue.pop(), 0);
    EXPECT_TRUE(queue.push(std::move(extra)));
    EXPECT_EQ(queue.count(), 4u);
}

TEST(SpscQueue, KeepsOrderBetweenTwoThreads) {
    constexpr uint64_t kCount = 200'000;
    SpscQueue<uint64_t> queue(64);
    std::thread producer([&] {
        for (uint64_t i = 0; i < kCount; ++i) {
            uint64_t value = i;
            while (!queue.push(std::move(value))) std::this_thread::yield();
        }
    });
    for (uint64_t expected = 0; expected < kCount;) {
        const auto value = queue.pop();
        if (!value) {
            std::this_thread::yield();
            continue;
        }
        ASSERT_EQ(*value, expected);
        ++expected;
    }
    producer.join();
    EXPECT_TRUE(queue.empty());
}

}  // namespace
}  // namespace antipode
