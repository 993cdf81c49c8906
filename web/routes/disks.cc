#include "web/routes/disks.h"

#include <boost/json/serialize.hpp>

#include "common/base/log.h"
#include "web/disk_client.h"
#include "web/http/body.h"
#include "web/routes/once.h"
#include "web/routes/page.h"

namespace antipode::web {
namespace {

namespace asio = boost::asio;
using control::json::array;
using control::json::object;
using control::json::value;

constexpr std::chrono::seconds kActionLimit(10);

// What can be ordered, and what it needs.
struct DiskAction {
    const char* name;
    const char* summary;
    bool confirmed;  // the group's name has to be typed: data may be lost, or a copy given up
    enum class Takes : uint8_t { nothing, disk, range, rate, mode, force } takes;
};
constexpr DiskAction kActions[] = {
    {"verify", "Compares the copies block by block, and repairs", false, DiskAction::Takes::range},
    {"resync", "Sends every block to the peer again", false, DiskAction::Takes::nothing},
    {"pause", "Holds resync and verify, at the side that sends", false, DiskAction::Takes::nothing},
    {"resume", "Goes on with them", false, DiskAction::Takes::nothing},
    {"rate", "The most a resync may send", false, DiskAction::Takes::rate},
    {"mode", "When a write is answered, until the next start", false, DiskAction::Takes::mode},
    {"promote", "This site's copy becomes the one that is written", false,
     DiskAction::Takes::force},
    {"demote", "Ends that, cleanly", false, DiskAction::Takes::nothing},
    {"connect", "Connects to the peer again", false, DiskAction::Takes::nothing},
    {"disconnect", "Ends the connection and makes none", false, DiskAction::Takes::nothing},
    {"outdate", "Says that the peer has newer data", true, DiskAction::Takes::nothing},
    {"invalidate", "Gives this copy up: a full resync from the peer", true,
     DiskAction::Takes::nothing},
    {"discard-mine", "In a split brain: this site's changes are given up", true,
     DiskAction::Takes::nothing},
    {"resize", "Takes up the size of a store that has grown", false, DiskAction::Takes::disk},
};

// What throws written data away is for those who may settle a split brain.
control::Access access_of(const DiskAction& action, bool forced) {
    const std::string_view name = action.name;
    const bool gives_data_up = forced || name == "discard-mine" || name == "invalidate";
    return gives_data_up ? control::Access::admin : control::Access::operate;
}

const DiskAction* find_action(std::string_view name) {
    const auto* found = std::find_if(std::begin(kActions), std::end(kActions),
                                     [&](const DiskAction& each) { return name == each.name; });
    return found == std::end(kActions) ? nullptr : found;
}

Result<DiskGroup> find_group(const Services& services, const std::string& name) {
    for (DiskGroup& group : disk_groups(services.settings.fleet.directories)) {
        if (group.name == name) return std::move(group);
    }
    return fail(Errc::not_found, "there is no group of replicated disks '{}' on this host",
                name.substr(0, 40));
}

std::string text_at(const object& from, std::string_view field) {
    const value* found = from.if_contains(field);
    return found != nullptr && found->is_string() ? std::string(found->get_string()) : "";
}

object view_json(const DiskGroupView& view) {
    object item;
    item["group"] = view.group.name;
    item["reachable"] = view.status.has_value();
    item["error"] = view.status ? "" : view.status.error().context;
    item["status"] = view.status ? value(*view.status) : value(nullptr);
    return item;
}

asio::awaitable<Response> list_groups(const Services& services) {
    auto groups = disk_groups(services.settings.fleet.directories);
    const auto views = co_await ask_disk_groups(std::move(groups));
    array items;
    for (const DiskGroupView& view : views) items.push_back(view_json(view));
    co_return list_of(std::move(items));
}

asio::awaitable<Response> get_group(const Services& services, const Call& call) {
    auto group = find_group(services, call.parameter("group"));
    if (!group) co_return problem(group.error());
    std::vector<DiskGroup> one{std::move(*group)};
    const auto views = co_await ask_disk_groups(std::move(one));
    co_return Response::from_json(view_json(views.front()));
}

asio::awaitable<Response> get_events(const Services& services, const Call& call) {
    const auto group = find_group(services, call.parameter("group"));
    if (!group) co_return problem(group.error());
    std::string line = "events";
    auto answer = co_await ask_disk_group(group->socket, std::move(line), kActionLimit);
    if (!answer) co_return problem(answer.error());
    co_return list_of((*answer)["events"]);
}

struct Asked {
    const DiskAction* action = nullptr;
    std::string line;
    std::string confirm;
    std::string note;
    bool check = false;
    bool forced = false;
};

// A word of a command: nothing in it may end it.
Result<> plain_word(std::string_view what, const std::string& word) {
    if (!word.empty() && word.find_first_of(" \r\n") == std::string::npos) return {};
    return fail(Errc::invalid_argument, "{}: is missing, or has blanks in it", what);
}

Result<Asked> read_action(const Call& call) {
    Asked asked;
    asked.action = find_action(call.parameter("action"));
    if (asked.action == nullptr) {
        return fail(Errc::not_found, "there is no action '{}' of replicated disks",
                    call.parameter("action").substr(0, 40));
    }
    std::string disk;
    std::string mode;
    std::optional<int64_t> first;
    std::optional<int64_t> count;
    std::optional<int64_t> rate;
    Body body(call.request);
    body.flag("check", asked.check);
    body.text("confirm", asked.confirm, Body::optional, 64);
    body.text("note", asked.note, Body::optional, 500);
    const auto takes = asked.action->takes;
    using Takes = DiskAction::Takes;
    if (takes == Takes::disk || takes == Takes::range) body.text("disk", disk, Body::required, 64);
    if (takes == Takes::range) {
        body.integer("first", first, 0, int64_t{1} << 52);
        body.integer("count", count, 1, int64_t{1} << 52);
    }
    if (takes == Takes::rate) body.integer("bytes_per_second", rate, 0, int64_t{1} << 52);
    if (takes == Takes::mode) body.text("mode", mode, Body::required, 16);
    if (takes == Takes::force) body.flag("force", asked.forced);
    FT_TRY_VOID(body.done());
    asked.line = asked.action->name;
    if (takes == Takes::disk || takes == Takes::range) {
        FT_TRY_VOID(plain_word("disk", disk));
        asked.line += " " + disk;
    }
    if (first || count) {
        if (!first || !count) return fail(Errc::invalid_argument, "first and count come together");
        asked.line += fmt::format(" {} {}", *first, *count);
    }
    if (takes == Takes::rate) {
        if (!rate) return fail(Errc::invalid_argument, "bytes_per_second: is missing");
        asked.line += fmt::format(" {}", *rate);
    }
    if (takes == Takes::mode) {
        FT_TRY_VOID(plain_word("mode", mode));
        asked.line += " " + mode;
    }
    if (asked.forced) asked.line += " force";
    return asked;
}

object reply_of(const Asked& asked, const std::string& group) {
    object out;
    out["group"] = group;
    out["action"] = asked.action->name;
    out["done"] = !asked.check;
    return out;
}

// What would be ordered, and what is known to speak against it. The service has the last word.
Response foresee(const Asked& asked, const std::string& group, const Result<object>& status) {
    object out = reply_of(asked, group);
    array findings;
    const auto find = [&](std::string_view severity, const std::string& text) {
        object one;
        one["severity"] = severity;
        one["text"] = text;
        findings.push_back(std::move(one));
    };
    if (!status) {
        find("error", status.error().context);
    } else if (asked.forced && text_at(*status, "link") == "connected") {
        find("warning", "the peer is connected: a promotion needs no force");
    }
    out["allowed"] = status.has_value();
    out["findings"] = std::move(findings);
    out["consequence"] = asked.action->summary;
    const bool confirmed = asked.action->confirmed || asked.forced;
    out["confirm"] = confirmed ? value(group) : value(nullptr);
    return Response::from_json(out);
}

asio::awaitable<Response> carry_out(const Services& services, const Call& call, const Asked& asked,
                                    const DiskGroup& group) {
    const std::string& name = group.name;
    const std::string action = "disks." + std::string(asked.action->name);
    if (auto noted = services.note(call, action, name, "asked", asked.note); !noted) {
        co_return problem(noted.error());
    }
    std::string line = asked.line;
    const auto answer = co_await ask_disk_group(group.socket, std::move(line), kActionLimit);
    const bool unknown = !answer && answer.error().code == Errc::unreachable;
    auto noted = services.note(call, action, name,
                               answer    ? "ok"
                               : unknown ? "unknown"
                                         : "refused",
                               answer ? asked.line : answer.error().context);
    if (!noted) logger("web").error("audit: {}", noted.error().to_string());
    if (unknown) {
        co_return problem(504, "unknown-outcome", "no answer from the disks",
                          answer.error().context + "; look at their state before trying again");
    }
    if (!answer) co_return problem(answer.error());
    co_return Response::from_json(reply_of(asked, name));
}

asio::awaitable<Response> act(Services& services, const Call& call) {
    const std::string name = call.parameter("group");
    const auto asked = read_action(call);
    if (!asked) co_return problem(asked.error());
    const control::Access needed = access_of(*asked->action, asked->forced);
    if (!call.principal.may(needed)) {
        const std::string detail = fmt::format("needs the right '{}'", control::word(needed));
        const std::string action = "disks." + std::string(asked->action->name);
        auto noted = services.note(call, action, name, "refused", detail);
        if (!noted) co_return problem(noted.error());
        co_return problem(403, "denied", "not allowed",
                          fmt::format("'{}' is {}; {} {}", call.principal.name, call.principal.role,
                                      asked->line, detail));
    }
    const auto group = find_group(services, name);
    if (!group) co_return problem(group.error());
    if (asked->check) {
        std::string line = "status";
        const auto status = co_await ask_disk_group(group->socket, std::move(line), kActionLimit);
        co_return foresee(*asked, name, status);
    }
    const bool confirmed = asked->action->confirmed || asked->forced;
    if (confirmed && asked->confirm != name) {
        co_return problem(422, "not-confirmed", "not confirmed",
                          fmt::format("confirm: type the group's name, '{}'", name));
    }
    Once once(services, call);
    if (auto answer = once.answer()) co_return std::move(*answer);
    Response response = co_await carry_out(services, call, *asked, *group);
    co_return once.finished(std::move(response));
}

Response list_actions(const Call& call) {
    array items;
    for (const DiskAction& action : kActions) {
        object item;
        item["name"] = action.name;
        item["summary"] = action.summary;
        item["confirmed"] = action.confirmed;
        const control::Access access = access_of(action, false);
        item["access"] = control::word(access);
        item["allowed"] = call.principal.may(access);
        items.push_back(std::move(item));
    }
    return list_of(std::move(items));
}

// ---- metrics

struct DiskMetric {
    const char* name;
    const char* type;
    const char* help;
    const char* field;  // of the disk's status; absent = not known now
    double factor = 1;
};
constexpr double kBlockBytes = 65536;
constexpr DiskMetric kDiskMetrics[] = {
    {"antipode_replicated_disk_size_bytes", "gauge", "Size of the disk.", "size_bytes"},
    {"antipode_replicated_disk_epoch", "gauge", "The highest epoch seen.", "epoch"},
    {"antipode_replicated_disk_marked_bytes", "gauge", "What the peer's copy may lack.",
     "marked_blocks", kBlockBytes},
    {"antipode_replicated_disk_sync_total_bytes", "gauge",
     "Size of the resync or verify that is under way.", "blocks_total", kBlockBytes},
    {"antipode_replicated_disk_sync_left_bytes", "gauge", "What is left of it.", "blocks_left",
     kBlockBytes},
    {"antipode_replicated_disk_sync_bytes_per_second", "gauge", "Its rate.", "bytes_per_second"},
    {"antipode_replicated_disk_sync_left_seconds", "gauge", "When it will end, at this rate.",
     "seconds_left"},
    {"antipode_replicated_disk_sync_paused", "gauge", "1 if resync and verify are held.", "paused"},
    {"antipode_replicated_disk_verify_differences", "gauge", "What the last verify found.",
     "verify_differences"},
    {"antipode_replicated_disk_verify_ended_timestamp_seconds", "gauge",
     "When the last verify ended; none since a start of the service without one.",
     "verify_ended_at"},
    {"antipode_replicated_disk_verify_complete", "gauge",
     "1 if the last verify compared all that it was asked for.", "verify_complete"},
    {"antipode_replicated_disk_undo_bytes", "gauge",
     "Kept to go back to the last consistent point.", "undo_bytes"},
    {"antipode_replicated_disk_store_reconnects_total", "counter",
     "Times that the store's NBD server came back.", "store_reconnects"},
};

std::optional<double> number_at(const object& from, std::string_view field) {
    const value* found = from.if_contains(field);
    if (found == nullptr) return std::nullopt;
    if (found->is_bool()) return found->get_bool() ? 1 : 0;
    boost::system::error_code error;
    const double number = found->to_number<double>(error);
    if (error) return std::nullopt;
    return number;
}

void add_disk(Exposition& out, const object& disk, const std::string& group) {
    const std::string name = text_at(disk, "name");
    const Exposition::Labels labels{{"group", group}, {"disk", name}};
    out.sample("antipode_replicated_disk_up_to_date", labels, text_at(disk, "state") == "UpToDate");
    out.sample("antipode_replicated_disk_failed", labels, text_at(disk, "state") == "Failed");
    out.sample("antipode_replicated_disk_split_brain", labels,
               text_at(disk, "decision") == "split-brain");
    out.sample("antipode_replicated_disk_primary", labels, text_at(disk, "role") == "primary");
    out.sample("antipode_replicated_disk_store_up", labels, text_at(disk, "store_health") == "ok");
    for (const DiskMetric& metric : kDiskMetrics) {
        if (const auto number = number_at(disk, metric.field)) {
            out.sample(metric.name, labels, *number * metric.factor);
        }
    }
}

void declare(Exposition& out) {
    const auto gauge = [&](std::string_view name, std::string_view help) {
        out.family(name, "gauge", help);
    };
    gauge("antipode_replicated_disks_up", "1 if the group of disks answers on this host.");
    gauge("antipode_replicated_disks_link_up", "1 if the group is connected to its peer.");
    gauge("antipode_replicated_disks_halted",
          "1 if the group makes no connection until an operator has decided something.");
    gauge("antipode_replicated_disks_backlog_bytes", "Written here and not received by the peer.");
    gauge("antipode_replicated_disk_up_to_date", "1 if this copy is whole and current.");
    gauge("antipode_replicated_disk_failed", "1 if this copy is not used any more.");
    gauge("antipode_replicated_disk_split_brain",
          "1 if both copies have, by the last meeting, what the other one lacks.");
    gauge("antipode_replicated_disk_primary", "1 if this site's copy is the one that is written.");
    gauge("antipode_replicated_disk_store_up", "1 if the disk's backing store answers.");
    for (const DiskMetric& metric : kDiskMetrics) out.family(metric.name, metric.type, metric.help);
}

}  // namespace

asio::awaitable<void> add_disk_metrics(Exposition& out, const Services& services) {
    declare(out);
    auto groups = disk_groups(services.settings.fleet.directories);
    const auto views = co_await ask_disk_groups(std::move(groups));
    for (const DiskGroupView& view : views) {
        const Exposition::Labels labels{{"group", view.group.name}};
        out.sample("antipode_replicated_disks_up", labels, view.status.has_value());
        if (!view.status) continue;
        out.sample("antipode_replicated_disks_link_up", labels,
                   text_at(*view.status, "link") == "connected");
        out.sample("antipode_replicated_disks_halted", labels,
                   text_at(*view.status, "link") == "halted");
        out.sample("antipode_replicated_disks_backlog_bytes", labels,
                   number_at(*view.status, "backlog_bytes").value_or(0));
        const value* disks = view.status->if_contains("disks");
        if (disks == nullptr || !disks->is_array()) continue;
        for (const value& disk : disks->get_array()) {
            if (disk.is_object()) add_disk(out, disk.get_object(), view.group.name);
        }
    }
}

void add_disk_routes(Router& router, Services& services) {
    router.add(http::verb::get, "/api/v1/replicated-disks", Need::read,
               [&services](const Call&) { return list_groups(services); });
    router.add_sync(http::verb::get, "/api/v1/replicated-disks/actions", Need::read, list_actions);
    router.add(http::verb::get, "/api/v1/replicated-disks/{group}", Need::read,
               [&services](const Call& call) { return get_group(services, call); });
    router.add(http::verb::get, "/api/v1/replicated-disks/{group}/events", Need::read,
               [&services](const Call& call) { return get_events(services, call); });
    router.add(http::verb::post, "/api/v1/replicated-disks/{group}/actions/{action}", Need::operate,
               [&services](const Call& call) { return act(services, call); });
}

}  // namespace antipode::web
