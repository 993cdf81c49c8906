// TokenBucket: so many a second, so many at once. Pure: time is an argument.
//
// INVARIANTS: never more than `burst` tokens; time that goes back gives none.
#pragma once

#include <algorithm>
#include <chrono>

#include "common/base/clock.h"

namespace antipode::tiebreaker {

class TokenBucket {
  public:
    TokenBucket(double per_second, double burst, Instant now)
        : per_second_(per_second), burst_(burst), tokens_(burst), last_(now) {}

    bool take(Instant now) {
        refill(now);
        if (tokens_ < 1.0) return false;
        tokens_ -= 1.0;
        return true;
    }
    // Until take() will succeed; zero if it would now.
    Duration wait(Instant now) {
        refill(now);
        if (tokens_ >= 1.0) return Duration::zero();
        const std::chrono::duration<double> seconds((1.0 - tokens_) / per_second_);
        return std::chrono::ceil<Duration>(seconds);
    }

  private:
    void refill(Instant now) {
        if (now <= last_) return;
        const std::chrono::duration<double> passed = now - last_;
        tokens_ = std::min(burst_, tokens_ + passed.count() * per_second_);
        last_ = now;
    }
    double per_second_;
    double burst_;
    double tokens_;
    Instant last_;
};

}  // namespace antipode::tiebreaker
