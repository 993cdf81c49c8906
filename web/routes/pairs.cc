#include "web/routes/pairs.h"

#include "web/routes/page.h"

namespace antipode::web {
namespace {

using control::json::array;
using control::json::object;
using control::json::value;

value number(const std::optional<double>& given) {
    return given ? value(*given) : value(nullptr);
}

value site_json(const SiteSummary& site) {
    object out;
    out["site"] = site.site;
    out["word"] = site.word;
    out["reason"] = site.reason;
    out["mood"] = word(site.mood);
    out["seen"] = site.seen;
    out["holds_vm"] = site.holds_vm;
    return out;
}

// What a loss of the VM's site would lose now, as time: nothing under the Output Rule, else all
// that was done since. Unknown when nobody answers.
value rpo_seconds(const control::Status& status) {
    if (status.state == control::State::primary || status.state == control::State::backup) return 0;
    const int64_t since = unix_ms_now() - status.state_since_unix_ms;
    return static_cast<double>(std::max<int64_t>(since, 0)) / 1000;
}

// The numbers of the overview's row, as the leading site reports them.
void add_numbers(object& out, const control::Status& status) {
    out["epoch"] = status.epoch.value();
    out["vcpu"] = control::word(status.vm.vcpu);
    out["uptime_seconds"] = number(status.vm.uptime_seconds);
    out["rpo_seconds"] = rpo_seconds(status);
    out["lag_seconds"] = number(status.execution_lag.seconds);
    out["output_delay_p50_seconds"] = number(status.output.delay_p50_seconds);
    out["output_delay_p99_seconds"] = number(status.output.delay_p99_seconds);
    out["log_bytes_per_second"] = number(status.log_rate.bytes_per_second);
    out["rtt_seconds"] = number(status.link.rtt_seconds);
    out["link_up"] = status.link.session_up;
    out["tiebreaker_reachable"] = status.tiebreaker.reachable;
    out["tiebreaker_text"] = status.tiebreaker.text;
    array alerts;
    for (const control::Alert& alert : status.alerts) {
        object item;
        item["code"] = control::word(alert.code);
        item["severity"] = control::word(alert.severity);
        item["text"] = alert.text;
        item["since_unix_ms"] = alert.since_unix_ms;
        alerts.push_back(std::move(item));
    }
    out["alerts"] = std::move(alerts);
}

object summary_json(const Fleet& fleet, std::string_view pair, const Headline& headline) {
    object out;
    out["name"] = pair;
    out["word"] = headline.word;
    out["reason"] = headline.reason;
    out["mood"] = word(headline.mood);
    out["since_unix_ms"] = headline.since_unix_ms;
    out["leader"] = headline.leader;
    array sites;
    for (const SiteSummary& site : headline.sites) sites.push_back(site_json(site));
    out["sites"] = std::move(sites);
    const View* leader = fleet.find_view(headline.leader);
    if (leader != nullptr && leader->status && leader->reachable) {
        add_numbers(out, *leader->status);
    }
    return out;
}

// The view that a request means: ?site=..., else the leading one.
Result<const View*> pick_view(const Fleet& fleet, const Call& call) {
    const std::string& pair = call.parameter("pair");
    const auto views = fleet.views(pair);
    if (views.empty()) return fail(Errc::not_found, "there is no pair '{}' on this host", pair);
    const auto site = call.request.query_value("site");
    if (!site) {
        const View* leader = fleet.find_view(judge(views).leader);
        return leader == nullptr ? views.front() : leader;
    }
    for (const View* view : views) {
        if (view->status && view->status->site == *site) return view;
    }
    return fail(Errc::not_found, "pair '{}' has no replicator of site '{}' on this host", pair,
                *site);
}

Response list_pairs(const Fleet& fleet, const Call& call) {
    auto limit = call.request.query_number("limit", 100, 1000);
    if (!limit) return problem(limit.error());
    const std::string after(call.request.query_value("after").value_or(""));
    array items;
    value next = nullptr;
    for (const std::string& pair : fleet.pairs()) {
        if (pair <= after) continue;
        if (items.size() == *limit) {
            next = items.empty() ? value(after) : items.back().at("name");
            break;
        }
        items.push_back(summary_json(fleet, pair, judge(fleet.views(pair))));
    }
    return list_of(std::move(items), std::move(next));
}

Response get_pair(const Fleet& fleet, const Call& call) {
    auto view = pick_view(fleet, call);
    if (!view) return problem(view.error());
    return Response::from_json(pair_json(fleet, call.parameter("pair")));
}

Response get_history(const Fleet& fleet, const Call& call) {
    auto view = pick_view(fleet, call);
    if (!view) return problem(view.error());
    auto after = call.request.query_number("after", 0, uint64_t{1} << 52);
    if (!after) return problem(after.error());
    return Response::from_json(
        control::to_json(fleet.history(**view, static_cast<int64_t>(*after))));
}

boost::asio::awaitable<Response> get_console(Fleet& fleet, const Call& call) {
    auto view = pick_view(fleet, call);
    if (!view) co_return problem(view.error());
    auto after = call.request.query_number("after", 0, uint64_t{1} << 52);
    if (!after) co_return problem(after.error());
    control::ConsoleRequest request;
    request.after = *after;
    const std::string socket = (*view)->socket;
    auto answer = co_await fleet.ask(socket, control::Method::console, control::to_json(request));
    if (!answer) co_return problem(answer.error());
    auto reply = control::parse_console_reply(*answer);
    if (!reply) co_return problem(reply.error());
    co_return Response::from_json(control::to_json(*reply));
}

}  // namespace

value overview_json(const Fleet& fleet) {
    array items;
    for (const std::string& pair : fleet.pairs()) {
        items.push_back(summary_json(fleet, pair, judge(fleet.views(pair))));
    }
    object out;
    out["items"] = std::move(items);
    out["time_unix_ms"] = unix_ms_now();
    return out;
}

value pair_json(const Fleet& fleet, std::string_view pair) {
    const auto views = fleet.views(pair);
    if (views.empty()) return nullptr;
    object out = summary_json(fleet, pair, judge(views));
    array list;
    for (const View* view : views) {
        object item;
        item["id"] = view->id;
        item["socket"] = view->socket;
        item["reachable"] = view->reachable;
        item["error"] = view->error;
        item["seen_unix_ms"] = view->seen_unix_ms;
        item["status"] = view->status ? control::to_json(*view->status) : value(nullptr);
        list.push_back(std::move(item));
    }
    out["views"] = std::move(list);
    out["time_unix_ms"] = unix_ms_now();
    return out;
}

void add_pair_routes(Router& router, Services& services) {
    Fleet& fleet = services.fleet;
    router.add_sync(http::verb::get, "/api/v1/pairs", Need::read,
                    [&fleet](const Call& call) { return list_pairs(fleet, call); });
    router.add_sync(http::verb::get, "/api/v1/pairs/{pair}", Need::read,
                    [&fleet](const Call& call) { return get_pair(fleet, call); });
    router.add_sync(http::verb::get, "/api/v1/pairs/{pair}/history", Need::read,
                    [&fleet](const Call& call) { return get_history(fleet, call); });
    router.add(http::verb::get, "/api/v1/pairs/{pair}/console", Need::read,
               [&fleet](const Call& call) { return get_console(fleet, call); });
}

}  // namespace antipode::web
