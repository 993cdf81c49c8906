// /api/v1/drills and /api/v1/drill-schedules: run, follow, report and repeat drills.
#pragma once

#include "web/http/router.h"
#include "web/services.h"

namespace antipode::web {

inline constexpr std::string_view kDrillsTopic = "drills";

void add_drill_routes(Router& router, Services& services);
// Tells pages of a drill that began or changed.
void publish_drill(Services& services, const DrillEntry& entry);

}  // namespace antipode::web
