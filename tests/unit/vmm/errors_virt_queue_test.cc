// A guest that breaks the rules of the queue: each one is named, and the queue is bad from then on.
#include <array>
#include <gtest/gtest.h>

#include "replicator/vmm/devices/virtio/queue.h"
#include "tests/unit/vmm/guest_ring.h"

namespace antipode::vmm {
namespace {

constexpr uint64_t kRam = 16 << 20;
constexpr uint64_t kBuffers = 0x40000;
constexpr uint64_t kTable = 0x30000;

class ErrorsVirtQueueTest : public testing::Test {
  protected:
    ErrorsVirtQueueTest() { set_addresses(); }
    void set_addresses() {
        queue_.size = ring_.size();
        queue_.descriptors = ring_.descriptors();
        queue_.available = ring_.available();
        queue_.used = ring_.used();
    }
    std::string enable_problem() {
        VirtQueue queue = queue_;
        return queue.enable(memory_) ? "" : queue.bad_reason();
    }
    // What is said to the chain at descriptor `head`.
    std::string pop_problem(uint16_t head = 0) {
        VirtQueue queue = queue_;
        EXPECT_TRUE(queue.enable(memory_));
        ring_.set_available_index(0);
        ring_.offer(head);
        const auto chain = queue.pop(memory_);
        EXPECT_EQ(chain.has_value(), !queue.bad());
        if (chain) return "";
        EXPECT_FALSE(queue.ready);
        EXPECT_FALSE(queue.pop(memory_));
        EXPECT_FALSE(queue.has_available(memory_));
        EXPECT_FALSE(queue.push_used(memory_, 0, 0));
        return queue.bad_reason();
    }

