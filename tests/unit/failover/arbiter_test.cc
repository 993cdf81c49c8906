// The arbiter's decisions, one rule a test, and then every sequence of requests to a small depth.
#include "tiebreaker/arbiter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <vector>

#include "tests/unit/failover/arbiter_harness.h"

namespace antipode::tiebreaker {
namespace {

class ArbiterTest : public ArbiterFixture {
  protected:
    void start() { send(ask(RequestKind::create, 0, a(1), b(1))); }
    Epoch epoch() const { return record_->epoch; }
};

TEST_F(ArbiterTest, CreatePairsBothAtEpochOne) {
    const Answer answer = send(ask(RequestKind::create, 0, a(1), b(1)));
    EXPECT_EQ(answer.kind, AnswerKind::paired);
    EXPECT_EQ(answer.record, record_);
    EXPECT_EQ(epoch(), Epoch(1));
    EXPECT_EQ(record_->holder, a(1));
    EXPECT_TRUE(is_member(*record_, b(1)));
}

TEST_F(ArbiterTest, CreateDoesNotReplaceAPair) {
    start();
    EXPECT_EQ(send(ask(RequestKind::create, 0, a(2), b(2))).kind, AnswerKind::denied);
    EXPECT_TRUE(is_member(*record_, a(1)));
}

TEST_F(ArbiterTest, TheFirstAcquireWinsAndTheOtherIsDeniedForEver) {
    start();
    EXPECT_EQ(send(ask(RequestKind::acquire, 1, b(1))).kind, AnswerKind::granted);
    EXPECT_EQ(epoch(), Epoch(2));
    EXPECT_EQ(send(ask(RequestKind::acquire, 1, a(1))).kind, AnswerKind::denied);
    EXPECT_EQ(send(ask(RequestKind::acquire, 2, a(1))).kind, AnswerKind::denied);
    EXPECT_EQ(record_->holder, b(1));
}

TEST_F(ArbiterTest, AnotherIncarnationMayNotAcquire) {
    start();
    EXPECT_EQ(send(ask(RequestKind::acquire, 1, a(2))).kind, AnswerKind::denied);
    EXPECT_EQ(epoch(), Epoch(1));
}

TEST_F(ArbiterTest, TheSoloHolderPairsAndGivesUpByEpochs) {
    start();
    send(ask(RequestKind::acquire, 1, a(1)));
    EXPECT_EQ(send(ask(RequestKind::acquire, 2, a(1))).kind, AnswerKind::granted);
    EXPECT_EQ(epoch(), Epoch(3));
    // The pair request that was given up comes late.
    EXPECT_EQ(send(ask(RequestKind::pair, 2, a(1), b(2))).kind, AnswerKind::granted);
    EXPECT_EQ(epoch(), Epoch(3));
    EXPECT_EQ(send(ask(RequestKind::pair, 3, b(2), a(1))).kind, AnswerKind::denied);
    EXPECT_EQ(send(ask(RequestKind::pair, 3, a(1), b(2))).kind, AnswerKind::paired);
    EXPECT_EQ(epoch(), Epoch(4));
    // It asked for the end of epoch 3 after the pair request had been applied: told where it
    // stands.
    EXPECT_EQ(send(ask(RequestKind::acquire, 3, a(1))).kind, AnswerKind::paired);
    EXPECT_EQ(epoch(), Epoch(4));
}

TEST_F(ArbiterTest, SwitchOverSwapsTheHolder) {
    start();
    EXPECT_EQ(send(ask(RequestKind::switch_over, 1, a(1), b(1))).kind, AnswerKind::paired);
    EXPECT_EQ(epoch(), Epoch(1)) << "the holder cannot take over from the other";
    EXPECT_EQ(send(ask(RequestKind::switch_over, 1, b(1), a(1))).kind, AnswerKind::paired);
    EXPECT_EQ(epoch(), Epoch(2));
    EXPECT_EQ(record_->holder, b(1));
    EXPECT_TRUE(is_member(*record_, a(1)));
}

TEST_F(ArbiterTest, ReclaimNeedsEveryMemberDead) {
    start();
    EXPECT_EQ(send(ask(RequestKind::reclaim, 1, a(2))).kind, AnswerKind::denied);
    EXPECT_EQ(send(ask(RequestKind::reclaim, 1, a(2), b(1))).kind, AnswerKind::denied);
    EXPECT_EQ(send(ask(RequestKind::reclaim, 1, a(1), b(2))).kind, AnswerKind::paired);
    EXPECT_EQ(epoch(), Epoch(1));
    EXPECT_EQ(send(ask(RequestKind::reclaim, 1, a(2), b(2))).kind, AnswerKind::granted);
    EXPECT_EQ(epoch(), Epoch(2));
    // The holder's own site needs nobody; any other site needs the holder's to vouch.
    EXPECT_EQ(send(ask(RequestKind::reclaim, 2, b(2))).kind, AnswerKind::denied);
    EXPECT_EQ(send(ask(RequestKind::reclaim, 2, a(3))).kind, AnswerKind::granted);
    EXPECT_EQ(send(ask(RequestKind::reclaim, 3, b(2), a(4))).kind, AnswerKind::granted);
    EXPECT_EQ(record_->holder, b(2));
}

TEST_F(ArbiterTest, ForceAsksAndReportTells) {
    start();
    send(ask(RequestKind::acquire, 1, b(1)));
    const Epoch forced_a = wire::forced_epoch(Epoch(1), record_->sites, kA);
    const Epoch forced_b = wire::forced_epoch(Epoch(2), record_->sites, kB);
    EXPECT_NE(forced_a, forced_b);
    EXPECT_GT(forced_a, Epoch(0xffffffffu));
    const Answer refused =
        send(ask(RequestKind::force, forced_a.value(), a(1)), {kStore, PeerPresence::connected});
    EXPECT_EQ(refused.kind, AnswerKind::refused);
    EXPECT_EQ(refused.reason, RefusalReason::peer_connected);
    EXPECT_EQ(send(ask(RequestKind::force, forced_a.value(), a(1))).kind, AnswerKind::granted);
    EXPECT_EQ(record_->holder, a(1));
    // The other site was forced as well, while nobody could be asked: the higher epoch stands.
    EXPECT_EQ(send(ask(RequestKind::report_force, forced_b.value(), b(1)),
                   {kStore, PeerPresence::connected})
                  .kind,
              AnswerKind::granted);
    EXPECT_EQ(send(ask(RequestKind::report_force, forced_a.value(), a(1))).kind,
              AnswerKind::denied);
    EXPECT_EQ(epoch(), forced_b);
}

TEST_F(ArbiterTest, ARestoredStoreDecidesNothingUntilEnrolledAgain) {
    start();
    const Context restored{StoreIdentity(78), PeerPresence::absent};
    const Answer old = send(ask(RequestKind::acquire, 1, b(1)), restored);
    EXPECT_EQ(old.reason, RefusalReason::wrong_store);
    Request query = ask(RequestKind::query, 0, b(1));
    query.store = StoreIdentity(0);
    EXPECT_EQ(send(query, restored).reason, RefusalReason::wrong_store);
    Request acquire = ask(RequestKind::acquire, 1, b(1));
    acquire.store = restored.store;
    EXPECT_EQ(send(acquire, restored).reason, RefusalReason::wrong_store);
    Request first = ask(RequestKind::create, 0, a(1), b(1));
    first.store = StoreIdentity(0);
    EXPECT_EQ(send(first, restored).reason, RefusalReason::wrong_store);

    Request enrol = ask(RequestKind::create, 5, a(1), b(1));
    enrol.store = restored.store;
    EXPECT_EQ(send(enrol, restored).kind, AnswerKind::paired);
    EXPECT_EQ(record_->store, restored.store);
    EXPECT_EQ(epoch(), wire::forced_epoch(Epoch(5), record_->sites, kA));
}

TEST_F(ArbiterTest, EnrollingAgainAloneMakesASoloRecord) {
    EXPECT_EQ(send(ask(RequestKind::create, 9, b(3), {kA, Incarnation(0)})).kind,
              AnswerKind::granted);
    EXPECT_EQ(record_->mode, PairMode::solo);
    EXPECT_EQ(epoch(), wire::forced_epoch(Epoch(9), record_->sites, kB));
}

TEST_F(ArbiterTest, ASiteAheadOfTheRecordIsNotServed) {
    start();
    for (const RequestKind kind : {RequestKind::acquire, RequestKind::pair,
                                   RequestKind::switch_over, RequestKind::reclaim}) {
        EXPECT_EQ(send(ask(kind, 2, a(1), b(1))).reason, RefusalReason::record_too_old)
            << to_string(kind);
    }
    EXPECT_EQ(epoch(), Epoch(1));
}

// The store was lost, both sites were forced, and the site that was overruled later had been
// enrolled first. What leads out is another enrolment, and it ends like a force.
TEST_F(ArbiterTest, AnEnrolmentAboveTheRecordIsAForcedEpoch) {
    const Epoch forced_a = wire::forced_epoch(Epoch(4), wire::sorted_sites(kA, kB), kA);
    const Epoch overruling = wire::forced_epoch(forced_a, wire::sorted_sites(kA, kB), kB);
    EXPECT_EQ(send(ask(RequestKind::create, 4, a(1), {kA, Incarnation(0)})).reason,
              RefusalReason::malformed);
    EXPECT_EQ(send(ask(RequestKind::create, 4, a(1), {kB, Incarnation(0)})).kind,
              AnswerKind::granted);
    EXPECT_EQ(epoch(), forced_a);
    // B overruled A, and knows another store: neither its report nor its requests count here.
    Request report = ask(RequestKind::report_force, overruling.value(), b(1));
    report.store = StoreIdentity(5);
    EXPECT_EQ(send(report).reason, RefusalReason::wrong_store);
    Request enrol = ask(RequestKind::create, overruling.value(), b(1), {kA, Incarnation(0)});
    enrol.store = StoreIdentity(5);
    EXPECT_EQ(send(enrol).reason, RefusalReason::wrong_store);
    enrol.store = StoreIdentity(0);
    EXPECT_EQ(send(enrol).reason, RefusalReason::wrong_store)
        << "only a first start knows no store";

    enrol.store = kStore;
    EXPECT_EQ(send(enrol, {kStore, PeerPresence::connected}).kind, AnswerKind::granted);
    EXPECT_EQ(epoch(), wire::forced_epoch(overruling, record_->sites, kB));
    EXPECT_EQ(record_->holder, b(1));
    EXPECT_EQ(send(ask(RequestKind::acquire, forced_a.value(), a(1))).kind, AnswerKind::denied);
    // The same enrolment, once more and late, moves nothing.
    EXPECT_EQ(send(enrol).kind, AnswerKind::granted);
    EXPECT_EQ(send(ask(RequestKind::create, overruling.value(), b(2), a(2))).kind,
              AnswerKind::denied);
    // Neither does one from an epoch below the record's, nor one for other sites.
    const Epoch stands = epoch();
    EXPECT_EQ(send(ask(RequestKind::create, forced_a.value(), a(2), b(2))).kind,
              AnswerKind::denied);
    const Member stranger{Name::literal("site-x"), Incarnation(1)};
    EXPECT_EQ(send(ask(RequestKind::create, stands.value() + 1, b(1), stranger)).reason,
              RefusalReason::wrong_site);
    EXPECT_EQ(epoch(), stands);
}

TEST_F(ArbiterTest, ForgetKeepsTheEpoch) {
    start();
    send(ask(RequestKind::acquire, 1, a(1)));
    EXPECT_EQ(send(ask(RequestKind::forget, 0, {})).kind, AnswerKind::record);
    EXPECT_EQ(send(ask(RequestKind::acquire, 2, a(1))).kind, AnswerKind::denied);
    EXPECT_EQ(send(ask(RequestKind::create, 0, a(7), b(7))).kind, AnswerKind::paired);
    EXPECT_EQ(epoch(), Epoch(3));
}

TEST_F(ArbiterTest, BadRequestsAreRefusedByName) {
    EXPECT_EQ(send(ask(RequestKind::query, 0, a(1))).reason, RefusalReason::unknown_pair);
    EXPECT_EQ(send(ask(RequestKind::create, 0, a(1))).reason, RefusalReason::malformed);
    EXPECT_EQ(send(ask(RequestKind::create, 0, a(1), a(2))).reason, RefusalReason::malformed);
    EXPECT_EQ(send(ask(RequestKind::create, 0, a(1), b(0))).reason, RefusalReason::malformed);
    EXPECT_EQ(send(ask(RequestKind::acquire, 1, a(0))).reason, RefusalReason::malformed);
    EXPECT_EQ(send(ask(RequestKind::pair, 1, a(1))).reason, RefusalReason::malformed);
    EXPECT_FALSE(record_.has_value());
    start();
    const Member stranger{Name::literal("site-x"), Incarnation(1)};
    EXPECT_EQ(send(ask(RequestKind::acquire, 1, stranger)).reason, RefusalReason::wrong_site);
    EXPECT_EQ(send(ask(RequestKind::pair, 1, a(1), stranger)).reason, RefusalReason::wrong_site);
    EXPECT_EQ(send(ask(RequestKind::create, 0, stranger, b(1))).reason, RefusalReason::wrong_site);
}

// A site can name any number. One from which no further epoch could be counted moves nothing: it
// would stop the tiebreaker, with the pairs of everybody else.
TEST_F(ArbiterTest, AnEpochThatNobodyCanReachIsRefused) {
    constexpr uint64_t kLast = uint64_t{1} << 62;
    const auto refuse_all = [&] {
        for (const uint64_t epoch : {kLast + 1, uint64_t{0xffffffff} << 32, ~uint64_t{0}}) {
            for (const RequestKind kind :
                 {RequestKind::query, RequestKind::acquire, RequestKind::pair,
                  RequestKind::switch_over, RequestKind::reclaim, RequestKind::force,
                  RequestKind::report_force, RequestKind::create}) {
                EXPECT_EQ(send(ask(kind, epoch, a(1), b(1))).reason, RefusalReason::malformed)
                    << to_string(kind) << " at " << epoch;
            }
        }
    };
    refuse_all();
    EXPECT_FALSE(record_.has_value());
    start();
    refuse_all();
    EXPECT_EQ(epoch(), Epoch(1));
    EXPECT_EQ(send(ask(RequestKind::acquire, kLast, a(1))).reason, RefusalReason::record_too_old);
    EXPECT_EQ(epoch(), Epoch(1));
}

// One request of a site gone wrong must not use up the numbers that its pair has left.
TEST_F(ArbiterTest, NoRequestTakesAPairFurtherThanAThousandForces) {
    constexpr uint64_t kReach = uint64_t{1} << 42;
    constexpr uint64_t kEnrolMax = uint64_t{1} << 52;
    start();
    for (const RequestKind kind :
         {RequestKind::force, RequestKind::report_force, RequestKind::create}) {
        for (const uint64_t far : {1 + kReach + 1, kEnrolMax, uint64_t{1} << 62}) {
            EXPECT_EQ(send(ask(kind, far, a(1), b(1))).reason, RefusalReason::malformed)
                << to_string(kind) << " at " << far;
        }
    }
    EXPECT_EQ(epoch(), Epoch(1));
    EXPECT_EQ(send(ask(RequestKind::report_force, 1 + kReach, a(1))).kind, AnswerKind::granted);
    EXPECT_EQ(epoch(), Epoch(1 + kReach));
    EXPECT_EQ(send(ask(RequestKind::force, 1 + 2 * kReach, b(1))).kind, AnswerKind::granted);
    EXPECT_EQ(send(ask(RequestKind::create, 1 + 3 * kReach, a(1), b(1))).kind, AnswerKind::paired);
    // Late: it moves nothing, and is answered as it stands.
    EXPECT_EQ(send(ask(RequestKind::report_force, 1 + kReach, a(1))).kind, AnswerKind::paired);

    record_->store = StoreIdentity(kStore.value() + 1);  // of before a restore
    const Record old = *record_;
    EXPECT_EQ(send(ask(RequestKind::create, uint64_t{1} << 62, a(1), b(1))).reason,
              RefusalReason::malformed);
    EXPECT_EQ(record_, old);

    record_.reset();
    EXPECT_EQ(send(ask(RequestKind::create, kEnrolMax + 1, b(1), a(1))).reason,
              RefusalReason::malformed);
    EXPECT_FALSE(record_.has_value());
    EXPECT_EQ(send(ask(RequestKind::create, kEnrolMax, b(1), a(1))).kind, AnswerKind::paired);
    const uint64_t enrolled = epoch().value();
    EXPECT_GT(enrolled, kEnrolMax);
    EXPECT_EQ(send(ask(RequestKind::report_force, enrolled + kReach, a(1))).kind,
              AnswerKind::granted);
}

// All that two sites with two lives each can send: at epochs of grants and of forces.
std::vector<Request> all_requests() {
    const auto sites = wire::sorted_sites(kA, kB);
    const uint64_t forced_a = wire::forced_epoch(Epoch(0), sites, kA).value();
    const uint64_t forced_b = wire::forced_epoch(Epoch(0), sites, kB).value();
    std::vector<Request> all;
    const std::vector<Member> members{a(1), a(2), b(1), b(2)};
    for (const uint64_t epoch :
         {uint64_t{0}, uint64_t{1}, uint64_t{2}, uint64_t{3}, forced_a, forced_b}) {
        for (const Member& me : members) {
            all.push_back(ask(RequestKind::acquire, epoch, me));
            all.push_back(ask(RequestKind::reclaim, epoch, me));
            if (epoch == (me.site == kA ? forced_a : forced_b)) {
                all.push_back(ask(RequestKind::force, epoch, me));
                all.push_back(ask(RequestKind::report_force, epoch, me));
            }
            const Name& peer = me.site == kA ? kB : kA;
            if (epoch > 0) all.push_back(ask(RequestKind::create, epoch, me, {peer, {}}));
            for (const Member& other : members) {
                if (other.site == me.site) continue;
                for (const RequestKind kind : {RequestKind::pair, RequestKind::switch_over,
                                               RequestKind::reclaim, RequestKind::create}) {
                    all.push_back(ask(kind, epoch, me, other));
                }
            }
        }
    }
    return all;
}

// What any decision must keep, whatever the record and the request.
Record checked_step(const Record& before, const Request& request) {
    const Decision decision = decide(before, request, kContext);
    const Record& after = *decision.record;
    EXPECT_EQ(invalid(after), nullptr);
    const bool forces =
        request.kind == RequestKind::force || request.kind == RequestKind::report_force;
    if (decision.changed == Changed::no) {
        EXPECT_EQ(after, before);
    } else if (forces || request.kind == RequestKind::create) {
        // A force, by whatever name, is above all that there was and visible as one.
        EXPECT_GT(after.epoch, before.epoch);
        EXPECT_GT(request.epoch, before.epoch);
        EXPECT_EQ(after.holder, request.me);
        EXPECT_EQ(after.epoch,
                  forces ? request.epoch
                         : wire::forced_epoch(request.epoch, after.sites, request.me.site));
    } else {
        EXPECT_EQ(after.epoch, before.epoch.next());
        EXPECT_EQ(request.epoch, before.epoch);
        EXPECT_TRUE(is_member(after, request.me));
    }
    if (decision.answer.kind == AnswerKind::granted) {
        EXPECT_EQ(after.holder, request.me);
    }
    return after;
}

// Every sequence of three requests: the record stays sound, the epoch rises with every change, so
// that two different members never win the same epoch.
TEST(ArbiterExhaustive, EverySequenceOfThree) {
    const std::vector<Request> all = all_requests();
    size_t checked = 0;
    size_t forced = 0;
    const Record first =
        *decide(std::nullopt, ask(RequestKind::create, 0, a(1), b(1)), kContext).record;
    for (const Request& one : all) {
        const Record second = checked_step(first, one);
        for (const Request& two : all) {
            const Record third = checked_step(second, two);
            if (third == second) continue;
            for (const Request& three : all) {
                const Record last = checked_step(third, three);
                ++checked;
                if (last.epoch.value() > third.epoch.value() + 1) ++forced;
            }
        }
    }
    EXPECT_GT(checked, 100000u);
    EXPECT_GT(forced, 1000u);
}

}  // namespace
}  // namespace antipode::tiebreaker
