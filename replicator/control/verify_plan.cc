#include "replicator/control/verify_plan.h"

#include <algorithm>

#include "common/base/check.h"

namespace antipode::control {

VerifyPlan::VerifyPlan(std::vector<uint64_t> sizes, Repair repair, uint64_t rate_bytes,
                       uint64_t numbers_after, Instant now)
    : sizes_(std::move(sizes)),
      repair_(repair),
      rate_bytes_(rate_bytes),
      last_number_(numbers_after),
      due_(now),
      progress_(now) {
    FT_CHECK(rate_bytes_ > 0, "a verify at no speed");
    for (const uint64_t size : sizes_) figures_.total_bytes += size;
    skip_walked_drives();
}

DiskRange VerifyPlan::range_of(const VerifyBatch& batch) const {
    return chunk_range(batch.first.index, batch.chunk_count, sizes_[batch.first.drive]);
}

void VerifyPlan::skip_walked_drives() {
    while (next_.drive < sizes_.size() && next_.index >= SeedChunk::count_of(sizes_[next_.drive])) {
        next_ = {next_.drive + 1, 0};
    }
}

std::optional<VerifyBatch> VerifyPlan::walk() {
    if (next_.drive >= sizes_.size()) return std::nullopt;
    VerifyBatch batch;
    batch.first = next_;
    batch.chunk_count = static_cast<uint32_t>(std::min<uint64_t>(
        VerifyAsk::kChunksMax, SeedChunk::count_of(sizes_[next_.drive]) - next_.index));
    next_.index += batch.chunk_count;
    skip_walked_drives();
    return batch;
}

std::optional<VerifyBatch> VerifyPlan::take(Instant now) {
    const auto ready =
        std::ranges::find_if(waiting_, [&](const Waiting& each) { return each.not_before <= now; });
    if (ready != waiting_.end()) {
        const VerifyBatch batch = ready->batch;
        waiting_.erase(ready);
        return batch;
    }
    // What waits comes first, also where it waits for its time.
    return waiting_.empty() ? walk() : std::nullopt;
}

std::optional<VerifyBatch> VerifyPlan::next(size_t window, Instant now) {
    if (out_.size() >= std::min(window, kWindowMax) || now < due_) return std::nullopt;
    auto batch = take(now);
    if (!batch) return std::nullopt;
    batch->number = ++last_number_;
    out_.emplace(batch->number, *batch);
    const double seconds =
        static_cast<double>(range_of(*batch).length_bytes) / static_cast<double>(rate_bytes_);
    // What was not used in time is not made up for.
    due_ = now + std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds));
    return batch;
}

void VerifyPlan::ask_again(const DriveChunk& chunk, VerifyPurpose purpose) {
    VerifyBatch batch;
    batch.purpose = purpose;
    batch.first = chunk;
    batch.chunk_count = 1;
    waiting_.push_back({batch, {}});
}

VerifyPlan::Outcome VerifyPlan::compared(uint64_t number, const std::vector<bool>& differs,
                                         Instant now) {
    Outcome outcome;
    const auto found = out_.find(number);
    if (found == out_.end()) return outcome;
    const VerifyBatch batch = found->second;
    out_.erase(found);
    progress_ = now;
    FT_CHECK(differs.size() == batch.chunk_count, "compared {} of {} chunks", differs.size(),
             batch.chunk_count);
    bool of_walk = true;
    for (uint32_t i = 0; i < batch.chunk_count; ++i) {
        const DriveChunk chunk{batch.first.drive, batch.first.index + i};
        const auto repair = repairs_.find(chunk);
        if (repair == repairs_.end()) {
            if (!differs[i]) continue;
            ++figures_.mismatches;
            outcome.differ.push_back(chunk);
            if (repair_ == Repair::no) continue;
            repairs_.emplace(chunk, 1);
            ask_again(chunk, VerifyPurpose::repair);
            continue;
        }
        of_walk = false;  // it was counted when it was found to differ
        if (!differs[i]) {
            ++figures_.repaired;
            outcome.repaired.push_back(chunk);
            repairs_.erase(repair);
        } else if (repair->second++ < kRepairsMax) {
            ask_again(chunk, VerifyPurpose::repair);
        } else {
            repairs_.erase(repair);
        }
    }
    if (of_walk) figures_.compared_bytes += range_of(batch).length_bytes;
    return outcome;
}

void VerifyPlan::written(uint64_t number, Instant now) {
    const auto found = out_.find(number);
    if (found == out_.end()) return;
    const DriveChunk chunk = found->second.first;
    out_.erase(found);
    progress_ = now;
    ask_again(chunk, VerifyPurpose::compare);
}

void VerifyPlan::put_off(uint64_t number, const std::string& why, Instant now) {
    const auto found = out_.find(number);
    if (found == out_.end()) return;
    waiting_.push_back({found->second, now + kLater});
    out_.erase(found);
    ++figures_.put_off;
    why_ = why;
}

void VerifyPlan::give_up(uint64_t number, Instant now) {
    const auto found = out_.find(number);
    if (found == out_.end()) return;
    repairs_.erase(found->second.first);
    out_.erase(found);
    progress_ = now;
}

void VerifyPlan::yields(Instant now) {
    if (out_.empty()) progress_ = now;
}

bool VerifyPlan::done() const {
    return out_.empty() && waiting_.empty() && next_.drive >= sizes_.size();
}

std::optional<std::string> VerifyPlan::failure(Instant now) const {
    if (done() || now - progress_ < kPatience) return std::nullopt;
    return why_.empty() ? std::string("nothing has been answered for a minute")
                        : "nothing could be compared for a minute: " + why_;
}

}  // namespace antipode::control
