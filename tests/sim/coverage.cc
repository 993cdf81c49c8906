#include "tests/sim/coverage.h"

#include <algorithm>
#include <fmt/format.h>

#include "common/base/check.h"

namespace antipode::sim {

using failover::Event;
using failover::State;
using failover::Treatment;

namespace {

// Every probe there is, so that one that is never hit is seen.
constexpr std::string_view kProbes[] = {
    "A alone",
    "B alone",
    "a command is refused",
    "a guest runs before its site hears what it missed",
    "a process retires",
    "a resync overwrites the old copy",
    "a site that has lost writes its disk before it hears of it",
    "an operator enrols the pair again",
    "an operator forces the newest copy",
    "an operator lets a diverged site rejoin",
    "an operator lets a site boot the VM whose policy is to wait",
    "an operator lets a site rejoin whose policy is to wait",
    "an operator overrules a forced site that has stopped",
    "an operator starts a VM that was shut down",
    "boots from its disk",
    "clock drift",
    "clock jump",
    "crash after a durable write, before it is known",
    "crash before a durable write",
    "crash within a durable write: the old copy stands",
    "cut A to B",
    "cut B to A",
    "cut both ways",
    "delay",
    "delay in one direction",
    "disk full",
    "enrolled again without need",
    "everybody alone",
    "force",
    "force at both sites",
    "force, everybody alone",
    "force at both sites, everybody alone",
    "goes live from its log",
    "goes live from its memory",
    "heartbeats lost, the channel works",
    "kill",
    "kill of both",
    "kill soon after a change of state",
    "loss",
    "memory lost",
    "power loss",
    "power loss of both",
    "reclaim by hand",
    "rejoin by hand",
    "seed fails",
    "session reset",
    "slow disk",
    "slow peer",
    "stopped and continued",
    "switchover",
    "swizzle",
    "take over",
    "the copying of a seed fails",
    "the guest shuts itself down",
    "the memory of a stopped VM is lost",
    "the receiving of a seed fails",
    "the tiebreaker's answers are lost",
    "tiebreaker crash",
    "tiebreaker cut from A",
    "tiebreaker cut from B",
    "tiebreaker loses its data",
    "tiebreaker restored from an old backup",
    "tiebreaker slow",
    "unprotect",
    "vm failed",
};

// Those of the mix with three sites.
constexpr std::string_view kSpareProbes[] = {
    "a site stays away for long",      "an operator starts a site again that was left behind",
    "a site turns to another one",     "one line cut in one direction",
    "one line cut, the others work",   "one of three sites alone",
    "the backup is lost for ever",     "the backup is moved",
    "the last of three sites goes on", "the primary is lost for ever",
    "the spare is lost for ever",      "the tiebreaker cut from one of three",
};

bool any(const std::array<uint32_t, failover::kStateCount>& counts) {
    return std::any_of(counts.begin(), counts.end(), [](uint32_t count) { return count > 0; });
}

}  // namespace

Coverage::Coverage() {
    for (const std::string_view name : kProbes) probes_.emplace(name, 0);
}

void Coverage::expect_spares() {
    for (const std::string_view name : kSpareProbes) probes_.emplace(name, 0);
}

void Coverage::probe(const char* name) {
    const auto found = probes_.find(name);
    FT_CHECK(found != probes_.end(), "the probe \"{}\" is not listed", name);
    ++found->second;
}

size_t Coverage::probes_seen() const {
    return static_cast<size_t>(std::count_if(probes_.begin(), probes_.end(),
                                             [](const auto& probe) { return probe.second > 0; }));
}

std::pair<size_t, size_t> Coverage::handled() const {
    size_t seen = 0;
    size_t all = 0;
    for (size_t s = 0; s < failover::kStateCount; ++s) {
        for (size_t e = 0; e < failover::kEventCount; ++e) {
            const auto& cell =
                failover::transition(static_cast<State>(s + 1), static_cast<Event>(e));
            if (cell.treatment != Treatment::handled) continue;
            ++all;
            seen += any(cells_[s][e]) ? 1 : 0;
        }
    }
    return {seen, all};
}

size_t Coverage::states_seen() const {
    size_t seen = 0;
    for (const auto& events : cells_) {
        seen += std::any_of(events.begin(), events.end(), any) ? 1 : 0;
    }
    return seen;
}

void Coverage::print_unseen() const {
    for (size_t s = 0; s < failover::kStateCount; ++s) {
        for (size_t e = 0; e < failover::kEventCount; ++e) {
            const auto state = static_cast<State>(s + 1);
            const auto event = static_cast<Event>(e);
            const auto& cell = failover::transition(state, event);
            if (cell.treatment != Treatment::handled) continue;
            if (!any(cells_[s][e])) {
                fmt::print("never: {} in {}\n", failover::to_string(event), wire::to_string(state));
                continue;
            }
            for (size_t n = 0; n < failover::kStateCount; ++n) {
                const auto next = static_cast<State>(n + 1);
                if (!cell.next.contains(next) || cells_[s][e][n] > 0) continue;
                fmt::print("never: {} in {} -> {}\n", failover::to_string(event),
                           wire::to_string(state), wire::to_string(next));
            }
        }
    }
}

}  // namespace antipode::sim
