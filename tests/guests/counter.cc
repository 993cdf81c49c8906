// Counts timer interrupts, halting in between: the least a protected VM can do.
//
// antipode.hz=100      interrupts per second
// antipode.every=100   ticks between two lines on the console
// antipode.count=0     ticks after which it ends with EXIT-SUCCESS, 0 = never
// antipode.halt=0      1: it ends by a HLT with interrupts off, not by a reset
// antipode.clock=0     1: each line carries the uptime by the PM timer, too
//
// Console: `counter: ticks=T halts=H` and ` uptime_ms=U`.
#include "tests/guests/lib/kernel.h"

namespace antipode::guest {

[[noreturn]] void guest_main(Text command_line) {
    const uint64_t hz = option_number(command_line, "antipode.hz", 100);
    const uint64_t every = option_number(command_line, "antipode.every", 100);
    const uint64_t count = option_number(command_line, "antipode.count", 0);
    const bool halts_at_end = option_number(command_line, "antipode.halt", 0) != 0;
    const bool clock = option_number(command_line, "antipode.clock", 0) != 0;
    if (hz == 0 || every == 0) {
        fail("antipode.hz and antipode.every must not be 0");
    }
    Line<128> line;
    line.text("counter: ready hz=").number(hz);
    print(line);
    if (clock) {
        clock_ms();
    }
    start_timer(hz);
    uint64_t next = every;
    for (uint64_t halts = 1;; ++halts) {
        wait();
        const uint64_t now = ticks();
        const uint64_t uptime_ms = clock ? clock_ms() : 0;
        if (now >= next) {
            next += every;
            line.text("counter: ticks=").number(now).text(" halts=").number(halts);
            if (clock) {
                line.text(" uptime_ms=").number(uptime_ms);
            }
            print(line);
        }
        if (count != 0 && now >= count) {
            if (halts_at_end) {
                halt_for_good();
            }
            succeed();
        }
    }
}

}  // namespace antipode::guest
