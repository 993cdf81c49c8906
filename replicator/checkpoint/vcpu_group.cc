#include "replicator/checkpoint/vcpu_group.h"

#include <algorithm>
#include <fmt/format.h>
#include <pthread.h>

#include "common/base/check.h"
#include "common/base/log.h"

namespace antipode::checkpoint {

VcpuGroup::VcpuGroup(std::vector<vmm::Vcpu*> vcpus, Service service)
    : vcpus_(std::move(vcpus)), service_(std::move(service)) {}

VcpuGroup::~VcpuGroup() {
    stop();
}

void VcpuGroup::start() {
    FT_CHECK(threads_.empty(), "vCPUs started twice");
    for (size_t i = 0; i < vcpus_.size(); ++i) threads_.emplace_back([this, i] { main(i); });
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return standing_ == vcpus_.size(); });
}

// The flag before the kick: a vCPU clears its kick before it looks at the flag, so one of the two
// is seen.
void VcpuGroup::pause() {
    {
        const std::lock_guard lock(mutex_);
        running_ = false;
    }
    changed_.notify_all();  // those that rest
    for (auto* vcpu : vcpus_) vcpu->kick();
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return standing_ == threads_.size(); });
}

void VcpuGroup::resume() {
    {
        const std::lock_guard lock(mutex_);
        running_ = true;
        ++resumes_;
        standing_ = 0;  // here, not as each wakes: a pause() at once waits for all of them again
    }
    changed_.notify_all();
}

void VcpuGroup::stop() {
    if (threads_.empty()) return;
    pause();
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
        ++resumes_;
    }
    changed_.notify_all();
    for (auto& thread : threads_) thread.join();
    threads_.clear();
}

void VcpuGroup::complete_access(size_t number) {
    for (;;) {
        const vmm::Exit exit = vcpus_[number]->complete_access();
        if (exit.kind == vmm::Exit::Kind::kicked) return;
        (void)service_(number, exit);  // it stands already
        if (!exit.is_counted()) return;
    }
}

// Until the next resume().
void VcpuGroup::stand(std::unique_lock<std::mutex>& lock) {
    const uint64_t seen = resumes_;
    ++standing_;
    changed_.notify_all();
    changed_.wait(lock, [&] { return resumes_ != seen; });
}

void VcpuGroup::set_share(double share) {
    constexpr double kShareMin = 0.001;
    share_permille_ = static_cast<uint32_t>(std::clamp(share, kShareMin, 1.0) * DutyCycle::kWhole);
}

// True: it may enter the guest, and is kicked at the end of its turn. False: it has rested, and
// everything is to be looked at again.
bool VcpuGroup::take_turn(vmm::KickTimer& timer) {
    const uint32_t share = share_permille_.load();
    if (share >= DutyCycle::kWhole) return true;
    const Instant now = MonotonicClock::now();
    if (const Duration left = DutyCycle::may_run(now, share); left > Duration::zero()) {
        timer.arm(left);
        return true;
    }
    const std::chrono::steady_clock::time_point until(DutyCycle::next_turn(now).time_since_epoch());
    std::unique_lock lock(mutex_);
    changed_.wait_until(lock, until, [this] { return !running_.load(); });
    return false;
}

void VcpuGroup::main(size_t number) {
    pthread_setname_np(pthread_self(), fmt::format("vcpu{}", number).c_str());
    vmm::Vcpu& vcpu = *vcpus_[number];
    vcpu.attach_thread();
    vmm::KickTimer timer;
    if (const auto created = timer.create(); !created) {
        logger("checkpoint")
            .error("vCPU {} cannot be slowed: {}", number, created.error().to_string());
    }
    bool stands = true;  // from the start
    while (!stopping_.load()) {
        if (stands || !running_.load()) {
            complete_access(number);
            std::unique_lock lock(mutex_);
            // A resume() since the look: the next one may be long in coming.
            if (stands || !running_.load()) stand(lock);
            stands = false;
            continue;
        }
        if (!take_turn(timer)) continue;
        const vmm::Exit exit = vcpu.run();
        if (exit.kind == vmm::Exit::Kind::kicked) continue;
        stands = service_(number, exit) == After::stand;
    }
    vcpu.detach_thread();
}

}  // namespace antipode::checkpoint
