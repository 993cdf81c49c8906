// DiskCopy: which chunks of the VM's disks a seed sends. One pass over all of them, then what the
// guest has written since, round by round.
//
//   first pass, towards a site that has disks of its own:  ask ahead -> compare -> send what
//   differs first pass, into a snapshot file:                      send all
//   rounds:  collect() -> send what was written since
//
// Core thread; the disks are read asynchronously, beside the guest: kReadsMax chunks at a time, and
// only one while the guest itself has requests at its disks and there is nothing to send but only
// to compare (a line is slower than a disk, comparing is not).
//
// INVARIANTS
//   - A chunk that may have changed after it was read is in a later round, whether it was sent or
//     found equal.
//   - No chunk of the first pass is read before its digest has come, and none is sent in a round
//     before the first pass is over: so a digest is always of what the receiver had before this
//     attempt wrote there.
//   - At most kAsksMax asks are unanswered or not used up; memory does not grow with the disks, but
//     for what the guest writes during the first pass.
// On a disk's error, or an answer that fits no question, on_failed() is called once.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "replicator/control/disk_set.h"
#include "replicator/control/seed_digests.h"
#include "replicator/control/seed_frames.h"

namespace antipode::control {

class DiskCopy {
  public:
    static constexpr size_t kReadsMax = 8;
    static constexpr size_t kAsksMax = 4;

    enum class FirstPass : uint8_t { all, what_differs };

    struct Hooks {
        std::function<void()> on_progress;  // a piece may be ready, or nothing may be left
        std::function<void(const std::string&)> on_failed;
    };

    struct Figures {
        uint64_t sent_bytes = 0;
        uint64_t equal_bytes = 0;  // the receiver had them
    };

    DiskCopy(uint64_t attempt, DiskSet& disks, FirstPass first_pass, Hooks hooks);
    ~DiskCopy();

    void begin();
    // What the guest has written since the last call joins what is to be sent.
    void collect();
    // The receiver's answer to the oldest question.
    void answer(SeedDigests answer);
    // Reads on while fewer than ready_max pieces are ready.
    void read(size_t ready_max);
    // The guest stands for good, or the copy is over.
    void stop_tracking() { disks_.stop_tracking(); }

    // What is to be sent next; nullptr: nothing now.
    const SeedPiece* front() const { return ready_.empty() ? nullptr : &ready_.front(); }
    void pop();

    // Chunks that are not read yet.
    uint64_t unread() const { return first_pass_left_ + again_.size(); }
    bool all_read() const { return unread() == 0 && reading_ == 0; }
    bool all_sent() const { return all_read() && ready_.empty(); }
    uint64_t chunk_count() const { return chunk_count_; }
    Figures figures() const { return figures_; }

  private:
    struct Answered {
        SeedDigests digests;
        size_t used = 0;
    };
    uint64_t chunks_of(uint32_t drive) const;
    void skip_empty_drives(DriveChunk& at) const;
    void ask_ahead();
    size_t reads_max() const;
    bool read_next();
    bool take_next(DriveChunk& chunk, std::optional<ChunkDigest>& theirs, uint64_t& seed);
    void chunk_read(DriveChunk chunk, std::optional<ChunkDigest> theirs, uint64_t seed,
                    Result<std::vector<std::byte>> bytes);
    void fail(const std::string& text);

    const uint64_t attempt_;
    DiskSet& disks_;
    const FirstPass first_pass_;
    Hooks hooks_;
    uint64_t chunk_count_ = 0;
    uint64_t first_pass_left_ = 0;
    DriveChunk next_;                // of the first pass
    DriveChunk ask_next_;            // of the questions
    std::deque<SeedAsk> asked_;      // not answered yet
    std::deque<Answered> answered_;  // not used up yet
    std::set<DriveChunk> again_;     // written since
    std::deque<SeedPiece> ready_;
    size_t reading_ = 0;
    bool failed_ = false;
    Figures figures_;
    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace antipode::control
