// Node: what the VM wants, and the writes on their way.
#include <algorithm>

#include "common/base/check.h"
#include "disksync/core/node.h"

namespace antipode::disksync {

namespace {

Error error_of(Errc code, std::string text) {
    return {code, std::move(text)};
}

}  // namespace

void Node::answer(uint64_t id, Result<> result, SharedBytes data) {
    outputs_.answers.push_back({id, std::move(result), std::move(data)});
}

void Node::request(NodeRequest&& request) {
    if (request.disk >= disks_.size()) {
        return answer(request.id,
                      fail(Errc::invalid_argument, "disk {} of {}", request.disk, disks_.size()));
    }
    Disk& disk = disks_[request.disk];
    const Superblock& superblock = disk.record.superblock();
    if (superblock.role != DiskRole::primary || demoting_ || fenced_) {
        return answer(request.id, fail(fenced_ ? Errc::stale_epoch : Errc::denied,
                                       "disk {}: this site is not primary", superblock.disk));
    }
    const bool ranged = request.operation != StoreOperation::flush;
    if (ranged && (request.length_bytes == 0 || request.offset_bytes > superblock.size_bytes ||
                   request.length_bytes > superblock.size_bytes - request.offset_bytes)) {
        return answer(
            request.id,
            fail(Errc::invalid_argument, "disk {}: {} at {} of {} bytes: beyond the end, {}",
                 superblock.disk, to_string(request.operation), request.offset_bytes,
                 request.length_bytes, superblock.size_bytes));
    }
    if (request.operation == StoreOperation::read) {
        client_read(std::move(request));
    } else {
        Change change;
        change.id = next_change_++;
        change.client_id = request.id;
        change.disk = request.disk;
        // Both copies have to read the same afterwards, so a discarded range reads as zero.
        change.operation = request.operation == StoreOperation::discard
                               ? StoreOperation::write_zeroes
                               : request.operation;
        change.offset_bytes = request.offset_bytes;
        change.length_bytes = ranged ? request.length_bytes : 0;
        change.data = std::move(request.data);
        change.data_bytes = change.data.size();
        change.fua = request.fua;
        change.came = now_;
        add_change(std::move(change));
    }
    pump();
}

void Node::add_change(Change&& change) {
    waiting_.insert(waiting_.end(), change.id);
    changes_.emplace_hint(changes_.end(), change.id, std::move(change));
}

// ---- reads

void Node::client_read(NodeRequest&& request) {
    if (disks_[request.disk].detached()) {
        return forward_read(request.id, request.disk, request.offset_bytes, request.length_bytes);
    }
    LocalAction action;
    action.kind = LocalAction::Kind::client_read;
    action.disk = request.disk;
    action.id = request.id;
    action.offset_bytes = request.offset_bytes;
    action.length_bytes = request.length_bytes;
    LocalIo io;
    io.operation = StoreOperation::read;
    io.offset_bytes = request.offset_bytes;
    io.length_bytes = request.length_bytes;
    io.data = SharedBytes::make(request.length_bytes);
    local(std::move(action), std::move(io));
}

void Node::client_read_done(LocalAction&& action, Result<> result) {
    if (result) return answer(action.id, {}, std::move(action.data));
    if (config_.local_error == LocalError::report || !streaming_out()) {
        return answer(action.id, std::move(result));
    }
    detach(action.disk, result.error());
    forward_read(action.id, action.disk, action.offset_bytes, action.length_bytes);
}

// The peer's disk serves it. Longer ones are cut by the caller of the node (a frame holds 1 MiB).
void Node::forward_read(uint64_t id, uint16_t disk, uint64_t offset, uint64_t length) {
    if (!streaming_out()) {
        return answer(id, fail(Errc::unreachable, "disk {}: has failed here, and the peer is away",
                               disks_[disk].record.superblock().disk));
    }
    if (length > wire::kSyncDataBytesMax) {
        return answer(id, fail(Errc::limit, "a read of {} bytes from the peer", length));
    }
    const uint64_t number = next_forwarded_++;
    NodeRequest request;
    request.id = id;
    request.disk = disk;
    forwarded_reads_.emplace(number, std::move(request));
    send(frame_of(SyncType::read, disk, wire::SyncRead{number, offset, length}));
}

// ---- changes

bool Node::start_generation_if_shared() {
    bool started = false;
    for (uint16_t index = 0; index < disks_.size(); ++index) {
        Superblock next = disks_[index].record.superblock();
        if (!next.generation_shared) continue;
        start_generation(next.generations, Generation(random_.next() | 2));
        next.generation_shared = false;
        next.generation_time_seconds = wall_seconds_;
        change_record(index, next);
        started = true;
    }
    return started;
}

// The peer's lack of what is written from now on is on record.
bool Node::alone_is_recorded() const {
    return std::none_of(disks_.begin(), disks_.end(), [](const Disk& disk) {
        return disk.record.superblock().generation_shared ||
               disk.record.durable_sequence() < disk.record.superblock().sequence;
    });
}

// Whether anything may begin at all.
bool Node::may_start_changes() {
    if (!is_primary() || !role_is_recorded() || waits_for_peer()) return false;
    if (streaming_out()) {
        if (backlog_bytes_ < config_.backlog_bytes_max) return true;
        if (config_.congestion == Congestion::block) return false;
        event(NodeEvent::Weight::warn, 0, "pulled-ahead",
              fmt::format("the peer is {} bytes behind: left to catch up by a resync",
                          backlog_bytes_));
        drop_link("pulled ahead of the peer");
    }
    if (config_.peer_lost == PeerLost::wait) return false;
    start_generation_if_shared();
    return alone_is_recorded();
}

// What is answered and not durable at the peer is remembered until it is: of that there may be
// more.
bool Node::has_enough_changes() const {
    return unanswered_.size() >= config_.changes_in_flight_max ||
           unsettled_ >= config_.changes_undurable_max ||
           unsettled_bytes_ >= config_.undurable_bytes_max;
}

void Node::pump_changes() {
    if (waiting_.empty() || has_enough_changes() || !may_start_changes()) return;
    std::vector<std::pair<uint64_t, uint64_t>> passed;  // ranges of earlier ones that wait
    std::vector<uint16_t> passed_disks;
    for (auto at = waiting_.begin(); at != waiting_.end();) {
        if (has_enough_changes()) return;
        if (streaming_out() && backlog_bytes_ >= config_.backlog_bytes_max) return;
        Change& change = changes_.at(*at);
        bool overlaps = false;
        for (size_t index = 0; index < passed.size(); ++index) {
            overlaps |= passed_disks[index] == change.disk &&
                        change.offset_bytes < passed[index].second &&
                        passed[index].first < change.offset_bytes + change.length_bytes;
        }
        if (!overlaps && start_change(change)) {
            unanswered_.insert(change.id);
            at = waiting_.erase(at);
            continue;
        }
        passed.push_back({change.offset_bytes, change.offset_bytes + change.length_bytes});
        passed_disks.push_back(change.disk);
        if (passed.size() > config_.changes_in_flight_max) return;
        ++at;
    }
}

// A resync waits for the writes under way in a run of blocks to end; new ones let it pass.
bool Node::is_reserved(const Disk& disk, const Change& change) const {
    if (!disk.source.reserved) return false;
    const BlockRange run = disk.source.reserved->run;
    const BlockRange blocks = blocks_of(change.offset_bytes, change.length_bytes);
    return blocks.first < run.first + run.count && run.first < blocks.first + blocks.count;
}

// False: it has to wait, for its range or for the activity log.
bool Node::start_change(Change& change) {
    Disk& disk = disks_[change.disk];
    const bool alone = !streaming_out();
    if (disk.detached() && alone) {
        change.error =
            error_of(Errc::unreachable, "the disk has failed here, and the peer is away");
        change.started = change.local_done = change.settled = true;
        touched_.push_back(change.id);
        return true;
    }
    if (!change.is_flush() && !disk.detached()) {
        if (!change.log_held) {
            const auto wanted = disk.record.log().want(change.first_extent(), change.extents());
            if (wanted == ActivityLog::Answer::full) return false;
            change.log_held = true;
        }
        if (!disk.record.log().is_durable(change.first_extent(), change.extents())) return false;
        if (!change.locked && is_reserved(disk, change)) return false;
        if (!change.locked && !disk.lock.try_lock(change.holder(), change.offset_bytes,
                                                  change.length_bytes, ExtentLock::Kind::change)) {
            return false;
        }
        change.locked = true;
    }
    change.started = true;
    ++unsettled_;
    unsettled_bytes_ += change.data_bytes;
    if (!alone) {
        send_change(change);
    } else {
        if (!change.is_flush()) mark(disk, blocks_of(change.offset_bytes, change.length_bytes));
        change.marked = !change.is_flush();
        settle(change);
    }
    if (disk.detached()) {
        change.local_done = true;
        change.data = {};
        touched_.push_back(change.id);
        return true;
    }
    LocalAction action;
    action.kind = LocalAction::Kind::change;
    action.disk = change.disk;
    action.id = change.id;
    LocalIo io;
    io.operation = change.operation;
    io.offset_bytes = change.offset_bytes;
    io.length_bytes = change.length_bytes;
    io.data = std::exchange(change.data, {});
    io.fua = change.fua;
    change.local_left = 1;
    local(std::move(action), std::move(io));
    return true;
}

void Node::send_change(Change& change) {
    SyncType type = SyncType::flush;
    wire::SyncBody body = wire::SyncFlush{};
    SharedBytes payload;
    if (!change.is_flush()) {
        type = change.operation == StoreOperation::write ? SyncType::write : SyncType::write_zeroes;
        body = wire::SyncRange{change.offset_bytes, change.length_bytes};
        payload = change.data;
        // What lies in a region whose holes are known is no hole any more.
        NodeSource& source = disks_[change.disk].source;
        if (source.full)
            source.written.push_back(blocks_of(change.offset_bytes, change.length_bytes));
    }
    SyncFrame frame = frame_of(type, change.disk, std::move(body), std::move(payload));
    if (change.fua == Fua::yes && !change.is_flush()) frame.flags = wire::sync_flags::kFua;
    Sent sent;
    sent.kind = change.is_flush() ? Sent::Kind::flush : Sent::Kind::change;
    sent.disk = change.disk;
    sent.change = change.id;
    sent.run = blocks_of(change.offset_bytes, change.length_bytes);
    change.covers = sequence_;
    if (std::exchange(answered_since_frame_, false)) ++barrier_;
    change.sequence = send_change_frame(std::move(frame), std::move(sent));
}

// Durable at the peer, or marked.
void Node::settle(Change& change) {
    if (std::exchange(change.settled, true)) return;
    --unsettled_;
    unsettled_bytes_ -= change.data_bytes;
    touched_.push_back(change.id);
}

void Node::change_local_done(uint64_t id, Result<> result) {
    const auto found = changes_.find(id);
    FT_CHECK(found != changes_.end(), "change {} is not under way", id);
    Change& change = found->second;
    --change.local_left;
    change.local_done = true;
    touched_.push_back(id);
    if (change.locked) {
        disks_[change.disk].lock.unlock(change.holder());
        change.locked = false;
    }
    if (!result) local_write_failed(change, std::move(result).error());
}

void Node::local_write_failed(Change& change, Error error) {
    Disk& disk = disks_[change.disk];
    // Whatever is on the disk now, the peer's is another.
    if (!change.is_flush()) mark(disk, blocks_of(change.offset_bytes, change.length_bytes));
    const bool full = error.code == Errc::no_space;
    if (config_.local_error == LocalError::detach && !full && change.sequence != 0 &&
        streaming_out()) {
        detach(change.disk, error);
        return;  // the peer's acknowledgement answers it
    }
    event(NodeEvent::Weight::error, change.disk, full ? "no-space" : "io-error", error.context);
    change.error = std::move(error);
    // The peer may have what this disk has not: it is sent what is here now.
    if (!change.is_flush() && streaming_out()) start_resync(change.disk, false);
}

void Node::detach(uint16_t index, const Error& error) {
    Disk& disk = disks_[index];
    if (disk.detached()) return;
    Superblock next = disk.record.superblock();
    next.state = DiskState::failed;
    // What is on it is unknown from here on.
    forget(next.generations);
    next.generation_shared = false;
    change_record(index, next);
    disk.reason = error.context;
    cut_verify(index, error.context);
    disk.source.begin_anew();
    event(NodeEvent::Weight::error, index, "detached",
          "the disk has failed and the peer's serves instead: " + error.context);
}

bool Node::may_answer(const Change& change) const {
    if (!change.started || !change.local_done) return false;
    if (change.error) return true;
    if (change.settled && !change.marked && change.sequence != 0) return true;
    if (change.marked || change.sequence == 0) {
        if (config_.peer_lost == PeerLost::wait && change.sequence != 0) {
            return streaming_out() && disks_[change.disk].record.bitmap().count() == 0;
        }
        return streaming_out() || alone_is_recorded();
    }
    const bool detached = disks_[change.disk].detached();
    const Mode mode = detached ? Mode::sync : config_.mode;
    const bool must_be_durable = change.is_flush() || change.fua == Fua::yes;
    const uint64_t upto = change.is_flush() ? change.covers : change.sequence;
    switch (mode) {
        case Mode::async:
            return true;
        case Mode::semi_sync:
            return peer_.received >= upto;
        case Mode::sync:
            return (must_be_durable ? peer_.durable : peer_.applied) >= upto;
    }
    return false;
}

void Node::finish_changes() {
    if (std::exchange(all_touched_, false)) {
        touched_.insert(touched_.end(), unanswered_.begin(), unanswered_.end());
    }
    std::vector<uint64_t> touched = std::exchange(touched_, {});
    std::sort(touched.begin(), touched.end());
    touched.erase(std::unique(touched.begin(), touched.end()), touched.end());
    for (const uint64_t id : touched) finish_change(id);
}

void Node::finish_change(uint64_t id) {
    const auto entry = changes_.find(id);
    if (entry == changes_.end()) return;
    Change& change = entry->second;
    if (!change.answered && may_answer(change)) {
        change.answered = true;
        unanswered_.erase(id);
        answered_since_frame_ = true;
        if (!change.is_flush()) rate_.foreground(now_, now_ - change.came);
        if (change.client_id) {
            answer(*change.client_id, change.error ? Result<>(fail(*change.error)) : Result<>());
        }
    }
    if (!change.answered || !change.settled || !change.local_done) return;
    if (change.log_held) {
        disks_[change.disk].record.log().release(change.first_extent(), change.extents());
    }
    changes_.erase(entry);
}

void Node::local_done(LocalDone&& done) {
    const auto found = actions_.find(done.ticket);
    FT_CHECK(found != actions_.end(), "store operation {} was not asked for", done.ticket);
    LocalAction action = std::move(found->second);
    actions_.erase(found);
    if (action.holds_lock) disks_[action.disk].lock.unlock(done.ticket);
    switch (action.kind) {
        case LocalAction::Kind::client_read:
            client_read_done(std::move(action), std::move(done.result));
            break;
        case LocalAction::Kind::change:
            change_local_done(action.id, std::move(done.result));
            break;
        case LocalAction::Kind::run_read:
            run_read(std::move(action), std::move(done.result));
            break;
        case LocalAction::Kind::extents:
            extents_known(std::move(action), std::move(done));
            break;
        case LocalAction::Kind::target_write:
            incoming_done(action.id, std::move(done.result));
            break;
        case LocalAction::Kind::target_flush:
            target_flush_done(std::move(action), std::move(done.result));
            break;
        case LocalAction::Kind::start_flush:
            --start_flushes_left_;
            if (!done.result) target_failed(action.disk, done.result.error());
            break;
        case LocalAction::Kind::closing_flush:
            --*closing_flushes_left_;
            if (!done.result) detach(action.disk, done.result.error());
            break;
        case LocalAction::Kind::log_flush:
            log_flush_done(action.disk, done.result);
            break;
        case LocalAction::Kind::target_digests:
            digests_read(std::move(action), std::move(done.result));
            break;
        case LocalAction::Kind::old_block:
            old_block_read(std::move(action), std::move(done.result));
            break;
        case LocalAction::Kind::view_read:
            view_part_done(action.id, std::move(done.result));
            break;
        case LocalAction::Kind::put_back:
        case LocalAction::Kind::return_flush:
            return_step_done(action.disk, std::move(done.result));
            break;
        case LocalAction::Kind::served_read: {
            const bool read = done.result.has_value();
            const uint16_t code = read ? 0 : static_cast<uint16_t>(done.result.error().code);
            if (action.link_life == link_life_ && link_ == LinkState::streaming) {
                send(frame_of(SyncType::read_answer, action.disk,
                              wire::SyncReadAnswer{action.id, code},
                              read ? action.data : SharedBytes()));
            }
            break;
        }
    }
    pump();
}

}  // namespace antipode::disksync
