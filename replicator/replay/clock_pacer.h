// ClockPacer: the guest's clock source as the guest may see it.
//
// The ACPI PM timer has 24 bits and wraps after 4.7 s: a guest that finds it further on than that
// (because the VM stood, or a failover took long) loses whole multiples from its clock. So a step
// of more than kStepNs between two readings is held back, and given out with the guest's next
// ticks, at each of which it updates its clock.
//
// A guest that stood for a minute is right again after thirty ticks. Time that passes while it
// runs is never held back.
//
// Pure; the vCPU thread. INVARIANTS: reading() never goes back; it never exceeds the true time.
#pragma once

#include <algorithm>
#include <cstdint>

namespace antipode::replay {

class ClockPacer {
  public:
    // With a step of a reading and one of a tick before the guest looks: still below 4.7 s.
    static constexpr uint64_t kStepNs = 2'000'000'000;

    // The guest last saw `seen_ns`; what it may see is to approach the true time from there.
    void start(uint64_t seen_ns) {
        last_ns_ = seen_ns;
        owed_ns_ = 0;
    }
    uint64_t reading(uint64_t true_ns) {
        const uint64_t reached_ns = last_ns_ + owed_ns_;
        const uint64_t passed_ns = true_ns > reached_ns ? true_ns - reached_ns : 0;
        const uint64_t step_ns = std::min(passed_ns, kStepNs);
        owed_ns_ += passed_ns - step_ns;
        last_ns_ += step_ns;
        return last_ns_;
    }
    // A tick is about to be delivered at this true time.
    void tick(uint64_t true_ns) {
        reading(true_ns);
        const uint64_t given_ns = std::min(owed_ns_, kStepNs);
        owed_ns_ -= given_ns;
        last_ns_ += given_ns;
    }
    uint64_t owed_ns() const { return owed_ns_; }

  private:
    uint64_t last_ns_ = 0;
    uint64_t owed_ns_ = 0;
};

}  // namespace antipode::replay
