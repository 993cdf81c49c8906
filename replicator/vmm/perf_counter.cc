// InstructionCounter by perf_event: retired branches of the guest alone.
//
// Life of the counter: opened disabled; start() takes the count as zero and enables it; run_until()
// sets the period so that it overflows at the wanted count, upon which the kernel sends the kick
// signal to this thread and KVM_RUN returns. exclude_host makes the CPU count between VM entry and
// VM exit only, so what this process executes does not matter.
#include <cerrno>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/base/unique_fd.h"
#include "replicator/vmm/instruction_counter.h"

namespace antipode::vmm {
namespace {

// How many branches late an overflow may interrupt. Far more than processors are known to need; too
// large a value costs single steps, too small a one is noticed (the position is overshot).
constexpr uint64_t kSkidMax = 512;
constexpr uint64_t kPeriodNever = uint64_t{1} << 62;

perf_event_attr attributes() {
    perf_event_attr attr{};
    attr.type = PERF_TYPE_HARDWARE;
    attr.size = sizeof attr;
    attr.config = PERF_COUNT_HW_BRANCH_INSTRUCTIONS;
    attr.sample_period = kPeriodNever;
    attr.exclude_host = 1;
    attr.exclude_hv = 1;
    attr.disabled = 1;
    attr.pinned = 1;  // a counter that shares its register with others would miss branches
    attr.wakeup_events = 1;
    return attr;
}

class PerfCounter final : public InstructionCounter {
  public:
    PerfCounter(Vcpu& vcpu, UniqueFd fd) : vcpu_(vcpu), fd_(std::move(fd)) {}

    Result<void> start() override {
        FT_TRY_VOID(control(PERF_EVENT_IOC_DISABLE, 0, "PERF_EVENT_IOC_DISABLE"));
        FT_TRY_VOID(control(PERF_EVENT_IOC_RESET, 0, "PERF_EVENT_IOC_RESET"));
        FT_TRY_VOID(control(PERF_EVENT_IOC_ENABLE, 0, "PERF_EVENT_IOC_ENABLE"));
        return {};
    }

    Result<uint64_t> count() override {
        uint64_t value = 0;
        const ssize_t bytes = read(fd_.get(), &value, sizeof value);
        if (bytes < 0) return fail_errno(errno, "reading the branch counter");
        // A pinned event that lost its register reads as end of file.
        if (bytes != sizeof value) {
            return fail(Errc::unsupported, "the branch counter was taken away");
        }
        return value;
    }

    uint64_t skid_max() const override { return kSkidMax; }

    Result<Exit> run_until(uint64_t wanted) override {
        for (;;) {
            FT_TRY(const uint64_t now, count());
            Exit exit;
            exit.kind = Exit::Kind::stepped;
            if (now >= wanted) return exit;
            FT_TRY_VOID(set_period(wanted - now));
            exit = vcpu_.run();
            FT_TRY_VOID(set_period(kPeriodNever));
            // Kicked: by the overflow, or by somebody else before it; the count tells.
            if (exit.kind != Exit::Kind::kicked) return exit;
        }
    }

    Result<Exit> step() override {
        FT_TRY_VOID(vcpu_.single_step(Vcpu::Stepping::on));
        Exit exit = vcpu_.run();
        FT_TRY_VOID(vcpu_.single_step(Vcpu::Stepping::off));
        return exit;
    }

  private:
    Result<void> control(unsigned long request, unsigned long argument, const char* name) {
        FT_TRY_VOID(kvm_ioctl(fd_.get(), request, argument, name));
        return {};
    }
    Result<void> set_period(uint64_t period) {
        FT_TRY_VOID(kvm_ioctl(fd_.get(), PERF_EVENT_IOC_PERIOD, &period, "PERF_EVENT_IOC_PERIOD"));
        return {};
    }

    Vcpu& vcpu_;
    UniqueFd fd_;
};

}  // namespace

Result<std::unique_ptr<InstructionCounter>> make_perf_counter(Vcpu& vcpu) {
    perf_event_attr attr = attributes();
    UniqueFd fd(static_cast<int>(syscall(SYS_perf_event_open, &attr, 0, -1, -1,
                                         static_cast<unsigned long>(PERF_FLAG_FD_CLOEXEC))));
    if (!fd) {
        const int error = errno;
        if (error == ENOENT || error == EOPNOTSUPP || error == ENODEV || error == EINVAL) {
            return fail(Errc::unsupported, "this host cannot count a guest's branches (no PMU)");
        }
        return fail_errno(error, "perf_event_open for a guest's branches");
    }
    // The overflow kicks this thread and no other.
    const f_owner_ex owner{F_OWNER_TID, static_cast<pid_t>(syscall(SYS_gettid))};
    if (fcntl(fd.get(), F_SETOWN_EX, &owner) != 0 ||
        fcntl(fd.get(), F_SETSIG, kick_signal()) != 0 || fcntl(fd.get(), F_SETFL, O_ASYNC) != 0) {
        return fail_errno(errno, "the signal of the branch counter");
    }
    return std::unique_ptr<InstructionCounter>(std::make_unique<PerfCounter>(vcpu, std::move(fd)));
}

}  // namespace antipode::vmm
