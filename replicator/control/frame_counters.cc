#include "replicator/control/frame_counters.h"

#include <cerrno>
#include <new>
#include <sys/mman.h>

namespace antipode::control {

Result<std::shared_ptr<FrameCounters>> make_shared_frame_counters() {
    void* map = mmap(nullptr, sizeof(FrameCounters), PROT_READ | PROT_WRITE,
                     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED) return fail_errno(errno, "shared counters");
    return std::shared_ptr<FrameCounters>(new (map) FrameCounters{}, [](FrameCounters* counters) {
        munmap(counters, sizeof(FrameCounters));
    });
}

}  // namespace antipode::control
