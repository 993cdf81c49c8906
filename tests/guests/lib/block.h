// A virtio block device as a guest of ours uses it.
//
// submit() queues a request; complete() waits for one and names it by the tag it was given.
// Requests in flight: at most kBlockInFlightMax. Ring 3, one caller.
#pragma once

#include "tests/guests/lib/virtio.h"

namespace antipode::guest {

inline constexpr size_t kBlockInFlightMax = 16;
inline constexpr uint64_t kSectorBytes = 512;

enum class BlockVerb : uint32_t { read = 0, write = 1, flush = 4 };

struct BlockCompletion {
    uint64_t tag;
    uint8_t status;  // 0 good, 1 I/O error, 2 unsupported
};

class BlockDisk {
  public:
    // Ends the guest if there is no disk.
    void open(Text command_line, size_t number = 0);

    uint64_t sectors() const { return sectors_; }
    bool can_flush() const;

    // False: too many in flight. `bytes` is a multiple of 512, 0 for a flush.
    bool submit(BlockVerb verb, uint64_t sector, void* data, uint32_t bytes, uint64_t tag);
    // Halts until a request is complete. `lines` holds interrupts taken but not yet looked after,
    // of all devices: ours are, here; what comes for others is added.
    BlockCompletion complete(uint32_t& lines);
    bool try_complete(BlockCompletion& completion);
    bool in_flight() const { return in_flight_ != 0; }
    const VirtioDevice& device() const { return device_; }

    // One request, waited for: its status.
    uint8_t run(BlockVerb verb, uint64_t sector, void* data, uint32_t bytes, uint32_t& lines);

  private:
    struct Header {
        uint32_t verb;
        uint32_t reserved;
        uint64_t sector;
    };
    struct Slot {
        alignas(16) Header header;
        uint8_t status;
        bool used;
        uint16_t head;
        uint64_t tag;
    };
    VirtioDevice device_;
    VirtioQueue queue_;
    uint64_t sectors_ = 0;
    size_t in_flight_ = 0;
    Slot slots_[kBlockInFlightMax] = {};
};

}  // namespace antipode::guest
