// /etc/antipode/web.toml: everything has a default, so that an empty or missing file is a working
// read-only page on loopback. docs/OPERATIONS.md explains each setting.
#pragma once

#include <string>

#include "common/base/result.h"
#include "web/fleet.h"
#include "web/http/server.h"

namespace antipode::web {

struct Settings {
    ServerSettings server;
    FleetSettings fleet;
    size_t subscribers_max = 256;
    size_t events_max = 5000;
    // Names under which a browser may ask for us, beside the listen address and localhost: a page
    // of somebody else must not reach us through a name it controls (DNS rebinding).
    std::vector<std::string> host_names;
};

// A missing file is an error only when `required`.
enum class Missing { is_fine, is_error };
Result<Settings> load_settings(const std::string& path, Missing missing);
Result<Settings> parse_settings(std::string_view text, const std::string& path);

}  // namespace antipode::web
