// /api/v1/pairs/{pair}/actions/{action}: everything that can be done to a pair, by the replicator
// of one of its sites; with "check" only what would happen. And /api/v1/tasks, where long actions
// are followed.
#pragma once

#include "web/http/router.h"
#include "web/services.h"

namespace antipode::web {

inline constexpr std::string_view kTasksTopic = "tasks";

void add_action_routes(Router& router, Services& services);
// Takes over what a replicator says of its operations, and tells live pages.
void follow_tasks(Services& services, const View& view);

}  // namespace antipode::web
