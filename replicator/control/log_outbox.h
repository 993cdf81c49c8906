// LogOutbox: turns what the engine records into numbered batches, and keeps them until the backup
// has acknowledged them: one that stopped taking entries (it was about to ask the tiebreaker) and
// goes on gets them again.
//
// Pure; core thread. INVARIANTS
//   - Entries get consecutive indexes in the order they were recorded; batches have no gap. Indexes
//     go on over epochs and sites: a site that goes live continues behind the last entry it has
//     applied.
//   - unacknowledged_bytes() counts every entry that was added and not acknowledged, sent or not:
//     the bound on the log.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "common/base/ids.h"
#include "replicator/replay/log_entry.h"

namespace antipode::control {

class LogOutbox {
  public:
    struct Batch {
        LogIndex last;
        std::vector<std::byte> bytes;  // replay::LogBatch, encoded
        std::optional<Epoch> sent_in;  // the last time
    };

    // Returns the index the entry got.
    LogIndex add(replay::LogEntry entry);
    // Encodes the pending entries into batches. `passed`: all entries up to this exit were added;
    // if that is news, an entry says so.
    void make_batches(ExitNumber passed, OutputNumber released, uint64_t guest_clock_ns);
    // The next batch to send; nullptr if all have been. sent() when it has left.
    const Batch* next_batch() const;
    void sent(Epoch epoch);
    // Everything that is out was sent in this epoch: who is in it takes it.
    bool sent_all_in(Epoch epoch) const;
    // All that is not acknowledged is to be sent again.
    void rewind() { next_batch_ = 0; }
    void acknowledge(LogIndex index);
    // Drops everything: nobody is there to send it to. Numbering goes on.
    void drop_all();
    // Forgets everything; the next entry gets the index after `last`.
    void restart_after(LogIndex last);

    LogIndex last() const { return LogIndex(next_index_ - 1); }
    LogIndex acknowledged() const { return acknowledged_; }
    uint64_t unacknowledged_bytes() const { return unacknowledged_bytes_; }
    uint64_t unacknowledged_count() const { return sizes_.size(); }

  private:
    uint64_t next_index_ = 1;
    LogIndex acknowledged_;
    ExitNumber last_exit_;
    std::deque<replay::LogEntry> pending_;  // not encoded yet
    std::deque<Batch> batches_;             // not acknowledged
    size_t next_batch_ = 0;                 // of batches_, to be sent
    std::deque<uint32_t> sizes_;            // of the entries after acknowledged_
    uint64_t unacknowledged_bytes_ = 0;
};

}  // namespace antipode::control
