#include "web/routes/live.h"

#include <boost/json/serialize.hpp>

#include "web/routes/actions.h"
#include "web/routes/drills.h"
#include "web/routes/pairs.h"

namespace antipode::web {
namespace {

Response subscribe(Services& services, const Call& call) {
    std::vector<std::string> topics{std::string(kOverviewTopic), std::string(kEventsTopic),
                                    std::string(kTasksTopic), std::string(kDrillsTopic)};
    const auto pair = call.request.query_value("pair");
    if (pair) topics.push_back(pair_topic(*pair));
    auto subscription =
        services.hub.subscribe(std::move(topics), stream_owner(call.principal.name));
    if (!subscription) {
        return problem(503, "subscribers", "no place for another live subscriber",
                       subscription.error().context)
            .with("Retry-After", "10");
    }
    (*subscription)->push(make_message("overview", json::serialize(overview_json(services.fleet))));
    if (pair) {
        (*subscription)
            ->push(make_message("pair", json::serialize(pair_json(services.fleet, *pair))));
    }
    Response response;
    response.content_type = "text/event-stream";
    response.stream = std::move(*subscription);
    return response;
}

}  // namespace

std::string pair_topic(std::string_view pair) {
    return "pair:" + std::string(pair);
}

void add_live_routes(Router& router, Services& services) {
    router.add_sync(http::verb::get, "/api/v1/live", Need::read,
                    [&services](const Call& call) { return subscribe(services, call); });
}

}  // namespace antipode::web
