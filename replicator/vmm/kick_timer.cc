#include "replicator/vmm/kick_timer.h"

#include <cerrno>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "replicator/vmm/vcpu.h"

namespace antipode::vmm {

Result<void> KickTimer::create() {
    sigevent event{};
    event.sigev_notify = SIGEV_THREAD_ID;
    event.sigev_signo = kick_signal();
    event._sigev_un._tid = static_cast<pid_t>(syscall(SYS_gettid));
    if (timer_create(CLOCK_MONOTONIC, &event, &timer_) != 0) {
        return fail_errno(errno, "timer_create");
    }
    created_ = true;
    return {};
}

KickTimer::~KickTimer() {
    if (created_) timer_delete(timer_);
}

void KickTimer::arm(Duration after) {
    if (!created_) return;
    itimerspec when{};
    when.it_value.tv_sec = static_cast<time_t>(after.count() / 1'000'000'000);
    when.it_value.tv_nsec = static_cast<long>(after.count() % 1'000'000'000);
    timer_settime(timer_, 0, &when, nullptr);
}

}  // namespace antipode::vmm
