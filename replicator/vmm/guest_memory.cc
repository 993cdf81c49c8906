#include "replicator/vmm/guest_memory.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <sys/mman.h>
#include <utility>

#include "common/base/check.h"

namespace antipode::vmm {

Result<GuestMemory> GuestMemory::allocate(uint64_t size_bytes) {
    FT_CHECK(size_bytes > 0 && size_bytes % layout::kPageBytes == 0, "{} bytes", size_bytes);
    const uint64_t mapped_bytes = size_bytes + 2 * kGuardBytes;
    void* outer =
        mmap(nullptr, mapped_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (outer == MAP_FAILED) return fail_errno(errno, "guest memory of {} bytes", size_bytes);
    auto* base = static_cast<std::byte*>(outer) + kGuardBytes;
    if (mprotect(base, size_bytes, PROT_READ | PROT_WRITE) != 0) {
        const int error = errno;
        munmap(outer, mapped_bytes);
        return fail_errno(error, "guest memory of {} bytes", size_bytes);
    }
    return GuestMemory(base, size_bytes);
}

GuestMemory::GuestMemory(std::byte* base, uint64_t size_bytes)
    : base_(base),
      size_bytes_(size_bytes),
      vmm_dirty_((size_bytes / layout::kPageBytes + 63) / 64) {}

GuestMemory::GuestMemory(GuestMemory&& other) noexcept
    : base_(std::exchange(other.base_, nullptr)),
      size_bytes_(other.size_bytes_),
      vmm_dirty_(std::move(other.vmm_dirty_)) {}

GuestMemory::~GuestMemory() {
    if (base_ != nullptr) munmap(base_ - kGuardBytes, size_bytes_ + 2 * kGuardBytes);
}

uint64_t GuestMemory::low_bytes() const {
    return std::min(size_bytes_, layout::kLowMemoryEnd);
}

std::optional<uint64_t> GuestMemory::offset_of(GuestPhys at, uint64_t bytes) const {
    const uint64_t low = low_bytes();
    if (at.value() < low) {
        if (bytes > low - at.value()) return std::nullopt;
        return at.value();
    }
    if (at.value() < layout::kAbove4GiB) return std::nullopt;
    const uint64_t above = at.value() - layout::kAbove4GiB;
    const uint64_t high = size_bytes_ - low;
    if (above >= high || bytes > high - above) return std::nullopt;
    return low + above;
}

void GuestMemory::mark_dirty(uint64_t offset, uint64_t bytes) {
    if (bytes == 0) return;
    const uint64_t last = (offset + bytes - 1) / layout::kPageBytes;
    for (uint64_t page = offset / layout::kPageBytes; page <= last; ++page) {
        vmm_dirty_[page / 64] |= uint64_t{1} << (page % 64);
    }
}

std::optional<std::span<const std::byte>> GuestMemory::view(GuestPhys at, uint64_t bytes) const {
    const auto offset = offset_of(at, bytes);
    if (!offset) return std::nullopt;
    return std::span<const std::byte>(base_ + *offset, bytes);
}

std::optional<std::span<std::byte>> GuestMemory::mutable_span(GuestPhys at, uint64_t bytes) {
    const auto offset = offset_of(at, bytes);
    if (!offset) return std::nullopt;
    mark_dirty(*offset, bytes);
    return std::span<std::byte>(base_ + *offset, bytes);
}

bool GuestMemory::write(GuestPhys at, std::span<const std::byte> data) {
    const auto target = mutable_span(at, data.size());
    if (!target) return false;
    std::copy(data.begin(), data.end(), target->begin());
    return true;
}

std::span<const std::byte> GuestMemory::page(uint64_t page_number) const {
    FT_CHECK(page_number < page_count(), "page {} of {}", page_number, page_count());
    return {base_ + page_number * layout::kPageBytes, layout::kPageBytes};
}

std::span<std::byte> GuestMemory::mutable_page(uint64_t page_number) {
    FT_CHECK(page_number < page_count(), "page {} of {}", page_number, page_count());
    mark_dirty(page_number * layout::kPageBytes, layout::kPageBytes);
    return {base_ + page_number * layout::kPageBytes, layout::kPageBytes};
}

}  // namespace antipode::vmm
