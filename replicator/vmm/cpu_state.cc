#include "replicator/vmm/cpu_state.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <type_traits>

namespace antipode::vmm {
namespace {

constexpr uint16_t kVersion = 1;

// What a lockstep guest can set and later depend on. Not the TSC, not what is filtered.
constexpr std::array<uint32_t, 12> kMsrs{
    0x174,       // SYSENTER_CS
    0x175,       // SYSENTER_ESP
    0x176,       // SYSENTER_EIP
    0x1a0,       // MISC_ENABLE
    0x277,       // PAT
    0x2ff,       // MTRR default type
    0xc0000081,  // STAR
    0xc0000082,  // LSTAR
    0xc0000083,  // CSTAR
    0xc0000084,  // SYSCALL mask
    0xc0000102,  // KERNEL_GS_BASE
    0xc0000103,  // TSC_AUX
};

struct OneMsr {
    kvm_msrs header;
    kvm_msr_entry entry;
};

template <typename T>
void put_raw(StateWriter& out, const T& value) {
    static_assert(std::is_trivially_copyable_v<T>);
    out.put_bytes(std::as_bytes(std::span(&value, 1)));
}

template <typename T>
void get_raw(StateReader& in, T& value, bool& ok) {
    const auto bytes = in.get_bytes(sizeof value);
    if (bytes.size() != sizeof value) {
        ok = false;
        return;
    }
    std::memcpy(&value, bytes.data(), sizeof value);
}

template <typename T>
Result<void> get(const Vcpu& vcpu, unsigned long request, T& value, const char* name) {
    FT_TRY_VOID(kvm_ioctl(vcpu.fd(), request, &value, name));
    return {};
}

template <typename T>
Result<void> set(const Vcpu& vcpu, unsigned long request, const T& value, const char* name) {
    T copy = value;
    FT_TRY_VOID(kvm_ioctl(vcpu.fd(), request, &copy, name));
    return {};
}

}  // namespace

Result<CpuState> capture_cpu(Vcpu& vcpu) {
    CpuState state;
    FT_TRY(state.regs, vcpu.regs());
    FT_TRY(state.sregs, vcpu.sregs());
    FT_TRY_VOID(get(vcpu, KVM_GET_XSAVE, state.xsave, "KVM_GET_XSAVE"));
    FT_TRY_VOID(get(vcpu, KVM_GET_XCRS, state.xcrs, "KVM_GET_XCRS"));
    FT_TRY_VOID(get(vcpu, KVM_GET_DEBUGREGS, state.debug, "KVM_GET_DEBUGREGS"));
    FT_TRY_VOID(get(vcpu, KVM_GET_MP_STATE, state.mp, "KVM_GET_MP_STATE"));
    FT_TRY_VOID(get(vcpu, KVM_GET_VCPU_EVENTS, state.events, "KVM_GET_VCPU_EVENTS"));
    for (const uint32_t index : kMsrs) {
        OneMsr request{};
        request.header.nmsrs = 1;
        request.entry.index = index;
        FT_TRY(const int got, kvm_ioctl(vcpu.fd(), KVM_GET_MSRS, &request, "KVM_GET_MSRS"));
        if (got == 1) state.msrs.push_back({index, request.entry.data});  // 0: not on this host
    }
    return state;
}

Result<void> restore_cpu(Vcpu& vcpu, const CpuState& state) {
    // Segments and control registers first: KVM checks later state against them (long mode, CR4).
    FT_TRY_VOID(vcpu.set_sregs(state.sregs));
    FT_TRY_VOID(vcpu.set_regs(state.regs));
    // XSAVE, not FPU: KVM_SET_FPU has no effect on a vCPU that has not run (docs/facts).
    FT_TRY_VOID(set(vcpu, KVM_SET_XSAVE, state.xsave, "KVM_SET_XSAVE"));
    FT_TRY_VOID(set(vcpu, KVM_SET_XCRS, state.xcrs, "KVM_SET_XCRS"));
    for (const auto& msr : state.msrs) {
        OneMsr request{};
        request.header.nmsrs = 1;
        request.entry.index = msr.index;
        request.entry.data = msr.value;
        FT_TRY(const int done, kvm_ioctl(vcpu.fd(), KVM_SET_MSRS, &request, "KVM_SET_MSRS"));
        if (done != 1 && msr.value != 0) {
            return fail(Errc::unsupported, "MSR {:#x}: this host does not take {:#x}", msr.index,
                        msr.value);
        }
    }
    FT_TRY_VOID(set(vcpu, KVM_SET_DEBUGREGS, state.debug, "KVM_SET_DEBUGREGS"));
    FT_TRY_VOID(set(vcpu, KVM_SET_MP_STATE, state.mp, "KVM_SET_MP_STATE"));
    // Last: setting registers can drop a pending exception or interrupt shadow.
    FT_TRY_VOID(set(vcpu, KVM_SET_VCPU_EVENTS, state.events, "KVM_SET_VCPU_EVENTS"));
    // Brings if_flag and ready_for_interrupt_injection of the shared page up to date without
    // entering.
    const Exit exit = vcpu.complete_access();
    if (exit.kind != Exit::Kind::kicked) {
        return fail(Errc::io, "vCPU did something ({}) while its state was being restored",
                    to_string(exit.kind));
    }
    return {};
}

void CpuState::save(StateWriter& out) const {
    out.put(kVersion);
    put_raw(out, regs);
    put_raw(out, sregs);
    put_raw(out, xsave);
    put_raw(out, xcrs);
    put_raw(out, debug);
    put_raw(out, mp);
    put_raw(out, events);
    out.put<uint16_t>(static_cast<uint16_t>(msrs.size()));
    for (const Msr& msr : msrs) {
        out.put(msr.index);
        out.put(msr.value);
    }
}

Result<CpuState> CpuState::load(StateReader& in) {
    const auto version = in.get<uint16_t>();
    if (version != kVersion) {
        return fail(Errc::version, "vCPU state: version is {}, expected {}", version, kVersion);
    }
    CpuState state;
    bool ok = true;
    get_raw(in, state.regs, ok);
    get_raw(in, state.sregs, ok);
    get_raw(in, state.xsave, ok);
    get_raw(in, state.xcrs, ok);
    get_raw(in, state.debug, ok);
    get_raw(in, state.mp, ok);
    get_raw(in, state.events, ok);
    const auto count = in.get<uint16_t>();
    for (uint16_t i = 0; i < count && in.ok(); ++i) {
        Msr msr{};
        in.get(msr.index);
        in.get(msr.value);
        // What comes over the network sets no other register of this host's processor.
        if (std::find(kMsrs.begin(), kMsrs.end(), msr.index) == kMsrs.end()) {
            in.reject("MSR is not one of those that are kept");
        }
        state.msrs.push_back(msr);
    }
    if (!in.ok()) return fail(Errc::corrupt, "vCPU state: {}", in.problem());
    if (!ok) return fail(Errc::corrupt, "vCPU state: a structure has another size");
    return state;
}

}  // namespace antipode::vmm
