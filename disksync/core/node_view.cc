// Node: the last consistent point, for readers.
//
// In a resync that keeps an undo log, and after one that broke off: what was overwritten is read
// from the log, the rest from the store. Outside a resync, while nothing comes from the peer and
// nobody writes here: the store as it is.
//
// A range that is read from the store is locked until it has been read, and nothing is overwritten
// before its old contents are in the log: a reader gets one or the other, and both are the same.
#include <algorithm>
#include <cstring>

#include "common/base/check.h"
#include "disksync/core/node.h"

namespace antipode::disksync {

namespace {

constexpr uint64_t kViewBytesMax = uint64_t{32} << 20;  // being read; the others wait

// What a read holds at most: of a block in the log, all is read.
uint64_t memory_of(const ViewRead& read) {
    return read.length_bytes + blocks_of(read.offset_bytes, read.length_bytes).count * kBlockBytes;
}

}  // namespace

NoPoint::Why Node::why_no_point_of(const Disk& disk) const {
    const Superblock& superblock = disk.record.superblock();
    if (disk.detached()) return NoPoint::Why::failed;
    if (superblock.generations.current == Generation()) return NoPoint::Why::never_whole;
    if (disk.overlaid()) return NoPoint::Why::there_is;
    if (superblock.state == DiskState::inconsistent) return NoPoint::Why::not_kept;
    return streaming_in() ? NoPoint::Why::follows : NoPoint::Why::there_is;
}

// With every input: no text is made here.
NoPoint Node::look_for_point() const {
    using Why = NoPoint::Why;
    if (is_primary()) return {Why::primary, 0};
    bool overlaid = false;
    bool whole = false;
    bool of_this_connection = true;
    for (uint16_t index = 0; index < disks_.size(); ++index) {
        const Disk& disk = disks_[index];
        if (const Why why = why_no_point_of(disk); why != Why::there_is) return {why, index};
        (disk.overlaid() ? overlaid : whole) = true;
        if (disk.overlaid()) of_this_connection &= disk.undo.link_life == link_life_;
    }
    if (whole && (!incoming_.empty() || running_ != 0)) return {Why::draining, 0};
    // Between the `begin` of one disk and that of the next, nothing has been overwritten.
    const bool begins = link_ == LinkState::comparing && of_this_connection;
    if (overlaid && whole && !begins) return {Why::mixed, 0};
    return {};
}

Error Node::point_error(const NoPoint& none) const {
    const Disk& disk = disks_[none.disk];
    std::string text = fmt::format("disk {}: ", disk.record.superblock().disk);
    Errc code = Errc::denied;
    switch (none.why) {
        case NoPoint::Why::there_is:
            return {Errc::busy, "there is a consistent point"};
        case NoPoint::Why::primary:
            return {code, "this site is primary: the disk itself is served"};
        case NoPoint::Why::failed:
            text += "has failed: " + disk.reason;
            break;
        case NoPoint::Why::never_whole:
            text += "has no consistent point yet: its first full sync has not ended";
            break;
        case NoPoint::Why::not_kept:
            text +=
                "has no consistent point until its resync has ended: what that overwrites is not "
                "kept (keep_undo, undo_bytes_max, or see the events)";
            break;
        case NoPoint::Why::follows:
            text +=
                "follows the peer and changes at any moment; it stands still after disksync "
                "disconnect";
            break;
        case NoPoint::Why::draining:
            return {Errc::busy, "what came before the connection ended is still being written"};
        case NoPoint::Why::mixed:
            return {Errc::busy,
                    "the disks of the group are at different points: some are whole, others in "
                    "their resync"};
    }
    return {code, std::move(text)};
}

Result<> Node::why_no_point() const {
    const NoPoint none = look_for_point();
    if (none.why == NoPoint::Why::there_is) return {};
    return fail(point_error(none));
}

// What belonged to a point that has passed is refused from here on.
void Node::watch_point() {
    const NoPoint none = look_for_point();
    const bool there_is = none.why == NoPoint::Why::there_is;
    if (point_is_there_ && !there_is) {
        ++point_number_;
        point_ended_ = point_error(none).context;
    }
    point_is_there_ = there_is;
}

std::optional<uint64_t> Node::point() const {
    return point_is_there_ ? std::optional(point_number_) : std::nullopt;
}

PointStatus Node::point_status() const {
    PointStatus status;
    const Result<> why = why_no_point();
    if (!why) {
        status.reason = why.error().context;
        status.soon = why.error().code == Errc::busy;
        return status;
    }
    status.number = point_number_;
    status.seconds = point_seconds_;
    for (const Disk& disk : disks_) {
        status.not_before_seconds =
            std::max(status.not_before_seconds, disk.record.superblock().generation_time_seconds);
    }
    return status;
}

// ---- reads

void Node::read_view(ViewRead&& read) {
    if (read.disk >= disks_.size()) {
        return answer(read.id,
                      fail(Errc::invalid_argument, "disk {} of {}", read.disk, disks_.size()));
    }
    const Superblock& superblock = disks_[read.disk].record.superblock();
    const bool fits = read.length_bytes != 0 && read.length_bytes <= wire::kSyncDataBytesMax &&
                      read.offset_bytes <= superblock.size_bytes &&
                      read.length_bytes <= superblock.size_bytes - read.offset_bytes;
    if (!fits) {
        return answer(
            read.id,
            fail(Errc::invalid_argument, "disk {}: a view's read of {} bytes at {}, of {}",
                 superblock.disk, read.length_bytes, read.offset_bytes, superblock.size_bytes));
    }
    views_waiting_.push_back(std::move(read));
    pump();
}

void Node::pump_views() {
    watch_point();
    while (!views_waiting_.empty()) {
        const ViewRead& first = views_waiting_.front();
        if (!point_is_there_ || first.point != point_number_) {
            answer(first.id,
                   fail(Errc::closed,
                        "disk {}: the consistent point of this view has passed ({}); "
                        "open it anew for the next one",
                        disks_[first.disk].record.superblock().disk,
                        point_ended_.empty() ? "the service was restarted" : point_ended_));
        } else if (!start_view(first)) {
            return;
        }
        views_waiting_.pop_front();
    }
}

// False: it has to wait.
bool Node::start_view(const ViewRead& read) {
    Disk& disk = disks_[read.disk];
    if (view_bytes_ != 0 && view_bytes_ + memory_of(read) > kViewBytesMax) return false;
    std::vector<UndoLog::Piece> pieces(1);
    if (disk.overlaid()) {
        pieces = disk.undo.log->pieces(read.offset_bytes, read.length_bytes);
    } else {
        pieces.front().offset_bytes = read.offset_bytes;
        pieces.front().length_bytes = read.length_bytes;
    }
    for (const UndoLog::Piece& piece : pieces) {
        if (piece.from == UndoLog::Piece::From::store &&
            disk.lock.conflicts(piece.offset_bytes, piece.length_bytes, ExtentLock::Kind::reader)) {
            return false;
        }
    }
    const uint64_t number = next_view_++;
    View& view = views_[number];
    view.read = read;
    view.data = SharedBytes::make(read.length_bytes);
    view_bytes_ += memory_of(read);
    for (const UndoLog::Piece& piece : pieces) read_piece(number, view, piece);
    if (view.parts_left == 0) view_done(number);
    return true;
}

void Node::read_piece(uint64_t number, View& view, const UndoLog::Piece& piece) {
    const uint16_t index = view.read.disk;
    SharedBytes into =
        view.data.part(piece.offset_bytes - view.read.offset_bytes, piece.length_bytes);
    switch (piece.from) {
        case UndoLog::Piece::From::zeroes:
            std::memset(into.data(), 0, into.size());
            return;
        case UndoLog::Piece::From::log:
            ++view.parts_left;
            return read_log({number, index, piece, {}});
        case UndoLog::Piece::From::store:
            break;
    }
    ++view.parts_left;
    LocalAction action;
    action.kind = LocalAction::Kind::view_read;
    action.disk = index;
    action.id = number;
    action.holds_lock = true;
    LocalIo io;
    io.operation = StoreOperation::read;
    io.offset_bytes = piece.offset_bytes;
    io.length_bytes = piece.length_bytes;
    io.data = std::move(into);
    const Ticket ticket = local(std::move(action), std::move(io));
    const bool locked = disks_[index].lock.try_lock(ticket, piece.offset_bytes, piece.length_bytes,
                                                    ExtentLock::Kind::reader);
    FT_CHECK(locked, "a range without conflicts is locked");
}

// A block of the undo log, whole: only so its digest can be looked at.
void Node::read_log(LogRead&& read) {
    const Ticket ticket = next_ticket_++;
    read.data = SharedBytes::make(read.piece.place.length_bytes);
    FileIo io;
    io.ticket = ticket;
    io.disk = read.disk;
    io.file = FileIo::File::undo;
    io.read_at = read.piece.place.offset_bytes;
    io.data = read.data;
    log_reads_.emplace(ticket, std::move(read));
    outputs_.files.push_back(std::move(io));
}

void Node::log_read_done(LogRead&& read, Result<> result) {
    const Name name = disks_[read.disk].record.superblock().disk;
    if (result) {
        result = UndoLog::check(fmt::format("of disk {}", name), read.piece.block, read.piece.place,
                                read.data.span());
    }
    if (!read.view) return put_back(std::move(read), std::move(result));
    View& view = views_.at(*read.view);
    if (result) {
        std::byte* into = view.data.data() + (read.piece.offset_bytes - view.read.offset_bytes);
        std::memcpy(into, read.data.data() + read.piece.skip_bytes, read.piece.length_bytes);
    }
    view_part_done(*read.view, std::move(result));
}

void Node::view_part_done(uint64_t number, Result<> result) {
    View& view = views_.at(number);
    if (!result) view.error = std::move(result).error();
    if (--view.parts_left == 0) view_done(number);
}

// What was begun at a point that has passed meanwhile is still of that point: the old contents were
// locked, or are read from the log before it is removed.
void Node::view_done(uint64_t number) {
    const View view = std::move(views_.at(number));
    views_.erase(number);
    view_bytes_ -= memory_of(view.read);
    if (!view.error) return answer(view.read.id, {}, view.data);
    const Name name = disks_[view.read.disk].record.superblock().disk;
    answer(view.read.id, fail(view.error->code, "disk {}: its consistent point cannot be read: {}",
                              name, view.error->context));
}

}  // namespace antipode::disksync
