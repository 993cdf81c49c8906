// DiskRecord: everything that a copy of a disk has to remember, and the order in which it is
// written down: superblock, activity log, dirty bitmap.
//
// It plans and does not write: next_plan() says what to write where; the caller writes all of it,
// syncs once, and says done(). One plan at a time. So the same code runs over a file and over a
// simulated disk that crashes in the middle of every plan.
//
// The file (docs/PROTOCOL-disk.md, "The metadata file"):
//        0  superblock, 2 slots of 4096       8192  activity log, 2 slots of 4096
//    65536  bitmap pages, 2 slots of 4096 each
//
// INVARIANTS
//   - Of a plan's writes any part may reach the disk if the machine dies: each is to the slot that
//     does not hold the newest valid copy, and none relies on another of the same plan.
//   - A block whose contents differ from a base generation is marked on disk, or its extent is in
//     the activity log on disk: an extent leaves the log in a later plan than the one that writes
//     its page.
//   - Epochs never go back.
//
// After a crash load() takes the newest valid copies; what cannot be read is taken for the worst
// (every block of the page, or of the disk, is marked) and is told. Without a valid superblock
// there is nothing.
//
// Pure. One owner.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "common/env/storage.h"
#include "disksync/core/activity_log.h"
#include "disksync/core/dirty_bitmap.h"
#include "disksync/core/superblock.h"

namespace antipode::disksync {

struct MetaWrite {
    uint64_t offset_bytes = 0;
    std::vector<std::byte> bytes;
};
struct MetaPlan {
    std::vector<MetaWrite> writes;
};

// Everything about the record that may not be as it should.
struct RecordFinding {
    std::string text;
    enum class Weight : uint8_t { note = 1, repaired = 2 } weight = Weight::note;
};

class DiskRecord {
  public:
    static constexpr uint64_t kLogOffset = 2 * kSuperblockBytes;
    static constexpr uint64_t kBitmapOffset = 64 * 1024;
    static uint64_t file_bytes(uint64_t disk_size_bytes);

    // A new record: its first plan writes everything.
    static DiskRecord create(const Superblock& first,
                             size_t log_extents_max = ActivityLog::kExtentsMax);
    static Result<DiskRecord> load(env::Storage& storage,
                                   size_t log_extents_max = ActivityLog::kExtentsMax);

    const Superblock& superblock() const { return superblock_; }
    // Sequence, names and id are kept, and the higher epoch. Returns the sequence that is durable
    // when durable_sequence() has reached it. `after_bitmap`: what is marked now has to be on disk
    // first.
    enum class Order : uint8_t { any = 1, after_bitmap = 2 };
    uint64_t change(Superblock next, Order order = Order::any);
    uint64_t durable_sequence() const { return durable_sequence_; }

    const DirtyBitmap& bitmap() const { return bitmap_; }
    // Bits set here become durable with the activity log, or with write_bitmap().
    DirtyBitmap& bitmap() { return bitmap_; }
    // Every changed or stale page will be written; bitmap_written() from then on, until the next
    // change.
    void write_bitmap();
    bool bitmap_written() const;
    void grow(uint64_t disk_size_bytes);

    ActivityLog& log() { return log_; }
    const ActivityLog& log() const { return log_; }

    // It was primary and did not end cleanly: the extents of the log have been marked at load().
    bool crashed_primary() const { return crashed_primary_; }
    void crash_dealt_with() { crashed_primary_ = false; }
    const std::vector<RecordFinding>& findings() const { return findings_; }

    // Nothing while a plan is being written, or when there is nothing to write.
    std::optional<MetaPlan> next_plan();
    void done();
    bool idle() const { return !writing_ && !wants_to_write(); }

  private:
    DiskRecord(const Superblock& superblock, size_t log_extents_max);
    static Result<Superblock> load_superblock(env::Storage& storage,
                                              std::vector<RecordFinding>& findings, unsigned& slot);
    Result<> load_bitmap(env::Storage& storage);
    Result<> load_log(env::Storage& storage);
    bool wants_to_write() const;
    void plan_pages(MetaPlan& plan, const std::vector<size_t>& pages);
    std::vector<size_t> pages_to_write(bool all) const;
    std::vector<size_t> pages_due();
    void plan_superblock(MetaPlan& plan);

    Superblock superblock_;
    uint64_t durable_sequence_ = 0;
    uint64_t planned_sequence_ = 0;
    unsigned newest_slot_ = 0;
    bool superblock_pending_ = false;
    bool superblock_after_bitmap_ = false;
    DirtyBitmap bitmap_;
    bool bitmap_requested_ = false;
    bool pages_before_log_ = false;  // after a crash: what the old log marked must be on disk first
    ActivityLog log_;
    bool crashed_primary_ = false;
    std::vector<RecordFinding> findings_;

    bool writing_ = false;
    bool writing_log_ = false;
    bool writing_superblock_ = false;
    bool fresh_ = false;
};

}  // namespace antipode::disksync
