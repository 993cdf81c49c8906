// The network card: what leaves, what comes in, and what is dropped.
#include <gtest/gtest.h>

#include "replicator/vmm/devices/virtio_net/net_device.h"
#include "tests/unit/vmm/saved_state.h"
#include "tests/unit/vmm/virtio_driver.h"

namespace antipode::vmm {
namespace {

constexpr uint64_t kBuffers = 0x40000;
constexpr uint32_t kHeaderBytes = 12;
constexpr MacAddress kMac{6, 0, 10, 0, 0, 1};

std::vector<std::byte> frame_of(size_t bytes) {
    std::vector<std::byte> frame(bytes);
    for (size_t i = 0; i < bytes; ++i) frame[i] = static_cast<std::byte>(i * 7 + 1);
    return frame;
}

class VirtioNetTest : public testing::Test {
  protected:
    void SetUp() override { driver_.initialise({&receive_, &transmit_}); }
    void transmit(std::vector<TestDescriptor> parts) {
        transmit_.chain(0, std::move(parts));
        transmit_.offer(0);
        driver_.notify(1);
    }
    void offer_buffer(uint16_t head, uint32_t bytes) {
        receive_.chain(head, {{kBuffers + 0x1000u * head, bytes, kWrite, 0}});
        receive_.offer(head);
    }
    std::vector<std::byte> memory_at(uint64_t at, size_t bytes) {
        const auto view = memory_.view(GuestPhys(at), bytes);
        return {view->begin(), view->end()};
    }

