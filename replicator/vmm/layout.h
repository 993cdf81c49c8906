// Every guest-physical address and port in one place.
//
//   0x00000500  GDT of the boot state                  0x00007000  zero page (boot_params)
//   0x00009000  page tables (PML4, PDPT, 4 x PD)       0x00020000  kernel command line, 4 KiB at
//   most 0x0009fc00  MP table (stops Linux from scanning)   0x00100000  kernel (where its ELF
//   headers say) 0xc0000000  end of low memory, the rest is above 4 GiB 0xd0000000  virtio-mmio
//   devices, one page each
#pragma once

#include <array>
#include <cstdint>

#include "common/base/strong.h"

namespace antipode::vmm {

// An address in the guest's physical memory; never a host address.
using GuestPhys = Strong<uint64_t, struct GuestPhysTag>;

namespace layout {

inline constexpr uint64_t kPageBytes = 4096;
inline constexpr uint64_t kGdt = 0x500;
inline constexpr uint64_t kZeroPage = 0x7000;
inline constexpr uint64_t kBootStack = 0x8ff0;
inline constexpr uint64_t kPageTables = 0x9000;
inline constexpr uint64_t kCommandLine = 0x20000;
inline constexpr uint64_t kCommandLineBytesMax = 4096;
inline constexpr uint64_t kMpTable = 0x9fc00;
inline constexpr uint64_t kHighMemory = 0x100000;
inline constexpr uint64_t kLowMemoryEnd = 0xc0000000;
inline constexpr uint64_t kAbove4GiB = 0x100000000;

inline constexpr uint64_t kVirtioMmio = 0xd0000000;
inline constexpr uint64_t kVirtioMmioBytes = 0x1000;
// IRQ of the i-th virtio device: lines of the i8259 pair that nothing else of ours uses.
inline constexpr std::array<uint8_t, 8> kVirtioIrqs{5, 10, 11, 12, 9, 7, 6, 15};

inline constexpr uint16_t kPortPicPrimary = 0x20;
inline constexpr uint16_t kPortPitChannel0 = 0x40;
inline constexpr uint16_t kPortPitCommand = 0x43;
inline constexpr uint16_t kPortSystemControlB = 0x61;
inline constexpr uint16_t kPortKeyboardCommand = 0x64;
inline constexpr uint8_t kKeyboardReset = 0xfe;
inline constexpr uint16_t kPortCmosIndex = 0x70;
inline constexpr uint16_t kPortCmosData = 0x71;
inline constexpr uint16_t kPortPicSecondary = 0xa0;
inline constexpr uint16_t kPortUart = 0x3f8;
inline constexpr uint16_t kPortPicEdgeLevel = 0x4d0;
inline constexpr uint16_t kPortPmTimer = 0x608;

inline constexpr uint8_t kIrqPit = 0;
inline constexpr uint8_t kIrqUart = 4;

inline constexpr uint64_t kPitHz = 1193182;
inline constexpr uint64_t kPmTimerHz = 3579545;

}  // namespace layout
}  // namespace antipode::vmm
