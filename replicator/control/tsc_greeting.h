// What two sites tell each other of the TSC of a VM whose policy is `live`, as one line of their
// greeting, and whether such a VM can go on at the other: the frequencies are the same, or both
// hosts can set a guest's; and where a guest sees the host's own counter, both are one machine.
//
// Pure; no thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "replicator/vmm/tsc.h"

namespace antipode::control {

// "tsc live, 2400000 kHz, scaled, own\n", or "..., fixed, of MACHINE\n".
std::string tsc_line(const vmm::TscTerms& terms, const std::string& machine);

// Cuts that line out of a site's words; nothing if there is none.
std::optional<std::string> take_tsc_line(std::string& text);

// What keeps a VM with a live TSC from going on at the other site; nothing if it can.
struct TscOfSite {
    std::string_view site;
    std::string line;
};
std::optional<std::string> tsc_trouble(const TscOfSite& own, const TscOfSite& peer);

}  // namespace antipode::control
