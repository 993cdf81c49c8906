// ChangeHistory: which pages and disk chunks were written between two digests, remembered by the
// primary until a backup may ask.
//
// Pure; used on the vCPU thread.
//
// INVARIANTS
//   - pages_since(n) and chunks_since(n) name everything written after digest n; where the history
//     no longer reaches back to n they name more, never less.
//   - Memory is bounded: at most kIntervalsMax intervals and, in all of them, one entry for every
//     four pages of the guest; older ones become one bitmap.
#pragma once

#include <compare>
#include <cstdint>
#include <deque>
#include <optional>
#include <set>
#include <vector>

namespace antipode::replay {

struct DiskChunk {
    static constexpr uint64_t kBytes = 64 << 10;
    uint32_t drive = 0;
    uint64_t index = 0;  // in units of kBytes
    friend auto operator<=>(const DiskChunk&, const DiskChunk&) = default;
};

// Chunks, up to a bound; beyond it only that there were more.
class ChunkSet {
  public:
    static constexpr size_t kCountMax = 4096;

    void add(uint32_t drive, uint64_t offset_bytes, uint64_t length_bytes);
    void add(const ChunkSet& other);
    void clear() { *this = ChunkSet(); }
    bool overflowed() const { return overflowed_; }
    const std::set<DiskChunk>& chunks() const { return chunks_; }

  private:
    std::set<DiskChunk> chunks_;
    bool overflowed_ = false;
};

class ChangeHistory {
  public:
    static constexpr size_t kIntervalsMax = 64;

    explicit ChangeHistory(uint64_t page_count)
        : older_((page_count + 63) / 64), room_(page_count / 4) {}

    // The interval that ends with digest `number`: one bit a page, and the chunks.
    void close(uint64_t number, const std::vector<uint64_t>& pages, ChunkSet chunks);
    // One bit a page.
    std::vector<uint64_t> pages_since(uint64_t number) const;
    ChunkSet chunks_since(uint64_t number) const;
    void forget();

  private:
    struct Interval {
        uint64_t number;
        std::vector<uint64_t> pages;
        ChunkSet chunks;
    };
    void merge_oldest();

    std::deque<Interval> intervals_;  // by number
    uint64_t older_number_ = 0;       // older_ holds everything up to this digest
    std::vector<uint64_t> older_;
    ChunkSet older_chunks_;
    uint64_t listed_ = 0;  // pages in intervals_
    uint64_t room_;
};

}  // namespace antipode::replay
