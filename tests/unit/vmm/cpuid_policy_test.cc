// What the guest is told about its processor.
#include "replicator/vmm/cpuid_policy.h"

#include <algorithm>
#include <gtest/gtest.h>

namespace antipode::vmm {
namespace {

kvm_cpuid_entry2 entry(uint32_t function, uint32_t index, uint32_t value) {
    kvm_cpuid_entry2 made{};
    made.function = function;
    made.index = index;
    made.eax = made.ebx = made.ecx = made.edx = value;
    return made;
}

const kvm_cpuid_entry2* find(const std::vector<kvm_cpuid_entry2>& table, uint32_t function) {
    const auto found = std::find_if(table.begin(), table.end(),
                                    [&](const auto& each) { return each.function == function; });
    return found == table.end() ? nullptr : &*found;
}

std::vector<kvm_cpuid_entry2> host_with(uint32_t bits) {
    std::vector<kvm_cpuid_entry2> host;
    for (const uint32_t function :
         std::initializer_list<uint32_t>{0, 1, 6, 7, 0xa, 0xb, 0xd, 0x15, 0x40000000, 0x40000001,
                                         0x80000000, 0x80000001, 0x80000007, 0x8000001e}) {
        host.push_back(entry(function, 0, bits));
    }
    return host;
}

TEST(CpuidPolicyTest, WhatCannotBeReplayedIsHidden) {
    const auto table = lockstep_cpuid(host_with(0xffffffff));
    const auto* features = find(table, 1);
    ASSERT_NE(features, nullptr);
    const auto hidden = [](uint32_t word, std::initializer_list<unsigned> bits) {
        return std::none_of(bits.begin(), bits.end(),
                            [&](unsigned bit) { return (word >> bit & 1) != 0; });
    };
    // TSC, APIC, MTRR; then MONITOR, VMX, x2APIC, TSC deadline, XSAVE, OSXSAVE, AVX, RDRAND.
    EXPECT_TRUE(hidden(features->edx, {4, 9, 12}));
    EXPECT_TRUE(hidden(features->ecx, {3, 5, 21, 24, 26, 27, 28, 30}));
    const auto* more = find(table, 7);
    ASSERT_NE(more, nullptr);
    EXPECT_EQ(more->ebx | more->ecx | more->edx, 0u);  // RDSEED, FSGSBASE, RDPID and the rest
    const auto* extended = find(table, 0x80000001);
    ASSERT_NE(extended, nullptr);
    EXPECT_TRUE(hidden(extended->edx, {27}));  // RDTSCP
    for (const uint32_t leaf : std::initializer_list<uint32_t>{
             6, 0xa, 0xb, 0xd, 0x15, 0x40000000, 0x40000001, 0x80000007, 0x8000001e}) {
        EXPECT_EQ(find(table, leaf), nullptr) << leaf;  // PMU, topology, XSAVE, kvmclock, TSC rate
    }
}

TEST(CpuidPolicyTest, ALongModeProcessorIsShown) {
    const auto table = lockstep_cpuid(host_with(0xffffffff));
    EXPECT_EQ(find(table, 0)->eax, 7u);
    EXPECT_EQ(find(table, 0x80000000)->eax, 0x80000008u);
    EXPECT_EQ(find(table, 0x80000001)->edx >> 29 & 1, 1u);  // long mode
    EXPECT_EQ(find(table, 1)->edx >> 26 & 1, 1u);           // SSE2
    EXPECT_EQ(find(table, 1)->ecx >> 31 & 1, 1u);           // a hypervisor
    EXPECT_EQ(find(table, 1)->ebx >> 24, 0u);               // APIC id: never the host's
}

TEST(CpuidPolicyTest, WhatTheHostLacksIsNotShown) {
    const auto table = lockstep_cpuid(host_with(0));
    EXPECT_EQ(find(table, 1)->edx, 0u);
    EXPECT_EQ(find(table, 1)->ecx, 0x80000000u);
    EXPECT_EQ(find(table, 0x80000001)->edx, 0u);
}

TEST(CpuidPolicyTest, HostsThatDifferInWhatIsHiddenShowTheSame) {
    auto one = host_with(0xffffffff);
    auto two = one;
    for (auto& each : two) {
        if (each.function == 1) {
            each.eax = 0x00a20f10;               // another model
            each.ebx = 0x07080800;               // seen from another core
            each.ecx &= ~(1u << 30 | 1u << 28);  // no RDRAND, no AVX
        } else if (each.function != 0x80000001) {
            each.eax = each.ebx = each.ecx = each.edx = 0x1234;
        }
    }
    const auto same = [](const kvm_cpuid_entry2& a, const kvm_cpuid_entry2& b) {
        return a.function == b.function && a.index == b.index && a.flags == b.flags &&
               a.eax == b.eax && a.ebx == b.ebx && a.ecx == b.ecx && a.edx == b.edx;
    };
    EXPECT_TRUE(std::ranges::equal(lockstep_cpuid(one), lockstep_cpuid(two), same));
}

TEST(CpuidPolicyTest, ALiveTscIsShown) {
    const auto host = host_with(0xffffffff);
    auto table = smp_cpuid(host, 0, 2);
    EXPECT_EQ(find(table, 1)->edx >> 4 & 1, 0u);
    show_tsc(host, table);
    EXPECT_EQ(find(table, 1)->edx >> 4 & 1, 1u);
    EXPECT_EQ(find(table, 1)->ecx >> 24 & 1, 0u);  // no deadline timer
    EXPECT_EQ(find(table, 0x80000007)->edx, 0x100u);
    auto of_less = smp_cpuid(host_with(0), 0, 2);
    show_tsc(host_with(0), of_less);
    EXPECT_EQ(find(of_less, 0x80000007)->edx, 0u);  // its rate may change
}

}  // namespace
}  // namespace antipode::vmm
