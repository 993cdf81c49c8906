// The page itself and its files. Every address of the application gets the one page; its script
// shows what the address says.
#pragma once

#include "web/http/router.h"

namespace antipode::web {

void add_page_routes(Router& router);

}  // namespace antipode::web
