#include "replicator/vmm/cpuid_policy.h"

#include <array>
#include <cstring>

namespace antipode::vmm {
namespace {

constexpr uint32_t bit(unsigned number) {
    return 1u << number;
}

// Leaf 1, EDX: FPU VME DE PSE MSR PAE CX8 SEP PGE CMOV PAT PSE36 CLFSH MMX FXSR SSE SSE2.
constexpr uint32_t kLeaf1Edx = bit(0) | bit(1) | bit(2) | bit(3) | bit(5) | bit(6) | bit(8) |
                               bit(11) | bit(13) | bit(15) | bit(16) | bit(17) | bit(19) | bit(23) |
                               bit(24) | bit(25) | bit(26);
// Leaf 1, ECX: SSE3 PCLMUL SSSE3 CX16 SSE4.1 SSE4.2 AES.
constexpr uint32_t kLeaf1Ecx = bit(0) | bit(1) | bit(9) | bit(13) | bit(19) | bit(20) | bit(25);
constexpr uint32_t kHypervisor = bit(31);
// Leaf 1, EDX, of VMs in checkpoint mode.
constexpr uint32_t kApic = bit(9);
constexpr uint32_t kSeveralIds = bit(28);
// Leaf 1, EDX, and leaf 0x80000007, EDX, of VMs with a live TSC.
constexpr uint32_t kTsc = bit(4);
constexpr uint32_t kInvariantTsc = bit(8);
// Leaf 0x80000001, EDX: SYSCALL NX LM; ECX: LAHF.
constexpr uint32_t kExtendedEdx = bit(11) | bit(20) | bit(29);
constexpr uint32_t kExtendedEcx = bit(0);

constexpr uint32_t kSignature = 0x000306a9;      // family 6, model 0x3a, stepping 9
constexpr uint32_t kClflushLine = 8 << 8;        // 64 bytes; APIC id and CPU count 0
constexpr uint32_t kAddressBits = 48 << 8 | 40;  // virtual, physical

kvm_cpuid_entry2 entry(uint32_t function, uint32_t eax, uint32_t ebx, uint32_t ecx, uint32_t edx) {
    kvm_cpuid_entry2 made{};
    made.function = function;
    made.eax = eax;
    made.ebx = ebx;
    made.ecx = ecx;
    made.edx = edx;
    return made;
}

kvm_cpuid_entry2 find(std::span<const kvm_cpuid_entry2> table, uint32_t function) {
    for (const auto& each : table) {
        if (each.function == function && each.index == 0) return each;
    }
    return entry(function, 0, 0, 0, 0);
}

uint32_t word(const char* text) {
    uint32_t value = 0;
    std::memcpy(&value, text, sizeof value);
    return value;
}

}  // namespace

std::vector<kvm_cpuid_entry2> lockstep_cpuid(std::span<const kvm_cpuid_entry2> supported) {
    static constexpr std::array<char, 49> kBrand{"Antipode virtual processor"};
    const auto leaf1 = find(supported, 1);
    const auto extended = find(supported, 0x80000001);
    std::vector<kvm_cpuid_entry2> table{
        entry(0, 7, word("Genu"), word("ntel"), word("ineI")),
        entry(1, kSignature, kClflushLine, (leaf1.ecx & kLeaf1Ecx) | kHypervisor,
              leaf1.edx & kLeaf1Edx),
        entry(7, 0, 0, 0, 0),
        entry(0x80000000, 0x80000008, 0, 0, 0),
        entry(0x80000001, 0, 0, extended.ecx & kExtendedEcx, extended.edx & kExtendedEdx),
    };
    table[2].flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
    for (uint32_t i = 0; i < 3; ++i) {
        const char* part = kBrand.data() + i * 16;
        table.push_back(
            entry(0x80000002 + i, word(part), word(part + 4), word(part + 8), word(part + 12)));
    }
    table.push_back(entry(0x80000008, kAddressBits, 0, 0, 0));
    return table;
}

// With a local APIC; each vCPU its own id, all in one package of as many cores.
std::vector<kvm_cpuid_entry2> smp_cpuid(std::span<const kvm_cpuid_entry2> supported, uint32_t id,
                                        uint32_t count) {
    constexpr unsigned kApicIdShift = 24;
    constexpr unsigned kCountShift = 16;
    auto table = lockstep_cpuid(supported);
    for (auto& entry : table) {
        if (entry.function == 1) {
            entry.ebx |= id << kApicIdShift | count << kCountShift;
            entry.edx |= kApic | (count > 1 ? kSeveralIds : 0);
        } else if (entry.function == 0x80000008) {
            entry.ecx = count - 1;
        }
    }
    return table;
}

void show_tsc(std::span<const kvm_cpuid_entry2> supported, std::vector<kvm_cpuid_entry2>& table) {
    constexpr uint32_t kPowerLeaf = 0x80000007;
    for (auto& entry : table) {
        if (entry.function == 1) entry.edx |= kTsc;
    }
    const uint32_t power = find(supported, kPowerLeaf).edx;
    table.push_back(entry(kPowerLeaf, 0, 0, 0, power & kInvariantTsc));
}

}  // namespace antipode::vmm
