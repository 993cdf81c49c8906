// InstructionCounter by KVM_GUESTDBG_SINGLESTEP.
#include "replicator/vmm/instruction_counter.h"

namespace antipode::vmm {
namespace {

class SingleStepCounter final : public InstructionCounter {
  public:
    SingleStepCounter(Vcpu& vcpu, uint64_t skid_max, uint64_t skid_seed)
        : vcpu_(vcpu), skid_max_(skid_max), random_(skid_seed) {}

    Result<void> start() override {
        count_ = 0;
        return {};
    }
    Result<uint64_t> count() override { return count_; }
    uint64_t skid_max() const override { return skid_max_; }

    Result<Exit> run_until(uint64_t wanted) override {
        const uint64_t stop = wanted + (skid_max_ == 0 ? 0 : random_.below(skid_max_ + 1));
        Exit exit;
        exit.kind = Exit::Kind::stepped;
        while (count_ < stop && exit.kind == Exit::Kind::stepped) {
            FT_TRY(exit, step());
        }
        return exit;
    }

    Result<Exit> step() override {
        FT_TRY_VOID(vcpu_.single_step(Vcpu::Stepping::on));
        Exit exit = vcpu_.run();
        // Off again: whoever runs the vCPU next may not be counting.
        FT_TRY_VOID(vcpu_.single_step(Vcpu::Stepping::off));
        if (exit.kind != Exit::Kind::stepped) return exit;
        ++count_;
        return exit;
    }

  private:
    Vcpu& vcpu_;
    const uint64_t skid_max_;
    Random random_;
    uint64_t count_ = 0;
};

}  // namespace

std::unique_ptr<InstructionCounter> make_single_step_counter(Vcpu& vcpu, uint64_t skid_max,
                                                             uint64_t skid_seed) {
    return std::make_unique<SingleStepCounter>(vcpu, skid_max, skid_seed);
}

}  // namespace antipode::vmm
