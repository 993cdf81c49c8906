// What goes into a Node and what comes out of it: values.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/base/clock.h"
#include "common/wire/sync_frames.h"
#include "disksync/core/disk_record.h"
#include "disksync/core/generations.h"
#include "disksync/core/store_types.h"

namespace antipode::disksync {

using wire::SharedBytes;
using wire::SyncFrame;
using wire::SyncType;

// When a write is answered to the VM.
enum class Mode : uint8_t {
    async = 1,      // it is on the local disk
    semi_sync = 2,  // and the peer has received it
    sync = 3,       // and the peer has written it; a flush: and made it durable
};
std::string_view to_string(Mode mode);
std::optional<Mode> parse_mode(std::string_view text);

enum class Congestion : uint8_t {
    block = 1,       // the VM's writes wait
    pull_ahead = 2,  // the peer is left behind, and catches up by resync later
};
enum class PeerLost : uint8_t {
    go_on = 1,  // alone, and mark what the peer lacks
    wait = 2,   // writes wait until the peer is back
};
enum class LocalError : uint8_t {
    detach = 1,  // this disk is given up; the peer's serves the VM
    report = 2,  // the VM gets the error
};
enum class ChecksumResync : uint8_t {
    automatic = 1,  // compare digests first as long as that saves something
    always = 2,
    never = 3,
};

struct NodeConfig {
    Name pair;
    Mode mode = Mode::async;
    Congestion congestion = Congestion::block;
    uint64_t backlog_bytes_max = uint64_t{64} << 20;  // sent, or to be sent, and not received
    PeerLost peer_lost = PeerLost::go_on;
    LocalError local_error = LocalError::detach;
    SplitPolicies split;
    ChecksumResync checksum = ChecksumResync::automatic;
    uint64_t resync_window_bytes = uint64_t{48} << 20;  // sent and not applied
    uint64_t resync_rate_max = 0;                       // bytes a second; 0 = no limit
    uint64_t resync_rate_min = uint64_t{4} << 20;       // what it keeps when the VM is busy
    bool keep_undo = true;
    uint64_t undo_bytes_max = uint64_t{64} << 30;
    bool verify_repairs = true;
    uint32_t changes_in_flight_max = 256;  // begun and not answered
    // Begun and not durable at the peer, and the data of those.
    uint32_t changes_undurable_max = 16384;
    uint64_t undurable_bytes_max = uint64_t{128} << 20;
    Duration durable_interval =
        std::chrono::milliseconds(100);           // a target flushes at least this often
    uint64_t durable_bytes = uint64_t{16} << 20;  // or after so much
    // How long writes wait for a peer that was in sync, where a promotion has to part from it.
    Duration promotion_wait = std::chrono::seconds(3);
    // A silent peer: pinged after half of this, given up after it.
    Duration silence_max = std::chrono::seconds(10);
};

// What a VM wants of a disk.
struct NodeRequest {
    uint64_t id = 0;  // of the caller's; comes back with the answer
    uint16_t disk = 0;
    StoreOperation operation = StoreOperation::read;
    uint64_t offset_bytes = 0;
    uint64_t length_bytes = 0;
    SharedBytes data;  // write: what to write; read: filled in the answer
    Fua fua = Fua::no;
};

using Ticket = uint64_t;

// To be done on the disk's store. A read fills `data`; extents are asked with what = extents.
struct LocalIo {
    enum class What : uint8_t { operation = 1, extents = 2 };
    Ticket ticket = 0;
    uint16_t disk = 0;
    What what = What::operation;
    StoreOperation operation = StoreOperation::read;
    uint64_t offset_bytes = 0;
    uint64_t length_bytes = 0;
    SharedBytes data;
    Fua fua = Fua::no;
    KeepAllocated keep_allocated = KeepAllocated::no;
};
struct LocalDone {
    Ticket ticket = 0;
    Result<> result;
    std::vector<StoreExtent> extents;
};

// To be done on one of the disk's side files: all writes, then one sync. In the order of the
// tickets.
struct FileIo {
    enum class File : uint8_t { metadata = 1, undo = 2 };
    Ticket ticket = 0;
    uint16_t disk = 0;
    File file = File::metadata;
    std::vector<MetaWrite> writes;
    bool remove = false;  // undo: the file is removed instead
    // undo: nothing is written, `data` is filled from there.
    std::optional<uint64_t> read_at;
    SharedBytes data;
};

// A read of the last consistent point of a disk.
struct ViewRead {
    uint64_t id = 0;  // comes back with the answer
    uint16_t disk = 0;
    uint64_t point = 0;  // its number, as status() said
    uint64_t offset_bytes = 0;
    uint64_t length_bytes = 0;  // at most wire::kSyncDataBytesMax
};

struct NodeAnswer {
    uint64_t id = 0;
    Result<> result;
    SharedBytes data;
};

// Something that an operator or a log should know. `key` is stable, for the journal and for tests.
struct NodeEvent {
    enum class Weight : uint8_t { info = 1, warn = 2, error = 3 };
    Weight weight = Weight::info;
    uint16_t disk = 0;
    std::string key;
    std::string text;
};

// XXH128 of a block.
using BlockDigest = std::array<uint64_t, 2>;

// What a verify found.
struct VerifyFinding {
    uint16_t disk = 0;
    uint64_t block = 0;
    BlockDigest source_digest{};
    BlockDigest target_digest{};
    int64_t found_seconds = 0;
    bool repaired = false;
};

struct NodeOutputs {
    std::vector<LocalIo> local;
    std::vector<FileIo> files;
    std::vector<SyncFrame> frames;
    std::vector<NodeAnswer> answers;
    std::vector<NodeEvent> events;
    std::vector<VerifyFinding> findings;
    bool disconnect = false;  // the connection is to be ended
};

enum class LinkState : uint8_t {
    down = 1,
    greeting = 2,   // hellos are being exchanged
    comparing = 3,  // bitmaps are being exchanged
    streaming = 4,  // every change goes to the peer
    halted = 5,     // an operator has to decide; see the reason
};
std::string_view to_string(LinkState state);

enum class SyncPhase : uint8_t {
    idle = 1,
    resync = 2,
    verify = 3,
    undo = 4,  // what a resync overwrote is put back
};

// How the last verify of this process ended.
struct VerifyResult {
    int64_t ended_seconds = 0;  // since 1970
    uint64_t blocks = 0;        // compared
    uint64_t differences = 0;
    bool complete = false;  // all that it was asked for
};

struct DiskStatus {
    Name name;
    DiskRole role = DiskRole::secondary;
    DiskState state = DiskState::inconsistent;
    DiskState peer_state = DiskState::inconsistent;  // as far as known
    bool peer_known = false;
    uint64_t size_bytes = 0;
    Epoch epoch;
    Generations generations;
    uint64_t marked_blocks = 0;
    SyncPhase phase = SyncPhase::idle;
    SyncDirection direction = SyncDirection::none;
    bool paused = false;
    uint64_t blocks_total = 0;  // of this phase
    uint64_t blocks_left = 0;
    uint64_t bytes_sent = 0;     // at the side that sends
    uint64_t bytes_skipped = 0;  // there; equal, or zero on both sides
    double bytes_per_second = 0;
    std::optional<double> seconds_left;
    uint64_t verify_differences = 0;  // of the one under way, or the last
    std::optional<VerifyResult> last_verify;
    uint64_t undo_bytes = 0;
    uint64_t undo_blocks = 0;
    std::string reason;  // of a failed, halted or refused state
    SyncDecision decision;
    SplitPreview if_local_wins;
    SplitPreview if_peer_wins;
};

// The last moment of the disks' life that this copy holds whole, and that does not change under its
// reader: one for all disks of the group.
struct PointStatus {
    // Counted in this process; another number is another point. None: there is no point to read.
    std::optional<uint64_t> number;
    std::string reason;              // if there is none
    bool soon = false;               // ... and there may be one in a moment
    int64_t seconds = 0;             // when it was, since 1970; 0: not known
    int64_t not_before_seconds = 0;  // when its youngest generation began; 0: not known
};

struct NodeStatus {
    LinkState link = LinkState::down;
    std::string reason;
    Mode mode = Mode::async;
    uint64_t backlog_bytes = 0;
    uint64_t changes_in_flight = 0;  // not answered
    uint64_t changes_undurable = 0;  // begun and not durable at the peer
    PointStatus point;
    Duration waits_for_peer{};  // since a promotion: so much longer at most; 0: does not
    std::vector<DiskStatus> disks;
};

}  // namespace antipode::disksync
