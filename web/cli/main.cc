// antipode: what the page can do, on the command line, over the REST API. Tables for people, --json
// for scripts.
//
// Exit code: 0 done, 1 refused or failed, 2 a wrong command line, 3 nobody answers.
#include <CLI/CLI.hpp>
#include <boost/json/serialize.hpp>
#include <iostream>
#include <thread>
#include <unistd.h>

#include "replicator/control/control_api.h"
#include "web/cli/client.h"
#include "web/cli/drills.h"
#include "web/cli/manage.h"
#include "web/cli/table.h"
#include "web/security/secrets.h"

namespace antipode::web {
namespace {

using control::Method;
using http::verb;
using Kind = Column::Kind;

struct Options {
    std::string url, fingerprint, token_file, config = "/etc/antipode/web.toml";
    bool json = false;
    // of the commands
    std::string pair, site, confirm, note, fault, to, text, options, name, role = "viewer";
    std::string address, tiebreaker, id, severity, vm_disk;
    double seconds = 0;
    int64_t limit = 20, port = 0, days = 0, operation = 0;
    bool check = false, peer_is_down = false, accept_loss = false, no_wait = false;
    DrillLine drill;
    UserLine user;
    SettingsLine settings;
    DiskLine disk;
    VerifyLine verify;
};

using Command = std::function<Result<>(CliClient&, const Options&)>;

void show(const Options& options, const json::value& answer, const std::vector<Column>& columns) {
    if (options.json) {
        std::cout << json::serialize(answer) << "\n";
        return;
    }
    const json::object* object = answer.if_object();
    const json::value* items = object == nullptr ? nullptr : object->if_contains("items");
    std::cout << table(items == nullptr ? json::value(json::array{answer}) : *items, columns);
}

Command list(std::string path, std::vector<Column> columns) {
    return [path = std::move(path), columns = std::move(columns)](
               CliClient& client, const Options& options) -> Result<> {
        std::string query = path;
        const auto add = [&](std::string_view name, const std::string& value) {
            query += (query.find('?') == std::string::npos ? '?' : '&');
            query += std::string(name) + "=" + value;
        };
        if (!options.pair.empty()) add("pair", options.pair);
        if (!options.severity.empty()) add("severity", options.severity);
        if (path == "/hook-results" && !options.name.empty()) add("hook", options.name);
        if (path == "/events" || path == "/tasks" || path == "/drills" || path == "/audit" ||
            path == "/hook-results") {
            add("limit", std::to_string(options.limit));
        }
        FT_TRY(const json::value answer, client.get(query));
        show(options, answer, columns);
        return {};
    };
}

Result<> status(CliClient& client, const Options& options) {
    const std::vector<Column> columns{{"PAIR", "name"},
                                      {"STATE", "word"},
                                      {"LAG", "lag_seconds", Kind::seconds},
                                      {"RPO", "rpo_seconds", Kind::seconds},
                                      {"LOG", "log_bytes_per_second", Kind::rate},
                                      {"RTT", "rtt_seconds", Kind::seconds},
                                      {"TIEBREAKER", "tiebreaker_reachable"},
                                      {"REASON", "reason"}};
    const std::string path = options.pair.empty() ? "/pairs" : "/pairs/" + options.pair;
    FT_TRY(const json::value answer, client.get(path));
    show(options, answer, columns);
    if (options.json || options.pair.empty()) return {};
    std::cout << "\n"
              << table(answer.at("sites"),
                       {{"SITE", "site"}, {"STATE", "word"}, {"REASON", "reason"}});
    const json::value* alerts = answer.get_object().if_contains("alerts");
    if (alerts != nullptr && alerts->is_array() && !alerts->get_array().empty()) {
        std::cout << "\n"
                  << table(*alerts, {{"ALERT", "severity"},
                                     {"SINCE", "since_unix_ms", Kind::time},
                                     {"TEXT", "text"}});
    }
    return {};
}

// ---- Actions

json::object action_body(const Options& options) {
    json::object body;
    put_text(body, "site", options.site);
    put_text(body, "note", options.note);
    put_text(body, "disk", options.vm_disk);
    put_text(body, "fault", options.fault);
    put_text(body, "to", options.to);
    put_text(body, "text", options.text);
    put_text(body, "options", options.options);
    if (options.seconds > 0) body["duration_seconds"] = options.seconds;
    if (options.operation > 0) body["operation"] = options.operation;
    if (options.peer_is_down) body["peer_is_down"] = true;
    if (options.accept_loss) body["accept_loss"] = true;
    return body;
}

void print_preflight(const json::value& reply) {
    std::cout << cell(reply, {"", "pair"}) << " at " << cell(reply, {"", "site"}) << ": "
              << cell(reply, {"", "consequence"}) << "\n";
    for (const json::value& finding : reply.at("findings").as_array()) {
        std::cout << "  " << cell(finding, {"", "severity"}) << ": " << cell(finding, {"", "text"})
                  << "\n";
    }
}

Result<> follow(CliClient& client, const Options& options, const std::string& task) {
    std::string last;
    for (;;) {
        FT_TRY(const json::value now, client.get("/tasks/" + task));
        const std::string state = cell(now, {"", "state"});
        const std::string line = state + " " + cell(now, {"", "progress_ratio", Kind::ratio}) +
                                 " " + cell(now, {"", "text"});
        if (state != "running") {
            if (options.json) std::cout << json::serialize(now) << "\n";
            if (state == "succeeded") {
                if (!options.json) std::cout << line << "\n";
                return {};
            }
            return fail(Errc::io, "{}", line);
        }
        if (line != last && !options.json) std::cout << line << std::endl;
        last = line;
        std::this_thread::sleep_for(std::chrono::milliseconds(500));
    }
}

// What must be typed, typed: on a terminal, or with --confirm.
Result<std::string> confirmation(const json::value& reply, const Options& options) {
    const std::string wanted = cell(reply, {"", "confirm"});
    if (wanted == "-" || !options.confirm.empty()) return options.confirm;
    if (::isatty(STDIN_FILENO) == 0) {
        return fail(Errc::invalid_argument, "needs --confirm {}", wanted);
    }
    std::cerr << "Type " << wanted << " to go on: " << std::flush;
    std::string typed;
    std::getline(std::cin, typed);
    if (typed != wanted) return fail(Errc::closed, "not confirmed; nothing was done");
    return typed;
}

Result<> act(CliClient& client, const Options& options, const control::MethodInfo& info) {
    const std::string path = "/pairs/" + options.pair + "/actions/" + std::string(info.name);
    json::object body = action_body(options);
    json::object asked = body;
    asked["check"] = true;
    FT_TRY(const json::value reply, client.ask(verb::post, path, asked));
    if (options.check && options.json) {
        std::cout << json::serialize(reply) << "\n";
    } else if (!options.json) {
        print_preflight(reply);
    }
    if (!reply.at("allowed").as_bool()) return fail(Errc::denied, "it would be refused");
    if (options.check) return {};
    FT_TRY(const std::string typed, confirmation(reply, options));
    put_text(body, "confirm", typed);
    FT_TRY(const json::value done, client.ask(verb::post, path, body, random_secret()));
    const json::value* task = done.get_object().if_contains("task");
    if (task == nullptr || !task->is_object()) return {};
    const std::string id = cell(*task, {"", "id"});
    if (options.no_wait) {
        std::cout << (options.json ? json::serialize(*task) : "task " + id) << "\n";
        return {};
    }
    return follow(client, options, id);
}

// ---- Pairing

json::object place(const Options& options) {
    json::object body;
    put_text(body, "site", options.site);
    put_text(body, "address", options.address);
    put_text(body, "tiebreaker", options.tiebreaker);
    if (options.port > 0) body["port"] = options.port;
    return body;
}

Result<> offer(CliClient& client, const Options& options) {
    json::object body = place(options);
    body["pair"] = options.pair;
    FT_TRY(const json::value made, client.ask(verb::post, "/pairings/offers", body));
    if (options.json) {
        std::cout << json::serialize(made) << "\n";
        return {};
    }
    std::cout << "At the other site, within ten minutes: antipode pairing join\n\n    "
              << cell(made, {"", "code"}) << "\n\n"
              << table(made.at("pairing").at("steps"),
                       {{"STEP", "name"}, {"STATE", "state"}, {"TEXT", "text"}});
    return {};
}

Result<> join(CliClient& client, const Options& options) {
    json::object body = place(options);
    std::string code = options.text;
    // Not as an argument, where every user of the host could read it.
    if (::isatty(STDIN_FILENO) != 0) std::cerr << "Code: " << std::flush;
    if (code.empty()) std::getline(std::cin, code);
    body["code"] = code;
    FT_TRY_VOID(client.ask(verb::post, "/pairings", body));
    for (;;) {
        FT_TRY(const json::value all, client.get("/pairings"));
        const json::value* newest = nullptr;
        bool running = false;
        for (const json::value& item : all.at("items").as_array()) {
            running = running || cell(item, {"", "state"}) == "joining";
            if (newest == nullptr || item.at("changed_unix_ms").to_number<int64_t>() >
                                         newest->at("changed_unix_ms").to_number<int64_t>()) {
                newest = &item;
            }
        }
        if (!running && newest != nullptr) {
            if (options.json) {
                std::cout << json::serialize(*newest) << "\n";
            } else {
                std::cout << table(newest->at("steps"),
                                   {{"STEP", "name"}, {"STATE", "state"}, {"TEXT", "text"}});
            }
            if (cell(*newest, {"", "state"}) == "paired") return {};
            return fail(Errc::denied, "not paired");
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(300));
    }
}

Command change_pairing(std::string what) {
    return [what = std::move(what)](CliClient& client, const Options& options) -> Result<> {
        if (what == "withdraw") {
            FT_TRY_VOID(client.ask(verb::delete_, "/pairings/" + options.pair));
            return {};
        }
        json::object body;
        body["confirm"] = options.confirm;
        FT_TRY(const json::value done,
               client.ask(verb::post, "/pairings/" + options.pair + "/" + what, body));
        std::cout << (options.json ? json::serialize(done) : cell(done, {"", "text"})) << "\n";
        return {};
    };
}

Result<> console(CliClient& client, const Options& options) {
    FT_TRY(const json::value answer, client.get("/pairs/" + options.pair + "/console"));
    if (options.json) {
        std::cout << json::serialize(answer) << "\n";
    } else {
        std::cout << control::printable(std::string_view(answer.at("text").as_string()), 1 << 20);
    }
    return {};
}

Result<> add_token(CliClient& client, const Options& options) {
    json::object body;
    body["name"] = options.name;
    body["role"] = options.role;
    if (options.days > 0) body["expires_days"] = options.days;
    FT_TRY(const json::value made, client.ask(verb::post, "/tokens", body));
    std::cout << (options.json ? json::serialize(made) : cell(made, {"", "token"})) << "\n";
    return {};
}

// ---- The command line

class Line {
  public:
    Line(CLI::App& app, Options& options, Command& chosen)
        : app_(app), options_(options), chosen_(chosen) {}

