// What KVM does with a guest's TSC, found out by a guest that reads it.
#include <array>
#include <cstring>
#include <fmt/format.h>
#include <x86intrin.h>

#include "replicator/vmm/boot.h"
#include "replicator/vmm/cpuid_policy.h"
#include "replicator/vmm/tsc.h"

// Writes what it reads to addresses where nothing is: the TSC in ring 0, its MSR, the TSC in ring
// 3; again and again. It returns to ring 0 by nothing but a new start.
asm(R"(
.section .rodata
.balign 16
.globl antipode_tsc_begin, antipode_tsc_end
antipode_tsc_begin:
    mov $0xd0000000, %ebx
    rdtsc
    shl $32, %rdx
    or %rdx, %rax
    mov %rax, (%rbx)
    mov $0x10, %ecx
    rdmsr
    shl $32, %rdx
    or %rdx, %rax
    mov %rax, 8(%rbx)
    lgdt 0x100000 + tsc_gdtr - antipode_tsc_begin
    push $0x1b
    push $0x130000
    push $0x2
    push $0x23
    push $0x100000 + 1f - antipode_tsc_begin
    iretq
1:  rdtsc
    shl $32, %rdx
    or %rdx, %rax
    mov %rax, 16(%rbx)
2:  jmp 2b
.balign 8
tsc_gdt:
    .quad 0
    .quad 0x00af9b000000ffff            # 0x08 ring 0 code
    .quad 0x00cf93000000ffff            # 0x10 ring 0 data
    .quad 0x00cff3000000ffff            # 0x18 ring 3 data
    .quad 0x00affb000000ffff            # 0x20 ring 3 code
tsc_gdtr:
    .word 39
    .quad 0x100000 + tsc_gdt - antipode_tsc_begin
antipode_tsc_end:
.text
)");

extern "C" {
extern const std::byte antipode_tsc_begin[];
extern const std::byte antipode_tsc_end[];
}

namespace antipode::vmm {
namespace {

constexpr uint64_t kMemoryBytes = 4 << 20;
constexpr uint64_t kAnswers = 0xd0000000;
// Far from the host's, and more than any trial takes.
constexpr uint64_t kAway = uint64_t{1} << 50;
constexpr uint64_t kLongest = uint64_t{1} << 42;

struct Answers {
    uint64_t ring0 = 0;
    uint64_t msr = 0;
    uint64_t ring3 = 0;
};

class Trial {
  public:
    static Result<Trial> make(const Kvm& kvm) {
        FT_TRY(auto memory, GuestMemory::allocate(kMemoryBytes));
        FT_TRY(auto vm, Vm::create(kvm, memory, Vm::TscMsr::readable));
        FT_TRY(auto vcpu, Vcpu::create(kvm, vm, 0));
        FT_TRY(const auto supported, kvm.supported_cpuid());
        auto cpuid = lockstep_cpuid(supported);
        show_tsc(supported, cpuid);
        FT_TRY_VOID(vcpu.set_cpuid(cpuid));
        write_boot_tables(memory);
        (void)memory.write(GuestPhys(layout::kHighMemory), {antipode_tsc_begin, antipode_tsc_end});
        return Trial(std::move(memory), std::move(vm), std::move(vcpu));
    }

    Vcpu& vcpu() { return vcpu_; }
    Result<Answers> ask() {
        FT_TRY_VOID(set_boot_state(vcpu_, layout::kHighMemory));
        std::array<uint64_t, 3> values{};
        for (size_t i = 0; i < values.size();) {
            const Exit exit = vcpu_.run();
            if (exit.kind == Exit::Kind::kicked) continue;
            if (exit.kind != Exit::Kind::mmio_write || exit.address != kAnswers + 8 * i ||
                exit.data.size() != sizeof values[i]) {
                return fail(Errc::unsupported, "a guest that reads the TSC stopped: {} {}",
                            to_string(exit.kind), exit.detail);
            }
            std::memcpy(&values[i++], exit.data.data(), sizeof values[0]);
        }
        // The last write is done before the state is set again.
        (void)vcpu_.complete_access();
        return Answers{values[0], values[1], values[2]};
    }

  private:
    Trial(GuestMemory&& memory, Vm&& vm, Vcpu&& vcpu)
        : memory_(std::move(memory)), vm_(std::move(vm)), vcpu_(std::move(vcpu)) {}

    GuestMemory memory_;
    Vm vm_;
    Vcpu vcpu_;
};

bool within(uint64_t value, uint64_t from, uint64_t to) {
    return value - from <= to - from;
}

bool all_within(const Answers& answers, uint64_t from, uint64_t to) {
    return within(answers.ring0, from, to) && within(answers.msr, from, to) &&
           within(answers.ring3, from, to);
}

std::string words(const Answers& answers) {
    return fmt::format("{} in ring 0, {} by RDMSR, {} in ring 3", answers.ring0, answers.msr,
                       answers.ring3);
}

}  // namespace

Result<TscTerms> examine_tsc(const Kvm& kvm) {
    FT_TRY(auto trial, Trial::make(kvm));
    std::array<Vcpu*, 1> vcpus{&trial.vcpu()};
    TscTerms terms;
    FT_TRY(const auto native, capture_tsc(vcpus));
    terms.khz = native.khz;
    terms.scaling = kvm.capability(KVM_CAP_TSC_CONTROL) > 0 ? TscScaling::yes : TscScaling::no;
    const uint64_t wanted = __rdtsc() + kAway;
    FT_TRY_VOID(set_tsc(vcpus, wanted));
    FT_TRY(const Answers far, trial.ask());
    if (all_within(far, wanted, wanted + kLongest)) return terms;
    terms.source = TscSource::hosts;
    FT_TRY_VOID(start_tsc(terms, vcpus));
    const uint64_t before = __rdtsc();
    FT_TRY(const Answers near, trial.ask());
    if (all_within(near, before, __rdtsc())) return terms;
    return fail(Errc::unsupported,
                "KVM does not keep a guest's counter here: set to {} it reads {}, without an "
                "offset from {} on it reads {}",
                wanted, words(far), before, words(near));
}

}  // namespace antipode::vmm
