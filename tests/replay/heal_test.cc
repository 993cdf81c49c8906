// A backup that is made to differ, in every way a test can think of, is made equal again at an exit
// while the primary goes on: afterwards its digests, outputs and disk are the primary's, and it can
// take over. And it is told apart from one that never differed.
#include <atomic>
#include <chrono>
#include <gtest/gtest.h>
#include <unistd.h>

#include "common/base/random.h"
#include "tests/replay/guest_options.h"

namespace antipode::replay {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

enum class Spoil : uint8_t {
    nothing,       // the guest differs by itself
    memory,        // bytes of pages that are in use
    registers,     // general registers
    instruction,   // where it executes: it soon does something else altogether
    disk_request,  // what a request writes, before it is submitted
};

struct Case {
    const char* name;
    const char* guest;
    const char* arguments;
    Spoil spoil;
    size_t heals_wanted;
    uint64_t kick_seed = 0;
    uint64_t delta_every = 0;
};

void PrintTo(const Case& value, std::ostream* out) {
    *out << value.name;
}

PairOptions options_of(const Case& test) {
    PairOptions options = options_for(test.guest, test.arguments);
    options.healing = EngineOptions::Healing::on;
    options.kick_seed = test.kick_seed;
    options.delta_every = test.delta_every;
    return options;
}

class Heal : public testing::TestWithParam<Case> {
  protected:
    void SetUp() override {
        const std::string missing = guest_missing(GetParam().guest);
        if (!missing.empty()) GTEST_SKIP() << missing;
        auto made = ReplayPair::make(options_of(GetParam()));
        ASSERT_TRUE(made.has_value()) << made.error().to_string();
        pair_ = std::move(*made);
        pair_->backup_engine->observe_exits(
            [this](ExitNumber, vmm::VirtualMachine& vm, const vmm::Exit& exit) {
                if (spoil_wanted_.exchange(false)) spoil(vm, exit);
            });
    }

    // On the backup's vCPU thread, at an exit.
    void spoil(vmm::VirtualMachine& vm, const vmm::Exit&) {
        auto regs = vm.vcpu.regs();
        ASSERT_TRUE(regs);
        switch (GetParam().spoil) {
            case Spoil::nothing:
                return;
            case Spoil::memory:
            case Spoil::disk_request:
                for (int i = 0; i < 20; ++i) {
                    auto page = vm.memory.mutable_page(random_.below(vm.memory.page_count()));
                    page[random_.below(page.size())] ^= std::byte{0x41};
                }
                return;
            case Spoil::registers:
                regs->rbx ^= 0x55;
                regs->r12 += 0x1000;
                regs->r15 ^= 1;
                break;
            case Spoil::instruction:
                regs->rip += 0x13;
                break;
        }
        ASSERT_TRUE(vm.vcpu.set_regs(*regs));
    }

    size_t heals() {
        const std::lock_guard lock(pair_->backup.mutex);
        return pair_->backup.heals.size();
    }
    bool stopped() { return pair_->backup.stop_reason || pair_->primary.stop_reason; }

