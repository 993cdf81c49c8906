#include "tests/guests/lib/block.h"

#include "tests/guests/lib/kernel.h"

namespace antipode::guest {
namespace {

constexpr uint64_t kFeatureFlush = uint64_t{1} << 9;
constexpr uint8_t kStatusUnset = 0xff;

VirtioRings g_rings;

}  // namespace

void BlockDisk::open(Text command_line, size_t number) {
    VirtioPlace place{};
    if (!find_virtio(command_line, kVirtioBlock, number, place)) {
        fail("no virtio block device");
    }
    device_.open(place, kFeatureFlush);
    sectors_ = device_.config64(0);
    device_.set_up(queue_, 0, g_rings);
    device_.start();
}

bool BlockDisk::can_flush() const {
    return device_.has(kFeatureFlush);
}

bool BlockDisk::submit(BlockVerb verb, uint64_t sector, void* data, uint32_t bytes, uint64_t tag) {
    size_t index = 0;
    while (index < kBlockInFlightMax && slots_[index].used) {
        ++index;
    }
    if (index == kBlockInFlightMax) {
        return false;
    }
    Slot& slot = slots_[index];
    slot.header = {static_cast<uint32_t>(verb), 0, sector};
    slot.status = kStatusUnset;
    slot.tag = tag;
    const Segment segments[3] = {
        {&slot.header, sizeof slot.header, false},
        {data, bytes, verb == BlockVerb::read},
        {&slot.status, 1, true},
    };
    const Segment without_data[2] = {segments[0], segments[2]};
    const bool added =
        bytes == 0 ? queue_.add(without_data, 2, slot.head) : queue_.add(segments, 3, slot.head);
    if (!added) {
        return false;
    }
    slot.used = true;
    ++in_flight_;
    queue_.notify();
    return true;
}

bool BlockDisk::try_complete(BlockCompletion& completion) {
    uint16_t head = 0;
    uint32_t bytes = 0;
    if (!queue_.take(head, bytes)) {
        return false;
    }
    for (Slot& slot : slots_) {
        if (slot.used && slot.head == head) {
            slot.used = false;
            --in_flight_;
            completion = {slot.tag, slot.status};
            if (slot.status == kStatusUnset) {
                fail("block: a request came back without a status");
            }
            return true;
        }
    }
    fail("block: the device completed what nobody asked for");
}

BlockCompletion BlockDisk::complete(uint32_t& lines) {
    BlockCompletion completion{};
    for (;;) {
        // Before looking: a line that stays raised brings no other interrupt.
        if ((lines & device_.line_bit()) != 0) {
            lines &= ~device_.line_bit();
            device_.acknowledge_interrupt();
        }
        if (try_complete(completion)) {
            return completion;
        }
        lines |= wait();
    }
}

uint8_t BlockDisk::run(BlockVerb verb, uint64_t sector, void* data, uint32_t bytes,
                       uint32_t& lines) {
    if (in_flight() || !submit(verb, sector, data, bytes, 0)) {
        fail("block: run() while others are in flight");
    }
    return complete(lines).status;
}

}  // namespace antipode::guest
