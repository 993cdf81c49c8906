// MemoryDigest: a hash of the guest's whole memory that costs what changed.
//
// Per page, XXH3-64 of its bytes seeded with its number; the digest is the sum of the page hashes
// (mod 2^64), so that one page's change is one subtraction and one addition, and it does not matter
// which pages KVM calls dirty as long as none that changed is missed. The page hashes also name the
// pages in which two sites differ.
//
// It also remembers which pages were written since the other site was last known to have the same
// memory: the last update or the last take_changed(), whichever is later. That is what a delta
// carries.
//
// vCPU thread only, at an exit. INVARIANT: after update(), digest() is that of the memory as it is.
#pragma once

#include <cstdint>
#include <vector>

#include "replicator/vmm/guest_memory.h"
#include "replicator/vmm/kvm.h"

namespace antipode::replay {

class MemoryDigest {
  public:
    // Hashes what changed since the last update (everything, the first time) and returns the
    // digest.
    Result<uint64_t> update(vmm::Vm& vm, vmm::GuestMemory& memory);
    // Numbers of the pages written since the last update() or take_changed(), ascending.
    Result<std::vector<uint64_t>> take_changed(vmm::Vm& vm, vmm::GuestMemory& memory);
    // For seeding: a bitmap of the pages written since the last take_unsent(); all of them, the
    // first time.
    void forget_sent() { unsent_.clear(); }
    Result<std::vector<uint64_t>> take_unsent(vmm::Vm& vm, vmm::GuestMemory& memory);
    // A bitmap of the pages written since the last take_marked().
    Result<std::vector<uint64_t>> take_marked(vmm::Vm& vm, vmm::GuestMemory& memory);
    // The same, which goes on being remembered.
    Result<std::vector<uint64_t>> marked(vmm::Vm& vm, vmm::GuestMemory& memory);
    const std::vector<uint64_t>& page_hashes() const { return page_hashes_; }
    uint64_t pages_hashed() const { return pages_hashed_; }

    static uint64_t hash_page(const vmm::GuestMemory& memory, uint64_t page);

  private:
    Result<void> collect(vmm::Vm& vm, vmm::GuestMemory& memory);
    std::vector<uint64_t> page_hashes_;
    std::vector<uint64_t> unhashed_;  // one bit a page: written since it was hashed
    std::vector<uint64_t> unsent_;    // seeding; empty when nobody has asked yet
    std::vector<uint64_t> changed_;   // since the last update() or take_changed()
    std::vector<uint64_t> marked_;    // since the last take_marked()
    std::vector<uint64_t> scratch_;
    uint64_t digest_ = 0;
    uint64_t pages_hashed_ = 0;
};

}  // namespace antipode::replay
