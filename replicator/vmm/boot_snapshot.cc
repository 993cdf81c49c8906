#include "replicator/vmm/boot_snapshot.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace antipode::vmm {

Result<std::shared_ptr<const BootSnapshot>> BootSnapshot::take(GuestMemory& memory,
                                                               const Machine& machine, Vcpu& vcpu) {
    auto snapshot = std::make_shared<BootSnapshot>();
    for (size_t word = 0; word < memory.vmm_dirty().size(); ++word) {
        for (uint64_t bits = memory.vmm_dirty()[word]; bits != 0; bits &= bits - 1) {
            const uint64_t number = word * 64 + static_cast<unsigned>(std::countr_zero(bits));
            const auto bytes = memory.page(number);
            snapshot->pages_.emplace_back(number,
                                          std::vector<std::byte>(bytes.begin(), bytes.end()));
        }
    }
    snapshot->machine_ = saved(machine);
    FT_TRY(snapshot->cpu_, capture_cpu(vcpu));
    return std::shared_ptr<const BootSnapshot>(std::move(snapshot));
}

Result<void> BootSnapshot::restore(GuestMemory& memory, Machine& machine, Vcpu& vcpu) const {
    static constexpr std::array<std::byte, layout::kPageBytes> kZero{};
    auto next = pages_.begin();
    for (uint64_t number = 0; number < memory.page_count(); ++number) {
        std::span<const std::byte> wanted(kZero);
        if (next != pages_.end() && next->first == number) wanted = (next++)->second;
        // Compared first: what is equal need not be sent, hashed or copied again.
        const auto present = memory.page(number);
        if (std::memcmp(present.data(), wanted.data(), wanted.size()) == 0) continue;
        std::copy(wanted.begin(), wanted.end(), memory.mutable_page(number).begin());
    }
    StateReader state(machine_);
    FT_TRY_VOID(machine.load(state));
    return restore_cpu(vcpu, cpu_);
}

}  // namespace antipode::vmm
