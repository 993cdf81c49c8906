// RateControl: how fast a resync may go. It has a cap of its own, and it yields to the VM: when the
// VM's answers get slower than they are without a resync, the resync slows down; when the VM is
// quiet, it speeds up again.
//
// Intuition: the lowest recent delay of the VM's writes is what the disk and the line can do; twice
// that and 2 ms is what a resync may cost. Multiplicative decrease, gentle increase, a floor so
// that a resync always ends.
//
// Pure: time is an argument. One owner. INVARIANT: rate() is between the floor and the cap (0 =
// none).
#pragma once

#include <algorithm>
#include <cstdint>

#include "common/base/clock.h"

namespace antipode::disksync {

class RateControl {
  public:
    RateControl(uint64_t rate_min, uint64_t rate_max)
        : rate_min_(std::max<uint64_t>(rate_min, 65536)) {
        set_max(rate_max);
    }
    void set_max(uint64_t rate_max) {
        rate_max_ = rate_max;
        rate_ = static_cast<double>(rate_max == 0 ? kUnlimited : rate_max);
    }

    // A write of the VM was answered after `delay`.
    void foreground(Instant now, Duration delay) {
        if (now >= quietest_until_) {
            quietest_ = std::min(delay, next_quietest_);
            next_quietest_ = delay;
            quietest_until_ = now + kMemory;
        }
        next_quietest_ = std::min(next_quietest_, delay);
        quietest_ = std::min(quietest_, delay);
        slowest_ = std::max(slowest_, delay);
        last_foreground_ = now;
        foreground_seen_ = true;
    }
    void tick(Instant now) {
        if (now - last_step_ < kStep) return;
        last_step_ = now;
        const bool busy = foreground_seen_ && now - last_foreground_ < kQuiet;
        if (busy && slowest_ > 2 * quietest_ + kTolerated) {
            // From what was really sent: an unlimited rate has nothing to halve.
            rate_ =
                std::min(rate_, std::max(measured_, 1.0 * static_cast<double>(rate_min_))) * 0.7;
        } else {
            rate_ = rate_ * (busy ? 1.05 : 1.5);
        }
        const double cap = static_cast<double>(rate_max_ == 0 ? kUnlimited : rate_max_);
        rate_ = std::clamp(rate_, std::min(static_cast<double>(rate_min_), cap), cap);
        slowest_ = Duration::zero();
        measured_ = 0.8 * measured_ + 0.2 * static_cast<double>(sent_in_step_) / kStepSeconds;
        sent_in_step_ = 0;
    }

    // Bytes that may be read and sent now.
    uint64_t allowed(Instant now) {
        const double seconds = std::chrono::duration<double>(now - last_refill_).count();
        last_refill_ = now;
        tokens_ =
            std::min(tokens_ + rate_ * std::min(seconds, 1.0), std::max(rate_ * 0.05, kBurst));
        return tokens_ <= 0 ? 0 : static_cast<uint64_t>(tokens_);
    }
    void sent(uint64_t bytes) {
        tokens_ -= static_cast<double>(bytes);
        sent_in_step_ += bytes;
    }
    double rate() const { return rate_; }
    double measured() const { return measured_; }

  private:
    static constexpr uint64_t kUnlimited = uint64_t{1} << 40;
    static constexpr double kBurst = 1 << 20;
    static constexpr double kStepSeconds = 0.1;
    static constexpr Duration kStep = std::chrono::milliseconds(100);
    static constexpr Duration kQuiet = std::chrono::milliseconds(300);
    static constexpr Duration kMemory = std::chrono::seconds(10);
    static constexpr Duration kTolerated = std::chrono::milliseconds(2);

    uint64_t rate_min_;
    uint64_t rate_max_ = 0;
    double rate_ = 0;
    double tokens_ = kBurst;
    double measured_ = 0;
    uint64_t sent_in_step_ = 0;
    Instant last_refill_{};
    Instant last_step_{};
    Instant last_foreground_{};
    bool foreground_seen_ = false;
    Duration quietest_ = Duration::max() / 4;
    Duration next_quietest_ = Duration::max() / 4;
    Duration slowest_ = Duration::zero();
    Instant quietest_until_{};
};

}  // namespace antipode::disksync
