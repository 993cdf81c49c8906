// What a process does that finds its site's durable state of an earlier one.
#include <gtest/gtest.h>

#include "common/failover/failover.h"
#include "tests/unit/failover/core_harness.h"

namespace antipode::failover {
namespace {

using wire::AnswerKind;
using wire::RequestKind;

Durable ran(uint64_t live_epoch, DurableRole role, wire::DiskCopy disk) {
    Durable durable;
    durable.epoch = durable.live_epoch = Epoch(live_epoch);
    durable.role = role;
    durable.disk = disk;
    durable.store = kStore;
    return durable;
}

TEST(Restart, APrimaryThatCrashedNeverRunsByItself) {
    Core a(site_a(2), site_b());
    a.start(ran(1, DurableRole::primary, wire::DiskCopy::complete));
    a.answer(a.paired(1, site_a(1), site_b()));
    a.hello(State::paired_backup, 1);
    a.pass(std::chrono::hours(1));
    EXPECT_EQ(a.state(), State::starting);
    EXPECT_EQ(a.asked(RequestKind::acquire), nullptr);
    EXPECT_EQ(a.asked(RequestKind::reclaim), nullptr);
}

TEST(Restart, ASoloSiteReclaimsItsOwnRecordAndBoots) {
    Core a(site_a(2), site_b());
    a.start(ran(3, DurableRole::solo, wire::DiskCopy::complete));
    a.answer(a.solo(3, site_a(1)));
    ASSERT_NE(a.asked(RequestKind::reclaim), nullptr);
    a.answer(a.solo(4, site_a(2)), AnswerKind::granted);
    EXPECT_EQ(a.state(), State::solo);
    EXPECT_EQ(a.last<RunVm>()->from, RunFrom::disk);
}

TEST(Restart, UnflushedWritesAreFlushedFirstIfTheyAreThereAndMissedIfNot) {
    Core kept(site_a(2), site_b());
    kept.start(ran(3, DurableRole::solo, wire::DiskCopy::incomplete), Host::same_boot);
    ASSERT_NE(kept.last<FlushDisk>(), nullptr);
    // The process before may have died while it put back what a seed had overwritten.
    ASSERT_NE(kept.last<FenceDisk>(), nullptr);
    EXPECT_EQ(kept.last<FenceDisk>()->old_copy, FenceDisk::OldCopy::put_back);
    kept.answer(kept.solo(3, site_a(1)));
    EXPECT_EQ(kept.asked(RequestKind::reclaim), nullptr);
    kept.step(DiskFlushed{});
    EXPECT_NE(kept.asked(RequestKind::reclaim), nullptr);

    Core lost(site_a(2), site_b());
    lost.start(ran(3, DurableRole::solo, wire::DiskCopy::incomplete), Host::rebooted);
    EXPECT_EQ(lost.last<FlushDisk>(), nullptr);
    lost.answer(lost.solo(3, site_a(1)));
    EXPECT_EQ(lost.core.durable().role, DurableRole::none);
}

TEST(Restart, AWinnerThatFailedBeforeItsDiskWasFlushedIsFlushedByItsNextProcess) {
    Core b(site_b(), site_a());
    b.to_paired_backup();
    b.log(1, 1, 5);
    b.step(PeerSuspected{});
    b.answer(b.solo(2, site_b()), AnswerKind::granted);
    b.hold_writes = true;
    b.step(LogDrained{LogIndex(5)});
    b.step(VmFailed{"its disk is gone"});
    b.step(VmHalted{});
    EXPECT_NE(b.last<FlushDisk>(), nullptr);
    b.finish_writes();
    ASSERT_EQ(b.state(), State::stopped);
    const Durable left = b.core.durable();
    EXPECT_EQ(left.role, DurableRole::halted);
    EXPECT_EQ(left.disk, wire::DiskCopy::incomplete);

    Core next(site_b(2), site_a());
    next.start(left, Host::same_boot);
    ASSERT_NE(next.last<FlushDisk>(), nullptr);
    next.step(DiskFlushed{});
    EXPECT_EQ(next.core.durable().disk, wire::DiskCopy::complete);
}

TEST(Restart, AFollowerThatHaltedNeverPassesForACompleteCopy) {
    Core b(site_b(), site_a());
    b.to_paired_backup();
    b.log(1, 1, 5);
    b.step(PeerSuspected{});
    b.answer(b.solo(2, site_a()), AnswerKind::denied);
    b.step(VmHalted{});
    ASSERT_EQ(b.state(), State::halted);
    EXPECT_EQ(b.last<FlushDisk>(), nullptr);
    EXPECT_EQ(b.core.durable().role, DurableRole::backup);
    Core next(site_b(2), site_a());
    next.start(b.core.durable(), Host::same_boot);
    EXPECT_EQ(next.last<FlushDisk>(), nullptr);
}

TEST(Restart, AfterBothDiedTheNewestCopyReclaimsWithTheOtherAsWitness) {
    Core a(site_a(2), site_b(2));
    a.start(ran(1, DurableRole::primary, wire::DiskCopy::complete));
    a.answer(a.paired(1, site_a(1), site_b(1)));
    EXPECT_EQ(a.asked(RequestKind::reclaim), nullptr) << "the backup may be alive";
    a.hello(State::starting, 1, 0);
    ASSERT_NE(a.asked(RequestKind::reclaim), nullptr);
    EXPECT_EQ(a.asked(RequestKind::reclaim)->other, site_b(2));

    Core b(site_b(2), site_a(2));
    Durable backup = ran(0, DurableRole::backup, wire::DiskCopy::incomplete);
    backup.epoch = Epoch(1);
    b.start(backup);
    b.answer(b.paired(1, site_a(1), site_b(1)));
    b.hello(State::starting, 1, 1);
    EXPECT_EQ(b.asked(RequestKind::reclaim), nullptr) << "the other copy is newer";
}

TEST(Restart, AWitnessThatDoesNotKnowTheRecordIsNone) {
    Core a(site_a(2), site_b(2));
    a.start(ran(3, DurableRole::primary, wire::DiskCopy::complete));
    a.answer(a.paired(3, site_a(1), site_b(1)));
    a.hello(State::starting, 2, 0);  // an old hello of a process before the member
    EXPECT_EQ(a.asked(RequestKind::reclaim), nullptr);
    a.hello(State::starting, 3, 0);
    EXPECT_NE(a.asked(RequestKind::reclaim), nullptr);
}

TEST(Restart, AReplacedSiteIsNoWitness) {
    Core a(site_a(2), site_b(2));
    a.start(ran(3, DurableRole::primary, wire::DiskCopy::complete));
    a.answer(a.paired(3, site_a(1), site_b(1)));
    a.hello(State::starting, 3, 0, wire::StoreIdentity(0));
    EXPECT_EQ(a.asked(RequestKind::reclaim), nullptr);
}

TEST(Restart, AWinnerThatNeverWentLiveGivesTheVmBackToTheLosersMemory) {
    Core a(site_a(), site_b());
    a.to_paired_primary();
    a.step(PeerSuspected{});
    a.answer(a.solo(2, site_b()), AnswerKind::denied);
    a.step(VmHalted{});
    ASSERT_EQ(a.state(), State::halted);
    a.peer = site_b(2);
    a.step(PeerTrusted{});
    a.step(SessionUp{});
    a.answer(a.solo(2, site_b(1)));
    a.hello(State::starting, 2, 0);
    ASSERT_NE(a.asked(RequestKind::reclaim), nullptr);
    a.answer(a.solo(3, site_a()), AnswerKind::granted);
    EXPECT_EQ(a.state(), State::solo);
    EXPECT_EQ(a.last<RunVm>()->from, RunFrom::memory);
}

TEST(Restart, PoliciesCanWaitForAnOperator) {
    Config config = Core::config(kSiteA, kSiteB);
    config.reclaim = Policy::operator_decides;
    config.rejoin = Policy::operator_decides;
    Core a(site_a(2), site_b());
    a.core = Failover(config);
    a.start(ran(3, DurableRole::solo, wire::DiskCopy::complete));
    a.answer(a.solo(3, site_a(1)));
    EXPECT_EQ(a.asked(RequestKind::reclaim), nullptr);
    EXPECT_EQ(a.core.alarms().count(AlarmCode::operator_needed), 1u);
    a.step(Command{CommandKind::reclaim, {}});
    EXPECT_NE(a.asked(RequestKind::reclaim), nullptr);
    a.hello(State::solo, 4, 4);
    EXPECT_EQ(a.state(), State::starting);
    a.step(Command{CommandKind::rejoin, {}});
    EXPECT_EQ(a.state(), State::rejoining);
}

}  // namespace
}  // namespace antipode::failover
