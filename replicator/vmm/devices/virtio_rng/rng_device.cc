#include "replicator/vmm/devices/virtio_rng/rng_device.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace antipode::vmm {
namespace {

constexpr uint32_t kDeviceId = 4;

}  // namespace

VirtioRng::VirtioRng() : VirtioMmioDevice("entropy", kDeviceId, 0, 1) {}

void VirtioRng::serve(GuestMemory& memory, InputSource& inputs) {
    if (!notified_) return;
    notified_ = false;
    // No more than a ring at a time, even if the guest lets its used ring write its available ring.
    for (size_t count = 0; count < VirtQueue::kSizeMax; ++count) {
        const auto chain = queue(0).pop(memory);
        if (!chain) break;
        if (chain->writable_bytes == 0) return fail_device("entropy request without a buffer");
        std::array<std::byte, kAnswerBytesMax> answer{};
        const size_t bytes = std::min<uint64_t>(chain->writable_bytes, answer.size());
        for (size_t at = 0; at < bytes; at += sizeof(uint64_t)) {
            const uint64_t value = inputs.read(InputKind::entropy);
            std::memcpy(answer.data() + at, &value, sizeof value);
        }
        scatter(memory, chain->writable, std::span(answer).first(bytes));
        give_back(memory, 0, chain->head, static_cast<uint32_t>(bytes));
        if (needs_reset()) return;
    }
    check_queue(0);
}

}  // namespace antipode::vmm
