// /api/v1/pairs: every protected VM, with the judgment of web/headline.h, its sites' own reports,
// samples for charts, and the console.
#pragma once

#include "web/http/router.h"
#include "web/services.h"

namespace antipode::web {

void add_pair_routes(Router& router, Services& services);

// The documents, for live data too.
json::value overview_json(const Fleet& fleet);                     // {"items":[summary...]}
json::value pair_json(const Fleet& fleet, std::string_view pair);  // summary + views

}  // namespace antipode::web
