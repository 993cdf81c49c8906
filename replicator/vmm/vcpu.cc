#include "replicator/vmm/vcpu.h"

#include <array>
#include <cerrno>
#include <cstring>
#include <fmt/format.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <utility>
#include <vector>

#include "common/base/check.h"

namespace antipode::vmm {
namespace {

thread_local kvm_run* this_threads_run = nullptr;

}  // namespace

int kick_signal() {
    return SIGRTMIN + 1;
}

const char* to_string(Exit::Kind kind) {
    switch (kind) {
        case Exit::Kind::port_out:
            return "port-out";
        case Exit::Kind::port_in:
            return "port-in";
        case Exit::Kind::mmio_write:
            return "mmio-write";
        case Exit::Kind::mmio_read:
            return "mmio-read";
        case Exit::Kind::halt:
            return "halt";
        case Exit::Kind::msr_read:
            return "msr-read";
        case Exit::Kind::msr_write:
            return "msr-write";
        case Exit::Kind::kicked:
            return "kicked";
        case Exit::Kind::stepped:
            return "stepped";
        case Exit::Kind::shutdown:
            return "shutdown";
        case Exit::Kind::failure:
            return "failure";
    }
    return "unknown";
}

void install_kick_handler() {
    struct sigaction action {};
    // On the vCPU thread the signal must stop the next KVM_RUN even if it comes just before it.
    action.sa_handler = [](int) {
        if (this_threads_run != nullptr) {
            __atomic_store_n(&this_threads_run->immediate_exit, uint8_t{1}, __ATOMIC_SEQ_CST);
        }
    };
    sigaction(kick_signal(), &action, nullptr);
}

void Vcpu::detach_thread() {
    attached_.store(false);
    this_threads_run = nullptr;
}

Result<Vcpu> Vcpu::create(const Kvm& kvm, const Vm& vm, int id) {
    FT_TRY(const int raw,
           kvm_ioctl(vm.fd(), KVM_CREATE_VCPU, static_cast<unsigned long>(id), "KVM_CREATE_VCPU"));
    UniqueFd fd(raw);
    FT_TRY(const size_t bytes, kvm.vcpu_mmap_bytes());
    void* page = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
    if (page == MAP_FAILED) return fail_errno(errno, "mapping the vCPU's shared page");
    return Vcpu(std::move(fd), static_cast<kvm_run*>(page), bytes);
}

Vcpu::Vcpu(UniqueFd fd, kvm_run* run, size_t run_bytes)
    : fd_(std::move(fd)), run_(run), run_bytes_(run_bytes) {}

Vcpu::Vcpu(Vcpu&& other) noexcept
    : fd_(std::move(other.fd_)),
      run_(std::exchange(other.run_, nullptr)),
      run_bytes_(other.run_bytes_) {}

Vcpu::~Vcpu() {
    if (run_ != nullptr) munmap(run_, run_bytes_);
}

void Vcpu::attach_thread() {
    this_threads_run = run_;
    thread_.store(pthread_self());
    attached_.store(true);
}

// immediate_exit first, then the signal: a kick between the check and KVM_RUN is not lost, because
// KVM looks at the flag after it has unblocked signals (api.rst, KVM_RUN).
void Vcpu::kick() {
    __atomic_store_n(&run_->immediate_exit, uint8_t{1}, __ATOMIC_SEQ_CST);
    if (attached_.load()) pthread_kill(thread_.load(), kick_signal());
}

Exit Vcpu::run() {
    const int result = ioctl(fd_.get(), KVM_RUN, 0);
    if (result == 0) return decode();
    const int error = errno;
    if (error == EINTR || error == EAGAIN) {
        __atomic_store_n(&run_->immediate_exit, uint8_t{0}, __ATOMIC_SEQ_CST);
        return {};
    }
    Exit exit;
    exit.kind = Exit::Kind::failure;
    exit.detail = fmt::format("KVM_RUN: {}", std::strerror(error));
    return exit;
}

Exit Vcpu::complete_access() {
    __atomic_store_n(&run_->immediate_exit, uint8_t{1}, __ATOMIC_SEQ_CST);
    Exit exit = run();
    __atomic_store_n(&run_->immediate_exit, uint8_t{0}, __ATOMIC_SEQ_CST);
    return exit;
}

Exit Vcpu::decode_io() {
    Exit exit;
    const auto& io = run_->io;
    exit.kind = io.direction == KVM_EXIT_IO_OUT ? Exit::Kind::port_out : Exit::Kind::port_in;
    exit.address = io.port;
    exit.size = io.size;
    exit.count = io.count;
    exit.data = {reinterpret_cast<std::byte*>(run_) + io.data_offset,
                 static_cast<size_t>(io.size) * io.count};
    return exit;
}

Exit Vcpu::decode_internal_error() {
    Exit exit;
    exit.kind = Exit::Kind::failure;
    exit.detail = fmt::format("KVM internal error {}", run_->internal.suberror);
    if (run_->internal.suberror == KVM_INTERNAL_ERROR_EMULATION) {
        exit.detail += ": cannot emulate, instruction bytes";
        std::array<uint8_t, 24> bytes{};
        std::memcpy(bytes.data(), &run_->internal.data[1], sizeof run_->internal.data[1] * 3);
        for (const uint8_t each : bytes) exit.detail += fmt::format(" {:02x}", each);
    }
    if (const auto now = regs()) exit.detail += fmt::format(", rip {:#x}", now->rip);
    return exit;
}

Exit Vcpu::decode() {
    Exit exit;
    switch (run_->exit_reason) {
        case KVM_EXIT_IO:
            return decode_io();
        case KVM_EXIT_MMIO:
            exit.kind = run_->mmio.is_write ? Exit::Kind::mmio_write : Exit::Kind::mmio_read;
            exit.address = run_->mmio.phys_addr;
            exit.size = static_cast<uint8_t>(run_->mmio.len);
            exit.count = 1;
            exit.data = {reinterpret_cast<std::byte*>(run_->mmio.data), run_->mmio.len};
            return exit;
        case KVM_EXIT_HLT:
            exit.kind = Exit::Kind::halt;
            return exit;
        case KVM_EXIT_X86_RDMSR:
        case KVM_EXIT_X86_WRMSR:
            exit.kind = run_->exit_reason == KVM_EXIT_X86_RDMSR ? Exit::Kind::msr_read
                                                                : Exit::Kind::msr_write;
            exit.address = run_->msr.index;
            exit.size = sizeof run_->msr.data;
            exit.count = 1;
            exit.data = {reinterpret_cast<std::byte*>(&run_->msr.data), sizeof run_->msr.data};
            exit.refused = &run_->msr.error;
            return exit;
        case KVM_EXIT_INTR:
        case KVM_EXIT_IRQ_WINDOW_OPEN:
            __atomic_store_n(&run_->immediate_exit, uint8_t{0}, __ATOMIC_SEQ_CST);
            return exit;
        case KVM_EXIT_DEBUG:
            exit.kind = Exit::Kind::stepped;
            return exit;
        case KVM_EXIT_SHUTDOWN:
            exit.kind = Exit::Kind::shutdown;
            return exit;
        case KVM_EXIT_INTERNAL_ERROR:
            return decode_internal_error();
        case KVM_EXIT_FAIL_ENTRY:
            exit.kind = Exit::Kind::failure;
            exit.detail = fmt::format("KVM cannot enter the guest, hardware reason {:#x}",
                                      run_->fail_entry.hardware_entry_failure_reason);
            return exit;
        default:
            exit.kind = Exit::Kind::failure;
            exit.detail = fmt::format("KVM exit reason {} is not known", run_->exit_reason);
            return exit;
    }
}

Result<void> Vcpu::single_step(Stepping stepping) {
    kvm_guest_debug debug{};
    if (stepping == Stepping::on) debug.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP;
    FT_TRY_VOID(kvm_ioctl(fd_.get(), KVM_SET_GUEST_DEBUG, &debug, "KVM_SET_GUEST_DEBUG"));
    return {};
}

bool Vcpu::can_inject() const {
    return run_->ready_for_interrupt_injection != 0 && run_->if_flag != 0;
}

Result<void> Vcpu::inject(uint8_t vector) {
    kvm_interrupt interrupt{vector};
    FT_TRY_VOID(kvm_ioctl(fd_.get(), KVM_INTERRUPT, &interrupt, "KVM_INTERRUPT"));
    return {};
}

Result<void> Vcpu::inject_nmi() {
    FT_TRY_VOID(kvm_ioctl(fd_.get(), KVM_NMI, nullptr, "KVM_NMI"));
    return {};
}

Result<kvm_regs> Vcpu::regs() const {
    kvm_regs value{};
    FT_TRY_VOID(kvm_ioctl(fd_.get(), KVM_GET_REGS, &value, "KVM_GET_REGS"));
    return value;
}

Result<kvm_sregs> Vcpu::sregs() const {
    kvm_sregs value{};
    FT_TRY_VOID(kvm_ioctl(fd_.get(), KVM_GET_SREGS, &value, "KVM_GET_SREGS"));
    return value;
}

Result<void> Vcpu::set_regs(const kvm_regs& value) {
    kvm_regs copy = value;
    FT_TRY_VOID(kvm_ioctl(fd_.get(), KVM_SET_REGS, &copy, "KVM_SET_REGS"));
    return {};
}

Result<void> Vcpu::set_sregs(const kvm_sregs& value) {
    kvm_sregs copy = value;
    FT_TRY_VOID(kvm_ioctl(fd_.get(), KVM_SET_SREGS, &copy, "KVM_SET_SREGS"));
    return {};
}

Result<void> Vcpu::set_cpuid(std::span<const kvm_cpuid_entry2> entries) {
    std::vector<uint64_t> raw((sizeof(kvm_cpuid2) + entries.size() * sizeof(kvm_cpuid_entry2)) / 8 +
                              1);
    auto* table = reinterpret_cast<kvm_cpuid2*>(raw.data());
    table->nent = static_cast<uint32_t>(entries.size());
    std::memcpy(table->entries, entries.data(), entries.size_bytes());
    FT_TRY_VOID(kvm_ioctl(fd_.get(), KVM_SET_CPUID2, table, "KVM_SET_CPUID2"));
    return {};
}

}  // namespace antipode::vmm
