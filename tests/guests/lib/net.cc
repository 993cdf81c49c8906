#include "tests/guests/lib/net.h"

#include "tests/guests/lib/kernel.h"

namespace antipode::guest {
namespace {

constexpr uint64_t kFeatureMac = uint64_t{1} << 5;

VirtioRings g_receive_rings;
VirtioRings g_send_rings;

}  // namespace

alignas(4096) NetCard::Buffer NetCard::receive_buffers_[kNetBuffers];
alignas(4096) NetCard::Buffer NetCard::send_buffers_[kNetBuffers];

void NetCard::open(Text command_line, size_t number) {
    VirtioPlace place{};
    if (!find_virtio(command_line, kVirtioNet, number, place)) {
        fail("no virtio network device");
    }
    device_.open(place, kFeatureMac);
    if (!device_.has(kFeatureMac)) {
        fail("net: the device does not say its MAC");
    }
    for (uint32_t i = 0; i < 6; ++i) {
        mac_[i] = device_.registers().read8(static_cast<uint32_t>(VirtioRegister::config) + i);
    }
    device_.set_up(receive_queue_, 0, g_receive_rings);
    device_.set_up(send_queue_, 1, g_send_rings);
    device_.start();
    for (uint16_t i = 0; i < kNetBuffers && i < receive_queue_.size(); ++i) {
        post(i);
    }
    receive_queue_.notify();
}

void NetCard::post(uint16_t index) {
    Buffer& buffer = receive_buffers_[index];
    const Segment segment{&buffer, kHeaderBytes + kFrameBytesMax, true};
    uint16_t head = 0;
    if (!receive_queue_.add(&segment, 1, head)) {
        fail("net: no room for a receive buffer");
    }
    receive_index_[head] = index;
}

const uint8_t* NetCard::receive(size_t& bytes, uint16_t& token) {
    uint16_t head = 0;
    uint32_t written = 0;
    if (!receive_queue_.take(head, written)) {
        return nullptr;
    }
    if (written < kHeaderBytes || written > kHeaderBytes + kFrameBytesMax) {
        fail("net: a received frame has an impossible length");
    }
    token = receive_index_[head];
    bytes = written - kHeaderBytes;
    return receive_buffers_[token].frame;
}

void NetCard::release(uint16_t token) {
    post(token);
}

void NetCard::reap() {
    uint16_t head = 0;
    uint32_t bytes = 0;
    while (send_queue_.take(head, bytes)) {
        send_used_[send_index_[head]] = false;
    }
}

void NetCard::send(const uint8_t* frame, size_t bytes, uint32_t& lines) {
    if (bytes > kFrameBytesMax) {
        fail("net: a frame to send is too long");
    }
    for (;;) {
        reap();
        for (uint16_t i = 0; i < kNetBuffers; ++i) {
            if (send_used_[i]) {
                continue;
            }
            memset(send_buffers_[i].header, 0, kHeaderBytes);
            memcpy(send_buffers_[i].frame, frame, bytes);
            const Segment segment{&send_buffers_[i], static_cast<uint32_t>(kHeaderBytes + bytes),
                                  false};
            uint16_t head = 0;
            if (!send_queue_.add(&segment, 1, head)) {
                break;
            }
            send_index_[head] = i;
            send_used_[i] = true;
            send_queue_.notify();
            return;
        }
        const uint32_t now = wait();
        lines |= now;  // the card's own bit too: frames may have come with it
        if ((now & device_.line_bit()) != 0) {
            device_.acknowledge_interrupt();
        }
    }
}

}  // namespace antipode::guest
