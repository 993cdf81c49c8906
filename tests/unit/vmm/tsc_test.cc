// A live TSC: frequencies, ticks, and what a host cannot go on with.
#include "replicator/vmm/tsc.h"

#include <chrono>
#include <gtest/gtest.h>

namespace antipode::vmm {
namespace {

using std::chrono::hours;
using std::chrono::nanoseconds;
using std::chrono::seconds;

std::string problem(const TscTerms& terms, const TscState& state) {
    const auto checked = check_tsc(terms, state);
    return checked ? "" : checked.error().context;
}

TEST(TscTest, FrequenciesThatAreOne) {
    EXPECT_TRUE(same_frequency(2'400'000, 2'400'000));
    EXPECT_TRUE(same_frequency(2'400'000, 2'400'600));
    EXPECT_TRUE(same_frequency(2'400'600, 2'400'000));
    EXPECT_FALSE(same_frequency(2'400'000, 2'400'601));
    EXPECT_FALSE(same_frequency(2'400'000, 3'100'000));
    EXPECT_TRUE(same_frequency(UINT32_MAX, UINT32_MAX));
}

TEST(TscTest, TicksOfATime) {
    EXPECT_EQ(tsc_ticks(2'400'000, Duration::zero()), 0u);
    EXPECT_EQ(tsc_ticks(2'400'000, seconds(-5)), 0u);  // it does not go back
    EXPECT_EQ(tsc_ticks(2'400'000, seconds(1)), 2'400'000'000u);
    EXPECT_EQ(tsc_ticks(2'400'000, nanoseconds(5)), 12u);
    EXPECT_EQ(tsc_ticks(5'000'000, hours(24 * 365 * 100)),
              24ull * 365 * 100 * 3600 * 5'000'000'000);
}

TEST(TscTest, AnotherFrequencyNeedsScaling) {
    const TscState state{2'400'000, {1000, 900}};
    EXPECT_EQ(problem({2'400'100, TscSource::own, TscScaling::no}, state), "");
    EXPECT_EQ(problem({3'100'000, TscSource::own, TscScaling::yes}, state), "");
    EXPECT_EQ(problem({3'100'000, TscSource::own, TscScaling::no}, state),
              "the VM's TSC runs at 2400000 kHz, this host's at 3100000, and KVM cannot set a "
              "guest's frequency here (KVM_CAP_TSC_CONTROL)");
}

TEST(TscTest, AHostsCounterMustNotBeBehind) {
    const TscTerms shown{2'400'000, TscSource::hosts, TscScaling::no};
    EXPECT_EQ(problem(shown, {2'400'000, {1}}), "");
    EXPECT_EQ(problem(shown, {2'400'000, {1, UINT64_MAX}}),
              "the VM's TSC stood at 18446744073709551615, this host's is behind it, and KVM shows "
              "guests the host's here");
    EXPECT_EQ(problem({2'400'000, TscSource::own, TscScaling::no}, {2'400'000, {UINT64_MAX}}), "");
}

}  // namespace
}  // namespace antipode::vmm
