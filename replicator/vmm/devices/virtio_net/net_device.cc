#include "replicator/vmm/devices/virtio_net/net_device.h"

#include <cstring>

namespace antipode::vmm {
namespace {

constexpr uint32_t kDeviceId = 1;
constexpr uint64_t kFeatureMac = 1u << 5;
constexpr uint64_t kFeatureStatus = 1u << 16;
constexpr size_t kReceiveQueue = 0;
constexpr size_t kTransmitQueue = 1;
constexpr size_t kHeaderBytes = 12;  // struct virtio_net_hdr_v1
constexpr std::byte kLinkUp{1};

}  // namespace

VirtioNet::VirtioNet(std::string iface_id, MacAddress mac)
    : VirtioMmioDevice("interface " + iface_id, kDeviceId, kFeatureMac | kFeatureStatus, 2),
      mac_(mac) {
    std::memcpy(config_.data(), mac.data(), mac.size());
    config_[6] = kLinkUp;
}

void VirtioNet::notify(GuestMemory& memory, size_t index) {
    if (index != kTransmitQueue) return;  // new receive buffers wait for the next frame
    // No more than a ring at a time, even if the guest lets its used ring write its available ring.
    for (size_t count = 0; count < VirtQueue::kSizeMax; ++count) {
        const auto chain = queue(kTransmitQueue).pop(memory);
        if (!chain) return;
        const uint64_t bytes = chain->readable_bytes;
        if (bytes >= kHeaderBytes + kFrameBytesMin && bytes <= kHeaderBytes + kFrameBytesMax) {
            std::vector<std::byte> frame(bytes - kHeaderBytes);
            gather(memory, chain->readable, kHeaderBytes, frame);
            transmitted_.push_back(std::move(frame));
        } else {
            ++dropped_count_;
        }
        give_back(memory, kTransmitQueue, chain->head, 0);
        if (needs_reset()) return;
    }
}

bool VirtioNet::can_receive(const GuestMemory& memory) {
    if (!driver_ok()) return false;
    const bool available = queue(kReceiveQueue).has_available(memory);
    // A queue that turned bad here says so when the frame event is applied, on both sites alike.
    return available || queue(kReceiveQueue).bad();
}

bool VirtioNet::receive(GuestMemory& memory, std::span<const std::byte> frame) {
    if (!driver_ok() || frame.size() < kFrameBytesMin || frame.size() > kFrameBytesMax) {
        ++dropped_count_;
        return false;
    }
    auto chain = queue(kReceiveQueue).pop(memory);
    check_queue(kReceiveQueue);
    if (!chain) {
        ++dropped_count_;
        return false;
    }
    std::array<std::byte, kHeaderBytes + kFrameBytesMax> buffer{};
    buffer[10] = std::byte{1};  // num_buffers
    std::memcpy(buffer.data() + kHeaderBytes, frame.data(), frame.size());
    const size_t total = kHeaderBytes + frame.size();
    if (chain->writable_bytes < total) {
        fail_device("receive buffer is too small for a frame");
        return false;
    }
    scatter(memory, chain->writable, std::span(buffer).first(total));
    give_back(memory, kReceiveQueue, chain->head, static_cast<uint32_t>(total));
    return true;
}

}  // namespace antipode::vmm
