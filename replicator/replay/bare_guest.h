// Bare guests: a few hundred bytes of machine code as a whole VM, for the probe and for tests.
//
// The code is loaded at kBareGuestBase and entered there in 64-bit ring 0, as a kernel is (boot.h).
#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include "replicator/vmm/builder.h"

namespace antipode::replay {

inline constexpr uint64_t kBareGuestBase = vmm::layout::kHighMemory;

Result<std::unique_ptr<vmm::VirtualMachine>> build_bare_guest(const vmm::Kvm& kvm,
                                                              std::span<const std::byte> code);

// Tortures replay: ring-3 arithmetic, SSE, stores and REP, MMIO, a filtered MSR, ring changes by
// iretq and ud2, interrupts where they are enabled, HLT. What it does with the outside:
inline constexpr uint16_t kTorturePortIn = 0x10;        // in: an input
inline constexpr uint16_t kTorturePortResult = 0x11;    // out: what it has computed so far
inline constexpr uint16_t kTorturePortEnd = 0x12;       // out: it is done
inline constexpr uint32_t kTortureMsr = 0x10;           // filtered: an input
inline constexpr uint8_t kTortureVector = 0x20;         // the interrupt it takes
inline constexpr uint64_t kTortureRing3Steps = 30'000;  // at least, before its first result
std::span<const std::byte> torture_guest();

// Answers CPUID: reads leaf and subleaf from kCpuidPortIn, writes eax, ebx, ecx, edx to
// kCpuidPortOut, for ever.
inline constexpr uint16_t kCpuidPortIn = 0x14;
inline constexpr uint16_t kCpuidPortOut = 0x15;
std::span<const std::byte> cpuid_guest();

// Starts a second vCPU by INIT and SIPI; both count, each its own 32-bit word, with an output now
// and then. For KVM's in-kernel interrupt controllers.
inline constexpr uint64_t kSmpCounters = 0x6000;
std::span<const std::byte> smp_guest();

// Counts in ring 0 with loops, calls and REP, without any exit; then writes to kTorturePortEnd.
std::span<const std::byte> loop_guest();

}  // namespace antipode::replay
