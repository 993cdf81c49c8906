// LagController: slows the primary's vCPU when the backup's execution falls behind, and gives the
// time back as it catches up.
//
// The share of time in which the vCPU may run follows what the backup is seen to execute: a lag
// that grows says how much slower it is. Above the target a little less than that is given, so
// that the lag shrinks again; well below it the share grows until it is whole. It never reaches
// zero: the guest is slowed, not stopped.
//
// Pure; core thread, one step each kStep.
#pragma once

#include <algorithm>
#include <chrono>

#include "common/base/clock.h"

namespace antipode::control {

class LagController {
  public:
    static constexpr Duration kStep = std::chrono::milliseconds(50);
    static constexpr Duration kTarget = std::chrono::milliseconds(300);
    static constexpr double kShareMin = 0.02;
    // In checkpoint mode: a guest that writes the same pages again and again makes hardly less of
    // them when it is slowed, so it is not slowed to a crawl for nothing.
    static constexpr double kShareMinCheckpoint = 0.1;

    explicit LagController(double share_min = kShareMin) : share_min_(share_min) {}

    // Returns the share, in (0, 1].
    double step(Duration lag) {
        const double grown = seconds(lag - last_) / seconds(kStep);
        last_ = lag;
        if (lag < kTarget / 2) {
            share_ = std::min(1.0, share_ * kGrowth);
            speed_ = share_;
            return share_;
        }
        // A lag that grows by g seconds a second is a backup that executes 1 - g of what was
        // recorded in that time.
        speed_ += kSmoothing * (share_ * (1 - std::clamp(grown, -1.0, 0.95)) - speed_);
        const double error = seconds(lag - kTarget) / seconds(kHorizon);
        share_ = std::clamp(speed_ * (1 - std::clamp(error, -0.25, 0.8)), share_min_, 1.0);
        return share_;
    }
    void reset() { *this = LagController(share_min_); }
    double share() const { return share_; }

  private:
    static constexpr double kGrowth = 1.03;
    static constexpr double kSmoothing = 0.3;
    static constexpr Duration kHorizon = std::chrono::milliseconds(1000);  // to come back within

    static double seconds(Duration duration) {
        return std::chrono::duration<double>(duration).count();
    }

    double share_min_;
    double share_ = 1;
    double speed_ = 1;  // the backup's, as estimated, of a whole vCPU
    Duration last_{};
};

}  // namespace antipode::control
