// The replicated disks on this host (disksync): what they are, what can be done to them, and their
// metrics.
#pragma once

#include "web/exposition.h"
#include "web/http/router.h"
#include "web/services.h"

namespace antipode::web {

void add_disk_routes(Router& router, Services& services);
// For /metrics.
boost::asio::awaitable<void> add_disk_metrics(Exposition& out, const Services& services);

}  // namespace antipode::web
