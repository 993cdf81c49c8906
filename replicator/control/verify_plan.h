// VerifyPlan: in which order the chunks of a VM's disks are compared with the other site's, and
// what becomes of those that differ. The decisions of a verify, without its I/O.
//
//   walk:    16 chunks a batch, drive by drive, at most rate_bytes a second
//   repair:  a chunk that differs is written anew at the other site, then compared again, up to
//            kRepairsMax times; it comes before the walk goes on, so that memory is bounded
//   later:   a batch that could not be done (a heal, a session that broke) waits and is asked again
//
// A comparison is exact (disk_verifier.h): a difference is one, and is counted when it is first
// seen.
//
// Pure; time comes in.
//
// INVARIANTS
//   - Every chunk of the walk is compared at least once before done(), or the plan has failed.
//   - At most window batches are out; at most window * kChunksMax chunks wait to be repaired.
//   - With nothing compared or repaired for kPatience the plan has failed: it never ends as if it
//     had compared everything.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "common/base/clock.h"
#include "replicator/control/verify_frames.h"

namespace antipode::control {

struct VerifyBatch {
    uint64_t number = 0;
    VerifyPurpose purpose = VerifyPurpose::compare;
    DriveChunk first;
    uint32_t chunk_count = 0;
    bool operator==(const VerifyBatch&) const = default;
};

class VerifyPlan {
  public:
    static constexpr size_t kWindowMax = 4;
    static constexpr int kRepairsMax = 3;
    static constexpr Duration kLater = std::chrono::milliseconds(200);
    static constexpr Duration kPatience = std::chrono::seconds(60);

    enum class Repair : uint8_t { no, yes };
    struct Figures {
        uint64_t total_bytes = 0;
        uint64_t compared_bytes = 0;  // of the walk
        uint64_t mismatches = 0;      // chunks
        uint64_t repaired = 0;
        uint64_t put_off = 0;  // batches
    };

    // `sizes`: of the drives in bytes; 0: it is left out. Batches are numbered from after
    // `numbers_after`, so that an answer to an earlier verify fits none.
    VerifyPlan(std::vector<uint64_t> sizes, Repair repair, uint64_t rate_bytes,
               uint64_t numbers_after, Instant now);

    // The next batch to begin, of at most `window` at once; nullopt: none now.
    std::optional<VerifyBatch> next(size_t window, Instant now);
    struct Outcome {
        std::vector<DriveChunk> differ;    // seen to differ for the first time
        std::vector<DriveChunk> repaired;  // had differed, and do not any more
    };
    // differs: one a chunk of the batch.
    Outcome compared(uint64_t number, const std::vector<bool>& differs, Instant now);
    // A repair has been written.
    void written(uint64_t number, Instant now);
    // It could not be done.
    void put_off(uint64_t number, const std::string& why, Instant now);
    // The chunk of a repair stays as it is.
    void give_up(uint64_t number, Instant now);

    // The guest or the log comes first, for now: no time passes for the plan.
    void yields(Instant now);

    bool done() const;
    std::optional<std::string> failure(Instant now) const;
    const Figures& figures() const { return figures_; }
    DiskRange range_of(const VerifyBatch& batch) const;

  private:
    struct Waiting {
        VerifyBatch batch;
        Instant not_before{};
    };
    void skip_walked_drives();
    std::optional<VerifyBatch> take(Instant now);
    std::optional<VerifyBatch> walk();
    void ask_again(const DriveChunk& chunk, VerifyPurpose purpose);

    const std::vector<uint64_t> sizes_;
    const Repair repair_;
    const uint64_t rate_bytes_;
    DriveChunk next_;                      // of the walk; behind the last drive: it has ended
    std::deque<Waiting> waiting_;          // before the walk
    std::map<uint64_t, VerifyBatch> out_;  // by number
    std::map<DriveChunk, int> repairs_;    // chunks that are being repaired, and how often so far
    uint64_t last_number_;
    Instant due_{};
    Instant progress_{};
    std::string why_;
    Figures figures_;
};

}  // namespace antipode::control
