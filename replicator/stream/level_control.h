// LevelControl: how hard bulk is compressed, by what is scarce.
//
// Where the line is what holds bulk back and the thread has time, a higher level gets more
// through. Where the thread is busy making pieces while the line waits for it, a lower level does.
// In between nothing changes. A change costs the stream its history, so there is one a second at
// most, and two looks in a row must agree.
//
// Pure; the ZeroMQ thread. Levels are zstd's; below zero are its fast ones.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>

namespace antipode::stream {

class LevelControl {
  public:
    static constexpr std::array<int, 8> kLevels{-7, -5, -3, -1, 1, 2, 3, 5};
    static constexpr size_t kFirst = 4;
    static constexpr double kBusyHigh = 0.6;
    static constexpr double kBusyLow = 0.2;
    static constexpr double kHeldHigh = 0.5;
    static constexpr double kHeldLow = 0.2;

    // Of the time since the last look, each 0..1: in which the thread made bulk frames, and in
    // which it had bulk to send and the line, or a cap, did not let it.
    int look(double busy, double held) {
        int wanted = 0;
        if (busy > kBusyHigh && held < kHeldLow) wanted = -1;
        if (busy < kBusyLow && held > kHeldHigh) wanted = 1;
        const bool agreed = wanted != 0 && wanted == last_wanted_;
        last_wanted_ = agreed ? 0 : wanted;
        if (agreed && wanted < 0 && index_ > 0) --index_;
        if (agreed && wanted > 0 && index_ + 1 < kLevels.size()) ++index_;
        return level();
    }
    int level() const { return kLevels[index_]; }

  private:
    size_t index_ = kFirst;
    int last_wanted_ = 0;
};

}  // namespace antipode::stream
