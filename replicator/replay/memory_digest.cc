#include "replicator/replay/memory_digest.h"

#include <algorithm>
#include <bit>
#include <xxhash.h>

namespace antipode::replay {
namespace {

template <typename Function>
void for_each_bit(const std::vector<uint64_t>& bitmap, uint64_t limit, Function function) {
    for (size_t word = 0; word < bitmap.size(); ++word) {
        for (uint64_t bits = bitmap[word]; bits != 0; bits &= bits - 1) {
            const uint64_t number = word * 64 + static_cast<unsigned>(std::countr_zero(bits));
            if (number < limit) function(number);
        }
    }
}

// A bit for each page, and none beyond the last.
std::vector<uint64_t> bits_of_all(uint64_t pages) {
    std::vector<uint64_t> bitmap((pages + 63) / 64, ~uint64_t{0});
    if (pages % 64 != 0) bitmap.back() >>= 64 - pages % 64;
    return bitmap;
}

}  // namespace

uint64_t MemoryDigest::hash_page(const vmm::GuestMemory& memory, uint64_t page) {
    const auto bytes = memory.page(page);
    return XXH3_64bits_withSeed(bytes.data(), bytes.size(), page);
}

Result<void> MemoryDigest::collect(vmm::Vm& vm, vmm::GuestMemory& memory) {
    const size_t words = (memory.page_count() + 63) / 64;
    scratch_.assign(words, 0);
    if (unhashed_.empty()) unhashed_ = bits_of_all(memory.page_count());
    changed_.resize(words);
    marked_.resize(words);
    FT_TRY_VOID(vm.collect_dirty(scratch_));
    auto& ours = memory.vmm_dirty();
    for (size_t word = 0; word < words; ++word) {
        const uint64_t bits = scratch_[word] | ours[word];
        ours[word] = 0;
        unhashed_[word] |= bits;
        changed_[word] |= bits;
        marked_[word] |= bits;
        if (!unsent_.empty()) unsent_[word] |= bits;
    }
    return {};
}

Result<uint64_t> MemoryDigest::update(vmm::Vm& vm, vmm::GuestMemory& memory) {
    FT_TRY_VOID(collect(vm, memory));
    page_hashes_.resize(memory.page_count());
    for_each_bit(unhashed_, memory.page_count(), [&](uint64_t page) {
        const uint64_t hash = hash_page(memory, page);
        digest_ += hash - page_hashes_[page];
        page_hashes_[page] = hash;
        ++pages_hashed_;
    });
    std::fill(unhashed_.begin(), unhashed_.end(), 0);
    std::fill(changed_.begin(), changed_.end(), 0);
    return digest_;
}

Result<std::vector<uint64_t>> MemoryDigest::take_unsent(vmm::Vm& vm, vmm::GuestMemory& memory) {
    const size_t words = (memory.page_count() + 63) / 64;
    if (unsent_.empty()) unsent_ = bits_of_all(memory.page_count());
    FT_TRY_VOID(collect(vm, memory));
    std::vector<uint64_t> bitmap(words, 0);
    bitmap.swap(unsent_);
    return bitmap;
}

Result<std::vector<uint64_t>> MemoryDigest::marked(vmm::Vm& vm, vmm::GuestMemory& memory) {
    FT_TRY_VOID(collect(vm, memory));
    return marked_;
}

Result<std::vector<uint64_t>> MemoryDigest::take_marked(vmm::Vm& vm, vmm::GuestMemory& memory) {
    FT_TRY_VOID(collect(vm, memory));
    std::vector<uint64_t> bitmap(marked_.size(), 0);
    bitmap.swap(marked_);
    return bitmap;
}

Result<std::vector<uint64_t>> MemoryDigest::take_changed(vmm::Vm& vm, vmm::GuestMemory& memory) {
    FT_TRY_VOID(collect(vm, memory));
    std::vector<uint64_t> pages;
    for_each_bit(changed_, memory.page_count(), [&](uint64_t page) { pages.push_back(page); });
    std::fill(changed_.begin(), changed_.end(), 0);
    return pages;
}

}  // namespace antipode::replay
