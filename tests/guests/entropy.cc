// Reads from virtio-rng without pause, and shows a hash of all it got.
//
// antipode.every=50    requests between two lines on the console
//
// Console: `entropy: reads=R bytes=B hash=0x...`.
#include "tests/guests/lib/kernel.h"
#include "tests/guests/lib/virtio.h"

namespace antipode::guest {
namespace {

constexpr uint32_t kVirtioEntropy = 4;
constexpr uint32_t kAsk = 100;  // more than the device gives at once

VirtioRings g_rings;
uint8_t g_buffer[kAsk];

uint64_t hash(uint64_t state, uint32_t bytes) {
    for (uint32_t i = 0; i < bytes; ++i) {
        state = (state ^ g_buffer[i]) * 0x100000001b3;
    }
    return state;
}

}  // namespace

[[noreturn]] void guest_main(Text command_line) {
    const uint64_t every = option_number(command_line, "antipode.every", 50);
    VirtioPlace place{};
    if (every == 0 || !find_virtio(command_line, kVirtioEntropy, 0, place)) {
        fail("antipode.every is 0, or there is no virtio-rng");
    }
    VirtioDevice device;
    VirtioQueue queue;
    device.open(place, 0);
    device.set_up(queue, 0, g_rings);
    device.start();
    start_timer(100);
    uint64_t state = 0xcbf29ce484222325;
    uint64_t total = 0;
    for (uint64_t reads = 1;; ++reads) {
        const Segment segment{g_buffer, kAsk, true};
        uint16_t head = 0;
        if (!queue.add(&segment, 1, head)) {
            fail("entropy: no descriptor");
        }
        queue.notify();
        uint32_t bytes = 0;
        while (!queue.take(head, bytes)) {
            if ((wait() & device.line_bit()) != 0) {
                device.acknowledge_interrupt();
            }
        }
        if (bytes == 0 || bytes > kAsk) {
            fail("entropy: an answer of another size");
        }
        state = hash(state, bytes);
        total += bytes;
        if (reads % every == 0) {
            Line<128> line;
            line.text("entropy: reads=").number(reads).text(" bytes=").number(total);
            line.text(" hash=").hex(state);
            print(line);
            wait();
        }
    }
}

}  // namespace antipode::guest
