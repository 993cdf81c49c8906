#include "web/cli/manage.h"

#include <boost/json/serialize.hpp>
#include <iostream>

#include "web/cli/table.h"
#include "web/prompt.h"
#include "web/security/secrets.h"

namespace antipode::web {
namespace {

using http::verb;
using Kind = Column::Kind;

void show(bool json, const json::value& answer, const std::vector<Column>& columns) {
    if (json) {
        std::cout << json::serialize(answer) << "\n";
    } else {
        std::cout << table(json::array{answer}, columns);
    }
}

Result<> change_user(CliClient& client, const UserLine& line, const json::object& body) {
    FT_TRY(const json::value user, client.ask(verb::patch, "/users/" + line.name, body));
    show(line.json, user, {{"NAME", "name"}, {"ROLE", "role"}, {"DISABLED", "disabled"}});
    return {};
}

// The disks of groups, each with its group's name and line beside it.
json::array rows_of(const json::value& groups) {
    json::array rows;
    for (const json::value& group : groups.as_array()) {
        const json::value& status = group.at("status");
        if (!status.is_object()) {
            rows.push_back(json::object{{"group", group.at("group")},
                                        {"link", "no answer"},
                                        {"reason", group.at("error")}});
            continue;
        }
        for (const json::value& disk : status.at("disks").as_array()) {
            json::object row = disk.as_object();
            row["group"] = group.at("group");
            row["link"] = status.at("link");
            if (cell(disk, {"", "reason"}).empty()) row["reason"] = status.at("link_reason");
            rows.push_back(std::move(row));
        }
    }
    return rows;
}

}  // namespace

// ---- Accounts

Result<> add_user(CliClient& client, const UserLine& line) {
    json::object body;
    body["name"] = line.name;
    body["role"] = line.role;
    FT_TRY(const std::string password, ask_new_password(line.name));
    body["password"] = password;
    FT_TRY(const json::value user, client.ask(verb::post, "/users", body));
    show(line.json, user, {{"NAME", "name"}, {"ROLE", "role"}});
    return {};
}

Result<> set_role(CliClient& client, const UserLine& line) {
    return change_user(client, line, json::object{{"role", line.role}});
}

Result<> set_password(CliClient& client, const UserLine& line) {
    FT_TRY(const std::string password, ask_new_password(line.name));
    return change_user(client, line, json::object{{"password", password}});
}

Result<> set_login(CliClient& client, const UserLine& line, Login login) {
    return change_user(client, line, json::object{{"disabled", login == Login::disabled}});
}

Result<> remove_user(CliClient& client, const UserLine& line) {
    FT_TRY_VOID(client.ask(verb::delete_, "/users/" + line.name));
    return {};
}

// ---- Settings

Result<> change_settings(CliClient& client, const SettingsLine& line) {
    json::object body;
    if (line.idle_minutes) body["session_idle_minutes"] = *line.idle_minutes;
    if (line.hours) body["session_hours"] = *line.hours;
    if (line.banner) body["login_banner"] = *line.banner;
    FT_TRY(const json::value settings,
           body.empty() ? client.get("/settings") : client.ask(verb::patch, "/settings", body));
    show(line.json, settings,
         {{"IDLE MINUTES", "session_idle_minutes"},
          {"HOURS", "session_hours"},
          {"TLS", "https.tls"},
          {"CERTIFICATE", "https.subject"},
          {"UNTIL", "https.not_after_unix_ms", Kind::time},
          {"LOOPBACK READS", "loopback_read"},
          {"BANNER", "login_banner"}});
    return {};
}

// ---- Hooks

Result<> test_hook(CliClient& client, const std::string& name, Form form) {
    FT_TRY(const json::value result, client.ask(verb::post, "/hooks/" + name + "/test"));
    show(form == Form::json, result,
         {{"HOOK", "hook"}, {"OUTCOME", "outcome"}, {"TEXT", "text"}, {"OUTPUT", "output"}});
    const std::string outcome = cell(result, {"", "outcome"});
    if (outcome != "ok") return fail(Errc::io, "{}: {}", name, outcome);
    return {};
}

// ---- Replicated disks

Result<> show_replicated(CliClient& client, const DiskLine& line) {
    const std::string path =
        line.group.empty() ? "/replicated-disks" : "/replicated-disks/" + line.group;
    FT_TRY(const json::value answer, client.get(path));
    if (line.json) {
        std::cout << json::serialize(answer) << "\n";
        return {};
    }
    const json::value groups = line.group.empty() ? answer.at("items") : json::array{answer};
    std::cout << table(rows_of(groups), {{"GROUP", "group"},
                                         {"LINK", "link"},
                                         {"DISK", "name"},
                                         {"ROLE", "role"},
                                         {"STATE", "state"},
                                         {"PEER", "peer_state"},
                                         {"SIZE", "size_bytes", Kind::bytes},
                                         {"DOES", "phase"},
                                         {"BLOCKS LEFT", "blocks_left"},
                                         {"REASON", "reason"}});
    return {};
}

Result<> replicated_events(CliClient& client, const DiskLine& line) {
    FT_TRY(const json::value answer, client.get("/replicated-disks/" + line.group + "/events"));
    if (line.json) {
        std::cout << json::serialize(answer) << "\n";
        return {};
    }
    json::array rows;
    for (const json::value& item : answer.at("items").as_array()) {
        json::object row = item.as_object();
        row["time_unix_ms"] = item.at("time").to_number<int64_t>() * 1000;
        rows.push_back(std::move(row));
    }
    std::cout << table(rows, {{"TIME", "time_unix_ms", Kind::time},
                              {"WEIGHT", "weight"},
                              {"DISK", "disk"},
                              {"EVENT", "event"},
                              {"TEXT", "text"}});
    return {};
}

Result<> order_replicated(CliClient& client, const DiskLine& line) {
    const std::string path = "/replicated-disks/" + line.group + "/actions/" + line.action;
    json::object body;
    put_text(body, "disk", line.disk);
    put_text(body, "mode", line.mode);
    put_text(body, "note", line.note);
    if (line.first) body["first"] = *line.first;
    if (line.count) body["count"] = *line.count;
    if (line.bytes_per_second) body["bytes_per_second"] = *line.bytes_per_second;
    if (line.force) body["force"] = true;
    json::object asked = body;
    asked["check"] = true;
    FT_TRY(const json::value seen, client.ask(verb::post, path, asked));
    if (!line.json) {
        std::cout << line.group << ": " << cell(seen, {"", "consequence"}) << "\n";
        for (const json::value& finding : seen.at("findings").as_array()) {
            std::cout << "  " << cell(finding, {"", "severity"}) << ": "
                      << cell(finding, {"", "text"}) << "\n";
        }
    } else if (line.check) {
        std::cout << json::serialize(seen) << "\n";
    }
    if (!seen.at("allowed").as_bool()) return fail(Errc::denied, "it would be refused");
    if (line.check) return {};
    const std::string wanted = cell(seen, {"", "confirm"});
    if (wanted != "-" && line.confirm != wanted) {
        return fail(Errc::invalid_argument, "it can lose data: needs --confirm {}", wanted);
    }
    put_text(body, "confirm", line.confirm);
    FT_TRY(const json::value done, client.ask(verb::post, path, body, random_secret()));
    if (line.json) std::cout << json::serialize(done) << "\n";
    return {};
}

}  // namespace antipode::web
