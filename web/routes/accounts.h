// /api/v1/users, /api/v1/tokens, /api/v1/audit, /api/v1/settings: the administrator's part.
#pragma once

#include "web/http/router.h"
#include "web/services.h"

namespace antipode::web {

void add_account_routes(Router& router, Services& services);

}  // namespace antipode::web
