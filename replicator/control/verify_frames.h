// What two sites say to each other to compare their disks while the VM runs (disk_verifier.h), and
// to put right what differs.
//
//   primary -> backup   VerifyAsk        in the log class: it stands before every entry that lets
//                                        the backup go on behind the point that it names
//   backup -> primary   VerifyDigests | VerifyWritten | VerifyLater      in the control class
//   primary -> backup   VerifyBytes      in the resync class: of a repair
//                       VerifyDrop, VerifyFound                          in the control class
//
// Encoding: a version byte, a kind byte, then StateWriter's, little endian; canonical.
//
// Pure values.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "common/base/result.h"
#include "replicator/control/fixed_ranges.h"
#include "replicator/control/seed_digests.h"

namespace antipode::control {

// What so many chunks are of a disk; the last one may be shorter.
DiskRange chunk_range(uint64_t first, uint64_t count, uint64_t disk_bytes);

enum class VerifyPurpose : uint8_t { compare = 0, repair = 1 };

// "What have you got there, behind this point?" or "make it what I am about to send". A repair is
// of one chunk.
struct VerifyAsk {
    static constexpr uint64_t kChunkBytes = SeedChunk::kBytes;
    static constexpr uint32_t kChunksMax = 16;

    uint64_t number = 0;  // of this question; every answer has it
    VerifyPurpose purpose = VerifyPurpose::compare;
    uint32_t drive = 0;
    uint64_t first_chunk = 0;
    uint32_t chunk_count = 0;
    uint64_t seed = 0;  // of the digests
    DiskPoint point;
    bool operator==(const VerifyAsk&) const = default;
};

struct VerifyDigests {
    uint64_t number = 0;
    std::vector<ChunkDigest> digests;  // of the chunks that were asked about, in order
    bool operator==(const VerifyDigests&) const = default;
};

struct VerifyWritten {
    uint64_t number = 0;
    bool operator==(const VerifyWritten&) const = default;
};

// It cannot be done.
struct VerifyLater {
    enum class Again : uint8_t { yes = 0, never = 1 };
    static constexpr size_t kTextBytesMax = 512;

    uint64_t number = 0;
    Again again = Again::yes;
    std::string text;
    bool operator==(const VerifyLater&) const = default;
};

struct VerifyBytes {
    uint64_t number = 0;
    std::vector<std::byte> bytes;  // one chunk; the last of a drive may be shorter
    bool operator==(const VerifyBytes&) const = default;
};

// Nobody waits for the answer any more.
struct VerifyDrop {
    uint64_t number = 0;
    bool operator==(const VerifyDrop&) const = default;
};

// So that the backup, too, tells its operators.
struct VerifyFound {
    enum class What : uint8_t { differs = 0, repaired = 1 };

    What what = What::differs;
    uint32_t drive = 0;
    uint64_t chunk = 0;
    ChunkDigest primary;
    ChunkDigest backup;
    bool operator==(const VerifyFound&) const = default;
};

using VerifyMessage = std::variant<VerifyAsk, VerifyDigests, VerifyWritten, VerifyLater,
                                   VerifyBytes, VerifyDrop, VerifyFound>;

std::vector<std::byte> encode(const VerifyMessage& message);
Result<VerifyMessage> decode_verify_message(std::span<const std::byte> bytes);

}  // namespace antipode::control
