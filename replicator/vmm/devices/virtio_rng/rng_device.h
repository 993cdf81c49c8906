// virtio-rng (virtio 1.2, section 5.4): chance for the guest, from the host, through the log.
//
// A guest without RDRAND has little of its own. What it asks for is answered at the exit that
// notified the device, by inputs of 8 bytes (InputKind::entropy), which are recorded at one site
// and read from the log at the other: both guests get the same bytes.
//
// vCPU thread only.
//
// INVARIANTS: a request is answered with 1 to kAnswerBytesMax bytes, so that a guest which asks for
// megabytes does not fill the log at one exit (virtio lets a device give less than was asked for);
// serve() follows each access in the same exit, so nothing is pending between two exits.
#pragma once

#include "replicator/vmm/devices/virtio/mmio.h"
#include "replicator/vmm/inputs.h"

namespace antipode::vmm {

class VirtioRng final : public VirtioMmioDevice {
  public:
    static constexpr size_t kAnswerBytesMax = 64;

    VirtioRng();

    // Answers what the guest has notified the device of, if it has.
    void serve(GuestMemory& memory, InputSource& inputs);

  private:
    void notify(GuestMemory&, size_t) override { notified_ = true; }
    std::span<const std::byte> config() const override { return {}; }
    void on_reset(const GuestMemory&) override { notified_ = false; }
    void save_device(StateWriter&) const override {}
    void load_device(StateReader&, const GuestMemory&) override { notified_ = false; }

    bool notified_ = false;
};

}  // namespace antipode::vmm
