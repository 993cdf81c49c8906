#include "replicator/replay/smp_trial.h"

#include <array>
#include <atomic>
#include <bit>
#include <chrono>
#include <cstring>
#include <thread>
#include <vector>

#include "common/base/clock.h"
#include "replicator/replay/bare_guest.h"
#include "replicator/vmm/boot.h"
#include "replicator/vmm/cpuid_policy.h"
#include "replicator/vmm/smp_state.h"

namespace antipode::replay {
namespace {

constexpr size_t kVcpus = 2;
constexpr uint64_t kMemoryBytes = 4 << 20;
constexpr uint32_t kProgress = 200;  // rounds of each vCPU that show that it runs
constexpr Duration kDeadline = std::chrono::seconds(20);
constexpr Duration kLook = std::chrono::milliseconds(1);
constexpr Duration kKickAgain = std::chrono::microseconds(20);

using Counters = std::array<uint32_t, kVcpus>;
using Microseconds = std::chrono::duration<double, std::micro>;

struct SmpVm {
    vmm::GuestMemory memory;
    vmm::Vm vm;
    std::vector<std::unique_ptr<vmm::Vcpu>> vcpus;

    std::vector<vmm::Vcpu*> all() const {
        std::vector<vmm::Vcpu*> all;
        for (const auto& each : vcpus) all.push_back(each.get());
        return all;
    }
};

Result<std::unique_ptr<SmpVm>> make_vm(const vmm::Kvm& kvm) {
    FT_TRY(auto memory, vmm::GuestMemory::allocate(kMemoryBytes));
    FT_TRY(auto vm, vmm::Vm::create(kvm, memory));
    FT_TRY_VOID(vmm::create_irqchip(vm));
    auto made = std::make_unique<SmpVm>(SmpVm{std::move(memory), std::move(vm), {}});
    FT_TRY(const auto supported, kvm.supported_cpuid());
    for (uint32_t id = 0; id < kVcpus; ++id) {
        FT_TRY(auto vcpu, vmm::Vcpu::create(kvm, made->vm, static_cast<int>(id)));
        FT_TRY_VOID(vcpu.set_cpuid(vmm::smp_cpuid(supported, id, kVcpus)));
        made->vcpus.push_back(std::make_unique<vmm::Vcpu>(std::move(vcpu)));
    }
    return made;
}

// The vCPUs on threads of their own, until it goes.
class Running {
  public:
    explicit Running(SmpVm& vm) {
        for (auto& vcpu : vm.vcpus) {
            vcpus_.push_back(vcpu.get());
            threads_.emplace_back([this, &cpu = *vcpu] { run(cpu); });
        }
    }
    Running(const Running&) = delete;
    Running& operator=(const Running&) = delete;
    ~Running() { stop(); }

    void stop() {
        stopping_ = true;
        // Again and again: a kick before a thread is attached sets only the flag, which a run may
        // have cleared since.
        while (running_.load() > 0) {
            for (auto* vcpu : vcpus_) vcpu->kick();
            std::this_thread::sleep_for(kKickAgain);
        }
        for (auto& thread : threads_) thread.join();
        threads_.clear();
    }
    bool failed() const { return failed_.load(); }

  private:
    void run(vmm::Vcpu& vcpu) {
        vcpu.attach_thread();
        while (!stopping_.load()) {
            const vmm::Exit exit = vcpu.run();
            // Its results are in memory; what it writes to ports is only there to make exits.
            if (exit.is_counted() || exit.kind == vmm::Exit::Kind::kicked) continue;
            failed_ = true;
            break;
        }
        // What the last exit left to do belongs into the state.
        while (vcpu.complete_access().is_counted()) {
        }
        vcpu.detach_thread();
        --running_;
    }

    std::vector<vmm::Vcpu*> vcpus_;
    std::vector<std::thread> threads_;
    std::atomic<bool> stopping_{false};
    std::atomic<bool> failed_{false};
    std::atomic<int> running_{kVcpus};
};

Counters counters(const SmpVm& vm) {
    Counters values{};
    for (size_t i = 0; i < values.size(); ++i) {
        const auto* at = vm.memory.host_base() + kSmpCounters + i * sizeof(uint32_t);
        values[i] =
            std::atomic_ref(*reinterpret_cast<uint32_t*>(const_cast<std::byte*>(at))).load();
    }
    return values;
}

Result<void> wait_for_progress(const SmpVm& vm, const Running& running, const Counters& from) {
    const Instant until = MonotonicClock::now() + kDeadline;
    for (;;) {
        const Counters now = counters(vm);
        bool all = true;
        for (size_t i = 0; i < now.size(); ++i) {
            if (now[i] < from[i]) return fail(Errc::unsupported, "vCPU {} counts from 0 again", i);
            all = all && now[i] - from[i] >= kProgress;
        }
        if (all) return {};
        if (running.failed()) return fail(Errc::unsupported, "a vCPU stopped");
        if (MonotonicClock::now() > until) {
            return fail(Errc::unsupported, "vCPUs at {} and {} rounds do not go on", now[0],
                        now[1]);
        }
        std::this_thread::sleep_for(kLook);
    }
}

}  // namespace

Result<SmpTrialResult> run_smp_trial(const vmm::Kvm& kvm) {
    SmpTrialResult result;
    FT_TRY(auto first, make_vm(kvm));
    vmm::write_boot_tables(first->memory);
    (void)first->memory.write(vmm::GuestPhys(kBareGuestBase), smp_guest());
    FT_TRY_VOID(vmm::set_boot_state(*first->vcpus[0], kBareGuestBase));
    {
        Running running(*first);
        FT_TRY_VOID(wait_for_progress(*first, running, {}));
        const Instant begin = MonotonicClock::now();
        running.stop();
        result.stop_us = Microseconds(MonotonicClock::now() - begin).count();
    }
    Instant begin = MonotonicClock::now();
    FT_TRY(const auto state, vmm::capture_smp(first->vm, first->all()));
    result.capture_us = Microseconds(MonotonicClock::now() - begin).count();
    std::vector<uint64_t> dirty;
    FT_TRY_VOID(first->vm.collect_dirty(dirty));
    for (const uint64_t word : dirty) {
        result.dirty_pages += static_cast<uint64_t>(std::popcount(word));
    }
    const Counters stood = counters(*first);
    FT_TRY(auto second, make_vm(kvm));
    std::memcpy(second->memory.host_base(), first->memory.host_base(), kMemoryBytes);
    begin = MonotonicClock::now();
    FT_TRY_VOID(vmm::restore_smp(second->vm, second->all(), state));
    result.restore_us = Microseconds(MonotonicClock::now() - begin).count();
    Running running(*second);
    FT_TRY_VOID(wait_for_progress(*second, running, stood));
    running.stop();
    if (counters(*first) != stood) {
        return fail(Errc::unsupported, "the first VM went on while it stood");
    }
    return result;
}

}  // namespace antipode::replay
