#include "replicator/control/fixed_ranges.h"

#include <algorithm>

namespace antipode::control {

DiskPoint FixedRanges::asked(uint64_t exit) {
    if (last_.exit != exit) last_ = {exit, 0};
    ++last_.count;
    return last_;
}

void FixedRanges::ended(uint64_t number, Effect effect, bool failed) {
    if (!failed) {
        failed_.erase(number);
        return;
    }
    failed_.insert_or_assign(number, effect);
    if (failed_.size() > kFailedMax) failed_.erase(failed_.begin());
}

bool FixedRanges::holds(const DiskRange& range, const DiskPoint& place) const {
    return std::ranges::any_of(fixes_, [&](const auto& each) {
        return each.second.point < place && each.second.range.overlaps(range);
    });
}

void FixedRanges::restart() {
    last_ = {};
    failed_.clear();
}

DiskPoint FixedRanges::now(uint64_t exit) const {
    return last_.exit == exit ? last_ : DiskPoint{exit, 0};
}

Result<FixedRanges::Fix> FixedRanges::add(const DiskRange& range,
                                          const std::optional<DiskPoint>& at, uint64_t exit,
                                          std::function<void()> settled) {
    const DiskPoint here = now(exit);
    const DiskPoint point = at.value_or(here);
    if (here > point) {
        return fail(Errc::busy, "exit {} request {} is over, the VM is at exit {} request {}",
                    point.exit, point.count, here.exit, here.count);
    }
    const uint64_t id = next_id_++;
    fixes_.emplace(id, Entry{range, point, at.has_value(), std::move(settled)});
    return Fix{id, point};
}

// Everything up to the point has been asked for.
bool FixedRanges::reached(const DiskPoint& point, uint64_t exit) const {
    return now(exit) >= point;
}

bool FixedRanges::retries_changes() const {
    return std::ranges::any_of(failed_,
                               [](const auto& each) { return each.second == Effect::changes; });
}

std::vector<std::function<void()>> FixedRanges::take_settled(uint64_t exit, const Busy& busy) {
    std::vector<std::function<void()>> settled;
    for (auto& [id, fix] : fixes_) {
        if (!fix.settled || !reached(fix.point, exit)) continue;
        const bool alone = std::none_of(fixes_.begin(), fixes_.find(id), [&](const auto& each) {
            return each.second.range.overlaps(fix.range);
        });
        if (!alone) continue;
        if (fix.replays && retries_changes()) continue;
        if (busy(fix.range, fix.point)) continue;
        settled.push_back(std::exchange(fix.settled, {}));
    }
    return settled;
}

}  // namespace antipode::control
