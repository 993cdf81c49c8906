// Threshold: whether a figure that is looked at once a second is too high, said once when it
// begins and once when it ends.
//
// It begins when the figure was above `begins` kSamples times in a row, and ends when it was below
// `ends` as often: what sways between the two, or shows up for a moment, says nothing.
//
// Pure; core thread.
#pragma once

#include <cstdint>

namespace antipode::control {

class Threshold {
  public:
    static constexpr int kSamples = 3;
    enum class Change : uint8_t { none = 1, began, ended };

    constexpr Threshold(double begins, double ends) : begins_(begins), ends_(ends) {}

    Change sample(double figure) {
        const bool against = exceeded_ ? figure < ends_ : figure > begins_;
        in_a_row_ = against ? in_a_row_ + 1 : 0;
        if (in_a_row_ < kSamples) return Change::none;
        in_a_row_ = 0;
        exceeded_ = !exceeded_;
        return exceeded_ ? Change::began : Change::ended;
    }
    bool exceeded() const { return exceeded_; }

  private:
    double begins_;
    double ends_;
    int in_a_row_ = 0;
    bool exceeded_ = false;
};

}  // namespace antipode::control
