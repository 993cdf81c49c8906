// The queue's happy ways: chains as the specification allows them, and the state that survives.
#include <array>
#include <gtest/gtest.h>

#include "replicator/vmm/devices/virtio/queue.h"
#include "tests/unit/vmm/guest_ring.h"
#include "tests/unit/vmm/saved_state.h"

namespace antipode::vmm {
namespace {

constexpr uint64_t kRam = 1 << 20;
constexpr uint64_t kBuffers = 0x40000;

class VirtQueueTest : public testing::Test {
  protected:
    void enable() {
        queue_.size = ring_.size();
        queue_.descriptors = ring_.descriptors();
        queue_.available = ring_.available();
        queue_.used = ring_.used();
        ASSERT_TRUE(queue_.enable(memory_)) << queue_.bad_reason();
    }

    GuestMemory memory_ = test_memory(kRam);
    GuestRing ring_{memory_, 0x10000, 8};
    VirtQueue queue_;
};

TEST_F(VirtQueueTest, AQueueThatIsNotReadyIsSilent) {
    EXPECT_FALSE(queue_.has_available(memory_));
    EXPECT_FALSE(queue_.pop(memory_));
    EXPECT_FALSE(queue_.push_used(memory_, 0, 0));
    EXPECT_FALSE(queue_.bad());
}

TEST_F(VirtQueueTest, AChainComesWithItsPartsInOrder) {
    enable();
    ring_.chain(2, {{kBuffers, 16, 0, 0},
                    {kBuffers + 0x1000, 512, 0, 0},
                    {kBuffers + 0x2000, 100, kWrite, 0},
                    {kBuffers + 0x3000, 1, kWrite, 0}});
    EXPECT_FALSE(queue_.pop(memory_));
    ring_.offer(2);
    EXPECT_TRUE(queue_.has_available(memory_));
    const auto chain = queue_.pop(memory_);
    ASSERT_TRUE(chain);
    EXPECT_EQ(chain->head, 2);
    EXPECT_EQ(chain->readable_bytes, 528u);
    EXPECT_EQ(chain->writable_bytes, 101u);
    ASSERT_EQ(chain->readable.size(), 2u);
    ASSERT_EQ(chain->writable.size(), 2u);
    EXPECT_EQ(chain->readable[1].at.value(), kBuffers + 0x1000);
    EXPECT_EQ(chain->writable[1].bytes, 1u);
    EXPECT_FALSE(queue_.pop(memory_));
    EXPECT_EQ(queue_.outstanding(), 1);
    EXPECT_TRUE(queue_.push_used(memory_, 2, 101));
    EXPECT_EQ(queue_.outstanding(), 0);
    EXPECT_EQ(ring_.used_index(), 1);
    EXPECT_EQ(ring_.used_element(0), (std::pair<uint32_t, uint32_t>(2, 101)));
}

TEST_F(VirtQueueTest, TheGuestMayAskForNoInterrupt) {
    enable();
    ring_.set_available_flags(1);
    ring_.chain(0, {{kBuffers, 16, 0, 0}});
    ring_.offer(0);
    ASSERT_TRUE(queue_.pop(memory_));
    EXPECT_FALSE(queue_.push_used(memory_, 0, 0));
    EXPECT_EQ(ring_.used_index(), 1);
}

TEST_F(VirtQueueTest, AnIndirectTable) {
    enable();
    constexpr uint64_t kTable = 0x30000;
    ring_.put_descriptor(kTable, 0, {kBuffers, 16, kNext, 2});
    ring_.put_descriptor(kTable, 2, {kBuffers + 64, 8, kWrite, 0});
    ring_.set(5, {kTable, 3 * 16, kIndirect, 0});
    ring_.offer(5);
    const auto chain = queue_.pop(memory_);
    ASSERT_TRUE(chain) << queue_.bad_reason();
    EXPECT_EQ(chain->head, 5);
    EXPECT_EQ(chain->readable_bytes, 16u);
    EXPECT_EQ(chain->writable_bytes, 8u);
}

// "zero or more normal chained descriptors followed by a single descriptor with INDIRECT"
TEST_F(VirtQueueTest, AnIndirectTableAtTheEndOfAChain) {
    enable();
    constexpr uint64_t kTable = 0x30000;
    ring_.put_descriptor(kTable, 0, {kBuffers + 64, 8, kWrite, 0});
    ring_.chain(0, {{kBuffers, 16, 0, 0}, {kBuffers + 16, 4, 0, 0}, {kTable, 16, kIndirect, 0}});
    ring_.offer(0);
    const auto chain = queue_.pop(memory_);
    ASSERT_TRUE(chain) << queue_.bad_reason();
    EXPECT_EQ(chain->readable_bytes, 20u);
    EXPECT_EQ(chain->writable_bytes, 8u);
}

TEST_F(VirtQueueTest, AnIndirectTableOfTheLargestSize) {
    enable();
    constexpr uint64_t kTable = 0x30000;
    for (uint16_t i = 0; i < 256; ++i) {
        ring_.put_descriptor(kTable, i,
                             {kBuffers + i, 1, static_cast<uint16_t>(i < 255 ? kNext : 0),
                              static_cast<uint16_t>(i + 1)});
    }
    ring_.set(0, {kTable, 256 * 16, kIndirect | kWrite, 0});  // WRITE means nothing here
    ring_.offer(0);
    const auto chain = queue_.pop(memory_);
    ASSERT_TRUE(chain) << queue_.bad_reason();
    EXPECT_EQ(chain->readable.size(), 256u);
}

TEST_F(VirtQueueTest, ADescriptorOfNoBytesIsAPartOfNoBytes) {
    enable();
    ring_.chain(0, {{kBuffers, 0, 0, 0}, {kBuffers, 0, kWrite, 0}, {kBuffers, 4, kWrite, 0}});
    ring_.offer(0);
    const auto chain = queue_.pop(memory_);
    ASSERT_TRUE(chain);
    EXPECT_EQ(chain->readable_bytes, 0u);
    EXPECT_EQ(chain->writable_bytes, 4u);
    const std::array<std::byte, 4> data{std::byte{1}, std::byte{2}, std::byte{3}, std::byte{4}};
    scatter(memory_, chain->writable, data);
    EXPECT_EQ(memory_.load<uint32_t>(GuestPhys(kBuffers)), 0x04030201u);
}

TEST_F(VirtQueueTest, IndexesWrapAt65536) {
    enable();
    ring_.chain(3, {{kBuffers, 16, 0, 0}});
    for (uint32_t i = 0; i < 65536 + 20; ++i) {
        ring_.offer(3);
        const auto chain = queue_.pop(memory_);
        ASSERT_TRUE(chain) << i << ": " << queue_.bad_reason();
        ASSERT_TRUE(queue_.push_used(memory_, chain->head, i));
        ASSERT_EQ(ring_.used_index(), static_cast<uint16_t>(i + 1));
        ASSERT_EQ(ring_.used_element(static_cast<uint16_t>(i)).second, i);
    }
}

TEST_F(VirtQueueTest, AFullRingAcrossTheWrap) {
    enable();
    for (uint16_t i = 0; i < 8; ++i) ring_.chain(i, {{kBuffers, 16, 0, 0}});
    for (uint32_t round = 0; round < 65536 / 8 + 3; ++round) {
        for (uint16_t i = 0; i < 8; ++i) ring_.offer(i);
        for (uint16_t i = 0; i < 8; ++i) ASSERT_TRUE(queue_.pop(memory_)) << queue_.bad_reason();
        ASSERT_FALSE(queue_.pop(memory_));
        for (uint16_t i = 0; i < 8; ++i) ASSERT_TRUE(queue_.push_used(memory_, i, 0));
    }
    EXPECT_FALSE(queue_.bad());
}

TEST_F(VirtQueueTest, AQueueOfOne) {
    GuestRing one(memory_, 0x20000, 1);
    queue_.size = 1;
    queue_.descriptors = one.descriptors();
    queue_.available = one.available();
    queue_.used = one.used();
    ASSERT_TRUE(queue_.enable(memory_));
    one.set(0, {kBuffers, 1, kWrite, 0});
    for (int i = 0; i < 3; ++i) {
        one.offer(0);
        ASSERT_TRUE(queue_.pop(memory_));
        ASSERT_TRUE(queue_.push_used(memory_, 0, 1));
    }
}

TEST_F(VirtQueueTest, GatherAndScatterCrossSegments) {
    const std::array<VirtQueue::Segment, 4> segments{{{GuestPhys(0x1000), 3},
                                                      {GuestPhys(0x2000), 0},
                                                      {GuestPhys(0x3000), 2},
                                                      {GuestPhys(0x4000), 4}}};
    std::array<std::byte, 7> data{};
    for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<std::byte>(i + 1);
    scatter(memory_, segments, data);  // fewer bytes than there is room for
    EXPECT_EQ(memory_.load<uint16_t>(GuestPhys(0x3000)), 0x0504);
    EXPECT_EQ(memory_.load<uint32_t>(GuestPhys(0x4000)), 0x0706u);
    std::array<std::byte, 3> part{};
    gather(memory_, segments, 4, part);
    EXPECT_EQ(part, (std::array<std::byte, 3>{std::byte{5}, std::byte{6}, std::byte{7}}));
    gather(memory_, segments, 0, part);
    EXPECT_EQ(part[2], std::byte{3});
}

TEST_F(VirtQueueTest, StateIsExact) {
    EXPECT_EQ(state_trouble(
                  saved(queue_), [] { return VirtQueue(); }, memory_),
              "");
    enable();
    ring_.chain(0, {{kBuffers, 16, 0, 0}});
    ring_.chain(1, {{kBuffers, 16, 0, 0}});
    ring_.offer(0);
    ring_.offer(1);
    ASSERT_TRUE(queue_.pop(memory_));
    const auto bytes = saved(queue_);
    EXPECT_EQ(state_trouble(
                  bytes, [] { return VirtQueue(); }, memory_),
              "");
    VirtQueue other;
    ASSERT_EQ(load_problem(other, bytes, memory_), "");
    EXPECT_EQ(other.outstanding(), 1);
    const auto chain = other.pop(memory_);
    ASSERT_TRUE(chain);
    EXPECT_EQ(chain->head, 1);
}

TEST_F(VirtQueueTest, ABadQueueIsBadAfterASnapshot) {
    enable();
    ring_.set_available_index(9);
    EXPECT_FALSE(queue_.pop(memory_));
    ASSERT_TRUE(queue_.bad());
    const auto bytes = saved(queue_);
    VirtQueue other;
    ASSERT_EQ(load_problem(other, bytes, memory_), "");
    EXPECT_TRUE(other.bad());
    EXPECT_FALSE(other.ready);
    EXPECT_EQ(saved(other), bytes);
    EXPECT_FALSE(other.enable(memory_));  // only a reset helps
    other.reset();
    EXPECT_FALSE(other.bad());
}

TEST_F(VirtQueueTest, AStateThatDoesNotFitTheMemoryIsRefused) {
    enable();
    const auto bytes = saved(queue_);
    const auto small = test_memory(0x10000);
    VirtQueue other;
    EXPECT_EQ(load_problem(other, bytes, small), "descriptor table is outside memory");
}

TEST_F(VirtQueueTest, ChainsAreSavedAndCheckedWhenTheyComeBack) {
    enable();
    ring_.chain(0, {{kBuffers, 16, 0, 0}, {kBuffers + 64, 32, kWrite, 0}});
    ring_.offer(0);
    const auto chain = queue_.pop(memory_);
    ASSERT_TRUE(chain);
    StateWriter out;
    save_chain(out, *chain);
    StateReader in(out.bytes());
    const auto again = load_chain(in, memory_);
    EXPECT_TRUE(in.ok() && in.at_end());
    EXPECT_EQ(again.readable_bytes, 16u);
    EXPECT_EQ(again.writable_bytes, 32u);
    const auto small = test_memory(0x10000);
    StateReader in_small(out.bytes());
    (void)load_chain(in_small, small);
    EXPECT_STREQ(in_small.problem(), "chain: segment is outside memory");
}

}  // namespace
}  // namespace antipode::vmm
