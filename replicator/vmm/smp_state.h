// SmpState: all of a VM with several vCPUs and KVM's own interrupt controllers and timer, but for
// its memory and its other devices: the processor half of a checkpoint.
//
// capture_smp() and restore_smp() are called while no thread runs any of the vCPUs, with every
// pending access completed (Vcpu::complete_access). Order matters, and each step's reason is at the
// step.
//
// Encoding: a version, the number of vCPUs, each one's CpuState and local APIC, the chips, the
// timer; in version 2 the TSC, its frequency and each vCPU's value; KVM's structures by their
// kernel ABI size.
//
// INVARIANT: restored into a VM with as many vCPUs, made by create_irqchip() and Vcpu::create() in
// the same order, the guest cannot tell.
#pragma once

#include <array>
#include <optional>
#include <span>
#include <vector>

#include "replicator/vmm/cpu_state.h"
#include "replicator/vmm/kvm.h"
#include "replicator/vmm/tsc.h"

namespace antipode::vmm {

struct SmpState {
    static constexpr uint32_t kChips = 3;  // two 8259A, one I/O APIC

    std::vector<CpuState> cpus;
    std::vector<kvm_lapic_state> local_apics;  // one a vCPU
    std::array<kvm_irqchip, kChips> chips{};
    kvm_pit_state2 timer{};
    std::optional<TscState> tsc;  // of a VM whose TSC is live; continue_tsc() is its restore

    void save(StateWriter& out) const;
    // Refuses the state of another number of vCPUs.
    static Result<SmpState> load(StateReader& in, size_t vcpu_count);
};

// Whether no vCPU will run again by itself: those that were started are in a HLT with interrupts
// off.
bool halted_for_good(const SmpState& state);

// The in-kernel interrupt controllers and timer of a VM that has no vCPU yet.
Result<void> create_irqchip(const Vm& vm);
Result<SmpState> capture_smp(const Vm& vm, std::span<Vcpu* const> vcpus);
Result<void> restore_smp(const Vm& vm, std::span<Vcpu* const> vcpus, const SmpState& state);

}  // namespace antipode::vmm
