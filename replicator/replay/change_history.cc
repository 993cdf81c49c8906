#include "replicator/replay/change_history.h"

#include <algorithm>
#include <bit>

namespace antipode::replay {

void ChunkSet::add(uint32_t drive, uint64_t offset_bytes, uint64_t length_bytes) {
    if (length_bytes == 0) return;
    const uint64_t last = (offset_bytes + length_bytes - 1) / DiskChunk::kBytes;
    for (uint64_t index = offset_bytes / DiskChunk::kBytes; index <= last; ++index) {
        if (chunks_.size() >= kCountMax) {
            overflowed_ = true;
            return;
        }
        chunks_.insert(DiskChunk{drive, index});
    }
}

void ChunkSet::add(const ChunkSet& other) {
    overflowed_ |= other.overflowed_;
    for (const DiskChunk& chunk : other.chunks_) {
        if (chunks_.size() >= kCountMax) {
            overflowed_ = true;
            return;
        }
        chunks_.insert(chunk);
    }
}

void ChangeHistory::close(uint64_t number, const std::vector<uint64_t>& pages, ChunkSet chunks) {
    Interval interval{number, {}, std::move(chunks)};
    for (size_t word = 0; word < pages.size(); ++word) {
        for (uint64_t bits = pages[word]; bits != 0; bits &= bits - 1) {
            interval.pages.push_back(word * 64 + static_cast<unsigned>(std::countr_zero(bits)));
        }
    }
    listed_ += interval.pages.size();
    intervals_.push_back(std::move(interval));
    while (intervals_.size() > kIntervalsMax || (listed_ > room_ && !intervals_.empty())) {
        merge_oldest();
    }
}

void ChangeHistory::merge_oldest() {
    const Interval& oldest = intervals_.front();
    for (const uint64_t page : oldest.pages) older_[page / 64] |= uint64_t{1} << (page % 64);
    older_chunks_.add(oldest.chunks);
    older_number_ = oldest.number;
    listed_ -= oldest.pages.size();
    intervals_.pop_front();
}

std::vector<uint64_t> ChangeHistory::pages_since(uint64_t number) const {
    std::vector<uint64_t> bitmap(older_.size());
    if (number < older_number_) bitmap = older_;
    for (const Interval& interval : intervals_) {
        if (interval.number <= number) continue;
        for (const uint64_t page : interval.pages) {
            bitmap[page / 64] |= uint64_t{1} << (page % 64);
        }
    }
    return bitmap;
}

ChunkSet ChangeHistory::chunks_since(uint64_t number) const {
    ChunkSet all;
    if (number < older_number_) all = older_chunks_;
    for (const Interval& interval : intervals_) {
        if (interval.number > number) all.add(interval.chunks);
    }
    return all;
}

void ChangeHistory::forget() {
    intervals_.clear();
    listed_ = 0;
    older_number_ = 0;
    std::fill(older_.begin(), older_.end(), 0);
    older_chunks_.clear();
}

}  // namespace antipode::replay
