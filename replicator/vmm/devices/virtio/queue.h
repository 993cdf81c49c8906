// A split virtqueue, seen from the device (virtio 1.2, section 2.7).
//
// Everything in it was written by the guest and is not believed: each address is checked against
// the guest's RAM, each chain against the queue size, each index against what can be outstanding.
// The first rule that is broken makes the queue bad, and the device goes to DEVICE_NEEDS_RESET;
// nothing is guessed.
//
// vCPU thread only.
//
// INVARIANTS: at most `size` chains are outstanding; a chain has at most `size` descriptors, and as
// many as kSizeMax more in an indirect table at its end; its total length is at most
// kChainBytesMax; a bad queue is not ready, and stays bad until the device is reset.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "replicator/vmm/guest_memory.h"
#include "replicator/vmm/state_io.h"

namespace antipode::vmm {

class VirtQueue {
  public:
    static constexpr uint16_t kSizeMax = 256;
    static constexpr uint64_t kChainBytesMax = 8u << 20;

    struct Segment {
        GuestPhys at;
        uint32_t bytes;
    };
    // A descriptor chain: what the device reads, then what it may write.
    struct Chain {
        uint16_t head = 0;
        std::vector<Segment> readable;
        std::vector<Segment> writable;
        uint64_t readable_bytes = 0;
        uint64_t writable_bytes = 0;
    };

    // The guest's configuration, by the transport.
    uint16_t size = 0;
    uint64_t descriptors = 0;
    uint64_t available = 0;
    uint64_t used = 0;
    bool ready = false;

    // Checks the configuration; false = the queue is bad.
    bool enable(const GuestMemory& memory);
    void reset();

    // The next available chain; nothing if there is none or the queue turned bad.
    std::optional<Chain> pop(const GuestMemory& memory);
    bool has_available(const GuestMemory& memory);
    // Gives a chain back with `written` bytes. True if the guest wants an interrupt.
    bool push_used(GuestMemory& memory, uint16_t head, uint32_t written);

    // Chains that were popped and not given back.
    uint16_t outstanding() const { return outstanding_; }
    bool bad() const { return bad_reason_ != nullptr; }
    const char* bad_reason() const { return bad_reason_; }

    void save(StateWriter& out) const;
    void load(StateReader& in, const GuestMemory& memory);

  private:
    struct Descriptor {
        uint64_t at;
        uint32_t bytes;
        uint16_t flags;
        uint16_t next;
    };
    bool broken(const char* reason);
    bool append(const GuestMemory& memory, const Descriptor& descriptor, Chain& chain);
    bool walk(const GuestMemory& memory, uint64_t table, uint32_t count, uint16_t first,
              bool indirect, Chain& chain);
    std::optional<Descriptor> load_descriptor(const GuestMemory& memory, uint64_t table,
                                              uint32_t index);

    uint16_t next_available_ = 0;
    uint16_t next_used_ = 0;
    uint16_t outstanding_ = 0;
    const char* bad_reason_ = nullptr;
};

// Copies between a chain's segments and a buffer; the segments were checked by pop(), and RAM does
// not shrink, so these cannot fail.
void gather(const GuestMemory& memory, std::span<const VirtQueue::Segment> from, uint64_t skip,
            std::span<std::byte> to);
void scatter(GuestMemory& memory, std::span<const VirtQueue::Segment> to,
             std::span<const std::byte> from);

void save_chain(StateWriter& out, const VirtQueue::Chain& chain);
VirtQueue::Chain load_chain(StateReader& in, const GuestMemory& memory);

}  // namespace antipode::vmm
