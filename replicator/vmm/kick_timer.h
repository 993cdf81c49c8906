// KickTimer: kicks the thread that made it, once, after a time. The vCPU thread arms it when it
// enters the guest, so that a guest that does not exit comes back to have its events looked at.
//
// A POSIX timer that sends the kick signal to this thread (timer_create(2), SIGEV_THREAD_ID). The
// signal does not set immediate_exit: one that arrives outside of the guest is lost, and the next
// look arms again.
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