    Random random_{GetParam().heals_wanted * 7919 + 3};
    std::atomic<bool> spoil_wanted_{false};
    std::unique_ptr<ReplayPair> pair_;
};

TEST_P(Heal, BecomesEqualAndCanTakeOver) {
    const Case& test = GetParam();
    pair_->start();
    for (size_t i = 0; i < test.heals_wanted; ++i) {
        const size_t equal_before = pair_->backup.digests_equal;
        ASSERT_TRUE(pair_->backup.wait_until(
            [&] {
                return stopped() || pair_->backup.digests_equal > equal_before ||
                       test.spoil == Spoil::nothing;
            },
            seconds(20)));
        ASSERT_FALSE(stopped()) << pair_->backup.stop_text << pair_->primary.stop_text;
        // What is spoilt may not matter to the guest: then something else is.
        const auto done = [&] { return stopped() || pair_->backup.heals.size() > i; };
        for (int tries = 0; tries < 100 && heals() <= i; ++tries) {
            spoil_wanted_ = true;
            (void)pair_->backup.wait_until(done, milliseconds(300));
        }
        ASSERT_TRUE(pair_->backup.wait_until(done, seconds(10)))
            << pair_->pump_error << pair_->backup.digest_errors.size() << " differences";
        ASSERT_FALSE(stopped()) << pair_->backup.stop_text << pair_->primary.stop_text;
    }
    // From here on nothing is spoilt: the replay is exact again.
    if (test.spoil != Spoil::nothing) {
        const size_t equal = pair_->backup.digests_equal;
        const size_t errors = pair_->backup.digest_errors.size();
        ASSERT_TRUE(pair_->backup.wait_until(
            [&] { return stopped() || pair_->backup.digests_equal > equal + 3; }, seconds(20)));
        EXPECT_EQ(pair_->backup.digest_errors.size(), errors);
    }
    EXPECT_EQ(pair_->pump_error, "");
    for (const HealResult& result : pair_->backup.heals) {
        EXPECT_NE(result.trouble, "");
        EXPECT_GE(result.to, result.from);
        EXPECT_LE(result.differences.size(), HealResult::kDifferencesMax);
        EXPECT_FALSE(result.own.exits.empty());
        // While a backup looked for an exit in vain, the primary may have come too far from it.
        const bool looked = result.trouble.find("does not come to") != std::string::npos;
        EXPECT_TRUE(looked || !result.primary.exits.empty()) << result.trouble;
    }
    // The survivor works.
    pair_->cut_primary();
    pair_->backup_engine->abandon_heal();
    ASSERT_TRUE(pair_->fail_over()) << pair_->backup.stop_text;
    const size_t console_before = pair_->backup.console.size();
    const auto exits_before = pair_->backup_engine->exit_number();
    EXPECT_TRUE(pair_->backup.wait_until(
        [&] {
            return pair_->backup_engine->exit_number() > exits_before || pair_->backup.stop_reason;
        },
        seconds(20)));
    EXPECT_FALSE(pair_->backup.stop_reason.has_value()) << pair_->backup.stop_text;
    // disk_writer reads back what it wrote and says so where it is something else.
    EXPECT_EQ(pair_->backup.console.find("EXIT-FAILURE", console_before), std::string::npos)
        << pair_->backup.console;
}

constexpr Case kCases[] = {
    {"memory", "compute", "antipode.every=100", Spoil::memory, 5},
    {"registers", "compute", "antipode.every=100", Spoil::registers, 5},
    {"instruction", "counter", "antipode.hz=100", Spoil::instruction, 5},
    {"instruction_busy", "compute", "antipode.every=100", Spoil::instruction, 5},
    {"memory_with_disk", "disk_writer", "", Spoil::memory, 5},
    {"instruction_with_disk", "disk_writer", "", Spoil::instruction, 3},
    {"memory_without_exits", "compute", "antipode.every=1000 antipode.exit=0", Spoil::memory, 3},
    {"memory_with_entropy", "entropy", "", Spoil::memory, 3},
    {"memory_of_linux", "linux", "", Spoil::memory, 3},
    {"memory_of_a_counter", "counter", "antipode.hz=100", Spoil::memory, 3},
    {"registers_of_a_counter", "counter", "antipode.hz=100", Spoil::registers, 3},
    {"registers_with_disk", "disk_writer", "", Spoil::registers, 3},
    {"registers_with_entropy", "entropy", "", Spoil::registers, 3},
    {"instruction_with_entropy", "entropy", "", Spoil::instruction, 3},
    {"memory_with_network", "udp_echo", "antipode.clock_hz=50", Spoil::memory, 3},
    {"registers_with_network", "udp_echo", "antipode.clock_hz=50", Spoil::registers, 3},
    {"instruction_with_network", "udp_echo", "antipode.clock_hz=50", Spoil::instruction, 3},
    {"memory_kicked", "compute", "antipode.every=100", Spoil::memory, 3, 59},
    {"memory_with_disk_kicked", "disk_writer", "", Spoil::memory, 3, 61},
    {"memory_with_deltas", "compute", "antipode.every=100", Spoil::memory, 3, 0, 7},
    {"instruction_with_deltas", "counter", "antipode.hz=100", Spoil::instruction, 3, 0, 5},
    {"memory_with_disk_kicked_deltas", "disk_writer", "", Spoil::memory, 3, 67, 11},
    {"registers_of_linux", "linux", "", Spoil::registers, 3},
    {"rdtsc", "diverge", "antipode.every=20", Spoil::nothing, 5},
    {"rdtsc_decides", "diverge", "antipode.every=20 antipode.branch=1", Spoil::nothing, 5},
    {"rdrand_decides", "diverge", "antipode.every=20 antipode.branch=1 antipode.rdrand=1",
     Spoil::nothing, 5},
    {"rdtsc_shown", "diverge", "antipode.every=20 antipode.print=1", Spoil::nothing, 5},
};

INSTANTIATE_TEST_SUITE_P(All, Heal, testing::ValuesIn(kCases),
                         [](const auto& each) { return std::string(each.param.name); });

}  // namespace
}  // namespace antipode::replay
