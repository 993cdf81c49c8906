// What of a disk need not cross the line: the new backup names the content of its chunks, and the
// primary sends only those that are other than its own.
//
//   primary                                   new backup
//     SeedAsk, a piece of the seed    ->        reads these chunks of its own disk
//     compares, sends what differs    <-        SeedDigests, in the control class
//
// A digest is XXH3-128 (xxhash.h) of the chunk, seeded by a number that the new backup draws anew
// for each attempt: a guest that knows the hash cannot lay out two contents that are taken for one.
// Nothing is concluded from what either side remembers of its writes, only from what is on the
// disks. docs/PROTOCOL-snapshot.md.
//
// Pure values.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "common/base/result.h"
#include "replicator/control/seed_frames.h"
#include "replicator/vmm/state_io.h"

namespace antipode::control {

struct ChunkDigest {
    std::array<uint8_t, 16> bytes{};
    bool operator==(const ChunkDigest&) const = default;
};
ChunkDigest digest_of(std::span<const std::byte> chunk, uint64_t seed);
ChunkDigest get_digest(vmm::StateReader& in);

struct SeedDigests {
    uint64_t attempt = 0;
    uint32_t drive = 0;
    uint64_t first_chunk = 0;
    uint64_t seed = 0;
    std::vector<ChunkDigest> digests;  // of the chunks that were asked about, in order
    bool operator==(const SeedDigests&) const = default;
};

std::vector<std::byte> encode(const SeedDigests& answer);
Result<SeedDigests> decode_seed_digests(std::span<const std::byte> bytes);

}  // namespace antipode::control
