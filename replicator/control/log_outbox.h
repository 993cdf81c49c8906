// LogOutbox: turns what the engine records into numbered batches, and remembers how much of it the
// backup has not acknowledged.
//
// Pure; core thread. INVARIANTS
//   - Entries get consecutive indexes in the order they were recorded; a batch has no gap. Indexes
//   go on
//     over epochs and sites: a site that goes live continues behind the last entry it has applied.
//   - unacknowledged_bytes() counts every entry that was added and not acknowledged, sent or not:
//   the
//     bound on the log.
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
    // Returns the index the entry got.
    LogIndex add(replay::LogEntry entry);
    bool has_entries() const { return !pending_.empty(); }
    // The next batch. `passed`: all entries up to this exit were added; if that is news, the batch
    // says so. Nothing if there is nothing to say.
    std::optional<replay::LogBatch> take_batch(ExitNumber passed, OutputNumber released,
                                               uint64_t guest_clock_ns);
    // Drops what is pending: nobody is there to send it to.
    void drop_pending() { pending_.clear(); }
    void acknowledge(LogIndex index);
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
    std::deque<replay::LogEntry> pending_;
    std::deque<uint32_t> sizes_;  // of the entries after acknowledged_
    uint64_t unacknowledged_bytes_ = 0;
};

}  // namespace antipode::control
