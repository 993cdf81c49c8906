// LagMeter: how far the backup's execution is behind the primary's, measured at the primary.
//
// The primary notes when the oldest entry of each batch was recorded and when the batch left; the
// backup reports what it has applied. The lag in seconds is the age of the oldest entry that is not
// known to be applied, minus half a round trip for the report's way back; it is zero when
// everything is applied. Lag control counts from when a batch left: an entry that waits for others
// here (FlushPolicy) says nothing of the backup's speed. Pure; core thread.
//
// INVARIANT: marks_ is bounded: beyond kMarksMax neighbours are merged (the lag is then accurate to
// their spacing, and never too small).
#pragma once

#include <algorithm>
#include <deque>

#include "common/base/clock.h"
#include "common/base/ids.h"

namespace antipode::control {

class LagMeter {
  public:
    static constexpr size_t kMarksMax = 8192;

    void sent(LogIndex last, Instant recorded, Instant now) {
        if (marks_.size() >= kMarksMax) {
            // Two neighbours become one: as old as the older, applied when the younger is.
            for (size_t i = 0; i + 1 < marks_.size(); i += 2) {
                marks_[i / 2] = {marks_[i + 1].last, marks_[i].recorded, marks_[i].left};
            }
            marks_.resize(marks_.size() / 2);
        }
        marks_.push_back({last, recorded, now});
        last_ = last;
    }
    void applied(LogIndex index) {
        applied_ = std::max(applied_, index);
        while (!marks_.empty() && marks_.front().last <= applied_) marks_.pop_front();
    }
    void reset() { *this = LagMeter{}; }

    Duration seconds(Instant now, Duration round_trip) const {
        if (marks_.empty()) return Duration::zero();
        return std::max(Duration::zero(), now - marks_.front().recorded - round_trip / 2);
    }
    // The same since it left.
    Duration since_sent(Instant now, Duration round_trip) const {
        if (marks_.empty()) return Duration::zero();
        return std::max(Duration::zero(), now - marks_.front().left - round_trip / 2);
    }
    uint64_t entries() const { return last_ > applied_ ? last_.value() - applied_.value() : 0; }

  private:
    struct Mark {
        LogIndex last;
        Instant recorded;
        Instant left;
    };
    std::deque<Mark> marks_;
    LogIndex last_;
    LogIndex applied_;
};

}  // namespace antipode::control