    GuestMemory memory_ = test_memory(kRam);
    GuestRing ring_{memory_, 0x10000, 8};
    VirtQueue queue_;
};

TEST_F(ErrorsVirtQueueTest, SizeIsNotAPowerOfTwoInRange) {
    for (const uint16_t size :
         std::initializer_list<uint16_t>{0, 3, 6, 7, 255, 257, 384, 512, 32768, 65535}) {
        queue_.size = size;
        EXPECT_EQ(enable_problem(), "queue size is not a power of two from 1 to 256") << size;
    }
    for (const uint16_t size : std::initializer_list<uint16_t>{1, 2, 4, 128, 256}) {
        queue_.size = size;
        EXPECT_EQ(enable_problem(), "") << size;
    }
}

TEST_F(ErrorsVirtQueueTest, AddressesAreMisaligned) {
    for (const uint64_t off : std::initializer_list<uint64_t>{1, 2, 4, 8, 15}) {
        set_addresses();
        queue_.descriptors += off;
        EXPECT_EQ(enable_problem(), "queue address is misaligned") << off;
    }
    set_addresses();
    queue_.available += 1;
    EXPECT_EQ(enable_problem(), "queue address is misaligned");
    for (const uint64_t off : std::initializer_list<uint64_t>{1, 2, 3}) {
        set_addresses();
        queue_.used += off;
        EXPECT_EQ(enable_problem(), "queue address is misaligned") << off;
    }
}

TEST_F(ErrorsVirtQueueTest, RingsAreOutsideMemory) {
    for (const uint64_t at :
         {kRam, kRam - 16, uint64_t{0xd0000000}, uint64_t{1} << 40, UINT64_MAX & ~uint64_t{15}}) {
        set_addresses();
        queue_.descriptors = at;
        EXPECT_EQ(enable_problem(), "descriptor table is outside memory") << at;
        set_addresses();
        queue_.available = at;
        EXPECT_EQ(enable_problem(), "available ring is outside memory") << at;
        set_addresses();
        queue_.used = at;
        EXPECT_EQ(enable_problem(), "used ring is outside memory") << at;
    }
    set_addresses();
    queue_.descriptors = kRam - 8 * 16;  // just fits
    EXPECT_EQ(enable_problem(), "");
}

TEST_F(ErrorsVirtQueueTest, HeadIsOutsideTheTable) {
    for (const uint16_t head : std::initializer_list<uint16_t>{8, 9, 255, 65535}) {
        EXPECT_EQ(pop_problem(head), "descriptor index is outside the table") << head;
    }
}

TEST_F(ErrorsVirtQueueTest, NextIsOutsideTheTable) {
    ring_.set(0, {kBuffers, 16, kNext, 8});
    EXPECT_EQ(pop_problem(), "descriptor index is outside the table");
}

TEST_F(ErrorsVirtQueueTest, ChainIsALoop) {
    ring_.set(0, {kBuffers, 0, kNext, 0});
    EXPECT_EQ(pop_problem(), "descriptor chain is a loop");
    for (uint16_t i = 0; i < 8; ++i) {
        ring_.set(i, {kBuffers, 16, kNext, static_cast<uint16_t>((i + 1) % 8)});
    }
    EXPECT_EQ(pop_problem(), "descriptor chain is a loop");
    ring_.set(7, {kBuffers, 16, 0, 0});  // all eight, once each, is none
    EXPECT_EQ(pop_problem(), "");
}

TEST_F(ErrorsVirtQueueTest, BufferIsOutsideMemory) {
    const std::array<std::pair<uint64_t, uint32_t>, 6> bad{{{kRam, 1},
                                                            {kRam - 1, 2},
                                                            {kRam, 0},
                                                            {0, 0xffffffff},
                                                            {UINT64_MAX, 1},
                                                            {UINT64_MAX - 3, 16}}};
    for (const auto& [at, bytes] : bad) {
        for (const uint16_t flags : std::initializer_list<uint16_t>{uint16_t{0}, kWrite}) {
            ring_.set(0, {at, bytes, flags, 0});
            EXPECT_EQ(pop_problem(), "descriptor names a buffer outside memory")
                << at << " " << bytes;
        }
    }
}

TEST_F(ErrorsVirtQueueTest, ReadableAfterWritable) {
    ring_.chain(0, {{kBuffers, 16, 0, 0}, {kBuffers, 1, kWrite, 0}, {kBuffers, 1, 0, 0}});
    EXPECT_EQ(pop_problem(), "readable descriptor after a writable one");
}

TEST_F(ErrorsVirtQueueTest, ChainIsLongerThanAnyRequest) {
    const uint32_t half = VirtQueue::kChainBytesMax / 2;
    ring_.chain(0, {{0, half, 0, 0}, {0, half, kWrite, 0}});
    EXPECT_EQ(pop_problem(), "");
    ring_.chain(0, {{0, half, 0, 0}, {0, half, kWrite, 0}, {0, 1, kWrite, 0}});
    EXPECT_EQ(pop_problem(), "descriptor chain is longer than 8 MiB");
}

TEST_F(ErrorsVirtQueueTest, IndirectInsideIndirect) {
    ring_.put_descriptor(kTable, 0, {kTable, 16, kIndirect, 0});
    ring_.set(0, {kTable, 16, kIndirect, 0});
    EXPECT_EQ(pop_problem(), "indirect descriptor inside an indirect table");
}

TEST_F(ErrorsVirtQueueTest, IndirectIsNotTheLast) {
    ring_.set(0, {kTable, 16, kIndirect | kNext, 1});
    EXPECT_EQ(pop_problem(), "indirect descriptor is not the last of its chain");
}

TEST_F(ErrorsVirtQueueTest, IndirectTableHasABadLength) {
    for (const uint32_t bytes :
         std::initializer_list<uint32_t>{0u, 1u, 15u, 17u, 257u * 16u, 0xfffffff0u, 0xffffffffu}) {
        ring_.set(0, {kTable, bytes, kIndirect, 0});
        EXPECT_EQ(pop_problem(), "indirect table has a bad length") << bytes;
    }
}

TEST_F(ErrorsVirtQueueTest, IndirectTableIsOutsideMemory) {
    for (const uint64_t at : std::initializer_list<uint64_t>{kRam, kRam - 8, UINT64_MAX - 7,
                                                             uint64_t{0xfffffffffffffff8}}) {
        ring_.set(0, {at, 16, kIndirect, 0});
        EXPECT_EQ(pop_problem(), "descriptor is outside memory") << at;
    }
}

TEST_F(ErrorsVirtQueueTest, IndirectTableWrapsTheAddressSpace) {
    ring_.set(0, {UINT64_MAX - 15, 2 * 16, kIndirect, 0});
    ring_.put_descriptor(0, 0, {kBuffers, 16, 0, 0});  // where the second entry would be
    EXPECT_EQ(pop_problem(), "descriptor is outside memory");
}

TEST_F(ErrorsVirtQueueTest, IndirectChainIsALoopOrLeavesItsTable) {
    ring_.set(0, {kTable, 2 * 16, kIndirect, 0});
    ring_.put_descriptor(kTable, 0, {kBuffers, 1, kNext, 1});
    ring_.put_descriptor(kTable, 1, {kBuffers, 1, kNext, 0});
    EXPECT_EQ(pop_problem(), "descriptor chain is a loop");
    ring_.put_descriptor(kTable, 1, {kBuffers, 1, kNext, 2});
    EXPECT_EQ(pop_problem(), "descriptor index is outside the table");
}

TEST_F(ErrorsVirtQueueTest, AvailableIndexJumps) {
    for (const uint16_t index : std::initializer_list<uint16_t>{9, 100, 32768, 65535}) {
        VirtQueue queue = queue_;
        ASSERT_TRUE(queue.enable(memory_));
        ring_.set_available_index(index);
        EXPECT_FALSE(queue.pop(memory_));
        EXPECT_STREQ(queue.bad_reason(), "available index jumped past the queue size") << index;
    }
}

TEST_F(ErrorsVirtQueueTest, AvailableIndexGoesBack) {
    ASSERT_TRUE(queue_.enable(memory_));
    ring_.chain(0, {{kBuffers, 16, 0, 0}});
    ring_.offer(0);
    ring_.offer(0);
    ASSERT_TRUE(queue_.pop(memory_));
    ASSERT_TRUE(queue_.pop(memory_));
    ring_.set_available_index(1);
    EXPECT_FALSE(queue_.pop(memory_));
    EXPECT_STREQ(queue_.bad_reason(), "available index jumped past the queue size");
}

TEST_F(ErrorsVirtQueueTest, MoreChainsThanDescriptors) {
    ASSERT_TRUE(queue_.enable(memory_));
    ring_.chain(0, {{kBuffers, 16, 0, 0}});
    for (int i = 0; i < 8; ++i) {
        ring_.offer(0);
        ASSERT_TRUE(queue_.pop(memory_)) << i;
    }
    ring_.offer(0);  // nothing was given back yet
    EXPECT_FALSE(queue_.pop(memory_));
    EXPECT_STREQ(queue_.bad_reason(), "available index jumped past the queue size");
}

// The rings may lie on each other and on the buffers: nothing is believed twice.
TEST_F(ErrorsVirtQueueTest, RingsOverlap) {
    queue_.used = queue_.available;  // used index and available index are one
    queue_.used &= ~uint64_t{3};
    ASSERT_TRUE(queue_.enable(memory_));
    ring_.chain(0, {{kBuffers, 16, 0, 0}});
    ring_.offer(0);
    int count = 0;
    while (auto chain = queue_.pop(memory_)) {
        (void)queue_.push_used(memory_, chain->head, 0xffffffff);
        ASSERT_LT(++count, 65536);
    }
}

TEST_F(ErrorsVirtQueueTest, ADescriptorTableThatDescribesItself) {
    ring_.chain(0, {{ring_.descriptors(), 8 * 16, 0, 0}, {ring_.descriptors(), 8 * 16, kWrite, 0}});
    ASSERT_TRUE(queue_.enable(memory_));
    ring_.offer(0);
    const auto chain = queue_.pop(memory_);
    ASSERT_TRUE(chain);
    std::vector<std::byte> data(8 * 16, std::byte{0xff});
    scatter(memory_, chain->writable, data);  // the chain was taken before: it does not change
    EXPECT_EQ(chain->writable[0].at.value(), ring_.descriptors());
    (void)queue_.push_used(memory_, 0, 1);
    ring_.offer(0);
    EXPECT_FALSE(queue_.pop(memory_));
    EXPECT_TRUE(queue_.bad());
}

}  // namespace
}  // namespace antipode::vmm
