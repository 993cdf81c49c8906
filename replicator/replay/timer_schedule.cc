#include "replicator/replay/timer_schedule.h"

#include "replicator/vmm/layout.h"

namespace antipode::replay {
namespace {

constexpr uint64_t kNanosecondsASecond = 1'000'000'000;

}  // namespace

void TimerSchedule::follow(const vmm::I8254::Schedule& schedule, Instant now) {
    if (following_ && schedule.generation == generation_) {
        if (schedule.repeat == vmm::I8254::Repeat::none) next_.reset();
        return;
    }
    following_ = true;
    generation_ = schedule.generation;
    periodic_ = schedule.repeat == vmm::I8254::Repeat::periodic;
    period_ = Duration(schedule.period_ticks * kNanosecondsASecond / vmm::layout::kPitHz);
    if (schedule.repeat == vmm::I8254::Repeat::none) {
        next_.reset();
    } else {
        next_ = now + period_;
    }
}

void TimerSchedule::delivered(Instant now) {
    if (!periodic_ || period_ <= Duration::zero()) {
        next_.reset();
        return;
    }
    *next_ += period_;
    if (now - *next_ > kOwedMax) {
        const auto behind = (now - *next_) / period_;
        dropped_count_ += static_cast<uint64_t>(behind);
        *next_ += behind * period_;
    }
}

uint64_t TimerSchedule::counter_ticks(Instant now) const {
    if (!next_) return 0;
    const Duration into = now - (*next_ - period_);
    if (into < Duration::zero()) return 0;
    return static_cast<uint64_t>(into.count()) * vmm::layout::kPitHz / kNanosecondsASecond;
}

}  // namespace antipode::replay
