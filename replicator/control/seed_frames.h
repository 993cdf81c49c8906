// The pieces of a seed: what is copied to a new backup, in the bulk class of the channel, in order.
//
//   (SeedAsk | SeedPages | SeedChunk)*  ...rounds, while the VM runs...
//   (SeedPages | SeedChunk)*  SeedEnd
//
// Every piece names its attempt; a piece of another attempt is dropped. SeedEnd says how many
// pieces came before it: a receiver that has fewer refuses the seed. A snapshot file holds the same
// pieces, but no SeedAsk (seed_digests.h). Encoding: a version byte, a kind byte, the attempt, then
// what docs/PROTOCOL-snapshot.md lays out; canonical.
//
// Pure values.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <variant>
#include <vector>

#include "common/base/result.h"
#include "replicator/replay/log_entry.h"
#include "replicator/replay/ports.h"

namespace antipode::control {

struct SeedPages {
    uint64_t attempt = 0;
    replay::DeltaPages pages;
    bool operator==(const SeedPages&) const = default;
};

struct SeedChunk {
    static constexpr uint64_t kBytes = 64 << 10;
    static constexpr uint64_t count_of(uint64_t disk_bytes) {
        return (disk_bytes + kBytes - 1) / kBytes;
    }
    uint64_t attempt = 0;
    uint32_t drive = 0;
    uint64_t offset_bytes = 0;
    uint64_t length_bytes = 0;
    std::vector<std::byte> bytes;  // length_bytes of them, or none: all zero
    bool operator==(const SeedChunk&) const = default;
};

struct DriveChunk {
    uint32_t drive = 0;
    uint64_t index = 0;  // in units of SeedChunk::kBytes
    friend auto operator<=>(const DriveChunk&, const DriveChunk&) = default;
};

// What do you hold in these chunks? Answered in the order of the questions.
struct SeedAsk {
    static constexpr uint32_t kChunksMax = 1024;
    uint64_t attempt = 0;
    uint32_t drive = 0;
    uint64_t first_chunk = 0;
    uint32_t chunk_count = 0;  // 1 to kChunksMax
    bool operator==(const SeedAsk&) const = default;
};

// Of one attempt, beside its pieces: how much has been taken, how far it is.
struct SeedFigure {
    uint64_t attempt = 0;
    uint64_t value = 0;
    bool operator==(const SeedFigure&) const = default;
};

struct SeedEnd {
    uint64_t attempt = 0;
    uint64_t piece_count = 0;                  // before this one
    LogIndex position;                         // the cut: the log goes on behind this entry
    OutputNumber released;                     // outputs up to this one have left
    std::vector<replay::ReplayedOutput> held;  // made before the cut and not released
    replay::VmState state;
};

using SeedPiece = std::variant<SeedPages, SeedChunk, SeedEnd, SeedAsk>;

std::vector<std::byte> encode(const SeedPiece& piece);
Result<SeedPiece> decode_seed_piece(std::span<const std::byte> bytes);
std::vector<std::byte> encode(const SeedFigure& figure);
std::optional<SeedFigure> decode_seed_figure(std::span<const std::byte> bytes);

}  // namespace antipode::control
