#include "replicator/control/verify_record.h"

#include <algorithm>

namespace antipode::control {
namespace {

bool is_resolved(const VerifyFinding& finding) {
    return finding.acknowledged || finding.equal_unix_ms;
}

}  // namespace

void VerifyRecord::differs(const DriveChunk& chunk, const VerifyFinding& finding) {
    places_.insert_or_assign(chunk, finding);
    make_room();
}

void VerifyRecord::make_room() {
    while (places_.size() > kKept) {
        const auto worth = [](const auto& place) {
            return std::pair(!is_resolved(place.second), place.second.found_unix_ms);
        };
        const auto least = std::ranges::min_element(places_, {}, worth);
        if (!is_resolved(least->second)) ++unlisted_;
        places_.erase(least);
    }
}

void VerifyRecord::equal(const DriveChunk& first, uint32_t count, int64_t now_unix_ms) {
    for (auto place = places_.lower_bound(first);
         place != places_.end() && place->first < DriveChunk{first.drive, first.index + count};
         ++place) {
        if (!place->second.equal_unix_ms) place->second.equal_unix_ms = now_unix_ms;
    }
}

void VerifyRecord::all_equal(int64_t now_unix_ms) {
    for (auto& [chunk, finding] : places_) {
        if (!finding.equal_unix_ms) finding.equal_unix_ms = now_unix_ms;
    }
    unlisted_ = 0;
}

void VerifyRecord::acknowledge() {
    for (auto& [chunk, finding] : places_) finding.acknowledged = true;
    unlisted_ = 0;
}

uint64_t VerifyRecord::unresolved() const {
    const auto count = std::ranges::count_if(
        places_, [](const auto& place) { return !is_resolved(place.second); });
    return unlisted_ + static_cast<uint64_t>(count);
}

std::vector<VerifyFinding> VerifyRecord::findings() const {
    std::vector<VerifyFinding> all;
    for (const auto& [chunk, finding] : places_) all.push_back(finding);
    std::ranges::stable_sort(all, {}, &VerifyFinding::found_unix_ms);
    return all;
}

}  // namespace antipode::control
