// InputSource: where emulation gets what is not a function of the guest's own execution.
//
// A device that the guest reads a clock from calls read() while it emulates the access. When
// recording, the value is sampled from the host and logged with the exit's number; when replaying,
// it is what the log says. Nothing else in vmm/ may look at a clock.
//
// Called on the vCPU thread, inside Machine::emulate.
#pragma once

#include <cstdint>

namespace antipode::vmm {

enum class InputKind : uint8_t {
    entropy = 0,      // 64 bits of chance
    pm_timer = 1,     // ACPI PM timer, 24 bits at 3.579545 MHz
    pit_counter = 2,  // ticks since channel 0's current period began, at 1.193182 MHz
    wall_clock = 3,   // seconds since 1970-01-01 UTC
};

class InputSource {
  public:
    virtual ~InputSource() = default;
    virtual uint64_t read(InputKind kind) = 0;
};

}  // namespace antipode::vmm
