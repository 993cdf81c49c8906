// Node: the side that applies what the peer sends.
#include <algorithm>
#include <cstring>
#include <xxhash.h>

#include "common/base/check.h"
#include "disksync/core/node.h"

namespace antipode::disksync {

namespace {

constexpr size_t kLookAhead = 128;                          // frames
constexpr uint64_t kIncomingBytesMax = uint64_t{64} << 20;  // then the connection has to wait
constexpr uint64_t kIncomingFramesMax = 16384;
constexpr int64_t kResyncPatience = 8;
constexpr uint64_t kUndurableFramesMax = 4096;  // the sender remembers them

BlockDigest digest_of(std::span<const std::byte> block) {
    const XXH128_hash_t hash = XXH3_128bits(block.data(), block.size());
    return {hash.low64, hash.high64};
}

bool is_zero(std::span<const std::byte> bytes) {
    return bytes[0] == std::byte{0} &&
           std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0;
}

}  // namespace

bool Node::wants_frames() const {
    return incoming_bytes_ < kIncomingBytesMax && incoming_.size() < kIncomingFramesMax;
}

// ---- the beginning

void Node::on_begin(const SyncFrame& frame) {
    Disk& disk = disks_[frame.disk];
    const auto& begin = std::get<wire::SyncBegin>(frame.body);
    if (link_ != LinkState::comparing || sending_ || disk.bitmap_complete) {
        return protocol_error("a begin that nobody waits for");
    }
    disk.bitmap_complete = true;
    // Both sides have come to it that nothing is newer than the peer's copy.
    if (disk.peer.state == DiskState::consistent || disk.peer.state == DiskState::outdated) {
        disk.peer.state = DiskState::up_to_date;
    }
    if (begin.size_bytes > disk.record.superblock().size_bytes) {
        return halt(fmt::format("disk {}: the peer's has {} bytes, this one only {}",
                                disk.record.superblock().disk, begin.size_bytes,
                                disk.record.superblock().size_bytes));
    }
    disk.record.crash_dealt_with();
    disk.progress = {begin.blocks_to_come, begin.blocks_to_come, now_};
    if ((frame.flags & wire::sync_flags::kResync) != 0) {
        begin_resync(frame.disk, begin, (frame.flags & wire::sync_flags::kFull) != 0);
    } else if (!disk.detached() && disk.peer.state != DiskState::failed) {
        Superblock next = disk.record.superblock();
        next.state = DiskState::up_to_date;
        // A resync that broke off right before its end: everything had come.
        next.resync_target = Generation();
        next.undo_kept = false;
        next.generation_shared = true;
        peer_caught_up(next.generations);
        disk.begin_sequence = change_record(frame.disk, next);
    }
    const bool all = std::all_of(disks_.begin(), disks_.end(),
                                 [](const Disk& each) { return each.bitmap_complete; });
    if (!all) return;
    link_ = LinkState::streaming;
    event(NodeEvent::Weight::info, 0, "link", "connected, receiving");
}

// Nothing is overwritten before it is on record that this copy is in the middle of a resync, and
// that what it was is kept.
void Node::begin_resync(uint16_t index, const wire::SyncBegin& begin, bool full) {
    Disk& disk = disks_[index];
    const Superblock& superblock = disk.record.superblock();
    event(NodeEvent::Weight::info, index, "resync",
          fmt::format("to generation {:016x}, {} blocks{}", begin.generations.current,
                      begin.blocks_to_come, full ? ", all" : ""));
    disk.begin_sequence = ~uint64_t{0};  // until it is known
    Superblock next = superblock;
    next.resync_target = Generation(begin.generations.current);
    const bool whole = superblock.state != DiskState::inconsistent &&
                       superblock.generations.current != Generation();
    next.state = DiskState::inconsistent;
    // A disk of a group may be written while another is in the middle of its resync: both go back.
    const bool changes = begin.blocks_to_come != 0 || disks_.size() > 1;
    if (whole && config_.keep_undo && changes) {
        give_up_older_points(index);
        disk.undo.log.emplace(superblock.id, superblock.generations.current);
        disk.undo.link_life = link_life_;
        disk.undo.active = disk.undo.starting = true;
        next.undo_kept = true;
        disk.undo.record = next;
        undo_io(index, {disk.undo.log->header()}, false);
        return;
    }
    disk.begin_sequence = change_record(index, next);
}

// A disk that is whole begins a resync, and another one of the group is still in an older one: the
// connection broke off between their ends. The log of that one leads further back than this one's:
// to undo both would make a mixture of two points.
void Node::give_up_older_points(uint16_t index) {
    for (uint16_t other = 0; other < disks_.size(); ++other) {
        const NodeUndo& undo = disks_[other].undo;
        const bool older = undo.active && !undo.starting && undo.link_life != link_life_;
        if (other == index || !older || undo.log->count() == 0) continue;
        abandon_undo(other, "another disk of the group has gone beyond its point");
    }
}

// ---- frames

const char* Node::change_breaks_a_rule(const SyncFrame& frame) const {
    if (!streaming_in()) return "a change to a side that does not receive";
    if (frame.sequence != own_.received + 1) return "a sequence number that does not follow";
    const uint64_t size = disks_[frame.disk].record.superblock().size_bytes;
    if (const auto* range = std::get_if<wire::SyncRange>(&frame.body)) {
        if (range->offset_bytes > size || range->length_bytes > size - range->offset_bytes) {
            return "a range beyond the end of the disk";
        }
        const bool resync =
            frame.type == SyncType::resync_data || frame.type == SyncType::resync_zeroes;
        if (resync && range->offset_bytes % kBlockBytes != 0) return "a resync of parts of blocks";
    }
    if (const auto* digests = std::get_if<wire::SyncDigests>(&frame.body)) {
        const uint64_t blocks = block_count_of(size);
        if (digests->first_block >= blocks || digests->count > blocks - digests->first_block) {
            return "digests beyond the end of the disk";
        }
    }
    return nullptr;
}

void Node::on_change(SyncFrame&& frame) {
    if (const char* rule = change_breaks_a_rule(frame)) return protocol_error(rule);
    own_.received = frame.sequence;
    Incoming incoming;
    incoming.link_life = link_life_;
    const uint64_t size = disks_[frame.disk].record.superblock().size_bytes;
    if (const auto* range = std::get_if<wire::SyncRange>(&frame.body)) {
        incoming.offset_bytes = range->offset_bytes;
        incoming.length_bytes = range->length_bytes;
    } else if (const auto* digests = std::get_if<wire::SyncDigests>(&frame.body)) {
        incoming.offset_bytes = digests->first_block * kBlockBytes;
        incoming.length_bytes =
            std::min(incoming.offset_bytes + digests->count * kBlockBytes, size) -
            incoming.offset_bytes;
    }
    incoming_bytes_ += frame.payload.size();
    incoming.frame = std::move(frame);
    incoming_.push_back(std::move(incoming));
}

void Node::on_read(const SyncFrame& frame) {
    const auto& read = std::get<wire::SyncRead>(frame.body);
    Disk& disk = disks_[frame.disk];
    const uint64_t size = disk.record.superblock().size_bytes;
    if (!streaming_in()) return protocol_error("a read from a side that does not receive");
    if (read.offset_bytes > size || read.length_bytes > size - read.offset_bytes) {
        return protocol_error("a read beyond the end of the disk");
    }
    if (disk.record.superblock().state != DiskState::up_to_date) {
        return send(
            frame_of(SyncType::read_answer, frame.disk,
                     wire::SyncReadAnswer{read.request, static_cast<uint16_t>(Errc::busy)}));
    }
    LocalAction action;
    action.kind = LocalAction::Kind::served_read;
    action.disk = frame.disk;
    action.id = read.request;
    action.link_life = link_life_;
    LocalIo io;
    io.operation = StoreOperation::read;
    io.offset_bytes = read.offset_bytes;
    io.length_bytes = read.length_bytes;
    io.data = SharedBytes::make(read.length_bytes);
    local(std::move(action), std::move(io));
}

// In order: the first that has to wait holds up what follows it.
void Node::pump_target() {
    pop_done();
    for (size_t index = 0; index < incoming_.size() && index < kLookAhead; ++index) {
        if (incoming_[index].state != Incoming::State::queued) continue;
        if (start_incoming(index) == Start::waits) break;
    }
    pop_done();
}

Node::Start Node::start_incoming(size_t index) {
    Incoming& incoming = incoming_[index];
    for (const Disk& disk : disks_) {
        if (disk.begin_sequence != 0) return Start::waits;
    }
    // Behind an `end` nothing is kept for undo any more, once the end is on record.
    if (disks_[incoming.frame.disk].adopt_sequence != 0) return Start::waits;
    switch (incoming.frame.type) {
        case SyncType::flush:
            if (index != 0 || running_ != 0) return Start::waits;
            if (own_.durable < own_.applied) {
                flush_target(true);
                return Start::waits;
            }
            incoming.state = Incoming::State::done;
            flush_expected_ = true;
            return Start::started;
        case SyncType::end:
            if (index != 0 || running_ != 0) return Start::waits;
            return start_end(incoming);
        case SyncType::digests:
            return start_digests(incoming);
        default:
            break;
    }
    if (must_preserve(incoming)) {
        preserve(incoming.frame.disk, index);
        return Start::waits;
    }
    return start_write(incoming);
}

Node::Start Node::start_write(Incoming& incoming) {
    Disk& disk = disks_[incoming.frame.disk];
    const SyncFrame& frame = incoming.frame;
    // Blocks of a resync come in any order: the copy is not whole until the end anyway.
    if (incoming.is_change() && running_changes_ != 0 && running_barrier_ != frame.barrier) {
        return Start::waits;
    }
    if (disk.lock.conflicts(incoming.offset_bytes, incoming.length_bytes,
                            ExtentLock::Kind::change)) {
        return Start::waits;
    }
    LocalAction action;
    action.kind = LocalAction::Kind::target_write;
    action.disk = frame.disk;
    action.id = frame.sequence;
    action.holds_lock = true;
    LocalIo io;
    io.offset_bytes = incoming.offset_bytes;
    io.length_bytes = incoming.length_bytes;
    const bool data = frame.type == SyncType::write || frame.type == SyncType::resync_data;
    io.operation = data ? StoreOperation::write : StoreOperation::write_zeroes;
    if (data) io.data = frame.payload;
    if ((frame.flags & wire::sync_flags::kKeepAllocated) != 0 &&
        frame.type == SyncType::write_zeroes) {
        io.keep_allocated = KeepAllocated::yes;
    }
    const Ticket ticket = local(std::move(action), std::move(io));
    const bool locked = disk.lock.try_lock(ticket, incoming.offset_bytes, incoming.length_bytes,
                                           ExtentLock::Kind::change);
    FT_CHECK(locked, "a range without conflicts is locked");
    incoming.state = Incoming::State::running;
    ++running_;
    if (incoming.is_change()) {
        ++running_changes_;
        running_barrier_ = frame.barrier;
    }
    return Start::started;
}

Node::Start Node::start_digests(Incoming& incoming) {
    Disk& disk = disks_[incoming.frame.disk];
    if (incoming.link_life != link_life_) {  // nobody waits for the answer any more
        incoming.state = Incoming::State::done;
        return Start::started;
    }
    if (disk.lock.conflicts(incoming.offset_bytes, incoming.length_bytes,
                            ExtentLock::Kind::reader)) {
        return Start::waits;
    }
    LocalAction action;
    action.kind = LocalAction::Kind::target_digests;
    action.disk = incoming.frame.disk;
    action.id = incoming.frame.sequence;
    action.holds_lock = true;
    action.link_life = incoming.link_life;
    LocalIo io;
    io.operation = StoreOperation::read;
    io.offset_bytes = incoming.offset_bytes;
    io.length_bytes = incoming.length_bytes;
    io.data = SharedBytes::make(incoming.length_bytes);
    const Ticket ticket = local(std::move(action), std::move(io));
    const bool locked = disk.lock.try_lock(ticket, incoming.offset_bytes, incoming.length_bytes,
                                           ExtentLock::Kind::reader);
    FT_CHECK(locked, "a range without conflicts is locked");
    incoming.state = Incoming::State::running;
    ++running_;
    return Start::started;
}

void Node::digests_read(LocalAction&& action, Result<> result) {
    const uint64_t first = incoming_.front().frame.sequence;
    const Incoming& incoming = incoming_[action.id - first];
    if (result && action.link_life == link_life_ && streaming_in()) {
        const auto& range = std::get<wire::SyncDigests>(incoming.frame.body);
        const bool verify = (incoming.frame.flags & wire::sync_flags::kVerify) != 0;
        std::vector<std::byte> payload((range.count + 7) / 8);
        uint64_t equal = 0;
        for (uint64_t at = 0; at < range.count; ++at) {
            const uint64_t offset = at * kBlockBytes;
            const BlockDigest own = digest_of(action.data.span().subspan(
                offset, std::min(kBlockBytes, action.data.size() - offset)));
            const std::byte* theirs = incoming.frame.payload.data() + at * sizeof(own);
            if (std::memcmp(own.data(), theirs, sizeof(own)) == 0) {
                ++equal;
                continue;
            }
            payload[at / 8] |= static_cast<std::byte>(1u << (at % 8));
            if (!verify) continue;
            const auto bytes = std::as_bytes(std::span(own));
            payload.insert(payload.end(), bytes.begin(), bytes.end());
        }
        SyncFrame frame =
            frame_of(SyncType::digest_answer, action.disk, range, SharedBytes::copy_of(payload));
        if (verify) frame.flags = wire::sync_flags::kVerify;
        send(std::move(frame));
        if (!verify) disks_[action.disk].progress.arrived(equal);
    }
    incoming_done(action.id, std::move(result));
}

void Node::incoming_done(uint64_t sequence, Result<> result) {
    Incoming& incoming = incoming_[sequence - incoming_.front().frame.sequence];
    FT_CHECK(incoming.frame.sequence == sequence, "frame {} is not under way", sequence);
    const uint16_t disk = incoming.frame.disk;
    incoming.state = Incoming::State::done;
    --running_;
    if (incoming.is_change()) --running_changes_;
    if (!result) return target_failed(disk, result.error());
    const SyncType type = incoming.frame.type;
    const bool block = type == SyncType::resync_data || type == SyncType::resync_zeroes;
    if (block && incoming.link_life == link_life_) {
        disks_[disk].progress.arrived(
            blocks_of(incoming.offset_bytes, incoming.length_bytes).count);
    }
}

void Node::pop_done() {
    while (!incoming_.empty() && incoming_.front().state == Incoming::State::done) {
        const Incoming& incoming = incoming_.front();
        own_.applied = incoming.frame.sequence;
        incoming_bytes_ -= incoming.frame.payload.size();
        if (incoming.writes()) {
            undurable_bytes_ += incoming.length_bytes;
            undurable_changes_ |= incoming.is_change();
            if (!undurable_since_) undurable_since_ = now_;
        } else if (!undurable_since_ && !flushing_) {
            own_.durable = own_.applied;  // nothing before it waits for a flush
        }
        if ((incoming.frame.flags & wire::sync_flags::kFua) != 0 && incoming.is_change()) {
            flush_soon_ = true;
        }
        incoming_.pop_front();
    }
}

// ---- durability

void Node::maybe_flush_target() {
    if (!undurable_since_) return;
    // A client that flushes after each write or two will want the next one as well: it is begun
    // while the answer is on its way. One that does not costs no flush at each write.
    const bool eager = flush_expected_ && !flushing_ && undurable_changes_ &&
                       peer_mode_ == Mode::sync && own_.applied == own_.received;
    if (eager) flush_expected_ = false;
    // Nobody waits for blocks of a resync: fewer flushes let the disk do more between them.
    const int64_t patience = undurable_changes_ ? 1 : kResyncPatience;
    if (eager || flush_soon_ || own_.applied - own_.durable >= kUndurableFramesMax ||
        undurable_bytes_ >= config_.durable_bytes * static_cast<uint64_t>(patience) ||
        now_ - *undurable_since_ >= config_.durable_interval * patience) {
        flush_target(false);
    }
}

// `again`: whoever asks waits for what is applied by now; a flush under way may not cover it.
void Node::flush_target(bool again) {
    if (flushing_) {
        flush_again_ |= again && flush_covers_ < own_.applied;
        return;
    }
    flushing_ = true;
    flush_soon_ = false;
    flush_covers_ = own_.applied;
    undurable_bytes_ = 0;
    undurable_changes_ = false;
    undurable_since_.reset();
    flushes_left_ = flush_stores(LocalAction::Kind::target_flush);
    if (flushes_left_ == 0) flushing_ = false;
}

void Node::target_flush_done(LocalAction&& action, Result<> result) {
    if (!result) target_failed(action.disk, result.error());
    if (--flushes_left_ != 0) return;
    flushing_ = false;
    const bool failed =
        std::any_of(disks_.begin(), disks_.end(), [](const Disk& disk) { return disk.detached(); });
    if (failed) return;
    own_.durable = std::max(own_.durable, flush_covers_);
    // What only read, behind the last write, is as durable as that.
    if (!undurable_since_) own_.durable = own_.applied;
    if (std::exchange(flush_again_, false) && own_.durable < own_.applied) flush_target(true);
}

void Node::acknowledge() {
    if (!streaming_in() || own_ == acknowledged_) return;
    acknowledged_ = own_;
    send(frame_of(SyncType::ack, 0, own_));
}

// ---- the end of a resync

Node::Start Node::start_end(Incoming& incoming) {
    if (own_.durable < own_.applied) {
        flush_target(true);
        return Start::waits;
    }
    Disk& disk = disks_[incoming.frame.disk];
    const auto& end = std::get<wire::SyncEnd>(incoming.frame.body);
    Superblock next = disk.record.superblock();
    take_over(next.generations, generations_of(end.generations));
    next.generation_time_seconds = end.generation_time_seconds;
    next.generation_shared = true;
    next.state = DiskState::up_to_date;
    next.resync_target = Generation();
    next.undo_kept = false;
    next.discard_mine = false;
    disk.record.bitmap().clear_all();
    disk.adopt_sequence = change_record(incoming.frame.disk, next);
    disk.adopt_frame = incoming.frame.sequence;
    incoming.state = Incoming::State::running;
    ++running_;
    return Start::started;
}

// It is on record that this copy is whole again.
void Node::end_adopted(uint16_t index) {
    Disk& disk = disks_[index];
    if (disk.undo.log) {
        disk.undo = NodeUndo();
        undo_io(index, {}, true);
    }
    disk.record.write_bitmap();
    point_seconds_ = wall_seconds_;
    event(NodeEvent::Weight::info, index, "resync-done",
          fmt::format("up to date, generation {:016x}",
                      disk.record.superblock().generations.current.value()));
    if (streaming_in()) {
        send(frame_of(SyncType::adopted, index,
                      wire::SyncAdopted{disk.record.superblock().generations.current.value()}));
    }
    incoming_done(disk.adopt_frame, {});
}

// ---- undo

bool Node::must_preserve(const Incoming& incoming) const {
    const Disk& disk = disks_[incoming.frame.disk];
    if (!disk.undo.active) return false;
    const BlockRange run = blocks_of(incoming.offset_bytes, incoming.length_bytes);
    for (uint64_t block = run.first; block < run.first + run.count; ++block) {
        if (!disk.undo.log->contains(block)) return true;
    }
    return disk.undo.writing;  // what is in the log may not be durable yet
}

// Reads what this frame and those after it will overwrite; one batch at a time.
void Node::preserve(uint16_t index, size_t from) {
    Disk& disk = disks_[index];
    NodeUndo& undo = disk.undo;
    if (undo.writing) return;
    const uint64_t size = disk.record.superblock().size_bytes;
    if (undo.log->bytes() > config_.undo_bytes_max) {
        return abandon_undo(index, fmt::format("it has {} bytes", undo.log->bytes()));
    }
    undo.writing = true;
    undo.batch.clear();
    std::set<uint64_t> chosen;
    for (size_t at = from; at < incoming_.size() && chosen.size() < UndoLog::kBlocksPerBatch;
         ++at) {
        const Incoming& incoming = incoming_[at];
        if (!incoming.writes() || incoming.frame.disk != index) continue;
        const BlockRange run = blocks_of(incoming.offset_bytes, incoming.length_bytes);
        for (uint64_t block = run.first; block < run.first + run.count; ++block) {
            if (chosen.size() >= UndoLog::kBlocksPerBatch) break;
            if (!undo.log->contains(block)) chosen.insert(block);
        }
    }
    for (const uint64_t block : chosen) {
        LocalAction action;
        action.kind = LocalAction::Kind::old_block;
        action.disk = index;
        action.id = block;
        LocalIo io;
        io.operation = StoreOperation::read;
        io.offset_bytes = block * kBlockBytes;
        io.length_bytes = std::min(kBlockBytes, size - io.offset_bytes);
        io.data = SharedBytes::make(io.length_bytes);
        ++undo.reads_left;
        local(std::move(action), std::move(io));
    }
}

void Node::old_block_read(LocalAction&& action, Result<> result) {
    NodeUndo& undo = disks_[action.disk].undo;
    --undo.reads_left;
    if (!result) {
        target_failed(action.disk, result.error());
    } else {
        const bool zero = is_zero(action.data.span());
        undo.batch.push_back({action.id, zero ? SharedBytes() : action.data});
    }
    if (undo.reads_left != 0 || undo.batch.empty()) return;
    if (disks_[action.disk].detached()) return;
    std::sort(undo.batch.begin(), undo.batch.end(),
              [](const auto& one, const auto& other) { return one.block < other.block; });
    undo_io(action.disk, undo.log->append(undo.batch), false);
    undo.batch.clear();
}

void Node::undo_io(uint16_t index, std::vector<MetaWrite> writes, bool remove) {
    const Ticket ticket = next_ticket_++;
    undo_tickets_.emplace(ticket, UndoTicket{index, remove});
    FileIo io;
    io.ticket = ticket;
    io.disk = index;
    io.file = FileIo::File::undo;
    io.writes = std::move(writes);
    io.remove = remove;
    outputs_.files.push_back(std::move(io));
}

void Node::undo_written(uint16_t index, const Result<>& result) {
    Disk& disk = disks_[index];
    NodeUndo& undo = disk.undo;
    if (!undo.log) return;  // it was removed
    if (std::exchange(undo.starting, false)) {
        Superblock next = undo.record;
        next.undo_kept = result.has_value();
        if (!result) {
            undo = NodeUndo();
            event(NodeEvent::Weight::warn, index, "undo",
                  "not kept, its file cannot be written: " + result.error().context);
        }
        disk.begin_sequence = change_record(index, next);
        return;
    }
    undo.writing = false;
    if (result) undo.log->synced();
    if (!result) abandon_undo(index, result.error().context);
}

// The resync goes on; there is no way back from it then.
void Node::abandon_undo(uint16_t index, const std::string& why) {
    Disk& disk = disks_[index];
    event(NodeEvent::Weight::warn, index, "undo", "given up: " + why);
    disk.undo = NodeUndo();
    Superblock next = disk.record.superblock();
    next.undo_kept = false;
    // Nothing is overwritten before that is on record: half an undo log would undo wrongly. Nor is
    // it removed before: until then the record says that there is one.
    disk.begin_sequence = change_record(index, next);
    disk.undo_given_up = true;
}

// ---- failures

void Node::target_failed(uint16_t index, const Error& error) {
    Disk& disk = disks_[index];
    if (disk.detached()) return;
    Superblock next = disk.record.superblock();
    next.state = DiskState::failed;
    forget(next.generations);
    change_record(index, next);
    disk.reason = error.context;
    event(NodeEvent::Weight::error, index, "disk-failed", error.context);
    if (link_ != LinkState::down) {
        SharedBytes text = SharedBytes::copy_of(
            std::as_bytes(std::span(error.context)
                              .first(std::min(error.context.size(), wire::kSyncTextBytesMax))));
        send(frame_of(SyncType::failed, index, wire::SyncFailed{static_cast<uint16_t>(error.code)},
                      std::move(text)));
        halt("this site's disk has failed: " + error.context);
    }
    // What waits here will not be written.
    for (Incoming& incoming : incoming_) {
        if (incoming.state == Incoming::State::queued) incoming.state = Incoming::State::done;
    }
}

void Node::target_lost() {
    // A site that was promoted while it received has everything: it ended the connection itself.
    if (is_primary()) return;
    const bool whole = std::all_of(disks_.begin(), disks_.end(), [](const Disk& disk) {
        return disk.record.superblock().state == DiskState::up_to_date;
    });
    if (whole) point_seconds_ = wall_seconds_;
    for (uint16_t index = 0; index < disks_.size(); ++index) {
        if (disks_[index].record.superblock().state == DiskState::up_to_date) {
            set_state(index, DiskState::consistent,
                      "the connection has gone, the peer may be ahead");
        }
    }
}

}  // namespace antipode::disksync
