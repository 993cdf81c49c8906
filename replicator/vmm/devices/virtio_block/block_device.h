// virtio-blk (virtio 1.2, section 5.2): the guest's disk, without the disk.
//
// The device parses requests at the exit that notified it, copies write data out of the guest (a
// bounce buffer), and hands them over as values: take_requests(). Whoever owns the disk executes
// them, in any order, and their completions come back as logged events: complete(). Only then does
// the guest see anything: read data, status, used ring, interrupt. So both sites show the guest the
// same thing at the same exit, whenever their disks were ready.
//
// vCPU thread only.
//
// INVARIANTS
//   - Requests are numbered from 1 in the order of the guest's chains; both sites number alike.
//   - Requests that overlap (one of them writing) are never with the disk at the same time: the
//   later one
//     waits in the device until the earlier one's completion event is applied (the paper's disk
//     races, section 3.3). A flush waits for nothing: virtio orders it against completed writes
//     only.
//   - Data held in bounce buffers is at most kBytesInFlightMax; more waits in the guest's ring.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "replicator/vmm/devices/virtio/mmio.h"

namespace antipode::vmm {

enum class BlockOperation : uint8_t {
    read = 1,
    write = 2,
    flush = 3,
    discard = 4,
    write_zeroes = 5,
};

// What the disk shall do. `data`: the bytes to write, or room for the bytes to read.
struct BlockRequest {
    uint32_t device = 0;
    uint64_t number = 0;
    BlockOperation operation = BlockOperation::read;
    uint64_t offset_bytes = 0;
    uint64_t length_bytes = 0;
    std::vector<std::byte> data;
};

enum class BlockStatus : uint8_t { ok = 0, io_error = 1, unsupported = 2 };

class VirtioBlock final : public VirtioMmioDevice {
  public:
    static constexpr uint64_t kSectorBytes = 512;
    static constexpr uint64_t kBytesInFlightMax = 16u << 20;

    enum class Access { read_write, read_only };

    VirtioBlock(uint32_t device, std::string drive_id, uint64_t capacity_bytes, Access access);

    // The requests that became ready for the disk since the last call.
    std::vector<BlockRequest> take_requests() { return std::exchange(ready_, {}); }
    // A request has ended, with the data read if it was a read. False: no such request (the guest
    // reset the device meanwhile), and nothing happened.
    bool complete(GuestMemory& memory, uint64_t number, BlockStatus status,
                  std::span<const std::byte> data);
    size_t in_flight() const { return pending_.size(); }
    uint64_t capacity_bytes() const { return capacity_bytes_; }

    // After load(): the requests that were with the disk, to be issued again.
    std::vector<BlockRequest> reissue(const GuestMemory& memory) const;

  private:
    struct Pending {
        uint64_t number;
        BlockOperation operation;
        uint64_t offset_bytes;
        uint64_t length_bytes;
        bool with_disk;
        VirtQueue::Chain chain;
    };
    void notify(GuestMemory& memory, size_t queue) override;
    std::span<const std::byte> config() const override { return config_; }
    void on_reset() override;
    void save_device(StateWriter& out) const override;
    void load_device(StateReader& in, const GuestMemory& memory) override;

    void accept(GuestMemory& memory, VirtQueue::Chain chain);
    bool parse_ranges(const GuestMemory& memory, const VirtQueue::Chain& chain, Pending& request);
    void answer(GuestMemory& memory, const VirtQueue::Chain& chain, BlockStatus status,
                std::span<const std::byte> data);
    bool conflicts(const Pending& request, size_t before) const;
    void issue_ready(const GuestMemory& memory);
    BlockRequest to_request(const GuestMemory& memory, const Pending& pending) const;
    uint64_t bytes_in_flight() const;

    const uint32_t device_;
    const uint64_t capacity_bytes_;
    const Access access_;
    std::string serial_;
    std::vector<std::byte> config_;
    std::deque<Pending> pending_;  // by number
    std::vector<BlockRequest> ready_;
    uint64_t next_number_ = 1;
};

}  // namespace antipode::vmm
