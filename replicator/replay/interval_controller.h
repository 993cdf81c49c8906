// IntervalController: when the next checkpoint is due.
//
// What waits for a checkpoint (an output, a disk write) waits for at most the interval. A short one
// costs: the guest stands while each is taken, and each has to cross the line. So the interval is
// the shortest at which
//   - the guest stands for no more than `pause_share_max` of the time, and
//   - the bytes fit through `bandwidth_bytes_per_second`,
// but never longer than `longest`, which bounds the output delay. It grows at once with the cost
// and shrinks slowly, so that one small checkpoint among large ones does not make it swing. A guest
// for which nothing waits is left alone for `longest`.
//
// A line that takes no more is not given more: while a checkpoint is on its way for longer than a
// round trip and `longest`, no other is taken. The next one then covers more, which costs less than
// two for a guest that writes the same pages again and again, and no output waits behind a queue.
//
// Pure; one owner.
#pragma once

#include <cstdint>

#include "common/base/clock.h"

namespace antipode::replay {

struct IntervalSettings {
    Duration shortest = std::chrono::milliseconds(2);
    Duration longest = std::chrono::milliseconds(100);
    double pause_share_max = 0.1;
    uint64_t bandwidth_bytes_per_second = 0;  // 0: as much as there is
};

class IntervalController {
  public:
    // What sets the interval.
    enum class Bound : uint8_t { shortest = 1, pause, bandwidth, longest };
    enum class Waiting : uint8_t { nothing, something };

    explicit IntervalController(IntervalSettings settings);

    // `oldest_age`: since the oldest was taken that is not acknowledged.
    bool line_takes_more(Duration oldest_age, Duration round_trip) const {
        return oldest_age < round_trip + settings_.longest;
    }

    // A checkpoint was taken: how long the guest stood, and what it costs on the line.
    void taken(Duration pause, uint64_t line_bytes);
    Instant due(Instant last_taken, Waiting waiting) const;
    Duration interval() const { return interval_; }
    Bound bound() const { return bound_; }

  private:
    const IntervalSettings settings_;
    Duration interval_;
    Bound bound_ = Bound::shortest;
};

const char* to_string(IntervalController::Bound bound);

}  // namespace antipode::replay
