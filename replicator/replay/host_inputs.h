// What a guest's device clocks and its entropy device read, sampled from the host.
//
// Any thread.
#pragma once

#include <cstdint>

namespace antipode::replay {

// The 24 bits of the ACPI PM timer, where the guest's clock shows `guest_clock_ns`.
uint64_t pm_timer_ticks(uint64_t guest_clock_ns);
uint64_t wall_clock_seconds();
uint64_t host_entropy();

}  // namespace antipode::replay
