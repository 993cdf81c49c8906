// DirtyBitmap: one bit for each 64 KiB block of a disk: the peer may lack it.
//
// In memory a plain bitmap with counts; on disk pages of 4096 bytes, each with a header and its own
// checksum, each in two slots that are written in turns, so that a torn page costs nothing but the
// bits set since the page before it (which the activity log covers, see metadata.h).
//
// Pure. One owner.
//
// INVARIANTS
//   - count() is the number of set bits; bits beyond the last block are never set.
//   - A page is `changed` if bits of it were set since it was last encoded: it has to be written
//     before the activity log may forget the extents in it. Clearing makes a page `stale` only:
//     writing it late costs a needless resync of a block, never a missing one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "common/base/result.h"
#include "disksync/core/disk_types.h"

namespace antipode::disksync {

// A run of blocks.
struct BlockRange {
    uint64_t first = 0;
    uint64_t count = 0;
    friend bool operator==(const BlockRange&, const BlockRange&) = default;
};

constexpr uint64_t block_count_of(uint64_t size_bytes) {
    return (size_bytes + kBlockBytes - 1) / kBlockBytes;
}
// The blocks that a range of bytes touches.
constexpr BlockRange blocks_of(uint64_t offset_bytes, uint64_t length_bytes) {
    if (length_bytes == 0) return {offset_bytes / kBlockBytes, 0};
    const uint64_t first = offset_bytes / kBlockBytes;
    return {first, (offset_bytes + length_bytes - 1) / kBlockBytes - first + 1};
}

class DirtyBitmap {
  public:
    static constexpr uint64_t kPageBytes = 4096;
    static constexpr uint64_t kPageHeaderBytes = 32;
    // 508 extents of the activity log: no extent is in two pages.
    static constexpr uint64_t kBlocksPerPage = (kPageBytes - kPageHeaderBytes) * 8;
    static_assert(kBlocksPerPage % (kExtentBytes / kBlockBytes) == 0);
    static_assert(kBlocksPerPage % 64 == 0);

    explicit DirtyBitmap(uint64_t block_count);

    void set(BlockRange blocks);
    void clear(BlockRange blocks);
    void set_all() { set({0, block_count_}); }
    void clear_all() { clear({0, block_count_}); }
    bool is_set(uint64_t block) const { return (words_[block / 64] >> (block % 64) & 1) != 0; }
    // The first set block at or after `from`.
    std::optional<uint64_t> next_set(uint64_t from) const;
    // The run of set blocks at `first`, at most `count_max` long. `first` is set.
    BlockRange run_at(uint64_t first, uint64_t count_max) const;
    uint64_t count() const { return count_; }
    uint64_t block_count() const { return block_count_; }
    // More blocks, not set. Never fewer.
    void grow(uint64_t block_count);

    // `count` bits from `first` on, packed, lowest bit first; what is beyond the end is zero.
    std::vector<std::byte> bits(BlockRange blocks) const;
    // Sets what is set in `packed`. Errc::corrupt: bits beyond the end of the range.
    Result<> merge(BlockRange blocks, std::span<const std::byte> packed);

    size_t page_count() const { return pages_.size(); }
    bool page_changed(size_t page) const { return pages_[page].changed; }
    bool page_stale(size_t page) const { return pages_[page].changed || pages_[page].stale; }
    static size_t page_of(uint64_t block) { return block / kBlocksPerPage; }
    // The page as it is to be written now, with the next sequence. Its place is slot page_slot(),
    // asked for afterwards.
    std::vector<std::byte> encode_page(size_t page);
    unsigned page_slot(size_t page) const { return pages_[page].sequence % 2; }
    // From disk, both slots: takes the newest valid one. False: neither is valid, and every bit of
    // the page is set now.
    bool decode_page(size_t page, std::span<const std::byte> slot0,
                     std::span<const std::byte> slot1);

  private:
    struct Page {
        uint64_t sequence = 0;  // of the newest on disk; the next goes to slot sequence % 2
        bool changed = false;
        bool stale = false;
    };
    BlockRange page_blocks(size_t page) const;
    std::optional<uint64_t> page_sequence(size_t page, std::span<const std::byte> bytes) const;

    uint64_t block_count_;
    uint64_t count_ = 0;
    std::vector<uint64_t> words_;
    std::vector<Page> pages_;
};

}  // namespace antipode::disksync
