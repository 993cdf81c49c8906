// Node: meeting the peer, and how far it is.
#include <algorithm>

#include "common/base/check.h"
#include "disksync/core/node.h"

namespace antipode::disksync {

namespace {

wire::SyncGenerations to_wire(const Generations& generations) {
    wire::SyncGenerations made;
    made.current = generations.current.value();
    std::transform(generations.bases.begin(), generations.bases.end(), made.bases.begin(),
                   [](Generation g) { return g.value(); });
    std::transform(generations.history.begin(), generations.history.end(), made.history.begin(),
                   [](Generation g) { return g.value(); });
    return made;
}

SplitPolicies policies_of(const wire::SyncHello& hello) {
    const auto policy = [](uint8_t value) {
        const bool known = value >= 1 && value <= static_cast<uint8_t>(SplitPolicy::lower_epoch);
        return known ? static_cast<SplitPolicy>(value) : SplitPolicy::ask;
    };
    return {policy(hello.split_policies[0]), policy(hello.split_policies[1]),
            policy(hello.split_policies[2])};
}

SyncDirection mirrored(SyncDirection direction) {
    switch (direction) {
        case SyncDirection::none:
            return SyncDirection::none;
        case SyncDirection::we_send:
            return SyncDirection::peer_sends;
        case SyncDirection::peer_sends:
            return SyncDirection::we_send;
    }
    return SyncDirection::none;
}

// Whole; and where both sides have come to it that nothing is newer, as good as UpToDate.
bool may_be_newest(DiskState state) {
    return state == DiskState::consistent || state == DiskState::outdated;
}

// Not of an epoch that has passed. The others only say how it stands between the two.
bool is_of_data(SyncType type) {
    switch (type) {
        case SyncType::hello:
        case SyncType::failed:
        case SyncType::goodbye:
        case SyncType::ping:
        case SyncType::pong:
        case SyncType::turn:
        case SyncType::turned:
        case SyncType::demoted:
            return false;
        default:
            return true;
    }
}

}  // namespace

Generations generations_of(const wire::SyncGenerations& generations) {
    Generations made;
    made.current = Generation(generations.current);
    std::transform(generations.bases.begin(), generations.bases.end(), made.bases.begin(),
                   [](uint64_t value) { return Generation(value); });
    std::transform(generations.history.begin(), generations.history.end(), made.history.begin(),
                   [](uint64_t value) { return Generation(value); });
    return made;
}

SyncFrame Node::frame_of(SyncType type, uint16_t disk, wire::SyncBody body, SharedBytes payload) {
    SyncFrame frame;
    frame.type = type;
    frame.disk = disk;
    frame.pair = pair_id_;
    frame.epoch = disks_[disk].record.superblock().epoch;
    frame.body = std::move(body);
    frame.payload = std::move(payload);
    return frame;
}

// A frame that the peer acknowledges; remembered until it is durable there.
uint64_t Node::send_change_frame(SyncFrame&& frame, Sent&& sent) {
    frame.sequence = sent.sequence = ++sequence_;
    frame.barrier = barrier_;
    sent.bytes = frame.payload.size();
    backlog_bytes_ += sent.bytes;
    window_.push_back(std::move(sent));
    send(std::move(frame));
    return sequence_;
}

// ---- hello

void Node::connected() {
    link_down("connected anew");
    link_reason_.clear();
    ++link_life_;
    link_ = LinkState::greeting;
    heard_ = now_;
    pinged_ = false;
    link_queue_bytes_ = 0;
    sequence_ = 0;
    peer_ = {};
    for (Disk& disk : disks_) {
        disk.greeted = disk.bitmap_complete = false;
        disk.reason = disk.detached() ? disk.reason : std::string();
    }
    // What the former connection brought is applied first: it may change what we say of ourselves.
    greet_when_drained_ = true;
    pump();
}

// What the former connection brought is done with.
bool Node::drained() const {
    return incoming_.empty() && running_ == 0 && !flushing_ && !promoting_ && !returning_ &&
           start_flushes_left_ == 0;
}

void Node::greet_if_drained() {
    if (!greet_when_drained_ || !drained()) return;
    // What a resync could be undone to has to be there after a power failure, too.
    if (undurable_since_) return flush_target(true);
    greet_when_drained_ = false;
    own_ = acknowledged_ = {};
    send_hellos();
    greet_done();
}

void Node::send_hellos() {
    for (uint16_t index = 0; index < disks_.size(); ++index) {
        const Disk& disk = disks_[index];
        const Superblock& superblock = disk.record.superblock();
        wire::SyncHello hello;
        hello.pair = superblock.pair;
        hello.disk = superblock.disk;
        hello.disk_count = static_cast<uint16_t>(disks_.size());
        hello.role = static_cast<uint8_t>(superblock.role);
        hello.state = static_cast<uint8_t>(superblock.state);
        hello.mode = static_cast<uint8_t>(config_.mode);
        hello.crashed_primary = disk.record.crashed_primary();
        hello.discard_mine = superblock.discard_mine;
        hello.split_policies = {static_cast<uint8_t>(config_.split.no_primary),
                                static_cast<uint8_t>(config_.split.one_primary),
                                static_cast<uint8_t>(config_.split.two_primaries)};
        hello.id = superblock.id.value();
        hello.peer_id = superblock.peer_id.value();
        hello.size_bytes = superblock.size_bytes;
        hello.marked_blocks = disk.record.bitmap().count();
        hello.generation_time_seconds = superblock.generation_time_seconds;
        hello.resync_target = superblock.resync_target.value();
        hello.generations = to_wire(superblock.generations);
        send(frame_of(SyncType::hello, index, hello));
    }
}

CopyView Node::own_view(const Disk& disk) const {
    const Superblock& superblock = disk.record.superblock();
    CopyView view;
    view.id = superblock.id;
    view.generations = superblock.generations;
    view.role = superblock.role;
    view.state = superblock.state;
    view.epoch = superblock.epoch;
    view.size_bytes = superblock.size_bytes;
    view.crashed_primary = disk.record.crashed_primary();
    view.marked_blocks = disk.record.bitmap().count();
    view.generation_time_seconds = superblock.generation_time_seconds;
    return view;
}

bool Node::hello_fits(const SyncFrame& frame) {
    const auto& hello = std::get<wire::SyncHello>(frame.body);
    if (link_ != LinkState::greeting) {
        protocol_error("a hello in the middle of a connection");
        return false;
    }
    if (hello.disk_count != disks_.size() || frame.disk >= disks_.size()) {
        halt(fmt::format("the peer has {} disks in its group, this site has {}", hello.disk_count,
                         disks_.size()));
        return false;
    }
    const Disk& disk = disks_[frame.disk];
    const Superblock& superblock = disk.record.superblock();
    if (hello.disk != superblock.disk || hello.pair != superblock.pair) {
        halt(fmt::format("the peer's disk {} is {} of pair {}, this site's is {} of {}", frame.disk,
                         hello.disk, hello.pair, superblock.disk, superblock.pair));
        return false;
    }
    if (DiskId(hello.id) == superblock.id) {
        halt(fmt::format("disk {}: the peer's copy has the id of this one: its metadata was copied",
                         superblock.disk));
        return false;
    }
    const bool states_known = hello.role >= 1 && hello.role <= 2 && hello.state >= 1 &&
                              hello.state <= static_cast<uint8_t>(DiskState::diskless) &&
                              hello.mode >= 1 && hello.mode <= 3;
    if (disk.greeted || !states_known) {
        protocol_error("a hello that makes no sense");
        return false;
    }
    return true;
}

void Node::on_hello(const SyncFrame& frame) {
    if (!hello_fits(frame)) return;
    const auto& hello = std::get<wire::SyncHello>(frame.body);
    Disk& disk = disks_[frame.disk];
    disk.greeted = true;
    disk.hello = hello;
    CopyView& peer = disk.peer;
    peer.id = DiskId(hello.id);
    peer.generations = generations_of(hello.generations);
    peer.role = static_cast<DiskRole>(hello.role);
    peer.state = static_cast<DiskState>(hello.state);
    peer.epoch = frame.epoch;
    peer.size_bytes = hello.size_bytes;
    peer.crashed_primary = hello.crashed_primary;
    peer.marked_blocks = hello.marked_blocks;
    peer.generation_time_seconds = hello.generation_time_seconds;
    disk.peer_known = true;
    peer_mode_ = static_cast<Mode>(hello.mode);
    peer_version_ = frame.version;
    greet_done();
}

// When both sides have said everything.
void Node::greet_done() {
    if (greet_when_drained_ || link_ != LinkState::greeting) return;
    if (!std::all_of(disks_.begin(), disks_.end(), [](const Disk& disk) { return disk.greeted; })) {
        return;
    }
    Epoch highest;
    for (const Disk& disk : disks_) highest = std::max(highest, disk.peer.epoch);
    // A primary that learns of a higher epoch has been taken over from. It stops, and meets the
    // peer again as what it is then.
    const Epoch own = disks_.front().record.superblock().epoch;
    const bool was_primary = is_primary();
    raise_epoch(highest);
    if (was_primary && own < highest) {
        return drop_link("a higher epoch has been granted elsewhere");
    }
    begin_comparing();
}

// Where a resync broke off: from whom. Who had won by policy was decided by what both had marked
// before it began; what is marked in the middle of it would say something else.
SyncDirection Node::direction_broken_off(const Disk& disk) const {
    const Superblock& own = disk.record.superblock();
    const CopyView& peer = disk.peer;
    const auto comes_from = [](Generation target, const Generations& source) {
        return target != Generation() && (target == source.current || is_base(source, target));
    };
    const bool we_receive =
        own.state == DiskState::inconsistent && comes_from(own.resync_target, peer.generations);
    const bool peer_receives = peer.state == DiskState::inconsistent &&
                               comes_from(Generation(disk.hello.resync_target), own.generations);
    if (we_receive == peer_receives) return SyncDirection::none;
    return we_receive ? SyncDirection::peer_sends : SyncDirection::we_send;
}

// What to do for one disk, with everything that policies and operators have said.
SyncDecision Node::decide_disk(Disk& disk) {
    CopyView own = own_view(disk);
    CopyView peer = disk.peer;
    // A primary without a disk of its own: the peer's serves, and there is nothing to compare.
    if (own.state == DiskState::failed && own.role == DiskRole::primary) {
        return {SyncKind::none, SyncDirection::we_send, false, "the disk has failed here"};
    }
    if (peer.state == DiskState::failed && peer.role == DiskRole::primary) {
        return {SyncKind::none, SyncDirection::peer_sends, false, "the peer's disk has failed"};
    }
    if (own.state == DiskState::failed || peer.state == DiskState::failed) {
        return {SyncKind::refused, SyncDirection::none, false,
                "a disk has failed and is not primary"};
    }
    SyncDecision decision = decide(own, peer);
    if (decision.kind != SyncKind::split_brain) return decision;
    SyncDirection direction = SyncDirection::none;
    const bool own_gives_way = disk.record.superblock().discard_mine;
    const bool peer_gives_way = disk.hello.discard_mine;
    if (own_gives_way != peer_gives_way) {
        direction = own_gives_way ? SyncDirection::peer_sends : SyncDirection::we_send;
    } else if (direction = direction_broken_off(disk); direction == SyncDirection::none) {
        // Both sides' policies have to come to the same, or an operator decides.
        const SyncDirection ours = resolve_split(config_.split, own, peer);
        const SyncDirection theirs = mirrored(resolve_split(policies_of(disk.hello), peer, own));
        if (ours == theirs) direction = ours;
    }
    const CopyView& target = direction == SyncDirection::we_send ? peer : own;
    const CopyView& source = direction == SyncDirection::we_send ? own : peer;
    if (direction == SyncDirection::none) return decision;
    if (target.role == DiskRole::primary) {
        decision.reason = "split brain, and the side that gives way is primary: demote it";
        return decision;
    }
    if (source.state == DiskState::inconsistent) {
        decision.reason = "split brain, and the side that wins is in the middle of a resync";
        return decision;
    }
    decision.kind = decision.blocks_known ? SyncKind::blocks : SyncKind::full;
    decision.direction = direction;
    decision.reason = "split brain, resolved";
    return decision;
}

// Who sends where nothing is to be sent: a primary, or else whoever does not stand right before the
// end of a resync. Both sides come to the same.
SyncDirection Node::direction_of_equals() const {
    const CopyView own = own_view(disks_.front());
    const CopyView& peer = disks_.front().peer;
    bool we_send = own.id > peer.id;
    const bool own_ends = std::any_of(disks_.begin(), disks_.end(), [](const Disk& disk) {
        return disk.record.superblock().state == DiskState::inconsistent;
    });
    const bool peer_ends = std::any_of(disks_.begin(), disks_.end(), [](const Disk& disk) {
        return disk.peer.state == DiskState::inconsistent;
    });
    if (own_ends != peer_ends) we_send = peer_ends;
    if (own.role != peer.role) we_send = own.role == DiskRole::primary;
    return we_send ? SyncDirection::we_send : SyncDirection::peer_sends;
}

void Node::begin_comparing() {
    SyncDirection direction = SyncDirection::none;
    for (uint16_t index = 0; index < disks_.size(); ++index) {
        Disk& disk = disks_[index];
        disk.decision = decide_disk(disk);
        const SyncDecision& decision = disk.decision;
        const Name name = disk.record.superblock().disk;
        event(NodeEvent::Weight::info, index, "decision",
              fmt::format("{} {}: {}", to_string(decision.kind), to_string(decision.direction),
                          decision.reason));
        const bool goes = decision.kind == SyncKind::none || decision.kind == SyncKind::blocks ||
                          decision.kind == SyncKind::full;
        if (!goes) {
            disk.reason = decision.reason;
            const uint64_t own_bytes = disk.record.superblock().size_bytes;
            if (own_bytes != disk.peer.size_bytes) {
                disk.reason += fmt::format(" ({} bytes here, {} at the peer)", own_bytes,
                                           disk.peer.size_bytes);
            }
            return halt(
                fmt::format("disk {}: {}: {}", name, to_string(decision.kind), disk.reason));
        }
        if (decision.direction == SyncDirection::none) continue;
        if (direction != SyncDirection::none && direction != decision.direction) {
            return halt(
                fmt::format("disk {}: has to go the other way than the group's others", name));
        }
        direction = decision.direction;
    }
    if (direction == SyncDirection::none) direction = direction_of_equals();
    const CopyView own = own_view(disks_.front());
    const CopyView& peer = disks_.front().peer;
    if (own.role == DiskRole::primary && peer.role == DiskRole::primary) {
        return halt("both sites are primary in the same epoch");
    }
    sending_ = direction == SyncDirection::we_send;
    if (!sending_ && own.role == DiskRole::primary) {
        return halt("the peer would send, but this site is primary");
    }
    if (sending_ && peer.role == DiskRole::primary) {
        return halt("this site would send, but the peer is primary");
    }
    link_ = LinkState::comparing;
    for (uint16_t index = 0; index < disks_.size(); ++index) {
        Disk& disk = disks_[index];
        Superblock next = disk.record.superblock();
        next.peer_id = disk.peer.id;
        // Of what we descend from, only what the peer really has counts.
        if (sending_) keep_base(next.generations, disk.peer.generations.current);
        change_record(index, next);
        if (!sending_) send_own_bitmap(index);
    }
}

// The target's marks: where it may hold what the source does not know of.
void Node::send_own_bitmap(uint16_t index) {
    const DirtyBitmap& bitmap = disks_[index].record.bitmap();
    constexpr uint64_t kBlocksPerFrame = uint64_t{64} * 1024 * 8;
    const bool wanted = disks_[index].decision.kind == SyncKind::blocks;
    uint64_t first = 0;
    auto next = wanted ? bitmap.next_set(0) : std::nullopt;
    while (next) {
        first = *next / 8 * 8;
        const uint64_t count = std::min(kBlocksPerFrame, bitmap.block_count() - first);
        send(frame_of(SyncType::bitmap, index, wire::SyncBitmap{first, count},
                      SharedBytes::copy_of(bitmap.bits({first, count}))));
        next = bitmap.next_set(first + count);
    }
    SyncFrame last = frame_of(SyncType::bitmap, index, wire::SyncBitmap{0, 0});
    last.flags = wire::sync_flags::kLast;
    send(std::move(last));
}

void Node::on_bitmap(const SyncFrame& frame) {
    Disk& disk = disks_[frame.disk];
    if (link_ != LinkState::comparing || !sending_ || disk.bitmap_complete) {
        return protocol_error("a bitmap that nobody asked for");
    }
    const auto& range = std::get<wire::SyncBitmap>(frame.body);
    DirtyBitmap& bitmap = disk.record.bitmap();
    if (range.block_count != 0) {
        // The target's disk may be larger than ours; its marks beyond our end mean nothing to us.
        const uint64_t end = bitmap.block_count();
        for (uint64_t index = 0; index < range.block_count && range.first_block + index < end;
             ++index) {
            const auto byte = std::to_integer<unsigned>(frame.payload.data()[index / 8]);
            if ((byte >> (index % 8) & 1) != 0) bitmap.set({range.first_block + index, 1});
        }
    }
    if ((frame.flags & wire::sync_flags::kLast) == 0) return;
    disk.bitmap_complete = true;
    const bool all = std::all_of(disks_.begin(), disks_.end(),
                                 [](const Disk& each) { return each.bitmap_complete; });
    if (all) begin_streaming();
}

// From here on the peer gets every change.
void Node::begin_streaming() {
    link_ = LinkState::streaming;
    all_touched_ = true;
    waits_for_peer_until_.reset();
    barrier_ = 0;
    answered_since_frame_ = false;
    for (uint16_t index = 0; index < disks_.size(); ++index) {
        Disk& disk = disks_[index];
        DirtyBitmap& bitmap = disk.record.bitmap();
        // Both sides have come to it that nothing is newer than this copy.
        if (may_be_newest(disk.record.superblock().state)) {
            set_state(index, DiskState::up_to_date, "the peer has nothing newer");
        }
        const bool full = disk.decision.kind == SyncKind::full;
        if (full) bitmap.set_all();
        disk.record.crash_dealt_with();
        const Superblock& superblock = disk.record.superblock();
        const bool resync = bitmap.count() != 0 && !disk.detached();
        wire::SyncBegin begin;
        begin.generations = to_wire(superblock.generations);
        begin.generation_time_seconds = superblock.generation_time_seconds;
        begin.blocks_to_come = bitmap.count();
        begin.size_bytes = superblock.size_bytes;
        SyncFrame frame = frame_of(SyncType::begin, index, begin);
        if (full) frame.flags |= wire::sync_flags::kFull;
        // Also without a block: the peer's generation is older than ours and has to be raised.
        const bool behind = superblock.generations.current != disk.peer.generations.current;
        if ((resync || behind) && !disk.detached()) frame.flags |= wire::sync_flags::kResync;
        const bool starts = (frame.flags & wire::sync_flags::kResync) != 0;
        send(std::move(frame));
        disk.peer.state = starts ? DiskState::inconsistent : DiskState::up_to_date;
        if (starts) {
            start_resync(index, full);
        } else if (!disk.detached()) {
            Superblock next = superblock;
            peer_caught_up(next.generations);
            next.generation_shared = true;
            change_record(index, next);
        }
    }
    // Where nothing is to be sent, nothing else would end it.
    for (uint16_t index = 0; index < disks_.size(); ++index) finish_resync_if_done(index);
    event(NodeEvent::Weight::info, 0, "link", "connected, sending");
}

// ---- frames

void Node::protocol_error(const std::string& what) {
    event(NodeEvent::Weight::error, 0, "protocol", what);
    SyncFrame frame = frame_of(
        SyncType::goodbye, 0, wire::SyncGoodbye{static_cast<uint16_t>(Errc::protocol)},
        SharedBytes::copy_of(
            std::as_bytes(std::span(what).first(std::min(what.size(), wire::kSyncTextBytesMax)))));
    send(std::move(frame));
    drop_link("protocol error: " + what);
}

void Node::received(SyncFrame&& frame) {
    heard_ = now_;
    pinged_ = false;
    if (link_ == LinkState::down || link_ == LinkState::halted) return;
    if (frame.pair != pair_id_) return protocol_error("a frame of another pair");
    if (frame.disk >= disks_.size() && frame.type != SyncType::hello) {
        return protocol_error(
            fmt::format("a frame of disk {}, there are {}", frame.disk, disks_.size()));
    }
    if (is_of_data(frame.type) && frame.epoch < disks_[frame.disk].record.superblock().epoch &&
        link_ == LinkState::streaming && !sending_) {
        if (promoting_) {
            part_from_peer("it is sending");
            return pump();
        }
        const std::string text =
            fmt::format("a frame of epoch {}, but epoch {} has been seen", frame.epoch,
                        disks_[frame.disk].record.superblock().epoch);
        event(NodeEvent::Weight::warn, frame.disk, "stale-epoch", text);
        return drop_link(text);
    }
    dispatch(std::move(frame));
    pump();
}

void Node::dispatch(SyncFrame&& frame) {
    switch (frame.type) {
        case SyncType::hello:
            on_hello(frame);
            break;
        case SyncType::bitmap:
            on_bitmap(frame);
            break;
        case SyncType::begin:
            on_begin(frame);
            break;
        case SyncType::write:
        case SyncType::write_zeroes:
        case SyncType::discard:
        case SyncType::flush:
        case SyncType::resync_data:
        case SyncType::resync_zeroes:
        case SyncType::digests:
        case SyncType::end:
            on_change(std::move(frame));
            break;
        case SyncType::ack:
            on_ack(std::get<wire::SyncAck>(frame.body));
            break;
        case SyncType::digest_answer:
            on_digest_answer(frame);
            break;
        case SyncType::adopted:
            on_adopted(frame);
            break;
        case SyncType::read:
            on_read(frame);
            break;
        case SyncType::read_answer:
            on_read_answer(frame);
            break;
        case SyncType::failed:
            on_failed(frame);
            break;
        case SyncType::goodbye: {
            const std::string text(reinterpret_cast<const char*>(frame.payload.data()),
                                   frame.payload.size());
            drop_link("the peer said goodbye: " + text);
            break;
        }
        case SyncType::ping:
            send(frame_of(SyncType::pong, 0,
                          wire::SyncPing{std::get<wire::SyncPing>(frame.body).token}));
            break;
        case SyncType::pong:
            break;
        case SyncType::turn:
            on_turn(frame);
            break;
        case SyncType::turned:
            on_turned(frame);
            break;
        case SyncType::demoted:
            on_demoted();
            break;
    }
}

void Node::on_ack(const wire::SyncAck& ack) {
    if (!streaming_out()) return protocol_error("an acknowledgement to a side that does not send");
    if (ack.received < peer_.received || ack.applied < peer_.applied ||
        ack.durable < peer_.durable || ack.received > sequence_ || ack.applied > ack.received ||
        ack.durable > ack.applied) {
        return protocol_error("an acknowledgement that goes back, or of what was not sent");
    }
    const wire::SyncAck before = std::exchange(peer_, ack);
    look_at_sent(before.received, ack.received, [&](Sent& sent) { backlog_bytes_ -= sent.bytes; });
    look_at_sent(before.applied, ack.applied, [&](Sent& sent) {
        if (sent.kind == Sent::Kind::data) data_in_flight_ -= sent.bytes;
    });
    // Which of the three an answer waits for is the mode's matter. A flush waits for what was sent
    // before it: it is the next after what it waits for.
    const auto touch = [&](Sent& sent) {
        if (sent.change != 0) touched_.push_back(sent.change);
    };
    look_at_sent(before.received, ack.received + 1, touch);
    look_at_sent(before.applied, ack.applied + 1, touch);
    look_at_sent(before.durable, ack.durable + 1, touch);
    settle_window();
}

// Those with a sequence after `after`, up to `last`. The window has every number in a row.
void Node::look_at_sent(uint64_t after, uint64_t last, const std::function<void(Sent&)>& look) {
    if (window_.empty()) return;
    const uint64_t first = window_.front().sequence;
    const uint64_t end = std::min(last, window_.back().sequence);
    for (uint64_t sequence = std::max(after + 1, first); sequence <= end; ++sequence) {
        look(window_[sequence - first]);
    }
}

void Node::settle_window() {
    while (!window_.empty() && window_.front().sequence <= peer_.durable) {
        // A digest's blocks are only known to be equal once the answer is there.
        if (window_.front().kind == Sent::Kind::digests && !window_.front().answered) break;
        const Sent sent = std::move(window_.front());
        window_.pop_front();
        settle_sent(sent);
    }
}

// Durable at the peer.
void Node::settle_sent(const Sent& sent) {
    Disk& disk = disks_[sent.disk];
    NodeSource& source = disk.source;
    const auto clear = [&](BlockRange run) {
        for (uint64_t block = run.first; block < run.first + run.count; ++block) {
            const auto marked = source.marked_at.find(block);
            if (marked != source.marked_at.end()) {
                if (marked->second >= sent.sequence) continue;
                source.marked_at.erase(marked);
            }
            disk.record.bitmap().clear({block, 1});
        }
        // With peer_lost = "wait", answers may wait for this.
        all_touched_ |= disk.record.bitmap().count() == 0;
    };
    switch (sent.kind) {
        case Sent::Kind::change:
        case Sent::Kind::flush:
            if (const auto found = changes_.find(sent.change); found != changes_.end()) {
                settle(found->second);
            }
            return;
        case Sent::Kind::data:
            clear(sent.run);
            source.busy.remove(sent.run);
            return finish_resync_if_done(sent.disk);
        case Sent::Kind::digests:
            if (sent.verify) return;
            for (const BlockRange& run : sent.equal) {
                clear(run);
                source.busy.remove(run);
            }
            return finish_resync_if_done(sent.disk);
        case Sent::Kind::end:
            return;
    }
}

// The peer has taken over our generation: it is up to date, and stays so as long as it gets
// everything.
void Node::on_adopted(const SyncFrame& frame) {
    Disk& disk = disks_[frame.disk];
    const Superblock& superblock = disk.record.superblock();
    if (!streaming_out() || !disk.source.end_sent) return protocol_error("adopted without an end");
    if (Generation(std::get<wire::SyncAdopted>(frame.body).generation) !=
        superblock.generations.current) {
        return protocol_error("another generation adopted than was sent");
    }
    Superblock next = superblock;
    peer_caught_up(next.generations);
    next.discard_mine = false;
    change_record(frame.disk, next);
    const NodeSource& source = disk.source;
    event(NodeEvent::Weight::info, frame.disk, "resync-done",
          fmt::format("{} blocks, {} bytes sent, {} skipped", source.blocks_total,
                      source.bytes_sent, source.bytes_skipped));
    disk.source.resync = disk.source.full = disk.source.end_sent = false;
    disk.record.write_bitmap();
    disk.peer.state = DiskState::up_to_date;
    disk.peer.generations.current = next.generations.current;
    // Marked since `end` was sent (a write that failed here): the peer stays whole while it is
    // mended.
    if (disk.record.bitmap().count() != 0) start_resync(frame.disk, false);
}

void Node::on_failed(const SyncFrame& frame) {
    const std::string text(reinterpret_cast<const char*>(frame.payload.data()),
                           frame.payload.size());
    disks_[frame.disk].reason = "the peer's disk: " + text;
    disks_[frame.disk].peer.state = DiskState::failed;
    event(NodeEvent::Weight::error, frame.disk, "peer-failed", text);
    halt("the peer's disk has failed: " + text);
}

void Node::on_read_answer(const SyncFrame& frame) {
    const auto& body = std::get<wire::SyncReadAnswer>(frame.body);
    const auto found = forwarded_reads_.find(body.request);
    if (found == forwarded_reads_.end()) return protocol_error("an answer to no read");
    const uint64_t id = found->second.id;
    forwarded_reads_.erase(found);
    if (body.code == 0) return answer(id, {}, frame.payload);
    answer(id, fail(Errc::io, "disk {}: the peer could not read it either (code {})",
                    disks_[frame.disk].record.superblock().disk, body.code));
}

// ---- the end of a connection

void Node::mark(Disk& disk, BlockRange blocks) {
    disk.record.bitmap().set(blocks);
    if (!streaming_out()) return;
    for (uint64_t block = blocks.first; block < blocks.first + blocks.count; ++block) {
        disk.source.marked_at[block] = sequence_;
    }
}

// What the peer has not made durable, it may not have.
void Node::window_lost() {
    bool lacking = false;
    for (const Sent& sent : window_) {
        const auto found = changes_.find(sent.change);
        if (sent.kind == Sent::Kind::change) {
            disks_[sent.disk].record.bitmap().set(sent.run);
            lacking = true;
        }
        if (found == changes_.end() || sent.change == 0) continue;
        found->second.marked = true;
        settle(found->second);
    }
    window_.clear();
    digests_asked_.clear();
    all_touched_ = true;
    backlog_bytes_ = data_in_flight_ = 0;
    if (lacking) start_generation_if_shared();
    for (auto& [number, request] : forwarded_reads_) {
        answer(request.id, fail(Errc::unreachable, "the peer that served this read has gone"));
    }
    forwarded_reads_.clear();
    for (uint16_t index = 0; index < disks_.size(); ++index) {
        Disk& disk = disks_[index];
        cut_verify(index, link_reason_);
        const bool paused = disk.source.paused;
        disk.source = NodeSource();
        disk.source.paused = paused;
        disk.share_sequence = 0;
    }
}

void Node::disconnected(const std::string& reason) {
    link_down(reason);
    pump();
}

void Node::link_down(const std::string& reason) {
    if (link_ == LinkState::down || link_ == LinkState::halted) return;
    const LinkState before = link_;
    link_ = LinkState::down;
    ++link_life_;
    link_reason_ = reason;
    greet_when_drained_ = turn_owed_ = turn_asked_ = false;
    if (before == LinkState::streaming || before == LinkState::comparing) {
        event(NodeEvent::Weight::warn, 0, "link", "disconnected: " + reason);
    }
    if (before == LinkState::streaming && sending_) window_lost();
    if (before == LinkState::streaming && !sending_) target_lost();
    sending_ = false;
}

void Node::drop_link(const std::string& reason) {
    outputs_.disconnect = true;
    link_down(reason);
}

// Meeting again would come to the same: an operator has to do something first.
void Node::halt(const std::string& reason) {
    event(NodeEvent::Weight::error, 0, "halted", reason);
    SyncFrame frame =
        frame_of(SyncType::goodbye, 0, wire::SyncGoodbye{static_cast<uint16_t>(Errc::denied)},
                 SharedBytes::copy_of(std::as_bytes(
                     std::span(reason).first(std::min(reason.size(), wire::kSyncTextBytesMax)))));
    send(std::move(frame));
    drop_link(reason);
    link_ = LinkState::halted;
    link_reason_ = reason;
}

void Node::link_queue(uint64_t bytes) {
    link_queue_bytes_ = bytes;
    pump();
}

}  // namespace antipode::disksync
