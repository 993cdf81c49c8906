// The core's rules, one at a time (docs/PROTOCOL-failover.md); coming back is in restart_test.cc.
#include "common/failover/failover.h"

#include <gtest/gtest.h>

#include "tests/unit/failover/core_harness.h"

namespace antipode::failover {
namespace {

using std::chrono::milliseconds;
using wire::AnswerKind;
using wire::PeerMessageKind;
using wire::RefusalReason;
using wire::RequestKind;

// ---- First start ----

TEST(FirstStart, ThePrimaryCreatesThePairAndRunsOnlyWhenItsEpochIsDurable) {
    Core a(site_a(), site_b());
    a.start();
    a.hello(State::starting, 0);
    EXPECT_EQ(a.asked(RequestKind::create), nullptr);
    a.refuse(RefusalReason::unknown_pair);
    ASSERT_NE(a.asked(RequestKind::create), nullptr);
    EXPECT_EQ(a.asked(RequestKind::create)->other, site_b());
    a.hold_writes = true;
    a.answer(a.paired(1, site_a(), site_b()), AnswerKind::paired);
    EXPECT_EQ(a.state(), State::going_live);
    EXPECT_EQ(a.last<RunVm>(), nullptr);
    EXPECT_EQ(a.said(PeerMessageKind::begin), nullptr);
    EXPECT_EQ(a.last<Persist>()->state.live_epoch, Epoch(1));
    a.finish_writes();
    EXPECT_EQ(a.state(), State::paired_primary);
    EXPECT_EQ(a.last<RunVm>()->from, RunFrom::image);
    EXPECT_EQ(a.said(PeerMessageKind::begin)->epoch, Epoch(1));
    EXPECT_EQ(a.core.gate().mode, GateMode::acked);
    EXPECT_EQ(a.core.gate().up_to, LogIndex(0));
}

TEST(FirstStart, TheBackupNeverCreatesAndBeginsWhenTold) {
    Core b(site_b(), site_a());
    b.start();
    b.hello(State::starting, 0);
    b.refuse(RefusalReason::unknown_pair);
    EXPECT_EQ(b.asked(RequestKind::create), nullptr);
    b.begin(1, 0);
    EXPECT_EQ(b.state(), State::paired_backup);
    EXPECT_EQ(b.last<FollowVm>()->from, FollowFrom::image);
}

TEST(FirstStart, ABackupWhosePrimaryDiedBeforeItBeganLearnsFromTheTiebreaker) {
    Core b(site_b(), site_a());
    b.start();
    b.step(PeerSuspected{});
    b.answer(b.paired(1, site_a(), site_b()));
    EXPECT_EQ(b.state(), State::asking_backup);
    EXPECT_EQ(b.asked(RequestKind::acquire)->epoch, Epoch(1));
}

TEST(FirstStart, ASiteNamesItsStoreOnlyOnceThatIsDurable) {
    Core b(site_b(), site_a());
    b.hold_writes = true;
    b.start();
    b.hello(State::starting, 0);
    b.finish_writes();
    b.hold_writes = true;
    b.refuse(RefusalReason::unknown_pair);
    ASSERT_EQ(b.last<Persist>()->state.store, kStore);
    b.clear();
    b.pass(std::chrono::seconds(2));
    ASSERT_NE(b.said(PeerMessageKind::hello), nullptr);
    EXPECT_EQ(b.said(PeerMessageKind::hello)->store, wire::StoreIdentity(0));
    b.clear();
    b.finish_writes();
    ASSERT_NE(b.said(PeerMessageKind::hello), nullptr) << "told as soon as it is durable";
    EXPECT_EQ(b.said(PeerMessageKind::hello)->store, kStore);
}

TEST(FirstStart, TwoPrimariesInTheConfigurationAreReported) {
    Core a(site_a(), site_b());
    a.start();
    wire::PeerMessage hello = a.from_peer(PeerMessageKind::hello, 0);
    hello.first_role = wire::FirstRole::primary;
    hello.store = kStore;
    a.step(PeerSays{hello});
    a.refuse(RefusalReason::unknown_pair);
    EXPECT_EQ(a.core.alarms().count(AlarmCode::configuration), 1u);
    EXPECT_EQ(a.asked(RequestKind::create), nullptr);
}

// ---- The Output Rule ----

TEST(OutputRule, TheGateFollowsTheAcknowledgementsOfThePartnersPresentProcess) {
    Core a(site_a(), site_b());
    a.to_paired_primary();
    a.ack(1, 5);
    EXPECT_EQ(a.core.gate(), (SetGate{GateMode::acked, LogIndex(5)}));
    a.step(AckReceived{Epoch(1), site_b(9), site_a(), LogIndex(6)});
    a.step(AckReceived{Epoch(1), site_b(), site_a(9), LogIndex(7)});
    a.step(AckReceived{Epoch(2), site_b(), site_a(), LogIndex(8)});
    a.ack(1, 4);
    EXPECT_EQ(a.core.gate().up_to, LogIndex(5));
}

TEST(OutputRule, TheBackupAcknowledgesOnlyAtADurableEpoch) {
    Core b(site_b(), site_a());
    b.start();
    b.hello(State::starting, 0);
    b.hold_writes = true;
    b.begin(1, 0);
    b.log(1, 1, 3);
    ASSERT_NE(b.last<AcceptLog>(), nullptr);
    EXPECT_EQ(b.last<Acknowledge>(), nullptr);
    b.finish_writes();
    ASSERT_NE(b.last<Acknowledge>(), nullptr);
    EXPECT_EQ(b.last<Acknowledge>()->last, LogIndex(3));
}

TEST(OutputRule, TheBackupKeepsTheLogWithoutGapsAndSaysAgainWhatItHas) {
    Core b(site_b(), site_a());
    b.to_paired_backup();
    b.log(1, 1, 3);
    b.log(1, 5, 6);
    EXPECT_EQ(b.core.log_end(), LogIndex(3));
    b.log(1, 2, 4);
    EXPECT_EQ(b.last<AcceptLog>()->first, LogIndex(4));
    b.clear();
    b.log(1, 1, 4);
    EXPECT_EQ(b.last<AcceptLog>(), nullptr);
    EXPECT_EQ(b.last<Acknowledge>()->last, LogIndex(4));
    b.step(LogReceived{Epoch(1), site_a(9), site_b(), LogIndex(5), LogIndex(6)});
    b.step(LogReceived{Epoch(2), site_a(), site_b(), LogIndex(5), LogIndex(6)});
    EXPECT_EQ(b.core.log_end(), LogIndex(4));
}

TEST(OutputRule, ABackupThatAcknowledgesNothingIsGivenUp) {
    Core a(site_a(), site_b());
    a.to_paired_primary();
    a.step(LogProduced{LogIndex(1)});
    a.pass(std::chrono::seconds(4));
    EXPECT_EQ(a.state(), State::paired_primary);
    a.pass(std::chrono::seconds(2));
    EXPECT_EQ(a.state(), State::asking_primary);
    a.hello(State::paired_backup, 1);
    EXPECT_EQ(a.state(), State::asking_primary) << "it is back, but that was not the reason";
}

// ---- Failover ----

TEST(Failover, TheBackupConsumesItsLogFencesItsDiskAndIsDurableBeforeItRuns) {
    Core b(site_b(), site_a());
    b.to_paired_backup();
    b.log(1, 1, 7);
    b.step(PeerSuspected{});
    EXPECT_EQ(b.state(), State::asking_backup);
    b.clear();
    b.log(1, 8, 9);
    EXPECT_EQ(b.last<Acknowledge>(), nullptr);
    EXPECT_EQ(b.last<AcceptLog>(), nullptr);
    b.pass(milliseconds(300));
    ASSERT_NE(b.asked(RequestKind::acquire), nullptr);
    b.hold_writes = true;
    b.answer(b.solo(2, site_b()), AnswerKind::granted);
    EXPECT_NE(b.last<ConsumeLog>(), nullptr);
    EXPECT_EQ(b.last<FenceDisk>(), nullptr) << "the log is still being written to the disk";
    b.step(LogDrained{LogIndex(7)});
    EXPECT_EQ(b.last<FenceDisk>()->epoch, Epoch(2));
    EXPECT_EQ(b.last<RunVm>(), nullptr);
    b.finish_writes();
    EXPECT_EQ(b.state(), State::solo);
    EXPECT_EQ(b.last<RunVm>()->from, RunFrom::log);
    EXPECT_EQ(b.core.gate().mode, GateMode::open);
    EXPECT_NE(b.last<FlushDisk>(), nullptr);
    EXPECT_EQ(b.core.durable().disk, wire::DiskCopy::incomplete);
    b.step(DiskFlushed{});
    EXPECT_EQ(b.core.durable().disk, wire::DiskCopy::complete);
}

TEST(Failover, APrimaryThatLostItsBackupReleasesNothingNewUntilItHasWon) {
    Core a(site_a(), site_b());
    a.to_paired_primary();
    a.ack(1, 5);
    a.step(PeerSuspected{});
    EXPECT_EQ(a.state(), State::asking_primary);
    EXPECT_EQ(a.core.gate(), (SetGate{GateMode::acked, LogIndex(5)}));
    a.ack(1, 6);
    EXPECT_EQ(a.core.gate().up_to, LogIndex(6)) << "what the backup kept before, counts";
    a.hold_writes = true;
    a.answer(a.solo(2, site_a()), AnswerKind::granted);
    EXPECT_NE(a.core.gate().mode, GateMode::open);
    a.finish_writes();
    EXPECT_EQ(a.state(), State::solo);
    EXPECT_EQ(a.core.gate().mode, GateMode::open);
    EXPECT_EQ(a.last<RunVm>(), nullptr) << "it runs already";
}

TEST(Failover, TheLoserHaltsFencesItsDiskAndKeepsItsMemory) {
    Core a(site_a(), site_b());
    a.to_paired_primary();
    a.step(PeerSuspected{});
    a.answer(a.solo(2, site_b()), AnswerKind::denied);
    EXPECT_EQ(a.state(), State::halting);
    EXPECT_EQ(a.core.gate().mode, GateMode::closed);
    ASSERT_NE(a.last<HaltVm>(), nullptr);
    EXPECT_EQ(a.last<FenceDisk>(), nullptr) << "not while the VM may still write";
    a.step(VmHalted{});
    EXPECT_EQ(a.state(), State::halted);
    EXPECT_EQ(a.last<FenceDisk>()->epoch, Epoch(2));
    EXPECT_EQ(a.core.durable().epoch, Epoch(2));
    EXPECT_EQ(a.core.durable().live_epoch, Epoch(1));
    EXPECT_EQ(a.last<DropMemory>(), nullptr);
}

TEST(Failover, APeerThatActsInALaterEpochFencesAtOnce) {
    Core a(site_a(), site_b());
    a.to_paired_primary();
    a.hello(State::solo, 2, 2);
    EXPECT_EQ(a.state(), State::halting);
    EXPECT_EQ(a.core.gate().mode, GateMode::closed);
}

TEST(Failover, WithoutTheTiebreakerNobodyGoesLive) {
    for (const bool backup : {false, true}) {
        Core site(backup ? site_b() : site_a(), backup ? site_a() : site_b());
        backup ? site.to_paired_backup() : site.to_paired_primary();
        site.step(TiebreakerDown{});
        site.step(PeerSuspected{});
        site.step(SessionDown{});
        site.clear();
        for (int i = 0; i < 1000; ++i) site.pass(std::chrono::seconds(10));
        EXPECT_TRUE(site.core.frozen());
        EXPECT_EQ(site.core.alarms().count(AlarmCode::frozen), 1u);
        EXPECT_EQ(site.last<Ask>(), nullptr);
        EXPECT_EQ(site.last<RunVm>(), nullptr);
        EXPECT_NE(site.core.gate().mode, GateMode::open);
    }
}

TEST(Failover, AnUnansweredAcquireIsSentAgain) {
    Core b(site_b(), site_a());
    b.to_paired_backup();
    b.step(PeerSuspected{});
    for (int i = 0; i < 3; ++i) {
        b.clear();
        b.pass(milliseconds(260));
        ASSERT_NE(b.asked(RequestKind::acquire), nullptr) << i;
    }
}

TEST(Failover, WhoHasNotAskedResumesAndWhoHasWaitsForTheTiebreakersWord) {
    Core never(site_b(), site_a());
    never.to_paired_backup();
    never.step(TiebreakerDown{});
    never.step(PeerSuspected{});
    never.step(PeerTrusted{});
    EXPECT_EQ(never.state(), State::paired_backup);

    Core asked(site_b(), site_a());
    asked.to_paired_backup();
    asked.step(PeerSuspected{});
    ASSERT_NE(asked.asked(RequestKind::acquire), nullptr);
    asked.clear();
    asked.step(PeerTrusted{});
    EXPECT_EQ(asked.state(), State::asking_backup);
    asked.pass(milliseconds(300));
    ASSERT_NE(asked.asked(RequestKind::query), nullptr);
    asked.answer(asked.paired(1, site_a(), site_b()));
    EXPECT_EQ(asked.state(), State::paired_backup);
}

TEST(Failover, AGrantThatComesAfterResumingIsHonoured) {
    Core b(site_b(), site_a());
    b.to_paired_backup();
    b.log(1, 1, 2);
    b.answer(b.solo(2, site_b()), AnswerKind::granted);
    EXPECT_EQ(b.state(), State::going_live);
    b.log(1, 3, 3);
    EXPECT_EQ(b.core.log_end(), LogIndex(2));
}

TEST(Failover, SitesThatWereMisledAboutEachOthersProcessFindEachOtherAgain) {
    Core a(site_a(), site_b(2));
    a.to_paired_primary();
    wire::PeerMessage late = a.from_peer(PeerMessageKind::hello, 0);
    late.from = site_b(1);  // a dead process
    late.state = State::starting;
    a.step(PeerSays{late});
    ASSERT_EQ(a.state(), State::asking_primary);
    ASSERT_EQ(a.said(PeerMessageKind::hello)->to, site_b(1)) << "which nobody hears";
    a.clear();
    a.pass(std::chrono::seconds(1));
    ASSERT_NE(a.said(PeerMessageKind::hello), nullptr);
    EXPECT_EQ(a.said(PeerMessageKind::hello)->to, site_b(0)) << "whoever is there hears it";
}

TEST(Failover, ARestartedPartnerIsLostAtOnce) {
    Core a(site_a(), site_b());
    a.to_paired_primary();
    a.peer = site_b(2);
    a.hello(State::starting, 1);
    EXPECT_EQ(a.state(), State::asking_primary);
}

TEST(Failover, AFailedVmHandsOverAndTheProcessRetires) {
    Core a(site_a(), site_b());
    a.to_paired_primary();
    a.step(VmFailed{"disk vda: input/output error"});
    EXPECT_NE(a.said(PeerMessageKind::take_over), nullptr);
    EXPECT_EQ(a.core.gate().mode, GateMode::closed);
    a.step(VmHalted{});
    ASSERT_NE(a.last<Retire>(), nullptr);
    EXPECT_EQ(a.last<Retire>()->reason, "disk vda: input/output error");

    Core b(site_b(), site_a());
    b.to_paired_backup();
    b.step(PeerSays{b.from_peer(PeerMessageKind::take_over, 1)});
    EXPECT_EQ(b.state(), State::asking_backup);
}

// ---- Rule 8 ----

TEST(Store, AnotherStoreIsNotFollowed) {
    Core b(site_b(), site_a());
    b.to_paired_backup();
    b.step(TiebreakerDown{});
    b.step(TiebreakerUp{wire::StoreIdentity(78)});
    b.clear();
    b.step(PeerSuspected{});
    EXPECT_EQ(b.last<Ask>(), nullptr);
    EXPECT_EQ(b.core.alarms().count(AlarmCode::tiebreaker_refused), 1u);
    wire::Record record = b.solo(2, site_b());
    record.store = wire::StoreIdentity(78);
    b.answer(record, AnswerKind::granted);
    EXPECT_EQ(b.state(), State::asking_backup);
}

TEST(Store, ARecordOlderThanOursIsReported) {
    Core a(site_a(), site_b());
    a.to_solo();
    a.pass(std::chrono::seconds(2));
    a.answer(a.paired(1, site_a(), site_b()));
    EXPECT_EQ(a.state(), State::solo);
    EXPECT_EQ(a.core.alarms().count(AlarmCode::tiebreaker_refused), 1u);
}

TEST(Store, EnrollingAgainKeepsThePairTogether) {
    Core a(site_a(), site_b());
    a.to_paired_primary();
    a.step(TiebreakerDown{});
    a.step(TiebreakerUp{wire::StoreIdentity(78)});
    a.step(Command{CommandKind::enrol_again, "wrong"});
    EXPECT_NE(a.last<CommandRefused>(), nullptr);
    a.step(Command{CommandKind::enrol_again, "web1"});
    const wire::Request* request = a.asked(RequestKind::create);
    ASSERT_NE(request, nullptr);
    EXPECT_EQ(request->store, wire::StoreIdentity(78));
    wire::Record record = a.paired(0x140000000, site_a(), site_b());
    record.store = wire::StoreIdentity(78);
    a.answer(record, AnswerKind::paired);
    EXPECT_EQ(a.state(), State::paired_primary);
    EXPECT_EQ(a.core.epoch(), Epoch(0x140000000));
    EXPECT_EQ(a.core.durable().store, wire::StoreIdentity(78));
    EXPECT_EQ(a.said(PeerMessageKind::begin)->previous_epoch, Epoch(1));
}

// A store that was rolled back without anybody noticing keeps its identity. What shows it is that
// its record is older than this site's epoch, and then an enrolment is not refused.
TEST(Store, EnrollingAgainLeadsOutOfAStoreThatHasLostDecisions) {
    Core a(site_a(), site_b());
    a.to_solo();
    a.step(Command{CommandKind::enrol_again, "web1"});
    EXPECT_EQ(a.last<CommandRefused>()->reason, "the tiebreaker's store knows this pair");
    a.clear();
    a.pass(std::chrono::seconds(2));
    a.answer(a.paired(1, site_a(), site_b()));
    a.step(Command{CommandKind::enrol_again, "web1"});
    EXPECT_EQ(a.last<CommandRefused>(), nullptr);
    const wire::Request* request = a.asked(RequestKind::create);
    ASSERT_NE(request, nullptr);
    EXPECT_EQ(request->epoch, Epoch(2));
    EXPECT_EQ(request->store, kStore);
    a.answer(a.solo(0x140000000, site_a()), AnswerKind::granted);
    EXPECT_EQ(a.state(), State::solo);
    EXPECT_EQ(a.core.epoch(), Epoch(0x140000000));
    EXPECT_EQ(a.core.alarms().count(AlarmCode::tiebreaker_refused), 0u);
    a.clear();
    a.step(Command{CommandKind::enrol_again, "web1"});
    EXPECT_NE(a.last<CommandRefused>(), nullptr) << "it knows the pair again";
}

// ---- Operators ----

// `admin forget` of a pair that runs: nothing is granted any more, and somebody has to be told.
TEST(Store, AForgottenPairIsEnrolledAgain) {
    Core a(site_a(), site_b());
    a.to_paired_primary();
    wire::Record forgotten = a.solo(1, Member{});
    forgotten.mode = wire::PairMode::none;
    a.answer(forgotten);
    EXPECT_EQ(a.state(), State::paired_primary);
    EXPECT_EQ(a.core.alarms().count(AlarmCode::tiebreaker_refused), 1u);
    a.clear();
    a.answer(forgotten);
    EXPECT_EQ(a.last<Alarm>(), nullptr) << "it is said once";
    a.step(Command{CommandKind::enrol_again, "web1"});
    EXPECT_EQ(a.last<CommandRefused>(), nullptr);
    ASSERT_NE(a.asked(RequestKind::create), nullptr);
    EXPECT_EQ(a.asked(RequestKind::create)->epoch, Epoch(1));
    a.answer(a.paired(uint64_t{1} << 33, site_a(), site_b()), AnswerKind::paired);
    EXPECT_EQ(a.state(), State::paired_primary);
    EXPECT_EQ(a.core.alarms().count(AlarmCode::tiebreaker_refused), 0u);
    EXPECT_NE(a.said(wire::PeerMessageKind::begin), nullptr);
}

TEST(Unprotect, IsAnEpochAndSeedsNobody) {
    Core a(site_a(), site_b());
    a.to_paired_primary();
    a.step(Command{CommandKind::unprotect, {}});
    EXPECT_EQ(a.state(), State::asking_primary);
    EXPECT_NE(a.core.gate().mode, GateMode::open);
    a.answer(a.solo(2, site_a()), AnswerKind::granted);
    EXPECT_EQ(a.state(), State::unprotected);
    a.hello(State::halted, 2);
    a.step(PeerSays{a.from_peer(PeerMessageKind::join, 2)});
    EXPECT_EQ(a.state(), State::unprotected);
    a.step(Command{CommandKind::protect, {}});
    EXPECT_EQ(a.state(), State::solo);
}

// ---- Seeding ----

TEST(Seeding, TheGateIsClosedBeforeTheCutAndPairIsAskedOnlyWhenAllIsThere) {
    Core a(site_a(), site_b());
    a.to_pairing();
    EXPECT_LT(a.index_of<SetGate>(), a.index_of<CutSeed>());
    EXPECT_EQ(a.core.gate().mode, GateMode::closed);
    const uint64_t attempt = a.last<CutSeed>()->attempt;
    a.step(SeedCut{attempt, LogIndex(10)});
    a.ack(2, 50);
    EXPECT_EQ(a.core.gate().mode, GateMode::closed) << "nothing is loaded yet";
    wire::PeerMessage loaded = a.from_peer(PeerMessageKind::seed_loaded, 2);
    loaded.attempt = attempt + 1;
    loaded.position = LogIndex(10);
    a.step(PeerSays{loaded});
    loaded.attempt = attempt;
    loaded.position = LogIndex(9);
    a.step(PeerSays{loaded});
    EXPECT_EQ(a.asked(RequestKind::pair), nullptr);
    loaded.position = LogIndex(10);
    a.step(PeerSays{loaded});
    EXPECT_EQ(a.core.gate(), (SetGate{GateMode::acked, LogIndex(10)}));
    ASSERT_NE(a.asked(RequestKind::pair), nullptr);
    EXPECT_EQ(a.asked(RequestKind::pair)->other, site_b(2));
    a.answer(a.paired(3, site_a(), site_b(2)), AnswerKind::paired);
    EXPECT_EQ(a.state(), State::paired_primary);
    EXPECT_EQ(a.said(PeerMessageKind::begin)->previous_epoch, Epoch(2));
}

TEST(Seeding, BeforePairWasAskedItIsGivenUpPlainlyAndAfterwardsByAnEpoch) {
    Core plain(site_a(), site_b());
    plain.to_pairing();
    plain.step(PeerSuspected{});
    EXPECT_EQ(plain.state(), State::solo);
    EXPECT_EQ(plain.core.gate().mode, GateMode::open);

    Core asked(site_a(), site_b());
    asked.to_pairing();
    const uint64_t attempt = asked.last<CutSeed>()->attempt;
    asked.step(SeedCut{attempt, LogIndex(10)});
    wire::PeerMessage loaded = asked.from_peer(PeerMessageKind::seed_loaded, 2);
    loaded.attempt = attempt;
    loaded.position = LogIndex(10);
    asked.step(PeerSays{loaded});
    asked.step(PeerSuspected{});
    EXPECT_EQ(asked.state(), State::asking_primary);
    EXPECT_EQ(asked.core.gate().mode, GateMode::acked);
    // The pair request had been applied: told so, it moves on and asks for the end of that epoch.
    asked.clear();
    asked.answer(asked.paired(3, site_a(), site_b(2)), AnswerKind::paired);
    EXPECT_EQ(asked.state(), State::asking_primary);
    asked.pass(milliseconds(300));
    EXPECT_EQ(asked.asked(RequestKind::acquire)->epoch, Epoch(3));
    EXPECT_EQ(asked.core.gate().mode, GateMode::acked);
    asked.answer(asked.solo(4, site_a()), AnswerKind::granted);
    EXPECT_EQ(asked.state(), State::solo);
}

TEST(Seeding, ANewBackupThatLostItsSeederLearnsWhetherItWasPaired) {
    Core b(site_b(), site_a());
    Durable stored;
    stored.epoch = Epoch(2);
    stored.store = kStore;
    b.start(stored);
    b.hello(State::solo, 2, 2);
    ASSERT_EQ(b.state(), State::rejoining);
    ASSERT_NE(b.said(PeerMessageKind::join), nullptr);
    wire::PeerMessage begin = b.from_peer(PeerMessageKind::seed_begin, 2);
    begin.attempt = 4;
    b.step(PeerSays{begin});
    EXPECT_EQ(b.last<ReceiveSeed>()->attempt, 4u);
    b.step(SeedLoaded{4, LogIndex(10)});
    EXPECT_EQ(b.said(PeerMessageKind::seed_loaded)->position, LogIndex(10));
    b.log(2, 11, 12);
    EXPECT_EQ(b.last<Acknowledge>()->last, LogIndex(12));
    b.step(PeerSuspected{});
    EXPECT_EQ(b.state(), State::rejoining) << "not a member as far as it knows";
    b.answer(b.paired(3, site_a(), site_b()));
    EXPECT_EQ(b.state(), State::asking_backup);
    EXPECT_EQ(b.core.log_end(), LogIndex(12));
}

// ---- Switchover ----

TEST(Switchover, RolesSwapWithoutACopy) {
    Core a(site_a(), site_b());
    a.to_paired_primary();
    a.step(Command{CommandKind::switch_over, {}});
    ASSERT_NE(a.last<PauseVm>(), nullptr);
    a.step(VmPaused{LogIndex(20)});
    EXPECT_EQ(a.state(), State::switching_primary);
    EXPECT_EQ(a.said(PeerMessageKind::hand_over)->position, LogIndex(20));
    a.begin(2, 1);
    EXPECT_EQ(a.state(), State::paired_backup);
    EXPECT_EQ(a.last<FollowVm>()->from, FollowFrom::memory);
    EXPECT_EQ(a.core.log_end(), LogIndex(20));

    Core b(site_b(), site_a());
    b.to_paired_backup();
    wire::PeerMessage hand_over = b.from_peer(PeerMessageKind::hand_over, 1);
    hand_over.position = LogIndex(20);
    b.log(1, 1, 19);
    b.step(PeerSays{hand_over});
    EXPECT_EQ(b.state(), State::paired_backup) << "not all of it is here";
    b.log(1, 20, 20);
    EXPECT_EQ(b.state(), State::switching_backup);
    EXPECT_EQ(b.asked(RequestKind::switch_over), nullptr);
    b.step(LogDrained{LogIndex(20)});
    ASSERT_NE(b.asked(RequestKind::switch_over), nullptr);
    b.answer(b.paired(2, site_b(), site_a()), AnswerKind::paired);
    EXPECT_EQ(b.state(), State::paired_primary);
    EXPECT_EQ(b.last<RunVm>()->from, RunFrom::log);
    EXPECT_EQ(b.said(PeerMessageKind::begin)->epoch, Epoch(2));
    EXPECT_EQ(b.core.gate(), (SetGate{GateMode::acked, LogIndex(20)}));
}

TEST(Switchover, UntilTheVmBeginsThereThisCopyIsComplete) {
    Core a(site_a(), site_b());
    a.to_paired_primary();
    a.step(Command{CommandKind::switch_over, {}});
    a.step(VmPaused{LogIndex(20)});
    a.answer(a.paired(2, site_b(), site_a()));
    ASSERT_EQ(a.state(), State::paired_backup);
    EXPECT_EQ(a.core.durable().disk, wire::DiskCopy::complete) << "nothing has been replayed";
    a.hello(State::going_live, 2, 1);
    EXPECT_EQ(a.core.durable().disk, wire::DiskCopy::complete);
    a.hello(State::paired_primary, 2, 2);
    EXPECT_EQ(a.core.durable().disk, wire::DiskCopy::incomplete);
    EXPECT_EQ(a.last<Persist>()->state.disk, wire::DiskCopy::incomplete);
}

TEST(Switchover, AFlushOfBeforeDoesNotVouchForWhatIsReplayedSince) {
    Core b(site_b(), site_a());
    b.to_paired_backup();
    wire::PeerMessage hand_over = b.from_peer(PeerMessageKind::hand_over, 1);
    hand_over.position = LogIndex(0);
    b.step(PeerSays{hand_over});
    b.step(LogDrained{LogIndex(0)});
    b.answer(b.paired(2, site_b(), site_a()), AnswerKind::paired);
    ASSERT_EQ(b.state(), State::paired_primary);
    ASSERT_NE(b.last<FlushDisk>(), nullptr);
    b.hello(State::paired_backup, 2);
    b.step(Command{CommandKind::switch_over, {}});
    b.step(VmPaused{LogIndex(3)});
    b.begin(3, 2);
    ASSERT_EQ(b.state(), State::paired_backup);
    b.step(DiskFlushed{});  // of the time when the VM ran here
    EXPECT_EQ(b.core.durable().disk, wire::DiskCopy::incomplete);
}

TEST(Switchover, TakingItBackNeedsAnEpoch) {
    Core a(site_a(), site_b());
    a.to_paired_primary();
    a.step(Command{CommandKind::switch_over, {}});
    a.step(VmPaused{LogIndex(20)});
    a.pass(std::chrono::seconds(3));
    EXPECT_EQ(a.state(), State::asking_primary);
    a.hello(State::paired_backup, 1);
    EXPECT_EQ(a.state(), State::asking_primary);
    Core won = a;
    won.answer(won.solo(2, site_a()), AnswerKind::granted);
    EXPECT_EQ(won.state(), State::solo);
    EXPECT_EQ(won.last<RunVm>()->from, RunFrom::memory);
    a.answer(a.paired(2, site_b(), site_a()), AnswerKind::paired);
    EXPECT_EQ(a.state(), State::paired_backup) << "the backup had taken over after all";
}

}  // namespace
}  // namespace antipode::failover
