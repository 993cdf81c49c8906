// Works in ring 3 without pause: memory, arithmetic, and one port write per unit of about a
// millisecond.
//
// Between two port writes nothing leaves the guest: what a replay has to get right here is
// execution itself, and that timer interrupts strike at the very same instruction. The checksum
// depends on when they did.
//
// antipode.pages=256     4 KiB pages it walks over, at most 2048
// antipode.words=512    words of each page that it uses, a power of two
// antipode.steps=80000   steps of a unit (about 1 ms)
// antipode.units=0       units after which it ends with EXIT-SUCCESS, 0 = never
// antipode.every=1000    units between two lines on the console
// antipode.hz=100        timer interrupts, taken while it works; 0 = none
// antipode.exit=1        0: no port write at the end of a unit: interrupts find no exit to come in
// at
//
// Console: `compute: units=U ticks=T checksum=0x...`.
#include "tests/guests/lib/kernel.h"

namespace antipode::guest {
namespace {

constexpr uint64_t kPagesMax = 2048;
constexpr uint64_t kWordsPerPage = 4096 / sizeof(uint64_t);
constexpr uint16_t kDiagnosticPort = 0x80;

alignas(4096) uint64_t g_memory[kPagesMax * kWordsPerPage];

// Each step reads and writes a word at a place that depends on all steps before it.
uint64_t work(uint64_t state, uint64_t steps, uint64_t pages, uint64_t words) {
    for (uint64_t i = 0; i < steps; ++i) {
        state = state * 0x5851f42d4c957f2d + 0x14057b7ef767814f;
        const uint64_t page = ((state >> 33) * pages) >> 31;
        uint64_t& word = g_memory[page * kWordsPerPage + ((state >> 20) & (words - 1))];
        word ^= state;
        state += word >> 7;
    }
    return state;
}

}  // namespace

[[noreturn]] void guest_main(Text command_line) {
    const uint64_t pages = option_number(command_line, "antipode.pages", 256);
    const uint64_t words = option_number(command_line, "antipode.words", kWordsPerPage);
    const uint64_t steps = option_number(command_line, "antipode.steps", 80000);
    const uint64_t units = option_number(command_line, "antipode.units", 0);
    const uint64_t every = option_number(command_line, "antipode.every", 1000);
    const uint64_t hz = option_number(command_line, "antipode.hz", 100);
    const bool exits = option_number(command_line, "antipode.exit", 1) != 0;
    if (pages == 0 || pages > kPagesMax || every == 0 || words == 0 || words > kWordsPerPage ||
        (words & (words - 1)) != 0) {
        fail("antipode.pages is 1 to 2048, antipode.words a power of two, antipode.every not 0");
    }
    Line<128> line;
    line.text("compute: ready pages=").number(pages).text(" steps=").number(steps);
    print(line);
    if (hz != 0) {
        start_timer(hz);
        interrupts(true);
    }
    uint64_t state = 0x0123456789abcdef;
    for (uint64_t unit = 1;; ++unit) {
        state = work(state, steps, pages, words);
        if (exits) {
            out8(kDiagnosticPort, static_cast<uint8_t>(state >> 56));
        }
        state += ticks();
        if (unit % every == 0) {
            line.text("compute: units=").number(unit).text(" ticks=").number(ticks());
            line.text(" checksum=").hex(state);
            print(line);
        }
        if (units != 0 && unit >= units) {
            succeed();
        }
    }
}

}  // namespace antipode::guest
