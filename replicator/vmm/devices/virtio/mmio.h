// The virtio-mmio transport, version 2 (virtio 1.2, section 4.2), common to all our virtio devices.
//
// vCPU thread only. A device derives from it, names its features and queues, and reacts to
// notify().
//
// INVARIANTS
//   - needs_reset() devices touch no guest memory until the driver resets them.
//   - The interrupt line is (interrupt status != 0); the driver lowers it by acknowledging.
//   - Features that the device did not offer cannot be accepted: FEATURES_OK does not stick.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "replicator/vmm/devices/virtio/queue.h"

namespace antipode::vmm {

class VirtioMmioDevice {
  public:
    virtual ~VirtioMmioDevice() = default;
    VirtioMmioDevice(const VirtioMmioDevice&) = delete;
    VirtioMmioDevice& operator=(const VirtioMmioDevice&) = delete;

    // An access of 1, 2, 4 or 8 bytes at an offset into the device's page. Accesses that the
    // specification does not allow are ignored and read as zero.
    void write(GuestMemory& memory, uint64_t offset, std::span<const std::byte> data);
    void read(uint64_t offset, std::span<std::byte> data);

    bool interrupt_line() const { return interrupt_status_ != 0; }
    bool needs_reset() const { return (status_ & kStatusNeedsReset) != 0; }
    bool driver_ok() const { return (status_ & kStatusDriverOk) != 0 && !needs_reset(); }
    const std::string& name() const { return name_; }

    void save(StateWriter& out) const;
    void load(StateReader& in, const GuestMemory& memory);

  protected:
    VirtioMmioDevice(std::string name, uint32_t device_id, uint64_t features, size_t queue_count);

    virtual void notify(GuestMemory& memory, size_t queue) = 0;
    virtual std::span<const std::byte> config() const = 0;
    // Before the guest may touch anything again.
    virtual void on_reset(const GuestMemory& memory) = 0;
    virtual void save_device(StateWriter& out) const = 0;
    virtual void load_device(StateReader& in, const GuestMemory& memory) = 0;

    VirtQueue& queue(size_t index) { return queues_[index]; }
    const VirtQueue& queue(size_t index) const { return queues_[index]; }
    bool accepted(uint64_t feature_mask) const { return (driver_features_ & feature_mask) != 0; }
    void give_back(GuestMemory& memory, size_t queue, uint16_t head, uint32_t written);
    // The guest broke a rule: DEVICE_NEEDS_RESET, and a log line that says which. A guest can do
    // this as often as it likes: of the n-th time, there is a line if n is a power of two.
    void fail_device(const char* reason);
    void check_queue(size_t index);

    static constexpr uint64_t kFeatureIndirect = uint64_t{1} << 28;
    static constexpr uint64_t kFeatureVersion1 = uint64_t{1} << 32;

  private:
    static constexpr uint8_t kStatusFeaturesOk = 8;
    static constexpr uint8_t kStatusDriverOk = 4;
    static constexpr uint8_t kStatusNeedsReset = 64;

    uint32_t read_register(uint64_t offset) const;
    void write_register(GuestMemory& memory, uint64_t offset, uint32_t value);
    void write_status(const GuestMemory& memory, uint32_t value);
    void write_queue_register(GuestMemory& memory, uint64_t offset, uint32_t value);
    void reset(const GuestMemory& memory);

    const std::string name_;
    const uint32_t device_id_;
    const uint64_t device_features_;
    std::vector<VirtQueue> queues_;
    uint64_t driver_features_ = 0;
    uint32_t device_features_select_ = 0;
    uint32_t driver_features_select_ = 0;
    uint32_t queue_select_ = 0;
    uint32_t interrupt_status_ = 0;
    uint8_t status_ = 0;
    uint64_t failure_count_ = 0;  // for the log only
};

}  // namespace antipode::vmm