    GuestMemory memory_ = test_memory(1 << 20);
    GuestRing receive_{memory_, 0x10000, 8};
    GuestRing transmit_{memory_, 0x20000, 8};
    VirtioNet device_{"eth0", kMac};
    VirtioDriver driver_{device_, memory_};
};

TEST_F(VirtioNetTest, OffersItsAddressAndALinkThatIsUp) {
    EXPECT_EQ(driver_.read(kRegDeviceId), 1u);
    const uint64_t features = driver_.device_features();
    EXPECT_EQ(features, uint64_t{1} << 5 | 1u << 16 | 1u << 28 | uint64_t{1} << 32);
    std::array<std::byte, 8> config{};
    device_.read(kRegConfig, config);
    for (size_t i = 0; i < 6; ++i) EXPECT_EQ(config[i], std::byte{kMac[i]});
    EXPECT_EQ(config[6], std::byte{1});
    EXPECT_EQ(config[7], std::byte{0});
}

TEST_F(VirtioNetTest, AFrameLeavesWithoutItsHeader) {
    const auto frame = frame_of(60);
    ASSERT_TRUE(memory_.write(GuestPhys(kBuffers + kHeaderBytes), frame));
    transmit({{kBuffers, kHeaderBytes + 60, 0, 0}});
    EXPECT_EQ(device_.take_frames(), (std::vector<std::vector<std::byte>>{frame}));
    EXPECT_TRUE(device_.take_frames().empty());
    EXPECT_EQ(transmit_.used_index(), 1);
    EXPECT_EQ(transmit_.used_element(0).second, 0u);
    EXPECT_EQ(driver_.take_interrupt(), 1u);
}

TEST_F(VirtioNetTest, AFrameInPiecesOfOddSizes) {
    const auto frame = frame_of(100);
    ASSERT_TRUE(memory_.write(GuestPhys(kBuffers), frame));
    const uint64_t header = kBuffers + 0x1000;
    transmit({{header, 5, 0, 0},
              {header, 0, 0, 0},
              {header, 6, 0, 0},
              {kBuffers - 1, 1 + 37, 0, 0},
              {kBuffers + 37, 63, 0, 0}});
    EXPECT_EQ(device_.take_frames(), (std::vector<std::vector<std::byte>>{frame}));
}

TEST_F(VirtioNetTest, FramesOfTheSmallestAndLargestSize) {
    for (const size_t bytes : std::initializer_list<size_t>{14u, 1518u}) {
        transmit({{kBuffers, static_cast<uint32_t>(kHeaderBytes + bytes), 0, 0}});
        const auto frames = device_.take_frames();
        ASSERT_EQ(frames.size(), 1u);
        EXPECT_EQ(frames[0].size(), bytes);
    }
    EXPECT_EQ(device_.dropped_count(), 0u);
}

TEST_F(VirtioNetTest, FramesOutsideOfThatAreDroppedAndTheBufferIsGivenBack) {
    uint16_t given_back = 0;
    for (const uint32_t bytes :
         std::initializer_list<uint32_t>{0u, 1u, 11u, 12u, 12u + 13u, 12u + 1519u, 65536u}) {
        transmit({{kBuffers, bytes, 0, 0}});
        EXPECT_EQ(transmit_.used_index(), ++given_back) << bytes;
    }
    transmit({{kBuffers, 2000, kWrite, 0}});  // nothing to read in it
    EXPECT_EQ(transmit_.used_index(), ++given_back);
    EXPECT_TRUE(device_.take_frames().empty());
    EXPECT_EQ(device_.dropped_count(), given_back);
    EXPECT_FALSE(device_.needs_reset());
}

TEST_F(VirtioNetTest, AllThatWaitsLeavesInOrder) {
    for (uint16_t i = 0; i < 8; ++i) {
        const uint64_t at = kBuffers + 0x1000u * i;
        ASSERT_TRUE(memory_.store(GuestPhys(at + kHeaderBytes), i));
        transmit_.chain(i, {{at, kHeaderBytes + 14, 0, 0}});
        transmit_.offer(i);
    }
    driver_.notify(1);
    const auto frames = device_.take_frames();
    ASSERT_EQ(frames.size(), 8u);
    for (size_t i = 0; i < 8; ++i) EXPECT_EQ(frames[i][0], static_cast<std::byte>(i));
}

TEST_F(VirtioNetTest, ABrokenChainStopsTheCard) {
    transmit({{uint64_t{1} << 40, 100, 0, 0}});
    EXPECT_TRUE(device_.needs_reset());
    EXPECT_FALSE(device_.can_receive(memory_));
    EXPECT_FALSE(device_.receive(memory_, frame_of(60)));
}

TEST_F(VirtioNetTest, AReceivedFrameHasAHeaderWithOneBuffer) {
    offer_buffer(3, 1530);
    EXPECT_TRUE(device_.can_receive(memory_));
    const auto frame = frame_of(60);
    EXPECT_TRUE(device_.receive(memory_, frame));
    EXPECT_EQ(receive_.used_element(0), (std::pair<uint32_t, uint32_t>(3, 72)));
    const uint64_t at = kBuffers + 0x3000;
    auto header = std::vector<std::byte>(12);
    header[10] = std::byte{1};
    EXPECT_EQ(memory_at(at, 12), header);
    EXPECT_EQ(memory_at(at + 12, 60), frame);
    EXPECT_EQ(memory_at(at + 72, 8), std::vector<std::byte>(8));
    EXPECT_EQ(driver_.take_interrupt(), 1u);
    EXPECT_FALSE(device_.can_receive(memory_));
}

TEST_F(VirtioNetTest, AFrameThatFindsNoBufferIsDropped) {
    EXPECT_FALSE(device_.can_receive(memory_));
    EXPECT_FALSE(device_.receive(memory_, frame_of(60)));
    EXPECT_EQ(device_.dropped_count(), 1u);
    EXPECT_FALSE(device_.interrupt_line());
    EXPECT_FALSE(device_.needs_reset());
}

TEST_F(VirtioNetTest, FramesNoWireCanCarryAreDropped) {
    offer_buffer(0, 4000);
    for (const size_t bytes : std::initializer_list<size_t>{0u, 13u, 1519u, 9000u}) {
        EXPECT_FALSE(device_.receive(memory_, frame_of(bytes))) << bytes;
    }
    EXPECT_EQ(device_.dropped_count(), 4u);
    EXPECT_EQ(receive_.used_index(), 0);
    EXPECT_TRUE(device_.receive(memory_, frame_of(1518)));
}

TEST_F(VirtioNetTest, ABufferThatIsTooSmallBreaksTheRules) {
    offer_buffer(0, kHeaderBytes + 59);
    EXPECT_TRUE(device_.can_receive(memory_));
    EXPECT_FALSE(device_.receive(memory_, frame_of(60)));
    EXPECT_TRUE(device_.needs_reset());
    EXPECT_EQ(memory_at(kBuffers, 71), std::vector<std::byte>(71));  // nothing of it was written
}

TEST_F(VirtioNetTest, ABufferThatJustFitsIsFilled) {
    offer_buffer(0, kHeaderBytes + 60);
    EXPECT_TRUE(device_.receive(memory_, frame_of(60)));
}

// The backup only sees the frame's log entry: it must find the same broken queue by itself.
TEST_F(VirtioNetTest, AQueueFoundBrokenWhileAskingBreaksAtTheFrame) {
    VirtioNet backup("eth0", kMac);
    auto backup_memory = test_memory(1 << 20);
    ASSERT_EQ(load_problem(backup, saved(device_), backup_memory), "");
    receive_.set_available_index(100);
    ASSERT_TRUE(backup_memory.write(GuestPhys(0), memory_at(0, 1 << 20)));
    EXPECT_TRUE(device_.can_receive(memory_));  // on the recording side only
    EXPECT_FALSE(device_.receive(memory_, frame_of(60)));
    EXPECT_FALSE(backup.receive(backup_memory, frame_of(60)));
    EXPECT_TRUE(device_.needs_reset());
    EXPECT_EQ(saved(backup), saved(device_));
}

TEST_F(VirtioNetTest, NothingIsReceivedBeforeTheDriverIsReady) {
    driver_.write(kRegStatus, 0);
    EXPECT_FALSE(device_.can_receive(memory_));
    EXPECT_FALSE(device_.receive(memory_, frame_of(60)));
    driver_.write(kRegStatus, kAcknowledge | kDriver | kFeaturesOk | kDriverOk);
    EXPECT_FALSE(device_.can_receive(memory_));  // the queue is not there
    EXPECT_FALSE(device_.receive(memory_, frame_of(60)));
}

TEST_F(VirtioNetTest, ReceiveBuffersAloneMoveNothing) {
    offer_buffer(0, 2000);
    driver_.notify(0);
    EXPECT_EQ(receive_.used_index(), 0);
    EXPECT_FALSE(device_.interrupt_line());
}

// A guest may lay its used ring over its available ring, so that giving back offers more: no
// notification may keep the vCPU for longer than one ring takes.
TEST_F(VirtioNetTest, AGuestThatFeedsItselfIsStopped) {
    constexpr uint64_t kTable = 0x30000;
    constexpr uint64_t kAvailable = 0x32002;
    for (uint16_t i = 0; i < 256; ++i) {
        transmit_.put_descriptor(kTable, i, {kBuffers, kHeaderBytes + 14, 0, 0});
        memory_.store(GuestPhys(kAvailable + 4 + 2u * i), uint16_t{255});
    }
    driver_.write(kRegStatus, 0);
    driver_.accept_features(driver_.device_features());
    driver_.write(kRegStatus, kFeaturesOk);
    driver_.write(kRegQueueSelect, 1);
    driver_.write(kRegQueueSize, 256);
    driver_.put_address(kRegQueueDescriptors, kTable);
    driver_.put_address(kRegQueueAvailable, kAvailable);
    driver_.put_address(kRegQueueUsed, kAvailable - 2);  // the first element is the available index
    driver_.write(kRegQueueReady, 1);
    driver_.write(kRegStatus, kFeaturesOk | kDriverOk);
    memory_.store(GuestPhys(kAvailable + 2), uint16_t{1});
    driver_.notify(1);
    const size_t count = device_.take_frames().size();
    EXPECT_GT(count, 1u);  // it did feed itself
    EXPECT_LE(count, 256u);
}

TEST_F(VirtioNetTest, StateIsExact) {
    const auto make = [] { return VirtioNet("eth0", kMac); };
    EXPECT_EQ(state_trouble(saved(make()), make, memory_), "");
    offer_buffer(0, 2000);
    transmit({{kBuffers, 1, 0, 0}});
    EXPECT_EQ(state_trouble(saved(device_), make, memory_), "");
    VirtioNet other("eth0", kMac);
    ASSERT_EQ(load_problem(other, saved(device_), memory_), "");
    EXPECT_EQ(other.dropped_count(), 1u);
    EXPECT_TRUE(other.receive(memory_, frame_of(60)));
    EXPECT_EQ(receive_.used_index(), 1);
}

}  // namespace
}  // namespace antipode::vmm
