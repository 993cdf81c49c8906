#include "web/tasks.h"

#include <charconv>

#include "web/security/secrets.h"

namespace antipode::web {
namespace {

using control::OperationState;

std::string hex(Incarnation incarnation) {
    return fmt::format("{:016x}", incarnation.value());
}

Incarnation from_hex(const std::string& text) {
    uint64_t value = 0;
    std::from_chars(text.data(), text.data() + text.size(), value, 16);
    return Incarnation(value);
}

Task task_of(const SqlRow& row) {
    Task task;
    task.id = row.text(0);
    task.number = row.number(1);
    task.pair = row.text(2);
    task.site = row.text(3);
    task.action =
        control::from_word<control::Method>(row.text(4)).value_or(control::Method::status);
    task.actor = row.text(5);
    task.state = control::from_word<OperationState>(row.text(6)).value_or(OperationState::failed);
    if (!row.is_null(7)) task.progress_ratio = row.real(7);
    task.text = row.text(8);
    task.incarnation = from_hex(row.text(9));
    task.operation = static_cast<uint64_t>(row.number(10));
    task.created_unix_ms = row.number(11);
    if (!row.is_null(12)) task.ended_unix_ms = row.number(12);
    return task;
}

SqlValue or_null(const std::optional<double>& value) {
    return value ? SqlValue(*value) : SqlValue(nullptr);
}
SqlValue or_null(const std::optional<int64_t>& value) {
    return value ? SqlValue(*value) : SqlValue(nullptr);
}

// Brings a running task up to date; says whether anything changed.
bool advance(Task& task, const control::Status& status, int64_t now) {
    const auto end = [&](OperationState state, std::string text) {
        task.state = state;
        task.text = std::move(text);
        task.ended_unix_ms = now;
        return true;
    };
    if (task.incarnation != status.incarnation) {
        return end(OperationState::failed,
                   "the replicator was restarted while it ran; look at the state of the VM");
    }
    for (const control::Operation& operation : status.operations) {
        if (operation.id != task.operation) continue;
        if (operation.state == task.state && operation.progress_ratio == task.progress_ratio &&
            operation.text == task.text) {
            return false;
        }
        task.state = operation.state;
        task.progress_ratio = operation.progress_ratio;
        task.text = operation.text;
        if (operation.state != OperationState::running) {
            task.ended_unix_ms = operation.ended_unix_ms.value_or(now);
        }
        return true;
    }
    // A status from before the start does not know it yet.
    if (status.time_unix_ms < task.created_unix_ms + 2000) return false;
    return end(OperationState::failed, "the replicator no longer knows how it ended");
}

}  // namespace

Result<Task> Tasks::add(Task task) {
    task.id = random_secret().substr(0, 16);
    FT_TRY_VOID(database_.query("SELECT coalesce(max(number), 0) + 1 FROM tasks", {},
                                [&](const SqlRow& row) { task.number = row.number(0); }));
    FT_TRY_VOID(database_.run(
        "INSERT INTO tasks (id, number, pair, site, action, actor, state, progress, text, "
        "incarnation, operation, created_unix_ms, ended_unix_ms) VALUES "
        "(?,?,?,?,?,?,?,?,?,?,?,?,?)",
        {task.id, task.number, task.pair, task.site, std::string(control::word(task.action)),
         task.actor, std::string(control::word(task.state)), or_null(task.progress_ratio),
         task.text, hex(task.incarnation), static_cast<int64_t>(task.operation),
         task.created_unix_ms, or_null(task.ended_unix_ms)}));
    FT_TRY_VOID(database_.run("DELETE FROM tasks WHERE number <= ?", {task.number - kKept}));
    return task;
}

Result<std::vector<Task>> Tasks::select(std::string_view where,
                                        const std::vector<SqlValue>& values) const {
    std::vector<Task> out;
    const std::string sql =
        "SELECT id, number, pair, site, action, actor, state, progress, text, "
        "incarnation, operation, created_unix_ms, ended_unix_ms FROM tasks " +
        std::string(where);
    FT_TRY_VOID(
        database_.query(sql, values, [&](const SqlRow& row) { out.push_back(task_of(row)); }));
    return out;
}

Result<Task> Tasks::find(std::string_view id) const {
    FT_TRY(auto found, select("WHERE id=?", {std::string(id)}));
    if (found.empty()) return fail(Errc::not_found, "there is no task '{}'", id.substr(0, 40));
    return std::move(found.front());
}

Result<std::vector<Task>> Tasks::list(const TaskFilter& filter) const {
    std::string where = "WHERE (?1 = 0 OR number < ?1)";
    std::vector<SqlValue> values{filter.before, filter.limit};
    const auto also = [&](std::string_view column, std::string_view value) {
        values.emplace_back(std::string(value));
        where += fmt::format(" AND {} = ?{}", column, values.size());
    };
    if (filter.pair) also("pair", *filter.pair);
    if (filter.state) also("state", control::word(*filter.state));
    return select(where + " ORDER BY number DESC LIMIT ?2", values);
}

Result<> Tasks::update(const Task& task) {
    return database_.run("UPDATE tasks SET state=?, progress=?, text=?, ended_unix_ms=? WHERE id=?",
                         {std::string(control::word(task.state)), or_null(task.progress_ratio),
                          task.text, or_null(task.ended_unix_ms), task.id});
}

Result<std::vector<Task>> Tasks::follow(const View& view, int64_t now_unix_ms) {
    std::vector<Task> changed;
    if (!view.reachable || !view.status) return changed;
    FT_TRY(auto running, select("WHERE state='running' AND pair=? AND site=?",
                                {view.status->pair, view.status->site}));
    for (Task& task : running) {
        if (!advance(task, *view.status, now_unix_ms)) continue;
        FT_TRY_VOID(update(task));
        changed.push_back(std::move(task));
    }
    return changed;
}

control::json::value to_json(const Task& task) {
    control::json::object out;
    out["id"] = task.id;
    out["number"] = task.number;
    out["pair"] = task.pair;
    out["site"] = task.site;
    out["action"] = control::word(task.action);
    out["actor"] = task.actor;
    out["state"] = control::word(task.state);
    out["progress_ratio"] = task.progress_ratio ? control::json::value(*task.progress_ratio)
                                                : control::json::value(nullptr);
    out["text"] = task.text;
    out["created_unix_ms"] = task.created_unix_ms;
    out["ended_unix_ms"] = task.ended_unix_ms ? control::json::value(*task.ended_unix_ms)
                                              : control::json::value(nullptr);
    return out;
}

}  // namespace antipode::web
