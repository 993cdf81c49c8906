// VirtualMachine: memory, KVM's VM and vCPU, and the devices, assembled from a definition.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "replicator/vmm/boot_snapshot.h"
#include "replicator/vmm/config.h"
#include "replicator/vmm/guest_memory.h"
#include "replicator/vmm/kvm.h"
#include "replicator/vmm/machine.h"
#include "replicator/vmm/tsc.h"
#include "replicator/vmm/vcpu.h"

namespace antipode::vmm {

struct VirtualMachine {
    GuestMemory memory;
    Vm vm;
    Vcpu vcpu;
    std::unique_ptr<Machine> machine;
    std::shared_ptr<const BootSnapshot> boot;            // what a reset goes back to
    std::vector<std::unique_ptr<Vcpu>> more_vcpus = {};  // checkpoint mode: those behind the first
    std::optional<TscTerms> tsc = {};                    // of a VM whose TSC is live

    std::vector<Vcpu*> vcpus() {
        std::vector<Vcpu*> all{&vcpu};
        for (const auto& each : more_vcpus) all.push_back(each.get());
        return all;
    }
};

// What the host gives a VM of this policy, nothing if the TSC is hidden. Refuses, with the reason,
// what it cannot keep.
Result<std::optional<TscTerms>> tsc_terms(const Kvm& kvm, TscPolicy policy);

// Builds the VM and leaves it at its first instruction. `drive_bytes`: capacity of each drive, in
// order. `scratch_directory`: on a disk, for its BootSnapshot. On the heap because the devices keep
// a reference to the memory.
Result<std::unique_ptr<VirtualMachine>> build_vm(const Kvm& kvm, const VmConfig& config,
                                                 const std::vector<uint64_t>& drive_bytes,
                                                 const std::string& scratch_directory = "/var/tmp");

// A second VM of this configuration on memory that holds one already; the caller restores its
// state.
Result<std::unique_ptr<VirtualMachine>> build_copy(const Kvm& kvm, const VmConfig& config,
                                                   const std::vector<uint64_t>& drive_bytes,
                                                   GuestMemory&& memory,
                                                   std::shared_ptr<const BootSnapshot> boot);

}  // namespace antipode::vmm
