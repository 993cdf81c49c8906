#include "replicator/control/heal_transfer.h"

#include <algorithm>

namespace antipode::control {

using replay::DiskChunk;
using replay::HealAnswer;

HealSender::HealSender(std::unique_ptr<HealAnswer> answer, LogIndex position,
                       const OutputGate& gate, DiskSet& disks, Hooks hooks)
    : disks_(disks), hooks_(std::move(hooks)) {
    end_.attempt = answer->attempt;
    end_.position = position;
    end_.released = gate.released();
    for (const auto& held : gate.held()) end_.held.push_back({held.number, held.output});
    HealPages part{end_.attempt, {}};
    for (auto& page : answer->pages) {
        part.pages.push_back(std::move(page));
        if (part.pages.size() < replay::DeltaPages::kPagesMax) continue;
        pieces_.emplace_back(std::move(part));
        part = {end_.attempt, {}};
    }
    if (!part.pages.empty()) pieces_.emplace_back(std::move(part));
    end_.answer = std::move(*answer);
    end_.answer.pages.clear();
    read_chunks();
}

HealSender::~HealSender() {
    *alive_ = false;
    if (!read_) hooks_.on_read();
}

void HealSender::read_chunks() {
    if (end_.answer.refused.empty()) {
        for (const DiskChunk& chunk : end_.answer.chunks) {
            if (chunk.drive >= disks_.drive_count() ||
                chunk.index * DiskChunk::kBytes >= disks_.size_bytes(chunk.drive)) {
                end_.answer.refused = "the backup names a place beyond the end of a disk";
                continue;
            }
            ++reading_;
            disks_.read_chunk(chunk.drive, chunk.index * DiskChunk::kBytes, DiskChunk::kBytes,
                              [this, alive = alive_, chunk](Result<std::vector<std::byte>> bytes) {
                                  if (*alive) chunk_read(chunk, std::move(bytes));
                              });
        }
    }
    if (reading_ == 0) {
        read_ = true;
        hooks_.on_read();
    }
}

void HealSender::chunk_read(DiskChunk chunk, Result<std::vector<std::byte>> bytes) {
    if (bytes) {
        pieces_.emplace_back(HealChunk{end_.attempt, chunk, std::move(*bytes)});
    } else {
        end_.answer.refused = bytes.error().to_string();
    }
    if (--reading_ > 0) return;
    read_ = true;
    hooks_.on_read();
    pump();
}

void HealSender::pump() {
    if (!read_ || done_) return;
    if (!end_.answer.refused.empty()) pieces_.clear();
    while (!pieces_.empty()) {
        if (!hooks_.send(encode(pieces_.front()))) return;
        pieces_.pop_front();
        ++end_.piece_count;
    }
    done_ = hooks_.send(encode(HealMessage(end_)));
}

HealReceiver::HealReceiver(uint64_t attempt, DiskSet& disks, Hooks hooks)
    : attempt_(attempt), disks_(disks), hooks_(std::move(hooks)) {}

void HealReceiver::receive(HealMessage message) {
    if (failed_ || committed_ || end_) return;
    if (auto* pages = std::get_if<HealPages>(&message)) {
        if (pages->attempt != attempt_) return;
        ++piece_count_;
        if (pages_.size() + pages->pages.size() > HealAnswer::kPagesMax) {
            return fail("more pages than a heal has");
        }
        std::move(pages->pages.begin(), pages->pages.end(), std::back_inserter(pages_));
    } else if (auto* chunk = std::get_if<HealChunk>(&message)) {
        if (chunk->attempt != attempt_) return;
        ++piece_count_;
        const auto [drive, index] = chunk->chunk;
        if (chunks_.size() >= HealAnswer::kChunksMax || drive >= disks_.drive_count() ||
            index > disks_.size_bytes(drive) / DiskChunk::kBytes ||
            chunk->bytes.size() > disks_.size_bytes(drive) - index * DiskChunk::kBytes) {
            return fail("a piece of disk that this site has not");
        }
        chunks_.push_back(std::move(*chunk));
    } else if (auto* end = std::get_if<HealEnd>(&message)) {
        if (end->attempt != attempt_) return;
        if (!end->answer.refused.empty()) return fail("refused: " + end->answer.refused);
        if (end->piece_count != piece_count_) {
            return fail(fmt::format("{} pieces came of {}", piece_count_, end->piece_count));
        }
        end_ = std::move(*end);
        commit_if_whole();
    }
}

void HealReceiver::log_is_at(LogIndex last) {
    log_end_ = std::max(log_end_, last);
    commit_if_whole();
}

void HealReceiver::commit_if_whole() {
    if (!end_ || committed_ || failed_ || log_end_ < end_->position) return;
    committed_ = true;
    writing_ = 1;
    for (auto& piece : chunks_) {
        ++writing_;
        const uint64_t length = piece.bytes.size();
        disks_.write_chunk(piece.chunk.drive, piece.chunk.index * DiskChunk::kBytes, length,
                           std::move(piece.bytes), [this, alive = alive_](Result<void> result) {
                               if (*alive) written(std::move(result));
                           });
    }
    written({});
}

void HealReceiver::written(Result<void> result) {
    --writing_;
    if (!result) return fail(result.error().to_string());
    if (writing_ > 0 || failed_) return;
    auto answer = std::make_unique<HealAnswer>(std::move(end_->answer));
    answer->pages = std::move(pages_);
    hooks_.on_whole(std::move(answer), end_->position);
}

void HealReceiver::fail(const std::string& text) {
    if (failed_) return;
    failed_ = true;
    hooks_.on_failed(text);
}

}  // namespace antipode::control
