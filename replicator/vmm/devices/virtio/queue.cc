#include "replicator/vmm/devices/virtio/queue.h"

#include <algorithm>
#include <array>
#include <bit>

#include "common/base/check.h"

namespace antipode::vmm {
namespace {

constexpr uint16_t kFlagNext = 1;
constexpr uint16_t kFlagWrite = 2;
constexpr uint16_t kFlagIndirect = 4;
constexpr uint16_t kAvailableNoInterrupt = 1;
constexpr uint64_t kDescriptorBytes = 16;

}  // namespace

bool VirtQueue::broken(const char* reason) {
    bad_reason_ = reason;
    ready = false;
    return false;
}

bool VirtQueue::enable(const GuestMemory& memory) {
    if (bad()) return false;
    if (size == 0 || size > kSizeMax || !std::has_single_bit(size)) {
        return broken("queue size is not a power of two from 1 to 256");
    }
    if (descriptors % 16 != 0 || available % 2 != 0 || used % 4 != 0) {
        return broken("queue address is misaligned");
    }
    if (!memory.view(GuestPhys(descriptors), kDescriptorBytes * size)) {
        return broken("descriptor table is outside memory");
    }
    if (!memory.view(GuestPhys(available), 6u + 2u * size)) {
        return broken("available ring is outside memory");
    }
    if (!memory.view(GuestPhys(used), 6u + 8u * size)) {
        return broken("used ring is outside memory");
    }
    ready = true;
    return true;
}

void VirtQueue::reset() {
    *this = VirtQueue{};
}

std::optional<VirtQueue::Descriptor> VirtQueue::load_descriptor(const GuestMemory& memory,
                                                                uint64_t table, uint32_t index) {
    const uint64_t at = table + kDescriptorBytes * index;
    const auto address = memory.load<uint64_t>(GuestPhys(at));
    const auto bytes = memory.load<uint32_t>(GuestPhys(at + 8));
    const auto flags = memory.load<uint16_t>(GuestPhys(at + 12));
    const auto next = memory.load<uint16_t>(GuestPhys(at + 14));
    if (!address || !bytes || !flags || !next) {
        (void)broken("descriptor is outside memory");
        return std::nullopt;
    }
    return Descriptor{*address, *bytes, *flags, *next};
}

bool VirtQueue::append(const GuestMemory& memory, const Descriptor& descriptor, Chain& chain) {
    if (!memory.view(GuestPhys(descriptor.at), descriptor.bytes)) {
        return broken("descriptor names a buffer outside memory");
    }
    if (chain.readable_bytes + chain.writable_bytes + descriptor.bytes > kChainBytesMax) {
        return broken("descriptor chain is longer than 8 MiB");
    }
    const Segment segment{GuestPhys(descriptor.at), descriptor.bytes};
    if ((descriptor.flags & kFlagWrite) != 0) {
        chain.writable.push_back(segment);
        chain.writable_bytes += segment.bytes;
    } else {
        if (!chain.writable.empty()) return broken("readable descriptor after a writable one");
        chain.readable.push_back(segment);
        chain.readable_bytes += segment.bytes;
    }
    return true;
}

bool VirtQueue::walk(const GuestMemory& memory, uint64_t table, uint32_t count, uint16_t first,
                     bool indirect, Chain& chain) {
    uint32_t index = first;
    for (uint32_t seen = 0;; ++seen) {
        if (index >= count) return broken("descriptor index is outside the table");
        if (seen == count) return broken("descriptor chain is a loop");
        const auto descriptor = load_descriptor(memory, table, index);
        if (!descriptor) return false;
        if ((descriptor->flags & kFlagIndirect) != 0) {
            const uint32_t inner = static_cast<uint32_t>(descriptor->bytes / kDescriptorBytes);
            if (indirect) return broken("indirect descriptor inside an indirect table");
            if ((descriptor->flags & kFlagNext) != 0) {
                return broken("indirect descriptor is not the last of its chain");
            }
            if (descriptor->bytes % kDescriptorBytes != 0 || inner == 0 || inner > kSizeMax) {
                return broken("indirect table has a bad length");
            }
            return walk(memory, descriptor->at, inner, 0, true, chain);
        }
        if (!append(memory, *descriptor, chain)) return false;
        if ((descriptor->flags & kFlagNext) == 0) return true;
        index = descriptor->next;
    }
}

bool VirtQueue::has_available(const GuestMemory& memory) {
    if (!ready || bad()) return false;
    const auto index = memory.load<uint16_t>(GuestPhys(available + 2));
    if (!index) return broken("available ring is outside memory");
    const auto waiting = static_cast<uint16_t>(*index - next_available_);
    if (waiting > size || waiting + outstanding_ > size) {
        return broken("available index jumped past the queue size");
    }
    return waiting > 0;
}

std::optional<VirtQueue::Chain> VirtQueue::pop(const GuestMemory& memory) {
    if (!has_available(memory)) return std::nullopt;
    const uint64_t slot = next_available_ % size;
    const auto head = memory.load<uint16_t>(GuestPhys(available + 4 + 2 * slot));
    if (!head) {
        (void)broken("available ring is outside memory");
        return std::nullopt;
    }
    Chain chain;
    chain.head = *head;
    if (!walk(memory, descriptors, size, *head, false, chain)) return std::nullopt;
    ++next_available_;
    ++outstanding_;
    return chain;
}

bool VirtQueue::push_used(GuestMemory& memory, uint16_t head, uint32_t written) {
    if (!ready || bad()) return false;
    FT_CHECK(outstanding_ > 0, "queue gives back a chain that it does not have");
    const uint64_t at = used + 4 + 8u * (next_used_ % size);
    const std::array<uint32_t, 2> element{head, written};
    ++next_used_;
    --outstanding_;
    if (!memory.store(GuestPhys(at), element) || !memory.store(GuestPhys(used + 2), next_used_)) {
        return broken("used ring is outside memory");
    }
    const auto flags = memory.load<uint16_t>(GuestPhys(available));
    return !flags || (*flags & kAvailableNoInterrupt) == 0;
}

void VirtQueue::save(StateWriter& out) const {
    out.put(size);
    out.put(descriptors);
    out.put(available);
    out.put(used);
    out.put<uint8_t>(ready ? 1 : 0);
    out.put(next_available_);
    out.put(next_used_);
    out.put(outstanding_);
    out.put<uint8_t>(bad() ? 1 : 0);
}

void VirtQueue::load(StateReader& in, const GuestMemory& memory) {
    in.get(size);
    in.get(descriptors);
    in.get(available);
    in.get(used);
    const bool was_ready = in.get_flag();
    in.get(next_available_);
    in.get(next_used_);
    in.get(outstanding_);
    const bool was_bad = in.get_flag();
    bad_reason_ = nullptr;
    ready = false;
    if (was_bad && was_ready) in.reject("queue: is bad and ready");
    if (was_bad) {
        bad_reason_ = "queue was bad when its state was saved";
    } else if (was_ready && in.ok() && !enable(memory)) {
        in.reject(bad_reason_);
    }
}

void gather(const GuestMemory& memory, std::span<const VirtQueue::Segment> from, uint64_t skip,
            std::span<std::byte> to) {
    size_t filled = 0;
    for (const auto& segment : from) {
        if (skip >= segment.bytes) {
            skip -= segment.bytes;
            continue;
        }
        const uint64_t take = std::min<uint64_t>(segment.bytes - skip, to.size() - filled);
        const auto source = memory.view(GuestPhys(segment.at.value() + skip), take);
        FT_CHECK(source.has_value(), "segment was checked");
        std::copy(source->begin(), source->end(), to.begin() + static_cast<ptrdiff_t>(filled));
        filled += take;
        skip = 0;
        if (filled == to.size()) return;
    }
}

void scatter(GuestMemory& memory, std::span<const VirtQueue::Segment> to,
             std::span<const std::byte> from) {
    for (const auto& segment : to) {
        if (from.empty()) return;
        const size_t take = std::min<size_t>(segment.bytes, from.size());
        FT_CHECK(memory.write(segment.at, from.first(take)), "segment was checked");
        from = from.subspan(take);
    }
}

namespace {

void save_segments(StateWriter& out, const std::vector<VirtQueue::Segment>& segments) {
    out.put<uint16_t>(static_cast<uint16_t>(segments.size()));
    for (const auto& segment : segments) {
        out.put(segment.at.value());
        out.put(segment.bytes);
    }
}

uint64_t load_segments(StateReader& in, const GuestMemory& memory,
                       std::vector<VirtQueue::Segment>& segments) {
    uint64_t total = 0;
    const auto count = in.get<uint16_t>();
    for (uint16_t i = 0; i < count && in.ok(); ++i) {
        const GuestPhys at(in.get<uint64_t>());
        const auto bytes = in.get<uint32_t>();
        if (!memory.view(at, bytes)) in.reject("chain: segment is outside memory");
        segments.push_back({at, bytes});
        total += bytes;
    }
    return total;
}

}  // namespace

void save_chain(StateWriter& out, const VirtQueue::Chain& chain) {
    out.put(chain.head);
    save_segments(out, chain.readable);
    save_segments(out, chain.writable);
}

VirtQueue::Chain load_chain(StateReader& in, const GuestMemory& memory) {
    VirtQueue::Chain chain;
    in.get(chain.head);
    chain.readable_bytes = load_segments(in, memory, chain.readable);
    chain.writable_bytes = load_segments(in, memory, chain.writable);
    return chain;
}

}  // namespace antipode::vmm
