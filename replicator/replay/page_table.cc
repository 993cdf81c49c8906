#include "replicator/replay/page_table.h"

#include <algorithm>
#include <xxhash.h>

#include "common/base/check.h"

namespace antipode::replay {

bool PageTable::changed(uint64_t page, std::span<const std::byte> bytes) {
    FT_CHECK(page < hashes_.size(), "page {} of {}", page, hashes_.size());
    const XXH128_hash_t raw = XXH3_128bits(bytes.data(), bytes.size());
    Hash hash{raw.low64, raw.high64};
    if (hash == Hash{}) hash.low = 1;  // zero says that nothing is known
    if (hashes_[page] == hash) return false;
    hashes_[page] = hash;
    return true;
}

void PageTable::forget() {
    std::fill(hashes_.begin(), hashes_.end(), Hash{});
}

}  // namespace antipode::replay
