// The events of all pairs, in the order in which the web daemon learned of them, with identifiers
// of its own: what pages and scripts read, filtered and page by page.
//
// Threads: the web thread only.
// INVARIANTS: bounded; identifiers grow by one; the oldest fall out first.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "web/fleet.h"

namespace antipode::web {

struct StoredEvent {
    uint64_t id = 0;
    PairEvent event;
};

struct EventFilter {
    std::optional<std::string> pair;
    std::optional<control::Severity> at_least;
    uint64_t before = 0;  // id; 0 = from the newest
    uint64_t after = 0;   // id
    size_t limit = 100;
};

class EventHistory {
  public:
    explicit EventHistory(size_t events_max) : events_max_(events_max) {}

    const StoredEvent& add(const PairEvent& event);
    // Newest first.
    std::vector<StoredEvent> find(const EventFilter& filter) const;

  private:
    const size_t events_max_;
    std::deque<StoredEvent> events_;
    uint64_t last_id_ = 0;
};

control::json::value to_json(const StoredEvent& stored);

}  // namespace antipode::web
