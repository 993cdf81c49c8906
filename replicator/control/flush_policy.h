// FlushPolicy: when what is recorded leaves in a batch, where nothing makes it leave at once.
//
// An output never waits: the caller flushes at once. What comes from outside (a frame, a disk
// completion, an operator) is followed by an answer: kLivelyDelay. What an idle guest leaves
// behind, ticks and the clock readings of their handlers, would fill a line with headers if each
// tick left by itself: it waits until the guest has run for kGuestTimeMax since the oldest entry,
// so that the backup has never more than that to catch up with, or for kIdleDelay. A batch that
// has grown to kBytesMax goes.
//
// Pure; core thread. `halted`: how long the guest has been halted in all (Engine::halted()).
#pragma once

#include <algorithm>
#include <optional>
#include <variant>

#include "common/base/clock.h"
#include "replicator/replay/log_entry.h"

namespace antipode::control {

class FlushPolicy {
  public:
    static constexpr Duration kLivelyDelay = std::chrono::milliseconds(2);
    static constexpr Duration kIdleDelay = std::chrono::milliseconds(100);
    static constexpr Duration kGuestTimeMax = std::chrono::milliseconds(20);
    static constexpr size_t kBytesMax = 32 << 10;

    // Of entries of one kind only ticks, clock readings and what the recorder adds may wait long.
    static bool may_wait(const replay::LogEntry& entry) {
        return std::holds_alternative<replay::TimerTick>(entry.body) ||
               std::holds_alternative<replay::InputRead>(entry.body) ||
               std::holds_alternative<replay::DigestMark>(entry.body) ||
               std::holds_alternative<replay::Passed>(entry.body);
    }

    void added(const replay::LogEntry& entry, Instant now, Duration halted) {
        if (!oldest_) {
            oldest_ = now;
            halted_ = halted;
            deadline_ = now + kIdleDelay;
        }
        bytes_ += replay::encoded_bytes_max(entry);
        if (!may_wait(entry)) deadline_ = std::min(deadline_, now + kLivelyDelay);
    }
    void flushed() { *this = FlushPolicy(); }

    bool due(Instant now, Duration halted) const {
        if (!oldest_) return false;
        const Duration ran = (now - *oldest_) - (halted - halted_);
        return now >= deadline_ || ran >= kGuestTimeMax || bytes_ >= kBytesMax;
    }
    // Of the oldest entry that has not left; nothing: all have.
    std::optional<Instant> oldest() const { return oldest_; }
    // When it leaves at the latest; only while there is an oldest.
    Instant deadline() const { return deadline_; }

  private:
    std::optional<Instant> oldest_;
    Instant deadline_{};
    Duration halted_{};
    size_t bytes_ = 0;
};

}  // namespace antipode::control
