// What ring 0 does for ring 3 in a bare-metal guest: the system calls, and nothing else.
//
// Ring 0 may be emulated (slow), ring 3 runs natively: so a guest's work is in ring 3, and ring 0
// holds the interrupt handlers and these calls. `ud2` is the call instruction, since SYSCALL,
// SYSENTER and INT do not arrive everywhere; the number is in rax.
//
// INVARIANTS: ring 3 runs with interrupts off, except between interrupts(On::yes) and (On::no);
// they are taken in wait(), and in out() while they are on. So an interrupt never comes between a
// check and the wait that follows it, and where one is delivered is always the end of an exit.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "tests/guests/lib/text.h"

namespace antipode::guest {

enum class Call : uint64_t {
    out = 1,         // port, value, bytes (1 or 4)
    in = 2,          // port, bytes (1 or 4) -> value
    print = 3,       // data, bytes: to the serial port
    wait = 4,        // -> lines that interrupted since the last wait; halts until there is one
    unmask = 5,      // line
    interrupts = 6,  // 0 or 1: whether ring 3 runs with interrupts on
    ticks = 7,       // -> interrupts of line 0 since the start
    finish = 8,      // resets the machine
    halt = 9,        // for good, with interrupts off
};

inline uint64_t call(Call number, uint64_t a = 0, uint64_t b = 0, uint64_t c = 0) {
    auto result = static_cast<uint64_t>(number);
    asm volatile("ud2"
                 : "+a"(result), "+D"(a), "+S"(b), "+d"(c)
                 :
                 : "rcx", "r8", "r9", "r10", "r11", "memory", "cc");
    return result;
}

inline void out8(uint16_t port, uint8_t value) {
    call(Call::out, port, value, 1);
}
inline void out32(uint16_t port, uint32_t value) {
    call(Call::out, port, value, 4);
}
inline uint8_t in8(uint16_t port) {
    return static_cast<uint8_t>(call(Call::in, port, 1));
}
inline uint32_t in32(uint16_t port) {
    return static_cast<uint32_t>(call(Call::in, port, 4));
}

// A bit for each of the 16 lines.
inline uint32_t wait() {
    return static_cast<uint32_t>(call(Call::wait));
}
inline void unmask(uint8_t line) {
    call(Call::unmask, line);
}
inline void interrupts(bool on) {
    call(Call::interrupts, on ? 1 : 0);
}
inline uint64_t ticks() {
    return call(Call::ticks);
}

template <typename LineType>
void print(LineType& line) {
    line.text("\n");
    call(Call::print, reinterpret_cast<uint64_t>(line.data()), line.bytes());
    line.clear();
}
inline void print(const char* text) {
    Line<256> line;
    line.text(text);
    print(line);
}

[[noreturn]] inline void finish() {
    call(Call::finish);
    __builtin_unreachable();
}
[[noreturn]] inline void halt_for_good() {
    print("EXIT-SUCCESS");
    call(Call::halt);
    __builtin_unreachable();
}
[[noreturn]] inline void succeed() {
    print("EXIT-SUCCESS");
    finish();
}
[[noreturn]] inline void fail(const char* why) {
    Line<256> line;
    line.text("EXIT-FAILURE ").text(why);
    print(line);
    finish();
}

// Starts the i8254's channel 0 as a rate generator and lets its interrupts through.
void start_timer(uint64_t hz);

// A clock of 3.579545 MHz that is read by an exit, made of the 24 bits of the PM timer: read it at
// least every 4 seconds. Counts from the first read.
uint64_t clock_ms();

// Each guest's program, in ring 3.
[[noreturn]] void guest_main(Text command_line);

}  // namespace antipode::guest
