#include "replicator/replay/write_queue.h"

#include <algorithm>
#include <chrono>

#include "common/base/check.h"

namespace antipode::replay {
namespace {

constexpr Duration kRetry = std::chrono::milliseconds(100);

bool overlap(const vmm::BlockRequest& a, const vmm::BlockRequest& b) {
    return a.offset_bytes < b.offset_bytes + b.length_bytes &&
           b.offset_bytes < a.offset_bytes + a.length_bytes;
}

}  // namespace

void WriteQueue::add(vmm::BlockRequest request) {
    waiting_bytes_ += request.data.size();
    waiting_.push_back(std::move(request));
}

void WriteQueue::expect(vmm::BlockRequest request) {
    request.data.clear();
    const Key key(request.device, request.number);
    const bool added = executing_.emplace(key, std::move(request)).second;
    FT_CHECK(added, "drive {} request {} twice", key.first, key.second);
}

bool WriteQueue::conflicts(const vmm::BlockRequest& request) const {
    return std::ranges::any_of(executing_, [&](const auto& each) {
        const auto& other = each.second;
        return other.device == request.device &&
               (request.operation == vmm::BlockOperation::flush || overlap(other, request));
    });
}

void WriteQueue::start(Instant now) {
    while (!failed_.empty() && failed_.front().again <= now) {
        disk_.submit_again(std::move(failed_.front().request));
        failed_.pop_front();
    }
    while (!waiting_.empty() && !conflicts(waiting_.front())) {
        auto request = std::move(waiting_.front());
        waiting_.pop_front();
        waiting_bytes_ -= request.data.size();
        expect({request.device,
                request.number,
                request.operation,
                request.offset_bytes,
                request.length_bytes,
                {}});
        disk_.submit(std::move(request));
    }
}

WriteQueue::End WriteQueue::ended(BlockCompletion done, Instant now) {
    const auto found = executing_.find(Key(done.drive, done.number));
    if (found == executing_.end()) return End::other;
    if (done.status == vmm::BlockStatus::ok ||
        found->second.operation == vmm::BlockOperation::read) {
        executing_.erase(found);
        return End::done;
    }
    vmm::BlockRequest again = found->second;
    again.data = std::move(done.data);
    failed_.push_back({now + kRetry, std::move(again)});
    return End::failed;
}

std::optional<Instant> WriteQueue::next_retry() const {
    if (failed_.empty()) return std::nullopt;
    return failed_.front().again;
}

void WriteQueue::forget() {
    waiting_.clear();
    waiting_bytes_ = 0;
    executing_.clear();
    failed_.clear();
}

}  // namespace antipode::replay
