// /api/v1/sites, vms, disks, links, tiebreaker: the same facts as in /api/v1/pairs, cut the other
// way for those who look for one kind of thing over all pairs.
#pragma once

#include "web/http/router.h"
#include "web/services.h"

namespace antipode::web {

void add_resource_routes(Router& router, Services& services);

}  // namespace antipode::web
