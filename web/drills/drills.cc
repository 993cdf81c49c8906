#include "web/drills/drills.h"

#include <array>
#include <boost/asio/co_spawn.hpp>
#include <boost/json/serialize.hpp>
#include <ctime>
#include <unistd.h>

#include "common/base/log.h"
#include "web/drills/probe.h"
#include "web/drills/run.h"
#include "web/security/secrets.h"

namespace antipode::web {
namespace {

using control::Severity;
using control::State;
using json::value;

constexpr std::array<std::string_view, 7> kWeekdays{"monday", "tuesday",  "wednesday", "thursday",
                                                    "friday", "saturday", "sunday"};
constexpr std::string_view kColumns =
    "SELECT id, number, pair, kind, actor, scheduled, step, created_unix_ms, ended_unix_ms, "
    "verdict, rpo_seconds, rto_seconds FROM drills ";

template <typename T>
value or_null(const std::optional<T>& given) {
    return given ? value(*given) : value(nullptr);
}
template <typename T>
SqlValue sql(const std::optional<T>& given) {
    return given ? SqlValue(*given) : SqlValue(nullptr);
}

std::optional<DrillKind> kind_from(std::string_view text) {
    for (const DrillKind kind : {DrillKind::isolated, DrillKind::switchover, DrillKind::fault}) {
        if (word(kind) == text) return kind;
    }
    return std::nullopt;
}

std::optional<Verdict> verdict_from(std::string_view text) {
    for (const Verdict verdict : {Verdict::passed, Verdict::failed, Verdict::stopped}) {
        if (word(verdict) == text) return verdict;
    }
    return std::nullopt;
}

DrillEntry entry_of(const SqlRow& row) {
    DrillEntry entry;
    entry.id = row.text(0);
    entry.number = row.number(1);
    entry.pair = row.text(2);
    entry.kind = kind_from(row.text(3)).value_or(DrillKind::isolated);
    entry.actor = row.text(4);
    entry.scheduled = row.number(5) != 0;
    entry.step = row.text(6);
    entry.created_unix_ms = row.number(7);
    if (!row.is_null(8)) entry.ended_unix_ms = row.number(8);
    if (!row.is_null(9)) entry.verdict = verdict_from(row.text(9));
    if (!row.is_null(10)) entry.rpo_seconds = row.real(10);
    if (!row.is_null(11)) entry.rto_seconds = row.real(11);
    return entry;
}

Result<DrillSchedule> schedule_of(const std::string& document) {
    FT_TRY(json::value parsed, control::parse_json(document));
    if (!parsed.is_object()) return fail(Errc::corrupt, "a schedule is no object");
    DrillSchedule schedule;
    json::object& object = parsed.get_object();
    const auto number = [&](std::string_view name) {
        const json::value* found = object.if_contains(name);
        const int64_t read = found != nullptr && found->is_int64() ? found->get_int64() : 0;
        return read;
    };
    schedule.weekday = static_cast<int>(number("weekday_number"));
    schedule.minute = static_cast<int>(number("minute_of_day"));
    schedule.enabled = object.contains("enabled") && object.at("enabled") == true;
    schedule.next_unix_ms = number("next_unix_ms");
    if (const json::value* actor = object.if_contains("actor"); actor && actor->is_string()) {
        schedule.actor = std::string(actor->get_string());
    }
    const json::value* plan = object.if_contains("plan");
    if (plan == nullptr || !plan->is_object()) return fail(Errc::corrupt, "a schedule has no plan");
    Body body(plan->get_object());
    read_plan(body, schedule.plan);
    FT_TRY_VOID(body.done());
    return schedule;
}

}  // namespace

std::string_view weekday_word(int weekday) {
    return kWeekdays[static_cast<size_t>(weekday) % kWeekdays.size()];
}

json::object to_json(const DrillEntry& entry) {
    json::object out;
    out["id"] = entry.id;
    out["number"] = entry.number;
    out["pair"] = entry.pair;
    out["kind"] = word(entry.kind);
    out["actor"] = entry.actor;
    out["scheduled"] = entry.scheduled;
    out["step"] = entry.step;
    out["created_unix_ms"] = entry.created_unix_ms;
    out["ended_unix_ms"] = or_null(entry.ended_unix_ms);
    out["verdict"] = entry.verdict ? value(word(*entry.verdict)) : value(nullptr);
    out["rpo_seconds"] = or_null(entry.rpo_seconds);
    out["rto_seconds"] = or_null(entry.rto_seconds);
    return out;
}

json::object to_json(const DrillSchedule& schedule) {
    json::object out;
    out["plan"] = to_json(schedule.plan);
    out["weekday"] = weekday_word(schedule.weekday);
    out["time"] = fmt::format("{:02}:{:02}", schedule.minute / 60, schedule.minute % 60);
    out["enabled"] = schedule.enabled;
    out["actor"] = schedule.actor;
    out["next_unix_ms"] = schedule.next_unix_ms;
    return out;
}

int64_t next_time(const DrillSchedule& schedule, int64_t now_unix_ms) {
    const std::time_t now = now_unix_ms / 1000;
    std::tm local{};
    localtime_r(&now, &local);
    const int today = (local.tm_wday + 6) % 7;  // from Monday on
    local.tm_mday += (schedule.weekday - today + 7) % 7;
    local.tm_hour = schedule.minute / 60;
    local.tm_min = schedule.minute % 60;
    local.tm_sec = 0;
    local.tm_isdst = -1;  // the summer time of that day, not of today
    std::tm later = local;
    const std::time_t first = std::mktime(&local);
    if (first > now) return static_cast<int64_t>(first) * 1000;
    later.tm_mday += 7;
    return static_cast<int64_t>(std::mktime(&later)) * 1000;
}

Drills::Drills(boost::asio::any_io_executor executor, const Settings& settings, Database& database,
               Fleet& fleet, const EventHistory& events)
    : executor_(std::move(executor)),
      settings_(settings),
      database_(database),
      fleet_(fleet),
      events_(events) {}

Drills::~Drills() {
    worker_.join();
}

Result<> Drills::load() {
    const int64_t now = unix_ms_now();
    FT_TRY_VOID(database_.run(
        "UPDATE drills SET verdict='stopped', ended_unix_ms=?, step=? WHERE verdict IS NULL",
        {now, std::string("the page was restarted while it ran")}));
    FT_TRY(auto ended,
           select("WHERE number IN (SELECT max(number) FROM drills GROUP BY pair)", {}));
    for (DrillEntry& entry : ended) last_[entry.pair] = std::move(entry);
    std::vector<std::string> documents;
    FT_TRY_VOID(database_.query("SELECT document FROM drill_schedules", {},
                                [&](const SqlRow& row) { documents.push_back(row.text(0)); }));
    for (const std::string& document : documents) {
        auto schedule = schedule_of(document);
        if (!schedule) {
            logger("web").error("a drill's schedule is left out: {}", schedule.error().to_string());
            continue;
        }
        if (schedule->next_unix_ms < now - kMissedMs) {
            schedule->next_unix_ms = next_time(*schedule, now);
        }
        const Key key(schedule->plan.pair, schedule->plan.kind);
        schedules_[key] = std::move(*schedule);
    }
    return {};
}

void Drills::stop() {
    stopped_ = true;
    for (const auto& [pair, run] : runs_) run->ask_to_stop();
}

void Drills::see(const View& view) {
    const auto found = runs_.find(pair_of(view));
    if (found != runs_.end()) found->second->see(view);
}

std::vector<DrillFinding> Drills::preflight(const DrillPlan& plan) const {
    std::vector<DrillFinding> out;
    const auto say = [&](std::string text) { out.push_back({Severity::error, std::move(text)}); };
    if (runs_.contains(plan.pair)) say("a drill of this VM is under way");
    const auto views = fleet_.views(plan.pair);
    if (views.empty()) {
        say(fmt::format("there is no pair '{}' on this host", plan.pair));
        return out;
    }
    bool protected_somewhere = false;
    bool backup_here = false;
    bool asked_here = plan.site.empty();
    for (const View* view : views) {
        if (!view->reachable || !view->status) continue;
        protected_somewhere =
            protected_somewhere || view->status->protection == control::Protection::protected_;
        backup_here = backup_here || view->status->state == State::backup;
        asked_here = asked_here || view->status->site == plan.site;
    }
    if (!protected_somewhere) say("the pair is not protected now");
    if (plan.kind == DrillKind::isolated && !backup_here) {
        say("the backup is not on this host: run it from the other site's page");
    }
    if (!asked_here) say(fmt::format("the site '{}' is not on this host", plan.site));
    if (auto command = check_command(plan, settings_); !command) say(command.error().context);
    return out;
}

Result<DrillEntry> Drills::start(DrillPlan plan, std::string actor, bool scheduled) {
    FT_TRY_VOID(check_plan(plan));
    if (const auto against = preflight(plan); !against.empty()) {
        return fail(Errc::busy, "{}", against.front().text);
    }
    DrillEntry entry;
    entry.id = random_secret().substr(0, 16);
    entry.pair = plan.pair;
    entry.kind = plan.kind;
    entry.actor = std::move(actor);
    entry.scheduled = scheduled;
    entry.step = "begins";
    entry.created_unix_ms = unix_ms_now();
    FT_TRY_VOID(database_.query("SELECT coalesce(max(number), 0) + 1 FROM drills", {},
                                [&](const SqlRow& row) { entry.number = row.number(0); }));
    FT_TRY_VOID(database_.run(
        "INSERT INTO drills (id, number, pair, kind, actor, scheduled, step, created_unix_ms) "
        "VALUES (?,?,?,?,?,?,?,?)",
        {entry.id, entry.number, entry.pair, std::string(word(entry.kind)), entry.actor,
         int64_t{scheduled}, entry.step, entry.created_unix_ms}));
    FT_TRY_VOID(database_.run("DELETE FROM drills WHERE number <= ? AND verdict IS NOT NULL",
                              {entry.number - kKept}));
    auto run = std::make_shared<DrillRun>(*this, entry, std::move(plan));
    runs_[entry.pair] = run;
    auto task = run->run();
    boost::asio::co_spawn(executor_, std::move(task), [run](const std::exception_ptr& thrown) {
        if (thrown) std::rethrow_exception(thrown);
    });
    return entry;
}

void Drills::keep(DrillEntry& entry, const std::string& step) {
    entry.step = control::printable(step, 300);
    auto kept = database_.run("UPDATE drills SET step=? WHERE id=?", {entry.step, entry.id});
    if (!kept) logger("web").error("drill: {}", kept.error().to_string());
    if (on_change) on_change(entry);
}

// The site's own, which the pair's authority knows; before a pairing the page's.
HttpsFiles Drills::signer() const {
    HttpsFiles site{settings_.site.credentials + "/site.pem",
                    settings_.site.credentials + "/site.key"};
    if (::access(site.key.c_str(), R_OK) == 0) return site;
    return settings_.https;
}

void Drills::finish(DrillRun& run) {
    DrillEntry& entry = run.entry();
    const std::string report = json::serialize(to_json(run.report()));
    auto document = sign_report(report, signer());
    if (!document) {
        // An unsigned report is worth something, too: it says that it is none.
        logger("web").error("drill {}: not signed: {}", entry.id, document.error().to_string());
        json::object bare;
        bare["format"] = "antipode-unsigned-report";
        bare["report"] = report;
        bare["reason"] = document.error().context;
        document = json::serialize(bare);
    }
    auto kept = database_.run(
        "UPDATE drills SET step=?, verdict=?, ended_unix_ms=?, rpo_seconds=?, rto_seconds=?, "
        "document=? WHERE id=?",
        {control::printable(entry.step, 300), std::string(word(*entry.verdict)),
         sql(entry.ended_unix_ms), sql(entry.rpo_seconds), sql(entry.rto_seconds), *document,
         entry.id});
    if (!kept) logger("web").error("drill {}: {}", entry.id, kept.error().to_string());
    logger("web").info("drill {} of {}: {} {}", entry.id, entry.pair, word(*entry.verdict),
                       entry.step);
    last_[entry.pair] = entry;
    if (on_change) on_change(entry);
    runs_.erase(entry.pair);  // its coroutine holds it until it has returned
}

Result<DrillEntry> Drills::end(std::string_view id) {
    for (const auto& [pair, run] : runs_) {
        if (run->entry().id != id) continue;
        run->ask_to_stop();
        return run->entry();
    }
    FT_TRY_VOID(find(id));
    return fail(Errc::busy, "the drill has ended");
}

Result<std::vector<DrillEntry>> Drills::select(std::string_view where,
                                               const std::vector<SqlValue>& values) const {
    std::vector<DrillEntry> out;
    FT_TRY_VOID(database_.query(std::string(kColumns) + std::string(where), values,
                                [&](const SqlRow& row) { out.push_back(entry_of(row)); }));
    return out;
}

Result<DrillEntry> Drills::find(std::string_view id) const {
    FT_TRY(auto found, select("WHERE id=?", {std::string(id)}));
    if (found.empty()) return fail(Errc::not_found, "there is no drill '{}'", id.substr(0, 40));
    return std::move(found.front());
}

Result<std::vector<DrillEntry>> Drills::list(const Filter& filter) const {
    std::string where = "WHERE (?1 = 0 OR number < ?1)";
    std::vector<SqlValue> values{filter.before, filter.limit};
    if (filter.pair) {
        values.emplace_back(*filter.pair);
        where += " AND pair = ?3";
    }
    return select(where + " ORDER BY number DESC LIMIT ?2", values);
}

std::optional<DrillEntry> Drills::last_of(std::string_view pair) const {
    const auto found = last_.find(pair);
    return found == last_.end() ? std::nullopt : std::optional(found->second);
}

Result<std::string> Drills::document(std::string_view id) const {
    FT_TRY_VOID(find(id));
    std::string out;
    FT_TRY_VOID(database_.query("SELECT document FROM drills WHERE id=?", {std::string(id)},
                                [&](const SqlRow& row) { out = row.text(0); }));
    if (out.empty()) return fail(Errc::not_found, "the drill has no report");
    return out;
}

// ---- Schedules

std::vector<DrillSchedule> Drills::schedules() const {
    std::vector<DrillSchedule> out;
    for (const auto& [key, schedule] : schedules_) out.push_back(schedule);
    return out;
}

Result<> Drills::store(const DrillSchedule& schedule) {
    json::object document;
    document["plan"] = to_json(schedule.plan);
    document["weekday_number"] = schedule.weekday;
    document["minute_of_day"] = schedule.minute;
    document["enabled"] = schedule.enabled;
    document["actor"] = schedule.actor;
    document["next_unix_ms"] = schedule.next_unix_ms;
    return database_.run(
        "INSERT INTO drill_schedules (pair, kind, document) VALUES (?,?,?) "
        "ON CONFLICT (pair, kind) DO UPDATE SET document=excluded.document",
        {schedule.plan.pair, std::string(word(schedule.plan.kind)), json::serialize(document)});
}

Result<DrillSchedule> Drills::set_schedule(DrillSchedule schedule) {
    FT_TRY_VOID(check_plan(schedule.plan));
    FT_TRY_VOID(check_command(schedule.plan, settings_));
    schedule.next_unix_ms = next_time(schedule, unix_ms_now());
    FT_TRY_VOID(store(schedule));
    schedules_[Key(schedule.plan.pair, schedule.plan.kind)] = schedule;
    return schedule;
}

Result<> Drills::remove_schedule(const std::string& pair, DrillKind kind) {
    if (schedules_.erase(Key(pair, kind)) == 0) {
        return fail(Errc::not_found, "there is no schedule of {} drills of '{}'", word(kind), pair);
    }
    return database_.run("DELETE FROM drill_schedules WHERE pair=? AND kind=?",
                         {pair, std::string(word(kind))});
}

void Drills::tick() {
    const int64_t now = unix_ms_now();
    for (auto& [key, schedule] : schedules_) {
        if (schedule.enabled && schedule.next_unix_ms <= now) run_due(schedule, now);
    }
}

// Both sites have the schedule; it runs where it can: an isolated drill beside the backup.
void Drills::run_due(DrillSchedule& schedule, int64_t now) {
    const bool missed = schedule.next_unix_ms < now - kMissedMs;
    schedule.next_unix_ms = next_time(schedule, now);
    if (auto stored = store(schedule); !stored) {
        logger("web").error("drill: {}", stored.error().to_string());
        return;  // it would run again and again
    }
    if (missed) return;
    auto started = start(schedule.plan, schedule.actor + " by schedule", true);
    if (!started) {
        logger("web").warn("scheduled drill of {}: {}", schedule.plan.pair,
                           started.error().context);
    }
}

}  // namespace antipode::web
