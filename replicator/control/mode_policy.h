// ModePolicy: whether a VM of mode `auto` goes by events or by deltas, and why
// (docs/adr/0008-automatic-mode.md).
//
//   lockstep --- one of DeltasReason ---> deltas --- a wait, and the guest exits ---> lockstep
//
// Pure; one owner, at the site where the VM runs. step() once a second, only while a backup needs
// the log. Nothing of safety depends on it: either way is protected.
//
// INVARIANTS
//   - A return to lockstep that ends within kTrial doubles the wait before the next one, up to
//     kWaitMax; a longer one sets it back. So a VM that never fits settles in deltas.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <optional>

#include "common/base/clock.h"
#include "replicator/replay/log_entry.h"

namespace antipode::control {

// Since the VM runs here, but for `share`.
struct ModeFigures {
    uint64_t heals = 0;
    uint64_t heals_given_up = 0;
    // Events that a guest which does not exit got at a kick, and what that cost as deltas.
    uint64_t deliveries_by_kick = 0;
    uint64_t kick_delta_bytes = 0;
    double share = 1;  // of the time that the lag controller leaves the guest
};

class ModePolicy {
  public:
    static constexpr size_t kHealsMax = 4;  // in kHealWindow; one more is too many
    static constexpr Duration kHealWindow = std::chrono::seconds(60);
    static constexpr Duration kWindow = std::chrono::seconds(30);
    // Over kWindow. A stretch takes a tenth of these deltas, each with more pages.
    static constexpr uint64_t kKickDeliveriesMax = 600;
    static constexpr uint64_t kKickBytesMax = uint64_t{30} << 20;
    static constexpr double kShareFloor = 0.05;
    static constexpr Duration kTrial = std::chrono::minutes(5);
    static constexpr Duration kWaitMax = std::chrono::hours(4);

    // `wait`: how long it goes by deltas before it returns.
    explicit ModePolicy(Duration wait) : wait_first_(wait), wait_(wait) {}

    // Nothing: by events.
    std::optional<replay::DeltasReason> step(const ModeFigures& figures, Instant now) {
        const auto seen = look(figures, now);
        if (!mode_ && seen) {
            if (returned_ && now - *returned_ < kTrial) {
                wait_ = std::min(2 * wait_, std::max(kWaitMax, wait_first_));
            } else {
                wait_ = wait_first_;
            }
            change(seen, now);
        } else if (mode_ && now - since_ >= wait_ && exits_enough()) {
            change(std::nullopt, now);
            returned_ = now;
        }
        return mode_;
    }
    // A site that goes live goes on in the mode that it was in, and counts from there.
    void adopt(std::optional<replay::DeltasReason> mode, Instant now) {
        *this = ModePolicy(wait_first_);
        change(mode, now);
    }

    std::optional<replay::DeltasReason> mode() const { return mode_; }
    // Of deltas, before the next return.
    Duration wait() const { return wait_; }

  private:
    struct Sample {
        Instant time;
        ModeFigures figures;
    };

    void change(std::optional<replay::DeltasReason> mode, Instant now) {
        mode_ = mode;
        since_ = now;
        heals_.clear();
        window_.clear();
        slow_since_.reset();
    }
    // Whether the window is whole, and deltas at kicks were few in it.
    bool window_full() const {
        return !window_.empty() && window_.back().time - window_.front().time >= kWindow;
    }
    uint64_t deliveries() const {
        return window_.back().figures.deliveries_by_kick -
               window_.front().figures.deliveries_by_kick;
    }
    bool exits_enough() const {
        const Duration seen =
            window_.empty() ? Duration{} : window_.back().time - window_.front().time;
        // A wait that is shorter than the window has as much of it as there is.
        return !window_.empty() && (window_full() || seen >= wait_ / 2) &&
               deliveries() <= kKickDeliveriesMax;
    }
    // What speaks for deltas now. Remembers the figures.
    std::optional<replay::DeltasReason> look(const ModeFigures& figures, Instant now) {
        using replay::DeltasReason;
        const ModeFigures before = last_.value_or(figures);
        last_ = figures;
        const uint64_t fresh =
            std::min<uint64_t>(figures.heals - before.heals, uint64_t{kHealsMax} + 1);
        heals_.insert(heals_.end(), fresh, now);
        while (!heals_.empty() && now - heals_.front() >= kHealWindow) heals_.pop_front();
        window_.push_back({now, figures});
        while (window_.size() > 2 && now - window_[1].time >= kWindow) window_.pop_front();
        if (figures.share > kShareFloor) {
            slow_since_.reset();
        } else if (!slow_since_) {
            slow_since_ = now;
        }
        if (figures.heals_given_up > before.heals_given_up) return DeltasReason::heal_given_up;
        if (heals_.size() > kHealsMax) return DeltasReason::heals;
        if (slow_since_ && now - *slow_since_ >= kWindow) return DeltasReason::backup_slow;
        const uint64_t bytes =
            window_.back().figures.kick_delta_bytes - window_.front().figures.kick_delta_bytes;
        if (window_full() && deliveries() > kKickDeliveriesMax && bytes > kKickBytesMax) {
            return DeltasReason::busy;
        }
        return std::nullopt;
    }

    Duration wait_first_;
    Duration wait_;
    std::optional<replay::DeltasReason> mode_;
    Instant since_{};
    std::optional<Instant> returned_;
    std::optional<ModeFigures> last_;
    std::deque<Instant> heals_;
    std::deque<Sample> window_;
    std::optional<Instant> slow_since_;
};

}  // namespace antipode::control
