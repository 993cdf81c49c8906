#include "replicator/replay/exit_trace.h"

#include <algorithm>

namespace antipode::replay {

const std::array<const char*, Evidence::kRegisters> Evidence::kRegisterNames{
    "rax", "rbx", "rcx", "rdx", "rsi", "rdi",    "rsp", "rbp", "r8",  "r9",  "r10", "r11",
    "r12", "r13", "r14", "r15", "rip", "rflags", "cr0", "cr2", "cr3", "cr4", "efer"};

std::array<uint64_t, Evidence::kRegisters> register_values(const kvm_regs& regs,
                                                           const kvm_sregs& sregs) {
    return {regs.rax, regs.rbx,    regs.rcx,  regs.rdx,  regs.rsi,  regs.rdi,  regs.rsp,  regs.rbp,
            regs.r8,  regs.r9,     regs.r10,  regs.r11,  regs.r12,  regs.r13,  regs.r14,  regs.r15,
            regs.rip, regs.rflags, sregs.cr0, sregs.cr2, sregs.cr3, sregs.cr4, sregs.efer};
}

Evidence ExitTrace::evidence(ExitNumber exit) const {
    Evidence out;
    out.exit = exit;
    for (const Point& point : points_) {
        if (point.exit == exit) out.registers = point.registers;
    }
    const uint64_t first = next_ > kExits ? next_ - kExits : 0;
    std::vector<ExitRecord> before;
    for (uint64_t i = first; i < next_; ++i) {
        const ExitRecord& record = exits_[i % kExits];
        if (record.exit <= exit) before.push_back(record);
    }
    const size_t count = std::min(before.size(), Evidence::kExitsMax);
    out.exits.assign(before.end() - static_cast<ptrdiff_t>(count), before.end());
    return out;
}

}  // namespace antipode::replay
