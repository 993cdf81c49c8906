// What the guest is told about its processor: the same words at both sites, whatever the hosts are.
//
// The policy is a baseline of feature bits (x86-64-v2 without what cannot be replayed or is not
// emulated everywhere), masked by what this host supports. Hidden on purpose, because their results
// are no function of the guest's state: RDRAND, RDSEED, RDTSCP, kvmclock, PMU, APIC (there is
// none). TSC is hidden in the table, unless show_tsc() adds it; a host that shows it all the same
// is a finding of the probe.
//
// Pure: a table in, a table out.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "replicator/vmm/kvm_headers.h"

namespace antipode::vmm {

std::vector<kvm_cpuid_entry2> lockstep_cpuid(std::span<const kvm_cpuid_entry2> supported);
// The same for vCPU `id` of `count`, of a VM in checkpoint mode: it has local APICs.
std::vector<kvm_cpuid_entry2> smp_cpuid(std::span<const kvm_cpuid_entry2> supported, uint32_t id,
                                        uint32_t count);
// Of a VM whose TSC is live: shows it, and whether its rate is constant.
void show_tsc(std::span<const kvm_cpuid_entry2> supported, std::vector<kvm_cpuid_entry2>& table);

}  // namespace antipode::vmm
