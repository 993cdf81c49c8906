// A site of three: to whom it turns, when it may, and what a third one may not do.
#include <gtest/gtest.h>

#include "common/failover/site_choice.h"
#include "tests/unit/failover/core_harness.h"

namespace antipode::failover {
namespace {

using wire::AnswerKind;
using wire::RequestKind;

using namespace std::chrono_literals;

const Name kSiteC = Name::literal("another-site");

Member site_c(uint64_t incarnation = 1) {
    return {kSiteC, Incarnation(incarnation)};
}

Config config_of_three(const Name& site, const Name& peer_site) {
    Config config = Core::config(site, peer_site);
    config.sites = {kSiteA, kSiteB, kSiteC};
    return config;
}

struct OfThree : Core {
    OfThree(Member self, Member other) : Core(self, other) {
        core = Failover(config_of_three(self.site, other.site));
    }
    void turn_to(Member other) {
        peer = other;
        step(TurnTo{other.site});
    }
    wire::Record with_spare(wire::Record record, const Name& former = {}) const {
        record.sites[2] = kSiteC;
        record.former = former;
        return record;
    }
};

Durable ran(uint64_t live_epoch, DurableRole role) {
    Durable durable;
    durable.epoch = durable.live_epoch = Epoch(live_epoch);
    durable.role = role;
    durable.disk = wire::DiskCopy::complete;
    durable.store = kStore;
    return durable;
}

TEST(Spares, ALoneSiteTurnsToTheThirdOneAndPairsWithIt) {
    OfThree a(site_a(), site_b());
    a.to_solo();
    ASSERT_TRUE(a.core.may_turn());
    a.turn_to(site_c());
    EXPECT_EQ(a.core.peer_site(), kSiteC);
    a.step(SessionUp{});
    a.hello(State::rejoining, 2);
    a.step(PeerSays{a.from_peer(wire::PeerMessageKind::join, 2)});
    ASSERT_EQ(a.state(), State::seeding);
    EXPECT_EQ(a.core.partner(), site_c());
    EXPECT_FALSE(a.core.may_turn());
}

TEST(Spares, WhatTheOldPeerSaysAfterwardsIsNothing) {
    OfThree a(site_a(), site_b());
    a.to_solo();
    a.turn_to(site_c());
    a.clear();
    wire::PeerMessage late = a.from_peer(wire::PeerMessageKind::hello, 9);
    late.from = site_b();
    late.state = State::solo;
    a.step(PeerSays{late});
    EXPECT_EQ(a.core.last_event(), Event::stray);
    EXPECT_EQ(a.state(), State::solo);
    EXPECT_FALSE(a.core.peer().has_value());
}

TEST(Spares, APromiseBindsASiteToItsPeer) {
    OfThree pairing(site_a(), site_b());
    pairing.to_pairing();
    OfThree asking(site_b(), site_a());
    asking.to_paired_backup();
    asking.step(PeerSuspected{});
    ASSERT_EQ(asking.state(), State::asking_backup);
    for (OfThree* core : {&pairing, &asking}) {
        const Name peer = core->core.peer_site();
        const State before = core->state();
        EXPECT_FALSE(core->core.may_turn());
        core->step(TurnTo{kSiteC});
        EXPECT_EQ(core->core.peer_site(), peer);
        EXPECT_EQ(core->state(), before);
    }
}

TEST(Spares, BeforeThePairExistsItsTwoSitesStayTogether) {
    OfThree a(site_a(), site_b());
    a.start();
    a.hello(State::starting, 0);
    a.refuse(wire::RefusalReason::unknown_pair);
    ASSERT_NE(a.asked(RequestKind::create), nullptr);
    EXPECT_FALSE(a.core.may_turn());
    a.step(TurnTo{kSiteC});
    EXPECT_EQ(a.core.peer_site(), kSiteB);
}

TEST(Spares, AThirdSiteCreatesNothingAndItsDiskCountsForNothing) {
    OfThree c(site_c(), site_a());
    c.start();
    c.hello(State::starting, 0);
    c.refuse(wire::RefusalReason::unknown_pair);
    EXPECT_EQ(c.asked(RequestKind::create), nullptr);
    EXPECT_EQ(c.core.durable().disk, wire::DiskCopy::incomplete);
    c.step(PeerSuspected{});
    c.step(SessionDown{});
    c.clear();
    c.step(Command{CommandKind::force, "web1", Loss::accepted});
    ASSERT_NE(c.last<CommandRefused>(), nullptr);
    EXPECT_EQ(c.last<CommandRefused>()->reason, "this third site has never been the backup");
}

TEST(Spares, AThirdSiteIsNoWitnessOfTheOthersDeath) {
    OfThree b(site_b(2), site_c(2));
    b.start(ran(5, DurableRole::primary));
    b.hello(State::starting, 5, 1);
    b.answer(b.with_spare(b.paired(5, site_a(1), site_b(1))));
    EXPECT_EQ(b.asked(RequestKind::reclaim), nullptr);
    b.turn_to(site_a(2));
    b.step(SessionUp{});
    b.hello(State::starting, 5, 1);
    EXPECT_NE(b.asked(RequestKind::reclaim), nullptr);
}

TEST(Spares, ASiteThatTheRecordDoesNotNameIsNoWitness) {
    OfThree b(site_b(2), site_c(2));
    b.start(ran(1, DurableRole::backup));
    b.hello(State::starting, 2);
    b.answer(b.solo(2, site_a(1)));
    EXPECT_EQ(b.asked(RequestKind::reclaim), nullptr);
}

// A was granted 6 and died before it was live in it. Its last partner was C, so that B, with a copy
// that is newer than A's but older than C's, must not pass for the newest.
TEST(Spares, OfALoneHolderOnlyItsLastPartnerAndItselfKnow) {
    OfThree b(site_b(2), site_a(2));
    b.start(ran(4, DurableRole::primary));
    b.hello(State::starting, 6, 2);
    b.answer(b.with_spare(b.solo(6, site_a(1)), kSiteC));
    EXPECT_EQ(b.asked(RequestKind::reclaim), nullptr);

    OfThree c(site_c(2), site_a(2));
    c.start(ran(5, DurableRole::primary));
    c.hello(State::starting, 6, 2);
    c.answer(c.with_spare(c.solo(6, site_a(1)), kSiteC));
    EXPECT_NE(c.asked(RequestKind::reclaim), nullptr);
}

TEST(Spares, AListOfSitesThatIsNotTheRecordsIsSaidAndIsNotForced) {
    OfThree a(site_a(), site_b());
    a.to_solo();
    wire::Record other = a.with_spare(a.solo(2, site_a()));
    a.answer(other);
    EXPECT_EQ(a.core.alarms().count(AlarmCode::configuration), 0u);
    other.sites[2] = Name::literal("site-d");
    a.answer(other);
    EXPECT_EQ(
        a.core.alarms().at(AlarmCode::configuration),
        "the pair's record has the sites site-a, site-b, third site-d, the settings here have "
        "site-a, site-b, third another-site");
    a.step(EpochHeard{site_b(), Epoch(9)});
    a.clear();
    a.step(Command{CommandKind::force, "web1"});
    ASSERT_NE(a.last<CommandRefused>(), nullptr);
    EXPECT_EQ(a.last<CommandRefused>()->reason,
              "the sites in the settings here are not those of the record");
}

TEST(SiteChoice, ALoneSiteLooksAroundAndStaysWhereAnAttemptBegins) {
    OfThree a(site_a(), site_b());
    a.to_solo();
    SiteChoice choice(a.core.config(), 60s);
    EXPECT_EQ(choice.next(a.core, a.now), std::nullopt);
    EXPECT_EQ(choice.next(a.core, a.now + 59s), std::nullopt);
    EXPECT_EQ(choice.next(a.core, a.now + 60s), kSiteC);
    a.turn_to(site_c());
    EXPECT_EQ(choice.next(a.core, a.now + 61s), std::nullopt);
    EXPECT_EQ(choice.next(a.core, a.now + 122s), kSiteB);
}

TEST(SiteChoice, CopiesThatLeadNowhereAreNotTriedForEver) {
    OfThree a(site_a(), site_b());
    a.to_solo();
    a.step(PeerTrusted{});
    SiteChoice choice(a.core.config(), 60s);
    a.step(SessionUp{});
    for (int i = 0; i < SiteChoice::kAttemptsMax; ++i) {
        EXPECT_EQ(choice.next(a.core, a.now), std::nullopt) << i;
        a.now += 5s;
        a.hello(State::rejoining, 2);
        a.step(PeerSays{a.from_peer(wire::PeerMessageKind::join, 2)});
        ASSERT_EQ(a.state(), State::seeding);
        EXPECT_EQ(choice.next(a.core, a.now), std::nullopt);
        a.step(SeedFailed{a.last<BeginSeed>()->attempt, "its disk is too small"});
        ASSERT_EQ(a.state(), State::solo);
    }
    EXPECT_EQ(choice.next(a.core, a.now), kSiteC);
}

TEST(SiteChoice, AnIdleSiteGoesWhereTheRecordSaysTheVmIs) {
    OfThree b(site_b(2), site_a());
    b.start(ran(2, DurableRole::backup));
    SiteChoice choice(b.core.config(), 60s);
    EXPECT_EQ(choice.next(b.core, b.now), std::nullopt);
    b.answer(b.with_spare(b.paired(7, site_c(), site_a())));
    EXPECT_EQ(choice.next(b.core, b.now), kSiteC);
    b.turn_to(site_c());
    EXPECT_EQ(choice.next(b.core, b.now + 1h), std::nullopt);
}

// A won and died before it ran. Its next process cannot go on alone: it has to be where its last
// partner looks for it.
TEST(SiteChoice, TheHoldersNextProcessGoesToItsLastPartner) {
    OfThree a(site_a(2), site_b());
    a.start(ran(2, DurableRole::backup));
    SiteChoice choice(a.core.config(), 60s);
    a.answer(a.with_spare(a.solo(7, site_a()), kSiteC));
    EXPECT_EQ(choice.next(a.core, a.now), kSiteC);

    OfThree before(site_a(2), site_b());  // a third site was never taken
    before.start(ran(2, DurableRole::backup));
    before.turn_to(site_c());
    before.answer(before.solo(7, site_a()));
    EXPECT_EQ(choice.next(before.core, before.now), kSiteB);
}

TEST(SiteChoice, WithoutARecordAnIdleSiteGoesRound) {
    OfThree b(site_b(2), site_a());
    b.start(ran(2, DurableRole::backup));
    SiteChoice choice(b.core.config(), 60s);
    EXPECT_EQ(choice.next(b.core, b.now), std::nullopt);
    EXPECT_EQ(choice.next(b.core, b.now + 15s), kSiteC);
}

TEST(SiteChoice, TheSiteThatAnOperatorNamesComesFirstAndOnce) {
    OfThree a(site_a(), site_b());
    a.to_solo();
    SiteChoice choice(a.core.config(), 60s);
    choice.prefer(kSiteC);
    a.step(Command{CommandKind::unprotect, {}});
    ASSERT_EQ(a.state(), State::unprotected);
    EXPECT_EQ(choice.next(a.core, a.now), kSiteC);
    a.turn_to(site_c());
    a.step(Command{CommandKind::protect, {}});
    EXPECT_EQ(choice.next(a.core, a.now), std::nullopt);
    EXPECT_EQ(choice.next(a.core, a.now + 61s), kSiteB);
    a.turn_to(site_b());
    EXPECT_EQ(choice.next(a.core, a.now + 62s), std::nullopt);
}

TEST(SiteChoice, OfTwoSitesThereIsNone) {
    Core a(site_a(), site_b());
    a.to_solo();
    SiteChoice choice(a.core.config(), 1s);
    EXPECT_EQ(choice.next(a.core, a.now + 1h), std::nullopt);
}

}  // namespace
}  // namespace antipode::failover
