// The events of all pairs, in the order in which the web daemon learned of them, with identifiers
// of its own: what pages and scripts read, filtered and page by page. Kept over a restart of the
// daemon.
//
// Threads: the web thread only.
// INVARIANTS: an event is kept once, however often a replicator tells it; identifiers only grow;
// the oldest are dropped first.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "web/fleet.h"
#include "web/store/database.h"

namespace antipode::web {

struct StoredEvent {
    int64_t id = 0;
    PairEvent event;
};

struct EventFilter {
    std::optional<std::string> pair;
    std::optional<control::Severity> at_least;
    int64_t before = 0;  // id; 0 = from the newest
    int64_t after = 0;   // id
    int64_t limit = 100;
};

class EventHistory {
  public:
    EventHistory(Database& database, int64_t events_max)
        : database_(database), events_max_(events_max) {}

    // nullopt when it is known already.
    Result<std::optional<StoredEvent>> add(const PairEvent& event);
    // Newest first.
    Result<std::vector<StoredEvent>> find(const EventFilter& filter) const;

  private:
    Database& database_;
    const int64_t events_max_;
};

control::json::value to_json(const StoredEvent& stored);

}  // namespace antipode::web
