#include "web/events.h"

namespace antipode::web {

Result<std::optional<StoredEvent>> EventHistory::add(const PairEvent& event) {
    FT_TRY_VOID(database_.run(
        "INSERT OR IGNORE INTO events (pair, site, incarnation, sequence, time_unix_ms, code, "
        "severity, text) VALUES (?,?,?,?,?,?,?,?)",
        {event.pair, event.site, fmt::format("{:016x}", event.incarnation.value()),
         static_cast<int64_t>(event.event.sequence), event.event.time_unix_ms,
         std::string(control::word(event.event.code)), static_cast<int64_t>(event.event.severity),
         event.event.text}));
    if (database_.changed_rows() == 0) return std::optional<StoredEvent>();
    const int64_t id = database_.last_row_id();
    if (id % 100 == 0) {
        FT_TRY_VOID(database_.run("DELETE FROM events WHERE id <= ?", {id - events_max_}));
    }
    return std::optional<StoredEvent>(StoredEvent{id, event});
}

Result<std::vector<StoredEvent>> EventHistory::find(const EventFilter& filter) const {
    std::string where = "id > ?1 AND (?2 = 0 OR id < ?2) AND severity >= ?3";
    std::vector<SqlValue> values{
        filter.after, filter.before,
        static_cast<int64_t>(filter.at_least.value_or(control::Severity::info)), filter.limit};
    if (filter.pair) {
        where += " AND pair = ?5";
        values.emplace_back(*filter.pair);
    }
    std::vector<StoredEvent> out;
    FT_TRY_VOID(database_.query(
        "SELECT id, pair, site, sequence, time_unix_ms, code, severity, text FROM events WHERE " +
            where + " ORDER BY id DESC LIMIT ?4",
        values, [&](const SqlRow& row) {
            StoredEvent stored;
            stored.id = row.number(0);
            stored.event.pair = row.text(1);
            stored.event.site = row.text(2);
            stored.event.event.sequence = static_cast<uint64_t>(row.number(3));
            stored.event.event.time_unix_ms = row.number(4);
            stored.event.event.code = control::from_word<control::EventCode>(row.text(5))
                                          .value_or(control::EventCode::state_changed);
            stored.event.event.severity = static_cast<control::Severity>(row.number(6));
            stored.event.event.text = row.text(7);
            out.push_back(std::move(stored));
        }));
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
