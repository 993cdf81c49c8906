// Everything that can happen to a site's failover core. The replicator's core loop, or the
// simulator, turns what it sees into these values and hands them to Failover::step(), one at a
// time, in order.
//
// Threads: values; none needed.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>

#include "common/base/ids.h"
#include "common/wire/arbiter_messages.h"
#include "common/wire/failover_messages.h"

namespace antipode::failover {

// What this site was to the VM when the state was written. halted: it ran the VM, and stopped it
// in order. A follower that halts stays a backup here, or joining.
enum class DurableRole : uint8_t { none = 1, primary, backup, solo, joining, halted };
// The VM ran here in an epoch that nobody inherited (only an operator's force does that): what this
// disk holds would be lost by a resync, so an operator must agree to it.
enum class Divergence : uint8_t { none = 1, diverged };

// A site's small durable state: two checksummed copies; written whole.
struct Durable {
    Epoch epoch;       // the highest epoch this site has accepted; it never acts for a lower one
    Epoch live_epoch;  // the highest epoch in which the VM ran here; written before it runs
    DurableRole role = DurableRole::none;
    wire::DiskCopy disk = wire::DiskCopy::incomplete;  // as of live_epoch
    wire::StoreIdentity store;  // the tiebreaker's store we are enrolled with
    Divergence divergence = Divergence::none;
    friend bool operator==(const Durable&, const Durable&) = default;
};

// Whether what was written but not flushed before this start is still there. same_boot: the host
// has not restarted since `Start::stored` was written (every write of it records the boot).
enum class Host : uint8_t { rebooted = 1, same_boot };

// ---- Once, first ----
struct Start {
    Member me;                      // the incarnation is new and random
    std::optional<Durable> stored;  // nullopt: this site has never run this pair
    Epoch disk_epoch;               // the highest that the disks' metadata carry
    Host host = Host::rebooted;
};

// ---- The peer ----
struct SessionUp {
};  // the logging channel is connected; everything before it was lost or delivered
struct SessionDown {};    // it is not; by itself no reason to suspect anybody
struct PeerSuspected {};  // silence on heartbeats and on the channel (fault_detector.h)
struct PeerTrusted {};    // heard again after a suspicion
struct PeerSays {
    wire::PeerMessage message;
};
// From here on the peer is this other site of the pair. Whatever was connected to the one before is
// not: its SessionDown need not come. Means something only where Failover::may_turn() says so.
struct TurnTo {
    Name site;
};
// An authenticated frame of any channel (heartbeats too) showed this.
struct EpochHeard {
    Member from;
    Epoch epoch;
};
// Log entries first..last arrived. Output AcceptLog says which of them to keep; none: drop them.
struct LogReceived {
    Epoch epoch;
    Member from;
    Member to;
    LogIndex first;
    LogIndex last;
};
struct AckReceived {
    Epoch epoch;
    Member from;
    Member to;
    LogIndex last;
};

// ---- The tiebreaker ----
struct TiebreakerUp {
    wire::StoreIdentity store;
};
struct TiebreakerDown {};  // not connected. Requests that were sent may still be decided.
struct TiebreakerAnswer {  // to an Ask, or unasked from a watch (as an answer to `query`)
    wire::Answer answer;
};

// ---- What this site was told to do is done ----
struct Persisted {
    uint64_t number;  // of the Persist output, and so all before it
};
struct DiskFenced {
    Epoch epoch;
};
struct DiskFlushed {};  // everything written before FlushDisk is durable
struct LogDrained {     // after ConsumeLog: everything accepted has been applied
    LogIndex last;
};
struct VmHalted {};  // no instruction runs, no write is issued any more
struct VmPaused {    // after PauseVm: stands at an exit, all its entries sent
    LogIndex last;
};
struct SeedReady {  // solo side: so little is left to copy that the VM may be paused for it
    uint64_t attempt;
};
struct SeedCut {  // solo side, after CutSeed: the copy is of this position, and recording goes on
                  // behind it
    uint64_t attempt;
    LogIndex position;
};
struct SeedLoaded {  // new backup: everything of this attempt is here; it can follow the log
    uint64_t attempt;
    LogIndex position;
};
struct SeedFailed {  // either side: this attempt leads nowhere
    uint64_t attempt;
    std::string reason;
};
// The stopped VM can no longer be resumed here; also what a shell without room for two says when it
// begins to receive a seed.
struct MemoryLost {};

// ---- The VM ----
// The highest entry the recorder has written; told often enough for the stall check.
struct LogProduced {
    LogIndex last;
};
struct GuestStopped {  // shut down on purpose, at this position
    LogIndex position;
};
struct VmFailed {  // the VM or its disk cannot go on at this site
    std::string reason;
};

// ---- People ----
enum class CommandKind : uint8_t {
    force = 1,    // go live here without the peer; typed confirmation
    take_over,    // at a backup: ask for the pair although the primary may be alive
    switch_over,  // at a primary: hand the VM to the backup
    unprotect,    // at a primary or solo: go on without a backup
    protect,      // the opposite
    rejoin,       // at a halted site: become a backup although policy or divergence say to wait
    reclaim,      // at a halted site: run the VM from here although policy says to wait
    enrol_again,  // at the VM's site: the tiebreaker lost its data; typed confirmation
};
// An operator has read that acknowledged data may be missing, and wants it.
enum class Loss : uint8_t { refused = 1, accepted };
struct Command {
    CommandKind kind;
    std::string confirmation;  // force, enrol_again: the pair's name
    Loss loss = Loss::refused;
};

struct Tick {};  // Failover::deadline() has come

using Input = std::variant<Start, SessionUp, SessionDown, PeerSuspected, PeerTrusted, PeerSays,
                           EpochHeard, LogReceived, AckReceived, TiebreakerUp, TiebreakerDown,
                           TiebreakerAnswer, Persisted, DiskFenced, DiskFlushed, LogDrained,
                           VmHalted, VmPaused, SeedReady, SeedCut, SeedLoaded, SeedFailed,
                           MemoryLost, LogProduced, GuestStopped, VmFailed, Command, Tick, TurnTo>;

}  // namespace antipode::failover
