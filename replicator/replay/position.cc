#include "replicator/replay/position.h"

#include <xxhash.h>

namespace antipode::replay {
namespace {

// Steps without the count going up: the longest stretch without a branch, REP rounds included.
constexpr uint64_t kStepsMax = 1'000'000;

}  // namespace

Result<Position> take_position(vmm::InstructionCounter& counter, const vmm::Vcpu& vcpu) {
    FT_TRY(const uint64_t count, counter.count());
    FT_TRY(const kvm_regs regs, vcpu.regs());
    return Position{count, XXH3_64bits(&regs, sizeof regs)};
}

Result<vmm::Exit> go_to(const Position& wanted, vmm::InstructionCounter& counter,
                        const vmm::Vcpu& vcpu) {
    vmm::Exit exit;
    exit.kind = vmm::Exit::Kind::stepped;
    FT_TRY(const uint64_t begin, counter.count());
    // One more than the skid: the wanted count itself must be reached by steps, from its beginning.
    const uint64_t near = counter.skid_max() + 1;
    if (begin + near < wanted.count) {
        FT_TRY(exit, counter.run_until(wanted.count - near));
        if (exit.kind != vmm::Exit::Kind::stepped) return exit;
    }
    for (uint64_t steps = 0; steps <= kStepsMax; ++steps) {
        FT_TRY(const Position here, take_position(counter, vcpu));
        if (here == wanted) return exit;
        if (here.count > wanted.count) {
            return fail(Errc::diverged,
                        "execution passed count {} without standing where the primary stood",
                        wanted.count);
        }
        FT_TRY(exit, counter.step());
        if (exit.kind != vmm::Exit::Kind::stepped) return exit;
    }
    return fail(Errc::diverged, "count {} was not reached in {} steps", wanted.count, kStepsMax);
}

}  // namespace antipode::replay
