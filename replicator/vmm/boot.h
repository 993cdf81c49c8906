// Puts a guest into memory and the vCPU at its first instruction.
//
// An ELF64 kernel is loaded where its program headers say and entered at e_entry in 64-bit mode
// with paging on (identity map of the low 4 GiB, 2 MiB pages), rsi = boot_params: Linux's 64-bit
// boot protocol (Documentation/x86/boot.rst). Our bare-metal guests use the same entry. An MP table
// with one processor keeps Linux from scanning the BIOS area.
//
// Both sites start from the same files, so the result must be a function of the configuration and
// the files' bytes alone.
#pragma once

#include <cstdint>
#include <string>

#include "common/base/result.h"
#include "replicator/vmm/guest_memory.h"
#include "replicator/vmm/vcpu.h"

namespace antipode::vmm {

struct BootImage {
    std::string kernel_path;
    std::string initrd_path;  // empty: none
    std::string command_line;
};

// Loads kernel, initrd, command line and tables; returns the entry point.
Result<uint64_t> load_boot_image(const BootImage& image, GuestMemory& memory);

// XXH3-64 of the memory as load_boot_image() left it: equal at both sites if their files and
// definitions are.
uint64_t boot_image_digest(const GuestMemory& memory);

// The page tables and the GDT that set_boot_state() relies on; load_boot_image() writes them, too.
void write_boot_tables(GuestMemory& memory);
Result<void> set_boot_state(Vcpu& vcpu, uint64_t entry);

}  // namespace antipode::vmm
