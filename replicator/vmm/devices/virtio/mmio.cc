#include "replicator/vmm/devices/virtio/mmio.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "common/base/log.h"

namespace antipode::vmm {
namespace {

constexpr uint32_t kMagic = 0x74726976;   // "virt"
constexpr uint32_t kVendor = 0x54504e41;  // "ANPT"
constexpr uint64_t kConfigOffset = 0x100;
constexpr uint32_t kInterruptQueue = 1;
constexpr uint32_t kInterruptConfig = 2;

enum Register : uint64_t {
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
    kRegQueueDescriptorsLow = 0x80,
    kRegQueueDescriptorsHigh = 0x84,
    kRegQueueAvailableLow = 0x90,
    kRegQueueAvailableHigh = 0x94,
    kRegQueueUsedLow = 0xa0,
    kRegQueueUsedHigh = 0xa4,
    kRegConfigGeneration = 0xfc,
};

void set_low(uint64_t& target, uint32_t value) {
    target = (target & ~0xffffffffULL) | value;
}
void set_high(uint64_t& target, uint32_t value) {
    target = (target & 0xffffffffULL) | static_cast<uint64_t>(value) << 32;
}

}  // namespace

VirtioMmioDevice::VirtioMmioDevice(std::string name, uint32_t device_id, uint64_t features,
                                   size_t queue_count)
    : name_(std::move(name)),
      device_id_(device_id),
      device_features_(features | kFeatureVersion1 | kFeatureIndirect),
      queues_(queue_count) {}

void VirtioMmioDevice::read(uint64_t offset, std::span<std::byte> data) {
    std::fill(data.begin(), data.end(), std::byte{0});
    if (offset >= kConfigOffset) {
        const auto source = config();
        const uint64_t at = offset - kConfigOffset;
        for (size_t i = 0; i < data.size() && at + i < source.size(); ++i) data[i] = source[at + i];
    } else if (data.size() == 4 && offset % 4 == 0) {
        const uint32_t value = read_register(offset);
        std::memcpy(data.data(), &value, sizeof value);
    }
}

void VirtioMmioDevice::write(GuestMemory& memory, uint64_t offset,
                             std::span<const std::byte> data) {
    if (offset >= kConfigOffset || data.size() != 4 || offset % 4 != 0) return;
    uint32_t value = 0;
    std::memcpy(&value, data.data(), sizeof value);
    write_register(memory, offset, value);
}

uint32_t VirtioMmioDevice::read_register(uint64_t offset) const {
    const bool queue_exists = queue_select_ < queues_.size();
    switch (offset) {
        case kRegMagic:
            return kMagic;
        case kRegVersion:
            return 2;
        case kRegDeviceId:
            return device_id_;
        case kRegVendor:
            return kVendor;
        case kRegDeviceFeatures:
            if (device_features_select_ > 1) return 0;
            return static_cast<uint32_t>(device_features_ >> (32 * device_features_select_));
        case kRegQueueSizeMax:
            return queue_exists ? VirtQueue::kSizeMax : 0;
        case kRegQueueReady:
            return queue_exists && queues_[queue_select_].ready ? 1 : 0;
        case kRegInterruptStatus:
            return interrupt_status_;
        case kRegStatus:
            return status_;
        default:
            return 0;
    }
}

void VirtioMmioDevice::write_register(GuestMemory& memory, uint64_t offset, uint32_t value) {
    switch (offset) {
        case kRegDeviceFeaturesSelect:
            device_features_select_ = value;
            break;
        case kRegDriverFeaturesSelect:
            driver_features_select_ = value;
            break;
        case kRegDriverFeatures:
            if ((status_ & kStatusFeaturesOk) != 0) break;
            if (driver_features_select_ == 0) set_low(driver_features_, value);
            if (driver_features_select_ == 1) set_high(driver_features_, value);
            break;
        case kRegQueueSelect:
            queue_select_ = value;
            break;
        case kRegQueueNotify:
            if (value < queues_.size() && driver_ok()) {
                notify(memory, value);
                check_queue(value);
            }
            break;
        case kRegInterruptAcknowledge:
            interrupt_status_ &= ~value;
            break;
        case kRegStatus:
            write_status(memory, value);
            break;
        default:
            write_queue_register(memory, offset, value);
            break;
    }
}

void VirtioMmioDevice::write_status(const GuestMemory& memory, uint32_t value) {
    if (value == 0) return reset(memory);
    auto wanted = static_cast<uint8_t>(value | (status_ & kStatusNeedsReset));
    const bool features_now = (wanted & ~status_ & kStatusFeaturesOk) != 0;
    const bool acceptable =
        (driver_features_ & ~device_features_) == 0 && (driver_features_ & kFeatureVersion1) != 0;
    if (features_now && !acceptable) wanted = static_cast<uint8_t>(wanted & ~kStatusFeaturesOk);
    status_ = wanted;
}

void VirtioMmioDevice::write_queue_register(GuestMemory& memory, uint64_t offset, uint32_t value) {
    if (queue_select_ >= queues_.size()) return;
    VirtQueue& selected = queues_[queue_select_];
    if (offset == kRegQueueReady) {
        if (value == 0) {
            selected.ready = false;
        } else if (!selected.ready && !selected.enable(memory)) {
            fail_device(selected.bad_reason());
        }
        return;
    }
    if (selected.ready) return;  // addresses of a live queue do not move
    switch (offset) {
        case kRegQueueSize:
            selected.size = static_cast<uint16_t>(std::min(value, 0xffffu));
            break;
        case kRegQueueDescriptorsLow:
            set_low(selected.descriptors, value);
            break;
        case kRegQueueDescriptorsHigh:
            set_high(selected.descriptors, value);
            break;
        case kRegQueueAvailableLow:
            set_low(selected.available, value);
            break;
        case kRegQueueAvailableHigh:
            set_high(selected.available, value);
            break;
        case kRegQueueUsedLow:
            set_low(selected.used, value);
            break;
        case kRegQueueUsedHigh:
            set_high(selected.used, value);
            break;
        default:
            break;
    }
}

void VirtioMmioDevice::reset(const GuestMemory& memory) {
    for (VirtQueue& each : queues_) each.reset();
    driver_features_ = 0;
    device_features_select_ = 0;
    driver_features_select_ = 0;
    queue_select_ = 0;
    interrupt_status_ = 0;
    status_ = 0;
    on_reset(memory);
}

void VirtioMmioDevice::give_back(GuestMemory& memory, size_t index, uint16_t head,
                                 uint32_t written) {
    if (queues_[index].push_used(memory, head, written)) interrupt_status_ |= kInterruptQueue;
    check_queue(index);
}

void VirtioMmioDevice::check_queue(size_t index) {
    if (queues_[index].bad() && !needs_reset()) fail_device(queues_[index].bad_reason());
}

void VirtioMmioDevice::fail_device(const char* reason) {
    if (std::has_single_bit(++failure_count_)) {
        logger("vmm").warn("{}: the guest broke virtio ({} times): {}; the device needs a reset",
                           name_, failure_count_, reason);
    }
    status_ |= kStatusNeedsReset;
    if ((status_ & kStatusDriverOk) != 0) interrupt_status_ |= kInterruptConfig;
}

void VirtioMmioDevice::save(StateWriter& out) const {
    for (const VirtQueue& each : queues_) each.save(out);
    out.put(driver_features_);
    out.put(device_features_select_);
    out.put(driver_features_select_);
    out.put(queue_select_);
    out.put(interrupt_status_);
    out.put(status_);
    save_device(out);
}

void VirtioMmioDevice::load(StateReader& in, const GuestMemory& memory) {
    for (VirtQueue& each : queues_) each.load(in, memory);
    in.get(driver_features_);
    in.get(device_features_select_);
    in.get(driver_features_select_);
    in.get(queue_select_);
    in.get(interrupt_status_);
    in.get(status_);
    load_device(in, memory);
}

}  // namespace antipode::vmm
