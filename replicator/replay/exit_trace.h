// ExitTrace: the last exits of a VM and its registers at the last digests, kept for a divergence
// report. Fixed memory; adding an exit is a store.
//
// vCPU thread only.
#pragma once

#include <cstring>
#include <deque>
#include <vector>

#include "replicator/replay/heal.h"
#include "replicator/vmm/vcpu.h"

namespace antipode::replay {

std::array<uint64_t, Evidence::kRegisters> register_values(const kvm_regs& regs,
                                                           const kvm_sregs& sregs);

class ExitTrace {
  public:
    static constexpr size_t kExits = 2048;
    static constexpr size_t kPoints = 64;

    void add(ExitNumber number, const vmm::Exit& exit) {
        ExitRecord& slot = exits_[next_++ % kExits];
        slot = {number, exit.kind, exit.size, exit.count, exit.address, 0};
        std::memcpy(&slot.data, exit.data.data(), std::min(exit.data.size(), sizeof slot.data));
    }
    void add_point(ExitNumber exit, const std::array<uint64_t, Evidence::kRegisters>& registers) {
        if (points_.size() >= kPoints) points_.pop_front();
        points_.push_back({exit, registers});
    }
    // What is remembered of `exit` and the exits before it.
    Evidence evidence(ExitNumber exit) const;
    void forget() { *this = ExitTrace(); }

  private:
    struct Point {
        ExitNumber exit;
        std::array<uint64_t, Evidence::kRegisters> registers;
    };
    std::vector<ExitRecord> exits_{kExits};
    uint64_t next_ = 0;
    std::deque<Point> points_;
};

}  // namespace antipode::replay
