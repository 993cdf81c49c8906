// virtio 1.x over MMIO: the driver's side, for guests of our own.
//
// A device is found on the command line (virtio_mmio.device=512@0xd0000000:5, as Linux takes it)
// and driven from ring 3, with the registers mapped there. Split queues without event index or
// indirect descriptors; one descriptor chain per request, its head's number is the request's name.
//
// INVARIANTS: the device's page is touched with 32-bit accesses only (and bytes in its
// configuration space). An interrupt is acknowledged before the used ring is looked at, so that
// none is lost on an edge-triggered controller. A device that asks for a reset (status bit 6) makes
// every call here end the guest with EXIT-FAILURE; a guest that provokes it (hostile) uses
// Registers alone.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "tests/guests/lib/text.h"

namespace antipode::guest {

enum class VirtioRegister : uint32_t {
    magic = 0x000,
    version = 0x004,
    device_id = 0x008,
    vendor = 0x00c,
    device_features = 0x010,
    device_features_select = 0x014,
    driver_features = 0x020,
    driver_features_select = 0x024,
    queue_select = 0x030,
    queue_size_max = 0x034,
    queue_size = 0x038,
    queue_ready = 0x044,
    queue_notify = 0x050,
    interrupt_status = 0x060,
    interrupt_ack = 0x064,
    status = 0x070,
    queue_descriptors_low = 0x080,
    queue_descriptors_high = 0x084,
    queue_driver_low = 0x090,
    queue_driver_high = 0x094,
    queue_device_low = 0x0a0,
    queue_device_high = 0x0a4,
    config_generation = 0x0fc,
    config = 0x100,
};

inline constexpr uint32_t kVirtioMagic = 0x74726976;
inline constexpr uint32_t kVirtioNet = 1;
inline constexpr uint32_t kVirtioBlock = 2;
inline constexpr uint32_t kStatusAcknowledge = 1;
inline constexpr uint32_t kStatusDriver = 2;
inline constexpr uint32_t kStatusDriverOk = 4;
inline constexpr uint32_t kStatusFeaturesOk = 8;
inline constexpr uint32_t kStatusNeedsReset = 64;
inline constexpr uint32_t kStatusFailed = 128;
inline constexpr uint64_t kFeatureVersion1 = uint64_t{1} << 32;
inline constexpr uint64_t kFeatureIndirect = uint64_t{1} << 28;
inline constexpr uint16_t kDescriptorNext = 1;
inline constexpr uint16_t kDescriptorWrite = 2;
inline constexpr uint16_t kDescriptorIndirect = 4;

struct VirtioDescriptor {
    uint64_t address;
    uint32_t bytes;
    uint16_t flags;
    uint16_t next;
};
static_assert(sizeof(VirtioDescriptor) == 16);

inline constexpr uint16_t kVirtioQueueMax = 64;

struct VirtioAvailable {
    uint16_t flags;
    uint16_t index;
    uint16_t ring[kVirtioQueueMax];
    uint16_t used_event;
};
struct VirtioUsedEntry {
    uint32_t id;
    uint32_t bytes;
};
struct VirtioUsed {
    uint16_t flags;
    uint16_t index;
    VirtioUsedEntry ring[kVirtioQueueMax];
    uint16_t available_event;
};

// The memory of one queue, as the device sees it.
struct alignas(4096) VirtioRings {
    VirtioDescriptor descriptors[kVirtioQueueMax];
    alignas(16) VirtioAvailable available;
    alignas(16) VirtioUsed used;
};

// Plain access to a device's page.
class Registers {
  public:
    Registers() = default;
    explicit Registers(uint64_t base) : base_(base) {}
    uint64_t base() const { return base_; }

    uint32_t read(VirtioRegister which) const { return read32(static_cast<uint32_t>(which)); }
    void write(VirtioRegister which, uint32_t value) const {
        write32(static_cast<uint32_t>(which), value);
    }
    uint32_t read32(uint32_t offset) const {
        uint32_t value = 0;
        asm volatile("movl (%1), %0" : "=r"(value) : "r"(base_ + offset) : "memory");
        return value;
    }
    void write32(uint32_t offset, uint32_t value) const {
        asm volatile("movl %0, (%1)" : : "r"(value), "r"(base_ + offset) : "memory");
    }
    uint8_t read8(uint32_t offset) const {
        uint8_t value = 0;
        asm volatile("movb (%1), %0" : "=q"(value) : "r"(base_ + offset) : "memory");
        return value;
    }
    void write_queue_address(VirtioRegister low, const void* address) const {
        const auto value = reinterpret_cast<uint64_t>(address);
        write32(static_cast<uint32_t>(low), static_cast<uint32_t>(value));
        write32(static_cast<uint32_t>(low) + 4, static_cast<uint32_t>(value >> 32));
    }
    uint64_t device_features() const;
    void write_driver_features(uint64_t features) const;

  private:
    uint64_t base_ = 0;
};

// Where a device is and which line it interrupts on.
struct VirtioPlace {
    uint64_t base;
    uint8_t line;
};

// The `number`-th (from 0) device of this kind on the command line; false if there is none.
bool find_virtio(Text command_line, uint32_t device_id, size_t number, VirtioPlace& place);

struct Segment {
    const void* data;
    uint32_t bytes;
    bool device_writes;
};

class VirtioQueue {
  public:
    // Tells the device about the queue; ends the guest if the device has no such queue.
    void set_up(const Registers& registers, uint16_t number, VirtioRings& rings);

    // False: not enough free descriptors. `head` names the request.
    bool add(const Segment* segments, size_t count, uint16_t& head);
    void notify() const { registers_.write(VirtioRegister::queue_notify, number_); }

    // One completed request; false if there is none.
    bool take(uint16_t& head, uint32_t& bytes);

    uint16_t size() const { return size_; }

  private:
    Registers registers_;
    VirtioRings* rings_ = nullptr;
    uint16_t number_ = 0;
    uint16_t size_ = 0;
    uint16_t free_head_ = 0;
    uint16_t free_count_ = 0;
    uint16_t used_index_ = 0;
};

class VirtioDevice {
  public:
    // Resets the device and negotiates VERSION_1 and those of `wanted` that it has. Ends the guest
    // if the device is not there or refuses.
    void open(const VirtioPlace& place, uint64_t wanted);
    void set_up(VirtioQueue& queue, uint16_t number, VirtioRings& rings) {
        queue.set_up(registers_, number, rings);
    }
    // Queues are set up: go.
    void start();

    bool has(uint64_t feature) const { return (features_ & feature) != 0; }
    const Registers& registers() const { return registers_; }
    uint32_t line_bit() const { return 1u << line_; }
    uint64_t config64(uint32_t offset) const;

    // Call when the line interrupted, before taking from a queue.
    void acknowledge_interrupt() const;

  private:
    Registers registers_;
    uint64_t features_ = 0;
    uint8_t line_ = 0;
};

}  // namespace antipode::guest
