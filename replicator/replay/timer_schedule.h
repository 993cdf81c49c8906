// TimerSchedule: when the guest's interval timer is due, by the recording site's clock.
//
// The device does not know the time; this does, outside the replayed state. The rule for guest
// time: each period that has ended is owed one tick; owed ticks are delivered one per exit, when
// the last one has been acknowledged, until caught up; more than kOwedMax behind, all that are owed
// but the one being delivered are dropped and counted (the guest's clock source, read by exits,
// stays right whatever the ticks do).
//
// Pure; vCPU thread.
#pragma once

#include <chrono>
#include <optional>

#include "common/base/clock.h"
#include "replicator/vmm/devices/pit/i8254.h"

namespace antipode::replay {

class TimerSchedule {
  public:
    static constexpr Duration kOwedMax = std::chrono::seconds(1);

    // Follows the device; call after each exit that may have programmed it, and after going live.
    void follow(const vmm::I8254::Schedule& schedule, Instant now);
    bool due(Instant now) const { return next_ && now >= *next_; }
    // When the next tick is due; nothing if the timer is at rest.
    std::optional<Instant> next() const { return next_; }
    // A tick was delivered.
    void delivered(Instant now);
    // Ticks of 1.193182 MHz since the current period began.
    uint64_t counter_ticks(Instant now) const;
    uint64_t dropped_count() const { return dropped_count_; }

  private:
    std::optional<Instant> next_;
    Duration period_{};
    bool periodic_ = false;
    bool following_ = false;
    uint32_t generation_ = 0;
    uint64_t dropped_count_ = 0;
};

}  // namespace antipode::replay
