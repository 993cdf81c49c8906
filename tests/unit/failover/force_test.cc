// An operator's force: when it is refused, what it goes through, and what it leaves behind
// (docs/PROTOCOL-failover.md).
#include <gtest/gtest.h>

#include "common/failover/failover.h"
#include "tests/unit/failover/core_harness.h"

namespace antipode::failover {
namespace {

using wire::AnswerKind;
using wire::RefusalReason;
using wire::RequestKind;

TEST(Force, AFrozenPrimaryIsForced) {
    Core a(site_a(), site_b());
    a.to_paired_primary();
    a.step(TiebreakerDown{});
    a.step(PeerSuspected{});
    ASSERT_EQ(a.state(), State::asking_primary);
    a.clear();
    a.step(Command{CommandKind::force, "web1"});
    EXPECT_EQ(a.last<CommandRefused>()->reason, "the peer can be reached") << "the session is up";
    a.step(SessionDown{});
    a.clear();
    a.step(Command{CommandKind::force, "web1"});
    EXPECT_EQ(a.last<CommandRefused>(), nullptr);
    EXPECT_TRUE(a.state() == State::going_live || a.state() == State::forced);
    EXPECT_GT(a.core.epoch(), Epoch(0xffffffffu));
}

TEST(Force, IsRefusedWhileThePeerCanBeReachedOrTheWordIsWrong) {
    Core b(site_b(), site_a());
    b.to_paired_backup();
    b.step(Command{CommandKind::force, "web1"});
    EXPECT_NE(b.last<CommandRefused>(), nullptr) << "it is paired";
    b.step(PeerSuspected{});
    b.clear();
    b.step(Command{CommandKind::force, "web1"});
    EXPECT_EQ(b.last<CommandRefused>()->reason, "the peer can be reached");
    b.step(SessionDown{});
    b.clear();
    b.step(Command{CommandKind::force, "web2"});
    EXPECT_NE(b.last<CommandRefused>(), nullptr);
    EXPECT_EQ(b.state(), State::asking_backup);
}

TEST(Force, GoesThroughTheTiebreakerWhenItAnswers) {
    Core b(site_b(), site_a());
    b.to_paired_backup();
    b.step(PeerSuspected{});
    b.step(SessionDown{});
    b.clear();
    b.step(Command{CommandKind::force, "web1"});
    ASSERT_NE(b.asked(RequestKind::force), nullptr);
    EXPECT_EQ(b.state(), State::asking_backup);
    b.refuse(RefusalReason::peer_connected);
    EXPECT_NE(b.last<CommandRefused>(), nullptr);
    b.step(Command{CommandKind::force, "web1"});
    const Epoch forced = b.asked(RequestKind::force)->epoch;
    b.answer(b.solo(forced.value(), site_b()), AnswerKind::granted);
    b.step(LogDrained{LogIndex(0)});
    EXPECT_EQ(b.state(), State::solo);
    EXPECT_EQ(b.core.epoch(), forced);
}

TEST(Force, ThatTheTiebreakerNeverAnsweredMakesRoomForRejoiningAVmThatRuns) {
    for (const bool comes_back : {false, true}) {
        Core a(site_a(), site_b());
        a.to_paired_primary();
        a.step(PeerSuspected{});
        a.answer(a.solo(2, site_b()), AnswerKind::denied);
        a.step(VmHalted{});
        a.step(SessionDown{});
        ASSERT_EQ(a.state(), State::halted);
        a.step(Command{CommandKind::force, "web1"});
        ASSERT_NE(a.asked(RequestKind::force), nullptr);
        a.step(PeerTrusted{});
        a.step(SessionUp{});
        a.hello(State::solo, 2, 2);
        EXPECT_EQ(a.state(), State::halted) << "the force may yet be decided";
        if (comes_back) {
            a.step(TiebreakerUp{kStore});
        } else {
            a.step(TiebreakerDown{});
        }
        EXPECT_EQ(a.state(), State::rejoining);
    }
}

TEST(Force, WithoutTheTiebreakerItIsToldLater) {
    Core b(site_b(), site_a());
    b.to_forced();
    EXPECT_EQ(b.core.alarms().count(AlarmCode::forced_unconfirmed), 1u);
    b.clear();
    b.step(TiebreakerUp{kStore});
    ASSERT_NE(b.asked(RequestKind::report_force), nullptr);
    EXPECT_EQ(b.asked(RequestKind::report_force)->epoch, b.core.epoch());
    b.answer(b.solo(b.core.epoch().value(), site_b()), AnswerKind::granted);
    EXPECT_EQ(b.state(), State::solo);
}

TEST(Force, AHaltedFollowerReplaysAgainAndIsStoppedWhenItLosesAgain) {
    Core b(site_b(), site_a());
    b.to_paired_backup();
    b.step(PeerSuspected{});
    b.answer(b.solo(2, site_a()), AnswerKind::denied);
    b.step(VmHalted{});
    ASSERT_EQ(b.state(), State::halted);
    b.step(TiebreakerDown{});
    for (int time = 1; time <= 2; ++time) {
        b.step(SessionDown{});
        b.clear();
        b.step(Command{CommandKind::force, "web1"});
        ASSERT_EQ(b.state(), State::going_live) << time;
        EXPECT_NE(b.last<ConsumeLog>(), nullptr) << time;
        // The log has not been consumed when the peer's force turns out to be the later one.
        const Epoch later = wire::forced_epoch(b.core.epoch(), {kSiteA, kSiteB}, kSiteA);
        b.clear();
        b.step(SessionUp{});
        b.hello(State::solo, later.value(), later.value());
        ASSERT_EQ(b.state(), State::halting) << time;
        ASSERT_NE(b.last<HaltVm>(), nullptr) << "its replay writes the disk";
        b.step(VmHalted{});
        ASSERT_EQ(b.state(), State::halted) << time;
        b.step(Command{CommandKind::force, "web1"});
        EXPECT_NE(b.last<CommandRefused>(), nullptr) << "the peer can be reached";
    }
}

// The tiebreaker gave this very epoch to an earlier process of the site, which died before it
// heard.
TEST(Force, InAnEpochThatADeadProcessHasGoesOnInTheNextBlock) {
    for (const bool with_partner : {false, true}) {
        Core b(site_b(), site_a());
        b.to_forced();
        const Epoch first = b.core.epoch();
        b.step(TiebreakerUp{kStore});
        b.clear();
        const Member dead = site_b(9);
        b.answer(
            with_partner ? b.paired(first.value(), dead, site_a()) : b.solo(first.value(), dead),
            AnswerKind::denied);
        ASSERT_EQ(b.state(), State::forced);
        const Epoch next = b.core.epoch();
        EXPECT_EQ(next, wire::forced_epoch(first, {kSiteA, kSiteB}, kSiteB));
        EXPECT_EQ(b.core.durable().live_epoch, next);
        ASSERT_NE(b.asked(RequestKind::report_force), nullptr);
        EXPECT_EQ(b.asked(RequestKind::report_force)->epoch, next);
        b.answer(b.solo(next.value(), site_b()), AnswerKind::granted);
        EXPECT_EQ(b.state(), State::solo);
    }
}

// What the tiebreaker's administrator has forgotten is not brought back by a site's own doing.
TEST(Force, InTheEpochOfAForgottenRecordStands) {
    Core b(site_b(), site_a());
    b.to_forced();
    const Epoch forced = b.core.epoch();
    b.step(TiebreakerUp{kStore});
    wire::Record forgotten = b.solo(forced.value(), Member{});
    forgotten.mode = wire::PairMode::none;
    b.answer(forgotten, AnswerKind::denied);
    EXPECT_EQ(b.state(), State::forced);
    EXPECT_EQ(b.core.epoch(), forced);
}

// A site that was forced before its first start had ended has no store. It follows the record that
// it finds; a force goes to the store that answers, and to win by it is to be enrolled there.
TEST(Force, WithoutAStoreGoesToTheOneThatAnswersAndPinsIt) {
    Core a(site_a(2), site_b());
    Durable stored;
    stored.epoch = stored.live_epoch = Epoch(5);
    stored.role = DurableRole::solo;
    stored.disk = wire::DiskCopy::complete;
    a.start(stored);
    a.step(SessionDown{});
    a.step(PeerSuspected{});
    a.answer(a.solo(9, site_a(1)));
    ASSERT_EQ(a.core.epoch(), Epoch(9));
    EXPECT_EQ(a.asked(RequestKind::reclaim), nullptr) << "it may be a replaced site";
    EXPECT_EQ(a.core.alarms().count(AlarmCode::operator_needed), 1u);
    EXPECT_EQ(a.core.durable().store, wire::StoreIdentity(0)) << "to follow is not to be enrolled";
    a.clear();
    a.step(Command{CommandKind::force, "web1"});
    ASSERT_NE(a.asked(RequestKind::force), nullptr);
    EXPECT_EQ(a.asked(RequestKind::force)->store, kStore);
    const Epoch forced = a.asked(RequestKind::force)->epoch;
    a.answer(a.solo(forced.value(), site_a(2)), AnswerKind::granted);
    EXPECT_EQ(a.state(), State::solo);
    EXPECT_EQ(a.last<Persist>()->state.store, kStore);
    EXPECT_EQ(a.last<Persist>()->state.live_epoch, forced);
}

TEST(Force, TheOverruledSiteDoesNotRejoinByItself) {
    Core a(site_a(), site_b());
    a.to_solo();
    const uint64_t forced = wire::forced_epoch(Epoch(2), {kSiteA, kSiteB}, kSiteB).value();
    a.step(SessionUp{});
    a.step(PeerTrusted{});
    a.hello(State::solo, forced, forced);
    a.step(VmHalted{});
    EXPECT_EQ(a.state(), State::halted);
    EXPECT_EQ(a.core.durable().divergence, Divergence::diverged);
    EXPECT_EQ(a.core.alarms().count(AlarmCode::operator_needed), 1u);
    a.step(Command{CommandKind::rejoin, {}});
    EXPECT_EQ(a.state(), State::rejoining);
}

TEST(Force, OvertakenByAnotherBeforeItWasDecidedMakesRoomForRejoining) {
    Core a(site_a(), site_b());
    a.to_paired_primary();
    a.step(PeerSuspected{});
    a.step(SessionDown{});
    a.step(Command{CommandKind::force, "web1"});
    ASSERT_NE(a.asked(RequestKind::force), nullptr);
    const Epoch first = a.asked(RequestKind::force)->epoch;
    // Its answer is lost, and the other site's operator was faster after all.
    const Epoch later = wire::forced_epoch(first, {kSiteA, kSiteB}, kSiteB);
    a.clear();
    a.step(SessionUp{});
    a.hello(State::solo, later.value(), later.value());
    a.step(VmHalted{});
    EXPECT_NE(a.last<CommandRefused>(), nullptr) << "the operator is told";
    a.step(PeerTrusted{});
    EXPECT_EQ(a.state(), State::rejoining);
}

// The copy takes the place of the memory that a loser keeps.
TEST(Force, OfALoserWhoseCopyHasBegunMayLoseWrites) {
    Core a(site_a(), site_b());
    a.to_being_seeded(1);
    a.step(MemoryLost{});
    a.clear();
    a.step(PeerSuspected{});
    a.step(SessionDown{});
    ASSERT_EQ(a.state(), State::halted);
    EXPECT_NE(a.last<AbortSeed>(), nullptr)
        << "a copy that is whole after all would replace the VM";
    a.step(TiebreakerDown{});
    a.step(Command{CommandKind::force, "web1"});
    ASSERT_NE(a.last<CommandRefused>(), nullptr);
    EXPECT_EQ(a.last<CommandRefused>()->reason, "this site's copy may lack acknowledged writes");
    a.hold_writes = true;
    a.step(Command{CommandKind::force, "web1", Loss::accepted});
    ASSERT_NE(a.last<FenceDisk>(), nullptr);
    EXPECT_EQ(a.last<FenceDisk>()->old_copy, FenceDisk::OldCopy::put_back);
    EXPECT_EQ(a.last<RunVm>(), nullptr) << "what was on the disk before the copy is not back yet";
    a.finish_writes();
    EXPECT_EQ(a.state(), State::forced);
    ASSERT_NE(a.last<RunVm>(), nullptr);
    EXPECT_EQ(a.last<RunVm>()->from, RunFrom::disk);
}

// A copy that comes after all, when its attempt was given up: it has replaced what stood here.
TEST(Force, AfterACopyThatWasGivenUpBootsFromTheDisk) {
    Core a(site_a(), site_b());
    a.to_being_seeded(1);
    a.step(SessionDown{});
    a.step(SessionUp{});  // it will join again
    a.clear();
    a.step(SeedLoaded{1, LogIndex(7)});
    ASSERT_NE(a.last<DropMemory>(), nullptr);
    a.step(SessionDown{});
    a.step(PeerSuspected{});
    ASSERT_EQ(a.state(), State::halted);
    a.step(TiebreakerDown{});
    a.step(Command{CommandKind::force, "web1", Loss::accepted});
    ASSERT_NE(a.last<RunVm>(), nullptr);
    EXPECT_EQ(a.last<RunVm>()->from, RunFrom::disk);
}

}  // namespace
}  // namespace antipode::failover
