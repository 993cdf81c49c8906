// The arbiter's decisions, one rule a test, and then every sequence of requests to a small depth.
#include "tiebreaker/arbiter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <vector>

namespace antipode::tiebreaker {
namespace {

using wire::Answer;
using wire::AnswerKind;
using wire::PairMode;
using wire::Record;
using wire::RefusalReason;
using wire::Request;
using wire::RequestKind;
using wire::StoreIdentity;

const Name kPair = Name::literal("web1");
const Name kA = Name::literal("site-a");
const Name kB = Name::literal("site-b");
constexpr StoreIdentity kStore{77};
constexpr Context kContext{kStore, PeerPresence::absent};

Member a(uint64_t incarnation) {
    return {kA, Incarnation(incarnation)};
}
Member b(uint64_t incarnation) {
    return {kB, Incarnation(incarnation)};
}
Request ask(RequestKind kind, uint64_t epoch, Member me, Member other = {}) {
    return {kind, kPair, kStore, Epoch(epoch), me, other};
}

class ArbiterTest : public testing::Test {
  protected:
    Answer send(const Request& request, const Context& context = kContext) {
        const Decision decision = decide(record_, request, context);
        const Decision again = decide(decision.record, request, context);
        EXPECT_EQ(again.record, decision.record) << to_string(request.kind);
        EXPECT_EQ(again.answer.kind, decision.answer.kind) << to_string(request.kind);
        EXPECT_EQ(again.changed, Changed::no);
        EXPECT_EQ(decision.changed == Changed::yes, decision.record != record_);
        record_ = decision.record;
        if (record_) {
            EXPECT_EQ(invalid(*record_), nullptr);
        }
        return decision.answer;
    }
    void start() { send(ask(RequestKind::create, 0, a(1), b(1))); }
    Epoch epoch() const { return record_->epoch; }

    std::optional<Record> record_;
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
    EXPECT_EQ(send(ask(RequestKind::acquire, 2, a(1))).reason, RefusalReason::record_too_old);
    EXPECT_EQ(send(ask(RequestKind::create, 2, a(1), b(1))).reason, RefusalReason::record_too_old);
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

// Every sequence of three requests out of all that two sites with two lives each can send: the
// record stays sound, the epoch rises with every change, and two different members never win the
// same epoch.
TEST(ArbiterExhaustive, EverySequenceOfThree) {
    std::vector<Request> all;
    const std::vector<Member> members{a(1), a(2), b(1), b(2)};
    for (uint64_t epoch = 0; epoch <= 3; ++epoch) {
        for (const Member& me : members) {
            all.push_back(ask(RequestKind::acquire, epoch, me));
            all.push_back(ask(RequestKind::reclaim, epoch, me));
            for (const Member& other : members) {
                if (other.site == me.site) continue;
                for (const RequestKind kind :
                     {RequestKind::pair, RequestKind::switch_over, RequestKind::reclaim}) {
                    all.push_back(ask(kind, epoch, me, other));
                }
            }
        }
    }
    size_t checked = 0;
    const auto step = [&](const Record& before, const Request& request) {
        const Decision decision = decide(before, request, kContext);
        const Record& after = *decision.record;
        EXPECT_EQ(invalid(after), nullptr);
        if (decision.changed == Changed::yes) {
            EXPECT_EQ(after.epoch, before.epoch.next());
            EXPECT_EQ(request.epoch, before.epoch);
            EXPECT_TRUE(is_member(after, request.me));
        } else {
            EXPECT_EQ(after, before);
        }
        if (decision.answer.kind == AnswerKind::granted) {
            EXPECT_EQ(after.holder, request.me);
        }
        ++checked;
        return after;
    };
    const Record first =
        *decide(std::nullopt, ask(RequestKind::create, 0, a(1), b(1)), kContext).record;
    for (const Request& one : all) {
        const Record second = step(first, one);
        for (const Request& two : all) {
            const Record third = step(second, two);
            if (third == second) continue;
            for (const Request& three : all) step(third, three);
        }
    }
    EXPECT_GT(checked, 10000u);
}

}  // namespace
}  // namespace antipode::tiebreaker
