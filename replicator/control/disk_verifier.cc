#include "replicator/control/disk_verifier.h"

#include <algorithm>

namespace antipode::control {

std::vector<ChunkDigest> digests_of(std::span<const std::byte> bytes, uint64_t seed) {
    std::vector<ChunkDigest> digests;
    while (!bytes.empty()) {
        const size_t length = std::min<size_t>(bytes.size(), VerifyAsk::kChunkBytes);
        digests.push_back(digest_of(bytes.first(length), seed));
        bytes = bytes.subspan(length);
    }
    return digests;
}

DiskVerifier::DiskVerifier(DiskSet& disks, VerifyPlan plan, uint64_t seed, Hooks hooks)
    : disks_(disks), plan_(std::move(plan)), seed_(seed), hooks_(std::move(hooks)) {}

DiskVerifier::~DiskVerifier() {
    *alive_ = false;
    for (auto& [number, out] : out_) {
        let_go(out);
        (void)hooks_.send(VerifyDrop{number});
    }
}

void DiskVerifier::let_go(Out& out) {
    if (out.fix) disks_.unfix(out.batch.first.drive, *std::exchange(out.fix, {}));
}

void DiskVerifier::look(Room room, Instant now) {
    if (over_) return;
    disks_.look_at_fixes();
    std::vector<uint64_t> unanswered;
    for (auto& [number, out] : out_) {
        send_bytes(out);
        if (now - out.asked > kAnswerMax) unanswered.push_back(number);
    }
    for (const uint64_t number : unanswered) {
        (void)hooks_.send(VerifyDrop{number});
        put_off(number, "the backup does not answer", now);
    }
    if (room == Room::none) {
        plan_.yields(now);
        return end_if_over(now);
    }
    // One at a time beside a guest that waits for its disks.
    const size_t window = disks_.guest_waits() ? 1 : VerifyPlan::kWindowMax;
    while (const auto batch = plan_.next(window, now)) {
        if (!begin(*batch, now)) break;
    }
    end_if_over(now);
}

// The range is fixed and told of in one turn: nothing of the log leaves in between.
bool DiskVerifier::begin(const VerifyBatch& batch, Instant now) {
    const uint64_t number = batch.number;
    const auto fixed = disks_.fix(batch.first.drive, plan_.range_of(batch), std::nullopt,
                                  [this, alive = alive_, number] {
                                      if (*alive) settled(number);
                                  });
    if (!fixed) {
        plan_.put_off(number, fixed.error().to_string(), now);
        return false;
    }
    Out& out = out_[number];
    out.batch = batch;
    out.asked = now;
    out.fix = fixed->id;
    const VerifyAsk ask{
        number, batch.purpose, batch.first.drive, batch.first.index, batch.chunk_count,
        seed_,  fixed->point};
    if (hooks_.send(ask)) return true;
    put_off(number, "the channel is full", now);
    return false;
}

void DiskVerifier::settled(uint64_t number) {
    const auto found = out_.find(number);
    if (found == out_.end() || !found->second.fix) return;
    const VerifyBatch& batch = found->second.batch;
    const DiskRange range = plan_.range_of(batch);
    disks_.read_chunk(batch.first.drive, range.offset_bytes, range.length_bytes,
                      [this, alive = alive_, number](Result<std::vector<std::byte>> bytes) {
                          if (*alive) read(number, std::move(bytes));
                      });
}

void DiskVerifier::read(uint64_t number, Result<std::vector<std::byte>> bytes) {
    const auto found = out_.find(number);
    if (found == out_.end()) return;
    Out& out = found->second;
    let_go(out);
    const Instant now = MonotonicClock::now();
    if (!bytes) {
        (void)hooks_.send(VerifyDrop{number});
        return put_off(number, bytes.error().to_string(), now);
    }
    if (out.batch.purpose == VerifyPurpose::repair) {
        out.bytes = std::move(*bytes);
        return send_bytes(out);
    }
    out.own = digests_of(*bytes, seed_);
    compare_if_whole(number, now);
}

void DiskVerifier::send_bytes(Out& out) {
    if (out.bytes.empty()) return;
    if (hooks_.send(VerifyBytes{out.batch.number, out.bytes})) out.bytes.clear();
}

void DiskVerifier::receive(const VerifyMessage& message, Instant now) {
    if (const auto* answer = std::get_if<VerifyDigests>(&message)) {
        const auto found = out_.find(answer->number);
        if (found == out_.end()) return;
        const VerifyBatch& batch = found->second.batch;
        if (batch.purpose != VerifyPurpose::compare ||
            answer->digests.size() != batch.chunk_count) {
            return put_off(answer->number, "the backup answers what nobody asked", now);
        }
        found->second.theirs = answer->digests;
        compare_if_whole(answer->number, now);
    } else if (const auto* done = std::get_if<VerifyWritten>(&message)) {
        const auto found = out_.find(done->number);
        if (found == out_.end() || found->second.batch.purpose != VerifyPurpose::repair) return;
        let_go(found->second);
        out_.erase(found);
        plan_.written(done->number, now);
    } else if (const auto* refused = std::get_if<VerifyLater>(&message)) {
        later(*refused, now);
    }
    end_if_over(now);
}

void DiskVerifier::later(const VerifyLater& later, Instant now) {
    const auto found = out_.find(later.number);
    if (found == out_.end()) return;
    const bool repairs = found->second.batch.purpose == VerifyPurpose::repair;
    if (later.again == VerifyLater::Again::yes || !repairs) {
        return put_off(later.number, later.text, now);
    }
    let_go(found->second);
    out_.erase(found);
    plan_.give_up(later.number, now);
}

void DiskVerifier::compare_if_whole(uint64_t number, Instant now) {
    const auto found = out_.find(number);
    if (found->second.own.empty() || found->second.theirs.empty()) return;
    const Out out = std::move(found->second);
    out_.erase(found);
    std::vector<bool> differs;
    for (size_t i = 0; i < out.own.size(); ++i) differs.push_back(out.own[i] != out.theirs[i]);
    const auto outcome = plan_.compared(number, differs, now);
    const auto tell = [&](VerifyFound::What what, const DriveChunk& chunk) {
        const size_t i = chunk.index - out.batch.first.index;
        hooks_.on_found({what, chunk.drive, chunk.index, out.own[i], out.theirs[i]});
    };
    for (const auto& chunk : outcome.repaired) tell(VerifyFound::What::repaired, chunk);
    for (uint32_t i = 0; i < out.batch.chunk_count; ++i) {
        if (differs[i]) continue;
        hooks_.on_compared({out.batch.first.drive, out.batch.first.index + i}, 1);
    }
    for (const auto& chunk : outcome.differ) tell(VerifyFound::What::differs, chunk);
    end_if_over(now);
}

void DiskVerifier::put_off(uint64_t number, const std::string& why, Instant now) {
    const auto found = out_.find(number);
    if (found == out_.end()) return;
    let_go(found->second);
    out_.erase(found);
    plan_.put_off(number, why, now);
}

void DiskVerifier::interrupt(const std::string& why, Instant now) {
    while (!out_.empty()) put_off(out_.begin()->first, why, now);
}

void DiskVerifier::end_if_over(Instant now) {
    if (over_) return;
    const auto failure = plan_.failure(now);
    if (!failure && !plan_.done()) return;
    over_ = true;
    hooks_.on_done(failure ? Result<void>(fail(Errc::io, "{}", *failure)) : Result<void>());
}

}  // namespace antipode::control
