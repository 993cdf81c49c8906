// The transport: registers, negotiation, status, and accesses that no driver makes.
#include <array>
#include <gtest/gtest.h>

#include "replicator/vmm/devices/virtio/mmio.h"
#include "tests/unit/vmm/saved_state.h"
#include "tests/unit/vmm/virtio_driver.h"

namespace antipode::vmm {
namespace {

constexpr uint64_t kFeature = 1u << 3;
constexpr uint64_t kVersion1 = uint64_t{1} << 32;
constexpr uint64_t kIndirectFeature = 1u << 28;

// A device that takes each chain and gives it back at once, with two bytes of configuration.
class EchoDevice final : public VirtioMmioDevice {
  public:
    EchoDevice() : VirtioMmioDevice("echo", 42, kFeature, 2) {}
    using VirtioMmioDevice::accepted;
    using VirtioMmioDevice::fail_device;

    int notified = 0;
    int resets = 0;
    bool gives_back = true;

  private:
    void notify(GuestMemory& memory, size_t index) override {
        ++notified;
        while (gives_back) {
            const auto chain = queue(index).pop(memory);
            if (!chain) break;
            give_back(memory, index, chain->head, 7);
        }
    }
    std::span<const std::byte> config() const override { return config_; }
    void on_reset(const GuestMemory&) override { ++resets; }
    void save_device(StateWriter& out) const override { out.put<uint16_t>(0x1234); }
    void load_device(StateReader& in, const GuestMemory&) override {
        if (in.get<uint16_t>() != 0x1234) in.reject("echo: not mine");
    }

    std::array<std::byte, 5> config_{std::byte{1}, std::byte{2}, std::byte{3}, std::byte{4},
                                     std::byte{5}};
};

class VirtioMmioTest : public testing::Test {
  protected:
    void initialise() { driver_.initialise({&ring_, &other_ring_}); }
    void offer_one() {
        ring_.chain(0, {{0x40000, 16, 0, 0}});
        ring_.offer(0);
    }

