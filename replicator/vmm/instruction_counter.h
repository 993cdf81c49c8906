// InstructionCounter: how far a guest has got inside a stretch of execution without exits.
//
// Two ways to count. With a PMU: retired branches of the guest alone (perf_event); they run at full
// speed and can interrupt the guest, but some events late (the skid). Without: by single steps, one
// KVM exit an instruction, which is slow but never late; on top of it an artificial skid can be
// asked for, so that what is built on a counter can be tested where there is no PMU.
//
// A count alone names no instruction when branches are counted: between two branches it stands
// still. replay/position.h adds the registers.
//
// vCPU thread only; one counter a vCPU.
//
// INVARIANTS
//   - count() never goes down between two start().
//   - run_until(n) stops at a count of n to n + skid_max(), or earlier for an exit.
//   - step() executes at most one instruction.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "common/base/random.h"
#include "common/base/result.h"
#include "replicator/vmm/vcpu.h"

namespace antipode::vmm {

class InstructionCounter {
  public:
    virtual ~InstructionCounter() = default;
    // Counts from here on.
    virtual Result<void> start() = 0;
    virtual Result<uint64_t> count() = 0;
    virtual uint64_t skid_max() const = 0;
    // Exit::Kind::stepped = the count was reached; any other kind = the guest stopped before.
    virtual Result<Exit> run_until(uint64_t wanted) = 0;
    // Exit::Kind::stepped = one instruction was executed.
    virtual Result<Exit> step() = 0;
};

// Counts what KVM steps. Where it emulates ring 0 and does not step in ring 3 (the probe finds
// out), a guest in ring 3 runs on to its next exception or exit, uncounted: then only for guests
// that stay in ring 0.
std::unique_ptr<InstructionCounter> make_single_step_counter(Vcpu& vcpu, uint64_t skid_max,
                                                             uint64_t skid_seed);

// Guest-only retired branches of the calling thread, which must be the one that runs the vCPU.
// Errc::unsupported where the kernel has no such counter.
Result<std::unique_ptr<InstructionCounter>> make_perf_counter(Vcpu& vcpu);

}  // namespace antipode::vmm
