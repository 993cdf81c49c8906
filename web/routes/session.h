// /api/v1/session: logging in, who one is, logging out; and changing one's own password.
#pragma once

#include "web/http/router.h"
#include "web/services.h"

namespace antipode::web {

void add_session_routes(Router& router, Services& services);

}  // namespace antipode::web
