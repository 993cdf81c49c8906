// GuestMemory: the RAM of one VM, mapped into this process.
//
// Called by the vCPU thread while the VM runs, by the builder before that; not thread safe.
//
// INVARIANTS
//   - An access outside the RAM is refused, never clipped; a range may not straddle the hole below
//   4 GiB.
//   - Around it lies address space that nothing may touch: a wrong offset of up to kGuardBytes is a
//     crash and no silent read or write of this process's own memory.
//   - Every write by the VMM goes through write() or mutable_span() and is marked in vmm_dirty():
//   KVM's
//     dirty log sees only the guest's own writes (and KVM's on its behalf).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "common/base/result.h"
#include "replicator/vmm/layout.h"

namespace antipode::vmm {

class GuestMemory {
  public:
    static constexpr uint64_t kGuardBytes = uint64_t{1} << 20;

    // `size_bytes`: a positive multiple of the page size.
    static Result<GuestMemory> allocate(uint64_t size_bytes);
    GuestMemory(GuestMemory&& other) noexcept;
    GuestMemory& operator=(GuestMemory&&) = delete;
    ~GuestMemory();

    uint64_t size_bytes() const { return size_bytes_; }
    uint64_t page_count() const { return size_bytes_ / layout::kPageBytes; }
    // RAM below the hole, at guest address 0; what is left lies at 4 GiB.
    uint64_t low_bytes() const;
    std::byte* host_base() const { return base_; }

    // A view of [at, at + bytes), or nothing if that is not all RAM.
    std::optional<std::span<const std::byte>> view(GuestPhys at, uint64_t bytes) const;
    // The same, to write to; marks the pages dirty.
    std::optional<std::span<std::byte>> mutable_span(GuestPhys at, uint64_t bytes);
    bool write(GuestPhys at, std::span<const std::byte> data);

    template <typename T>
    std::optional<T> load(GuestPhys at) const {
        const auto bytes = view(at, sizeof(T));
        if (!bytes) return std::nullopt;
        T value;
        __builtin_memcpy(&value, bytes->data(), sizeof(T));
        return value;
    }
    template <typename T>
    bool store(GuestPhys at, const T& value) {
        return write(at, std::as_bytes(std::span(&value, 1)));
    }

    // By page number, counting the RAM without the hole.
    std::span<const std::byte> page(uint64_t page_number) const;
    std::span<std::byte> mutable_page(uint64_t page_number);

    // One bit a page, set by the VMM's own writes since the last clear.
    std::vector<uint64_t>& vmm_dirty() { return vmm_dirty_; }
    const std::vector<uint64_t>& vmm_dirty() const { return vmm_dirty_; }

  private:
    GuestMemory(std::byte* base, uint64_t size_bytes);
    std::optional<uint64_t> offset_of(GuestPhys at, uint64_t bytes) const;
    void mark_dirty(uint64_t offset, uint64_t bytes);

    std::byte* base_;
    uint64_t size_bytes_;
    std::vector<uint64_t> vmm_dirty_;
};

}  // namespace antipode::vmm
