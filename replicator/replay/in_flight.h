// InFlight: what a recorder has logged as deltas, or checkpoints, and the backup has not
// acknowledged; and whether there is room for one more.
//
// Pure: time comes in. One owner.
#pragma once

#include <cstdint>
#include <deque>

#include "common/base/clock.h"
#include "replicator/replay/interval_controller.h"

namespace antipode::replay {

struct InFlightOptions {
    IntervalSettings interval;
    // What is logged and not acknowledged; more is not taken, and the next covers more.
    size_t in_flight_max = 8;
    uint64_t in_flight_bytes_max = uint64_t{64} << 20;
};

class InFlight {
  public:
    explicit InFlight(const InFlightOptions& options)
        : count_max_(options.in_flight_max), bytes_max_(options.in_flight_bytes_max) {}

    // Numbers rise.
    void taken(uint64_t number, uint64_t bytes, Instant now) {
        all_.push_back({number, bytes, now});
        bytes_ += bytes;
    }
    // All up to this one are there.
    void acknowledged(uint64_t number) {
        while (!all_.empty() && all_.front().number <= number) {
            bytes_ -= all_.front().bytes;
            all_.pop_front();
        }
    }
    void forget() {
        all_.clear();
        bytes_ = 0;
    }
    // What the line or the backup does not take must not pile up.
    bool takes_more(const IntervalController& interval, Duration round_trip, Instant now) const {
        if (all_.size() >= count_max_ || bytes_ >= bytes_max_) return false;
        return all_.empty() || interval.line_takes_more(now - all_.front().taken, round_trip);
    }

  private:
    struct Delta {
        uint64_t number;
        uint64_t bytes;
        Instant taken;
    };
    size_t count_max_;
    uint64_t bytes_max_;
    std::deque<Delta> all_;
    uint64_t bytes_ = 0;
};

}  // namespace antipode::replay
