// Stretches by deltas, both sides' own state of one (docs/PROTOCOL-log.md).
//
//   lockstep --- want_deltas() ---> stretch --- want_deltas(nullopt) ---> lockstep
//                                   |    ^
//                 an act of an operator, a change of roles: the log says what both sites
//                 execute there, and the stretch is begun again behind it
//
// Values; the vCPU thread's, but for StretchStatus.
#pragma once

#include <optional>
#include <vector>

#include "replicator/replay/heal.h"
#include "replicator/replay/in_flight.h"
#include "replicator/replay/interval_controller.h"
#include "replicator/replay/log_entry.h"
#include "replicator/replay/page_table.h"

namespace antipode::replay {

struct StretchOptions : InFlightOptions {
    // Outputs and disk writes that wait for a delta; with more, one is taken at once, and the guest
    // stands until there is room for it in the log.
    uint64_t held_bytes_max = uint64_t{8} << 20;
};

// For people, and for the mode policy. Of this recorder's life, or of this backup's.
struct StretchStatus {
    // The log goes by deltas now, and why.
    std::optional<DeltasReason> now;
    // The same, also where a stretch is only interrupted: what a site that goes live goes on with.
    std::optional<DeltasReason> meant;
    uint64_t deltas = 0;  // in stretches
    uint64_t delta_bytes = 0;
    uint64_t last_bytes = 0;  // of the last one
    uint64_t last_pages = 0;
    Duration last_pause{};  // how long the guest stood for it
    Duration interval{};    // at which they are taken while something waits
    // Events that a guest which does not exit got at a kick; in lockstep each costs a delta, with
    // so many bytes in all.
    uint64_t deliveries_by_kick = 0;
    uint64_t kick_delta_bytes = 0;
};

// Recording: a stretch that is under way.
struct RecordedStretch {
    RecordedStretch(const StretchOptions& options, uint64_t page_count)
        : interval(options.interval), unacknowledged(options), table(page_count) {}

    IntervalController interval;
    InFlight unacknowledged;  // by exit
    PageTable table;
    Instant last_taken{};
    bool changed = false;  // the guest has run, or has been told something, since the last delta
    std::vector<vmm::Output> outputs;  // since the last delta
    std::vector<StretchWrite> writes;
    uint64_t held_bytes = 0;  // of both
};

// Replaying: what has come of the delta that is not whole, beside its pages.
struct FollowedStretch {
    static constexpr uint64_t kHeldBytesMax = uint64_t{256} << 20;

    std::vector<vmm::Output> outputs;
    std::vector<StretchWrite> writes;
    std::vector<std::byte> state;
    uint64_t held_bytes = 0;  // of outputs and writes
    bool followed = false;    // a delta of this stretch has been applied
};

}  // namespace antipode::replay
