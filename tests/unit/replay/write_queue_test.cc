// Writes that a log asks for reach the disk in an order that gives the bytes the primary has.
#include "replicator/replay/write_queue.h"

#include <gtest/gtest.h>

namespace antipode::replay {
namespace {

using namespace std::chrono_literals;
using vmm::BlockOperation;
using vmm::BlockStatus;

class WriteQueueTest : public testing::Test, public DiskPort {
  protected:
    void submit(vmm::BlockRequest&& request) override { disk.push_back(std::move(request)); }

    void add(uint64_t number, uint64_t offset, uint64_t length,
             BlockOperation operation = BlockOperation::write) {
        queue.add({0, number, operation, offset, length, std::vector<std::byte>(length)});
    }
    WriteQueue::End end(uint64_t number, BlockStatus status = BlockStatus::ok) {
        return queue.ended({0, number, status, {}}, now);
    }
    std::vector<uint64_t> submitted() {
        queue.start(now);
        std::vector<uint64_t> numbers;
        for (const auto& each : disk) numbers.push_back(each.number);
        disk.clear();
        return numbers;
    }

    Instant now{};
    std::vector<vmm::BlockRequest> disk;
    WriteQueue queue{*this};
};

using Numbers = std::vector<uint64_t>;

TEST_F(WriteQueueTest, WhatDoesNotOverlapGoesTogether) {
    add(1, 0, 512);
    add(2, 512, 512);
    EXPECT_EQ(queue.waiting_bytes(), 1024u);
    EXPECT_EQ(submitted(), (Numbers{1, 2}));
    EXPECT_EQ(queue.waiting_bytes(), 0u);
    EXPECT_TRUE(queue.pending());
    EXPECT_EQ(end(2), WriteQueue::End::done);
    EXPECT_EQ(end(1), WriteQueue::End::done);
    EXPECT_FALSE(queue.pending());
}

TEST_F(WriteQueueTest, WhatOverlapsGoesInItsOrder) {
    add(1, 0, 1024);
    add(2, 512, 512);
    add(3, 4096, 512);  // it does not overtake
    EXPECT_EQ(submitted(), (Numbers{1}));
    EXPECT_EQ(submitted(), (Numbers{}));
    EXPECT_EQ(end(1), WriteQueue::End::done);
    EXPECT_EQ(submitted(), (Numbers{2, 3}));
}

TEST_F(WriteQueueTest, AFlushComesBehindWhatWasBeforeIt) {
    add(1, 0, 512);
    add(2, 0, 0, BlockOperation::flush);
    EXPECT_EQ(submitted(), (Numbers{1}));
    EXPECT_EQ(end(1), WriteQueue::End::done);
    EXPECT_EQ(submitted(), (Numbers{2}));
}

TEST_F(WriteQueueTest, AFailedWriteIsTriedAgainUntilItIsDone) {
    add(1, 0, 512);
    EXPECT_EQ(submitted(), (Numbers{1}));
    EXPECT_EQ(end(1, BlockStatus::io_error), WriteQueue::End::failed);
    EXPECT_TRUE(queue.pending());
    ASSERT_TRUE(queue.next_retry());
    EXPECT_EQ(submitted(), (Numbers{}));
    now = *queue.next_retry();
    EXPECT_EQ(submitted(), (Numbers{1}));
    EXPECT_EQ(end(1), WriteQueue::End::done);
    EXPECT_FALSE(queue.pending());
    EXPECT_FALSE(queue.next_retry());
}

TEST_F(WriteQueueTest, WhatIsExpectedIsWaitedFor) {
    queue.expect({0, 7, BlockOperation::read, 0, 512, {}});
    add(1, 0, 512);
    EXPECT_EQ(submitted(), (Numbers{}));
    EXPECT_EQ(end(8), WriteQueue::End::other);
    EXPECT_EQ(end(7, BlockStatus::io_error), WriteQueue::End::done) << "a read's end is enough";
    EXPECT_EQ(submitted(), (Numbers{1}));
    queue.forget();
    EXPECT_FALSE(queue.pending());
}

}  // namespace
}  // namespace antipode::replay
