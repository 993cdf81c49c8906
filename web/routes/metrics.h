// /metrics: Prometheus text of every pair on this host, from their statuses and from the
// replicators' own registries, and of the web daemon itself.
#pragma once

#include "web/http/router.h"
#include "web/services.h"

namespace antipode::web {

void add_metrics_routes(Router& router, Services& services);

}  // namespace antipode::web
