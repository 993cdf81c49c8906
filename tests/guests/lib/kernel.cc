// Ring 0 of a bare-metal guest: tables, interrupt controller, system calls.
//
// Written for an emulator that executes a million instructions a second and lacks many: no SSE, no
// INT, no string instruction but OUTS, and as little as possible of everything.
#include "tests/guests/lib/kernel.h"

namespace antipode::guest {
namespace {

constexpr uint16_t kPicPrimary = 0x20;
constexpr uint16_t kPicSecondary = 0xa0;
constexpr uint16_t kUart = 0x3f8;
constexpr uint16_t kKeyboard = 0x64;
constexpr uint8_t kEndOfInterrupt = 0x20;
constexpr uint8_t kFirstVector = 0x20;
constexpr uint64_t kVectors = 48;
constexpr size_t kUartFifoBytes = 16;
constexpr uint64_t kRing3StackBytes = 64 * 1024;
constexpr uint64_t kFlagInterrupts = 0x200;

struct [[gnu::packed]] Gate {
    uint16_t low;
    uint16_t selector;
    uint8_t stack;
    uint8_t type;
    uint16_t middle;
    uint32_t high;
    uint32_t reserved;
};
static_assert(sizeof(Gate) == 16);

struct [[gnu::packed]] TaskState {
    uint32_t reserved0;
    uint64_t rsp0;
    uint64_t rsp1;
    uint64_t rsp2;
    uint64_t reserved1;
    uint64_t stacks[7];
    uint64_t reserved2;
    uint16_t reserved3;
    uint16_t io_map;
};
static_assert(sizeof(TaskState) == 104);

struct [[gnu::packed]] TablePointer {
    uint16_t limit;
    uint64_t base;
};

// What an interrupt or exception pushes.
struct Frame {
    uint64_t rip;
    uint64_t cs;
    uint64_t rflags;
    uint64_t rsp;
    uint64_t ss;
};

alignas(16) Gate g_gates[kVectors];
alignas(16) TaskState g_task;
alignas(16) uint8_t g_ring3_stack[kRing3StackBytes];
uint32_t g_pending_lines;
uint64_t g_ticks;

void out_byte(uint16_t port, uint8_t value) {
    asm volatile("out %0, %1" : : "a"(value), "Nd"(port));
}
void out_long(uint16_t port, uint32_t value) {
    asm volatile("out %0, %1" : : "a"(value), "Nd"(port));
}
uint8_t in_byte(uint16_t port) {
    uint8_t value = 0;
    asm volatile("in %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}
uint32_t in_long(uint16_t port) {
    uint32_t value = 0;
    asm volatile("in %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

// A FIFO's worth at a time: one exit each for the status and for the bytes.
void print_bytes(const char* data, size_t bytes) {
    while (bytes != 0) {
        while ((in_byte(kUart + 5) & 0x20) == 0) {
        }
        size_t count = bytes < kUartFifoBytes ? bytes : kUartFifoBytes;
        bytes -= count;
        asm volatile("rep outsb" : "+S"(data), "+c"(count) : "d"(kUart) : "memory");
    }
}

void set_up_uart() {
    out_byte(kUart + 1, 0);     // no interrupts
    out_byte(kUart + 3, 0x80);  // divisor: 115200 baud
    out_byte(kUart + 0, 1);
    out_byte(kUart + 1, 0);
    out_byte(kUart + 3, 3);  // 8N1
    out_byte(kUart + 2, 7);  // FIFOs on and empty
}

// ICW1..ICW4 of both controllers: edge-triggered, cascade on line 2, lines 0-15 at vectors
// 0x20-0x2f.
void set_up_pic() {
    out_byte(kPicPrimary, 0x11);
    out_byte(kPicPrimary + 1, kFirstVector);
    out_byte(kPicPrimary + 1, 4);
    out_byte(kPicPrimary + 1, 1);
    out_byte(kPicSecondary, 0x11);
    out_byte(kPicSecondary + 1, kFirstVector + 8);
    out_byte(kPicSecondary + 1, 2);
    out_byte(kPicSecondary + 1, 1);
    out_byte(kPicPrimary + 1, 0xfb);
    out_byte(kPicSecondary + 1, 0xff);
}

void unmask_line(unsigned line) {
    const auto port = static_cast<uint16_t>((line < 8 ? kPicPrimary : kPicSecondary) + 1);
    const auto mask = static_cast<uint8_t>(in_byte(port) & ~(1u << (line & 7)));
    out_byte(port, mask);
}

extern "C" {
extern uint64_t guest_gdt[];
extern uint8_t guest_kernel_stack_top[];
extern const uint64_t guest_trap_table[];
void kernel_enter_ring3(void (*rip)(const char*), uint8_t* rsp, uint64_t rflags,
                        const char* argument);
void kernel_wait();
void kernel_out_open(uint64_t port, uint64_t value, uint64_t bytes);
}

void set_up_tables() {
    for (uint64_t vector = 0; vector < kVectors; ++vector) {
        const uint64_t at = guest_trap_table[vector];
        Gate& gate = g_gates[vector];
        gate.low = static_cast<uint16_t>(at);
        gate.selector = 0x08;
        gate.type = 0x8e;  // present, ring 0, interrupt gate
        gate.middle = static_cast<uint16_t>(at >> 16);
        gate.high = static_cast<uint32_t>(at >> 32);
    }
    const TablePointer gates{sizeof g_gates - 1, reinterpret_cast<uint64_t>(g_gates)};
    asm volatile("lidt %0" : : "m"(gates));

    // The start's own frames on this stack are never returned to.
    g_task.rsp0 = reinterpret_cast<uint64_t>(guest_kernel_stack_top);
    g_task.io_map = sizeof g_task;
    const auto base = reinterpret_cast<uint64_t>(&g_task);
    guest_gdt[5] = (sizeof g_task - 1) | (base & 0xffffff) << 16 | uint64_t{0x89} << 40 |
                   (base >> 24 & 0xff) << 56;
    guest_gdt[6] = base >> 32;
    asm volatile("ltr %w0" : : "r"(0x28));
}

uint64_t wait_for_line() {
    while (g_pending_lines == 0) {
        kernel_wait();
        asm volatile("" : : : "memory");
    }
    const uint32_t lines = g_pending_lines;
    g_pending_lines = 0;
    return lines;
}

// Where there is no keyboard controller to ask (QEMU's microvm), a triple fault ends the machine as
// well.
[[noreturn]] void reset() {
    for (int i = 0; i < 16; ++i) {
        out_byte(kKeyboard, 0xfe);
    }
    const TablePointer nothing{0, 0};
    asm volatile("lidt %0; ud2" : : "m"(nothing));
    __builtin_unreachable();
}

uint64_t output(uint64_t port, uint64_t value, uint64_t bytes, const Frame& frame) {
    if ((frame.rflags & kFlagInterrupts) != 0) {
        kernel_out_open(port, value, bytes);
    } else if (bytes == 1) {
        out_byte(static_cast<uint16_t>(port), static_cast<uint8_t>(value));
    } else {
        out_long(static_cast<uint16_t>(port), static_cast<uint32_t>(value));
    }
    return 0;
}

}  // namespace

extern "C" {

void kernel_interrupt(uint32_t line) {
    g_pending_lines |= 1u << line;
    if (line == 0) {
        ++g_ticks;
    }
    if (line >= 8) {
        out_byte(kPicSecondary, kEndOfInterrupt);
    }
    out_byte(kPicPrimary, kEndOfInterrupt);
}

uint64_t kernel_call(uint64_t a, uint64_t b, uint64_t c, Call number, Frame* frame) {
    switch (number) {
        case Call::out:
            return output(a, b, c, *frame);
        case Call::in:
            return b == 1 ? in_byte(static_cast<uint16_t>(a)) : in_long(static_cast<uint16_t>(a));
        case Call::print:
            print_bytes(reinterpret_cast<const char*>(a), b);
            return 0;
        case Call::wait:
            return wait_for_line();
        case Call::unmask:
            unmask_line(static_cast<unsigned>(a & 15));
            return 0;
        case Call::interrupts:
            frame->rflags =
                a != 0 ? frame->rflags | kFlagInterrupts : frame->rflags & ~kFlagInterrupts;
            return 0;
        case Call::ticks:
            return g_ticks;
        case Call::finish:
            reset();
        case Call::halt:
            for (;;) asm volatile("cli; hlt");
    }
    return ~uint64_t{0};
}

[[noreturn]] void kernel_exception(uint64_t vector, uint64_t error, uint64_t rip, uint64_t rsp) {
    Line<256> line;
    line.text("EXIT-FAILURE exception ").number(vector).text(" error ").hex(error);
    line.text(" rip ").hex(rip).text(" rsp ").hex(rsp).text("\n");
    print_bytes(line.data(), line.bytes());
    reset();
}

static void ring3(const char* command_line) {
    guest_main(text_of(command_line));
}

void kernel_start(const char* command_line) {
    set_up_tables();
    set_up_pic();
    set_up_uart();
    // As after a call: the ABI's alignment.
    kernel_enter_ring3(ring3, g_ring3_stack + kRing3StackBytes - 8, 2, command_line);
}
}

void start_timer(uint64_t hz) {
    constexpr uint64_t kTimerHz = 1193182;
    uint64_t divisor = hz == 0 ? 65535 : (kTimerHz + hz / 2) / hz;
    divisor = divisor < 2 ? 2 : divisor > 65535 ? 65535 : divisor;
    out8(0x43, 0x34);  // channel 0, low then high byte, mode 2
    out8(0x40, static_cast<uint8_t>(divisor));
    out8(0x40, static_cast<uint8_t>(divisor >> 8));
    unmask(0);
}

uint64_t clock_ms() {
    constexpr uint32_t kMask = 0xffffff;
    constexpr uint64_t kClockHz = 3579545;
    static bool started;
    static uint32_t last;
    static uint64_t total;
    const uint32_t now = in32(0x608) & kMask;
    if (started) {
        total += (now - last) & kMask;
    }
    started = true;
    last = now;
    return total * 1000 / kClockHz;
}

}  // namespace antipode::guest
