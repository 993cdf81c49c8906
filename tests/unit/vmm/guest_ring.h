// GuestRing: the driver's side of a split virtqueue, written into the guest's memory byte by byte,
// so that a test can also write what a driver must not. virtio 1.2, section 2.7.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "replicator/vmm/guest_memory.h"

namespace antipode::vmm {

inline constexpr uint16_t kNext = 1;
inline constexpr uint16_t kWrite = 2;
inline constexpr uint16_t kIndirect = 4;

struct TestDescriptor {
    uint64_t at = 0;
    uint32_t bytes = 0;
    uint16_t flags = 0;
    uint16_t next = 0;
};

class GuestRing {
  public:
    // Table, available ring and used ring behind each other from `base`.
    GuestRing(GuestMemory& memory, uint64_t base, uint16_t size)
        : memory_(memory), base_(base), size_(size) {}

    uint64_t descriptors() const { return base_; }
    uint64_t available() const { return base_ + 16u * size_; }
    uint64_t used() const { return (available() + 6 + 2u * size_ + 3) & ~uint64_t{3}; }
    uint64_t end() const { return used() + 6 + 8u * size_; }
    uint16_t size() const { return size_; }

    void put_descriptor(uint64_t table, uint32_t index, const TestDescriptor& descriptor) {
        const uint64_t at = table + 16u * index;
        store(at, descriptor.at);
        store(at + 8, descriptor.bytes);
        store(at + 12, descriptor.flags);
        store(at + 14, descriptor.next);
    }
    void set(uint16_t index, const TestDescriptor& descriptor) {
        put_descriptor(base_, index, descriptor);
    }
    // Descriptors `first`, `first` + 1, ... as one chain; `next` and kNext are filled in.
    void chain(uint16_t first, std::vector<TestDescriptor> parts) {
        for (size_t i = 0; i < parts.size(); ++i) {
            if (i + 1 < parts.size()) {
                parts[i].flags |= kNext;
                parts[i].next = static_cast<uint16_t>(first + i + 1);
            }
            set(static_cast<uint16_t>(first + i), parts[i]);
        }
    }
    // Puts a head into the available ring.
    void offer(uint16_t head) {
        store(available() + 4 + 2u * (next_ % size_), head);
        set_available_index(static_cast<uint16_t>(next_ + 1));
    }
    void set_available_index(uint16_t index) {
        next_ = index;
        store(available() + 2, index);
    }
    void set_available_flags(uint16_t flags) { store(available(), flags); }

    uint16_t used_index() const { return *memory_.load<uint16_t>(GuestPhys(used() + 2)); }
    // {head, written} of the n-th chain that was given back.
    std::pair<uint32_t, uint32_t> used_element(uint16_t n) const {
        const uint64_t at = used() + 4 + 8u * (n % size_);
        return {*memory_.load<uint32_t>(GuestPhys(at)), *memory_.load<uint32_t>(GuestPhys(at + 4))};
    }

  private:
    template <typename T>
    void store(uint64_t at, T value) {
        if (!memory_.store(GuestPhys(at), value)) throw std::out_of_range("guest ring");
    }

    GuestMemory& memory_;
    uint64_t base_;
    uint16_t size_;
    uint16_t next_ = 0;
};

inline GuestMemory test_memory(uint64_t bytes) {
    auto memory = GuestMemory::allocate(bytes);
    if (!memory) throw std::runtime_error(memory.error().to_string());
    return std::move(*memory);
}

}  // namespace antipode::vmm
