// Everything that a site's failover core can want done. The shell carries outputs out in the order
// given and reports back what the comment names; it decides nothing.
//
// Threads: values; none needed.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "common/failover/input.h"

namespace antipode::failover {

// ---- Messages ----
struct Send {  // over the logging channel, in order with log frames; dropped when no session is up
    wire::PeerMessage message;
};
struct Ask {  // the tiebreaker; asked again by the core until it is answered
    wire::Request request;
};

// ---- The data plane ----
// What may leave: an output that depends on log entry n leaves when the gate is open, or when it is
// acked and n <= up_to. A closed gate holds everything. Held outputs are kept, in order.
enum class GateMode : uint8_t { closed = 1, acked, open };
struct SetGate {
    GateMode mode = GateMode::closed;
    LogIndex up_to;  // of `acked`
    friend bool operator==(const SetGate&, const SetGate&) = default;
};
struct UseEpoch {  // stamp log frames, acknowledgements, heartbeats and disk writes with it from
                   // here on
    Epoch epoch;
    Member partner;  // whom log frames and acknowledgements are for; empty: nobody
};
struct AcceptLog {  // keep these of the entries that LogReceived offered
    LogIndex first;
    LogIndex last;
};
struct Acknowledge {  // tell `to` that everything up to here is kept
    Epoch epoch;
    Member to;
    LogIndex last;
};

// ---- Durable ----
struct Persist {  // -> Persisted. Two copies, write the other one, fdatasync.
    uint64_t number;
    Durable state;
};
struct FenceDisk {  // -> DiskFenced. From here on no write of a lower epoch is let through.
    Epoch epoch;
    // put_back: the VM is about to run here. If a seed that broke off has overwritten parts of the
    // disk and what was there before has been kept, it is there again when this is done.
    enum class OldCopy : uint8_t { stays = 1, put_back };
    OldCopy old_copy = OldCopy::stays;
};
struct FlushDisk {};  // -> DiskFlushed

// ---- The VM ----
enum class RunFrom : uint8_t {
    image = 1,  // first start: from the stopped image, recording from the first instruction
    log,        // a backup whose log is consumed: re-issue pending disk I/O, take over the network,
                // re-send the outputs after the last released mark
    memory,     // it was stopped or paused here: go on
    disk,       // its memory is gone: boot it anew
};
struct RunVm {
    RunFrom from;
    Epoch epoch;
};
enum class FollowFrom : uint8_t {
    image = 1,  // first start: the backup's own copy of the stopped image
    seed,       // what was loaded by the seed
    memory,     // the VM that was paused here for a switchover
};
struct FollowVm {
    FollowFrom from;
    Epoch epoch;
};
struct ConsumeLog {};  // -> LogDrained; no more entries will be accepted
struct PauseVm {};     // -> VmPaused
struct HaltVm {
};  // -> VmHalted. Outputs that were held are dropped once DropMemory comes, not now.
struct DropMemory {};  // the stopped VM is not wanted any more

// ---- Seeding ----
struct BeginSeed {  // copy memory and disks to `to` while the VM runs -> SeedReady, or SeedFailed
    uint64_t attempt;
    Member to;
};
struct CutSeed {  // pause, copy the rest, record from here -> SeedCut. The gate has been closed
                  // before.
    uint64_t attempt;
};
struct AbortSeed {
    uint64_t attempt;
};
struct ReceiveSeed {  // -> SeedLoaded, or SeedFailed
    uint64_t attempt;
    Member from;
};

// ---- For people ----
struct StateChanged {
    wire::SiteState from;
    wire::SiteState to;
    Epoch epoch;
    std::string reason;
};
enum class AlarmCode : uint8_t {
    tiebreaker_unreachable = 1,  // protection cannot act on a loss
    tiebreaker_refused,          // another store, or one that lost decisions; nobody follows it
    frozen,                      // peer and tiebreaker are both lost: output stands
    operator_needed,             // nothing will happen by itself; the text says what to decide
    backup_not_acknowledging,
    forced_unconfirmed,  // live by an operator's word; the tiebreaker does not know yet
    configuration,       // the two sites' settings contradict each other
};
std::string_view to_string(AlarmCode code);
enum class AlarmState : uint8_t { raised = 1, cleared };
struct Alarm {
    AlarmCode code;
    AlarmState state;
    std::string text;
};
struct CommandRefused {
    CommandKind kind;
    std::string reason;
};
// The process is of no more use for this pair: exit, so that a new incarnation can begin.
struct Retire {
    std::string reason;
};

using Output =
    std::variant<Send, Ask, SetGate, UseEpoch, AcceptLog, Acknowledge, Persist, FenceDisk,
                 FlushDisk, RunVm, FollowVm, ConsumeLog, PauseVm, HaltVm, DropMemory, BeginSeed,
                 CutSeed, AbortSeed, ReceiveSeed, StateChanged, Alarm, CommandRefused, Retire>;
using Outputs = std::vector<Output>;

}  // namespace antipode::failover
