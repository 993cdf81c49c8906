// Position: an exact point of a guest's execution between two exits, and the way to it.
//
// The primary takes a position where it interrupted the guest; the backup runs to the same one and
// applies the same event there. A count of branches stands still between two branches, and a REP
// instruction stays at its RIP: so a position is the count and the registers, all of them.
//
// The way there: run until the counter is near (by its skid) but not there yet, then single steps,
// comparing the registers wherever the count is the wanted one. Never run when that near: what was
// overshot cannot be taken back.
//
// vCPU thread only. Failure: Errc::diverged says that the position does not exist in this
// execution.
#pragma once

#include "replicator/vmm/instruction_counter.h"

namespace antipode::replay {

struct Position {
    uint64_t count = 0;      // since InstructionCounter::start()
    uint64_t registers = 0;  // XXH3-64 of kvm_regs
    bool operator==(const Position&) const = default;
};

Result<Position> take_position(vmm::InstructionCounter& counter, const vmm::Vcpu& vcpu);

// Exit::Kind::stepped = it stands there. Another kind: the guest stopped before; the caller deals
// with it (a kick: call again) as with any exit.
Result<vmm::Exit> go_to(const Position& wanted, vmm::InstructionCounter& counter,
                        const vmm::Vcpu& vcpu);

}  // namespace antipode::replay
