// /api/v1/live: server-sent events. `overview` every second, `event` as events come, and `pair`
// every second for the pair named by ?pair=. The first messages are the present, so that a page
// needs nothing else.
#pragma once

#include "web/http/router.h"
#include "web/services.h"

namespace antipode::web {

inline constexpr std::string_view kOverviewTopic = "overview";
inline constexpr std::string_view kEventsTopic = "events";
std::string pair_topic(std::string_view pair);

void add_live_routes(Router& router, Services& services);

}  // namespace antipode::web
