// A virtio network device as a guest of ours uses it: raw Ethernet frames, no offloads.
//
// receive() gives a frame in place; it must be given back with release() before the next ones run
// out. send() copies. Ring 3, one caller.
#pragma once

#include "tests/guests/lib/virtio.h"

namespace antipode::guest {

inline constexpr size_t kFrameBytesMax = 1514;
inline constexpr size_t kNetBuffers = 32;

class NetCard {
  public:
    // Ends the guest if there is no network device.
    void open(Text command_line, size_t number = 0);

    const uint8_t* mac() const { return mac_; }
    const VirtioDevice& device() const { return device_; }

    // The next received frame, or nullptr. `token` is for release().
    const uint8_t* receive(size_t& bytes, uint16_t& token);
    void release(uint16_t token);
    // Tells the device about released buffers: once for many, since telling is an exit.
    void offer_buffers() const { receive_queue_.notify(); }
    // Halts while the device has all buffers. Interrupts that come meanwhile are added to `lines`.
    void send(const uint8_t* frame, size_t bytes, uint32_t& lines);

  private:
    static constexpr size_t kHeaderBytes = 12;
    struct Buffer {
        uint8_t header[kHeaderBytes];
        uint8_t frame[kFrameBytesMax];
        uint8_t pad[2048 - kHeaderBytes - kFrameBytesMax];
    };
    static_assert(sizeof(Buffer) == 2048);
    void post(uint16_t index);
    void reap();

    VirtioDevice device_;
    VirtioQueue receive_queue_;
    VirtioQueue send_queue_;
    uint8_t mac_[6] = {};
    // What a head in flight stands for: an index into the buffers.
    uint16_t receive_index_[kVirtioQueueMax] = {};
    uint16_t send_index_[kVirtioQueueMax] = {};
    bool send_used_[kNetBuffers] = {};
    static Buffer receive_buffers_[kNetBuffers];
    static Buffer send_buffers_[kNetBuffers];
};

}  // namespace antipode::guest
