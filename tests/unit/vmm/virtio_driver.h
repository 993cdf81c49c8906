// VirtioDriver: the guest's side of a virtio-mmio device, register by register (virtio 1.2, section
// 4.2.3), for tests. initialise() is the sequence of a well-behaved driver.
#pragma once

#include <array>
#include <cstring>

#include "replicator/vmm/devices/virtio/mmio.h"
#include "tests/unit/vmm/guest_ring.h"

namespace antipode::vmm {

enum MmioRegister : uint64_t {
    kRegMagic = 0x00,
    kRegVersion = 0x04,
    kRegDeviceId = 0x08,
    kRegVendor = 0x0c,
    kRegDeviceFeatures = 0x10,
    kRegDeviceFeaturesSelect = 0x14,
    kRegDriverFeatures = 0x20,
    kRegDriverFeaturesSelect = 0x24,
    kRegQueueSelect = 0x30,
    kRegQueueSizeMax = 0x34,
    kRegQueueSize = 0x38,
    kRegQueueReady = 0x44,
    kRegQueueNotify = 0x50,
    kRegInterruptStatus = 0x60,
    kRegInterruptAcknowledge = 0x64,
    kRegStatus = 0x70,
    kRegQueueDescriptors = 0x80,
    kRegQueueAvailable = 0x90,
    kRegQueueUsed = 0xa0,
    kRegConfigGeneration = 0xfc,
    kRegConfig = 0x100,
};

inline constexpr uint32_t kAcknowledge = 1;
inline constexpr uint32_t kDriver = 2;
inline constexpr uint32_t kDriverOk = 4;
inline constexpr uint32_t kFeaturesOk = 8;
inline constexpr uint32_t kNeedsReset = 64;

class VirtioDriver {
  public:
    VirtioDriver(VirtioMmioDevice& device, GuestMemory& memory)
        : device_(device), memory_(memory) {}

    uint32_t read(uint64_t offset) {
        std::array<std::byte, 4> bytes{};
        device_.read(offset, bytes);
        uint32_t value = 0;
        std::memcpy(&value, bytes.data(), sizeof value);
        return value;
    }
    void write(uint64_t offset, uint32_t value) {
        device_.write(memory_, offset, std::as_bytes(std::span(&value, 1)));
    }
    uint64_t device_features() {
        write(kRegDeviceFeaturesSelect, 0);
        const uint64_t low = read(kRegDeviceFeatures);
        write(kRegDeviceFeaturesSelect, 1);
        return low | static_cast<uint64_t>(read(kRegDeviceFeatures)) << 32;
    }
    void accept_features(uint64_t features) {
        write(kRegDriverFeaturesSelect, 0);
        write(kRegDriverFeatures, static_cast<uint32_t>(features));
        write(kRegDriverFeaturesSelect, 1);
        write(kRegDriverFeatures, static_cast<uint32_t>(features >> 32));
    }
    void put_address(uint64_t offset, uint64_t address) {
        write(offset, static_cast<uint32_t>(address));
        write(offset + 4, static_cast<uint32_t>(address >> 32));
    }
    void set_queue(uint32_t index, const GuestRing& ring) {
        write(kRegQueueSelect, index);
        write(kRegQueueSize, ring.size());
        put_address(kRegQueueDescriptors, ring.descriptors());
        put_address(kRegQueueAvailable, ring.available());
        put_address(kRegQueueUsed, ring.used());
        write(kRegQueueReady, 1);
    }
    // Reset, negotiation of everything, queues, DRIVER_OK.
    void initialise(std::initializer_list<const GuestRing*> rings) {
        write(kRegStatus, 0);
        write(kRegStatus, kAcknowledge);
        write(kRegStatus, kAcknowledge | kDriver);
        accept_features(device_features());
        write(kRegStatus, kAcknowledge | kDriver | kFeaturesOk);
        uint32_t index = 0;
        for (const GuestRing* ring : rings) set_queue(index++, *ring);
        write(kRegStatus, kAcknowledge | kDriver | kFeaturesOk | kDriverOk);
    }
    void notify(uint32_t queue) { write(kRegQueueNotify, queue); }
    uint32_t status() { return read(kRegStatus); }
    // The interrupt status, acknowledged.
    uint32_t take_interrupt() {
        const uint32_t status = read(kRegInterruptStatus);
        write(kRegInterruptAcknowledge, status);
        return status;
    }

  private:
    VirtioMmioDevice& device_;
    GuestMemory& memory_;
};

}  // namespace antipode::vmm
