// The numbers that everything in Antipode agrees on (docs/ARCHITECTURE.md, "Words").
#pragma once

#include <cstdint>

#include "common/base/name.h"
#include "common/base/strong.h"

namespace antipode {

// Handed out by the tiebreaker with each grant; strictly increasing per pair; 0 = never granted.
using Epoch = Strong<uint64_t, struct EpochTag>;
// Position of a log entry in its epoch's stream, from 1; 0 = before the first.
using LogIndex = Strong<uint64_t, struct LogIndexTag>;
// Synchronous guest exits since the start of the epoch's execution, from 1; 0 = before the first.
using ExitNumber = Strong<uint64_t, struct ExitNumberTag>;
// Outputs in the order the guest made them, from 1; 0 = before the first.
using OutputNumber = Strong<uint64_t, struct OutputNumberTag>;
// Random, made at each start of a replicator process for a VM; 0 = unknown.
using Incarnation = Strong<uint64_t, struct IncarnationTag>;
// XXH64 of the pair's name: binds every frame to its pair.
using PairId = Strong<uint64_t, struct PairIdTag>;

// A process that may hold a role in a pair: which site, and which life of it.
struct Member {
    Name site;
    Incarnation incarnation;
    friend constexpr auto operator<=>(const Member&, const Member&) = default;
};

}  // namespace antipode
