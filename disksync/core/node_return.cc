// Node: back to the last consistent point, while it is served, and on from there.
//
// The same steps as `disksync undo` takes with a copy that is not served. A crash in between leaves
// the copy Inconsistent with its undo log, so that it can be done again, or the resync goes on,
// with the marks. Views stay as they are all the while: what is put back is what they show.
#include <algorithm>

#include "common/base/check.h"
#include "disksync/core/node.h"

namespace antipode::disksync {

namespace {

constexpr uint32_t kPutBackAtOnce = 32;  // blocks

}  // namespace

Result<> Node::promote_at_point(Epoch epoch) {
    if (is_primary()) return fail(Errc::denied, "this site is primary already");
    if (returning_) return fail(Errc::busy, "the copy is on its way back already");
    FT_TRY_VOID(why_no_point());
    if (link_ != LinkState::down && link_ != LinkState::halted) {
        return fail(Errc::denied,
                    "the peer is there and its resync goes on; if this copy is to go on from its "
                    "last consistent point all the same: disksync disconnect first");
    }
    const bool overlaid =
        std::any_of(disks_.begin(), disks_.end(), [](const Disk& disk) { return disk.overlaid(); });
    if (!overlaid) return promote(Force::yes, epoch);
    for (const Disk& disk : disks_) {
        const Epoch seen = disk.record.superblock().epoch;
        if (epoch != Epoch() && epoch < seen) {
            return fail(Errc::stale_epoch, "promote with epoch {}, but epoch {} has been seen",
                        epoch, seen);
        }
    }
    return_failed_.clear();
    returning_.emplace();
    returning_->point = point_number_;
    returning_->epoch = epoch;
    returning_->parts.resize(disks_.size());
    pump();
    return {};
}

void Node::pump_return() {
    if (!returning_) return;
    if (returning_->error) {
        if (returning_->under_way != 0) return;
        return_failed_ = returning_->error->context;
        returning_.reset();
        return event(NodeEvent::Weight::error, 0, "undo",
                     "the way back to the last consistent point was broken off: " + return_failed_);
    }
    switch (returning_->step) {
        case NodeReturn::Step::draining:
            return mark_for_return();
        case NodeReturn::Step::marking:
            if (!return_is_recorded()) return;
            returning_->step = NodeReturn::Step::writing;
            [[fallthrough]];
        case NodeReturn::Step::writing:
            return pump_put_back();
        case NodeReturn::Step::flushing:
            if (returning_->under_way == 0) record_return();
            return;
        case NodeReturn::Step::recording:
            if (return_is_recorded()) finish_return();
            return;
    }
}

bool Node::return_is_recorded() const {
    for (size_t index = 0; index < disks_.size(); ++index) {
        const uint64_t durable = disks_[index].record.durable_sequence();
        if (durable < returning_->parts[index].sequence) return false;
    }
    return true;
}

// What the connection brought is done with, and may have ended the resync after all.
void Node::mark_for_return() {
    const bool busy = !incoming_.empty() || running_ != 0 || flushing_ ||
                      start_flushes_left_ != 0 ||
                      std::any_of(disks_.begin(), disks_.end(), [](const Disk& disk) {
                          return disk.undo.writing || disk.undo.starting ||
                                 disk.begin_sequence != 0 || disk.adopt_sequence != 0;
                      });
    if (busy) return;
    watch_point();
    if (!point_is_there_ || returning_->point != point_number_) {
        returning_->error = Error{Errc::closed, "the point has passed: " + point_ended_};
        return pump_return();
    }
    returning_->step = NodeReturn::Step::marking;
    for (uint16_t index = 0; index < disks_.size(); ++index) {
        Disk& disk = disks_[index];
        NodeReturn::Part& part = returning_->parts[index];
        if (disk.overlaid()) part.blocks = disk.undo.log->blocks();
        if (!part.blocks.empty() && part.blocks.back() >= disk.record.bitmap().block_count()) {
            returning_->error =
                Error{Errc::corrupt, fmt::format("disk {}: its undo log has block {} of {}",
                                                 disk.record.superblock().disk, part.blocks.back(),
                                                 disk.record.bitmap().block_count())};
            return pump_return();
        }
        for (const uint64_t block : part.blocks) disk.record.bitmap().set({block, 1});
        disk.progress = {part.blocks.size(), part.blocks.size(), now_};
        part.sequence =
            change_record(index, disk.record.superblock(), DiskRecord::Order::after_bitmap);
        event(
            NodeEvent::Weight::warn, index, "undo",
            fmt::format("back to generation {:016x}, {} blocks",
                        disk.record.superblock().generations.current.value(), part.blocks.size()));
    }
}

void Node::pump_put_back() {
    bool all = true;
    for (uint16_t index = 0; index < disks_.size(); ++index) {
        NodeReturn::Part& part = returning_->parts[index];
        const UndoLog* log = disks_[index].undo.log ? &*disks_[index].undo.log : nullptr;
        for (; part.next < part.blocks.size(); ++part.next) {
            if (returning_->under_way >= kPutBackAtOnce) return;
            ++returning_->under_way;
            LogRead read;
            read.disk = index;
            read.piece.block = part.blocks[part.next];
            read.piece.place = log->place_of(read.piece.block);
            if (read.piece.place.length_bytes == 0) {
                put_back(std::move(read), {});
            } else {
                read_log(std::move(read));
            }
        }
        all &= part.next == part.blocks.size();
    }
    if (!all || returning_->under_way != 0) return;
    returning_->step = NodeReturn::Step::flushing;
    returning_->under_way = flush_stores(LocalAction::Kind::return_flush);
}

// An old block has been read.
void Node::put_back(LogRead&& read, Result<> result) {
    if (!result) return return_step_done(read.disk, std::move(result));
    const uint64_t size = disks_[read.disk].record.superblock().size_bytes;
    LocalAction action;
    action.kind = LocalAction::Kind::put_back;
    action.disk = read.disk;
    LocalIo io;
    io.offset_bytes = read.piece.block * kBlockBytes;
    io.length_bytes = std::min(kBlockBytes, size - io.offset_bytes);
    io.operation = StoreOperation::write_zeroes;
    if (!read.data.empty()) {
        io.operation = StoreOperation::write;
        io.length_bytes = read.data.size();
        io.data = std::move(read.data);
    }
    local(std::move(action), std::move(io));
}

// Of a store that cannot be written nothing is given up: the log still has everything.
void Node::return_step_done(uint16_t index, Result<> result) {
    FT_CHECK(returning_.has_value(), "disk {}: nothing is on its way back", index);
    --returning_->under_way;
    if (returning_->step == NodeReturn::Step::writing) disks_[index].progress.arrived(1);
    if (result) return;
    Error error = std::move(result).error();
    error.context =
        fmt::format("disk {}: {}", disks_[index].record.superblock().disk, error.context);
    returning_->error = std::move(error);
}

// The contents are again what the current generation names; the peer has newer ones.
void Node::record_return() {
    returning_->step = NodeReturn::Step::recording;
    for (uint16_t index = 0; index < disks_.size(); ++index) {
        Superblock next = disks_[index].record.superblock();
        next.state = DiskState::outdated;
        next.resync_target = Generation();
        next.undo_kept = false;
        returning_->parts[index].sequence = change_record(index, next);
    }
}

void Node::finish_return() {
    const Epoch epoch = returning_->epoch;
    for (uint16_t index = 0; index < disks_.size(); ++index) {
        event(NodeEvent::Weight::info, index, "undo-done",
              fmt::format("{} blocks put back", returning_->parts[index].blocks.size()));
        if (!disks_[index].undo.log) continue;
        disks_[index].undo = NodeUndo();
        undo_io(index, {}, true);
    }
    returning_.reset();
    const auto promoted = promote(Force::yes, epoch);
    if (promoted) return;
    return_failed_ = promoted.error().context;
    event(NodeEvent::Weight::error, 0, "role", "not promoted: " + return_failed_);
}

}  // namespace antipode::disksync
