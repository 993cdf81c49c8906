// KickTimer: kicks the thread that made it, once, after a time. The vCPU thread arms it when it
// enters the guest, so that a guest that does not exit comes back to have its events looked at.
//
// A POSIX timer that sends the kick signal to this thread (timer_create(2), SIGEV_THREAD_ID). A
// signal that arrives outside of the guest makes the next Vcpu::run() return at once: none is lost.
#pragma once

#include <ctime>

#include "common/base/clock.h"
#include "common/base/result.h"

namespace antipode::vmm {

class KickTimer {
  public:
    KickTimer() = default;
    ~KickTimer();
    KickTimer(const KickTimer&) = delete;
    KickTimer& operator=(const KickTimer&) = delete;

    // On the thread that shall be kicked.
    Result<void> create();
    void arm(Duration after);

  private:
    timer_t timer_{};
    bool created_ = false;
};

}  // namespace antipode::vmm
