// The words of a replicated disk: roles, states, generations. Values; no I/O.
//
// A generation names the contents of a disk at the moment it came into being, as a random number:
// two copies with the same current generation, neither of them written since, are equal. See
// generations.h for the rules and docs/PROTOCOL-disk.md for the whole story.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

#include "common/base/ids.h"

namespace antipode::disksync {

// One bit of the dirty bitmap, and the unit of resync.
inline constexpr uint64_t kBlockBytes = 64 * 1024;
// One entry of the activity log.
inline constexpr uint64_t kExtentBytes = uint64_t{4} << 20;

// An extent's number has 32 bits on disk.
inline constexpr uint64_t kDiskBytesMax = kExtentBytes << 32;

using Generation = Strong<uint64_t, struct GenerationTag>;  // 0 = none
using DiskId = Strong<uint64_t, struct DiskIdTag>;          // of one copy; random; 0 = unknown
using BlockIndex = Strong<uint64_t, struct BlockIndexTag>;

enum class DiskRole : uint8_t {
    secondary = 1,  // takes what the peer sends
    primary = 2,    // a VM writes here
};

enum class DiskState : uint8_t {
    up_to_date = 1,  // has everything that was ever acknowledged
    consistent =
        2,  // a moment of the VM's life; whether the last one is not known without the peer
    inconsistent = 3,  // a resync has begun and not ended: parts of two moments
    outdated = 4,      // consistent, and known to be behind the peer
    failed = 5,        // its store failed; nothing is read from it or written to it
    diskless = 6,      // detached: no store at this site
};

std::string_view to_string(DiskRole role);
std::string_view to_string(DiskState state);
std::optional<DiskRole> parse_disk_role(std::string_view text);
std::optional<DiskState> parse_disk_state(std::string_view text);

// What the contents of a copy descend from.
struct Generations {
    static constexpr size_t kBases = 3;
    static constexpr size_t kHistory = 8;

    Generation current;  // 0 = just created: no contents yet
    // The dirty bitmap marks at least every block in which this copy differs from these
    // generations. None when the peer has everything.
    std::array<Generation, kBases> bases;
    // Earlier ones, newest first: the contents descend from them, the difference is not known.
    std::array<Generation, kHistory> history;

    friend bool operator==(const Generations&, const Generations&) = default;
};

}  // namespace antipode::disksync
