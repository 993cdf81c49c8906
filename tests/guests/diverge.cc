// Does what a lockstep guest must not do: reads the time-stamp counter or the processor's random
// numbers in ring 3, where neither can be hidden everywhere, and lets what it read into its memory,
// its output, its disk traffic and its control flow.
//
// antipode.rdrand=0       1: chance from RDRAND; 0: from RDTSC
// antipode.every=50       units of work (about 1 ms each) between two reads
// antipode.branch=0       1: what was read decides whether there is a port write (an exit)
// antipode.print=0        1: it is printed
//
// Console: `diverge: units=U` every hundred units.
#include "tests/guests/lib/kernel.h"

namespace antipode::guest {
namespace {

constexpr uint64_t kWords = 64 * 512;
constexpr uint16_t kDiagnosticPort = 0x80;

alignas(4096) uint64_t g_memory[kWords];

uint64_t read_rdtsc() {
    uint32_t low = 0;
    uint32_t high = 0;
    asm volatile("rdtsc" : "=a"(low), "=d"(high));
    return uint64_t{high} << 32 | low;
}

uint64_t read_rdrand() {
    uint64_t value = 0;
    asm volatile("1: rdrand %0; jnc 1b" : "=r"(value) : : "cc");
    return value;
}

uint64_t work(uint64_t state, uint64_t steps) {
    for (uint64_t i = 0; i < steps; ++i) {
        state = state * 0x5851f42d4c957f2d + 0x14057b7ef767814f;
        g_memory[(state >> 40) % kWords] ^= state;
    }
    return state;
}

}  // namespace

[[noreturn]] void guest_main(Text command_line) {
    const uint64_t every = option_number(command_line, "antipode.every", 50);
    const bool branch = option_number(command_line, "antipode.branch", 0) != 0;
    const bool shows = option_number(command_line, "antipode.print", 0) != 0;
    const bool random = option_number(command_line, "antipode.rdrand", 0) != 0;
    if (every == 0) {
        fail("antipode.every is not 0");
    }
    print("diverge: ready");
    start_timer(100);
    interrupts(true);
    uint64_t state = 1;
    Line<128> line;
    for (uint64_t unit = 1;; ++unit) {
        state = work(state, 100000);
        out8(kDiagnosticPort, 1);
        if (unit % every == 0) {
            const uint64_t value = random ? read_rdrand() : read_rdtsc();
            g_memory[(value >> 4) % kWords] = value;
            state ^= value;
            if (branch && (value & 0x10) != 0) {
                out8(kDiagnosticPort, 2);
            }
            if (shows) {
                line.text("diverge: value=").hex(value);
                print(line);
            }
        }
        if (unit % 100 == 0) {
            line.text("diverge: units=").number(unit);
            print(line);
        }
    }
}

}  // namespace antipode::guest
