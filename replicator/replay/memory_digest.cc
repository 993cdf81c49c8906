#include "replicator/replay/memory_digest.h"

#include <algorithm>
#include <bit>
#include <xxhash.h>

namespace antipode::replay {

uint64_t MemoryDigest::hash_page(const vmm::GuestMemory& memory, uint64_t page) {
    const auto bytes = memory.page(page);
    return XXH3_64bits_withSeed(bytes.data(), bytes.size(), page);
}

Result<uint64_t> MemoryDigest::update(vmm::Vm& vm, vmm::GuestMemory& memory) {
    const bool first = page_hashes_.empty();
    dirty_.assign((memory.page_count() + 63) / 64, first ? ~uint64_t{0} : 0);
    page_hashes_.resize(memory.page_count());
    FT_TRY_VOID(vm.collect_dirty(dirty_));
    auto& ours = memory.vmm_dirty();
    for (size_t word = 0; word < dirty_.size(); ++word) {
        uint64_t bits = dirty_[word] | ours[word];
        ours[word] = 0;
        while (bits != 0) {
            const uint64_t page = word * 64 + static_cast<unsigned>(std::countr_zero(bits));
            bits &= bits - 1;
            if (page >= page_hashes_.size()) break;
            const uint64_t hash = hash_page(memory, page);
            digest_ += hash - page_hashes_[page];
            page_hashes_[page] = hash;
            ++pages_hashed_;
        }
    }
    return digest_;
}

}  // namespace antipode::replay
