// Torture: does this host replay? A guest made to be hard is recorded and replayed, below the
// engine: KVM, one vCPU, nothing else.
//
// The recording run answers the guest's reads from chance and interrupts it where it can be; a
// replaying run, in a fresh VM and kicked all the time, is given the same. After each exit the
// registers and the data are compared, at the end the whole memory; and each page that changed must
// be in the dirty log.
//
// Any thread that runs no other vCPU; takes well below a second where exits cost microseconds.
#pragma once

#include <cstdint>
#include <string>

#include "replicator/vmm/kvm.h"

namespace antipode::replay {

struct TortureResult {
    uint64_t exits = 0;       // of the recording run
    uint64_t interrupts = 0;  // injected
    uint64_t kicks = 0;       // of the replaying runs
    uint64_t runs = 0;        // replaying runs compared
    uint64_t dirty_pages = 0;
    uint64_t dirty_missed = 0;  // pages that changed and were not in the dirty log
    uint64_t digest = 0;        // of all exits and of memory at the end
    double exit_us = 0;         // mean time of an exit and of what the guest does before it
    // Empty = every run was equal; else the first difference.
    std::string difference;
};

Result<TortureResult> run_torture(const vmm::Kvm& kvm, uint64_t runs, uint64_t seed);

}  // namespace antipode::replay
