#include "disksync/core/activity_log.h"

#include <algorithm>
#include <boost/endian/buffers.hpp>
#include <cstring>
#include <xxhash.h>

#include "common/base/check.h"

namespace antipode::disksync {

namespace {

using namespace boost::endian;

constexpr uint32_t kMagic = 0x6c614441;  // "ADal"
constexpr size_t kLeaveTogether = 64;    // a transaction that makes room makes enough of it

struct Layout {
    little_uint32_buf_t magic;
    little_uint32_buf_t count;
    little_uint64_buf_t sequence;
    little_uint64_buf_t checksum;  // XXH3-64 of the block, this field taken as zero
    std::array<std::byte, 40> reserved;
    std::array<little_uint32_buf_t, ActivityLog::kExtentsMax> extents;  // ascending
};
static_assert(sizeof(Layout) == ActivityLog::kBlockBytesOnDisk);

uint64_t checksum_of(Layout layout) {
    layout.checksum = 0;
    return XXH3_64bits(&layout, sizeof(layout));
}

// A valid block, or nothing.
std::optional<Layout> read_block(std::span<const std::byte> bytes) {
    if (bytes.size() != sizeof(Layout)) return std::nullopt;
    Layout layout;
    std::memcpy(&layout, bytes.data(), sizeof(layout));
    if (layout.magic.value() != kMagic || layout.checksum.value() != checksum_of(layout) ||
        layout.sequence.value() == 0 || layout.count.value() > ActivityLog::kExtentsMax) {
        return std::nullopt;
    }
    return layout;
}

}  // namespace

ActivityLog::ActivityLog(size_t extents_max)
    : extents_max_(std::clamp<size_t>(extents_max, 1, kExtentsMax)) {}

std::optional<uint64_t> ActivityLog::least_recently_used() const {
    std::optional<uint64_t> oldest;
    uint64_t oldest_use = 0;
    for (const auto& [index, extent] : extents_) {
        if (extent.holders != 0 || extent.in_writing) continue;
        if (oldest && extent.last_use >= oldest_use) continue;
        oldest = index;
        oldest_use = extent.last_use;
    }
    return oldest;
}

ActivityLog::Answer ActivityLog::want(uint64_t first_extent, uint64_t count) {
    size_t missing = 0;
    for (uint64_t index = first_extent; index < first_extent + count; ++index) {
        missing += extents_.count(index) == 0 ? 1 : 0;
    }
    // Held first, so that none of them is chosen to leave.
    for (uint64_t index = first_extent; index < first_extent + count; ++index) {
        if (const auto found = extents_.find(index); found != extents_.end())
            ++found->second.holders;
    }
    const auto room = [&] { return extents_max_ - std::min(extents_max_, extents_.size()); };
    while (room() < missing) {
        const auto oldest = least_recently_used();
        if (!oldest) break;
        for (size_t made = 0; made < kLeaveTogether; ++made) {
            const auto next = made == 0 ? oldest : least_recently_used();
            if (!next || (made > 0 && extents_.size() * 2 < extents_max_)) break;
            leaving_[*next] = Leaving();
            extents_.erase(*next);
            dirty_ = true;
        }
    }
    if (room() < missing) {
        for (uint64_t index = first_extent; index < first_extent + count; ++index) {
            if (const auto found = extents_.find(index); found != extents_.end()) {
                --found->second.holders;
            }
        }
        return Answer::full;
    }
    bool ready = true;
    for (uint64_t index = first_extent; index < first_extent + count; ++index) {
        const auto [entry, added] = extents_.try_emplace(index);
        Extent& extent = entry->second;
        if (added) {
            extent.holders = 1;
            // What was chosen to leave and is wanted again just stays out of the next block's
            // absentees; it counts as new, because the block being written may already lack it.
            leaving_.erase(index);
            dirty_ = true;
        }
        extent.last_use = ++uses_;
        ready &= extent.durable;
    }
    return ready ? Answer::ready : Answer::wait;
}

bool ActivityLog::is_durable(uint64_t first_extent, uint64_t count) const {
    for (uint64_t index = first_extent; index < first_extent + count; ++index) {
        const auto found = extents_.find(index);
        if (found == extents_.end() || !found->second.durable) return false;
    }
    return true;
}

void ActivityLog::release(uint64_t first_extent, uint64_t count) {
    for (uint64_t index = first_extent; index < first_extent + count; ++index) {
        const auto found = extents_.find(index);
        FT_CHECK(found != extents_.end(), "extent {} is not in the activity log", index);
        FT_CHECK(found->second.holders > 0, "extent {} is held by nobody", index);
        --found->second.holders;
    }
}

std::vector<uint64_t> ActivityLog::leaving_uncovered() const {
    std::vector<uint64_t> extents;
    for (const auto& [index, state] : leaving_) {
        if (!state.covered) extents.push_back(index);
    }
    return extents;
}

void ActivityLog::cover_leaving() {
    for (auto& [index, state] : leaving_) state.covered = true;
}

bool ActivityLog::leaving_unflushed() const {
    return std::any_of(leaving_.begin(), leaving_.end(),
                       [](const auto& entry) { return !entry.second.flushed; });
}

void ActivityLog::flushed_leaving() {
    for (auto& [index, state] : leaving_) state.flushed = true;
}

std::vector<std::byte> ActivityLog::begin() {
    FT_CHECK(!writing_, "a transaction of the activity log is being written");
    FT_CHECK(leaving_uncovered().empty(), "an extent leaves before its bitmap page is written");
    Layout layout{};
    layout.magic = kMagic;
    layout.count = static_cast<uint32_t>(extents_.size());
    layout.sequence = ++sequence_;
    std::vector<uint64_t> sorted;
    for (auto& [index, extent] : extents_) {
        sorted.push_back(index);
        extent.in_writing = true;
    }
    std::sort(sorted.begin(), sorted.end());
    for (size_t place = 0; place < sorted.size(); ++place) {
        layout.extents[place] = static_cast<uint32_t>(sorted[place]);
    }
    layout.checksum = checksum_of(layout);
    leaving_.clear();
    dirty_ = false;
    writing_ = true;
    std::vector<std::byte> bytes(sizeof(layout));
    std::memcpy(bytes.data(), &layout, sizeof(layout));
    return bytes;
}

void ActivityLog::done() {
    FT_CHECK(writing_, "no transaction of the activity log is being written");
    for (auto& [index, extent] : extents_) {
        extent.durable |= extent.in_writing;
        extent.in_writing = false;
    }
    writing_ = false;
    ++transactions_;
}

Result<std::vector<uint64_t>> ActivityLog::decode(std::span<const std::byte> slot0,
                                                  std::span<const std::byte> slot1) {
    auto newest = read_block(slot0);
    const auto other = read_block(slot1);
    if (!newest || (other && other->sequence.value() > newest->sequence.value())) newest = other;
    if (!newest) return fail(Errc::corrupt, "activity log: neither copy of it is valid");
    std::vector<uint64_t> found;
    for (uint32_t place = 0; place < newest->count.value(); ++place) {
        found.push_back(newest->extents[place].value());
    }
    extents_.clear();
    leaving_.clear();
    sequence_ = newest->sequence.value();
    dirty_ = writing_ = false;
    return found;
}

}  // namespace antipode::disksync
