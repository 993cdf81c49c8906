// VcpuGroup: the vCPUs of one VM, a thread each, and the barrier at which all of them stand.
//
//   start(), all stand -- resume() --> all run -- pause() --> all stand ... stop()
//
// pause() returns when every vCPU stands with its last access completed, so that its state can be
// taken (facts: a state in the middle of an access cannot be restored). A vCPU whose service says
// so stands by itself until the next resume(). While the group runs, its vCPUs rest for what its
// share leaves (DutyCycle).
//
// Threads: `service` is called on the vCPU threads, several at once; the verbs by one owner thread;
// set_share() by any.
//
// INVARIANT: while pause() has returned and resume() has not been called, no thread of the group is
// in the guest, in `service`, or touches its Vcpu.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include "replicator/checkpoint/duty_cycle.h"
#include "replicator/vmm/kick_timer.h"
#include "replicator/vmm/vcpu.h"

namespace antipode::checkpoint {

class VcpuGroup {
  public:
    enum class After : uint8_t { go_on, stand };
    // What stopped the vCPU: never a kick.
    using Service = std::function<After(size_t vcpu, const vmm::Exit& exit)>;

    VcpuGroup(std::vector<vmm::Vcpu*> vcpus, Service service);
    ~VcpuGroup();

    void start();
    void pause();
    void resume();
    void stop();
    // The part of the time, over 0 and at most 1, in which the vCPUs may run.
    void set_share(double share);
    // While all stand.
    std::span<vmm::Vcpu* const> vcpus() const { return vcpus_; }

  private:
    void main(size_t number);
    void complete_access(size_t number);
    bool take_turn(vmm::KickTimer& timer);
    void stand(std::unique_lock<std::mutex>& lock);

    const std::vector<vmm::Vcpu*> vcpus_;
    const Service service_;
    std::vector<std::thread> threads_;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::atomic<bool> running_{false};
    std::atomic<bool> stopping_{false};
    std::atomic<uint32_t> share_permille_{DutyCycle::kWhole};
    uint64_t resumes_ = 0;  // under mutex_, as is the next
    size_t standing_ = 0;
};

}  // namespace antipode::checkpoint
