// DutyCycle: when a guest whose vCPUs may run for a part of the time does run.
//
// The turns are those of the clock, not of a vCPU's own past, so that all vCPUs of a VM run and
// rest at the same time: one that spins for a lock would burn its turn while the holder rests.
// Pure.
#pragma once

#include <algorithm>

#include "common/base/clock.h"

namespace antipode::checkpoint {

struct DutyCycle {
    static constexpr Duration kPeriod = std::chrono::milliseconds(20);
    static constexpr uint32_t kWhole = 1000;

    // How long it may run from `now` on; zero: it rests until next_turn().
    static Duration may_run(Instant now, uint32_t share_permille) {
        const Duration turn = kPeriod * std::min(share_permille, kWhole) / kWhole;
        return std::max(Duration::zero(), turn - now.time_since_epoch() % kPeriod);
    }
    static Instant next_turn(Instant now) {
        return now + (kPeriod - now.time_since_epoch() % kPeriod);
    }
};

}  // namespace antipode::checkpoint
