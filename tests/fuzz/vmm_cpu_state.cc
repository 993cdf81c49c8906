// A vCPU's state as it comes from another site: refused, or the same bytes again when saved.
#include <algorithm>
#include <cstdint>

#include "common/base/check.h"
#include "replicator/vmm/cpu_state.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace antipode;
    const std::span<const std::byte> bytes(reinterpret_cast<const std::byte*>(data), size);
    vmm::StateReader in(bytes);
    const auto state = vmm::CpuState::load(in);
    if (!state) return 0;
    const auto out = vmm::saved(*state);
    FT_CHECK(out.size() <= bytes.size(), "state grew");
    FT_CHECK(std::ranges::equal(out, bytes.first(out.size())), "state changed");
    return 0;
}
