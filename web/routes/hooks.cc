#include "web/routes/hooks.h"

#include "web/routes/page.h"

namespace antipode::web {
namespace {

using control::json::array;
using control::json::object;
using control::json::value;

Response list_hooks(const Services& services, const Call&) {
    array items;
    for (const HookSettings& hook : services.hooks.settings()) {
        object item = to_json(hook);
        Hooks::Filter last;
        last.hook = hook.name;
        last.limit = 1;
        auto found = services.hooks.results(last);
        if (!found) return problem(found.error());
        item["last"] = found->empty() ? value(nullptr) : value(to_json(found->front()));
        items.push_back(std::move(item));
    }
    return list_of(std::move(items));
}

Response list_results(const Services& services, const Call& call) {
    Hooks::Filter filter;
    if (auto read = read_page(call.request, filter); !read) return problem(read.error());
    if (const auto hook = call.request.query_value("hook")) filter.hook = std::string(*hook);
    auto found = services.hooks.results(filter);
    if (!found) return problem(found.error());
    return page_of(std::move(*found), filter, &HookResult::id);
}

boost::asio::awaitable<Response> test_hook(Services& services, const Call& call) {
    const std::string hook = call.parameter("hook");
    if (auto noted = services.note(call, "hook.test", hook, "asked", ""); !noted) {
        co_return problem(noted.error());
    }
    auto tested = co_await services.hooks.test(hook);
    if (!tested) co_return problem(tested.error());
    co_return Response::from_json(to_json(*tested));
}

}  // namespace

void add_hook_routes(Router& router, Services& services) {
    router.add_sync(http::verb::get, "/api/v1/hooks", Need::read,
                    [&services](const Call& call) { return list_hooks(services, call); });
    router.add_sync(http::verb::get, "/api/v1/hook-results", Need::read,
                    [&services](const Call& call) { return list_results(services, call); });
    router.add(http::verb::post, "/api/v1/hooks/{hook}/test", Need::admin,
               [&services](const Call& call) { return test_hook(services, call); });
}

}  // namespace antipode::web
