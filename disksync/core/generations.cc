#include "disksync/core/generations.h"

#include <algorithm>

#include "common/base/check.h"

namespace antipode::disksync {

namespace {

constexpr Generation kNone{};

template <size_t kCount>
bool contains(const std::array<Generation, kCount>& list, Generation of) {
    return of != kNone && std::find(list.begin(), list.end(), of) != list.end();
}

template <size_t kCount>
void remove(std::array<Generation, kCount>& list, Generation of) {
    const auto end = std::remove(list.begin(), list.end(), of);
    std::fill(end, list.end(), kNone);
}

// In front; what falls out at the end is returned.
template <size_t kCount>
Generation push_front(std::array<Generation, kCount>& list, Generation of) {
    remove(list, of);
    const Generation last = list.back();
    std::copy_backward(list.begin(), list.end() - 1, list.end());
    list.front() = of;
    return last;
}

void remember(Generations& generations, Generation of) {
    if (of == kNone || of == generations.current) return;
    remove(generations.bases, of);
    push_front(generations.history, of);
}

bool knows(const Generations& generations, Generation of) {
    return of != kNone && (generations.current == of || contains(generations.bases, of) ||
                           contains(generations.history, of));
}

bool related(const Generations& one, const Generations& other) {
    if (knows(one, other.current)) return true;
    return std::any_of(other.bases.begin(), other.bases.end(),
                       [&](Generation of) { return knows(one, of); }) ||
           std::any_of(other.history.begin(), other.history.end(),
                       [&](Generation of) { return knows(one, of); });
}

bool share_a_base(const Generations& one, const Generations& other) {
    return std::any_of(other.bases.begin(), other.bases.end(),
                       [&](Generation of) { return contains(one.bases, of); });
}

bool can_be_source(DiskState state) {
    return state == DiskState::up_to_date || state == DiskState::consistent ||
           state == DiskState::outdated;
}

SyncDecision refuse(const char* reason) {
    return {SyncKind::refused, SyncDirection::none, false, reason};
}

// The rules that hold whatever was decided: who must not be overwritten, and who has nothing to
// give.
SyncDecision directed(SyncKind kind, SyncDirection direction, const CopyView& self,
                      const CopyView& peer, const char* reason) {
    const bool we_send = direction == SyncDirection::we_send;
    const CopyView& source = we_send ? self : peer;
    const CopyView& target = we_send ? peer : self;
    if (!can_be_source(source.state)) {
        return refuse("the side with the newer data is in the middle of a resync; undo that first");
    }
    if (target.role == DiskRole::primary) {
        return refuse("the side with the older data is primary: a VM would see its disk change");
    }
    if (target.size_bytes < source.size_bytes) return refuse("the target's disk is smaller");
    return {kind, direction, false, reason};
}

// Same generation at both ends: nothing happened, or a side has blocks that the other may lack.
SyncDecision decide_equal(const CopyView& self, const CopyView& peer) {
    const auto ahead = [](const CopyView& side) {
        return side.marked_blocks != 0 || side.crashed_primary;
    };
    if (!ahead(self) && !ahead(peer)) {
        return {SyncKind::none, SyncDirection::none, false, "both have the same contents"};
    }
    SyncDirection direction = SyncDirection::none;
    if (self.role != peer.role) {
        direction =
            self.role == DiskRole::primary ? SyncDirection::we_send : SyncDirection::peer_sends;
    } else if (self.role == DiskRole::primary) {
        return {SyncKind::split_brain, SyncDirection::none, true, "both were primary at once"};
    } else if (ahead(self) != ahead(peer)) {
        direction = ahead(self) ? SyncDirection::we_send : SyncDirection::peer_sends;
    } else if (self.epoch != peer.epoch) {
        direction = self.epoch > peer.epoch ? SyncDirection::we_send : SyncDirection::peer_sends;
    } else {
        // Either will do: neither was ever said to be the only right one. Both ends must agree.
        direction = self.id > peer.id ? SyncDirection::we_send : SyncDirection::peer_sends;
    }
    return directed(SyncKind::blocks, direction, self, peer, "one side may hold writes of its own");
}

SyncDecision decide_new(const CopyView& self, const CopyView& peer) {
    const bool self_new = self.generations.current == kNone;
    const bool peer_new = peer.generations.current == kNone;
    if (self_new && peer_new) {
        return {SyncKind::not_initialised, SyncDirection::none, false,
                "both copies are new: say which one has the data, or that both are empty"};
    }
    return directed(SyncKind::full, self_new ? SyncDirection::peer_sends : SyncDirection::we_send,
                    self, peer, "one copy is new");
}

}  // namespace

void start_generation(Generations& generations, Generation fresh) {
    FT_CHECK(fresh != kNone && !knows(generations, fresh), "generation {:016x} is not fresh",
             fresh.value());
    if (generations.current != kNone) {
        const Generation dropped = push_front(generations.bases, generations.current);
        if (dropped != kNone) push_front(generations.history, dropped);
    }
    generations.current = fresh;
}

void peer_caught_up(Generations& generations) {
    const auto bases = generations.bases;
    generations.bases = {};
    for (auto base = bases.rbegin(); base != bases.rend(); ++base) remember(generations, *base);
}

void keep_base(Generations& generations, Generation only) {
    if (!is_base(generations, only)) return;
    peer_caught_up(generations);
    remove(generations.history, only);
    generations.bases.front() = only;
}

void take_over(Generations& generations, const Generations& source) {
    Generations next;
    next.current = source.current;
    // Newest last, so that the newest ends in front.
    for (auto at = generations.history.rbegin(); at != generations.history.rend(); ++at) {
        remember(next, *at);
    }
    for (auto at = generations.bases.rbegin(); at != generations.bases.rend(); ++at) {
        remember(next, *at);
    }
    remember(next, generations.current);
    for (auto at = source.history.rbegin(); at != source.history.rend(); ++at) remember(next, *at);
    for (auto at = source.bases.rbegin(); at != source.bases.rend(); ++at) remember(next, *at);
    generations = next;
}

void forget(Generations& generations) {
    generations = Generations{};
}

bool is_base(const Generations& generations, Generation of) {
    return contains(generations.bases, of);
}

bool in_history(const Generations& generations, Generation of) {
    return contains(generations.history, of);
}

SyncDecision decide(const CopyView& self, const CopyView& peer) {
    const Generations& ours = self.generations;
    const Generations& theirs = peer.generations;
    if (ours.current == kNone || theirs.current == kNone) return decide_new(self, peer);
    if (ours.current == theirs.current) return decide_equal(self, peer);
    const bool we_are_ahead = is_base(ours, theirs.current);
    const bool peer_is_ahead = is_base(theirs, ours.current);
    if (we_are_ahead && peer_is_ahead) {
        // Each says that it descends from the other: no honest history does this.
        return {SyncKind::split_brain, SyncDirection::none, true, "each descends from the other"};
    }
    if (we_are_ahead) {
        return directed(SyncKind::blocks, SyncDirection::we_send, self, peer,
                        "the peer has what our bitmap begins with");
    }
    if (peer_is_ahead) {
        return directed(SyncKind::blocks, SyncDirection::peer_sends, self, peer,
                        "we have what the peer's bitmap begins with");
    }
    const bool peer_is_old = in_history(ours, theirs.current);
    const bool we_are_old = in_history(theirs, ours.current);
    if (peer_is_old && !we_are_old) {
        return directed(SyncKind::full, SyncDirection::we_send, self, peer,
                        "the peer's contents are older than our bitmap");
    }
    if (we_are_old && !peer_is_old) {
        return directed(SyncKind::full, SyncDirection::peer_sends, self, peer,
                        "our contents are older than the peer's bitmap");
    }
    if (related(ours, theirs)) {
        return {SyncKind::split_brain, SyncDirection::none, share_a_base(ours, theirs),
                "both were written without the other since they were last equal"};
    }
    return {SyncKind::unrelated, SyncDirection::none, false,
            "the two copies have nothing in common"};
}

std::string_view to_string(SyncKind kind) {
    switch (kind) {
        case SyncKind::none:
            return "in-sync";
        case SyncKind::blocks:
            return "bitmap-sync";
        case SyncKind::full:
            return "full-sync";
        case SyncKind::not_initialised:
            return "not-initialised";
        case SyncKind::split_brain:
            return "split-brain";
        case SyncKind::unrelated:
            return "unrelated-data";
        case SyncKind::refused:
            return "refused";
    }
    return "unknown";
}

std::string_view to_string(SyncDirection direction) {
    switch (direction) {
        case SyncDirection::none:
            return "none";
        case SyncDirection::we_send:
            return "to-peer";
        case SyncDirection::peer_sends:
            return "from-peer";
    }
    return "unknown";
}

namespace {

constexpr std::array<std::pair<SplitPolicy, std::string_view>, 9> kPolicyNames{{
    {SplitPolicy::ask, "ask"},
    {SplitPolicy::discard_younger_primary, "discard-younger-primary"},
    {SplitPolicy::discard_older_primary, "discard-older-primary"},
    {SplitPolicy::discard_zero_changes, "discard-zero-changes"},
    {SplitPolicy::discard_least_changes, "discard-least-changes"},
    {SplitPolicy::discard_local, "discard-local"},
    {SplitPolicy::discard_remote, "discard-remote"},
    {SplitPolicy::discard_secondary, "discard-secondary"},
    {SplitPolicy::lower_epoch, "discard-lower-epoch"},
}};

// Who sends when the side for which `of` is greater keeps its data; equal: nobody knows.
template <typename Value>
SyncDirection keep_greater(Value of_self, Value of_peer) {
    if (of_self == of_peer) return SyncDirection::none;
    return of_self > of_peer ? SyncDirection::we_send : SyncDirection::peer_sends;
}

}  // namespace

std::string_view to_string(SplitPolicy policy) {
    for (const auto& [value, name] : kPolicyNames) {
        if (value == policy) return name;
    }
    return "unknown";
}

std::optional<SplitPolicy> parse_split_policy(std::string_view text) {
    for (const auto& [value, name] : kPolicyNames) {
        if (name == text) return value;
    }
    return std::nullopt;
}

SyncDirection resolve_split(const SplitPolicies& policies, const CopyView& self,
                            const CopyView& peer) {
    const int primaries = (self.role == DiskRole::primary) + (peer.role == DiskRole::primary);
    const SplitPolicy policy = primaries == 0   ? policies.no_primary
                               : primaries == 1 ? policies.one_primary
                                                : policies.two_primaries;
    switch (policy) {
        case SplitPolicy::ask:
            return SyncDirection::none;
        case SplitPolicy::discard_younger_primary:
            return keep_greater(-self.generation_time_seconds, -peer.generation_time_seconds);
        case SplitPolicy::discard_older_primary:
            return keep_greater(self.generation_time_seconds, peer.generation_time_seconds);
        case SplitPolicy::discard_zero_changes:
            if ((self.marked_blocks == 0) == (peer.marked_blocks == 0)) return SyncDirection::none;
            return keep_greater(self.marked_blocks, peer.marked_blocks);
        case SplitPolicy::discard_least_changes:
            return keep_greater(self.marked_blocks, peer.marked_blocks);
        case SplitPolicy::discard_local:
            return SyncDirection::peer_sends;
        case SplitPolicy::discard_remote:
            return SyncDirection::we_send;
        case SplitPolicy::discard_secondary:
            return keep_greater(self.role == DiskRole::primary, peer.role == DiskRole::primary);
        case SplitPolicy::lower_epoch:
            return keep_greater(self.epoch.value(), peer.epoch.value());
    }
    return SyncDirection::none;
}

SplitPreview preview(SyncDirection direction, const CopyView& self, const CopyView& peer) {
    const CopyView& loser = direction == SyncDirection::we_send ? peer : self;
    return {loser.marked_blocks, loser.generation_time_seconds,
            share_a_base(self.generations, peer.generations)};
}

}  // namespace antipode::disksync
