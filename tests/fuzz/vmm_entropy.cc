// A hostile guest against the entropy device: descriptors made of bytes, notified, migrated, reset.
#include <array>

#include "replicator/vmm/layout.h"
#include "tests/fuzz/byte_source.h"
#include "tests/fuzz/vmm_twin.h"

namespace antipode::fuzz {
namespace {

constexpr uint64_t kDevice =
    vmm::layout::kVirtioMmio + Twin::kDevices * vmm::layout::kVirtioMmioBytes;
constexpr uint64_t kTable = 0x1000;
constexpr uint64_t kAvailable = 0x2000;
constexpr uint64_t kUsed = 0x2400;
constexpr uint64_t kBuffers = 0x4000;
constexpr int kStepsMax = 300;
constexpr uint16_t kSize = 8;

class Guest {
  public:
    Guest(ByteSource& input, Twin& twin) : input_(input), twin_(twin) {}

    void step() {
        switch (input_.below(8)) {
            case 0:
                return start();
            case 1:
            case 2:
                return descriptor();
            case 3:
            case 4:
                store(kAvailable + 4 + 2u * (next_ % kSize), input_.take<uint8_t>());
                return store(kAvailable + 2, ++next_);
            case 5:
                return set(0x50, input_.below(16) == 0 ? 1 : 0);
            case 6:
                return input_.below(4) == 0 ? set(0x70, 0) : set(0x64, 3);
            default:
                return input_.below(4) == 0
                           ? twin_.migrate()
                           : set(input_.take<uint16_t>() % 0x110, input_.take<uint32_t>());
        }
    }

  private:
    void store(uint64_t at, uint16_t value) {
        twin_.guest_write(at, std::as_bytes(std::span(&value, 1)));
    }
    void set(uint64_t offset, uint32_t value) {
        twin_.access(vmm::Exit::Kind::mmio_write, kDevice + offset,
                     std::as_bytes(std::span(&value, 1)), 4);
    }
    void start() {
        next_ = 0;
        store(kAvailable + 2, 0);
        for (const auto& [offset, value] :
             std::initializer_list<std::pair<uint64_t, uint32_t>>{{0x70, 0},
                                                                  {0x24, 0},
                                                                  {0x20, 1u << 28},
                                                                  {0x24, 1},
                                                                  {0x20, 1},
                                                                  {0x70, 8},
                                                                  {0x38, kSize},
                                                                  {0x80, kTable},
                                                                  {0x90, kAvailable},
                                                                  {0xa0, kUsed},
                                                                  {0x44, 1},
                                                                  {0x70, 12}}) {
            set(offset, value);
        }
    }
    // Mostly a buffer that the device may write to; sometimes anything.
    void descriptor() {
        struct {
            uint64_t address;
            uint32_t bytes;
            uint16_t flags;
            uint16_t next;
        } made{kBuffers + input_.take<uint16_t>(), input_.take<uint8_t>(), 2,
               input_.take<uint8_t>()};
        const auto oddity = input_.take<uint8_t>();
        if ((oddity & 1) != 0) made.flags = input_.take<uint8_t>() & 7;
        if ((oddity & 0x0e) == 0x0e) made.address = input_.take<uint64_t>();
        if ((oddity & 0x30) == 0x30) made.address = kTable + input_.take<uint16_t>() % 0x2000;
        if ((oddity & 0xc0) == 0xc0) made.bytes = input_.take<uint32_t>();
        twin_.guest_write(kTable + 16 * input_.below(kSize), std::as_bytes(std::span(&made, 1)));
    }

    ByteSource& input_;
    Twin& twin_;
    uint16_t next_ = 0;
};

}  // namespace
}  // namespace antipode::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace antipode::fuzz;
    ByteSource input(data, size);
    Twin twin(Twin::Entropy::yes);
    Guest guest(input, twin);
    for (int i = 0; i < kStepsMax && !input.empty(); ++i) guest.step();
    twin.finish();
    return 0;
}
