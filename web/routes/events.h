// /api/v1/events: what happened, newest first, filtered and page by page.
#pragma once

#include "web/http/router.h"
#include "web/services.h"

namespace antipode::web {

void add_event_routes(Router& router, Services& services);

}  // namespace antipode::web
