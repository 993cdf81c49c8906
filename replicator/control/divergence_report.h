// A divergence as a developer wants to read it: what differed, the registers of both sites at the
// exit where they were compared, the exits before it, the pages. Bounded by HealResult's limits.
//
// Pure; any thread.
#pragma once

#include <cstdint>
#include <string>

#include "replicator/replay/heal.h"

namespace antipode::control {

// JSON, at most some 40 KiB.
std::string divergence_report(const replay::HealResult& result, int64_t time_unix_ms);

}  // namespace antipode::control
