#include "replicator/replay/host_inputs.h"

#include <chrono>
#include <sys/random.h>

#include "common/base/check.h"
#include "replicator/vmm/layout.h"

namespace antipode::replay {

uint64_t pm_timer_ticks(uint64_t guest_clock_ns) {
    constexpr uint64_t kNanosecondsASecond = 1'000'000'000;
    constexpr uint64_t kMask = 0xffffff;
    const uint64_t seconds = guest_clock_ns / kNanosecondsASecond;
    const uint64_t rest = guest_clock_ns % kNanosecondsASecond;
    return (seconds * vmm::layout::kPmTimerHz +
            rest * vmm::layout::kPmTimerHz / kNanosecondsASecond) &
           kMask;
}

uint64_t wall_clock_seconds() {
    const auto since = std::chrono::system_clock::now().time_since_epoch();
    return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::seconds>(since).count());
}

uint64_t host_entropy() {
    uint64_t value = 0;
    // Never a substitute: keys will be made of it.
    const ssize_t got = getrandom(&value, sizeof value, 0);
    FT_CHECK(got == sizeof value, "getrandom: {}", got);
    return value;
}

}  // namespace antipode::replay
