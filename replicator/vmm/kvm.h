// Kvm and Vm: /dev/kvm and one virtual machine on it, without an in-kernel interrupt controller.
//
// Made and used by the builder and the vCPU thread; not thread safe.
//
// INVARIANT: every ioctl that fails becomes an Error that names the ioctl.
// Source: Documentation/virt/kvm/api.rst.
#pragma once

#include <cstdint>
#include <vector>

#include "common/base/result.h"
#include "common/base/unique_fd.h"
#include "replicator/vmm/guest_memory.h"
#include "replicator/vmm/kvm_headers.h"

namespace antipode::vmm {

// ioctl with the errno turned into an Error. `name` is the request's name as in the manual.
Result<int> kvm_ioctl(int fd, unsigned long request, void* argument, const char* name);
Result<int> kvm_ioctl(int fd, unsigned long request, unsigned long argument, const char* name);

class Kvm {
  public:
    // Opens /dev/kvm, checks the API version and the capabilities that nothing works without.
    static Result<Kvm> open();

    int fd() const { return fd_.get(); }
    int capability(unsigned long capability) const;
    Result<std::vector<kvm_cpuid_entry2>> supported_cpuid() const;
    Result<size_t> vcpu_mmap_bytes() const;

  private:
    explicit Kvm(UniqueFd fd) : fd_(std::move(fd)) {}
    UniqueFd fd_;
};

class Vm {
  public:
    // Whether the guest may read the TSC's MSR; it never sets it.
    enum class TscMsr : uint8_t { filtered, readable };
    // A VM with this memory and the MSR filter of lockstep mode (facts: TSC, kvmclock and
    // asynchronous page faults go to user space, so that nothing writes guest memory behind our
    // back).
    static Result<Vm> create(const Kvm& kvm, GuestMemory& memory,
                             TscMsr tsc_msr = TscMsr::filtered);

    int fd() const { return fd_.get(); }
    // Pages the guest (or KVM for it) wrote since the last call, ORed into `bitmap` by page number.
    Result<void> collect_dirty(std::vector<uint64_t>& bitmap);

  private:
    Vm(UniqueFd fd, uint64_t low_pages, uint64_t high_pages)
        : fd_(std::move(fd)), low_pages_(low_pages), high_pages_(high_pages) {}
    Result<void> set_msr_filter(TscMsr tsc_msr);
    Result<void> collect_slot(uint32_t slot, uint64_t first_page, uint64_t pages,
                              std::vector<uint64_t>& bitmap);

    UniqueFd fd_;
    uint64_t low_pages_;
    uint64_t high_pages_;
    std::vector<uint64_t> scratch_;
};

}  // namespace antipode::vmm
