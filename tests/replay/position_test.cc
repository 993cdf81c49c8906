// Positions between exits: taken in one VM, reached in another, at any count, with a counter that
// stops late by chance as a PMU does.
#include "replicator/replay/position.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "replicator/replay/bare_guest.h"

namespace antipode::replay {
namespace {

using Kind = vmm::Exit::Kind;

class PositionTest : public testing::Test {
  protected:
    struct Guest {
        std::unique_ptr<vmm::VirtualMachine> vm;
        std::unique_ptr<vmm::InstructionCounter> counter;
    };
    void SetUp() override {
        if (access("/dev/kvm", R_OK | W_OK) != 0) GTEST_SKIP() << "no /dev/kvm";
        auto opened = vmm::Kvm::open();
        ASSERT_TRUE(opened.has_value()) << opened.error().to_string();
        kvm_.emplace(std::move(*opened));
    }
    Guest start(std::span<const std::byte> code, uint64_t skid_max, uint64_t seed) {
        Guest guest;
        auto vm = build_bare_guest(*kvm_, code);
        if (!vm) throw std::runtime_error(vm.error().to_string());
        guest.vm = std::move(*vm);
        guest.counter = vmm::make_single_step_counter(guest.vm->vcpu, skid_max, seed);
        EXPECT_TRUE(guest.counter->start().has_value());
        return guest;
    }
    // Counts branches, as a PMU would: the count stands still between two of them.
    class BranchCounter final : public vmm::InstructionCounter {
      public:
        BranchCounter(vmm::Vcpu& vcpu, uint64_t skid_max, uint64_t seed)
            : vcpu_(vcpu),
              steps_(vmm::make_single_step_counter(vcpu, 0, 1)),
              skid_max_(skid_max),
              random_(seed) {}
        Result<void> start() override { return steps_->start(); }
        Result<uint64_t> count() override { return branches_; }
        uint64_t skid_max() const override { return skid_max_; }
        Result<vmm::Exit> run_until(uint64_t wanted) override {
            const uint64_t stop = wanted + random_.below(skid_max_ + 1);
            vmm::Exit exit;
            exit.kind = Kind::stepped;
            while (branches_ < stop && exit.kind == Kind::stepped) {
                FT_TRY(exit, step());
            }
            return exit;
        }
        Result<vmm::Exit> step() override {
            constexpr uint64_t kInstructionBytesMax = 15;
            FT_TRY(const kvm_regs before, vcpu_.regs());
            FT_TRY(auto exit, steps_->step());
            FT_TRY(const kvm_regs after, vcpu_.regs());
            // The guest's branches go backwards, or are calls and returns: far enough to tell.
            const bool branched =
                after.rip < before.rip || after.rip > before.rip + kInstructionBytesMax;
            if (exit.kind == Kind::stepped && branched) ++branches_;
            return exit;
        }

      private:
        vmm::Vcpu& vcpu_;
        std::unique_ptr<vmm::InstructionCounter> steps_;
        const uint64_t skid_max_;
        Random random_;
        uint64_t branches_ = 0;
    };

    std::optional<vmm::Kvm> kvm_;
};

TEST_F(PositionTest, EachCountIsReachedWhateverTheSkid) {
    constexpr uint64_t kFirst = 700;
    for (const uint64_t skid : {0, 1, 7, 64}) {
        auto primary = start(loop_guest(), 0, 1);
        auto backup = start(loop_guest(), skid, 99 + skid);
        for (uint64_t count = kFirst; count < kFirst + 900; count += 1 + count % 97) {
            ASSERT_TRUE(primary.counter->run_until(count).has_value());
            const auto wanted = take_position(*primary.counter, primary.vm->vcpu);
            ASSERT_TRUE(wanted.has_value());
            ASSERT_EQ(wanted->count, count);
            const auto exit = go_to(*wanted, *backup.counter, backup.vm->vcpu);
            ASSERT_TRUE(exit.has_value()) << exit.error().to_string();
            ASSERT_EQ(exit->kind, Kind::stepped);
            const auto here = take_position(*backup.counter, backup.vm->vcpu);
            ASSERT_TRUE(here.has_value());
            EXPECT_EQ(*here, *wanted);
        }
    }
}

TEST_F(PositionTest, BetweenTwoBranchesTheRegistersDecide) {
    auto primary = start(loop_guest(), 0, 1);
    auto backup = start(loop_guest(), 0, 1);
    BranchCounter ahead(primary.vm->vcpu, 0, 1);
    BranchCounter behind(backup.vm->vcpu, 5, 17);
    ASSERT_TRUE(ahead.start().has_value());
    ASSERT_TRUE(behind.start().has_value());
    ASSERT_TRUE(ahead.run_until(40).has_value());
    uint64_t same_count = 0;
    for (uint64_t step = 0; step < 60; ++step) {
        const auto before = ahead.count();
        const auto stepped = ahead.step();
        ASSERT_TRUE(stepped.has_value()) << stepped.error().to_string();
        if (*ahead.count() == *before) ++same_count;
        const auto wanted = take_position(ahead, primary.vm->vcpu);
        const auto exit = go_to(*wanted, behind, backup.vm->vcpu);
        ASSERT_TRUE(exit.has_value()) << exit.error().to_string();
        EXPECT_EQ(*take_position(behind, backup.vm->vcpu), *wanted);
    }
    EXPECT_GT(same_count, 20u) << "the count never stood still: nothing was shown";
}

TEST_F(PositionTest, APositionThatIsNotOnTheWayIsADivergence) {
    auto guest = start(loop_guest(), 3, 5);
    const auto exit = go_to({500, 0x1234}, *guest.counter, guest.vm->vcpu);
    ASSERT_FALSE(exit.has_value());
    EXPECT_EQ(exit.error().code, Errc::diverged);
}

TEST_F(PositionTest, AnExitOnTheWayIsHandedOut) {
    auto guest = start(loop_guest(), 3, 5);
    const auto exit = go_to({1'000'000, 0}, *guest.counter, guest.vm->vcpu);
    ASSERT_TRUE(exit.has_value()) << exit.error().to_string();
    EXPECT_EQ(exit->kind, Kind::port_out);
    EXPECT_EQ(exit->address, kTorturePortEnd);
}

}  // namespace
}  // namespace antipode::replay
