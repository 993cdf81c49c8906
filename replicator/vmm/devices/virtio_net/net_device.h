// virtio-net (virtio 1.2, section 5.1): one receive and one transmit queue, no offloads, so that a
// frame in the log is the frame on the wire.
//
// Frames that the guest transmits are collected in take_frames() at the exit that notified the
// device: outputs under the Output Rule. Received frames come as logged events: receive(). A frame
// that finds no buffer is dropped, as on a real wire, at the same exit on both sites.
//
// vCPU thread only.
//
// INVARIANTS: a frame has 14 to 1518 bytes, in both directions; what is outside of that is dropped
// and counted.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "replicator/vmm/devices/virtio/mmio.h"

namespace antipode::vmm {

using MacAddress = std::array<uint8_t, 6>;

class VirtioNet final : public VirtioMmioDevice {
  public:
    static constexpr size_t kFrameBytesMin = 14;
    static constexpr size_t kFrameBytesMax = 1518;

    VirtioNet(std::string iface_id, MacAddress mac);

    std::vector<std::vector<std::byte>> take_frames() { return std::exchange(transmitted_, {}); }
    // True if the guest got it.
    bool receive(GuestMemory& memory, std::span<const std::byte> frame);
    // Would receive() find a buffer now? Asked before a frame is logged: what would be dropped is
    // not worth its bytes on the WAN.
    bool can_receive(const GuestMemory& memory);

    const MacAddress& mac() const { return mac_; }
    uint64_t dropped_count() const { return dropped_count_; }

  private:
    void notify(GuestMemory& memory, size_t queue) override;
    std::span<const std::byte> config() const override { return config_; }
    void on_reset(const GuestMemory&) override {}
    void save_device(StateWriter& out) const override { out.put(dropped_count_); }
    void load_device(StateReader& in, const GuestMemory&) override { in.get(dropped_count_); }

    const MacAddress mac_;
    std::array<std::byte, 8> config_{};
    std::vector<std::vector<std::byte>> transmitted_;
    uint64_t dropped_count_ = 0;
};

}  // namespace antipode::vmm
