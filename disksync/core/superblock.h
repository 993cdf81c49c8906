// Superblock: what a copy of a disk knows about itself, and its encoding: 4096 bytes, little
// endian, checksummed, canonical (equal values, equal bytes).
//
// Pure. decode_superblock() refuses whatever encode() would not have made and names the broken
// rule.
//
// Where it lies: disk_record.h.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "common/base/result.h"
#include "disksync/core/disk_types.h"

namespace antipode::disksync {

struct Superblock {
    uint64_t sequence = 0;  // of the update that wrote it; the slot with the higher one counts
    Name pair;
    Name disk;
    DiskId id;       // of this copy
    DiskId peer_id;  // of the copy that it replicates with; 0 = has met none
    uint64_t size_bytes = 0;
    Epoch epoch;  // the highest ever seen; writes of older ones are refused
    DiskRole role = DiskRole::secondary;
    DiskState state = DiskState::inconsistent;
    // A VM may have written since the role became primary and the activity log has not been closed.
    bool open_for_writing = false;
    // An operator has decided that in a split brain this copy gives way. Ends with the next resync.
    bool discard_mine = false;
    Generations generations;
    // The peer's copy may have the current generation as well: the next write that it does not get
    // needs a new one.
    bool generation_shared = false;
    int64_t generation_time_seconds = 0;  // when `current` came into being, in seconds since 1970
    // A resync towards this generation has begun here and not ended; 0 = none.
    Generation resync_target;
    // An undo file beside the metadata holds what the resync overwrote.
    bool undo_kept = false;

    friend bool operator==(const Superblock&, const Superblock&) = default;
};

constexpr uint64_t kSuperblockBytes = 4096;
constexpr uint16_t kMetadataVersion = 1;

std::vector<std::byte> encode(const Superblock& superblock);
// Errc::version for one written by a later version; Errc::corrupt otherwise.
Result<Superblock> decode_superblock(std::span<const std::byte> bytes);

}  // namespace antipode::disksync
