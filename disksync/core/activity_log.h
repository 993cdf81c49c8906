// ActivityLog: the extents (4 MiB) of a disk in which a write may be on its way: at this site, or
// at the peer, without being durable at both. After a crash of the primary these are the places
// where the two copies may differ though no bitmap says so.
//
// The whole log fits into one block of 4096 bytes. Every change of it is a new block, in two slots
// that are written in turns: the older one is valid until the newer one is on disk, and no write
// relies on the newer one before that.
//
//   want()    before a write: is its extent durably in the log? If not, the next transaction has it
//   begin()   the block to be written, when there is something to write and nothing being written
//   done()    it is durable
//   release() the write needs its extents no more
//
// Extents that nobody holds stay in the log until their place is needed (least recently used
// first), because a write is likely to come back to them. An extent may only leave once the bitmap
// pages that cover it are on disk: `may_leave` says so.
//
// Pure. One owner.
//
// INVARIANTS
//   - An extent that is held is in every block written since it was wanted.
//   - durable extents of the log = those of the newest block that done() confirmed, and at most one
//     transaction is being written.
//   - At most kExtentsMax extents are in the log; want() says no when all are held.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "common/base/result.h"
#include "disksync/core/disk_types.h"

namespace antipode::disksync {

class ActivityLog {
  public:
    static constexpr uint64_t kBlockBytesOnDisk = 4096;
    static constexpr size_t kExtentsMax = 1008;

    // `extents_max`: how many to use; fewer mean less to resync after a crash and more
    // transactions.
    explicit ActivityLog(size_t extents_max = kExtentsMax);

    enum class Answer : uint8_t {
        ready = 1,  // durable in the log: go ahead
        wait = 2,   // will be in the next transaction; ask again after done()
        full = 3,   // every place is held; ask again after a release()
    };
    // Holds the extents of this range from now on, unless the answer is full.
    Answer want(uint64_t first_extent, uint64_t count);
    // Whether extents that are held are durable by now.
    bool is_durable(uint64_t first_extent, uint64_t count) const;
    void release(uint64_t first_extent, uint64_t count);

    // Extents that have to leave to make room, and whose bitmap pages have not been written since.
    std::vector<uint64_t> leaving_uncovered() const;
    // Their pages are being written: begin() comes after that.
    void cover_leaving();
    // Extents that have to leave whose writes may not be durable on the disk at this site: it has
    // to be flushed first, or a power failure takes a write away and nothing remembers where.
    bool leaving_unflushed() const;
    void flushed_leaving();
    bool wants_to_write() const { return dirty_ && !writing_; }
    // What leaves is taken out. The block; its slot is slot(), asked for afterwards.
    std::vector<std::byte> begin();
    unsigned slot() const { return static_cast<unsigned>(sequence_ % 2); }
    void done();
    size_t size() const { return extents_.size(); }
    size_t extents_max() const { return extents_max_; }
    uint64_t transactions() const { return transactions_; }

    // From disk. Errc::corrupt: neither slot is valid. The sequence goes on from here; the extents
    // are returned, and the log begins empty.
    Result<std::vector<uint64_t>> decode(std::span<const std::byte> slot0,
                                         std::span<const std::byte> slot1);

  private:
    struct Extent {
        uint32_t holders = 0;
        bool durable = false;
        bool in_writing = false;  // part of the block being written
        uint64_t last_use = 0;
    };
    std::optional<uint64_t> least_recently_used() const;

    size_t extents_max_;
    std::unordered_map<uint64_t, Extent> extents_;
    struct Leaving {
        bool covered = false;
        bool flushed = false;
    };
    std::unordered_map<uint64_t, Leaving> leaving_;
    uint64_t sequence_ = 0;
    uint64_t uses_ = 0;
    uint64_t transactions_ = 0;
    bool dirty_ = false;
    bool writing_ = false;
};

}  // namespace antipode::disksync
