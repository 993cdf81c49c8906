// /api/v1/hooks and /api/v1/hook-results: what web.toml sets up, how it went, and a try.
#pragma once

#include "web/http/router.h"
#include "web/services.h"

namespace antipode::web {

void add_hook_routes(Router& router, Services& services);

}  // namespace antipode::web
