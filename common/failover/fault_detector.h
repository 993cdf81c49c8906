// FaultDetector: when has the peer been silent for too long? Adaptive in the way of the phi accrual
// detector (Hayashibara et al. 2004), turned around: instead of computing at each moment how
// improbable the silence is, it computes once per heartbeat how long a silence must last to be that
// improbable.
//
// Heartbeats carry a sequence number and are sent every `interval`. From their arrivals it learns
// the mean and the deviation of the gap between two sent in a row (the jitter), and from gaps in
// the numbers the loss. A silence is suspicious when all of these heartbeats would have to be lost
// or late at once with a probability below 10^-phi:
//
//     losses  = smallest k with loss^k <= 10^-phi
//     limit   = (losses + 1) * mean + z * deviation,  z = deviations that are as improbable as
//     10^-phi limit   = clamp(limit, limit_min, limit_max)
//
// limit_max is for a line so bad that it needs more: that one cannot carry the log either. It is at
// least ten intervals, so that slow heartbeats may be lost as fast ones may.
//
// What was learned is of the path, so a process of the peer that is restarted is watched as closely
// as the one before it.
//
// Anything else that arrives from the peer (log frames, acknowledgements) ends a silence but
// teaches nothing. Defaults: 25 ms, phi = 12: about 200 to 300 ms; at 40 heartbeats a second one
// false alarm in some hundred years of independent losses; bursts of loss are what limit_min is
// for.
//
// Threads: one owner; a value. INVARIANTS: limit_min <= limit() <= limit_max.
// A process that was itself stopped (SIGSTOP, a frozen host) has heard nothing but cannot blame the
// peer: a gap between two calls of check() above stall_limit does not count as silence.
#pragma once

#include <cstdint>

#include "common/base/clock.h"

namespace antipode::failover {

struct FaultDetectorConfig {
    Duration interval = std::chrono::milliseconds(25);
    double phi = 12;
    double loss_min = 0.01;  // assumed even if none was seen
    Duration limit_min = std::chrono::milliseconds(200);
    Duration limit_max = std::chrono::seconds(2);
    Duration stall_limit = std::chrono::milliseconds(150);
};

enum class Suspicion : uint8_t { none = 1, suspected };

class FaultDetector {
  public:
    // A peer of whom too little has been heard to learn from is suspected after limit_max.
    FaultDetector(FaultDetectorConfig config, Instant now);

    // A heartbeat of the peer's present process; `restarted` when the process is another one than
    // before.
    void heartbeat(uint64_t sequence, Instant now);
    void heard(Instant now);  // anything else
    void peer_restarted(Instant now);

    // Call at least every stall_limit / 2, and at deadline().
    Suspicion check(Instant now);
    Suspicion suspicion() const { return suspicion_; }
    Instant deadline() const { return last_heard_ + limit_; }
    Duration limit() const { return limit_; }
    // For people: how suspicious the present silence is; suspected above config.phi.
    double phi(Instant now) const;

    double mean_seconds() const { return mean_; }
    double jitter_seconds() const;
    double loss() const { return loss_; }

  private:
    void learn_gap(double seconds);
    void update_limit();

    FaultDetectorConfig config_;
    Instant last_heard_;
    Instant last_heartbeat_{};
    Instant last_check_;
    uint64_t last_sequence_ = 0;
    uint64_t heartbeats_ = 0;    // of the peer's present process
    uint64_t learned_from_ = 0;  // heartbeats, of all its processes
    double mean_;
    double variance_ = 0;
    double loss_ = 0;
    Duration limit_;
    Suspicion suspicion_ = Suspicion::none;
};

}  // namespace antipode::failover
