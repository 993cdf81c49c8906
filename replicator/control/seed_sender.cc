#include "replicator/control/seed_sender.h"

#include <algorithm>
#include <bit>

#include "common/base/log.h"

namespace antipode::control {
namespace {

constexpr size_t kReadsMax = 8;

bool all_zero(std::span<const std::byte> bytes) {
    return std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; });
}

}  // namespace

SeedSender::SeedSender(uint64_t attempt, replay::VmEngine& engine, DiskSet& disks, Cut kind,
                       Hooks hooks)
    : attempt_(attempt), engine_(engine), disks_(disks), kind_(kind), hooks_(std::move(hooks)) {}

SeedSender::~SeedSender() {
    *alive_ = false;
    disks_.stop_tracking();
    if (phase_ == Phase::standing || snapshot_ != 0) let_go();
}

void SeedSender::let_go() {
    if (kind_ == Cut::follow) return engine_.resume();
    engine_.snapshot_taken(std::exchange(snapshot_, 0));
}

void SeedSender::begin() {
    disks_.start_tracking();
    for (uint32_t drive = 0; drive < disks_.drive_count(); ++drive) {
        const uint64_t count =
            (disks_.size_bytes(drive) + SeedChunk::kBytes - 1) / SeedChunk::kBytes;
        for (uint64_t i = 0; i < count; ++i) chunks_.insert(chunks_.end(), Chunk{drive, i});
    }
    dirty_asked_ = true;
    engine_.request_dirty_pages(replay::VmEngine::Since::ever);
    pump();
}

double SeedSender::ratio() const {
    const double left = static_cast<double>(pages_.size() + chunks_.size() * 16);
    return std::clamp(1.0 - left / static_cast<double>(total_units_), 0.0, 1.0);
}

void SeedSender::collect_chunks() {
    for (const auto& [drive, index] : disks_.take_written(SeedChunk::kBytes)) {
        chunks_.insert(Chunk{drive, index});
    }
}

void SeedSender::dirty_pages(const std::vector<uint64_t>& bitmap) {
    dirty_asked_ = false;
    pages_.clear();
    for (size_t word = 0; word < bitmap.size(); ++word) {
        for (uint64_t bits = bitmap[word]; bits != 0; bits &= bits - 1) {
            const uint64_t page = word * 64 + static_cast<unsigned>(std::countr_zero(bits));
            if (page < engine_.vm().memory.page_count()) pages_.push_back(page);
        }
    }
    round_pages_ = pages_.size();
    if (round_ == 0) total_units_ = std::max<uint64_t>(1, pages_.size() + chunks_.size() * 16);
    if (phase_ == Phase::standing) {
        // The guest does not run: copy now, send later.
        while (!pages_.empty()) {
            SeedPages piece{attempt_, {}};
            while (!pages_.empty() && piece.pages.pages.size() < replay::DeltaPages::kPagesMax) {
                const auto bytes = engine_.vm().memory.page(pages_.front());
                piece.pages.pages.push_back({pages_.front(), {}});
                if (!all_zero(bytes))
                    piece.pages.pages.back().bytes.assign(bytes.begin(), bytes.end());
                pages_.pop_front();
            }
            pieces_.push_back(std::move(piece));
        }
        collect_chunks();
    }
    pump();
}

void SeedSender::cut() {
    cut_wanted_ = true;
    if (kind_ == Cut::snapshot) {
        snapshot_ = engine_.request_snapshot();
    } else {
        engine_.pause_at_exit(replay::VmEngine::Capture::yes);
    }
}

void SeedSender::standing(std::unique_ptr<replay::VmState> state, LogIndex position,
                          const OutputGate& gate) {
    if (!cut_wanted_ || !state) return;
    cut_wanted_ = false;
    phase_ = Phase::standing;
    stood_since_ = state->time;
    end_.emplace();
    end_->attempt = attempt_;
    end_->position = position;
    end_->released = gate.released();
    for (const auto& held : gate.held()) end_->held.push_back({held.number, held.output});
    end_->state = std::move(*state);
    dirty_asked_ = true;
    engine_.request_dirty_pages(replay::VmEngine::Since::last_call);
}

void SeedSender::progress(uint64_t bytes) {
    progress_bytes_ = std::max(progress_bytes_, bytes);
    pump();
}

