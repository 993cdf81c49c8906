// FixedRanges: ranges of one drive that stay as they are behind a point of the execution, for as
// long as somebody reads or writes them there beside the guest.
//
// A point is the same at both sites: the guest asks its disk for the same things, in the same
// order, at the same exits. It counts the requests of the drive within an exit:
//
//   exit 7: write A, write B         exit 9: write C
//   (7,0)  (7,1)   (7,2)   (8,0)     (9,0)  (9,1)
//
// A range that is fixed at (7,1) has what A wrote and nothing of B and C. What comes behind the
// point and would change the range is held until it is let go; what came before it goes on, and the
// range is settled once that has ended. A request that waits in the device for one that overlaps
// has no place before it leaves it, so the number of a request would not do as a point.
//
// Pure; DiskSet calls it with the drive's mutex held.
//
// INVARIANTS
//   - add() succeeds only while nothing behind the point has been asked for: so what the drive is
//     busy with at that time belongs before it, and holds() alone keeps apart what follows.
//   - A request that failed at the site that replays is tried again, outside of this count; until
//     it is through nothing is settled there.
//   - Of two that overlap the later one is not settled before the earlier one is let go: who has
//     it may be writing there.
#pragma once

#include <compare>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <vector>

#include "common/base/result.h"

namespace antipode::control {

struct DiskPoint {
    uint64_t exit = 0;
    uint64_t count = 0;  // requests of the drive at this exit
    friend auto operator<=>(const DiskPoint&, const DiskPoint&) = default;
};

struct DiskRange {
    uint64_t offset_bytes = 0;
    uint64_t length_bytes = 0;
    bool overlaps(const DiskRange& other) const {
        return offset_bytes < other.offset_bytes + other.length_bytes &&
               other.offset_bytes < offset_bytes + length_bytes;
    }
    friend bool operator==(const DiskRange&, const DiskRange&) = default;
};

class FixedRanges {
  public:
    // Of requests that have failed; more than a guest can have under way.
    static constexpr size_t kFailedMax = 1024;

    enum class Effect : uint8_t { none, changes };

    // ---- The guest's requests

    // A request is asked for while the guest is at `exit`; its place. Not for one that is tried
    // again.
    DiskPoint asked(uint64_t exit);
    void ended(uint64_t number, Effect effect, bool failed);
    // Whether a request that changes `range` has to wait.
    bool holds(const DiskRange& range, const DiskPoint& place) const;
    // Exits are counted anew from here, at both sites.
    void restart();

    // ---- Ranges

    // Where the drive is while the guest is at `exit`.
    DiskPoint now(uint64_t exit) const;
    // `at`: nullopt means now(). Errc::busy if that is over. The id, and the point.
    struct Fix {
        uint64_t id = 0;
        DiskPoint point;
    };
    Result<Fix> add(const DiskRange& range, const std::optional<DiskPoint>& at, uint64_t exit,
                    std::function<void()> settled);
    void remove(uint64_t id) { fixes_.erase(id); }
    bool empty() const { return fixes_.empty(); }

    // What has become settled: `busy` says whether a request that belongs before the point is still
    // to change the range. Each is told once.
    using Busy = std::function<bool(const DiskRange& range, const DiskPoint& point)>;
    std::vector<std::function<void()>> take_settled(uint64_t exit, const Busy& busy);

  private:
    struct Entry {
        DiskRange range;
        DiskPoint point;
        bool replays = false;           // the point was named by the other site
        std::function<void()> settled;  // empty: told
    };
    bool reached(const DiskPoint& point, uint64_t exit) const;
    bool retries_changes() const;

    DiskPoint last_;  // of the newest request
    std::map<uint64_t, Effect> failed_;
    std::map<uint64_t, Entry> fixes_;
    uint64_t next_id_ = 1;
};

}  // namespace antipode::control
