#include "disksync/core/disk_record.h"

#include <algorithm>
#include <numeric>
#include <set>
#include <utility>

#include "common/base/check.h"

namespace antipode::disksync {

namespace {

constexpr uint64_t kExtentBlocks = kExtentBytes / kBlockBytes;
constexpr uint64_t kPage = DirtyBitmap::kPageBytes;

uint64_t page_offset(size_t page, unsigned slot) {
    return DiskRecord::kBitmapOffset + (2 * page + slot) * kPage;
}

// A range that cannot be read is as good as one with a wrong checksum, if the medium is at fault.
Result<std::vector<std::byte>> read_slot(env::Storage& storage, uint64_t offset, uint64_t bytes) {
    std::vector<std::byte> slot(bytes);
    auto read = storage.read(offset, slot);
    if (!read && read.error().code != Errc::corrupt) return fail(std::move(read).error());
    if (!read) slot.clear();
    return slot;
}

}  // namespace

uint64_t DiskRecord::file_bytes(uint64_t disk_size_bytes) {
    const uint64_t blocks = block_count_of(disk_size_bytes);
    const uint64_t pages = (blocks + DirtyBitmap::kBlocksPerPage - 1) / DirtyBitmap::kBlocksPerPage;
    return kBitmapOffset + 2 * pages * kPage;
}

DiskRecord::DiskRecord(const Superblock& superblock, size_t log_extents_max)
    : superblock_(superblock),
      bitmap_(block_count_of(superblock.size_bytes)),
      log_(log_extents_max) {}

DiskRecord DiskRecord::create(const Superblock& first, size_t log_extents_max) {
    DiskRecord record(first, log_extents_max);
    record.superblock_.sequence = 1;
    record.superblock_pending_ = true;
    record.fresh_ = true;
    return record;
}

Result<Superblock> DiskRecord::load_superblock(env::Storage& storage,
                                               std::vector<RecordFinding>& findings,
                                               unsigned& slot) {
    std::optional<Error> first_error;
    std::optional<Superblock> newest;
    for (unsigned index = 0; index < 2; ++index) {
        FT_TRY(const auto bytes, read_slot(storage, index * kSuperblockBytes, kSuperblockBytes));
        auto decoded = decode_superblock(bytes);
        if (!decoded) {
            findings.push_back(
                {fmt::format("superblock copy {}: {}", index, decoded.error().context),
                 RecordFinding::Weight::note});
            if (!first_error || decoded.error().code == Errc::version)
                first_error = decoded.error();
            continue;
        }
        if (newest && newest->sequence >= decoded->sequence) continue;
        newest = *decoded;
        slot = index;
    }
    // A copy of a later version may be the newer one.
    if (!newest || (first_error && first_error->code == Errc::version)) {
        return fail(std::move(*first_error).within("metadata " + storage.name()));
    }
    return *newest;
}

Result<DiskRecord> DiskRecord::load(env::Storage& storage, size_t log_extents_max) {
    std::vector<RecordFinding> findings;
    unsigned slot = 0;
    FT_TRY(const Superblock superblock, load_superblock(storage, findings, slot));
    DiskRecord record(superblock, log_extents_max);
    record.findings_ = std::move(findings);
    record.newest_slot_ = slot;
    record.durable_sequence_ = superblock.sequence;
    FT_TRY_VOID(record.load_bitmap(storage));
    FT_TRY_VOID(record.load_log(storage));
    return record;
}

Result<> DiskRecord::load_bitmap(env::Storage& storage) {
    for (size_t page = 0; page < bitmap_.page_count(); ++page) {
        FT_TRY(const auto slot0, read_slot(storage, page_offset(page, 0), kPage));
        FT_TRY(const auto slot1, read_slot(storage, page_offset(page, 1), kPage));
        if (bitmap_.decode_page(page, slot0, slot1)) continue;
        findings_.push_back({fmt::format("bitmap page {}: neither copy is valid; all of its blocks "
                                         "are marked",
                                         page),
                             RecordFinding::Weight::repaired});
    }
    return {};
}

Result<> DiskRecord::load_log(env::Storage& storage) {
    const uint64_t bytes = ActivityLog::kBlockBytesOnDisk;
    FT_TRY(const auto slot0, read_slot(storage, kLogOffset, bytes));
    FT_TRY(const auto slot1, read_slot(storage, kLogOffset + bytes, bytes));
    auto extents = log_.decode(slot0, slot1);
    crashed_primary_ = superblock_.open_for_writing;
    if (!extents) {
        if (crashed_primary_) bitmap_.set_all();
        findings_.push_back({crashed_primary_
                                 ? extents.error().context + "; all blocks are marked"
                                 : extents.error().context + "; it was closed, so nothing is lost",
                             RecordFinding::Weight::repaired});
    } else if (crashed_primary_) {
        for (const uint64_t extent : *extents) {
            const uint64_t first = extent * kExtentBlocks;
            if (first >= bitmap_.block_count()) continue;
            bitmap_.set({first, std::min(kExtentBlocks, bitmap_.block_count() - first)});
        }
    }
    pages_before_log_ = true;
    return {};
}

uint64_t DiskRecord::change(Superblock next, Order order) {
    next.sequence = superblock_.sequence;
    next.pair = superblock_.pair;
    next.disk = superblock_.disk;
    next.id = superblock_.id;
    next.epoch = std::max(next.epoch, superblock_.epoch);
    // What is not on its way yet is written as one.
    if (!superblock_pending_) ++next.sequence;
    superblock_ = next;
    superblock_pending_ = true;
    superblock_after_bitmap_ |= order == Order::after_bitmap;
    return superblock_.sequence;
}

void DiskRecord::write_bitmap() {
    bitmap_requested_ = true;
}

bool DiskRecord::bitmap_written() const {
    return !bitmap_requested_ && !writing_ && pages_to_write(false).empty();
}

void DiskRecord::grow(uint64_t disk_size_bytes) {
    const uint64_t before = bitmap_.block_count();
    bitmap_.grow(block_count_of(disk_size_bytes));
    // The peer's new part need not hold what ours does. And so the new pages get written.
    bitmap_.set({before, bitmap_.block_count() - before});
}

std::vector<size_t> DiskRecord::pages_to_write(bool all) const {
    std::vector<size_t> pages;
    for (size_t page = 0; page < bitmap_.page_count(); ++page) {
        if (all ? bitmap_.page_stale(page) : bitmap_.page_changed(page)) pages.push_back(page);
    }
    return pages;
}

bool DiskRecord::wants_to_write() const {
    return superblock_pending_ || bitmap_requested_ || log_.wants_to_write();
}

void DiskRecord::plan_pages(MetaPlan& plan, const std::vector<size_t>& pages) {
    for (const size_t page : pages) {
        std::vector<std::byte> bytes = bitmap_.encode_page(page);
        plan.writes.push_back({page_offset(page, bitmap_.page_slot(page)), std::move(bytes)});
    }
}

void DiskRecord::plan_superblock(MetaPlan& plan) {
    const unsigned slot = 1 - newest_slot_;
    plan.writes.push_back({slot * kSuperblockBytes, encode(superblock_)});
    newest_slot_ = slot;
    planned_sequence_ = superblock_.sequence;
    superblock_pending_ = false;
    writing_superblock_ = true;
}

// What others wait for: pages before the log block that drops their extents, and before a
// superblock that was told to come after.
std::vector<size_t> DiskRecord::pages_due() {
    if (fresh_) {
        std::vector<size_t> pages(bitmap_.page_count());
        std::iota(pages.begin(), pages.end(), size_t{0});
        return pages;
    }
    if (bitmap_requested_ || superblock_after_bitmap_) return pages_to_write(true);
    if (!log_.wants_to_write()) return {};
    if (pages_before_log_) return pages_to_write(false);
    std::set<size_t> pages;
    for (const uint64_t extent : log_.leaving_uncovered()) {
        const size_t page = DirtyBitmap::page_of(extent * kExtentBlocks);
        if (page < bitmap_.page_count() && bitmap_.page_changed(page)) pages.insert(page);
    }
    return {pages.begin(), pages.end()};
}

std::optional<MetaPlan> DiskRecord::next_plan() {
    if (writing_ || !wants_to_write()) return std::nullopt;
    MetaPlan plan;
    const std::vector<size_t> pages = pages_due();
    plan_pages(plan, pages);
    // Whatever waited for pages has them in this plan; what becomes due later is for later.
    const bool all_pages = bitmap_requested_ || superblock_after_bitmap_ || fresh_;
    if (all_pages || log_.wants_to_write()) {
        pages_before_log_ = false;
        log_.cover_leaving();
    }
    bitmap_requested_ = superblock_after_bitmap_ = false;
    writing_ = true;
    if (!pages.empty() && !fresh_) return plan;
    if (log_.wants_to_write() || fresh_) {
        std::vector<std::byte> bytes = log_.begin();
        plan.writes.push_back(
            {kLogOffset + log_.slot() * ActivityLog::kBlockBytesOnDisk, std::move(bytes)});
        writing_log_ = true;
    }
    if (superblock_pending_) plan_superblock(plan);
    fresh_ = false;
    writing_ = !plan.writes.empty();
    return writing_ ? std::optional(std::move(plan)) : std::nullopt;
}

void DiskRecord::done() {
    FT_CHECK(writing_, "no plan is being written");
    writing_ = false;
    if (std::exchange(writing_log_, false)) log_.done();
    if (std::exchange(writing_superblock_, false)) durable_sequence_ = planned_sequence_;
}

}  // namespace antipode::disksync
