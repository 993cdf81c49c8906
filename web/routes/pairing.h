// /api/v1/pairings: pairing this site with another, for people; /api/v1/pairing/{step}: what the
// other site's page asks during it, which is proved by the code's secret and by nothing else.
#pragma once

#include "web/http/router.h"
#include "web/services.h"

namespace antipode::web {

void add_pairing_routes(Router& router, Services& services);

}  // namespace antipode::web