bool SeedSender::send_piece(const SeedPiece& piece) {
    if (sent_bytes_ - std::min(progress_bytes_, sent_bytes_) > kOutstandingBytesMax) return false;
    const auto bytes = encode(piece);
    if (!hooks_.send(bytes)) return false;
    sent_bytes_ += bytes.size();
    ++piece_count_;
    return true;
}

bool SeedSender::send_pages() {
    while (!pages_.empty()) {
        SeedPages piece{attempt_, {}};
        const size_t count = std::min<size_t>(pages_.size(), replay::DeltaPages::kPagesMax);
        for (size_t i = 0; i < count; ++i) {
            // The guest may be writing it: then it is dirty again, and sent again.
            const auto bytes = engine_.vm().memory.page(pages_[i]);
            piece.pages.pages.push_back({pages_[i], {}});
            if (!all_zero(bytes)) piece.pages.pages.back().bytes.assign(bytes.begin(), bytes.end());
        }
        if (!send_piece(piece)) return false;
        pages_.erase(pages_.begin(), pages_.begin() + static_cast<ptrdiff_t>(count));
    }
    return true;
}

void SeedSender::read_chunks(size_t pieces_max) {
    while (!chunks_.empty() && reading_ < kReadsMax && pieces_.size() < pieces_max) {
        const Chunk chunk = *chunks_.begin();
        chunks_.erase(chunks_.begin());
        ++reading_;
        disks_.read_chunk(chunk.drive, chunk.index * SeedChunk::kBytes, SeedChunk::kBytes,
                          [this, alive = alive_, chunk](Result<std::vector<std::byte>> bytes) {
                              if (*alive) chunk_read(chunk, std::move(bytes));
                          });
    }
}

void SeedSender::chunk_read(Chunk chunk, Result<std::vector<std::byte>> bytes) {
    --reading_;
    if (!bytes) return fail(bytes.error().to_string());
    SeedChunk piece{attempt_, chunk.drive, chunk.index * SeedChunk::kBytes, bytes->size(), {}};
    if (!all_zero(*bytes)) piece.bytes = std::move(*bytes);
    pieces_.push_back(std::move(piece));
    pump();
}

void SeedSender::pump() {
    if (phase_ == Phase::failed || phase_ == Phase::done) return;
    if (phase_ == Phase::standing) {
        // Disk chunks that were written are read while the guest stands; then it goes on.
        if (dirty_asked_) return;
        read_chunks(kReadyChunksMax + chunks_.size());
        if (!chunks_.empty() || reading_ > 0) return;
        leave_cut();
    }
    while (!pieces_.empty()) {
        if (!send_piece(pieces_.front())) return;
        pieces_.pop_front();
    }
    if (phase_ == Phase::finishing) {
        end_->piece_count = piece_count_;
        if (send_piece(*end_)) phase_ = Phase::done;
        return;
    }
    if (!send_pages()) return;
    read_chunks(kReadsMax);
    if (pages_.empty() && chunks_.empty() && reading_ == 0 && pieces_.empty() && !dirty_asked_) {
        next_round();
    }
}

void SeedSender::leave_cut() {
    phase_ = Phase::finishing;
    disks_.stop_tracking();
    const Duration stood = MonotonicClock::now() - stood_since_;
    let_go();
    hooks_.on_cut(end_->position, stood);
}

// Everything of a round is on its way. What was written meanwhile decides what comes next.
void SeedSender::next_round() {
    if (phase_ != Phase::copying || cut_wanted_) return;
    ++round_;
    collect_chunks();
    if (round_ > 1 && chunks_.size() <= kReadyChunksMax &&
        (round_pages_ <= kReadyPagesMax || round_ >= kRoundsMax)) {
        phase_ = Phase::ready;
        return hooks_.on_ready();
    }
    dirty_asked_ = true;
    engine_.request_dirty_pages(replay::VmEngine::Since::last_call);
}

void SeedSender::fail(const std::string& text) {
    if (phase_ == Phase::failed) return;
    if (phase_ == Phase::standing || snapshot_ != 0) let_go();
    phase_ = Phase::failed;
    hooks_.on_failed(text);
}

}  // namespace antipode::control
