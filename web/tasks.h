// Tasks: actions that were asked for through the web daemon, followed until they end. A task is
// bound to one operation of one life of a replicator; if that life ends first, the task has failed
// and says so.
//
// Threads: the web thread only.
// INVARIANTS: a task that has ended never changes; every task that was started here ends.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "replicator/control/control_api.h"
#include "web/headline.h"
#include "web/store/database.h"

namespace antipode::web {

struct Task {
    std::string id;
    int64_t number = 0;  // in the order of their making, for pages
    std::string pair;
    std::string site;
    control::Method action = control::Method::status;
    std::string actor;
    control::OperationState state = control::OperationState::running;
    std::optional<double> progress_ratio;
    std::string text;
    Incarnation incarnation{0};
    uint64_t operation = 0;  // 0: it was over when it was answered
    int64_t created_unix_ms = 0;
    std::optional<int64_t> ended_unix_ms;
};

struct TaskFilter {
    std::optional<std::string> pair;
    std::optional<control::OperationState> state;
    int64_t before = 0;  // number
    int64_t limit = 100;
};

class Tasks {
  public:
    static constexpr int64_t kKept = 10'000;

    explicit Tasks(Database& database) : database_(database) {}

    // Fills id and number in.
    Result<Task> add(Task task);
    Result<Task> find(std::string_view id) const;
    Result<std::vector<Task>> list(const TaskFilter& filter) const;  // newest first
    // Takes over what the replicator says of its operations; returns the tasks that changed.
    Result<std::vector<Task>> follow(const View& view, int64_t now_unix_ms);

  private:
    Result<std::vector<Task>> select(std::string_view where,
                                     const std::vector<SqlValue>& values) const;
    Result<> update(const Task& task);

    Database& database_;
};

control::json::value to_json(const Task& task);

}  // namespace antipode::web
