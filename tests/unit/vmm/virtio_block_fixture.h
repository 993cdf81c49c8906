// A disk device with a driver, for the tests of virtio-blk.
#pragma once

#include <gtest/gtest.h>
#include <string>

#include "replicator/vmm/devices/virtio_block/block_device.h"
#include "tests/unit/vmm/saved_state.h"
#include "tests/unit/vmm/virtio_driver.h"

namespace antipode::vmm {

inline constexpr uint32_t kIn = 0;
inline constexpr uint32_t kOut = 1;
inline constexpr uint32_t kFlush = 4;
inline constexpr uint32_t kGetId = 8;
inline constexpr uint32_t kDiscard = 11;
inline constexpr uint32_t kWriteZeroes = 13;

inline constexpr uint8_t kOk = 0;
inline constexpr uint8_t kIoError = 1;
inline constexpr uint8_t kUnsupported = 2;
inline constexpr uint8_t kNoAnswer = 0xaa;

inline std::vector<std::byte> pattern(size_t bytes, uint8_t seed = 1) {
    std::vector<std::byte> data(bytes);
    for (size_t i = 0; i < bytes; ++i) data[i] = static_cast<std::byte>(i * 13 + seed);
    return data;
}

// One slot a request: descriptors 3 * slot ..., header, status and up to 1 MiB of data of its own.
class VirtioBlockTest : public testing::Test {
  protected:
    static constexpr uint64_t kRam = uint64_t{64} << 20;
    static constexpr uint64_t kDiskBytes = uint64_t{8} << 20;
    static constexpr uint64_t kHeaders = 0x100000;
    static constexpr uint64_t kData = 0x200000;
    static constexpr uint64_t kSlotBytes = 0x100000;

    VirtioBlockTest() { driver_.initialise({&ring_}); }

    static VirtioBlock make_device() {
        return VirtioBlock(0, "root", kDiskBytes, VirtioBlock::Access::read_write);
    }
    static uint64_t header_at(uint16_t slot) { return kHeaders + 64u * slot; }
    static uint64_t status_at(uint16_t slot) { return header_at(slot) + 48; }
    static uint64_t data_at(uint16_t slot) { return kData + kSlotBytes * slot; }

    void put_header(uint16_t slot, uint32_t type, uint64_t sector) {
        memory_.store(GuestPhys(header_at(slot)), type);
        memory_.store(GuestPhys(header_at(slot) + 4), uint32_t{0});
        memory_.store(GuestPhys(header_at(slot) + 8), sector);
        memory_.store(GuestPhys(status_at(slot)), kNoAnswer);
    }
    // Puts a request into the ring, without telling the device.
    void put(uint16_t slot, uint32_t type, uint64_t sector, uint32_t bytes) {
        put_header(slot, type, sector);
        std::vector<TestDescriptor> parts{{header_at(slot), 16, 0, 0}};
        const uint16_t flags = type == kIn || type == kGetId ? kWrite : 0;
        if (bytes > 0) parts.push_back({data_at(slot), bytes, flags, 0});
        parts.push_back({status_at(slot), 1, kWrite, 0});
        ring_.chain(static_cast<uint16_t>(3 * slot), std::move(parts));
        ring_.offer(static_cast<uint16_t>(3 * slot));
    }
    void put_range(uint16_t slot, uint32_t type, uint64_t sector, uint32_t sectors,
                   uint32_t flags = 0) {
        memory_.store(GuestPhys(data_at(slot)), sector);
        memory_.store(GuestPhys(data_at(slot) + 8), sectors);
        memory_.store(GuestPhys(data_at(slot) + 12), flags);
        put(slot, type, 0, 16);
    }
    std::vector<BlockRequest> send(uint16_t slot, uint32_t type, uint64_t sector, uint32_t bytes) {
        put(slot, type, sector, bytes);
        return notify();
    }
    std::vector<BlockRequest> notify() {
        driver_.notify(0);
        return device_.take_requests();
    }
    uint8_t status_of(uint16_t slot) { return *memory_.load<uint8_t>(GuestPhys(status_at(slot))); }
    std::vector<std::byte> memory_at(uint64_t at, size_t bytes) {
        const auto view = memory_.view(GuestPhys(at), bytes);
        return {view->begin(), view->end()};
    }
    static std::vector<uint64_t> numbers(const std::vector<BlockRequest>& requests) {
        std::vector<uint64_t> all;
        for (const auto& each : requests) all.push_back(each.number);
        return all;
    }
    bool complete(uint64_t number, BlockStatus status = BlockStatus::ok,
                  std::span<const std::byte> data = {}) {
        return device_.complete(memory_, number, status, data);
    }

    GuestMemory memory_ = test_memory(kRam);
    GuestRing ring_{memory_, 0x10000, 128};
    VirtioBlock device_{make_device()};
    VirtioDriver driver_{device_, memory_};
};

}  // namespace antipode::vmm
