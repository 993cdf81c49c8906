// What a site asks the tiebreaker when nothing is wrong, and what it makes of what it is told
// without having asked.
#include <chrono>

#include "tests/unit/failover/core_harness.h"

namespace antipode::failover {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using wire::AnswerKind;
using wire::Record;
using wire::RequestKind;

// As the client hands on what its watch has brought.
void told(Core& core, const Record& record) {
    wire::Answer answer;
    answer.kind = AnswerKind::record;
    answer.reason = wire::RefusalReason::none;
    answer.request.kind = RequestKind::query;
    answer.request.pair = kPairName;
    answer.request.me = core.me;
    answer.record = record;
    answer.store = record.store;
    core.step(TiebreakerAnswer{answer});
}

// Questions within `time`, each of them answered with `record` at once.
size_t questions(Core& core, Duration time, const Record& record) {
    size_t asked = 0;
    for (const Instant end = core.now + time; core.now < end;) {
        core.clear();
        core.pass(milliseconds(100));
        if (core.asked(RequestKind::query) == nullptr) continue;
        ++asked;
        core.answer(record);
    }
    return asked;
}

TEST(Watch, ASiteThatHasBeenToldSeldomAsks) {
    Core a(site_a(), site_b());
    a.to_paired_primary();
    const Record paired = a.paired(1, site_a(), site_b());
    EXPECT_LE(questions(a, seconds(100), paired), 6u);

    Core b(site_b(), site_a());
    b.to_paired_backup();
    EXPECT_LE(questions(b, seconds(100), b.paired(1, site_a(), site_b())), 6u);

    Core lost(site_b(), site_a());
    lost.to_paired_backup();
    lost.step(PeerSuspected{});
    lost.answer(lost.solo(2, site_a()), AnswerKind::denied);
    lost.step(VmHalted{});
    ASSERT_EQ(lost.state(), State::halted);
    EXPECT_LE(questions(lost, seconds(100), lost.solo(2, site_a())), 7u);
}

TEST(Watch, WithoutAnAnswerItAsksAgainSoon) {
    Core a(site_a(), site_b());
    a.to_paired_primary();
    questions(a, seconds(30), a.paired(1, site_a(), site_b()));
    a.clear();
    a.pass(seconds(20));
    ASSERT_NE(a.asked(RequestKind::query), nullptr);
    for (int i = 0; i < 5; ++i) {
        a.clear();
        a.pass(seconds(1));
        EXPECT_NE(a.asked(RequestKind::query), nullptr) << "lost on the way";
    }
}

TEST(Watch, WhatIsToldMovesASiteWithoutAQuestion) {
    Core b(site_b(), site_a());
    b.to_paired_backup();
    questions(b, seconds(5), b.paired(1, site_a(), site_b()));
    told(b, b.solo(2, site_a()));
    EXPECT_EQ(b.state(), State::halting);
}

TEST(Watch, ALaterEpochThatSomebodySpeaksOfIsAskedAboutAtOnceAndUntilItIsTold) {
    Core b(site_b(), site_a());
    b.to_paired_backup();
    const Record before = b.paired(1, site_a(), site_b());
    questions(b, seconds(30), before);
    b.clear();
    b.step(EpochHeard{site_a(), Epoch(2)});
    ASSERT_NE(b.asked(RequestKind::query), nullptr);
    b.answer(before);
    EXPECT_GE(questions(b, seconds(10), before), 9u);
}

// The watch has told first, and what follows from that is asked already: its answer may be lost.
TEST(Watch, TheAnswerToAQuestionOfBeforePutsNothingElseOff) {
    Durable solo;
    solo.epoch = solo.live_epoch = Epoch(3);
    solo.role = DurableRole::solo;
    solo.disk = wire::DiskCopy::complete;
    solo.store = kStore;
    Core a(site_a(2), site_b());
    a.start(solo);
    const wire::Request* query = a.asked(RequestKind::query);
    ASSERT_NE(query, nullptr);
    const wire::Request question = *query;
    const Record record = a.solo(3, site_a(1));
    told(a, record);
    ASSERT_NE(a.asked(RequestKind::reclaim), nullptr);
    a.step(TiebreakerAnswer{
        {AnswerKind::record, wire::RefusalReason::none, question, record, record.store}});
    a.clear();
    a.pass(milliseconds(300));
    EXPECT_NE(a.asked(RequestKind::reclaim), nullptr);
}

// It may have left before the acquire came: only the answer to a question of later says that the
// epoch still stands.
TEST(Watch, ARecordThatIsToldUnaskedDoesNotLetWhoHasAskedResume) {
    Core b(site_b(), site_a());
    b.to_paired_backup();
    b.step(PeerSuspected{});
    ASSERT_NE(b.asked(RequestKind::acquire), nullptr);
    b.step(PeerTrusted{});
    told(b, b.paired(1, site_a(), site_b()));
    EXPECT_EQ(b.state(), State::asking_backup);
    b.clear();
    b.pass(milliseconds(300));
    ASSERT_NE(b.asked(RequestKind::query), nullptr);
    b.answer(b.paired(1, site_a(), site_b()));
    EXPECT_EQ(b.state(), State::paired_backup);
}

// The machine of the tiebreaker was rolled back beneath its store: the answers say so, and the
// watch, which repeats the old record, does not take it back.
TEST(Watch, AnOldRecordThatIsToldDoesNotHideThatTheStoreHasLostDecisions) {
    Core a(site_a(), site_b());
    a.to_solo();
    a.pass(seconds(1));
    ASSERT_NE(a.asked(RequestKind::query), nullptr);
    const Record old = a.paired(1, site_a(), site_b());
    a.answer(old);
    ASSERT_EQ(a.core.alarms().count(AlarmCode::tiebreaker_refused), 1u);
    told(a, old);
    a.clear();
    a.step(Command{CommandKind::enrol_again, "web1"});
    EXPECT_NE(a.asked(RequestKind::create), nullptr);
}

}  // namespace
}  // namespace antipode::failover
