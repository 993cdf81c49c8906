// SmpTrial: can this host checkpoint a VM with two vCPUs? Tried, not asked.
//
// A bare guest on KVM's own interrupt controllers starts its second vCPU by INIT and SIPI; both
// count. They are stopped in mid-run, all state and memory is carried into a second VM, and that
// one must go on counting from there on both vCPUs.
//
// Any thread that runs no vCPU; starts two threads and joins them. Needs the kick handler.
#pragma once

#include <cstdint>

#include "replicator/vmm/kvm.h"

namespace antipode::replay {

struct SmpTrialResult {
    double stop_us = 0;     // until both vCPUs stood
    double capture_us = 0;  // of all state but memory
    double restore_us = 0;
    uint64_t dirty_pages = 0;
};

// Errc::unsupported names the step that this host cannot do.
Result<SmpTrialResult> run_smp_trial(const vmm::Kvm& kvm);

}  // namespace antipode::replay
