#include "replicator/control/disk_copy.h"

#include <algorithm>

#include "common/base/all_zero.h"

namespace antipode::control {
DiskCopy::DiskCopy(uint64_t attempt, DiskSet& disks, FirstPass first_pass, Hooks hooks)
    : attempt_(attempt), disks_(disks), first_pass_(first_pass), hooks_(std::move(hooks)) {}

DiskCopy::~DiskCopy() {
    *alive_ = false;
    disks_.stop_tracking();
}

uint64_t DiskCopy::chunks_of(uint32_t drive) const {
    return SeedChunk::count_of(disks_.size_bytes(drive));
}

void DiskCopy::skip_empty_drives(DriveChunk& at) const {
    while (at.drive < disks_.drive_count() && at.index >= chunks_of(at.drive)) {
        at = {at.drive + 1, 0};
    }
}

void DiskCopy::begin() {
    disks_.start_tracking();
    for (uint32_t drive = 0; drive < disks_.drive_count(); ++drive) {
        chunk_count_ += chunks_of(drive);
    }
    first_pass_left_ = chunk_count_;
    skip_empty_drives(next_);
    skip_empty_drives(ask_next_);
}

void DiskCopy::collect() {
    for (const auto& [drive, index] : disks_.take_written(SeedChunk::kBytes)) {
        again_.insert(DriveChunk{drive, index});
    }
}

void DiskCopy::ask_ahead() {
    if (first_pass_ == FirstPass::all) return;
    while (ask_next_.drive < disks_.drive_count() && asked_.size() + answered_.size() < kAsksMax) {
        SeedAsk ask;
        ask.attempt = attempt_;
        ask.drive = ask_next_.drive;
        ask.first_chunk = ask_next_.index;
        ask.chunk_count = static_cast<uint32_t>(
            std::min<uint64_t>(SeedAsk::kChunksMax, chunks_of(ask.drive) - ask.first_chunk));
        ask_next_.index += ask.chunk_count;
        skip_empty_drives(ask_next_);
        asked_.push_back(ask);
        ready_.emplace_back(ask);
    }
}

void DiskCopy::answer(SeedDigests answer) {
    if (failed_) return;
    if (asked_.empty()) return fail("the new backup names contents that nobody asked about");
    const SeedAsk ask = asked_.front();
    if (answer.drive != ask.drive || answer.first_chunk != ask.first_chunk ||
        answer.digests.size() != ask.chunk_count) {
        return fail(
            fmt::format("the new backup names the contents of {} chunks from {} on of drive {}, "
                        "asked were {} from {} on of drive {}",
                        answer.digests.size(), answer.first_chunk, answer.drive, ask.chunk_count,
                        ask.first_chunk, ask.drive));
    }
    asked_.pop_front();
    answered_.push_back({std::move(answer), 0});
    hooks_.on_progress();
}

void DiskCopy::pop() {
    if (const auto* chunk = std::get_if<SeedChunk>(&ready_.front())) {
        figures_.sent_bytes += chunk->length_bytes;
    }
    ready_.pop_front();
}

size_t DiskCopy::reads_max() const {
    const bool only_compares = !answered_.empty() && ready_.empty();
    return only_compares && disks_.guest_waits() ? 1 : kReadsMax;
}

void DiskCopy::read(size_t ready_max) {
    if (failed_) return;
    ask_ahead();
    while (reading_ < reads_max() && ready_.size() < ready_max && read_next()) {
    }
}

// The next chunk to read, with what the receiver has there if it was asked.
bool DiskCopy::take_next(DriveChunk& chunk, std::optional<ChunkDigest>& theirs, uint64_t& seed) {
    if (first_pass_left_ == 0) {
        if (again_.empty()) return false;
        chunk = *again_.begin();
        again_.erase(again_.begin());
        return true;
    }
    if (first_pass_ == FirstPass::what_differs) {
        if (answered_.empty()) return false;
        Answered& answered = answered_.front();
        theirs = answered.digests.digests[answered.used++];
        seed = answered.digests.seed;
        if (answered.used == answered.digests.digests.size()) {
            answered_.pop_front();
            ask_ahead();
        }
    }
    chunk = next_;
    ++next_.index;
    skip_empty_drives(next_);
    --first_pass_left_;
    return true;
}

bool DiskCopy::read_next() {
    DriveChunk chunk;
    std::optional<ChunkDigest> theirs;
    uint64_t seed = 0;
    if (!take_next(chunk, theirs, seed)) return false;
    ++reading_;
    disks_.read_chunk(
        chunk.drive, chunk.index * SeedChunk::kBytes, SeedChunk::kBytes,
        [this, alive = alive_, chunk, theirs, seed](Result<std::vector<std::byte>> bytes) {
            if (*alive) chunk_read(chunk, theirs, seed, std::move(bytes));
        });
    return true;
}

void DiskCopy::chunk_read(DriveChunk chunk, std::optional<ChunkDigest> theirs, uint64_t seed,
                          Result<std::vector<std::byte>> bytes) {
    --reading_;
    if (failed_) return;
    if (!bytes) return fail(bytes.error().to_string());
    if (theirs && *theirs == digest_of(*bytes, seed)) {
        figures_.equal_bytes += bytes->size();
    } else {
        SeedChunk piece{attempt_, chunk.drive, chunk.index * SeedChunk::kBytes, bytes->size(), {}};
        if (!all_zero(*bytes)) piece.bytes = std::move(*bytes);
        ready_.emplace_back(std::move(piece));
    }
    hooks_.on_progress();
}

void DiskCopy::fail(const std::string& text) {
    if (std::exchange(failed_, true)) return;
    hooks_.on_failed(text);
}

}  // namespace antipode::control