    GuestMemory memory_ = test_memory(1 << 20);
    GuestRing ring_{memory_, 0x10000, 8};
    GuestRing other_ring_{memory_, 0x20000, 16};
    EchoDevice device_;
    VirtioDriver driver_{device_, memory_};
};

TEST_F(VirtioMmioTest, SaysWhatItIs) {
    EXPECT_EQ(driver_.read(kRegMagic), 0x74726976u);
    EXPECT_EQ(driver_.read(kRegVersion), 2u);
    EXPECT_EQ(driver_.read(kRegDeviceId), 42u);
    EXPECT_EQ(driver_.read(kRegVendor), 0x54504e41u);
    EXPECT_EQ(driver_.read(kRegConfigGeneration), 0u);
    EXPECT_EQ(driver_.status(), 0u);
    EXPECT_FALSE(device_.interrupt_line());
}

TEST_F(VirtioMmioTest, FeaturesComeInTwoHalves) {
    EXPECT_EQ(driver_.device_features(), kFeature | kVersion1 | kIndirectFeature);
    driver_.write(kRegDeviceFeaturesSelect, 2);
    EXPECT_EQ(driver_.read(kRegDeviceFeatures), 0u);
    driver_.write(kRegDeviceFeaturesSelect, 0xffffffff);
    EXPECT_EQ(driver_.read(kRegDeviceFeatures), 0u);
}

TEST_F(VirtioMmioTest, FeaturesThatWereOfferedAreAccepted) {
    driver_.accept_features(kFeature | kVersion1);
    driver_.write(kRegStatus, kAcknowledge | kDriver | kFeaturesOk);
    EXPECT_EQ(driver_.status(), kAcknowledge | kDriver | kFeaturesOk);
    EXPECT_TRUE(device_.accepted(kFeature));
    EXPECT_FALSE(device_.accepted(kIndirectFeature));
}

TEST_F(VirtioMmioTest, FeaturesThatWereNotOfferedAreNot) {
    driver_.accept_features(kVersion1 | 1);
    driver_.write(kRegStatus, kAcknowledge | kDriver | kFeaturesOk);
    EXPECT_EQ(driver_.status(), kAcknowledge | kDriver);
    driver_.accept_features(kVersion1);  // a second try is allowed
    driver_.write(kRegStatus, kAcknowledge | kDriver | kFeaturesOk);
    EXPECT_EQ(driver_.status(), kAcknowledge | kDriver | kFeaturesOk);
}

TEST_F(VirtioMmioTest, ALegacyDriverIsRefused) {
    driver_.accept_features(kFeature);
    driver_.write(kRegStatus, kAcknowledge | kDriver | kFeaturesOk);
    EXPECT_EQ(driver_.status(), kAcknowledge | kDriver);
}

TEST_F(VirtioMmioTest, FeaturesDoNotChangeAfterwards) {
    driver_.accept_features(kVersion1);
    driver_.write(kRegStatus, kAcknowledge | kDriver | kFeaturesOk);
    driver_.accept_features(kVersion1 | kFeature);
    EXPECT_FALSE(device_.accepted(kFeature));
}

TEST_F(VirtioMmioTest, FeatureBitsAboveTheSecondHalfAreIgnored) {
    driver_.accept_features(kVersion1);
    driver_.write(kRegDriverFeaturesSelect, 2);
    driver_.write(kRegDriverFeatures, 0xffffffff);
    driver_.write(kRegStatus, kFeaturesOk);
    EXPECT_EQ(driver_.status(), kFeaturesOk);
}

TEST_F(VirtioMmioTest, QueuesAreSelected) {
    EXPECT_EQ(driver_.read(kRegQueueSizeMax), 256u);
    driver_.write(kRegQueueSelect, 1);
    EXPECT_EQ(driver_.read(kRegQueueSizeMax), 256u);
    for (const uint32_t none : std::initializer_list<uint32_t>{2u, 0x80000000u, 0xffffffffu}) {
        driver_.write(kRegQueueSelect, none);
        EXPECT_EQ(driver_.read(kRegQueueSizeMax), 0u);
        EXPECT_EQ(driver_.read(kRegQueueReady), 0u);
        driver_.write(kRegQueueSize, 8);
        driver_.write(kRegQueueReady, 1);
        EXPECT_EQ(driver_.read(kRegQueueReady), 0u);
    }
    EXPECT_EQ(driver_.status(), 0u);
    driver_.set_queue(1, other_ring_);
    EXPECT_EQ(driver_.read(kRegQueueReady), 1u);
    driver_.write(kRegQueueSelect, 0);
    EXPECT_EQ(driver_.read(kRegQueueReady), 0u);
}

TEST_F(VirtioMmioTest, AChainGoesThroughAndInterrupts) {
    initialise();
    EXPECT_TRUE(device_.driver_ok());
    offer_one();
    driver_.notify(0);
    EXPECT_EQ(ring_.used_index(), 1);
    EXPECT_EQ(ring_.used_element(0), (std::pair<uint32_t, uint32_t>(0, 7)));
    EXPECT_TRUE(device_.interrupt_line());
    EXPECT_EQ(driver_.read(kRegInterruptStatus), 1u);
    driver_.write(kRegInterruptAcknowledge, 2);
    EXPECT_TRUE(device_.interrupt_line());
    driver_.write(kRegInterruptAcknowledge, 1);
    EXPECT_FALSE(device_.interrupt_line());
}

TEST_F(VirtioMmioTest, NothingIsTakenBeforeDriverOk) {
    driver_.write(kRegStatus, kAcknowledge | kDriver);
    driver_.accept_features(driver_.device_features());
    driver_.write(kRegStatus, kAcknowledge | kDriver | kFeaturesOk);
    driver_.set_queue(0, ring_);
    offer_one();
    driver_.notify(0);
    EXPECT_EQ(device_.notified, 0);
    EXPECT_EQ(ring_.used_index(), 0);
    driver_.write(kRegStatus, kAcknowledge | kDriver | kFeaturesOk | kDriverOk);
    driver_.notify(0);
    EXPECT_EQ(ring_.used_index(), 1);
}

TEST_F(VirtioMmioTest, ANotificationOfNoQueueIsIgnored) {
    initialise();
    for (const uint32_t none : std::initializer_list<uint32_t>{2u, 256u, 0xffffffffu})
        driver_.notify(none);
    EXPECT_EQ(device_.notified, 0);
    EXPECT_EQ(driver_.status() & kNeedsReset, 0u);
}

TEST_F(VirtioMmioTest, ResetForgetsEverything) {
    initialise();
    offer_one();
    driver_.notify(0);
    const auto fresh = saved(EchoDevice());
    EXPECT_NE(saved(device_), fresh);
    driver_.write(kRegStatus, 0);
    EXPECT_EQ(saved(device_), fresh);
    EXPECT_FALSE(device_.interrupt_line());
    EXPECT_EQ(device_.resets, 2);
    ring_.set_available_index(0);
    memory_.store(GuestPhys(ring_.used() + 2), uint16_t{0});
    initialise();
    offer_one();
    driver_.notify(0);
    EXPECT_EQ(ring_.used_index(), 1);
}

TEST_F(VirtioMmioTest, ABrokenQueueNeedsAReset) {
    initialise();
    ring_.set_available_index(100);
    driver_.notify(0);
    EXPECT_TRUE(device_.needs_reset());
    EXPECT_FALSE(device_.driver_ok());
    EXPECT_EQ(driver_.status() & kNeedsReset, kNeedsReset);
    EXPECT_EQ(driver_.read(kRegInterruptStatus), 2u);
    const int notified = device_.notified;
    driver_.notify(0);
    driver_.notify(1);
    EXPECT_EQ(device_.notified, notified);
    // The driver cannot take the bit away but by a reset.
    driver_.write(kRegStatus, kAcknowledge | kDriver | kFeaturesOk | kDriverOk);
    EXPECT_TRUE(device_.needs_reset());
    driver_.write(kRegStatus, 0);
    EXPECT_FALSE(device_.needs_reset());
}

TEST_F(VirtioMmioTest, ABadConfigurationNeedsAResetAtOnceAndQuietly) {
    driver_.write(kRegStatus, kAcknowledge | kDriver);
    driver_.write(kRegQueueSelect, 0);
    driver_.write(kRegQueueSize, 3);
    driver_.write(kRegQueueReady, 1);
    EXPECT_EQ(driver_.read(kRegQueueReady), 0u);
    EXPECT_TRUE(device_.needs_reset());
    EXPECT_FALSE(device_.interrupt_line());  // no interrupt before DRIVER_OK
    driver_.set_queue(0, ring_);             // what is right now does not mend it
    EXPECT_EQ(driver_.read(kRegQueueReady), 0u);
}

TEST_F(VirtioMmioTest, AQueueSizeThatDoesNotFit16BitsIsRefused) {
    for (const uint32_t size : std::initializer_list<uint32_t>{0x10000u, 0x10008u, 0xffffffffu}) {
        driver_.write(kRegStatus, 0);
        driver_.set_queue(0, ring_);
        driver_.write(kRegQueueReady, 0);
        driver_.write(kRegQueueSize, size);
        driver_.write(kRegQueueReady, 1);
        EXPECT_TRUE(device_.needs_reset()) << size;
    }
}

TEST_F(VirtioMmioTest, AddressesOfALiveQueueDoNotMove) {
    initialise();
    driver_.write(kRegQueueSelect, 0);
    driver_.put_address(kRegQueueUsed, 0x50000);
    driver_.write(kRegQueueSize, 4);
    offer_one();
    driver_.notify(0);
    EXPECT_EQ(ring_.used_index(), 1);
    EXPECT_EQ(memory_.load<uint16_t>(GuestPhys(0x50002)), 0);
}

TEST_F(VirtioMmioTest, AQueueThatIsSwitchedOffTakesNothing) {
    initialise();
    driver_.write(kRegQueueSelect, 0);
    driver_.write(kRegQueueReady, 0);
    offer_one();
    driver_.notify(0);
    EXPECT_EQ(ring_.used_index(), 0);
    EXPECT_EQ(driver_.status() & kNeedsReset, 0u);
    driver_.write(kRegQueueReady, 1);
    driver_.notify(0);
    EXPECT_EQ(ring_.used_index(), 1);
}

TEST_F(VirtioMmioTest, RegistersAreReadAndWrittenByFourBytes) {
    for (const size_t size : std::initializer_list<size_t>{1u, 2u, 3u, 8u}) {
        std::vector<std::byte> data(size, std::byte{0xff});
        device_.read(kRegMagic, data);
        EXPECT_EQ(data, std::vector<std::byte>(size)) << size;
        const std::vector<std::byte> value(size, std::byte{1});
        device_.write(memory_, kRegStatus, value);
        EXPECT_EQ(driver_.status(), 0u) << size;
    }
    std::array<std::byte, 4> data{};
    for (const uint64_t offset : std::initializer_list<uint64_t>{1, 2, 3, 5}) {
        data.fill(std::byte{0xff});
        device_.read(offset, data);
        EXPECT_EQ(data, (std::array<std::byte, 4>{})) << offset;
        driver_.write(kRegStatus + offset, 1);
        EXPECT_EQ(driver_.status(), 0u);
    }
    device_.read(kRegMagic, std::span<std::byte>());
    device_.write(memory_, kRegStatus, std::span<const std::byte>());
}

TEST_F(VirtioMmioTest, RegistersThatAreNotThereReadAsZero) {
    for (uint64_t offset = 0; offset < kRegConfig; offset += 4) {
        switch (offset) {
            case kRegMagic:
            case kRegVersion:
            case kRegDeviceId:
            case kRegVendor:
            case kRegDeviceFeatures:
            case kRegQueueSizeMax:
                EXPECT_NE(driver_.read(offset), 0u) << offset;
                break;
            default:
                EXPECT_EQ(driver_.read(offset), 0u) << offset;
        }
    }
}

TEST_F(VirtioMmioTest, ReadOnlyRegistersStay) {
    const auto before = saved(device_);
    for (const uint64_t offset : std::initializer_list<uint64_t>{
             kRegMagic, kRegVersion, kRegDeviceId, kRegVendor, kRegDeviceFeatures, kRegQueueSizeMax,
             kRegInterruptStatus, kRegConfigGeneration, 0xb0, 0xf0}) {
        driver_.write(offset, 0xffffffff);
    }
    EXPECT_EQ(saved(device_), before);
}

TEST_F(VirtioMmioTest, TheConfigurationIsReadInAnySize) {
    std::array<std::byte, 8> data{};
    device_.read(kRegConfig, std::span(data).first(1));
    EXPECT_EQ(data[0], std::byte{1});
    device_.read(kRegConfig + 3, std::span(data).first(2));
    EXPECT_EQ(data[0], std::byte{4});
    EXPECT_EQ(data[1], std::byte{5});
    data.fill(std::byte{0xff});
    device_.read(kRegConfig, data);
    EXPECT_EQ(data, (std::array<std::byte, 8>{std::byte{1}, std::byte{2}, std::byte{3},
                                              std::byte{4}, std::byte{5}}));
    for (const uint64_t offset :
         std::initializer_list<uint64_t>{kRegConfig + 5, uint64_t{0xfff}, UINT64_MAX}) {
        data.fill(std::byte{0xff});
        device_.read(offset, data);
        EXPECT_EQ(data, (std::array<std::byte, 8>{})) << offset;
    }
    const auto before = saved(device_);
    driver_.write(kRegConfig, 0xffffffff);
    EXPECT_EQ(saved(device_), before);
}

TEST_F(VirtioMmioTest, StateIsExact) {
    const auto make = [] { return EchoDevice(); };
    EXPECT_EQ(state_trouble(saved(device_), make, memory_), "");
    initialise();
    device_.gives_back = false;
    offer_one();
    driver_.notify(0);
    driver_.write(kRegQueueSelect, 7);
    EXPECT_EQ(state_trouble(saved(device_), make, memory_), "");
    EchoDevice other;
    ASSERT_EQ(load_problem(other, saved(device_), memory_), "");
    EXPECT_TRUE(other.driver_ok());
    VirtioDriver other_driver(other, memory_);
    other_driver.notify(0);
    EXPECT_EQ(ring_.used_index(), 1);
}

TEST_F(VirtioMmioTest, ABadQueueIsInTheState) {
    initialise();
    ring_.set_available_index(100);
    driver_.notify(0);
    driver_.write(kRegQueueSelect, 0);
    driver_.write(kRegQueueReady, 1);
    EXPECT_EQ(driver_.read(kRegQueueReady), 0u);
    EXPECT_EQ(state_trouble(
                  saved(device_), [] { return EchoDevice(); }, memory_),
              "");
}

}  // namespace
}  // namespace antipode::vmm
