// Instant: a point on a monotonic clock, in nanoseconds since an arbitrary start. Pure code gets it
// as an argument and never asks for it; only env/ and the shells read a real clock.
#pragma once

#include <chrono>

namespace antipode {

struct MonotonicClock {
    using duration = std::chrono::nanoseconds;
    using rep = duration::rep;
    using period = duration::period;
    using time_point = std::chrono::time_point<MonotonicClock>;
    static constexpr bool is_steady = true;
    // CLOCK_MONOTONIC. Not for pure code.
    static time_point now() noexcept {
        return time_point(std::chrono::steady_clock::now().time_since_epoch());
    }
};

using Instant = MonotonicClock::time_point;
using Duration = MonotonicClock::duration;

}  // namespace antipode