    CLI::App* add(CLI::App& parent, const std::string& name, const std::string& text,
                  Command what) {
        CLI::App* made = parent.add_subcommand(name, text);
        made->fallthrough();
        made->callback([this, what = std::move(what)] { chosen_ = what; });
        return made;
    }
    void add_lists();
    void add_actions();
    void add_pairing();
    void add_drill_lists();
    void add_drills();
    void add_accounts();
    void add_replicated();
    void add_rest();

  private:
    CLI::App* of_pair(CLI::App* command, bool needed) {
        command->add_option("PAIR", options_.pair)->required(needed);
        return command;
    }
    CLI::App& app_;
    Options& options_;
    Command& chosen_;
};

void Line::add_lists() {
    const auto limited = [&](CLI::App* command) {
        of_pair(command, false);
        command->add_option("--limit", options_.limit, "how many")->capture_default_str();
        return command;
    };
    of_pair(add(app_, "status", "how each pair, or one, is now", status), false);
    add(app_, "sites", "the sites seen from here",
        list("/sites",
             {{"SITE", "name"}, {"SOFTWARE", "software"}, {"PAIRS", "pairs", Kind::pairs}}));
    add(app_, "vms", "the VMs",
        list("/vms", {{"PAIR", "pair"},
                      {"SITE", "site"},
                      {"STATE", "state"},
                      {"VCPU", "vcpu"},
                      {"MODE", "mode"},
                      {"MEMORY", "memory_bytes", Kind::bytes},
                      {"UPTIME", "uptime_seconds", Kind::seconds}}));
    add(app_, "disks", "their disks at each site",
        list("/disks", {{"PAIR", "pair"},
                        {"SITE", "site"},
                        {"DISK", "id"},
                        {"STATE", "state"},
                        {"SYNCED", "synced_ratio", Kind::ratio},
                        {"DIRTY", "dirty_bytes", Kind::bytes},
                        {"SIZE", "size_bytes", Kind::bytes},
                        {"TEXT", "text"}}));
    add(app_, "links", "the lines between the sites",
        list("/links", {{"PAIR", "pair"},
                        {"SITE", "site"},
                        {"PEER", "peer_site"},
                        {"CHANNEL", "session_up"},
                        {"HEARTBEAT", "heartbeat_up"},
                        {"RTT", "rtt_seconds", Kind::seconds},
                        {"JITTER", "jitter_seconds", Kind::seconds},
                        {"LOSS", "loss_ratio", Kind::ratio}}));
    add(app_, "tiebreaker", "the third site, seen from each",
        list("/tiebreaker", {{"PAIR", "pair"},
                             {"SITE", "site"},
                             {"REACHABLE", "reachable"},
                             {"ADDRESS", "address"},
                             {"MODE", "record.mode"},
                             {"EPOCH", "record.epoch"},
                             {"TEXT", "text"}}));
    CLI::App* events = limited(add(app_, "events", "what happened, newest first",
                                   list("/events", {{"TIME", "time_unix_ms", Kind::time},
                                                    {"PAIR", "pair"},
                                                    {"SITE", "site"},
                                                    {"SEVERITY", "severity"},
                                                    {"CODE", "code"},
                                                    {"TEXT", "text"}})));
    events->add_option("--severity", options_.severity, "at least: info, warning or error");
    const std::vector<Column> tasks{{"ID", "id"},       {"TIME", "created_unix_ms", Kind::time},
                                    {"PAIR", "pair"},   {"ACTION", "action"},
                                    {"STATE", "state"}, {"BY", "actor"},
                                    {"TEXT", "text"}};
    limited(add(app_, "tasks", "what was asked for, and how it went", list("/tasks", tasks)));
    limited(add(app_, "audit", "who did what",
                list("/audit", {{"TIME", "time_unix_ms", Kind::time},
                                {"WHO", "actor"},
                                {"VIA", "via"},
                                {"ACTION", "action"},
                                {"TARGET", "target"},
                                {"OUTCOME", "outcome"},
                                {"DETAIL", "detail"}})));
}

void Line::add_actions() {
    for (const control::MethodInfo& info : control::all_methods()) {
        if (info.access == control::Access::read || !info.implemented) continue;
        std::string name(info.name);
        std::replace(name.begin(), name.end(), '_', '-');
        CLI::App* command = of_pair(add(app_, name, std::string(info.summary),
                                        [&info](CliClient& client, const Options& given) {
                                            return act(client, given, info);
                                        }),
                                    true);
        command->group("Actions");
        command->add_flag("--check", options_.check, "say what would happen, do nothing");
        command->add_flag("--no-wait", options_.no_wait, "do not wait for the end of a long one");
        command->add_option("--site", options_.site, "the site that is asked");
        command->add_option("--note", options_.note, "for the audit log");
        if (info.confirmed) command->add_option("--confirm", options_.confirm, "the pair's name");
        using enum Method;
        const Method method = info.method;
        if (method == force) {
            command->add_flag("--peer-is-down", options_.peer_is_down, "I know that it is down");
            command->add_flag("--accept-loss", options_.accept_loss,
                              "of acknowledged writes, where this site's copy may lack some");
        }
        if (method == inject_fault) {
            command
                ->add_option("--fault", options_.fault,
                             "link_cut, link_degrade, tiebreaker_cut "
                             "or kill_primary")
                ->required();
        }
        if (method == inject_fault || method == drill_start) {
            command->add_option("--seconds", options_.seconds, "when it ends by itself");
        }
        if (method == drill_start) {
            command->add_option("--options", options_.options, "a JSON object");
        }
        if (method == console_input || method == drill_input || method == sysrq) {
            command->add_option("--text", options_.text, "what is typed")->required();
        }
        if (method == verify || method == resync) {
            command->add_option("--disk", options_.vm_disk, "one disk; without it all");
        }
        if (method == move_backup) {
            command->add_option("--to", options_.to, "the site where it is to be")->required();
        }
        if (method == cancel) {
            command->add_option("--operation", options_.operation, "its number")->required();
        }
    }
}

void Line::add_pairing() {
    CLI::App* pairing = app_.add_subcommand("pairing", "pair this site with another");
    pairing->require_subcommand(1);
    pairing->fallthrough();
    const auto placed = [&](CLI::App* command) {
        command->add_option("--site", options_.site, "this site's name");
        command->add_option("--address", options_.address, "its address on the line");
        command->add_option("--tiebreaker", options_.tiebreaker, "HOST:PORT");
        command->add_option("--port", options_.port,
                            "of the channel; the heartbeats take the next");
        return command;
    };
    add(*pairing, "list", "what was paired from here",
        list("/pairings", {{"PAIR", "pair"},
                           {"STATE", "state"},
                           {"SITE", "site"},
                           {"PEER", "peer_site"},
                           {"CHANGED", "changed_unix_ms", Kind::time}}));
    of_pair(placed(add(*pairing, "offer", "make a one-time code for a VM of this site", offer)),
            true);
    placed(add(*pairing, "join", "enter a code; it is read from standard input", join));
    of_pair(add(*pairing, "withdraw", "make a code void", change_pairing("withdraw")), true);
    for (const auto& [name, text] : {std::pair{"unpair", "take the pair's keys away at both sites"},
                                     std::pair{"rekey", "new keys at both sites"}}) {
        CLI::App* command = of_pair(add(*pairing, name, text, change_pairing(name)), true);
        command->add_option("--confirm", options_.confirm, "the pair's name")->required();
    }
}

void Line::add_drill_lists() {
    CLI::App* drills = add(app_, "drills", "rehearsals, newest first",
                           list("/drills", {{"ID", "id"},
                                            {"BEGAN", "created_unix_ms", Kind::time},
                                            {"PAIR", "pair"},
                                            {"KIND", "kind"},
                                            {"VERDICT", "verdict"},
                                            {"RPO", "rpo_seconds", Kind::seconds},
                                            {"RTO", "rto_seconds", Kind::seconds},
                                            {"TEXT", "step"}}));
    of_pair(drills, false);
    drills->add_option("--limit", options_.limit, "how many")->capture_default_str();
    add(app_, "hooks", "whom web.toml tells of what, and how it went last",
        list("/hooks", {{"NAME", "name"},
                        {"TARGET", "target"},
                        {"LAST", "last.outcome"},
                        {"TEXT", "last.text"},
                        {"WHEN", "last.began_unix_ms", Kind::time}}));
    CLI::App* hook = app_.add_subcommand("hook", "try a hook, or look at how it went");
    hook->require_subcommand(1);
    hook->fallthrough();
    add(*hook, "test", "tell it of a test, now",
        [](CliClient& client, const Options& given) {
            return test_hook(client, given.name, given.json ? Form::json : Form::table);
        })
        ->add_option("NAME", options_.name)
        ->required();
    CLI::App* results = add(*hook, "results", "attempts, newest first",
                            list("/hook-results", {{"BEGAN", "began_unix_ms", Kind::time},
                                                   {"HOOK", "hook"},
                                                   {"EVENT", "event"},
                                                   {"PAIR", "pair"},
                                                   {"ATTEMPT", "attempt"},
                                                   {"OUTCOME", "outcome"},
                                                   {"TEXT", "text"}}));
    results->add_option("NAME", options_.name);
    results->add_option("--limit", options_.limit, "how many")->capture_default_str();
}

void Line::add_drills() {
    CLI::App* drill = app_.add_subcommand("drill", "rehearse");
    drill->require_subcommand(1);
    drill->fallthrough();
    DrillLine& line = options_.drill;
    const auto planned = [&](CLI::App* command) {
        command->add_option("PAIR", line.pair)->required();
        command->add_option("--kind", line.kind, "isolated, switchover or fault");
        command->add_option("--network", line.network, "of the copy: none or isolated");
        command->add_option("--check", line.check, "runs, command, console or tcp");
        command->add_option("--command", line.command, "its name in web.toml");
        command->add_option("--send", line.send, "what is typed on the copy's console, with Enter");
        command->add_option("--expect", line.expect, "and what must appear there");
        command->add_option("--address", line.address, "what must accept a connection");
        command->add_option("--within", line.within_seconds, "seconds for the check");
        command->add_option("--seconds", line.seconds, "of the copy, at most; of the fault");
        command->add_option("--fault", line.fault,
                            "link_cut, link_degrade, tiebreaker_cut or kill_primary");
        command->add_option("--site", line.site, "where a fault is rehearsed");
        command->add_option("--note", line.note, "for the report and the audit log");
        return command;
    };
    CLI::App* run =
        planned(add(*drill, "run", "a drill, now", [](CliClient& client, const Options& given) {
            DrillLine asked = given.drill;
            asked.json = given.json;
            asked.wait = !given.no_wait;
            asked.check_only = given.check;
            asked.confirm = given.confirm;
            return run_drill(client, asked);
        }));
    run->add_flag("--check-only", options_.check, "say what speaks against it, do nothing");
    run->add_flag("--no-wait", options_.no_wait, "do not wait for its end");
    run->add_option("--confirm", options_.confirm, "the pair's name, where it can be a failover");
    CLI::App* weekly = planned(
        add(*drill, "schedule", "a drill, every week", [](CliClient& client, const Options& given) {
            DrillLine asked = given.drill;
            asked.json = given.json;
            return schedule_drill(client, asked);
        }));
    weekly->add_option("--weekday", line.weekday)->required();
    weekly->add_option("--time", line.time, "HH:MM, by that host's clock")->required();
    add(*drill, "schedules", "what is repeated every week",
        list("/drill-schedules", {{"PAIR", "plan.pair"},
                                  {"KIND", "plan.kind"},
                                  {"WEEKDAY", "weekday"},
                                  {"TIME", "time"},
                                  {"NEXT", "next_unix_ms", Kind::time}}));
    CLI::App* forget =
        add(*drill, "unschedule", "end the repeating",
            [](CliClient& client, const Options& given) -> Result<> {
                FT_TRY_VOID(client.ask(verb::delete_, "/drill-schedules/" + given.drill.pair + "/" +
                                                          given.drill.kind));
                return {};
            });
    forget->add_option("PAIR", line.pair)->required();
    forget->add_option("KIND", line.kind)->required();
    const auto by_id = [&](CLI::App* command) {
        command->add_option("ID", options_.id)->required();
    };
    by_id(
        add(*drill, "stop", "end one before its time",
            [](CliClient& client, const Options& given) { return stop_drill(client, given.id); }));
    by_id(add(
        *drill, "report", "the signed report of one",
        [](CliClient& client, const Options& given) { return print_report(client, given.id); }));
}

void Line::add_rest() {
    of_pair(add(app_, "console", "what the guest printed last", console), true);
    add(app_, "task", "follow a task to its end",
        [](CliClient& client, const Options& given) { return follow(client, given, given.id); })
        ->add_option("ID", options_.id)
        ->required();
    add(app_, "get", "any path of the REST API, as JSON",
        [](CliClient& client, const Options& given) -> Result<> {
            FT_TRY(const json::value answer, client.get(given.id));
            std::cout << json::serialize(answer) << "\n";
            return {};
        })
        ->add_option("PATH", options_.id, "below /api/v1, such as /pairs")
        ->required();
}

void Line::add_accounts() {
    CLI::App* token = app_.add_subcommand("token", "tokens for programs");
    token->require_subcommand(1);
    token->fallthrough();
    add(*token, "list", "which there are",
        list("/tokens", {{"ID", "id"},
                         {"NAME", "name"},
                         {"ROLE", "role"},
                         {"BY", "created_by"},
                         {"USED", "used_unix_ms", Kind::time}}));
    CLI::App* added = add(*token, "add", "a new one; it is shown once", add_token);
    added->add_option("NAME", options_.name)->required();
    added->add_option("--role", options_.role)->capture_default_str();
    added->add_option("--days", options_.days, "until it expires");
    add(*token, "remove", "revoke one",
        [](CliClient& client, const Options& given) -> Result<> {
            FT_TRY_VOID(client.ask(verb::delete_, "/tokens/" + given.id));
            return {};
        })
        ->add_option("ID", options_.id)
        ->required();
    add(app_, "users", "who may log in",
        list("/users", {{"NAME", "name"}, {"ROLE", "role"}, {"DISABLED", "disabled"}}));
    CLI::App* user = app_.add_subcommand("user", "change who may log in");
    user->require_subcommand(1);
    user->fallthrough();
    const auto named = [&](const std::string& name, const std::string& text,
                           std::function<Result<>(CliClient&, const UserLine&)> what) {
        CLI::App* command = add(*user, name, text,
                                [what = std::move(what)](CliClient& client, const Options& given) {
                                    UserLine asked = given.user;
                                    asked.json = given.json;
                                    return what(client, asked);
                                });
        command->add_option("NAME", options_.user.name)->required();
        return command;
    };
    named("add", "a new one; the password is read from standard input", add_user)
        ->add_option("--role", options_.user.role, "viewer, drill_operator, operator or admin")
        ->capture_default_str();
    named("role", "give another role; it ends their sessions", set_role)
        ->add_option("ROLE", options_.user.role)
        ->required();
    named("password", "give a new password, read from standard input", set_password);
    named("disable", "keep, without a login", [](CliClient& client, const UserLine& line) {
        return set_login(client, line, Login::disabled);
    });
    named("enable", "let log in again", [](CliClient& client, const UserLine& line) {
        return set_login(client, line, Login::enabled);
    });
    named("remove", "take away", remove_user);
    CLI::App* settings = add(app_, "settings", "of the page; shows them, changes what is given",
                             [](CliClient& client, const Options& given) {
                                 SettingsLine asked = given.settings;
                                 asked.json = given.json;
                                 return change_settings(client, asked);
                             });
    settings->add_option("--session-idle-minutes", options_.settings.idle_minutes,
                         "after which a session is over");
    settings->add_option("--session-hours", options_.settings.hours, "the longest one");
    settings->add_option("--login-banner", options_.settings.banner, "above the login");
}

void Line::add_replicated() {
    DiskLine& line = options_.disk;
    using Work = Result<> (*)(CliClient&, const DiskLine&);
    const auto of_disks = [](Work work) -> Command {
        return [work](CliClient& client, const Options& given) {
            DiskLine asked = given.disk;
            asked.json = given.json;
            asked.check = given.check;
            asked.confirm = given.confirm;
            asked.note = given.note;
            return work(client, asked);
        };
    };
    CLI::App* disks = app_.add_subcommand("replicated-disks", "disks of other VMs");
    disks->require_subcommand(1);
    disks->fallthrough();
    add(*disks, "status", "roles, states, progress", of_disks(show_replicated))
        ->add_option("GROUP", line.group);
    add(*disks, "events", "what happened, newest last", of_disks(replicated_events))
        ->add_option("GROUP", line.group)
        ->required();
    add(*disks, "actions", "what can be ordered",
        list("/replicated-disks/actions", {{"ACTION", "name"},
                                           {"RIGHT", "access"},
                                           {"CONFIRMED", "confirmed"},
                                           {"TEXT", "summary"}}));
    CLI::App* order = add(*disks, "order", "order one of them", of_disks(order_replicated));
    order->add_option("GROUP", line.group)->required();
    order->add_option("ACTION", line.action)->required();
    order->add_option("--disk", line.disk, "verify, resize: which");
    order->add_option("--first", line.first, "verify: the first block of 64 KiB");
    order->add_option("--count", line.count, "verify: how many");
    order->add_option("--bytes-per-second", line.bytes_per_second, "rate; 0 is no limit");
    order->add_option("--mode", line.mode, "mode: async, semi-sync or sync");
    order->add_flag("--force", line.force, "promote: although the peer may have newer data");
    order->add_flag("--check", options_.check, "say what would be ordered, do nothing");
    order->add_option("--confirm", options_.confirm, "the group's name, where data may be lost");
    order->add_option("--note", options_.note, "for the audit log");
}

int exit_code_of(const Error& error) {
    return error.code == Errc::unreachable ? 3 : 1;
}

int run(int argc, char** argv) {
    Options options;
    Command chosen;
    CLI::App app("antipode: the pairs of this site, on the command line");
    app.require_subcommand(1);
    app.set_version_flag("--version", ANTIPODE_VERSION);
    app.add_option("--url", options.url, "of the page; by default this host's")
        ->envname("ANTIPODE_URL");
    app.add_option("--fingerprint", options.fingerprint, "SHA-256 of its certificate")
        ->envname("ANTIPODE_FINGERPRINT");
    app.add_option("--token-file", options.token_file,
                   "a file with a token; else $ANTIPODE_TOKEN, or ~/.config/antipode/token");
    app.add_option("--config", options.config, "the page's settings, to find it on this host");
    app.add_flag("--json", options.json, "for scripts");
    Line line(app, options, chosen);
    line.add_lists();
    line.add_actions();
    line.add_pairing();
    line.add_drill_lists();
    line.add_drills();
    line.add_accounts();
    line.add_replicated();
    line.add_rest();
    CLI::App* verify =
        app.add_subcommand("verify-report", "check the signature of a drill's report");
    verify->fallthrough();
    verify->add_option("FILE", options.verify.file, "- for standard input")->required();
    options.verify.ca = "/etc/antipode/site/ca.pem";
    verify->add_option("--ca", options.verify.ca, "the authority of the signer's certificate")
        ->capture_default_str();
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return app.exit(error) == 0 ? 0 : 2;
    }
    if (verify->parsed()) {
        options.verify.json = options.json;
        options.verify.fingerprint = options.fingerprint;
        const Result<> good = verify_report_file(options.verify);
        if (!good) std::cerr << "antipode: " << good.error().context << "\n";
        return good ? 0 : 1;
    }
    auto target = find_target(options.url, options.fingerprint, options.token_file, options.config);
    Result<> done = target ? Result<>{} : Result<>(fail(target.error()));
    if (target) {
        CliClient client(std::move(*target));
        done = chosen(client, options);
    }
    if (done) return 0;
    std::cerr << "antipode: " << done.error().context << "\n";
    return exit_code_of(done.error());
}

}  // namespace
}  // namespace antipode::web

int main(int argc, char** argv) {
    return antipode::web::run(argc, argv);
}
