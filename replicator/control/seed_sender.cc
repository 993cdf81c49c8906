#include "replicator/control/seed_sender.h"

#include <algorithm>
#include <bit>

#include "common/base/log.h"

namespace antipode::control {
namespace {

constexpr uint64_t kPagesPerChunk = 16;

}  // namespace

SeedSender::SeedSender(uint64_t attempt, replay::VmEngine& engine, DiskSet& disks, Cut kind,
                       Hooks hooks)
    : attempt_(attempt),
      engine_(engine),
      kind_(kind),
      hooks_(std::move(hooks)),
      disk_copy_(attempt, disks,
                 kind == Cut::follow ? DiskCopy::FirstPass::what_differs : DiskCopy::FirstPass::all,
                 {[this] { pump(); }, [this](const std::string& text) { fail(text); }}) {}

SeedSender::~SeedSender() {
    if (phase_ == Phase::standing || snapshot_ != 0) let_go();
}

void SeedSender::let_go() {
    if (kind_ == Cut::follow) return engine_.resume();
    engine_.snapshot_taken(std::exchange(snapshot_, 0));
}

void SeedSender::begin() {
    disk_copy_.begin();
    dirty_asked_ = true;
    engine_.request_dirty_pages(replay::VmEngine::Since::ever);
    pump();
}

double SeedSender::ratio() const {
    const double left = static_cast<double>(pages_.size() + disk_copy_.unread() * kPagesPerChunk);
    return std::clamp(1.0 - left / static_cast<double>(total_units_), 0.0, 1.0);
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
    if (round_ == 0) {
        total_units_ =
            std::max<uint64_t>(1, pages_.size() + disk_copy_.chunk_count() * kPagesPerChunk);
    }
    if (phase_ == Phase::standing) copy_standing_pages();
    pump();
}

// The guest does not run: copy now, send later.
void SeedSender::copy_standing_pages() {
    while (!pages_.empty()) {
        SeedPages piece{attempt_, {}};
        while (!pages_.empty() && piece.pages.pages.size() < replay::DeltaPages::kPagesMax) {
            piece.pages.pages.push_back(
                replay::page_of(pages_.front(), engine_.vm().memory.page(pages_.front())));
            pages_.pop_front();
        }
        pieces_.push_back(std::move(piece));
    }
    disk_copy_.collect();
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
            piece.pages.pages.push_back(
                replay::page_of(pages_[i], engine_.vm().memory.page(pages_[i])));
        }
        if (!send_piece(piece)) return false;
        pages_.erase(pages_.begin(), pages_.begin() + static_cast<ptrdiff_t>(count));
    }
    return true;
}

bool SeedSender::send_ready() {
    while (!pieces_.empty()) {
        if (!send_piece(pieces_.front())) return false;
        pieces_.pop_front();
    }
    while (const SeedPiece* piece = disk_copy_.front()) {
        if (!send_piece(*piece)) return false;
        disk_copy_.pop();
    }
    return true;
}

void SeedSender::pump() {
    if (phase_ == Phase::failed || phase_ == Phase::done) return;
    if (phase_ == Phase::standing) {
        // Disk chunks that were written are read while the guest stands; then it goes on.
        if (dirty_asked_) return;
        disk_copy_.read(kReadyChunksMax + disk_copy_.unread());
        if (!disk_copy_.all_read()) return;
        leave_cut();
    }
    if (phase_ == Phase::finishing) {
        if (!send_ready()) return;
        end_->piece_count = piece_count_;
        if (send_piece(*end_)) phase_ = Phase::done;
        return;
    }
    disk_copy_.read(DiskCopy::kReadsMax);
    if (!send_ready() || !send_pages()) return;
    disk_copy_.read(DiskCopy::kReadsMax);
    if (pages_.empty() && pieces_.empty() && disk_copy_.all_sent() && !dirty_asked_) next_round();
}

void SeedSender::leave_cut() {
    phase_ = Phase::finishing;
    disk_copy_.stop_tracking();
    const Duration stood = MonotonicClock::now() - stood_since_;
    let_go();
    hooks_.on_cut(end_->position, stood);
}

// Everything of a round is on its way. What was written meanwhile decides what comes next.
void SeedSender::next_round() {
    if (phase_ != Phase::copying || cut_wanted_) return;
    ++round_;
    disk_copy_.collect();
    if (round_ > 1 && disk_copy_.unread() <= kReadyChunksMax &&
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
