#include "web/routes/events.h"

#include "web/routes/page.h"

namespace antipode::web {
namespace {

Result<EventFilter> read_filter(const Request& request) {
    EventFilter filter;
    FT_TRY_VOID(read_page(request, filter));
    FT_TRY(const uint64_t after, request.query_number("after", 0, uint64_t{1} << 52));
    filter.after = static_cast<int64_t>(after);
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
    return page_of(std::move(*found), *filter, &StoredEvent::id);
}

}  // namespace

void add_event_routes(Router& router, Services& services) {
    const EventHistory& events = services.events;
    router.add_sync(http::verb::get, "/api/v1/events", Need::read,
                    [&events](const Call& call) { return list_events(events, call); });
}

}  // namespace antipode::web
