#include "replicator/vmm/smp_state.h"

#include <cstring>
#include <type_traits>

namespace antipode::vmm {
namespace {

constexpr uint16_t kVersion = 1;
constexpr uint16_t kVersionWithTsc = 2;

template <typename T>
void put_raw(StateWriter& out, const T& value) {
    static_assert(std::is_trivially_copyable_v<T>);
    out.put_fixed({reinterpret_cast<const uint8_t*>(&value), sizeof value});
}

template <typename T>
void get_raw(StateReader& in, T& value) {
    for (size_t i = 0; i < sizeof value; ++i) {
        reinterpret_cast<uint8_t*>(&value)[i] = in.get<uint8_t>();
    }
}

}  // namespace

Result<void> create_irqchip(const Vm& vm) {
    FT_TRY_VOID(kvm_ioctl(vm.fd(), KVM_CREATE_IRQCHIP, 0ul, "KVM_CREATE_IRQCHIP"));
    kvm_pit_config config{};
    config.flags = KVM_PIT_SPEAKER_DUMMY;  // port 0x61 belongs to channel 2, which is in there
    FT_TRY_VOID(kvm_ioctl(vm.fd(), KVM_CREATE_PIT2, &config, "KVM_CREATE_PIT2"));
    return {};
}

void SmpState::save(StateWriter& out) const {
    out.put(tsc ? kVersionWithTsc : kVersion);
    out.put(static_cast<uint16_t>(cpus.size()));
    for (size_t i = 0; i < cpus.size(); ++i) {
        cpus[i].save(out);
        put_raw(out, local_apics[i]);
    }
    for (const auto& chip : chips) put_raw(out, chip);
    put_raw(out, timer);
    if (tsc) tsc->save(out);
}

Result<SmpState> SmpState::load(StateReader& in, size_t vcpu_count) {
    const auto version = in.get<uint16_t>();
    if (version != kVersion && version != kVersionWithTsc) {
        return fail(Errc::version, "vCPUs' state: version is {}, expected {} or {}", version,
                    kVersion, kVersionWithTsc);
    }
    const auto count = in.get<uint16_t>();
    if (count != vcpu_count) {
        return fail(Errc::invalid_argument, "vCPUs' state: is of {} vCPUs, this VM has {}", count,
                    vcpu_count);
    }
    SmpState state;
    state.local_apics.resize(count);
    for (auto& apic : state.local_apics) {
        FT_TRY(auto cpu, CpuState::load(in));
        state.cpus.push_back(std::move(cpu));
        get_raw(in, apic);
    }
    for (uint32_t id = 0; id < kChips; ++id) {
        get_raw(in, state.chips[id]);
        if (state.chips[id].chip_id != id) in.reject("a chip has another's number");
    }
    get_raw(in, state.timer);
    if (version == kVersionWithTsc) state.tsc = TscState::load(in, count);
    if (!in.ok()) return fail(Errc::corrupt, "vCPUs' state: {}", in.problem());
    if (!in.at_end()) return fail(Errc::corrupt, "vCPUs' state: bytes behind its end");
    return state;
}

bool halted_for_good(const SmpState& state) {
    constexpr uint64_t kInterruptFlag = 0x200;
    size_t halted = 0;
    for (const auto& cpu : state.cpus) {
        const auto mp = cpu.mp.mp_state;
        if (mp == KVM_MP_STATE_UNINITIALIZED || mp == KVM_MP_STATE_INIT_RECEIVED) continue;
        const bool nmi = cpu.events.nmi.pending != 0 || cpu.events.nmi.injected != 0;
        if (mp != KVM_MP_STATE_HALTED || (cpu.regs.rflags & kInterruptFlag) != 0 || nmi) {
            return false;
        }
        ++halted;
    }
    return halted > 0;
}

Result<SmpState> capture_smp(const Vm& vm, std::span<Vcpu* const> vcpus) {
    SmpState state;
    for (Vcpu* vcpu : vcpus) {
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

Result<void> restore_smp(const Vm& vm, std::span<Vcpu* const> vcpus, const SmpState& state) {
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
