// StallGuard: whether this site may still act on what it knew, or has stood still (SIGSTOP, a
// frozen host, a core loop that hung) for so long that the other site may have taken the VM
// meanwhile.
//
// A process that stood still does not know it: when it goes on, its vCPU thread is as quick as its
// core loop, and would write to the disk, and let go what was acknowledged long ago, before the
// loop has read what the tiebreaker has to say. So the loop says that it turns, and whoever is
// about to write looks whether it has turned of late. A gap raises a doubt. The doubt ends with a
// proof: a word that answers what this site sent after the gap, of someone who would know. The
// Output Rule does not rest on this (nothing here is a lease: a proof is an answer, not a time); it
// keeps a site that has lost from scribbling on its disk and repeating itself on its network in the
// instant before it hears that.
//
// What it cannot see: a clock that stood still with the process (a suspended host, where
// CLOCK_MONOTONIC stops), and a stop between the last look, on the store's thread, and the write.
// Both leave writes that the resync of this site repairs: they were made by its VM, and all of it
// is replaced by the survivor's.
//
// Threads: may_act() and doubtful() from any; the rest on the core thread.
// INVARIANT: once a gap of `limit` lies behind it, may_act() is false until proved() with a later
// `asked`.
#pragma once

#include <atomic>
#include <chrono>

#include "common/base/clock.h"

namespace antipode::control {

class StallGuard {
  public:
    static constexpr Duration kLimit = std::chrono::milliseconds(150);

    explicit StallGuard(Instant now, Duration limit = kLimit)
        : limit_(limit), last_turn_ns_(nanoseconds(now)) {}

    // The loop begins: what lies before it is no gap.
    void restart(Instant now) { last_turn_ns_.store(nanoseconds(now), std::memory_order_release); }

    // The loop has come by; at least every limit / 2 while all is well. True if it had stood still:
    // what is sent from now on can bring the proof.
    bool turn(Instant now) {
        const bool stalled = gap(now) >= limit_;
        if (stalled) {
            doubtful_since_ = now;
            doubtful_.store(true, std::memory_order_release);  // before the turn is seen
        }
        last_turn_ns_.store(nanoseconds(now), std::memory_order_release);
        return stalled;
    }

    // Somebody who would know says that this site's epoch stands, in answer to what was sent at
    // `asked`. True if that ends a doubt.
    bool proved(Instant asked) {
        if (!doubtful() || asked < doubtful_since_) return false;
        doubtful_.store(false, std::memory_order_release);
        return true;
    }

    bool doubtful() const { return doubtful_.load(std::memory_order_acquire); }
    // Of the newest doubt.
    Instant doubtful_since() const { return doubtful_since_; }

    bool may_act(Instant now) const {
        const bool turns =
            gap(now) < limit_;  // first: the doubt is there before the turn that raised it is seen
        return turns && !doubtful();
    }

  private:
    static int64_t nanoseconds(Instant at) { return at.time_since_epoch().count(); }
    Duration gap(Instant now) const {
        return Duration(nanoseconds(now) - last_turn_ns_.load(std::memory_order_acquire));
    }

    const Duration limit_;
    std::atomic<int64_t> last_turn_ns_;
    std::atomic<bool> doubtful_{false};
    Instant doubtful_since_{};
};

}  // namespace antipode::control
