#include "tests/sim/coverage.h"

#include <algorithm>
#include <fmt/format.h>

namespace antipode::sim {

using failover::Event;
using failover::State;
using failover::Treatment;

namespace {

bool any(const std::array<uint32_t, failover::kStateCount>& counts) {
    return std::any_of(counts.begin(), counts.end(), [](uint32_t count) { return count > 0; });
}

}  // namespace

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
