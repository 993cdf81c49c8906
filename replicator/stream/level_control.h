// LevelControl: how hard bulk is compressed, if at all, by what is scarce.
//
// Where the line is what holds bulk back and the thread has time, a higher level gets more
// through. Where the thread is busy making pieces while the line waits for it, a lower level does.
// In between nothing changes. A change costs the stream its history, so two looks in a row must
// agree.
//
// Below the lowest level there is none at all, which only a line that is faster than the two
// processors asks for. What compression takes at the other end cannot be seen from here, so this
// step is tried: whichever brings more bytes through stays, and the other one is tried again after
// a while, which doubles as long as it is of no use.
//
// Pure; the ZeroMQ thread. Levels are zstd's; below zero are its fast ones; kNone: not compressed.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <optional>

namespace antipode::stream {

class LevelControl {
  public:
    static constexpr int kNone = 0;  // zstd's 0 is another name of its 3
    static constexpr std::array<int, 9> kLevels{kNone, -7, -5, -3, -1, 1, 2, 3, 5};
    static constexpr size_t kLowest = 1;
    static constexpr size_t kFirst = 3;
    static constexpr double kBusyHigh = 0.6;
    static constexpr double kBusyLow = 0.2;
    static constexpr double kHeldHigh = 0.5;
    static constexpr double kHeldLow = 0.2;
    static constexpr double kBusyWorthATrial = 0.3;
    static constexpr double kPays = 1.1;      // times the bytes that came through before
    static constexpr double kCollapse = 0.5;  // so much less than a trial has shown: look again
    static constexpr int kTrialLooks = 3;     // the first of them is not of the new level alone
    static constexpr int kWaitFirst = 16;
    static constexpr int kWaitMax = 512;

    // Since the last look.
    struct Look {
        double busy = 0;          // the part of the time in which the thread made bulk frames
        double held = 0;          // and in which it had bulk to send and the line, or a cap, did
                                  // not let it
        double payload_rate = 0;  // bytes a second, before compression
    };
    int look(const Look& now) {
        if (trial_) {
            judge(now);
        } else if (index_ == 0 || (index_ == kLowest && now.busy > kBusyWorthATrial)) {
            consider_trial(now);
        } else {
            step(now);
        }
        return level();
    }
    int level() const { return kLevels[index_]; }

  private:
    struct Trial {
        double rate_before = 0;
        int looks = 0;
        double rate_sum = 0;
    };

    void step(const Look& now) {
        int wanted = 0;
        if (now.busy > kBusyHigh && now.held < kHeldLow) wanted = -1;
        if (now.busy < kBusyLow && now.held > kHeldHigh) wanted = 1;
        const bool agreed = wanted != 0 && wanted == last_wanted_;
        last_wanted_ = agreed ? 0 : wanted;
        if (agreed && wanted < 0 && index_ > kLowest) --index_;
        if (agreed && wanted > 0 && index_ + 1 < kLevels.size()) ++index_;
    }

    void consider_trial(const Look& now) {
        if (now.payload_rate <= 0) return;
        ++waited_;
        const bool collapsed = index_ == 0 && now.payload_rate < shown_rate_ * kCollapse;
        if (waited_ < wait_ && !collapsed) return;
        trial_ = Trial{now.payload_rate};
        index_ = other();
    }

    void judge(const Look& now) {
        const bool idle = now.payload_rate <= 0;
        if (!idle && ++trial_->looks > 1) trial_->rate_sum += now.payload_rate;
        if (!idle && trial_->looks < kTrialLooks) return;
        const double rate = trial_->rate_sum / (kTrialLooks - 1);
        const bool paid = !idle && rate > trial_->rate_before * kPays;
        shown_rate_ = paid ? rate : trial_->rate_before;
        if (!paid) index_ = other();
        wait_ = paid ? kWaitFirst : std::min(wait_ * 2, kWaitMax);
        waited_ = 0;
        last_wanted_ = 0;
        trial_.reset();
    }

    size_t other() const { return index_ == 0 ? kLowest : 0; }

    size_t index_ = kFirst;
    int last_wanted_ = 0;
    std::optional<Trial> trial_;
    double shown_rate_ = 0;
    int wait_ = 1;  // looks until the next trial: the first one at once
    int waited_ = 0;
};

}  // namespace antipode::stream
