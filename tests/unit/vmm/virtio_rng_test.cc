// The entropy device: what a guest gets, how much at once, and what it may not do.
#include <gtest/gtest.h>

#include "replicator/vmm/devices/virtio_rng/rng_device.h"
#include "tests/unit/vmm/fixed_inputs.h"
#include "tests/unit/vmm/saved_state.h"
#include "tests/unit/vmm/virtio_driver.h"

namespace antipode::vmm {
namespace {

constexpr uint64_t kBuffers = 0x40000;

class VirtioRngTest : public testing::Test {
  protected:
    void SetUp() override {
        driver_.initialise({&ring_});
        inputs_.values[InputKind::entropy] = 0x0807060504030201;
    }
    void ask(uint16_t head, std::vector<TestDescriptor> parts) {
        ring_.chain(head, std::move(parts));
        ring_.offer(head);
        driver_.notify(0);
        device_.serve(memory_, inputs_);
    }
    std::vector<std::byte> memory_at(uint64_t at, size_t bytes) {
        const auto view = memory_.view(GuestPhys(at), bytes);
        return {view->begin(), view->end()};
    }
    std::vector<std::byte> expected(size_t bytes) {
        std::vector<std::byte> made(bytes);
        for (size_t i = 0; i < bytes; ++i) made[i] = static_cast<std::byte>(i % 8 + 1);
        return made;
    }

    GuestMemory memory_ = test_memory(1 << 20);
    GuestRing ring_{memory_, 0x10000, 8};
    FixedInputs inputs_;
    VirtioRng device_;
    VirtioDriver driver_{device_, memory_};
};

TEST_F(VirtioRngTest, IsAnEntropyDeviceWithoutFeaturesOfItsOwn) {
    EXPECT_EQ(driver_.read(kRegDeviceId), 4u);
    EXPECT_EQ(driver_.device_features(), 1u << 28 | uint64_t{1} << 32);
}

TEST_F(VirtioRngTest, GivesWhatWasAskedForFromTheInputs) {
    ask(0, {{kBuffers, 20, kWrite, 0}});
    EXPECT_EQ(memory_at(kBuffers, 20), expected(20));
    EXPECT_EQ(memory_at(kBuffers + 20, 4), std::vector<std::byte>(4));
    EXPECT_EQ(ring_.used_element(0).second, 20u);
    EXPECT_EQ(inputs_.reads[InputKind::entropy], 3);
    EXPECT_EQ(driver_.take_interrupt(), 1u);
}

TEST_F(VirtioRngTest, GivesNoMoreThanItsShareAtOnce) {
    ask(0, {{kBuffers, 0x8000, kWrite, 0}, {kBuffers + 0x8000, 0x8000, kWrite, 0}});
    EXPECT_EQ(ring_.used_element(0).second, VirtioRng::kAnswerBytesMax);
    EXPECT_EQ(inputs_.reads[InputKind::entropy], 8);
}

TEST_F(VirtioRngTest, SpreadsOverABufferInPieces) {
    ask(0, {{kBuffers, 3, kWrite, 0},
            {kBuffers + 0x100, 0, kWrite, 0},
            {kBuffers + 0x200, 30, kWrite, 0}});
    auto got = memory_at(kBuffers, 3);
    const auto rest = memory_at(kBuffers + 0x200, 30);
    got.insert(got.end(), rest.begin(), rest.end());
    EXPECT_EQ(got, expected(33));
}

TEST_F(VirtioRngTest, ReadsNothingThatNobodyAskedFor) {
    device_.serve(memory_, inputs_);
    driver_.notify(0);
    device_.serve(memory_, inputs_);
    device_.serve(memory_, inputs_);
    EXPECT_TRUE(inputs_.reads.empty());
    EXPECT_EQ(driver_.read(kRegInterruptStatus), 0u);
}

TEST_F(VirtioRngTest, ARequestWithoutABufferNeedsAReset) {
    ask(0, {{kBuffers, 16, 0, 0}});
    EXPECT_NE(driver_.status() & kNeedsReset, 0u);
    EXPECT_TRUE(inputs_.reads.empty());
    driver_.initialise({&ring_});
    EXPECT_EQ(driver_.status() & kNeedsReset, 0u);
}

TEST_F(VirtioRngTest, ABufferOutsideMemoryNeedsAReset) {
    ask(0, {{uint64_t{1} << 40, 16, kWrite, 0}});
    EXPECT_NE(driver_.status() & kNeedsReset, 0u);
    EXPECT_TRUE(inputs_.reads.empty());
}

}  // namespace
}  // namespace antipode::vmm
