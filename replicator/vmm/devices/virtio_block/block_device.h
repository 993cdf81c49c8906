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
//     This holds over a reset of the device, too: what was with the disk then, is abandoned (the
//     guest gets no answer) but stays known until it has ended.
//   - Requests that are known are at most kRequestsInFlightMax, and their bytes at most
//     kBytesInFlightMax and one request more; the rest waits in the guest's ring.
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
    discard = 4,  // the range must read as zeroes afterwards, or both sites could read otherwise
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
    static constexpr size_t kRequestsInFlightMax = 2 * VirtQueue::kSizeMax;

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

    // After load(): the requests that were with the disk, to be issued again. What a write writes
    // is taken from the guest's memory as it is now: a guest that writes to a buffer that is with
    // the device may see either content on its disk, as with any disk.
    std::vector<BlockRequest> reissue(const GuestMemory& memory) const;

  private:
    struct Pending {
        uint64_t number;
        BlockOperation operation;
        uint64_t offset_bytes;
        uint64_t length_bytes;
        bool with_disk;
        bool abandoned;
        VirtQueue::Chain chain;       // of what is not abandoned
        std::vector<std::byte> data;  // of an abandoned write: its buffers are the guest's again
    };
    void notify(GuestMemory& memory, size_t queue) override;
    std::span<const std::byte> config() const override { return config_; }
    void on_reset(const GuestMemory& memory) override;
    void save_device(StateWriter& out) const override;
    void load_device(StateReader& in, const GuestMemory& memory) override;

    void accept(GuestMemory& memory, VirtQueue::Chain chain);
    // True if `request` was filled in; else what to answer is in `status`.
    bool parse_header(const GuestMemory& memory, const VirtQueue::Chain& chain, Pending& request,
                      BlockStatus& status) const;
    bool parse_range(const GuestMemory& memory, const VirtQueue::Chain& chain, Pending& request,
                     BlockStatus& status) const;
    bool fits(const Pending& request) const;
    bool has_room() const;
    bool consistent(const Pending& request) const;
    void answer(GuestMemory& memory, const VirtQueue::Chain& chain, BlockStatus status,
                std::span<const std::byte> data);
    bool conflicts(const Pending& request, size_t before) const;
    void issue_ready(const GuestMemory& memory);
    BlockRequest to_request(const GuestMemory& memory, const Pending& pending) const;

    const uint32_t device_;
    const uint64_t capacity_bytes_;
    const Access access_;
    std::string serial_;
    std::vector<std::byte> config_;
    std::deque<Pending> pending_;  // by number, ascending
    std::vector<BlockRequest> ready_;
    uint64_t next_number_ = 1;
};

}  // namespace antipode::vmm
