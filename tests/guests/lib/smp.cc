#include "tests/guests/lib/smp.h"

#include "tests/guests/lib/text.h"

// Real mode, loaded at 0x8000, data segment 0: the offsets are those of SmpCounts at 0x6000.
asm(R"(
.section .rodata
.globl smp_second_begin, smp_second_end
.code16
smp_second_begin:
    xor %ax, %ax
    mov %ax, %ds
1:  mov $1, %eax
    xchg %eax, 0x6000
    test %eax, %eax
    jnz 1b
    mov 0x6008, %eax
    add 0x600c, %eax
    cmp 0x6004, %eax
    je 2f
    incl 0x6010
2:  incl 0x6004
    incl 0x600c
    movl $0, 0x6000
    jmp 1b
smp_second_end:
.code64
.text
)");

extern "C" {
extern const uint8_t smp_second_begin[];
extern const uint8_t smp_second_end[];
}

namespace antipode::guest {
namespace {

constexpr uint64_t kCounts = 0x6000;
constexpr uint64_t kCode = 0x8000;
constexpr uint64_t kLocalApic = 0xfee00000;
constexpr uint64_t kApicSpurious = kLocalApic + 0xf0;
constexpr uint64_t kApicCommand = kLocalApic + 0x300;

// An address below 1 MiB, where no object of C++ is.
volatile SmpCounts& shared() {
    uint64_t at = kCounts;
    asm("" : "+r"(at));
    return *reinterpret_cast<volatile SmpCounts*>(at);
}

void write_apic(uint64_t at, uint32_t value) {
    asm volatile("movl %0, (%1)" : : "r"(value), "r"(at) : "memory");
}

}  // namespace

void smp_take_lock() {
    uint32_t taken = 1;
    for (;;) {
        asm volatile("xchgl %0, %1" : "+r"(taken), "+m"(shared().lock) : : "memory");
        if (taken == 0) {
            return;
        }
        asm volatile("pause");
        taken = 1;
    }
}

void smp_give_lock() {
    asm volatile("" : : : "memory");
    shared().lock = 0;
}

void smp_start() {
    smp_start(smp_second_begin, static_cast<size_t>(smp_second_end - smp_second_begin));
}

void smp_start(const uint8_t* program, size_t bytes) {
    uint64_t code = kCode;
    asm("" : "+r"(code));
    memcpy(reinterpret_cast<void*>(code), program, bytes);
    write_apic(kApicSpurious, 0x1ff);
    write_apic(kApicCommand, 0x000c4500);                  // INIT to all others
    write_apic(kApicCommand, 0x000c4600 | (kCode >> 12));  // SIPI: begin there
}

bool smp_count(uint32_t rounds) {
    bool good = true;
    for (; rounds != 0; --rounds) {
        smp_take_lock();
        volatile SmpCounts& counts = shared();
        good = good && counts.total == counts.first + counts.second;
        counts.total = counts.total + 1;
        counts.first = counts.first + 1;
        smp_give_lock();
    }
    return good;
}

SmpCounts smp_counts() {
    smp_take_lock();
    volatile SmpCounts& counts = shared();
    const SmpCounts seen{1, counts.total, counts.first, counts.second, counts.errors};
    smp_give_lock();
    return seen;
}

}  // namespace antipode::guest
