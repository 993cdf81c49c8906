#include "web/routes/events.h"

namespace antipode::web {
namespace {

using control::json::array;
using control::json::object;
using control::json::value;

Result<EventFilter> read_filter(const Request& request) {
    EventFilter filter;
    FT_TRY(const uint64_t limit, request.query_number("limit", 100, 1000));
    FT_TRY(const uint64_t before, request.query_number("before", 0, uint64_t{1} << 52));
    FT_TRY(const uint64_t after, request.query_number("after", 0, uint64_t{1} << 52));
    filter.before = static_cast<int64_t>(before);
    filter.after = static_cast<int64_t>(after);
    filter.limit = static_cast<int64_t>(limit) + 1;  // one more tells whether there is a next page
    if (const auto pair = request.query_value("pair")) filter.pair = std::string(*pair);
    if (const auto text = request.query_value("severity")) {
        filter.at_least = control::from_word<control::Severity>(*text);
        if (!filter.at_least) {
            return fail(Errc::invalid_argument,
                        "query parameter severity: '{}' is none of info, warning, error",
                        text->substr(0, 40));
        }
    }
    return filter;
}

Response list_events(const EventHistory& events, const Call& call) {
    auto filter = read_filter(call.request);
    if (!filter) return problem(filter.error());
    auto found = events.find(*filter);
    if (!found) return problem(found.error());
    const bool more = static_cast<int64_t>(found->size()) == filter->limit;
    if (more) found->pop_back();
    array items;
    for (const StoredEvent& stored : *found) items.push_back(to_json(stored));
    object out;
    out["items"] = std::move(items);
    out["next"] =
        more && !found->empty() ? value(found->back().id) : value(nullptr);  // for `before`
    return Response::from_json(out);
}

}  // namespace

void add_event_routes(Router& router, Services& services) {
    const EventHistory& events = services.events;
    router.add_sync(http::verb::get, "/api/v1/events", Need::read,
                    [&events](const Call& call) { return list_events(events, call); });
}

}  // namespace antipode::web
