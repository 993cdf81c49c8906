#include "web/events.h"

namespace antipode::web {

const StoredEvent& EventHistory::add(const PairEvent& event) {
    if (events_.size() >= events_max_) events_.pop_front();
    events_.push_back({++last_id_, event});
    return events_.back();
}

std::vector<StoredEvent> EventHistory::find(const EventFilter& filter) const {
    std::vector<StoredEvent> out;
    for (auto at = events_.rbegin(); at != events_.rend() && out.size() < filter.limit; ++at) {
        if (filter.before != 0 && at->id >= filter.before) continue;
        if (at->id <= filter.after) break;
        if (filter.pair && at->event.pair != *filter.pair) continue;
        if (filter.at_least && at->event.event.severity < *filter.at_least) continue;
        out.push_back(*at);
    }
    return out;
}

control::json::value to_json(const StoredEvent& stored) {
    control::json::object out;
    out["id"] = stored.id;
    out["pair"] = stored.event.pair;
    out["site"] = stored.event.site;
    out["sequence"] = stored.event.event.sequence;
    out["time_unix_ms"] = stored.event.event.time_unix_ms;
    out["code"] = control::word(stored.event.event.code);
    out["severity"] = control::word(stored.event.event.severity);
    out["text"] = stored.event.event.text;
    return out;
}

}  // namespace antipode::web
