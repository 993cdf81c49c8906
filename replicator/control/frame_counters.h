// How many frames a VM of its own has sent and received. A drill's copy counts in memory that it
// shares with the replicator, so that what it had counted is known however it ends.
//
// Any thread, any of the two processes.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "common/base/result.h"

namespace antipode::control {

struct FrameCounters {
    std::atomic<uint64_t> sent{0};
    std::atomic<uint64_t> received{0};
    static_assert(std::atomic<uint64_t>::is_always_lock_free, "shared between processes");
};

// In memory that a child made by fork() shares. An error if there is none left (errno).
Result<std::shared_ptr<FrameCounters>> make_shared_frame_counters();

}  // namespace antipode::control
