#include "web/security/audit.h"

#include <algorithm>

#include "common/base/log.h"
#include "replicator/control/control_api.h"

namespace antipode::web {

boost::json::object to_json(const AuditEntry& entry) {
    boost::json::object out;
    out["id"] = entry.id;
    out["time_unix_ms"] = entry.time_unix_ms;
    out["actor"] = entry.actor;
    out["via"] = entry.via;
    out["remote"] = entry.remote;
    out["action"] = entry.action;
    out["target"] = entry.target;
    out["outcome"] = entry.outcome;
    out["detail"] = entry.detail;
    return out;
}

Result<> AuditLog::add(const AuditEntry& entry) {
    // One line each: a name with a line feed must not forge another entry.
    const auto clean = [](const std::string& text) {
        std::string out = control::printable(text, 1000);
        std::replace_if(
            out.begin(), out.end(), [](char c) { return c == '\n' || c == '\r' || c == '\t'; },
            ' ');
        return out;
    };
    logger("audit").info("{} via={} from={} {} {} -> {} {}", clean(entry.actor), clean(entry.via),
                         clean(entry.remote), clean(entry.action), clean(entry.target),
                         clean(entry.outcome), clean(entry.detail));
    FT_TRY_VOID(database_.run(
        "INSERT INTO audit (time_unix_ms, actor, via, remote, action, target, outcome, detail) "
        "VALUES (?,?,?,?,?,?,?,?)",
        {entry.time_unix_ms, clean(entry.actor), clean(entry.via), clean(entry.remote),
         clean(entry.action), clean(entry.target), clean(entry.outcome), clean(entry.detail)}));
    const int64_t id = database_.last_row_id();
    if (id % 1000 != 0) return {};
    return database_.run("DELETE FROM audit WHERE id <= ?", {id - kKept});
}

Result<std::vector<AuditEntry>> AuditLog::find(const AuditFilter& filter) const {
    std::vector<AuditEntry> out;
    FT_TRY_VOID(database_.query(
        "SELECT id, time_unix_ms, actor, via, remote, action, target, outcome, detail FROM audit "
        "WHERE (?1 = 0 OR id < ?1) ORDER BY id DESC LIMIT ?2",
        {filter.before, filter.limit}, [&](const SqlRow& row) {
            out.push_back({row.number(0), row.number(1), row.text(2), row.text(3), row.text(4),
                           row.text(5), row.text(6), row.text(7), row.text(8)});
        }));
    return out;
}

}  // namespace antipode::web
