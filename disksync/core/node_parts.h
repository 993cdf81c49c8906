// The parts that a Node keeps its state in. Only for node*.cc.
#pragma once

#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "disksync/core/extent_lock.h"
#include "disksync/core/node_types.h"
#include "disksync/core/undo_log.h"

namespace antipode::disksync {

// Runs of blocks that something is under way for.
class BusyRuns {
  public:
    void add(BlockRange run) { runs_[run.first] = run.count; }
    void remove(BlockRange run) { runs_.erase(run.first); }
    // How many blocks from `block` on are free (at most `count`), or 0 if it is busy.
    uint64_t free_from(uint64_t block, uint64_t count) const {
        auto next = runs_.upper_bound(block);
        if (next != runs_.begin()) {
            const auto& before = *std::prev(next);
            if (block < before.first + before.second) return 0;
        }
        return next == runs_.end() ? count : std::min(count, next->first - block);
    }
    bool empty() const { return runs_.empty(); }
    void clear() { runs_.clear(); }

  private:
    std::map<uint64_t, uint64_t> runs_;
};

// Resync and verify of one disk, at the side that sends.
struct NodeSource {
    bool resync = false;
    bool full = false;
    bool repair = false;  // the peer is whole and stays so: no `end` follows
    bool end_sent = false;
    bool paused = false;
    uint64_t cursor = 0;
    BusyRuns busy;
    std::unordered_map<uint64_t, uint64_t> marked_at;  // block -> sequence when it was marked again
    std::deque<BlockRange> wanted;                     // the target differs here: data next
    uint64_t blocks_total = 0;
    uint64_t bytes_sent = 0;
    uint64_t bytes_skipped = 0;
    uint64_t digests_asked = 0;  // blocks
    uint64_t digests_answered = 0;
    uint64_t digests_equal = 0;
    Instant began{};

    // Full sync: what is a hole. Valid for [region_first, region_end), minus what was written
    // since.
    bool extents_asked = false;
    uint64_t region_first = 0;
    uint64_t region_end = 0;
    std::vector<BlockRange> holes;
    std::vector<BlockRange> written;

    bool verify = false;
    uint64_t verify_first = 0;
    uint64_t verify_cursor = 0;
    uint64_t verify_end = 0;
    uint64_t verify_blocks_total = 0;
    uint64_t verify_in_flight = 0;
    uint64_t verify_reads = 0;        // under way, be it of a verify that has ended
    std::set<uint64_t> verify_asked;  // the first blocks of the runs in flight
    uint64_t verify_differences = 0;
    std::deque<uint64_t> recheck;
    std::map<uint64_t, uint32_t> looked_at;  // block -> how often it differed
    std::map<uint64_t, BlockDigest> verify_digests;

    uint64_t read_bytes = 0;  // under way
    // A run that writes of the VM keep us from reading.
    struct Reserved {
        BlockRange run;
        bool verify = false;
        bool digests = false;
    };
    std::optional<Reserved> reserved;

    // As at first; what the store is still reading is not forgotten.
    void begin_anew() {
        NodeSource fresh;
        fresh.paused = paused;
        fresh.read_bytes = read_bytes;
        fresh.verify_reads = verify_reads;
        *this = std::move(fresh);
    }
    // Everything before it, from verify_first on, was compared.
    uint64_t verify_compared_to() const {
        uint64_t block = verify_cursor;
        if (!verify_asked.empty()) block = std::min(block, *verify_asked.begin());
        for (const uint64_t again : recheck) block = std::min(block, again);
        return block;
    }
};

// How far a resync is, at the side that applies.
struct NodeProgress {
    uint64_t blocks_total = 0;
    uint64_t blocks_left = 0;
    Instant began{};

    void arrived(uint64_t blocks) { blocks_left -= std::min(blocks, blocks_left); }
};

// Undo at the side that applies.
struct NodeUndo {
    std::optional<UndoLog> log;
    bool starting = false;  // its header is being written; then the metadata says so
    bool active = false;    // what is overwritten has to be kept first
    bool writing = false;   // a batch
    uint32_t reads_left = 0;
    std::vector<UndoLog::OldBlock> batch;  // being read
    uint64_t link_life = 0;                // of the connection that it began with; 0: an older one
    Superblock record;                     // what is to be on record once the header is durable
};

// Whether there is a consistent point to read; of which disk the reason is.
struct NoPoint {
    enum class Why : uint8_t {
        there_is = 0,
        primary = 1,
        failed = 2,
        never_whole = 3,
        not_kept = 4,  // what a resync overwrites
        follows = 5,   // changes come, and go to the store at once
        draining = 6,  // of what came
        mixed = 7,     // the disks are at different points
    };
    Why why = Why::there_is;
    uint16_t disk = 0;
};

// A read of the last consistent point, in parts.
struct NodeView {
    ViewRead read;
    SharedBytes data;
    uint32_t parts_left = 0;
    std::optional<Error> error;
};

// A part of the undo log that is being read, for a view or to be put back.
struct NodeLogRead {
    std::optional<uint64_t> view;
    uint16_t disk = 0;
    UndoLog::Piece piece;
    SharedBytes data;  // the whole block
};

// On the way back to the last consistent point.
struct NodeReturn {
    enum class Step : uint8_t {
        draining = 1,  // of what came before the connection ended
        marking = 2,   // the source has taken its marks away: this copy has to have them, durably
        writing = 3,
        flushing = 4,
        recording = 5,
    };
    struct Part {
        std::vector<uint64_t> blocks;
        size_t next = 0;  // of these
        uint64_t sequence = 0;
    };
    Step step = Step::draining;
    uint64_t point = 0;
    Epoch epoch;  // to be promoted with; 0: the next
    std::vector<Part> parts;
    uint32_t under_way = 0;  // reads, writes, flushes
    std::optional<Error> error;
};

struct NodeDisk {
    explicit NodeDisk(DiskRecord loaded) : record(std::move(loaded)) {}

