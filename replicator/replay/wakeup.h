// Wakeup: how other threads wake the vCPU thread when it waits, at no cost when it does not.
//
// wake() from any thread; wait() and the rest from the one thread that waits. The waiter announces
// itself, looks at its queues once more, and only then sleeps: a wake between the look and the
// sleep is not lost.
#pragma once

#include <atomic>
#include <cstdint>
#include <ctime>
#include <optional>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/base/check.h"
#include "common/base/clock.h"
#include "common/base/unique_fd.h"

namespace antipode::replay {

class Wakeup {
  public:
    Wakeup() : event_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
        FT_CHECK(static_cast<bool>(event_), "eventfd");
    }

    // After the caller has published what there is to see.
    void wake() {
        std::atomic_thread_fence(std::memory_order_seq_cst);
        if (!waiting_.load(std::memory_order_relaxed)) return;
        const uint64_t one = 1;
        (void)!write(event_.get(), &one, sizeof one);
    }

    // Sleeps until wake() or `until`, unless `ready()` is true after the announcement.
    template <typename Ready>
    void wait(std::optional<Instant> until, Ready ready) {
        waiting_.store(true, std::memory_order_relaxed);
        std::atomic_thread_fence(std::memory_order_seq_cst);
        if (!ready()) sleep(until);
        waiting_.store(false, std::memory_order_relaxed);
        waits_.store(waits_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    }
    // From any thread: how many waits have ended.
    uint64_t waits() const { return waits_.load(std::memory_order_relaxed); }

  private:
    void sleep(std::optional<Instant> until) {
        timespec timeout{};
        if (until) {
            const auto left = std::max(Duration::zero(), *until - MonotonicClock::now());
            timeout.tv_sec = static_cast<time_t>(left.count() / 1'000'000'000);
            timeout.tv_nsec = static_cast<long>(left.count() % 1'000'000'000);
        }
        pollfd descriptor{event_.get(), POLLIN, 0};
        if (ppoll(&descriptor, 1, until ? &timeout : nullptr, nullptr) > 0) {
            uint64_t drained = 0;
            (void)!read(event_.get(), &drained, sizeof drained);
        }
    }

    UniqueFd event_;
    std::atomic<bool> waiting_{false};
    std::atomic<uint64_t> waits_{0};
};

}  // namespace antipode::replay
