// Node: outputs, side files, state, commands.
#include "disksync/core/node.h"

#include <algorithm>

#include "common/base/check.h"
#include "common/wire/checksum.h"

namespace antipode::disksync {

std::string_view to_string(Mode mode) {
    switch (mode) {
        case Mode::async:
            return "async";
        case Mode::semi_sync:
            return "semi-sync";
        case Mode::sync:
            return "sync";
    }
    return "unknown";
}

std::optional<Mode> parse_mode(std::string_view text) {
    for (const Mode mode : {Mode::async, Mode::semi_sync, Mode::sync}) {
        if (to_string(mode) == text) return mode;
    }
    return std::nullopt;
}

std::string_view to_string(LinkState state) {
    switch (state) {
        case LinkState::down:
            return "disconnected";
        case LinkState::greeting:
            return "greeting";
        case LinkState::comparing:
            return "comparing";
        case LinkState::streaming:
            return "connected";
        case LinkState::halted:
            return "halted";
    }
    return "unknown";
}

Node::Node(const NodeConfig& config, std::vector<DiskConfig> disks, uint64_t seed)
    : config_(config),
      pair_id_(wire::pair_id(config.pair)),
      random_(seed),
      rate_(config.resync_rate_min, config.resync_rate_max) {
    FT_CHECK(!disks.empty(), "a group without disks");
    for (DiskConfig& disk : disks) {
        disks_.emplace_back(std::move(disk.record));
        Disk& made = disks_.back();
        made.undo.log = std::move(disk.undo);
        made.undo.active = made.undo.log.has_value();
    }
    for (size_t index = 1; index < disks_.size(); ++index) {
        FT_CHECK(
            disks_[index - 1].record.superblock().disk < disks_[index].record.superblock().disk,
            "the disks of a group come in the order of their names");
    }
    for (uint16_t index = 0; index < disks_.size(); ++index) {
        Disk& disk = disks_[index];
        for (const RecordFinding& finding : disk.record.findings()) {
            event(NodeEvent::Weight::warn, index, "metadata", finding.text);
        }
        // A crash ended what was primary; it becomes one again only by promote().
        if (disk.record.crashed_primary()) {
            event(NodeEvent::Weight::warn, index, "crashed-primary",
                  fmt::format("was primary when it ended; {} blocks are marked",
                              disk.record.bitmap().count()));
        }
        Superblock next = disk.record.superblock();
        if (next.role != DiskRole::primary) continue;
        next.role = DiskRole::secondary;
        next.open_for_writing = false;
        change_record(index, next, DiskRecord::Order::after_bitmap);
    }
    flush_former_life();
    pump();
}

// What was written before a crash of the process and not flushed is still only in a cache: no mark
// may be taken away, and nothing called durable, on the strength of it.
void Node::flush_former_life() {
    start_flushes_left_ += flush_stores(LocalAction::Kind::start_flush);
}

uint32_t Node::flush_stores(LocalAction::Kind kind) {
    uint32_t begun = 0;
    for (uint16_t index = 0; index < disks_.size(); ++index) {
        if (disks_[index].detached()) continue;
        LocalAction action;
        action.kind = kind;
        action.disk = index;
        LocalIo io;
        io.operation = StoreOperation::flush;
        local(std::move(action), std::move(io));
        ++begun;
    }
    return begun;
}

Node::~Node() = default;

NodeOutputs Node::take_outputs() {
    acknowledge();
    return std::exchange(outputs_, {});
}

void Node::event(NodeEvent::Weight weight, uint16_t disk, std::string key, std::string text) {
    outputs_.events.push_back({weight, disk, std::move(key), std::move(text)});
}

Ticket Node::local(LocalAction&& action, LocalIo&& io) {
    io.ticket = next_ticket_++;
    io.disk = action.disk;
    action.data = io.data;
    const Ticket ticket = io.ticket;
    actions_.emplace(ticket, std::move(action));
    outputs_.local.push_back(std::move(io));
    return ticket;
}

void Node::pump_files() {
    for (uint16_t index = 0; index < disks_.size(); ++index) {
        Disk& disk = disks_[index];
        if (disk.writing_files || disk.flushing_log) continue;
        if (disk.record.log().leaving_unflushed() && !disk.detached()) {
            flush_for_log(index);
            continue;
        }
        auto plan = disk.record.next_plan();
        if (!plan) continue;
        disk.writing_files = true;
        const Ticket ticket = next_ticket_++;
        file_tickets_.emplace(ticket, index);
        FileIo io;
        io.ticket = ticket;
        io.disk = index;
        io.writes = std::move(plan->writes);
        outputs_.files.push_back(std::move(io));
    }
}

void Node::flush_for_log(uint16_t index) {
    disks_[index].flushing_log = true;
    // Of what leaves now; what leaves while this runs needs a flush of its own.
    disks_[index].record.log().flushed_leaving();
    LocalAction action;
    action.kind = LocalAction::Kind::log_flush;
    action.disk = index;
    LocalIo io;
    io.operation = StoreOperation::flush;
    local(std::move(action), std::move(io));
}

void Node::log_flush_done(uint16_t index, const Result<>& result) {
    disks_[index].flushing_log = false;
    if (!result) detach(index, result.error());
}

void Node::file_done(Ticket ticket, const Result<>& result) {
    if (auto read = log_reads_.extract(ticket)) {
        log_read_done(std::move(read.mapped()), result);
        return pump();
    }
    if (const auto undo = undo_tickets_.find(ticket); undo != undo_tickets_.end()) {
        const auto [index, removes] = undo->second;
        undo_tickets_.erase(undo);
        if (!removes) undo_written(index, result);
        return pump();
    }
    const auto found = file_tickets_.find(ticket);
    FT_CHECK(found != file_tickets_.end(), "file operation {} was not asked for", ticket);
    const uint16_t index = found->second;
    file_tickets_.erase(found);
    Disk& disk = disks_[index];
    // Without its record a site cannot keep any promise: better no disk than a wrong one.
    FT_CHECK(result.has_value(), "disk {}: its metadata cannot be written: {}",
             disk.record.superblock().disk, result ? "" : result.error().context);
    disk.writing_files = false;
    disk.record.done();
    // Alone, an answer may wait for what is on record.
    all_touched_ |= !streaming_out();
    pump();
}

void Node::pump() {
    records_changed();
    watch_point();
    pump_return();
    answer_turn();
    greet_if_drained();
    pump_changes();
    finish_changes();
    pump_target();
    pump_source();
    maybe_flush_target();
    finish_promotion();
    finish_demotion();
    pump_views();
    pump_files();
}

uint64_t Node::change_record(uint16_t disk, const Superblock& next, DiskRecord::Order order) {
    return disks_[disk].record.change(next, order);
}

bool Node::records_durable() const {
    return std::all_of(disks_.begin(), disks_.end(), [](const Disk& disk) {
        return disk.record.durable_sequence() >= disk.record.superblock().sequence;
    });
}

// What waited for a superblock to be durable.
void Node::records_changed() {
    for (uint16_t index = 0; index < disks_.size(); ++index) {
        Disk& disk = disks_[index];
        const uint64_t durable = disk.record.durable_sequence();
        if (disk.share_sequence != 0 && durable >= disk.share_sequence) {
            disk.share_sequence = 0;
            if (streaming_out()) send_end(index);
        }
        if (disk.adopt_sequence != 0 && durable >= disk.adopt_sequence) {
            disk.adopt_sequence = 0;
            end_adopted(index);
        }
        if (disk.begin_sequence != 0 && durable >= disk.begin_sequence) {
            disk.begin_sequence = 0;
            if (std::exchange(disk.undo_given_up, false)) undo_io(index, {}, true);
            if (!disk.undo.log || disk.record.superblock().undo_kept) continue;
            disk.undo = NodeUndo();
            undo_io(index, {}, true);
        }
    }
}

void Node::set_state(uint16_t index, DiskState state, const std::string& why) {
    Superblock next = disks_[index].record.superblock();
    if (next.state == state) return;
    event(state == DiskState::failed ? NodeEvent::Weight::error : NodeEvent::Weight::info, index,
          "state", fmt::format("{} -> {}: {}", to_string(next.state), to_string(state), why));
    next.state = state;
    change_record(index, next);
}

bool Node::is_primary() const {
    return disks_.front().record.superblock().role == DiskRole::primary;
}

bool Node::idle() const {
    return actions_.empty() && file_tickets_.empty() && undo_tickets_.empty() &&
           log_reads_.empty() && changes_.empty() && incoming_.empty() && !promoting_ &&
           !returning_ && std::all_of(disks_.begin(), disks_.end(), [](const Disk& disk) {
               return disk.record.idle();
           });
}

// ---- commands

Result<> Node::pause_resync(bool paused) {
    const bool receives = !sending_ && (link_ == LinkState::comparing || streaming_in());
    if (paused && receives) {
        return fail(Errc::denied, "this site receives: a resync is paused at the side that sends");
    }
    for (Disk& disk : disks_) disk.source.paused = paused;
    pump();
    return {};
}

void Node::set_mode(Mode mode) {
    config_.mode = mode;
    all_touched_ = true;
    pump();
}

void Node::set_resync_rate_max(uint64_t bytes_per_second) {
    config_.resync_rate_max = bytes_per_second;
    rate_.set_max(bytes_per_second);
    pump();
}

Result<> Node::discard_mine() {
    if (is_primary()) {
        return fail(Errc::denied,
                    "this site is primary: demote it before its changes are discarded");
    }
    for (uint16_t index = 0; index < disks_.size(); ++index) {
        Superblock next = disks_[index].record.superblock();
        next.discard_mine = true;
        change_record(index, next);
    }
    pump();
    return {};
}

Result<> Node::invalidate() {
    if (is_primary()) return fail(Errc::denied, "this site is primary: its copy is the right one");
    if (returning_) return fail(Errc::busy, "the copy is on its way back to its last point");
    for (uint16_t index = 0; index < disks_.size(); ++index) {
        Superblock next = disks_[index].record.superblock();
        forget(next.generations);
        next.state = DiskState::inconsistent;
        next.resync_target = Generation();
        disks_[index].record.bitmap().clear_all();
        change_record(index, next, DiskRecord::Order::after_bitmap);
        event(NodeEvent::Weight::warn, index, "invalidated", "its contents count for nothing");
    }
    if (link_ != LinkState::down) drop_link("invalidated");
    pump();
    return {};
}

Result<> Node::outdate() {
    if (is_primary()) return fail(Errc::denied, "this site is primary: its copy is the newest");
    for (uint16_t index = 0; index < disks_.size(); ++index) {
        const DiskState state = disks_[index].record.superblock().state;
        if (state == DiskState::consistent || state == DiskState::up_to_date) {
            set_state(index, DiskState::outdated, "told so");
        }
    }
    pump();
    return {};
}

Result<std::vector<Generation>> Node::carry() {
    std::vector<Generation> names;
    for (const Disk& disk : disks_) {
        const Superblock& superblock = disk.record.superblock();
        if (superblock.peer_id != DiskId()) {
            return fail(Errc::already_exists,
                        "disk {}: there is a peer's copy, and its marks would be lost",
                        superblock.disk);
        }
        const bool whole =
            superblock.state == DiskState::up_to_date || superblock.state == DiskState::consistent;
        if (!whole || superblock.generations.current == Generation()) {
            return fail(Errc::denied, "disk {}: is {} and nothing to be copied", superblock.disk,
                        to_string(superblock.state));
        }
        names.push_back(superblock.generations.current);
    }
    for (uint16_t index = 0; index < disks_.size(); ++index) {
        Superblock next = disks_[index].record.superblock();
        start_generation(next.generations, Generation(random_.next() | 2));
        next.generation_shared = false;
        next.generation_time_seconds = wall_seconds_;
        disks_[index].record.bitmap().clear_all();
        change_record(index, next);
        event(NodeEvent::Weight::info, index, "carry",
              fmt::format("a copy of generation {:016x} is going to be carried",
                          names[index].value()));
    }
    // What is on its way to a store may reach it behind the copying.
    for (const auto& [id, change] : changes_) {
        if (!change.started || change.local_done || change.is_flush()) continue;
        mark(disks_[change.disk], blocks_of(change.offset_bytes, change.length_bytes));
    }
    pump();
    return names;
}

Result<> Node::resync_everything() {
    if (!streaming_out()) {
        return fail(Errc::busy, "a resync begins at the side that sends, with the peer connected");
    }
    for (const Disk& disk : disks_) {
        if (!disk.detached()) continue;
        return fail(Errc::denied, "disk {}: has failed here, and the peer's is the good one",
                    disk.record.superblock().disk);
    }
    for (uint16_t index = 0; index < disks_.size(); ++index) {
        mark(disks_[index], {0, disks_[index].record.bitmap().block_count()});
        start_resync(index, true);
    }
    pump();
    return {};
}

Result<> Node::resize(uint16_t index, uint64_t size_bytes) {
    Disk& disk = disks_[index];
    Superblock next = disk.record.superblock();
    if (size_bytes < next.size_bytes) {
        return fail(Errc::invalid_argument, "disk {}: {} bytes, has {}: it must not shrink",
                    next.disk, size_bytes, next.size_bytes);
    }
    if (size_bytes > kDiskBytesMax) {
        return fail(Errc::limit, "disk {}: {} bytes, more than {}", next.disk, size_bytes,
                    kDiskBytesMax);
    }
    if (returning_) return fail(Errc::busy, "the copy is on its way back to its last point");
    if (size_bytes == next.size_bytes) return {};
    disk.record.grow(size_bytes);
    next.size_bytes = size_bytes;
    change_record(index, next, DiskRecord::Order::after_bitmap);
    // Both sides have to agree on the size, and the new part is compared: meet again.
    if (link_ != LinkState::down) drop_link("resized");
    pump();
    return {};
}

Result<> Node::verify(uint16_t index, uint64_t first_block, uint64_t block_count) {
    if (!streaming_out()) {
        return fail(Errc::busy, "a verify runs at the side that sends, with the peer connected");
    }
    Disk& disk = disks_[index];
    if (disk.detached()) {
        return fail(Errc::denied, "disk {}: has failed here, there is nothing to compare with",
                    disk.record.superblock().disk);
    }
    const auto asked = digests_asked_.lower_bound({index, true, 0});
    const bool leftovers = disk.source.verify_reads != 0 ||
                           (asked != digests_asked_.end() && std::get<0>(asked->first) == index &&
                            std::get<1>(asked->first));
    if (disk.source.verify || leftovers) return fail(Errc::busy, "a verify is under way");
    const uint64_t blocks = disk.record.bitmap().block_count();
    if (first_block >= blocks) {
        return fail(Errc::invalid_argument, "block {} of {}", first_block, blocks);
    }
    NodeSource& source = disk.source;
    source.verify = true;
    source.verify_first = source.verify_cursor = first_block;
    source.verify_end = first_block + std::min(block_count, blocks - first_block);
    source.verify_blocks_total = source.verify_end - first_block;
    source.verify_differences = 0;
    source.looked_at.clear();
    source.verify_digests.clear();
    source.verify_asked.clear();
    source.recheck.clear();
    source.began = now_;
    event(NodeEvent::Weight::info, index, "verify",
          fmt::format("of {} blocks begins", source.verify_blocks_total));
    pump();
    return {};
}

// ---- time

void Node::tick(Instant now, int64_t wall_seconds) {
    now_ = now;
    wall_seconds_ = wall_seconds;
    rate_.tick(now);
    if (link_ != LinkState::down && link_ != LinkState::halted) {
        if (heard_ == Instant()) heard_ = now;
        const Duration silent = now - heard_;
        if (silent > config_.silence_max) {
            drop_link("the peer is silent");
        } else if (silent > config_.silence_max / 2 && !pinged_) {
            pinged_ = true;
            send(frame_of(SyncType::ping, 0, wire::SyncPing{}));
        }
    }
    pump();
}

// ---- status

DiskStatus Node::disk_status(uint16_t index) const {
    const Disk& disk = disks_[index];
    const NodeSource& source = disk.source;
    const Superblock& superblock = disk.record.superblock();
    DiskStatus status;
    status.name = superblock.disk;
    status.role = superblock.role;
    status.state = superblock.state;
    status.peer_known = disk.peer_known;
    status.peer_state = disk.peer.state;
    status.size_bytes = superblock.size_bytes;
    status.epoch = superblock.epoch;
    status.generations = superblock.generations;
    status.marked_blocks = disk.record.bitmap().count();
    status.reason = disk.reason;
    status.paused = source.paused;
    status.last_verify = disk.last_verify;
    status.verify_differences = source.verify      ? source.verify_differences
                                : disk.last_verify ? disk.last_verify->differences
                                                   : 0;
    status.undo_bytes = disk.undo.log ? disk.undo.log->bytes() : 0;
    status.undo_blocks = disk.undo.log ? disk.undo.log->count() : 0;
    status.decision = disk.decision;
    status.direction = sending_ ? SyncDirection::we_send : SyncDirection::peer_sends;
    if (source.resync) {
        status.phase = SyncPhase::resync;
        status.blocks_total = source.blocks_total;
        status.blocks_left = disk.record.bitmap().count();
        status.bytes_sent = source.bytes_sent;
        status.bytes_skipped = source.bytes_skipped;
    } else if (source.verify) {
        status.phase = SyncPhase::verify;
        status.blocks_total = source.verify_blocks_total;
        status.blocks_left = source.verify_end - source.verify_cursor + source.verify_in_flight;
    } else if (returning_) {
        status.phase = SyncPhase::undo;
        status.blocks_total = disk.progress.blocks_total;
        status.blocks_left = disk.progress.blocks_left;
    } else if (streaming_in() && (superblock.resync_target != Generation() || disk.undo.starting)) {
        status.phase = SyncPhase::resync;
        status.blocks_total = disk.progress.blocks_total;
        status.blocks_left = disk.progress.blocks_left;
    }
    if (status.phase != SyncPhase::idle && status.blocks_total > status.blocks_left) {
        const Instant began = sending_ ? source.began : disk.progress.began;
        const double seconds = std::chrono::duration<double>(now_ - began).count();
        const double blocks = static_cast<double>(status.blocks_total - status.blocks_left);
        if (seconds > 0) {
            status.bytes_per_second = blocks * static_cast<double>(kBlockBytes) / seconds;
            status.seconds_left = static_cast<double>(status.blocks_left) * seconds / blocks;
        }
    }
    if (disk.peer_known) {
        const CopyView own = own_view(disk);
        status.if_local_wins = preview(SyncDirection::we_send, own, disk.peer);
        status.if_peer_wins = preview(SyncDirection::peer_sends, own, disk.peer);
    }
    return status;
}

NodeStatus Node::status() const {
    NodeStatus status;
    status.link = link_;
    status.reason = link_reason_;
    status.mode = config_.mode;
    status.backlog_bytes = backlog_bytes_;
    status.changes_in_flight = waiting_.size() + unanswered_.size();
    status.changes_undurable = unsettled_;
    status.point = point_status();
    if (waits_for_peer_until_ && link_ != LinkState::streaming) {
        status.waits_for_peer = std::max(*waits_for_peer_until_ - now_, Duration::zero());
    }
    for (uint16_t index = 0; index < disks_.size(); ++index) {
        status.disks.push_back(disk_status(index));
    }
    return status;
}

}  // namespace antipode::disksync