    DiskRecord record;
    bool writing_files = false;  // a plan of the record is under way
    bool flushing_log = false;   // the store, before extents leave the activity log
    ExtentLock lock;
    NodeSource source;
    std::optional<VerifyResult> last_verify;
    NodeProgress progress;
    NodeUndo undo;
    std::string reason;

    bool greeted = false;
    wire::SyncHello hello;
    CopyView peer;
    bool peer_known = false;
    SyncDecision decision;
    bool bitmap_complete = false;
    uint64_t role_sequence = 0;   // the record's, that must be durable before a primary writes
    uint64_t begin_sequence = 0;  // the record's, that must be durable before anything is applied
    bool undo_given_up = false;   // ... and the undo log removed
    uint64_t share_sequence = 0;  // ... before `end` is sent
    uint64_t adopt_sequence = 0;  // ... before `adopted` is sent
    uint64_t adopt_frame = 0;     // the sequence of the `end` frame
    bool detached() const { return record.superblock().state == DiskState::failed; }
    // What the resync overwrites is kept: with that, the copy is what it was.
    bool overlaid() const {
        return undo.active &&
               (undo.starting || record.superblock().state == DiskState::inconsistent);
    }
};

struct NodeChange {
    uint64_t id = 0;
    std::optional<uint64_t> client_id;  // none: the node's own
    uint16_t disk = 0;
    StoreOperation operation = StoreOperation::write;
    uint64_t offset_bytes = 0;
    uint64_t length_bytes = 0;
    SharedBytes data;
    uint64_t data_bytes = 0;
    Fua fua = Fua::no;
    Instant came{};

    bool log_held = false;
    bool started = false;
    bool locked = false;
    uint64_t sequence = 0;    // of its frame; 0: not sent
    uint64_t covers = 0;      // flush: the last change before it
    uint32_t local_left = 0;  // store operations under way
    bool local_done = false;
    bool marked = false;   // the peer may not have it, and the bitmap says so
    bool settled = false;  // durable at the peer, or marked: the log may forget it
    bool answered = false;
    std::optional<Error> error;

    uint64_t first_extent() const { return offset_bytes / kExtentBytes; }
    uint64_t extents() const {
        return (offset_bytes + length_bytes - 1) / kExtentBytes - first_extent() + 1;
    }
    uint64_t holder() const { return (uint64_t{1} << 63) | id; }
    bool is_flush() const { return operation == StoreOperation::flush; }
};

// A frame that the peer has not made durable.
struct NodeSent {
    enum class Kind : uint8_t { change = 1, flush = 2, data = 3, digests = 4, end = 5 };
    Kind kind = Kind::change;
    uint64_t sequence = 0;
    uint16_t disk = 0;
    uint64_t change = 0;
    BlockRange run;
    uint64_t bytes = 0;  // of payload
    // digests: the answer
    bool verify = false;
    bool answered = false;
    std::vector<BlockRange> equal;
};

// A frame at the target, until everything before it has been applied.
struct NodeIncoming {
    SyncFrame frame;
    uint64_t link_life = 0;
    enum class State : uint8_t { queued = 1, running = 2, done = 3 } state = State::queued;
    uint64_t offset_bytes = 0;
    uint64_t length_bytes = 0;
    bool is_change() const {
        return frame.type == SyncType::write || frame.type == SyncType::write_zeroes ||
               frame.type == SyncType::discard;
    }
    bool has_range() const { return length_bytes != 0; }
    bool writes() const {
        return is_change() || frame.type == SyncType::resync_data ||
               frame.type == SyncType::resync_zeroes;
    }
};

// A store operation under way.
struct NodeAction {
    enum class Kind : uint8_t {
        client_read = 1,
        change,        // of changes_[id]
        run_read,      // source
        extents,       // source
        target_write,  // of the incoming frame with sequence id
        target_flush,
        start_flush,    // what a former life of the process wrote and did not flush
        log_flush,      // before extents leave the activity log
        closing_flush,  // the last thing that a primary does
        target_digests,
        old_block,     // for the undo log
        served_read,   // for a primary without a disk
        view_read,     // of views_[id]
        put_back,      // an old block
        return_flush,  // behind all of them
    };
    Kind kind = Kind::client_read;
    uint16_t disk = 0;
    uint64_t id = 0;
    uint64_t offset_bytes = 0;
    uint64_t length_bytes = 0;
    BlockRange run;
    bool verify = false;
    bool digests = false;
    bool holds_lock = false;  // by its ticket
    uint64_t link_life = 0;   // of the connection that it belongs to
    SharedBytes data;
};

}  // namespace antipode::disksync
