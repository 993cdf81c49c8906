// Vcpu: the one virtual CPU, and what it stopped for.
//
// Created by the builder; afterwards only the vCPU thread calls it, except kick(), which any thread
// may.
//
// INVARIANTS
//   - run() returns an Exit; those of is_counted() kinds are the deterministic points that replay
//   counts.
//     A kick and an interrupt window are none (docs/ARCHITECTURE.md, "Exits").
//   - The data of a read access must be filled in before the next run().
//   - inject() only when can_inject().
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <pthread.h>
#include <span>
#include <string>

#include "common/base/result.h"
#include "common/base/unique_fd.h"
#include "replicator/vmm/kvm.h"

namespace antipode::vmm {

struct Exit {
    enum class Kind : uint8_t {
        port_out,
        port_in,
        mmio_write,
        mmio_read,
        halt,
        msr_read,
        msr_write,
        kicked,    // a signal, or immediate_exit: not counted
        stepped,   // one instruction (InstructionCounter): not counted
        shutdown,  // triple fault
        failure,   // KVM gave up: `detail` says why
    };
    Kind kind = Kind::kicked;
    uint64_t address = 0;        // port, guest-physical address, or MSR number
    uint8_t size = 0;            // bytes an item
    uint32_t count = 0;          // items (REP INS/OUTS); 1 otherwise
    std::span<std::byte> data;   // size * count bytes, in the shared page; of an MSR, its value
    uint8_t* refused = nullptr;  // MSR accesses: set to 1 to answer with #GP
    std::string detail;

    bool is_counted() const { return kind < Kind::kicked; }
};

const char* to_string(Exit::Kind kind);

class Vcpu {
  public:
    static Result<Vcpu> create(const Kvm& kvm, const Vm& vm, int id);
    Vcpu(Vcpu&& other) noexcept;
    Vcpu& operator=(Vcpu&&) = delete;
    ~Vcpu();

    // The thread that will call run(): where kick() sends its signal.
    void attach_thread();
    void detach_thread();
    // Enters the guest until it stops.
    Exit run();
    // Completes a pending access without entering the guest; Kind::kicked when there was nothing
    // more.
    Exit complete_access();

    // Whether run() returns after one instruction, as Kind::stepped.
    enum class Stepping : uint8_t { off, on };
    Result<void> single_step(Stepping stepping);

    bool can_inject() const;
    Result<void> inject(uint8_t vector);
    Result<void> inject_nmi();

    // Makes a run() in progress, or the next one, return Kind::kicked. Any thread.
    void kick();

    Result<kvm_regs> regs() const;
    Result<kvm_sregs> sregs() const;
    Result<void> set_regs(const kvm_regs& regs);
    Result<void> set_sregs(const kvm_sregs& sregs);
    Result<void> set_cpuid(std::span<const kvm_cpuid_entry2> entries);
    int fd() const { return fd_.get(); }
    kvm_run& shared() { return *run_; }

  private:
    Vcpu(UniqueFd fd, kvm_run* run, size_t run_bytes);
    Exit decode();
    Exit decode_io();
    Exit decode_internal_error();

    UniqueFd fd_;
    kvm_run* run_;
    size_t run_bytes_;
    std::atomic<pthread_t> thread_{};
    std::atomic<bool> attached_{false};
};

// The signal that kicks: its handler sets immediate_exit of the vCPU whose thread it interrupts.
// Installed once by the process before any kick.
void install_kick_handler();
int kick_signal();

}  // namespace antipode::vmm
