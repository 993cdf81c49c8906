#include "replicator/control/seed_receiver.h"

#include <algorithm>

#include "common/base/all_zero.h"

namespace antipode::control {
namespace {

constexpr uint64_t kReportBytes = 1 << 20;

}  // namespace

SeedReceiver::SeedReceiver(uint64_t attempt, vmm::VirtualMachine& vm, DiskSet& disks, Hooks hooks)
    : attempt_(attempt),
      vm_(vm),
      disks_(disks),
      hooks_(std::move(hooks)),
      digester_(disks, {[this](SeedDigests answer) { hooks_.answer(std::move(answer)); },
                        [this](const std::string& text) { fail(text); }}) {}

void SeedReceiver::receive(std::span<const std::byte> bytes) {
    if (failed_ || loaded_) return;
    auto piece = decode_seed_piece(bytes);
    if (!piece) return fail(piece.error().to_string());
    const uint64_t attempt = std::visit([](const auto& each) { return each.attempt; }, *piece);
    if (attempt != attempt_) return;
    if (auto* end = std::get_if<SeedEnd>(&*piece)) return take(std::move(*end));
    ++piece_count_;
    if (auto* pages = std::get_if<SeedPages>(&*piece)) {
        take(std::move(*pages));
        taken(bytes.size());
    } else if (auto* ask = std::get_if<SeedAsk>(&*piece)) {
        taken(bytes.size());
        take(*ask);
    } else {
        take(std::move(std::get<SeedChunk>(*piece)), bytes.size());
    }
}

void SeedReceiver::take(SeedPages piece) {
    for (const auto& page : piece.pages.pages) {
        if (page.number >= vm_.memory.page_count()) {
            return fail("the primary's VM has more memory than this site's vm.json says");
        }
        if (page.bytes.empty() && all_zero(vm_.memory.page(page.number))) continue;
        const auto target = vm_.memory.mutable_page(page.number);
        if (page.bytes.empty()) {
            std::fill(target.begin(), target.end(), std::byte{0});
        } else {
            std::copy(page.bytes.begin(), page.bytes.end(), target.begin());
        }
    }
}

void SeedReceiver::take(SeedChunk piece, size_t bytes) {
    if (piece.drive >= disks_.drive_count() ||
        piece.offset_bytes > disks_.size_bytes(piece.drive) ||
        piece.length_bytes > disks_.size_bytes(piece.drive) - piece.offset_bytes) {
        return fail("the primary's disk is larger than this site's");
    }
    if (piece.offset_bytes % SeedChunk::kBytes != 0 || piece.length_bytes > SeedChunk::kBytes) {
        return fail(fmt::format("a chunk of {} bytes at {} is not one of {}", piece.length_bytes,
                                piece.offset_bytes, SeedChunk::kBytes));
    }
    ++writing_;
    if (!hooks_.save_before) return write(std::move(piece), bytes);
    const DriveChunk chunk{piece.drive, piece.offset_bytes / SeedChunk::kBytes};
    auto kept = std::make_shared<SeedChunk>(std::move(piece));
    hooks_.save_before(chunk, [this, alive = alive_, kept, bytes](const Result<void>& saved) {
        if (!*alive) return;
        if (!saved) return fail(saved.error().to_string());
        write(std::move(*kept), bytes);
    });
}

void SeedReceiver::write(SeedChunk piece, size_t bytes) {
    disks_.write_chunk(piece.drive, piece.offset_bytes, piece.length_bytes, std::move(piece.bytes),
                       [this, alive = alive_, bytes](Result<void> written) {
                           if (!*alive) return;
                           --writing_;
                           if (!written) return fail(written.error().to_string());
                           taken(bytes);
                           finish_if_complete();
                       });
}

void SeedReceiver::take(const SeedAsk& piece) {
    if (!hooks_.answer) return fail("a snapshot asks what is on the disks");
    digester_.ask(piece);
}

void SeedReceiver::take(SeedEnd piece) {
    if (piece.piece_count != piece_count_) {
        return fail(fmt::format("{} pieces came of {}", piece_count_, piece.piece_count));
    }
    end_ = std::move(piece);
    finish_if_complete();
}

void SeedReceiver::taken(uint64_t bytes) {
    taken_bytes_ += bytes;
    if (taken_bytes_ - reported_bytes_ < kReportBytes) return;
    reported_bytes_ = taken_bytes_;
    hooks_.progress(taken_bytes_);
}

void SeedReceiver::finish_if_complete() {
    if (!end_ || writing_ > 0 || loaded_ || failed_) return;
    loaded_ = true;
    hooks_.on_loaded(std::move(*end_));
}

void SeedReceiver::fail(const std::string& text) {
    if (failed_) return;
    failed_ = true;
    hooks_.on_failed(text);
}

}  // namespace antipode::control
