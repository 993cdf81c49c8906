// The drills of this host's pairs: run one now, repeat one every week, keep how each went.
//
// A drill is a coroutine over control sockets (run.h); what it does at a replicator ends by itself,
// whatever becomes of this daemon. Each ends with a signed report, kept with it.
//
// Threads: the web thread only; commands of checks run on a worker of its own.
// INVARIANTS
//   - A pair has one drill at a time; a drill that has ended never changes.
//   - A drill that a restart of the daemon has cut short is `stopped`, and says so.
//   - A schedule is due once a week, by this host's clock and time zone; what was missed by more
//     than an hour is not made up for.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "web/drills/plan.h"
#include "web/drills/report.h"
#include "web/drills/signature.h"
#include "web/events.h"
#include "web/fleet.h"
#include "web/security/worker.h"
#include "web/settings.h"
#include "web/store/database.h"

namespace antipode::web {

class DrillRun;

struct DrillEntry {
    std::string id;
    int64_t number = 0;
    std::string pair;
    DrillKind kind = DrillKind::isolated;
    std::string actor;
    bool scheduled = false;
    std::string step;  // what it does now, or how it ended, in words
    int64_t created_unix_ms = 0;
    std::optional<int64_t> ended_unix_ms;
    std::optional<Verdict> verdict;  // once it has ended
    std::optional<double> rpo_seconds;
    std::optional<double> rto_seconds;
};
json::object to_json(const DrillEntry& entry);

struct DrillSchedule {
    DrillPlan plan;
    int weekday = 0;  // 0 = Monday
    int minute = 0;   // of the day
    bool enabled = true;
    std::string actor;  // who made it
    int64_t next_unix_ms = 0;
};
json::object to_json(const DrillSchedule& schedule);
std::string_view weekday_word(int weekday);
// The next time after `now_unix_ms`, in the host's time zone.
int64_t next_time(const DrillSchedule& schedule, int64_t now_unix_ms);

class Drills {
  public:
    static constexpr int64_t kKept = 1000;
    static constexpr int64_t kMissedMs = 60 * 60 * 1000;

    Drills(boost::asio::any_io_executor executor, const Settings& settings, Database& database,
           Fleet& fleet, const EventHistory& events);
    ~Drills();

    Result<> load();
    void stop();  // idempotent; after it the executor runs dry
    void tick();  // about once a second
    void see(const View& view);
    // Called when an entry is made or has changed.
    std::function<void(const DrillEntry&)> on_change;

    // What would speak against it now; empty = nothing.
    std::vector<DrillFinding> preflight(const DrillPlan& plan) const;
    Result<DrillEntry> start(DrillPlan plan, std::string actor, bool scheduled);
    Result<DrillEntry> end(std::string_view id);  // asks it to stop
    Result<DrillEntry> find(std::string_view id) const;
    struct Filter {
        std::optional<std::string> pair;
        int64_t before = 0;  // number
        int64_t limit = 100;
    };
    Result<std::vector<DrillEntry>> list(const Filter& filter) const;  // newest first
    std::optional<DrillEntry> last_of(std::string_view pair) const;    // that has ended
    // The signed document; not_found while it runs.
    Result<std::string> document(std::string_view id) const;

    std::vector<DrillSchedule> schedules() const;
    Result<DrillSchedule> set_schedule(DrillSchedule schedule);
    Result<> remove_schedule(const std::string& pair, DrillKind kind);

  private:
    friend class DrillRun;
    using Key = std::pair<std::string, DrillKind>;

    void keep(DrillEntry& entry, const std::string& step);
    void finish(DrillRun& run);
    HttpsFiles signer() const;
    void run_due(DrillSchedule& schedule, int64_t now);
    Result<> store(const DrillSchedule& schedule);
    Result<std::vector<DrillEntry>> select(std::string_view where,
                                           const std::vector<SqlValue>& values) const;

    const boost::asio::any_io_executor executor_;
    const Settings& settings_;
    Database& database_;
    Fleet& fleet_;
    const EventHistory& events_;
    Worker worker_;
    std::map<std::string, std::shared_ptr<DrillRun>, std::less<>> runs_;  // by pair
    std::map<Key, DrillSchedule> schedules_;
    std::map<std::string, DrillEntry, std::less<>> last_;  // that has ended, by pair
    bool stopped_ = false;
};

}  // namespace antipode::web
