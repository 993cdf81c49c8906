// BootSnapshot: a VM as it was before its first instruction, to which a reset takes it back: the
// pages that the loader wrote, the devices and the vCPU.
//
// The pages (kernel and initial file system, tens of megabytes of a stock Linux) are in a file
// without a name in `directory`, which the kernel may keep out of memory; here stay 24 bytes for
// each. They are not read again from where they came from: those files may have been replaced
// since, at one site and not yet at the other.
//
// take() by the builder; restore() on the vCPU thread, while no access of the guest is pending.
//
// INVARIANT: what restore() puts in place are the bytes that take() found: each page is checked
// against its XXH3-128.
// On failure (the file cannot be read, or holds something else) memory is half restored, and the VM
// must not run any more.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "common/base/unique_fd.h"
#include "replicator/vmm/cpu_state.h"
#include "replicator/vmm/guest_memory.h"
#include "replicator/vmm/machine.h"

namespace antipode::vmm {

class BootSnapshot {
  public:
    static Result<std::shared_ptr<const BootSnapshot>> take(GuestMemory& memory,
                                                            const Machine& machine, Vcpu& vcpu,
                                                            const std::string& directory);
    // Memory outside the image becomes zero. Requests that were with the disks are forgotten.
    Result<void> restore(GuestMemory& memory, Machine& machine, Vcpu& vcpu) const;
    // Of the image, in the file.
    uint64_t bytes() const { return pages_.size() * layout::kPageBytes; }
    // A process that is forked from this one needs it, too.
    int fd() const { return file_.get(); }

  private:
    struct Page {
        uint64_t number;
        uint64_t hash_low;
        uint64_t hash_high;
    };
    static Page describe(uint64_t number, std::span<const std::byte> bytes);
    Result<void> add(GuestMemory& memory);
    Result<std::span<const std::byte>> page_at(size_t index, std::vector<std::byte>& buffer) const;

    UniqueFd file_;            // the pages' bytes, in the order of pages_
    std::vector<Page> pages_;  // by number, ascending; none is all zero
    std::vector<std::byte> machine_;
    CpuState cpu_;
};

}  // namespace antipode::vmm
