// BootSnapshot: a VM as it was before its first instruction, to which a reset takes it back: the
// pages that the loader wrote, the devices and the vCPU.
//
// It is kept in memory (some megabytes: kernel and initial file system), because the files it was
// read from may have been replaced since, at one site and not yet at the other.
//
// take() by the builder; restore() on the vCPU thread, while no access of the guest is pending.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "replicator/vmm/cpu_state.h"
#include "replicator/vmm/guest_memory.h"
#include "replicator/vmm/machine.h"

namespace antipode::vmm {

class BootSnapshot {
  public:
    static Result<std::shared_ptr<const BootSnapshot>> take(GuestMemory& memory,
                                                            const Machine& machine, Vcpu& vcpu);
    // Memory outside the image becomes zero. Requests that were with the disks are forgotten.
    Result<void> restore(GuestMemory& memory, Machine& machine, Vcpu& vcpu) const;
    uint64_t bytes() const { return pages_.size() * layout::kPageBytes; }

  private:
    std::vector<std::pair<uint64_t, std::vector<std::byte>>> pages_;  // by number, ascending
    std::vector<std::byte> machine_;
    CpuState cpu_;
};

}  // namespace antipode::vmm
