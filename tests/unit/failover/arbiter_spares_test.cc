// The arbiter's decisions about a pair with a third site.
#include <gtest/gtest.h>

#include "tests/unit/failover/arbiter_harness.h"
#include "tiebreaker/arbiter.h"

namespace antipode::tiebreaker {
namespace {

using wire::forced_epoch;

const Name kC = Name::literal("another-site");  // before both, by name
const Name kD = Name::literal("site-d");

Member c(uint64_t incarnation) {
    return {kC, Incarnation(incarnation)};
}

class ArbiterSpares : public ArbiterFixture {
  protected:
    void a_alone() {
        send(ask(RequestKind::create, 0, a(1), b(1)));
        send(ask(RequestKind::acquire, 1, a(1)));
    }
    void a_with_c() {
        a_alone();
        EXPECT_EQ(send(ask(RequestKind::pair, 2, a(1), c(1))).kind, AnswerKind::paired);
    }
};

TEST_F(ArbiterSpares, TheHoldersPairAddsAThirdSiteBehindTheFirstTwo) {
    a_with_c();
    EXPECT_EQ(record_->sites, (wire::Sites{kA, kB, kC}));
    EXPECT_EQ(record_->epoch, Epoch(3));
    EXPECT_TRUE(is_member(*record_, c(1)));
    EXPECT_FALSE(is_member(*record_, b(1)));
}

TEST_F(ArbiterSpares, NobodyElseAddsOneAndAFourthIsRefused) {
    a_alone();
    EXPECT_EQ(send(ask(RequestKind::pair, 2, a(2), c(1))).reason, RefusalReason::wrong_site);
    EXPECT_EQ(send(ask(RequestKind::acquire, 2, c(1))).reason, RefusalReason::wrong_site);
    EXPECT_EQ(send(ask(RequestKind::reclaim, 2, b(2), c(1))).reason, RefusalReason::wrong_site);
    EXPECT_EQ(send(ask(RequestKind::pair, 2, c(1), a(1))).reason, RefusalReason::wrong_site);
    send(ask(RequestKind::pair, 2, a(1), c(1)));
    send(ask(RequestKind::acquire, 3, a(1)));
    EXPECT_EQ(send(ask(RequestKind::pair, 4, a(1), {kD, Incarnation(1)})).reason,
              RefusalReason::wrong_site);
    EXPECT_EQ(record_->sites, (wire::Sites{kA, kB, kC}));
}

TEST_F(ArbiterSpares, WhoWasReplacedIsDeniedAndMayComeBackAsASpareOnly) {
    a_with_c();
    EXPECT_EQ(send(ask(RequestKind::acquire, 1, b(1))).kind, AnswerKind::denied);
    EXPECT_EQ(send(ask(RequestKind::acquire, 3, b(1))).kind, AnswerKind::denied);
    EXPECT_EQ(send(ask(RequestKind::switch_over, 3, b(1), a(1))).kind, AnswerKind::denied);
    EXPECT_EQ(record_->epoch, Epoch(3));
    send(ask(RequestKind::acquire, 3, c(1)));
    EXPECT_EQ(send(ask(RequestKind::pair, 4, c(1), b(1))).kind, AnswerKind::paired);
    EXPECT_EQ(record_->sites, (wire::Sites{kA, kB, kC}));
}

TEST_F(ArbiterSpares, OnlyTheSitesOfTheDeadMembersVouch) {
    a_with_c();
    EXPECT_EQ(send(ask(RequestKind::reclaim, 3, a(2), b(2))).kind, AnswerKind::denied);
    EXPECT_EQ(send(ask(RequestKind::reclaim, 3, b(2), a(2))).kind, AnswerKind::denied);
    EXPECT_EQ(send(ask(RequestKind::reclaim, 3, b(2), c(2))).kind, AnswerKind::denied);
    EXPECT_EQ(send(ask(RequestKind::reclaim, 3, c(2), a(2))).kind, AnswerKind::granted);
    EXPECT_EQ(record_->former, kA);
}

// The grant may have died with its process: then the newest copy is its site's, or its last
// partner's.
TEST_F(ArbiterSpares, OfALoneHolderItsLastPartnersSiteVouches) {
    a_with_c();
    send(ask(RequestKind::acquire, 3, a(1)));
    ASSERT_EQ(record_->former, kC);
    EXPECT_EQ(send(ask(RequestKind::reclaim, 4, b(2), a(2))).kind, AnswerKind::denied);
    EXPECT_EQ(send(ask(RequestKind::reclaim, 4, a(2), b(2))).kind, AnswerKind::denied);
    const std::optional<Record> before = record_;
    EXPECT_EQ(send(ask(RequestKind::reclaim, 4, c(2), a(2))).kind, AnswerKind::granted);
    EXPECT_EQ(record_->former, kA);
    record_ = before;
    EXPECT_EQ(send(ask(RequestKind::reclaim, 4, a(2), c(2))).kind, AnswerKind::granted);
    EXPECT_EQ(record_->former, kC);
    record_ = before;
    EXPECT_EQ(send(ask(RequestKind::reclaim, 4, a(2))).kind, AnswerKind::granted);
    EXPECT_EQ(record_->former, kC);
}

TEST_F(ArbiterSpares, GivingAPairRequestUpKeepsTheLastPartner) {
    a_with_c();
    send(ask(RequestKind::acquire, 3, a(1)));
    send(ask(RequestKind::acquire, 4, a(1)));  // a pair request with B that was given up
    EXPECT_EQ(record_->epoch, Epoch(5));
    EXPECT_EQ(record_->former, kC);
}

TEST(ForcedEpochs, AThirdSiteHasAQuarterOfItsOwnAndMovesNobodyElses) {
    const wire::Sites two = wire::sorted_sites(kA, kB);
    const wire::Sites three{kA, kB, kC};
    const Epoch now(5);
    EXPECT_EQ(forced_epoch(now, two, kA), forced_epoch(now, three, kA));
    EXPECT_EQ(forced_epoch(now, two, kB), forced_epoch(now, three, kB));
    EXPECT_GT(forced_epoch(now, three, kC), forced_epoch(now, three, kB));
    EXPECT_EQ(forced_epoch(now, three, kC).value() >> 32, 1u);
}

TEST_F(ArbiterSpares, AForceWaitsWhileTheOtherMemberIsConnectedNotASpare) {
    a_with_c();
    EXPECT_TRUE(forbids_force(*record_, kC, kA));
    EXPECT_FALSE(forbids_force(*record_, kC, kB));
    EXPECT_FALSE(forbids_force(*record_, kC, kC));
    EXPECT_TRUE(forbids_force(*record_, kB, kA));
    EXPECT_TRUE(forbids_force(*record_, kB, kC));
    send(ask(RequestKind::acquire, 3, a(1)));
    EXPECT_TRUE(forbids_force(*record_, kB, kA));
    EXPECT_FALSE(forbids_force(*record_, kB, kC));
    EXPECT_TRUE(forbids_force(*record_, kA, kB)) << "nobody else in it: as with two sites";
}

TEST_F(ArbiterSpares, AnEnrolmentNamesAllThreeAndMovesNoPlace) {
    Request enrol = ask(RequestKind::create, 9, c(1), a(1));
    enrol.sites = {kA, kB, kC};
    EXPECT_EQ(send(enrol).kind, AnswerKind::paired);
    EXPECT_EQ(record_->sites, enrol.sites);
    EXPECT_EQ(record_->epoch, forced_epoch(Epoch(9), enrol.sites, kC));

    Request alone = ask(RequestKind::create, record_->epoch.value() + 1, c(1), {kA, {}});
    alone.sites = enrol.sites;
    EXPECT_EQ(send(alone).kind, AnswerKind::granted);
    EXPECT_EQ(record_->former, kA);

    Request other = ask(RequestKind::create, record_->epoch.value() + 1, c(1), {kA, {}});
    other.sites = {kA, kD, kC};
    EXPECT_EQ(send(other).reason, RefusalReason::wrong_site);
    other.sites = {kB, kA, kC};
    EXPECT_EQ(send(other).reason, RefusalReason::malformed);
    other.sites = {kA, kB, {}};
    EXPECT_EQ(send(other).reason, RefusalReason::malformed);
}

TEST_F(ArbiterSpares, AnEnrolmentThatNamesTwoOfThreeKeepsTheThird) {
    a_with_c();
    EXPECT_EQ(send(ask(RequestKind::create, 7, a(1), {kB, {}})).kind, AnswerKind::granted);
    EXPECT_EQ(record_->sites, (wire::Sites{kA, kB, kC}));
}

}  // namespace
}  // namespace antipode::tiebreaker
