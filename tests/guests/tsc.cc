// Reads the time-stamp counter on every vCPU, and looks that it never goes back: under one lock,
// each takes what it reads for the newest value, which must not be below the one before.
//
// antipode.hz=100      timer interrupts per second
// antipode.every=20    ticks between two lines on the console
// antipode.rounds=50   reads of the first vCPU in a tick
// antipode.smp=0       1: a second vCPU reads it, too
//
// Console: `tsc: line=L tsc=T clock_ms=C second=S`, L from 1 without a gap; C is the clock that is
// read by exits. A counter that goes back is EXIT-FAILURE, with both values.
#include "tests/guests/lib/kernel.h"
#include "tests/guests/lib/smp.h"

// The second vCPU, in real mode, data segment 0: offsets are those of Shared at 0x6000.
asm(R"(
.section .rodata
.globl tsc_second_begin, tsc_second_end
.code16
tsc_second_begin:
    xor %ax, %ax
    mov %ax, %ds
1:  mov $1, %eax
    xchg %eax, 0x6000
    test %eax, %eax
    jnz 1b
    rdtsc
    mov %eax, %ebx
    mov %edx, %ecx
    sub 0x6008, %ebx
    sbb 0x600c, %ecx
    jnc 2f
    incl 0x6010
    mov %eax, 0x6018
    mov %edx, 0x601c
2:  mov %eax, 0x6008
    mov %edx, 0x600c
    incl 0x6004
    movl $0, 0x6000
    mov $50, %cx
3:  loop 3b
    jmp 1b
tsc_second_end:
.code64
.text
)");

extern "C" {
extern const uint8_t tsc_second_begin[];
extern const uint8_t tsc_second_end[];
}

namespace antipode::guest {
namespace {

struct Shared {
    uint32_t lock;
    uint32_t second;  // reads of the second vCPU
    uint64_t newest;
    uint32_t errors;  // of the second
    uint32_t unused;
    uint64_t wrong;  // what it read then
};

volatile Shared& shared() {
    uint64_t at = 0x6000;
    asm("" : "+r"(at));
    return *reinterpret_cast<volatile Shared*>(at);
}

uint64_t read_tsc() {
    uint32_t low = 0;
    uint32_t high = 0;
    asm volatile("rdtsc" : "=a"(low), "=d"(high) : : "memory");
    return static_cast<uint64_t>(high) << 32 | low;
}

[[noreturn]] void fail_at(const char* who, uint64_t value, uint64_t before) {
    Line<128> line;
    line.text("tsc: ").text(who).text(" read ").number(value).text(" after ").number(before);
    print(line);
    fail("tsc: it went back");
}

uint64_t look() {
    smp_take_lock();
    const uint64_t before = shared().newest;
    const uint64_t value = read_tsc();
    shared().newest = value;
    const uint32_t errors = shared().errors;
    const uint64_t wrong = shared().wrong;
    smp_give_lock();
    if (value < before) {
        fail_at("the first vCPU", value, before);
    }
    if (errors != 0) {
        fail_at("the second vCPU", wrong, before);
    }
    return value;
}

}  // namespace

[[noreturn]] void guest_main(Text command_line) {
    const uint64_t hz = option_number(command_line, "antipode.hz", 100);
    const uint64_t every = option_number(command_line, "antipode.every", 20);
    const uint64_t rounds = option_number(command_line, "antipode.rounds", 50);
    if (hz == 0 || every == 0) {
        fail("antipode.hz and antipode.every must not be 0");
    }
    print("tsc: ready");
    if (option_number(command_line, "antipode.smp", 0) != 0) {
        smp_start(tsc_second_begin, static_cast<size_t>(tsc_second_end - tsc_second_begin));
    }
    start_timer(hz);
    uint64_t next = every;
    uint64_t line_number = 0;
    Line<128> line;
    for (;;) {
        (void)wait();
        uint64_t value = 0;
        for (uint64_t i = 0; i < rounds; ++i) {
            value = look();
        }
        const uint64_t clock = clock_ms();
        if (ticks() < next) {
            continue;
        }
        next = ticks() + every;
        line.text("tsc: line=").number(++line_number).text(" tsc=").number(value);
        line.text(" clock_ms=").number(clock).text(" second=").number(shared().second);
        print(line);
    }
}

}  // namespace antipode::guest
