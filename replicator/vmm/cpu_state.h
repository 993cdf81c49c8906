// CpuState: everything of a vCPU that a guest can depend on, as bytes that another vCPU can take
// over.
//
// capture() and restore() are called on the vCPU thread, at an exit whose access has been completed
// (Vcpu::complete_access) or at a kick. Order matters, and each step's reason is at the step.
//
// Encoding: a version, then each KVM structure by its kernel ABI size (stable by the kernel's
// promise), then the MSRs as (index, value). Equal states give equal bytes: what the processor
// stores nondeterministically (x87 FIP and FDP, the XSAVE header of components not in use) is left
// as it is here, and masked only in digests.
//
// Not captured: the TSC (hidden from the guest). An int3 or into that is pending at a kick is not
// reported by KVM and is lost; at exits nothing is pending.
#pragma once

#include <cstdint>
#include <vector>

#include "common/base/result.h"
#include "replicator/vmm/state_io.h"
#include "replicator/vmm/vcpu.h"

namespace antipode::vmm {

struct CpuState {
    struct Msr {
        uint32_t index;
        uint64_t value;
    };
    kvm_regs regs{};
    kvm_sregs sregs{};
    kvm_xsave xsave{};
    kvm_xcrs xcrs{};
    kvm_debugregs debug{};
    kvm_mp_state mp{};
    kvm_vcpu_events events{};
    std::vector<Msr> msrs;

    void save(StateWriter& out) const;
    static Result<CpuState> load(StateReader& in);
};

Result<CpuState> capture_cpu(Vcpu& vcpu);
Result<void> restore_cpu(Vcpu& vcpu, const CpuState& state);

}  // namespace antipode::vmm
