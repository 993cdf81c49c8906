#include "replicator/vmm/tsc.h"

#include <algorithm>
#include <x86intrin.h>

#include "replicator/vmm/kvm_headers.h"

namespace antipode::vmm {
namespace {

constexpr uint32_t kTscMsr = 0x10;
constexpr uint64_t kTolerancePpm = 250;
constexpr uint32_t kKhzMin = 100'000;
constexpr uint32_t kKhzMax = 100'000'000;

Result<uint64_t> read_tsc(const Vcpu& vcpu) {
    struct {
        kvm_msrs header;
        kvm_msr_entry entry;
    } request{};
    request.header.nmsrs = 1;
    request.entry.index = kTscMsr;
    FT_TRY(const int got, kvm_ioctl(vcpu.fd(), KVM_GET_MSRS, &request, "KVM_GET_MSRS"));
    if (got != 1) return fail(Errc::unsupported, "KVM does not tell a vCPU's TSC");
    return request.entry.data;
}

Result<uint32_t> frequency(const Vcpu& vcpu) {
    FT_TRY(const int khz, kvm_ioctl(vcpu.fd(), KVM_GET_TSC_KHZ, 0ul, "KVM_GET_TSC_KHZ"));
    return static_cast<uint32_t>(khz);
}

kvm_device_attr offset_attribute(uint64_t& offset) {
    kvm_device_attr attribute{};
    attribute.group = KVM_VCPU_TSC_CTRL;
    attribute.attr = KVM_VCPU_TSC_OFFSET;
    attribute.addr = reinterpret_cast<uint64_t>(&offset);
    return attribute;
}

Result<uint64_t> get_offset(const Vcpu& vcpu) {
    uint64_t offset = 0;
    auto attribute = offset_attribute(offset);
    FT_TRY_VOID(kvm_ioctl(vcpu.fd(), KVM_GET_DEVICE_ATTR, &attribute, "KVM_VCPU_TSC_OFFSET"));
    return offset;
}

Result<void> set_offset(const Vcpu& vcpu, uint64_t offset) {
    auto attribute = offset_attribute(offset);
    FT_TRY_VOID(kvm_ioctl(vcpu.fd(), KVM_SET_DEVICE_ATTR, &attribute, "KVM_VCPU_TSC_OFFSET"));
    return {};
}

// So that RDMSR, and a checkpoint, show what RDTSC does.
Result<void> show_hosts(std::span<Vcpu* const> vcpus) {
    for (Vcpu* vcpu : vcpus) FT_TRY_VOID(set_offset(*vcpu, 0));
    return {};
}

Result<void> set_frequency(const TscTerms& terms, std::span<Vcpu* const> vcpus, uint32_t khz) {
    for (Vcpu* vcpu : vcpus) {
        FT_TRY(const uint32_t now, frequency(*vcpu));
        if (now == khz) continue;
        // Without scaling what is set is the host's, and near enough (check_tsc).
        if (terms.scaling == TscScaling::no && same_frequency(now, khz)) continue;
        FT_TRY_VOID(kvm_ioctl(vcpu->fd(), KVM_SET_TSC_KHZ, static_cast<unsigned long>(khz),
                              "KVM_SET_TSC_KHZ"));
    }
    return {};
}

}  // namespace

// The offset itself and not the value: a value that is close to what KVM expects is taken for an
// attempt to keep vCPUs in step, and the offset stays what it was. And one offset for all of them
// is what keeps them in step.
Result<void> set_tsc(std::span<Vcpu* const> vcpus, uint64_t value) {
    FT_TRY(const uint64_t before, get_offset(*vcpus.front()));
    FT_TRY(const uint64_t shown, read_tsc(*vcpus.front()));
    for (Vcpu* vcpu : vcpus) FT_TRY_VOID(set_offset(*vcpu, before + (value - shown)));
    return {};
}

bool same_frequency(uint32_t khz, uint32_t other_khz) {
    const uint64_t apart = khz > other_khz ? khz - other_khz : other_khz - khz;
    return apart * 1'000'000 <= kTolerancePpm * std::min(khz, other_khz);
}

uint64_t tsc_ticks(uint32_t khz, Duration time) {
    constexpr uint64_t kNsPerMs = 1'000'000;
    const auto ns = static_cast<uint64_t>(std::max<Duration::rep>(time.count(), 0));
    // In two steps: the product of the whole does not fit into 64 bits after some days.
    return ns / kNsPerMs * khz + ns % kNsPerMs * khz / kNsPerMs;
}

uint64_t TscState::highest() const {
    return values.empty() ? 0 : *std::max_element(values.begin(), values.end());
}

void TscState::save(StateWriter& out) const {
    out.put(khz);
    for (const uint64_t value : values) out.put(value);
}

TscState TscState::load(StateReader& in, size_t vcpu_count) {
    TscState state;
    in.get(state.khz);
    if (state.khz < kKhzMin || state.khz > kKhzMax) in.reject("the TSC's frequency makes no sense");
    state.values.resize(vcpu_count);
    for (uint64_t& value : state.values) in.get(value);
    return state;
}

Result<void> start_tsc(const TscTerms& terms, std::span<Vcpu* const> vcpus) {
    if (terms.source == TscSource::own) return set_tsc(vcpus, 0);
    return show_hosts(vcpus);
}

Result<TscState> capture_tsc(std::span<Vcpu* const> vcpus) {
    TscState state;
    FT_TRY(state.khz, frequency(*vcpus.front()));
    for (const Vcpu* vcpu : vcpus) {
        FT_TRY(const uint64_t value, read_tsc(*vcpu));
        state.values.push_back(value);
    }
    return state;
}

Result<void> check_tsc(const TscTerms& terms, const TscState& state) {
    if (terms.scaling == TscScaling::no && !same_frequency(terms.khz, state.khz)) {
        return fail(Errc::unsupported,
                    "the VM's TSC runs at {} kHz, this host's at {}, and KVM cannot set a guest's "
                    "frequency here (KVM_CAP_TSC_CONTROL)",
                    state.khz, terms.khz);
    }
    if (terms.source == TscSource::hosts && __rdtsc() < state.highest()) {
        return fail(Errc::unsupported,
                    "the VM's TSC stood at {}, this host's is behind it, and KVM shows guests the "
                    "host's here",
                    state.highest());
    }
    return {};
}

Result<void> continue_tsc(const TscTerms& terms, std::span<Vcpu* const> vcpus,
                          const TscState& state, Duration since) {
    FT_TRY_VOID(check_tsc(terms, state));
    // First: KVM counts an offset in ticks of the guest's frequency.
    FT_TRY_VOID(set_frequency(terms, vcpus, state.khz));
    if (terms.source == TscSource::hosts) return show_hosts(vcpus);
    FT_TRY_VOID(set_tsc(vcpus, state.highest() + tsc_ticks(state.khz, since)));
    for (const Vcpu* vcpu : vcpus) {
        FT_TRY(const uint64_t now, read_tsc(*vcpu));
        if (now >= state.highest()) continue;
        return fail(Errc::unsupported, "a vCPU's TSC is at {} after it was set beyond {}", now,
                    state.highest());
    }
    return {};
}

}  // namespace antipode::vmm
