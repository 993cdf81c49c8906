// What two sites say of a live TSC, and which of them cannot go on with the other's.
#include "replicator/control/tsc_greeting.h"

#include <gtest/gtest.h>

namespace antipode::control {
namespace {

using vmm::TscScaling;
using vmm::TscSource;
using vmm::TscTerms;

std::string said(const TscTerms& terms, const std::string& machine = "m1") {
    std::string text = tsc_line(terms, machine);
    const auto line = take_tsc_line(text);
    EXPECT_EQ(text, "");
    return line.value_or("nothing");
}

std::string trouble(const std::string& own, const std::string& peer) {
    return tsc_trouble({"left", own}, {"right", peer}).value_or("");
}

TEST(TscGreeting, IsALineOfItsOwn) {
    EXPECT_EQ(tsc_line({2'400'000, TscSource::own, TscScaling::yes}, "m1"),
              "tsc live, 2400000 kHz, scaled, own\n");
    EXPECT_EQ(tsc_line({2'400'000, TscSource::hosts, TscScaling::no}, "m1"),
              "tsc live, 2400000 kHz, fixed, of m1\n");
    std::string text = "memory 16 MiB\ntsc live, 1 kHz, fixed, own\nboot image 1\n";
    EXPECT_EQ(take_tsc_line(text), "tsc live, 1 kHz, fixed, own");
    EXPECT_EQ(text, "memory 16 MiB\nboot image 1\n");
    EXPECT_EQ(take_tsc_line(text), std::nullopt);
    std::string cut = "tsc live, 1";
    EXPECT_EQ(take_tsc_line(cut), "tsc live, 1");
    EXPECT_EQ(cut, "");
}

TEST(TscGreeting, OneFrequencyGoesOn) {
    const auto fixed = said({2'400'000, TscSource::own, TscScaling::no});
    EXPECT_EQ(trouble(fixed, fixed), "");
    EXPECT_EQ(trouble(fixed, said({2'400'012, TscSource::own, TscScaling::yes})), "");
    EXPECT_EQ(trouble(said({2'400'000, TscSource::own, TscScaling::yes}),
                      said({3'100'000, TscSource::own, TscScaling::yes})),
              "");
}

TEST(TscGreeting, AnotherThatCannotBeSetDoesNot) {
    const auto left = said({2'400'000, TscSource::own, TscScaling::yes});
    const auto right = said({3'100'000, TscSource::own, TscScaling::no});
    EXPECT_EQ(trouble(left, right),
              "the VM's TSC is live, and cannot go on at the other site: it runs at 2400000 kHz at "
              "left, at 3100000 kHz at right, and right cannot set a guest's frequency "
              "(KVM_CAP_TSC_CONTROL)");
    EXPECT_NE(trouble(right, left).find("and left cannot set"), std::string::npos);
}

TEST(TscGreeting, AHostsOwnCounterGoesOnOnlyThere) {
    const TscTerms shown{2'400'000, TscSource::hosts, TscScaling::no};
    EXPECT_EQ(trouble(said(shown, "m1"), said(shown, "m1")), "");
    EXPECT_EQ(trouble(said(shown, "m1"), said(shown, "m2")),
              "the VM's TSC is live, and cannot go on at the other site: KVM at left shows guests "
              "the host's counter, whatever is set, and right is another machine");
    const auto own = said({2'400'000, TscSource::own, TscScaling::no});
    EXPECT_NE(trouble(own, said(shown)).find("KVM at right shows"), std::string::npos);
    EXPECT_NE(trouble(said(shown), own).find("KVM at left shows"), std::string::npos);
}

TEST(TscGreeting, WhatMakesNoSenseIsTrouble) {
    const auto good = said({2'400'000, TscSource::own, TscScaling::no});
    for (const char* bad :
         {"", "tsc live, ", "tsc live, x kHz, fixed, own", "tsc live, 99999999999 kHz, fixed, own",
          "tsc live, 2400000 kHz, maybe, own"}) {
        EXPECT_NE(trouble(good, bad), "") << bad;
        EXPECT_NE(trouble(bad, good), "") << bad;
    }
}

}  // namespace
}  // namespace antipode::control
