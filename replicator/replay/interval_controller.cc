#include "replicator/replay/interval_controller.h"

#include <algorithm>

#include "common/base/check.h"

namespace antipode::replay {
namespace {

constexpr int64_t kShrinkPart = 8;  // a step down is this part of what is too much

}  // namespace

IntervalController::IntervalController(IntervalSettings settings)
    : settings_(settings), interval_(settings.shortest) {
    FT_CHECK(settings.shortest > Duration::zero(), "an interval of nothing");
    FT_CHECK(settings.longest >= settings.shortest, "the longest is under the shortest");
    FT_CHECK(settings.pause_share_max > 0, "the guest may not stand at all");
}

void IntervalController::taken(Duration pause, uint64_t line_bytes) {
    using Seconds = std::chrono::duration<double>;
    // In seconds first: what is far too long must not overflow.
    const double longest = Seconds(settings_.longest).count();
    const double by_pause = Seconds(pause).count() / settings_.pause_share_max;
    const auto rate = static_cast<double>(settings_.bandwidth_bytes_per_second);
    const double by_bandwidth = rate > 0 ? static_cast<double>(line_bytes) / rate : 0;
    double wanted = Seconds(settings_.shortest).count();
    Bound bound = Bound::shortest;
    if (by_pause > wanted) {
        wanted = by_pause;
        bound = Bound::pause;
    }
    if (by_bandwidth > wanted) {
        wanted = by_bandwidth;
        bound = Bound::bandwidth;
    }
    if (wanted >= longest) {
        wanted = longest;
        bound = Bound::longest;
    }
    const Duration target = std::chrono::round<Duration>(Seconds(wanted));
    if (target >= interval_) {
        interval_ = std::min(target, settings_.longest);
        bound_ = bound;
        return;
    }
    interval_ -= (interval_ - target + Duration(kShrinkPart - 1)) / kShrinkPart;
    if (interval_ == target) bound_ = bound;
}

Instant IntervalController::due(Instant last_taken, Waiting waiting) const {
    return last_taken + (waiting == Waiting::something ? interval_ : settings_.longest);
}

const char* to_string(IntervalController::Bound bound) {
    switch (bound) {
        case IntervalController::Bound::shortest:
            return "shortest";
        case IntervalController::Bound::pause:
            return "pause";
        case IntervalController::Bound::bandwidth:
            return "bandwidth";
        case IntervalController::Bound::longest:
            return "longest";
    }
    return "unknown";
}

}  // namespace antipode::replay
