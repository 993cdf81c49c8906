#include "replicator/vmm/smp_state.h"

namespace antipode::vmm {

Result<void> create_irqchip(const Vm& vm) {
    FT_TRY_VOID(kvm_ioctl(vm.fd(), KVM_CREATE_IRQCHIP, 0ul, "KVM_CREATE_IRQCHIP"));
    kvm_pit_config config{};
    FT_TRY_VOID(kvm_ioctl(vm.fd(), KVM_CREATE_PIT2, &config, "KVM_CREATE_PIT2"));
    return {};
}

Result<SmpState> capture_smp(const Vm& vm, std::span<const std::unique_ptr<Vcpu>> vcpus) {
    SmpState state;
    for (const auto& vcpu : vcpus) {
        // First: KVM_GET_MP_STATE takes in INIT and SIPI that are pending at the local APIC.
        FT_TRY(auto cpu, capture_cpu(*vcpu));
        FT_TRY(cpu.regs, vcpu->regs());
        FT_TRY(cpu.sregs, vcpu->sregs());
        state.cpus.push_back(std::move(cpu));
        kvm_lapic_state apic{};
        FT_TRY_VOID(kvm_ioctl(vcpu->fd(), KVM_GET_LAPIC, &apic, "KVM_GET_LAPIC"));
        state.local_apics.push_back(apic);
    }
    for (uint32_t chip = 0; chip < SmpState::kChips; ++chip) {
        state.chips[chip].chip_id = chip;
        FT_TRY_VOID(kvm_ioctl(vm.fd(), KVM_GET_IRQCHIP, &state.chips[chip], "KVM_GET_IRQCHIP"));
    }
    FT_TRY_VOID(kvm_ioctl(vm.fd(), KVM_GET_PIT2, &state.timer, "KVM_GET_PIT2"));
    return state;
}

Result<void> restore_smp(const Vm& vm, std::span<const std::unique_ptr<Vcpu>> vcpus,
                         const SmpState& state) {
    if (state.cpus.size() != vcpus.size() || state.local_apics.size() != vcpus.size()) {
        return fail(Errc::invalid_argument, "state of {} vCPUs for a VM with {}", state.cpus.size(),
                    vcpus.size());
    }
    // Controllers first: what they raise must find the local APICs as they were, not the reverse.
    for (kvm_irqchip chip : state.chips) {
        FT_TRY_VOID(kvm_ioctl(vm.fd(), KVM_SET_IRQCHIP, &chip, "KVM_SET_IRQCHIP"));
    }
    for (size_t i = 0; i < vcpus.size(); ++i) {
        kvm_lapic_state apic = state.local_apics[i];
        FT_TRY_VOID(kvm_ioctl(vcpus[i]->fd(), KVM_SET_LAPIC, &apic, "KVM_SET_LAPIC"));
        if (auto restored = restore_cpu(*vcpus[i], state.cpus[i]); !restored) {
            return fail(std::move(restored).error().within(fmt::format("vCPU {}", i)));
        }
    }
    // Last: from here on it ticks.
    kvm_pit_state2 timer = state.timer;
    FT_TRY_VOID(kvm_ioctl(vm.fd(), KVM_SET_PIT2, &timer, "KVM_SET_PIT2"));
    return {};
}

}  // namespace antipode::vmm
