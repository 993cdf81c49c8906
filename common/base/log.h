// Logging: spdlog to stderr (journald adds the time and the unit), one logger a module.
//
// logger("failover") returns the module's logger; its level comes from ANTIPODE_LOG, for example
// ANTIPODE_LOG=info,failover=debug,stream=trace. Levels: error = an operator must act; warn =
// degraded; info = a state change, one line each (`backup -> primary reason=grant epoch=7`); debug
// = messages; trace = exits. Nothing is logged on the hot path: count there (metrics.h).
//
// Thread safety: everything here may be called from any thread.
#pragma once

#include <spdlog/logger.h>
#include <string>
#include <string_view>

namespace antipode {

spdlog::logger& logger(std::string_view module);

// Put before every line of this process, for example "web1@site-a". Call once, at start.
void set_log_identity(std::string_view identity);

// Applies a level specification in the form of ANTIPODE_LOG; returns what it did not understand.
std::string set_log_levels(std::string_view specification);

}  // namespace antipode
