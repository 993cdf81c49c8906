// The other side of a drill's fork: a process of its own in which the copy of the backup's VM runs
// live, on a shared, copy-on-write image of its memory and on the drill's overlays.
//
// run_drill_clone() is called in the child right after fork(), with one thread, and never returns.
// It touches nothing of the backup's but the memory of its guest: not its sockets, log, disks or
// tiebreaker. It dies with its parent (PR_SET_PDEATHSIG), and when the socket to it is closed.
//
// What it says goes over a SOCK_SEQPACKET socket, one DrillWord first in each message.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "replicator/control/drill_overlay.h"
#include "replicator/control/frame_counters.h"
#include "replicator/replay/ports.h"
#include "replicator/vmm/builder.h"

namespace antipode::control {

enum class DrillWord : uint8_t {
    report = 1,   // from the copy: DrillReport
    console = 2,  // from the copy: bytes that it printed
    failed = 3,   // from the copy: why it ends
    input = 4,    // to the copy: bytes for its console
    digest = 5,   // from the copy: DrillDigest
};
constexpr size_t kDrillMessageBytesMax = 16384;

struct DrillReport {
    uint64_t exits;
    uint64_t uptime_ns;
    uint64_t memory_bytes;  // not shared with the backup any more
    uint32_t vcpu;          // 1 = runs, 2 = has ended
    uint32_t reserved;
};
static_assert(sizeof(DrillReport) == 32);

// Of a drive as it was when it was copied.
struct DrillDigest {
    uint32_t drive;
    std::array<uint8_t, 32> sha256;
};
static_assert(sizeof(DrillDigest) == 36);

struct DrillPlan {
    int socket = -1;
    const vmm::VmConfig* config = nullptr;
    std::vector<uint64_t> drive_bytes;
    std::vector<std::shared_ptr<DrillOverlay>> overlays;
    std::vector<std::string> taps;          // empty: no network
    std::shared_ptr<FrameCounters> frames;  // shared with the parent
    vmm::VirtualMachine* source = nullptr;  // its memory is taken over
    const replay::VmState* state = nullptr;
    LogIndex position;
    uint64_t guest_clock_ns = 0;
};

[[noreturn]] void run_drill_clone(const DrillPlan& plan);

}  // namespace antipode::control
