#include "web/routes/actions.h"

#include <boost/json/serialize.hpp>

#include "common/base/log.h"
#include "web/http/body.h"
#include "web/routes/once.h"
#include "web/routes/page.h"

namespace antipode::web {
namespace {

namespace asio = boost::asio;
using control::Method;
using control::State;
using control::json::array;
using control::json::object;
using control::json::value;

// What an action is asked with.
struct Asked {
    Method method = Method::status;
    std::string site;
    control::ActionRequest request;
};

Result<Asked> read_request(const Call& call) {
    const std::string& name = call.parameter("action");
    const auto method = control::from_word<Method>(name);
    if (!method || control::info(*method).access == control::Access::read) {
        return fail(Errc::not_found, "there is no action '{}'", name.substr(0, 40));
    }
    if (!control::info(*method).implemented) {
        return fail(Errc::unsupported, "{}: this version cannot do it", name);
    }
    Asked asked;
    asked.method = *method;
    std::optional<int64_t> operation;
    Body body(call.request);
    body.text("site", asked.site, Body::optional, 64);
    body.flag("check", asked.request.check);
    body.text("confirm", asked.request.confirm, Body::optional, 64);
    body.text("note", asked.request.note, Body::optional, 500);
    body.flag("peer_is_down", asked.request.peer_is_down);
    body.flag("accept_loss", asked.request.accept_loss);
    body.text("disk", asked.request.disk, Body::optional, 64);
    body.text("fault", asked.request.fault, Body::optional, 64);
    body.number("duration_seconds", asked.request.duration_seconds, 0, 86'400);
    body.text("text", asked.request.text, Body::optional, 4096);
    body.text("to", asked.request.to, Body::optional, 64);
    body.integer("operation", operation, 0, int64_t{1} << 52);
    body.text("options", asked.request.options, Body::optional, 16 * 1024);
    FT_TRY_VOID(body.done());
    asked.request.operation = static_cast<uint64_t>(operation.value_or(0));
    asked.request.actor = fmt::format("{} via {}", call.principal.name, call.principal.via);
    return asked;
}

// The site that an action is for when none is named: the one it can only mean.
bool is_meant(Method method, State state) {
    switch (method) {
        case Method::failover:
        case Method::drill_start:
        case Method::drill_stop:
        case Method::drill_clean:
        case Method::drill_input:
            return state == State::backup;
        case Method::force:
            return state == State::waiting;
        case Method::rejoin:
            return state == State::halted || state == State::failed;
        case Method::reclaim:
            return state == State::starting;
        default:
            return false;
    }
}

Result<const View*> choose_view(const Services& services, const std::string& pair,
                                const Asked& asked) {
    const auto views = services.fleet.views(pair);
    if (views.empty()) return fail(Errc::not_found, "there is no pair '{}' on this host", pair);
    if (!asked.site.empty()) {
        for (const View* view : views) {
            if (view->status && view->status->site == asked.site) return view;
        }
        return fail(Errc::not_found,
                    "pair '{}': site '{}' is not on this host; ask that site's page", pair,
                    asked.site);
    }
    for (const View* view : views) {
        if (view->reachable && view->status && is_meant(asked.method, view->status->state)) {
            return view;
        }
    }
    const View* leader = services.fleet.find_view(judge(views).leader);
    return leader == nullptr ? views.front() : leader;
}

value reply_json(const control::ActionReply& reply, const Asked& asked, const std::string& pair,
                 const std::string& site) {
    object out = control::to_json(reply).as_object();
    out.erase("operation");
    const control::MethodInfo& info = control::info(asked.method);
    out["action"] = info.name;
    out["pair"] = pair;
    out["site"] = site;
    out["confirm"] = info.confirmed ? value(pair) : value(nullptr);
    out["task"] = nullptr;
    return out;
}

Response with_status(value document, unsigned status) {
    return Response::from_json(document, status);
}

// What the replicator has accepted becomes a task, which has ended already if the action was a
// short one.
Response make_task(Services& services, const control::ActionReply& reply, const Asked& asked,
                   const std::string& pair, const control::Status& status) {
    const int64_t now = unix_ms_now();
    Task task;
    task.pair = pair;
    task.site = status.site;
    task.action = asked.method;
    task.actor = asked.request.actor;
    task.text = reply.consequence;
    task.incarnation = status.incarnation;
    task.created_unix_ms = now;
    if (reply.operation) {
        task.operation = *reply.operation;
    } else {
        task.state = control::OperationState::succeeded;
        task.progress_ratio = 1.0;
        task.ended_unix_ms = now;
    }
    auto added = services.tasks.add(std::move(task));
    if (!added) return problem(added.error());
    services.hub.publish(kTasksTopic, make_message("task", json::serialize(to_json(*added))));
    object out = reply_json(reply, asked, pair, status.site).as_object();
    out["task"] = to_json(*added);
    return with_status(std::move(out), reply.operation ? 202 : 200)
        .with("Location", "/api/v1/tasks/" + added->id);
}

Response not_reached(const Error& error) {
    // It may have been done all the same: the answer is what is missing.
    return problem(504, "unknown-outcome", "no answer from the replicator",
                   error.context + "; look at the state of the VM before trying again");
}

asio::awaitable<Response> carry_out(Services& services, const Call& call, const Asked& asked,
                                    const std::string& pair) {
    auto view = choose_view(services, pair, asked);
    if (!view) co_return problem(view.error());
    if (!(*view)->reachable || !(*view)->status) {
        co_return problem(503, "unreachable", "the replicator does not answer", (*view)->error);
    }
    const control::Status status = *(*view)->status;  // a copy: the view may change while we wait
    const std::string socket = (*view)->socket;
    const control::MethodInfo& info = control::info(asked.method);
    const std::string action = "pair." + std::string(info.name);
    const std::string target = pair + "@" + status.site;
    if (!asked.request.check) {
        if (info.confirmed && asked.request.confirm != pair) {
            co_return problem(422, "not-confirmed", "not confirmed",
                              fmt::format("confirm: type the pair's name, '{}'", pair));
        }
        if (auto noted = services.note(call, action, target, "asked", asked.request.note); !noted) {
            co_return problem(noted.error());
        }
    }
    auto answer =
        co_await services.fleet.ask(socket, asked.method, control::to_json(asked.request));
    if (!answer && answer.error().code == Errc::unreachable) co_return not_reached(answer.error());
    auto reply = answer ? control::parse_action_reply(*answer)
                        : Result<control::ActionReply>(fail(answer.error()));
    if (!asked.request.check) {
        const std::string detail = reply ? reply->consequence : reply.error().context;
        auto noted = services.note(call, action, target, reply ? "ok" : "refused", detail);
        if (!noted) logger("web").error("audit: {}", noted.error().to_string());
    }
    if (!reply) co_return problem(reply.error());
    if (asked.request.check) {
        co_return with_status(reply_json(*reply, asked, pair, status.site), 200);
    }
    co_return make_task(services, *reply, asked, pair, status);
}

asio::awaitable<Response> act(Services& services, const Call& call) {
    const std::string pair = call.parameter("pair");
    auto asked = read_request(call);
    if (!asked) co_return problem(asked.error());
    const control::MethodInfo& info = control::info(asked->method);
    if (!call.principal.may(info.access)) {
        const std::string detail = fmt::format("needs the right '{}'", control::word(info.access));
        auto noted = services.note(call, "pair." + std::string(info.name), pair, "refused", detail);
        if (!noted) co_return problem(noted.error());
        co_return problem(403, "denied", "not allowed",
                          fmt::format("'{}' is {}; {} {}", call.principal.name, call.principal.role,
                                      info.name, detail));
    }
    if (asked->request.check) co_return co_await carry_out(services, call, *asked, pair);
    Once once(services, call);
    if (auto answer = once.answer()) co_return std::move(*answer);
    Response response = co_await carry_out(services, call, *asked, pair);
    co_return once.finished(std::move(response));
}

// The actions there are, and which of them the caller may use.
Response list_actions(const Call& call) {
    array items;
    for (const control::MethodInfo& info : control::all_methods()) {
        if (info.access == control::Access::read || !info.implemented) continue;
        object item;
        item["name"] = info.name;
        item["access"] = control::word(info.access);
        item["confirmed"] = info.confirmed;
        item["summary"] = info.summary;
        item["allowed"] = call.principal.may(info.access);
        items.push_back(std::move(item));
    }
    return list_of(std::move(items));
}

Result<TaskFilter> read_filter(const Request& request) {
    TaskFilter filter;
    FT_TRY_VOID(read_page(request, filter));
    if (const auto pair = request.query_value("pair")) filter.pair = std::string(*pair);
    if (const auto text = request.query_value("state")) {
        filter.state = control::from_word<control::OperationState>(*text);
        if (!filter.state) {
            return fail(
                Errc::invalid_argument,
                "query parameter state: '{}' is none of running, succeeded, failed, cancelled",
                text->substr(0, 40));
        }
    }
    return filter;
}

Response list_tasks(const Services& services, const Call& call) {
    auto filter = read_filter(call.request);
    if (!filter) return problem(filter.error());
    auto found = services.tasks.list(*filter);
    if (!found) return problem(found.error());
    return page_of(std::move(*found), *filter, &Task::number);
}

Response get_task(const Services& services, const Call& call) {
    auto task = services.tasks.find(call.parameter("task"));
    if (!task) return problem(task.error());
    return Response::from_json(to_json(*task));
}

// Cancelling is an action of the pair like others: the same rights, the same audit.
asio::awaitable<Response> cancel_task(Services& services, const Call& call) {
    auto task = services.tasks.find(call.parameter("task"));
    if (!task) co_return problem(task.error());
    const control::Access needed = control::info(task->action).access;
    if (!call.principal.may(needed)) {
        co_return problem(403, "denied", "not allowed",
                          fmt::format("'{}' is {} and may not cancel this", call.principal.name,
                                      call.principal.role));
    }
    Once once(services, call);
    if (auto answer = once.answer()) co_return std::move(*answer);
    if (task->state != control::OperationState::running) {
        co_return problem(409, "task-over", "the task is over", "it has ended already");
    }
    Asked asked;
    asked.method = Method::cancel;
    asked.site = task->site;
    asked.request.operation = task->operation;
    asked.request.actor = fmt::format("{} via {}", call.principal.name, call.principal.via);
    const std::string pair = task->pair;
    Response response = co_await carry_out(services, call, asked, pair);
    co_return once.finished(std::move(response));
}

}  // namespace

void follow_tasks(Services& services, const View& view) {
    auto changed = services.tasks.follow(view, unix_ms_now());
    if (!changed) {
        logger("web").error("tasks: {}", changed.error().to_string());
        return;
    }
    for (const Task& task : *changed) {
        services.hub.publish(kTasksTopic, make_message("task", json::serialize(to_json(task))));
    }
}

void add_action_routes(Router& router, Services& services) {
    router.add_sync(http::verb::get, "/api/v1/actions", Need::read, list_actions);
    router.add(http::verb::post, "/api/v1/pairs/{pair}/actions/{action}", Need::read,
               [&services](const Call& call) { return act(services, call); });
    router.add_sync(http::verb::get, "/api/v1/tasks", Need::read,
                    [&services](const Call& call) { return list_tasks(services, call); });
    router.add_sync(http::verb::get, "/api/v1/tasks/{task}", Need::read,
                    [&services](const Call& call) { return get_task(services, call); });
    router.add(http::verb::post, "/api/v1/tasks/{task}/cancel", Need::drill,
               [&services](const Call& call) { return cancel_task(services, call); });
}

}  // namespace antipode::web
