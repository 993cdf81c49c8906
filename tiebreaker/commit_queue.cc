#include "tiebreaker/commit_queue.h"

#include <boost/asio/post.hpp>

#include "common/base/check.h"

namespace antipode::tiebreaker {

CommitMetrics::CommitMetrics(Registry& registry)
    : batch_seconds(registry.histogram("antipode_tiebreaker_commit_seconds",
                                       "Time of one group commit, its fsync included",
                                       delay_bounds_seconds())),
      batches(registry.counter("antipode_tiebreaker_commits_total",
                               "Transactions made durable (each holds many decisions)")),
      records(
          registry.counter("antipode_tiebreaker_records_written_total", "Records made durable")) {}

void CommitQueue::start(std::function<void()> run) {
    FT_CHECK(core_ != nullptr && !thread_.joinable(), "store started twice or without a loop");
    thread_ = std::thread(std::move(run));
}

void CommitQueue::push(Commit commit) {
    const std::lock_guard lock(mutex_);
    FT_CHECK(!stopping_, "commit after stop");
    queue_.push_back({std::move(commit), MonotonicClock::now()});
    if (!busy_since_ && queue_.size() == 1) wake_.notify_one();
}

void CommitQueue::stop() {
    if (!thread_.joinable()) return;
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
        wake_.notify_one();
    }
    thread_.join();
    *alive_ = false;
}

std::chrono::nanoseconds CommitQueue::stalled() const {
    const std::lock_guard lock(mutex_);
    if (busy_since_) return MonotonicClock::now() - *busy_since_;
    if (!queue_.empty()) return MonotonicClock::now() - queue_.front().since;
    return {};
}

std::optional<CommitQueue::Batch> CommitQueue::take(size_t commits_max, Duration idle) {
    std::unique_lock lock(mutex_);
    busy_since_.reset();
    const auto ready = [&] { return stopping_ || !queue_.empty(); };
    if (idle == Duration::max()) {
        wake_.wait(lock, ready);
    } else {
        wake_.wait_for(lock, idle, ready);
    }
    if (queue_.empty() && stopping_) return std::nullopt;
    Batch batch;
    while (batch.size() < commits_max && !queue_.empty()) {
        batch.push_back(std::move(queue_.front().commit));
        queue_.pop_front();
    }
    busy_since_ = MonotonicClock::now();
    return batch;
}

CommitQueue::Batch CommitQueue::take_older_than(Instant oldest) {
    const std::lock_guard lock(mutex_);
    Batch batch;
    while (!queue_.empty() && queue_.front().since < oldest) {
        batch.push_back(std::move(queue_.front().commit));
        queue_.pop_front();
    }
    return batch;
}

void CommitQueue::step() {
    const std::lock_guard lock(mutex_);
    busy_since_ = MonotonicClock::now();
}

bool CommitQueue::stopping() const {
    const std::lock_guard lock(mutex_);
    return stopping_;
}

void CommitQueue::deliver(Batch batch, std::vector<CommitResult> results) {
    FT_CHECK(batch.size() == results.size(), "a commit without a result");
    boost::asio::post(
        *core_, [alive = alive_, batch = std::move(batch), results = std::move(results)]() mutable {
            for (size_t i = 0; i < batch.size() && *alive; ++i)
                batch[i].done(std::move(results[i]));
        });
}

void CommitQueue::post(std::function<void()> function) {
    boost::asio::post(*core_, [alive = alive_, function = std::move(function)] {
        if (*alive) function();
    });
}

}  // namespace antipode::tiebreaker
