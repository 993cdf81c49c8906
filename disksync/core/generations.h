// Generations: how two copies of a disk find out, when they meet, which of them has what the other
// lacks.
//
// A copy's contents have a current generation. As long as both copies take every write, both keep
// it. The first write that only one copy gets begins a new generation there: the old one becomes a
// base of its dirty bitmap, which from then on marks every block in which this copy may differ from
// its bases. When the other copy has caught up, it takes over the current generation and the bases
// go to history.
//
//   start_generation   at the primary, before the first write that the peer does not get
//   peer_caught_up     at the source, when the target has confirmed the new generation
//   take_over          at the target, when everything has arrived
//
// decide() is a function of what both copies say in their hellos; called at both ends with the
// roles exchanged it gives mirrored answers. Pure; any thread.
//
// INVARIANTS
//   - Equal current generations, and no marked block on either side: equal contents.
//   - A's bases contain B's current generation: the blocks marked at A or at B are all in which
//     they differ.
//   - No generation is in two places (current, bases, history) of one copy.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "disksync/core/disk_types.h"

namespace antipode::disksync {

// Both copies were made empty, of zeroes: `create --empty` at both ends.
inline constexpr Generation kEmptyGeneration{1};

// `fresh` is random. The bitmap must mark what the peer may lack from before, and every write
// after.
void start_generation(Generations& generations, Generation fresh);
// The peer's copy has been made equal: nothing is marked for it any more.
void peer_caught_up(Generations& generations);
// The contents are now the source's.
void take_over(Generations& generations, const Generations& source);
// Of all bases only this one can be the peer's: the others go to history.
void keep_base(Generations& generations, Generation only);
// The contents are no longer what any generation names: only a full sync helps.
void forget(Generations& generations);

bool is_base(const Generations& generations, Generation of);
bool in_history(const Generations& generations, Generation of);

// One side, as its hello says.
struct CopyView {
    DiskId id;
    Generations generations;
    DiskRole role = DiskRole::secondary;
    DiskState state = DiskState::inconsistent;
    Epoch epoch;
    uint64_t size_bytes = 0;
    // It was primary and did not close its activity log: the log's blocks are among the marked
    // ones.
    bool crashed_primary = false;
    uint64_t marked_blocks = 0;
    int64_t generation_time_seconds = 0;
};

enum class SyncKind : uint8_t {
    none = 1,         // equal
    blocks = 2,       // the marked blocks, of both sides together
    full = 3,         // every block
    not_initialised,  // both are just created: someone must say which one has the data
    split_brain,      // both have what the other lacks
    unrelated,        // nothing in common: refused
    refused,          // would be possible, but must not be; see `reason`
};
std::string_view to_string(SyncKind kind);

enum class SyncDirection : uint8_t { none = 0, we_send = 1, peer_sends = 2 };
std::string_view to_string(SyncDirection direction);

struct SyncDecision {
    SyncKind kind = SyncKind::none;
    SyncDirection direction = SyncDirection::none;  // of blocks and full
    // split_brain: both bitmaps are valid against a common ancestor, so that only marked blocks
    // need to be exchanged once a side has been chosen.
    bool blocks_known = false;
    const char* reason = "";
    friend bool operator==(const SyncDecision&, const SyncDecision&) = default;
};
SyncDecision decide(const CopyView& self, const CopyView& peer);

// What an operator lets happen in a split brain, after DRBD's names. `ask` does nothing.
enum class SplitPolicy : uint8_t {
    ask = 1,
    discard_younger_primary,  // keep the side that diverged first
    discard_older_primary,    // keep the side that diverged last
    discard_zero_changes,     // if one side has not changed anything, keep the other; else ask
    discard_least_changes,    // keep the side with more marked blocks
    discard_local,            // this side is the victim
    discard_remote,
    discard_secondary,  // if one side is primary now, keep it; else ask
    lower_epoch,        // keep the side that was granted the higher epoch; equal: ask
};
std::string_view to_string(SplitPolicy policy);
std::optional<SplitPolicy> parse_split_policy(std::string_view text);

struct SplitPolicies {
    SplitPolicy no_primary = SplitPolicy::ask;   // neither side is primary now
    SplitPolicy one_primary = SplitPolicy::ask;  // one is
    SplitPolicy two_primaries = SplitPolicy::ask;
};

// Who keeps its data in a split brain: none = ask.
SyncDirection resolve_split(const SplitPolicies& policies, const CopyView& self,
                            const CopyView& peer);

// What choosing a direction would throw away.
struct SplitPreview {
    uint64_t blocks_lost = 0;        // marked at the side that is given up
    int64_t lost_since_seconds = 0;  // when that side's generation began; seconds since 1970
    bool exact = false;  // false: the number is a lower bound, the ancestor is not known
};
SplitPreview preview(SyncDirection direction, const CopyView& self, const CopyView& peer);

}  // namespace antipode::disksync
