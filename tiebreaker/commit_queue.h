// CommitQueue: what stands between the core thread, which hands in commits, and a store's own
// thread, which takes all that wait at once and makes them durable together.
//
// Threads: push(), stop() and wait_since() from the core thread; the rest from the store's thread.
// INVARIANTS: results come on the core's io_context in the order they were delivered; none comes
// after stop(). What was handed in before stop() is still taken.
#pragma once

#include <boost/asio/io_context.hpp>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "common/base/clock.h"
#include "common/base/metrics.h"
#include "tiebreaker/store.h"

namespace antipode::tiebreaker {

class CommitQueue {
  public:
    using Batch = std::deque<Commit>;

    explicit CommitQueue(boost::asio::io_context* core) : core_(core) {}
    ~CommitQueue() { stop(); }

    // Starts the store's thread.
    void start(std::function<void()> run);
    bool started() const { return thread_.joinable(); }
    void push(Commit commit);
    // Waits until the thread has returned.
    void stop();
    // How long the store's thread is at its present step, or the oldest commit waits for it.
    std::chrono::nanoseconds stalled() const;

    // At most `commits_max`, in order. Waits until there is one, or `idle` has passed: then an
    // empty batch. nullopt: stopped, and nothing is left.
    std::optional<Batch> take(size_t commits_max, Duration idle);
    // What has waited since before `oldest` without being taken.
    Batch take_older_than(Instant oldest);
    // The thread is alive and begins another step.
    void step();
    bool stopping() const;
    void deliver(Batch batch, std::vector<CommitResult> results);
    // Runs it on the core's io_context, unless stopped by then.
    void post(std::function<void()> function);

  private:
    struct Waiting {
        Commit commit;
        Instant since;
    };
    boost::asio::io_context* core_;
    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // of the core thread

    mutable std::mutex mutex_;
    std::condition_variable wake_;
    std::deque<Waiting> queue_;          // guarded by mutex_
    bool stopping_ = false;              // guarded by mutex_
    std::optional<Instant> busy_since_;  // guarded by mutex_: when the present step began
    std::thread thread_;
};

// What every store counts.
struct CommitMetrics {
    explicit CommitMetrics(Registry& registry);
    Histogram& batch_seconds;
    Counter& batches;
    Counter& records;
};

}  // namespace antipode::tiebreaker
