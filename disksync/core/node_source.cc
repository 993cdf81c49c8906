// Node: resync and verify, at the side that sends.
#include <algorithm>
#include <cstring>
#include <xxhash.h>

#include "common/base/check.h"
#include "disksync/core/node.h"

namespace antipode::disksync {

namespace {

constexpr uint64_t kRunBlocks = wire::kSyncDataBytesMax / kBlockBytes;
constexpr uint64_t kRegionBlocks = (uint64_t{1} << 30) / kBlockBytes;  // extents asked at once
constexpr uint64_t kReadBytesMax = uint64_t{16}
                                   << 20;  // of a disk, under way for resync and verify
constexpr uint64_t kLinkQueueBytesMax = uint64_t{4} << 20;  // more would delay the VM's writes
constexpr uint64_t kVerifyInFlightMax = 4096;               // blocks
constexpr uint64_t kDigestsInFlightMax = 4096;              // blocks of a resync
constexpr uint64_t kProbeBlocks = 256;

BlockDigest digest_of(std::span<const std::byte> block) {
    const XXH128_hash_t hash = XXH3_128bits(block.data(), block.size());
    return {hash.low64, hash.high64};
}

bool is_zero(std::span<const std::byte> bytes) {
    return bytes[0] == std::byte{0} &&
           std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0;
}

bool bit_of(const SharedBytes& bits, uint64_t index) {
    return (std::to_integer<unsigned>(bits.data()[index / 8]) >> (index % 8) & 1) != 0;
}

// The bytes of a run of blocks: the last block of a disk may be short.
uint64_t bytes_of(BlockRange run, uint64_t size_bytes) {
    return std::min((run.first + run.count) * kBlockBytes, size_bytes) - run.first * kBlockBytes;
}

bool overlap(BlockRange one, BlockRange other) {
    return one.first < other.first + other.count && other.first < one.first + one.count;
}

}  // namespace

void Node::start_resync(uint16_t index, bool full) {
    Disk& disk = disks_[index];
    NodeSource& source = disk.source;
    const bool peer_is_whole =
        disk.peer.generations.current == disk.record.superblock().generations.current &&
        disk.peer.state == DiskState::up_to_date;
    if (source.resync) return;
    if (!source.verify) source.begin_anew();
    source.resync = true;
    source.full = full;
    source.repair = peer_is_whole;
    source.cursor = 0;
    source.blocks_total = disk.record.bitmap().count();
    source.bytes_sent = source.bytes_skipped = 0;
    source.began = now_;
    event(NodeEvent::Weight::info, index, "resync",
          fmt::format("of {} blocks begins{}", source.blocks_total, full ? ", all" : ""));
}

void Node::pump_source() {
    if (!streaming_out()) return;
    for (uint16_t index = 0; index < disks_.size(); ++index) {
        while (pump_resync(index)) {
        }
        while (pump_verify(index)) {
        }
    }
}

// Bounds on memory, on what is under way, and on the rate.
bool Node::source_may_read(const Disk& disk) {
    return disk.source.read_bytes < kReadBytesMax && link_queue_bytes_ < kLinkQueueBytesMax &&
           data_in_flight_ < config_.resync_window_bytes && rate_.allowed(now_) > 0;
}

bool Node::use_digests(const Disk& disk) const {
    if (config_.checksum != ChecksumResync::automatic) {
        return config_.checksum == ChecksumResync::always;
    }
    // A new disk has nothing equal, but what a first resync brought before it broke off. From which
    // generation that was does not matter: contents are compared.
    const bool went_on = Generation(disk.hello.resync_target) != Generation();
    if (disk.peer.generations.current == Generation() && !went_on) return false;
    const NodeSource& source = disk.source;
    // What has not been answered yet says nothing.
    return source.digests_answered < kProbeBlocks ||
           source.digests_equal * 5 >= source.digests_answered;
}

// True: something was begun, and more may be.
bool Node::pump_resync(uint16_t index) {
    Disk& disk = disks_[index];
    NodeSource& source = disk.source;
    if (!source.resync || source.paused || source.end_sent || !source_may_read(disk)) return false;
    if (source.reserved) return read_reserved(index);
    if (!source.wanted.empty()) {
        const BlockRange run = source.wanted.front();
        source.wanted.pop_front();
        return read_run(index, run, false, false);
    }
    const DirtyBitmap& bitmap = disk.record.bitmap();
    auto next = bitmap.next_set(source.cursor);
    if (!next) {
        if (source.cursor == 0) return false;
        source.cursor = 0;
        // Again only if something is marked that is not under way.
        next = bitmap.next_set(0);
        return next && source.busy.empty();
    }
    const uint64_t free = source.busy.free_from(*next, kRegionBlocks);
    if (free == 0) {
        source.cursor = *next + 1;
        return true;
    }
    if (source.full) {
        if (!know_extents(index, *next)) return false;
        if (const uint64_t hole = std::min(hole_at(disk, *next), free); hole != 0) {
            const BlockRange run = bitmap.run_at(*next, hole);
            send_zeroes(index, run);
            source.cursor = run.first + run.count;
            return true;
        }
    }
    const bool digests = use_digests(disk);
    if (digests && source.digests_asked - source.digests_answered >= kDigestsInFlightMax) {
        return false;
    }
    const BlockRange run = bitmap.run_at(*next, std::min(free, kRunBlocks));
    source.cursor = run.first + run.count;
    if (digests) source.digests_asked += run.count;
    return read_run(index, run, false, digests);
}

// A run that writes of the VM kept us from: none of them begins there before we have read it.
bool Node::read_reserved(uint16_t index) {
    NodeSource& source = disks_[index].source;
    const NodeSource::Reserved reserved = *source.reserved;
    source.reserved.reset();
    return read_run(index, reserved.run, reserved.verify, reserved.digests);
}

// ---- holes, in a full sync

// False: asked for; come back when the answer is there.
bool Node::know_extents(uint16_t index, uint64_t block) {
    Disk& disk = disks_[index];
    NodeSource& source = disk.source;
    if (block >= source.region_first && block < source.region_end) return true;
    if (std::exchange(source.extents_asked, true)) return false;
    source.region_first = block;
    source.region_end = std::min(block + kRegionBlocks, disk.record.bitmap().block_count());
    source.holes.clear();
    source.written.clear();
    // Writes under way may not be seen by the store yet.
    for (const auto& [id, change] : changes_) {
        if (change.disk != index || !change.started || change.local_done || change.is_flush())
            continue;
        source.written.push_back(blocks_of(change.offset_bytes, change.length_bytes));
    }
    LocalAction action;
    action.kind = LocalAction::Kind::extents;
    action.disk = index;
    action.link_life = link_life_;
    LocalIo io;
    io.what = LocalIo::What::extents;
    io.offset_bytes = block * kBlockBytes;
    io.length_bytes =
        bytes_of({block, source.region_end - block}, disk.record.superblock().size_bytes);
    // Until the answer is there, the region counts as unknown.
    std::swap(source.region_end, source.region_first);
    local(std::move(action), std::move(io));
    return false;
}

void Node::extents_known(LocalAction&& action, LocalDone&& done) {
    Disk& disk = disks_[action.disk];
    NodeSource& source = disk.source;
    if (action.link_life != link_life_ || !source.extents_asked) return;
    source.extents_asked = false;
    std::swap(source.region_end, source.region_first);
    if (!done.result) return;  // no holes known; the blocks are read
    const uint64_t size = disk.record.superblock().size_bytes;
    for (const StoreExtent& extent : done.extents) {
        if (extent.kind != ExtentKind::zero) continue;
        const uint64_t end = extent.offset_bytes + extent.length_bytes;
        const uint64_t first = (extent.offset_bytes + kBlockBytes - 1) / kBlockBytes;
        const uint64_t last = end == size ? block_count_of(size) : end / kBlockBytes;
        if (last > first) source.holes.push_back({first, last - first});
    }
}

// How many blocks from this one on are a hole and have not been written since that was asked.
uint64_t Node::hole_at(const Disk& disk, uint64_t block) const {
    const NodeSource& source = disk.source;
    for (const BlockRange& hole : source.holes) {
        if (block < hole.first || block >= hole.first + hole.count) continue;
        uint64_t count = hole.first + hole.count - block;
        for (const BlockRange& written : source.written) {
            if (!overlap(written, {block, count})) continue;
            if (written.first <= block) return 0;
            count = written.first - block;
        }
        return count;
    }
    return 0;
}

// ---- blocks

// False: a write of the VM is there, and the run is reserved until it is gone.
bool Node::read_run(uint16_t index, BlockRange run, bool verify, bool digests) {
    Disk& disk = disks_[index];
    const uint64_t offset = run.first * kBlockBytes;
    const uint64_t length = bytes_of(run, disk.record.superblock().size_bytes);
    if (disk.lock.conflicts(offset, length, ExtentLock::Kind::reader)) {
        disk.source.reserved = NodeSource::Reserved{run, verify, digests};
        return false;
    }
    LocalAction action;
    action.kind = LocalAction::Kind::run_read;
    action.disk = index;
    action.run = run;
    action.verify = verify;
    action.digests = digests;
    action.holds_lock = true;
    action.link_life = link_life_;
    LocalIo io;
    io.operation = StoreOperation::read;
    io.offset_bytes = offset;
    io.length_bytes = length;
    io.data = SharedBytes::make(length);
    const Ticket ticket = local(std::move(action), std::move(io));
    const bool locked = disk.lock.try_lock(ticket, offset, length, ExtentLock::Kind::reader);
    FT_CHECK(locked, "a range without conflicts is locked");
    if (!verify) disk.source.busy.add(run);
    disk.source.read_bytes += length;
    disk.source.verify_reads += verify ? 1 : 0;
    return true;
}

// The range was held until now: what is sent here comes before every later write in the stream.
void Node::run_read(LocalAction&& action, Result<> result) {
    Disk& disk = disks_[action.disk];
    NodeSource& source = disk.source;
    if (action.link_life != link_life_ || !streaming_out()) return;
    source.read_bytes -= action.data.size();
    source.verify_reads -= action.verify ? 1 : 0;
    if (action.verify && !source.verify) return;
    if (!result && action.verify) {
        event(NodeEvent::Weight::error, action.disk, "source-error", result.error().context);
        return cut_verify(action.disk, result.error().context);
    }
    if (!result) {
        source.busy.remove(action.run);
        if (action.digests) source.digests_asked -= action.run.count;
        source.paused = true;
        disk.reason = "paused: " + result.error().context;
        event(NodeEvent::Weight::error, action.disk, "source-error", result.error().context);
        return;
    }
    if (action.verify || action.digests) {
        return send_digests(action.disk, action.run, action.data, action.verify);
    }
    source.busy.remove(action.run);
    send_data(action.disk, action.run, action.data);
}

void Node::send_data(uint16_t index, BlockRange run, const SharedBytes& data) {
    const auto zero_at = [&](uint64_t at) {
        const uint64_t offset = at * kBlockBytes;
        return is_zero(data.span().subspan(offset, std::min(kBlockBytes, data.size() - offset)));
    };
    for (uint64_t at = 0; at < run.count;) {
        const bool zero = zero_at(at);
        uint64_t count = 1;
        while (at + count < run.count && zero_at(at + count) == zero) ++count;
        const BlockRange part{run.first + at, count};
        if (zero) {
            send_zeroes(index, part);
        } else {
            const uint64_t offset = at * kBlockBytes;
            const uint64_t bytes = std::min(count * kBlockBytes, data.size() - offset);
            Disk& disk = disks_[index];
            Sent sent;
            sent.kind = Sent::Kind::data;
            sent.disk = index;
            sent.run = part;
            disk.source.busy.add(part);
            disk.source.bytes_sent += bytes;
            data_in_flight_ += bytes;
            rate_.sent(bytes);
            send_change_frame(frame_of(SyncType::resync_data, index,
                                       wire::SyncRange{part.first * kBlockBytes, bytes},
                                       data.part(offset, bytes)),
                              std::move(sent));
        }
        at += count;
    }
}

void Node::send_zeroes(uint16_t index, BlockRange run) {
    Disk& disk = disks_[index];
    const uint64_t bytes = bytes_of(run, disk.record.superblock().size_bytes);
    Sent sent;
    sent.kind = Sent::Kind::data;
    sent.disk = index;
    sent.run = run;
    disk.source.busy.add(run);
    disk.source.bytes_skipped += bytes;
    send_change_frame(
        frame_of(SyncType::resync_zeroes, index, wire::SyncRange{run.first * kBlockBytes, bytes}),
        std::move(sent));
}

void Node::send_digests(uint16_t index, BlockRange run, const SharedBytes& data, bool verify) {
    Disk& disk = disks_[index];
    SharedBytes digests = SharedBytes::make(run.count * sizeof(BlockDigest));
    for (uint64_t at = 0; at < run.count; ++at) {
        const uint64_t offset = at * kBlockBytes;
        const BlockDigest digest =
            digest_of(data.span().subspan(offset, std::min(kBlockBytes, data.size() - offset)));
        std::memcpy(digests.data() + at * sizeof(digest), digest.data(), sizeof(digest));
        if (verify) disk.source.verify_digests[run.first + at] = digest;
    }
    SyncFrame frame = frame_of(SyncType::digests, index,
                               wire::SyncDigests{run.first, static_cast<uint32_t>(run.count)},
                               std::move(digests));
    if (verify) frame.flags = wire::sync_flags::kVerify;
    Sent sent;
    sent.kind = Sent::Kind::digests;
    sent.disk = index;
    sent.run = run;
    sent.verify = verify;
    // Verify reads as much as it would send: the rate is for both disks as well.
    rate_.sent(verify ? data.size() / 4 : frame.payload.size());
    digests_asked_[{index, verify, run.first}] =
        send_change_frame(std::move(frame), std::move(sent));
}

void Node::on_digest_answer(const SyncFrame& frame) {
    if (!streaming_out()) return protocol_error("digests answered to a side that does not send");
    const auto& range = std::get<wire::SyncDigests>(frame.body);
    const bool verify = (frame.flags & wire::sync_flags::kVerify) != 0;
    const auto asked = digests_asked_.find({frame.disk, verify, range.first_block});
    if (asked == digests_asked_.end()) {
        return protocol_error("an answer to digests that were not sent");
    }
    Sent& sent = window_[asked->second - window_.front().sequence];
    if (sent.run.count != range.count) return protocol_error("an answer to other digests");
    digests_asked_.erase(asked);
    sent.answered = true;
    if (!verify) {
        resync_answer(frame.disk, sent, frame);
    } else if (disks_[frame.disk].source.verify) {
        verify_answer(frame.disk, sent, frame);
    }
    settle_window();
}

void Node::resync_answer(uint16_t index, Sent& sent, const SyncFrame& frame) {
    Disk& disk = disks_[index];
    NodeSource& source = disk.source;
    source.busy.remove(sent.run);
    source.digests_answered += sent.run.count;
    for (uint64_t at = 0; at < sent.run.count;) {
        const bool differs = bit_of(frame.payload, at);
        uint64_t count = 1;
        while (at + count < sent.run.count && bit_of(frame.payload, at + count) == differs) ++count;
        const BlockRange part{sent.run.first + at, count};
        source.busy.add(part);
        if (differs) {
            source.wanted.push_back(part);
        } else {
            // Equal where the target stands now; marked until that is durable there.
            sent.equal.push_back(part);
            source.digests_equal += count;
            source.bytes_skipped += bytes_of(part, disk.record.superblock().size_bytes);
        }
        at += count;
    }
}

// ---- the end of a resync

// Everything that was marked is durable at the peer.
bool Node::resync_has_arrived(const Disk& disk) const {
    const NodeSource& source = disk.source;
    return source.busy.empty() && source.wanted.empty() &&
           !(source.reserved && !source.reserved->verify) && disk.record.bitmap().count() == 0;
}

void Node::finish_resync_if_done(uint16_t index) {
    Disk& disk = disks_[index];
    NodeSource& source = disk.source;
    if (!source.resync || source.end_sent || !resync_has_arrived(disk)) return;
    if (source.repair) {
        source.resync = source.full = source.repair = false;
        event(NodeEvent::Weight::info, index, "resync-done",
              fmt::format("{} blocks mended, {} bytes sent, {} skipped", source.blocks_total,
                          source.bytes_sent, source.bytes_skipped));
        disk.record.write_bitmap();
        return;
    }
    // The disks of a group become whole together: until then all of them can go back to their last
    // consistent point, which is one for the group.
    const auto holds_up = [&](const Disk& other) {
        return other.source.resync && !other.source.repair && !other.source.end_sent &&
               !resync_has_arrived(other);
    };
    if (std::any_of(disks_.begin(), disks_.end(), holds_up)) return;
    for (uint16_t each = 0; each < disks_.size(); ++each) {
        NodeSource& ended = disks_[each].source;
        if (!ended.resync || ended.repair || ended.end_sent) continue;
        // The peer may have our generation from `end` on: that has to be on record before.
        ended.end_sent = true;
        Superblock next = disks_[each].record.superblock();
        next.generation_shared = true;
        disks_[each].share_sequence = change_record(each, next);
    }
}

void Node::send_end(uint16_t index) {
    const Superblock& superblock = disks_[index].record.superblock();
    wire::SyncEnd end;
    const Generations& generations = superblock.generations;
    end.generations.current = generations.current.value();
    std::transform(generations.bases.begin(), generations.bases.end(),
                   end.generations.bases.begin(), [](Generation g) { return g.value(); });
    std::transform(generations.history.begin(), generations.history.end(),
                   end.generations.history.begin(), [](Generation g) { return g.value(); });
    end.generation_time_seconds = superblock.generation_time_seconds;
    Sent sent;
    sent.kind = Sent::Kind::end;
    sent.disk = index;
    send_change_frame(frame_of(SyncType::end, index, end), std::move(sent));
}

// ---- verify

bool Node::pump_verify(uint16_t index) {
    Disk& disk = disks_[index];
    NodeSource& source = disk.source;
    if (!source.verify || source.paused || !source_may_read(disk) ||
        source.verify_in_flight >= kVerifyInFlightMax) {
        return false;
    }
    if (source.reserved) return read_reserved(index);
    BlockRange run;
    if (!source.recheck.empty()) {
        run = {source.recheck.front(), 1};
        source.recheck.pop_front();
    } else if (source.verify_cursor < source.verify_end) {
        run = {source.verify_cursor,
               std::min(kRunBlocks, source.verify_end - source.verify_cursor)};
        source.verify_cursor += run.count;
    } else {
        finish_verify_if_done(index);
        return false;
    }
    source.verify_in_flight += run.count;
    source.verify_asked.insert(run.first);
    return read_run(index, run, true, true);
}

void Node::verify_answer(uint16_t index, const Sent& sent, const SyncFrame& frame) {
    NodeSource& source = disks_[index].source;
    size_t digest_at = (sent.run.count + 7) / 8;
    source.verify_asked.erase(sent.run.first);
    for (uint64_t at = 0; at < sent.run.count; ++at) {
        const uint64_t block = sent.run.first + at;
        --source.verify_in_flight;
        if (bit_of(frame.payload, at)) {
            BlockDigest theirs;
            std::memcpy(theirs.data(), frame.payload.data() + digest_at, sizeof(theirs));
            digest_at += sizeof(theirs);
            verify_differs(index, block, theirs);
        } else {
            source.looked_at.erase(block);
        }
        source.verify_digests.erase(block);
    }
    finish_verify_if_done(index);
}

void Node::verify_differs(uint16_t index, uint64_t block, const BlockDigest& theirs) {
    Disk& disk = disks_[index];
    NodeSource& source = disk.source;
    // What is marked is known to differ, and is being dealt with.
    if (disk.record.bitmap().is_set(block)) return;
    if (source.looked_at[block]++ == 0) {
        source.recheck.push_back(block);
        return;
    }
    source.looked_at.erase(block);
    ++source.verify_differences;
    VerifyFinding finding;
    finding.disk = index;
    finding.block = block;
    finding.source_digest = source.verify_digests[block];
    finding.target_digest = theirs;
    finding.found_seconds = wall_seconds_;
    finding.repaired = config_.verify_repairs;
    event(NodeEvent::Weight::error, index, "verify-difference",
          fmt::format("block {}: digest {:016x}{:016x} here, {:016x}{:016x} at the peer{}", block,
                      finding.source_digest[1], finding.source_digest[0], theirs[1], theirs[0],
                      finding.repaired ? "; it is sent again" : ""));
    outputs_.findings.push_back(finding);
    if (!config_.verify_repairs) return;
    mark(disk, {block, 1});
    start_resync(index, false);
}

void Node::finish_verify_if_done(uint16_t index) {
    NodeSource& source = disks_[index].source;
    if (!source.verify || source.verify_cursor < source.verify_end ||
        source.verify_in_flight != 0 || !source.recheck.empty()) {
        return;
    }
    source.verify = false;
    note_verify(disks_[index], source.verify_blocks_total, true);
    event(NodeEvent::Weight::info, index, "verify-done",
          fmt::format("{} blocks, {} differences", source.verify_blocks_total,
                      source.verify_differences));
}

void Node::note_verify(Disk& disk, uint64_t blocks, bool complete) {
    disk.last_verify =
        VerifyResult{wall_seconds_, blocks, disk.source.verify_differences, complete};
}

// It does not end as it was meant to, and is not begun again by itself.
void Node::cut_verify(uint16_t index, const std::string& why) {
    Disk& disk = disks_[index];
    NodeSource& source = disk.source;
    if (!std::exchange(source.verify, false)) return;
    const uint64_t block = source.verify_compared_to();
    note_verify(disk, block - source.verify_first, false);
    event(NodeEvent::Weight::warn, index, "verify-ended",
          fmt::format("at block {} of {} to {}, {} differences so far: {}", block,
                      source.verify_first, source.verify_end, source.verify_differences, why));
    source.verify_in_flight = 0;
    source.verify_asked.clear();
    source.recheck.clear();
    if (source.reserved && source.reserved->verify) source.reserved.reset();
}

}  // namespace antipode::disksync
