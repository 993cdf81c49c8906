// Node: who is primary: promotion, demotion, fencing.
#include <algorithm>

#include "common/wire/checksum.h"
#include "disksync/core/node.h"

namespace antipode::disksync {

namespace {

constexpr uint8_t kTurnVersion = 3;  // of the peer's frames

}  // namespace

Result<> Node::promote(Force force, Epoch epoch) {
    if (is_primary() || promoting_) return {};
    if (streaming_in() && disks_.front().peer.role == DiskRole::primary) {
        return fail(Errc::busy, "the peer is primary; demote it first");
    }
    for (const Disk& disk : disks_) {
        const Superblock& superblock = disk.record.superblock();
        if (disk.undo.starting) {
            return fail(Errc::denied, "disk {}: the peer has newer data, and a resync begins",
                        superblock.disk);
        }
        switch (superblock.state) {
            case DiskState::up_to_date:
            case DiskState::consistent:
                break;
            case DiskState::outdated:
                if (force == Force::yes) break;
                return fail(Errc::denied, "disk {} is Outdated: the peer has newer data",
                            superblock.disk);
            case DiskState::inconsistent:
                if (force == Force::yes && superblock.generations.current == Generation()) break;
                return fail(
                    Errc::denied,
                    "disk {} is Inconsistent: a resync has not ended; undo it first, or say "
                    "that its contents are to be taken as they are when it is created",
                    superblock.disk);
            case DiskState::failed:
            case DiskState::diskless:
                return fail(Errc::denied, "disk {} is {}", superblock.disk,
                            to_string(superblock.state));
        }
    }
    Epoch granted = epoch;
    for (const Disk& disk : disks_) {
        const Epoch seen = disk.record.superblock().epoch;
        if (epoch == Epoch()) granted = std::max(granted, seen.next());
        if (epoch != Epoch() && epoch < seen) {
            return fail(Errc::stale_epoch, "promote with epoch {}, but epoch {} has been seen",
                        epoch, seen);
        }
    }
    promoting_ = true;
    for (uint16_t index = 0; index < disks_.size(); ++index) {
        Superblock next = disks_[index].record.superblock();
        next.epoch = granted;
        change_record(index, next);
    }
    pump();
    return {};
}

// Once everything that the former primary sent has been applied.
void Node::finish_promotion() {
    if (!promoting_) return;
    if (turn_asked_ && now_ < turn_until_) return;
    if (turn_asked_) part_from_peer("it does not answer");
    if (!incoming_.empty() || running_ != 0 || flushing_) return;
    if (std::any_of(disks_.begin(), disks_.end(),
                    [](const Disk& disk) { return disk.detached(); })) {
        promoting_ = false;
        event(NodeEvent::Weight::error, 0, "role", "not promoted: a disk has failed meanwhile");
        return;
    }
    if (link_ == LinkState::streaming) {
        const auto waits_for_record = [](const Disk& disk) {
            return disk.begin_sequence != 0 || disk.adopt_sequence != 0;
        };
        if (std::any_of(disks_.begin(), disks_.end(), waits_for_record)) return;
        if (may_turn()) return ask_for_turn();
        part_from_peer(peer_version_ < kTurnVersion ? "it is of an older version"
                                                    : "the copies are not equal");
    }
    become_primary();
    if (link_ != LinkState::down) drop_link("promoted");
}

void Node::become_primary() {
    promoting_ = fenced_ = turn_asked_ = false;
    const bool parted = std::exchange(parted_together_, false);
    const bool has_peer = link_ == LinkState::streaming || parted;
    for (uint16_t index = 0; index < disks_.size(); ++index) {
        Disk& disk = disks_[index];
        Superblock next = disk.record.superblock();
        next.role = DiskRole::primary;
        next.open_for_writing = true;
        next.state = DiskState::up_to_date;
        // Alone: nobody else has what will be written here. Together: the peer gets it as well, or
        // the first write without it begins one.
        if ((!has_peer && next.generation_shared) || next.generations.current == Generation()) {
            start_generation(next.generations, Generation(random_.next() | 2));
            next.generation_shared = false;
            next.generation_time_seconds = wall_seconds_;
        }
        disk.role_sequence = change_record(index, next);
        event(NodeEvent::Weight::info, index, "role",
              fmt::format("secondary -> primary epoch={}", next.epoch));
    }
}

// ---- a promotion within a connection

uint64_t Node::checksum_of_generations() const {
    std::vector<uint64_t> current;
    for (const Disk& disk : disks_) {
        current.push_back(disk.record.superblock().generations.current.value());
    }
    return wire::checksum64(std::as_bytes(std::span(current)));
}

// Equal, whole, and nothing on its way that belongs to the stream's direction.
bool Node::is_at_rest() const {
    return window_.empty() && incoming_.empty() && changes_.empty() && running_ == 0 &&
           !flushing_ && std::all_of(disks_.begin(), disks_.end(), [](const Disk& disk) {
               const Superblock& superblock = disk.record.superblock();
               const NodeSource& source = disk.source;
               return superblock.state == DiskState::up_to_date && superblock.generation_shared &&
                      superblock.generations.bases.front() == Generation() &&
                      disk.record.bitmap().count() == 0 && disk.begin_sequence == 0 &&
                      disk.adopt_sequence == 0 && disk.share_sequence == 0 && !source.resync &&
                      !source.verify && source.read_bytes == 0;
           });
}

// Whether the peer is to be asked: it receives already, or the stream can turn round.
bool Node::may_turn() const {
    return peer_version_ >= kTurnVersion && (sending_ || (together() && is_at_rest()));
}

void Node::ask_for_turn() {
    if (!sending_ && (undurable_since_ || own_.durable < own_.received)) return flush_target(true);
    // Behind this, the peer takes no acknowledgement any more.
    acknowledge();
    turn_asked_ = true;
    turn_until_ = now_ + config_.promotion_wait;
    send(frame_of(SyncType::turn, 0, wire::SyncTurn{checksum_of_generations()}));
}

// The promotion goes on without it; it is met again, as primary.
void Node::part_from_peer(const std::string& why) {
    event(NodeEvent::Weight::info, 0, "link",
          "the peer does not follow a promotion within the connection: " + why);
    parted_together_ = together();
    if (parted_together_ && config_.mode != Mode::async) {
        waits_for_peer_until_ = turn_asked_ ? turn_until_ : now_ + config_.promotion_wait;
    }
    drop_link("promoted");
}

// The peer becomes primary. What of ours has begun has to end first, so it is met again then.
std::optional<Errc> Node::why_not_turn(const SyncFrame& frame) const {
    if (frame.epoch < disks_.front().record.superblock().epoch) return Errc::stale_epoch;
    if (is_primary() || promoting_ || demoting_) return Errc::busy;
    if (!sending_) return std::nullopt;
    const auto& turn = std::get<wire::SyncTurn>(frame.body);
    if (is_at_rest() && turn.generations == checksum_of_generations()) return std::nullopt;
    return Errc::busy;
}

void Node::on_turn(const SyncFrame& frame) {
    if (link_ != LinkState::streaming) {
        return protocol_error("a turn of a connection that has not begun");
    }
    if (const auto why = why_not_turn(frame)) {
        return send(frame_of(SyncType::turned, 0, wire::SyncTurned{static_cast<uint16_t>(*why)}));
    }
    if (sending_) turn_stream(false);
    raise_epoch(frame.epoch);
    for (Disk& disk : disks_) {
        disk.peer.role = DiskRole::primary;
        disk.peer.epoch = frame.epoch;
    }
    // The answer has to wait until that epoch is on record: from it on, the old one is refused.
    turn_owed_ = true;
}

void Node::answer_turn() {
    if (!turn_owed_ || !records_durable()) return;
    turn_owed_ = false;
    send(frame_of(SyncType::turned, 0, wire::SyncTurned{}));
}

void Node::on_turned(const SyncFrame& frame) {
    if (!turn_asked_) return protocol_error("an answer to a turn that was not asked");
    const uint16_t code = std::get<wire::SyncTurned>(frame.body).code;
    if (code != 0) return part_from_peer(std::string(to_string(static_cast<Errc>(code))));
    if (!sending_) turn_stream(true);
    become_primary();
}

// Both numberings begin anew.
void Node::turn_stream(bool sending) {
    sending_ = sending;
    ++link_life_;
    sequence_ = barrier_ = 0;
    peer_ = own_ = acknowledged_ = {};
    answered_since_frame_ = false;
    digests_asked_.clear();
    for (Disk& disk : disks_) {
        const bool paused = disk.source.paused;
        disk.source = NodeSource();
        disk.source.paused = paused;
        disk.peer.generations = disk.record.superblock().generations;
        disk.peer.state = DiskState::up_to_date;
        disk.peer.role = DiskRole::secondary;
        disk.peer.marked_blocks = 0;
        disk.peer.crashed_primary = false;
    }
    event(NodeEvent::Weight::info, 0, "link",
          sending ? "turned round, sending" : "turned round, receiving");
}

void Node::on_demoted() {
    if (!streaming_in()) return protocol_error("demoted without having been primary");
    for (Disk& disk : disks_) disk.peer.role = DiskRole::secondary;
}

// After a crash the activity log counts only where it is on record that this site was primary.
bool Node::role_is_recorded() const {
    return std::all_of(disks_.begin(), disks_.end(), [](const Disk& disk) {
        return disk.record.durable_sequence() >= disk.role_sequence;
    });
}

// Both copies are whole, and every change goes to both.
bool Node::together() const {
    return link_ == LinkState::streaming &&
           std::all_of(disks_.begin(), disks_.end(), [](const Disk& disk) {
               return disk.record.superblock().state == DiskState::up_to_date &&
                      disk.peer.state == DiskState::up_to_date;
           });
}

// A promotion parted two copies that were together: in the modes that promise that the peer has
// what is answered, writes wait until the two have met again, or until that takes too long.
bool Node::waits_for_peer() {
    if (!waits_for_peer_until_) return false;
    const bool in_time = now_ < *waits_for_peer_until_;
    if (is_primary() && config_.mode != Mode::async && link_ != LinkState::streaming &&
        link_ != LinkState::halted && in_time) {
        return true;
    }
    waits_for_peer_until_.reset();
    if (is_primary() && !in_time && link_ != LinkState::streaming) {
        event(NodeEvent::Weight::warn, 0, "promotion-wait",
              "the peer has not come back since the promotion: going on without it");
    }
    return false;
}

Result<> Node::demote() {
    if (!is_primary()) return {};
    demoting_ = true;
    // What counts as closed has to be on the disk; and the peer gets a last flush as well.
    for (uint16_t index = 0; index < disks_.size(); ++index) {
        Change flush;
        flush.id = next_change_++;
        flush.disk = index;
        flush.operation = StoreOperation::flush;
        flush.came = now_;
        add_change(std::move(flush));
    }
    pump();
    return {};
}

// A change is gone when it is done here and durable at the peer, or marked. The flush that came
// with the demotion covers only what had been done by then.
void Node::finish_demotion() {
    if (!demoting_ || !changes_.empty() || !is_primary()) return;
    // From here on the activity log does not count: a power failure must not take anything away.
    if (!closing_flushes_left_) {
        closing_flushes_left_ = flush_stores(LocalAction::Kind::closing_flush);
    }
    if (*closing_flushes_left_ != 0) return;
    closing_flushes_left_.reset();
    demoting_ = false;
    point_seconds_ = wall_seconds_;
    for (uint16_t index = 0; index < disks_.size(); ++index) {
        Superblock next = disks_[index].record.superblock();
        next.role = DiskRole::secondary;
        next.open_for_writing = false;
        disks_[index].record.crash_dealt_with();
        disks_[index].record.write_bitmap();
        change_record(index, next, DiskRecord::Order::after_bitmap);
        event(NodeEvent::Weight::info, index, "role", "primary -> secondary");
    }
    // The peer hears of it, and the stream stays as it is.
    const bool stays = streaming_out() && !fenced_ && peer_version_ >= kTurnVersion &&
                       std::none_of(disks_.begin(), disks_.end(),
                                    [](const Disk& disk) { return disk.detached(); });
    if (stays) {
        send(frame_of(SyncType::demoted, 0, wire::SyncDemoted{}));
    } else if (link_ != LinkState::down) {
        drop_link("demoted");
    }
}

void Node::fence(Epoch epoch) {
    raise_epoch(epoch);
    pump();
}

void Node::raise_epoch(Epoch epoch) {
    bool raised = false;
    for (uint16_t index = 0; index < disks_.size(); ++index) {
        Superblock next = disks_[index].record.superblock();
        if (next.epoch >= epoch) continue;
        raised = true;
        next.epoch = epoch;
        change_record(index, next);
    }
    if (raised && std::exchange(promoting_, false)) {
        turn_asked_ = false;
        event(NodeEvent::Weight::warn, 0, "role",
              fmt::format("not promoted: epoch {} has been granted elsewhere", epoch));
    }
    if (raised && is_primary() && !fenced_) {
        fenced_ = true;
        demoting_ = true;
        event(NodeEvent::Weight::error, 0, "fenced",
              fmt::format("epoch {} has been granted elsewhere: this site stops writing", epoch));
        // What waits has not begun, and never will.
        for (const uint64_t id : waiting_) {
            Change& change = changes_.at(id);
            change.error =
                Error{Errc::stale_epoch, "the disk has been taken over by the other site"};
            change.local_done = change.started = change.settled = true;
        }
        unanswered_.merge(waiting_);
        all_touched_ = true;
    }
}

}  // namespace antipode::disksync
