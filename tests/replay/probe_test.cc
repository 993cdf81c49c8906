// The probe's verdict on this host, and that it notices what it is there to notice.
#include "replicator/replay/probe.h"

#include <array>
#include <boost/json.hpp>
#include <chrono>
#include <gtest/gtest.h>
#include <unistd.h>

#include "replicator/replay/smp_trial.h"
#include "replicator/vmm/tsc.h"
#include "replicator/vmm/vcpu.h"

namespace antipode::replay {
namespace {

class Probe : public testing::Test {
  protected:
    void SetUp() override {
        if (access("/dev/kvm", R_OK | W_OK) != 0) GTEST_SKIP() << "no /dev/kvm";
    }
};

TEST_F(Probe, TortureReplaysAlikeAndTheDirtyLogIsWhole) {
    const auto kvm = vmm::Kvm::open();
    ASSERT_TRUE(kvm.has_value());
    const auto result = run_torture(*kvm, 3, 42);
    ASSERT_TRUE(result.has_value()) << result.error().to_string();
    EXPECT_EQ(result->difference, "");
    EXPECT_EQ(result->runs, 3u);
    EXPECT_GT(result->exits, 1500u);
    EXPECT_GT(result->interrupts, 50u);
    EXPECT_GT(result->kicks, 0u);
    EXPECT_EQ(result->dirty_missed, 0u);
    EXPECT_GT(result->dirty_pages, 200u);
    const auto again = run_torture(*kvm, 1, 42);
    ASSERT_TRUE(again.has_value());
    EXPECT_EQ(again->digest, result->digest);  // the same inputs, the same guest
    const auto other = run_torture(*kvm, 1, 43);
    ASSERT_TRUE(other.has_value());
    EXPECT_NE(other->digest, result->digest);
}

TEST_F(Probe, TwoVcpusGoOnInAnotherVm) {
    const auto kvm = vmm::Kvm::open();
    ASSERT_TRUE(kvm.has_value());
    vmm::install_kick_handler();
    for (int round = 0; round < 5; ++round) {
        const auto trial = run_smp_trial(*kvm);
        ASSERT_TRUE(trial.has_value()) << trial.error().to_string();
        EXPECT_GT(trial->dirty_pages, 0u);
    }
}

TEST_F(Probe, ATscGoesOnFromWhereItIsSetOnAllVcpus) {
    const auto kvm = vmm::Kvm::open();
    ASSERT_TRUE(kvm.has_value());
    const auto terms = vmm::examine_tsc(*kvm);
    ASSERT_TRUE(terms.has_value()) << terms.error().to_string();
    if (terms->source == vmm::TscSource::hosts) GTEST_SKIP() << "KVM shows guests the host's";
    auto memory = vmm::GuestMemory::allocate(4 << 20);
    ASSERT_TRUE(memory.has_value());
    auto vm = vmm::Vm::create(*kvm, *memory);
    ASSERT_TRUE(vm.has_value());
    auto first = vmm::Vcpu::create(*kvm, *vm, 0);
    auto second = vmm::Vcpu::create(*kvm, *vm, 1);
    ASSERT_TRUE(first.has_value() && second.has_value());
    std::array<vmm::Vcpu*, 2> vcpus{&*first, &*second};
    ASSERT_TRUE(vmm::start_tsc(*terms, vcpus).has_value());
    const uint64_t second_of_ticks = uint64_t{terms->khz} * 1000;
    // Near to what it is, where KVM would keep a value's offset as it was; far; and back.
    for (const uint64_t at : {second_of_ticks / 2, uint64_t{1} << 60, uint64_t{12345}}) {
        const vmm::TscState stood{terms->khz, {at, at + 1000}};
        const auto set = vmm::continue_tsc(*terms, vcpus, stood, std::chrono::seconds(1));
        ASSERT_TRUE(set.has_value()) << set.error().to_string();
        const auto now = vmm::capture_tsc(vcpus);
        ASSERT_TRUE(now.has_value());
        EXPECT_EQ(now->khz, terms->khz);
        for (const uint64_t value : now->values) {
            EXPECT_GE(value, at + 1000 + second_of_ticks);
            EXPECT_LT(value, at + 1000 + 3 * second_of_ticks);
        }
        EXPECT_GE(now->values[1], now->values[0]);  // it was read later
    }
}

TEST_F(Probe, SaysTheSameInTextJsonAndExitCode) {
    const HostReport report = probe_host({2, 7});
    ASSERT_EQ(report.error, "");
    const auto parsed = boost::json::parse(to_json(report)).as_object();
    EXPECT_EQ(parsed.at("lockstep").at("possible").as_bool(), report.lockstep.possible);
    EXPECT_EQ(parsed.at("checkpoint").at("possible").as_bool(), report.checkpoint.possible);
    EXPECT_TRUE(report.lockstep.possible) << to_text(report);
    EXPECT_FALSE(report.tsc_frozen.possible);
    EXPECT_EQ(exit_code(report), report.checkpoint.possible ? 0 : 10);
    const auto text = to_text(report);
    EXPECT_NE(text.find("verdict:\n  lockstep               yes"), std::string::npos) << text;
}

TEST(ProbeVerdict, NeverGoodWithoutATry) {
    HostReport report;
    report.error = "not found: /dev/kvm";
    EXPECT_EQ(exit_code(report), 1);
    EXPECT_NE(to_text(report).find("no protected VM can run here"), std::string::npos);
    report.checkpoint.possible = true;
    EXPECT_EQ(exit_code(report), 11);
    report.lockstep.possible = true;
    EXPECT_EQ(exit_code(report), 0);
    report.checkpoint.possible = false;
    EXPECT_EQ(exit_code(report), 10);
}

}  // namespace
}  // namespace antipode::replay
