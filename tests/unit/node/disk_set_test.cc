// DiskSet: which requests of a VM reach the disk, and when.
#include "replicator/control/disk_set.h"

#include <chrono>
#include <fstream>
#include <gtest/gtest.h>
#include <thread>

#include "tests/unit/disksync/test_disk.h"

namespace antipode::control {
namespace {

using namespace std::chrono_literals;

constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr size_t kBlock = 4096;

class DiskSetTest : public testing::Test {
  protected:
    void SetUp() override {
        path_ = directory_.image("disk.img", kMiB);
        vmm::DriveConfig drive;
        drive.drive_id = "rootfs";
        drive.path_on_host = path_;
        auto opened =
            DiskSet::open({drive}, Name::literal("web1"), directory_.file(""), core_, metrics_);
        ASSERT_TRUE(opened) << opened.error().to_string();
        disks_ = std::move(*opened);
        guard_.restart(MonotonicClock::now());
        disks_->set_stall_guard(guard_);
        begin(Epoch(1));
    }
    void begin(Epoch epoch) {
        ASSERT_TRUE(disks_->fence(epoch));
        disks_->set_epoch(epoch);
    }
    void write(uint64_t block, uint8_t value) {
        vmm::BlockRequest request;
        request.number = ++number_;
        request.operation = vmm::BlockOperation::write;
        request.offset_bytes = block * kBlock;
        request.length_bytes = kBlock;
        request.data.assign(kBlock, std::byte{value});
        disks_->submit(std::move(request));
    }
    bool wait_for_written(size_t blocks) {
        const auto until = std::chrono::steady_clock::now() + 20s;
        while (disks_->status()[0].written_bytes < blocks * kBlock) {
            if (std::chrono::steady_clock::now() > until) return false;
            std::this_thread::sleep_for(1ms);
        }
        return true;
    }
    // Of the first byte of a block, once everything has ended.
    int on_disk(uint64_t block) {
        disks_->close();
        std::ifstream file(path_, std::ios::binary);
        file.seekg(static_cast<std::streamoff>(block * kBlock));
        return file.get();
    }
    void stand_still() { guard_.restart(MonotonicClock::now() - 2 * kGap); }

    static constexpr Duration kGap = 1h;  // so that a slow machine raises no doubt of its own
    disksync::TemporaryDirectory directory_;
    std::string path_;
    boost::asio::io_context core_;
    Registry metrics_;
    StallGuard guard_{MonotonicClock::now(), kGap};
    std::unique_ptr<DiskSet> disks_;
    uint64_t number_ = 0;
};

TEST_F(DiskSetTest, ASiteThatStoodStillWritesOnlyAfterAProof) {
    stand_still();
    write(0, 1);
    guard_.turn(MonotonicClock::now());
    write(1, 2);
    disks_->retry_parked();
    ASSERT_TRUE(disks_->flush());
    EXPECT_EQ(disks_->status()[0].written_bytes, 0u);
    ASSERT_TRUE(guard_.proved(MonotonicClock::now()));
    disks_->retry_parked();
    ASSERT_TRUE(wait_for_written(2));
    EXPECT_EQ(on_disk(0), 1);
    EXPECT_EQ(on_disk(1), 2);
}

TEST_F(DiskSetTest, WhatASiteThatHasLostWantedToWriteIsForgottenWithItsVm) {
    stand_still();
    write(0, 1);
    guard_.turn(MonotonicClock::now());
    disks_->attach(nullptr);  // denied: its VM is given up
    ASSERT_TRUE(guard_.proved(MonotonicClock::now()));
    begin(Epoch(5));  // it is the new backup
    write(1, 2);
    ASSERT_TRUE(wait_for_written(1));
    EXPECT_EQ(on_disk(0), 0);
    EXPECT_EQ(on_disk(1), 2);
}

TEST_F(DiskSetTest, AWriteOfASupersededEpochIsForgottenWithItsVm) {
    ASSERT_TRUE(disks_->fence(Epoch(4)));  // the other site has won
    write(0, 1);
    ASSERT_TRUE(disks_->flush());
    EXPECT_EQ(disks_->status()[0].written_bytes, 0u);
    disks_->attach(nullptr);
    begin(Epoch(5));
    write(1, 2);
    ASSERT_TRUE(wait_for_written(1));
    EXPECT_EQ(on_disk(0), 0);
}

TEST_F(DiskSetTest, AWriteThatCameWhileItsEpochWasRecordedGoesOn) {
    ASSERT_TRUE(disks_->fence(Epoch(2)));
    write(0, 1);
    ASSERT_TRUE(disks_->flush());
    EXPECT_EQ(disks_->status()[0].written_bytes, 0u);
    disks_->set_epoch(Epoch(2));
    ASSERT_TRUE(wait_for_written(1));
    EXPECT_EQ(on_disk(0), 1);
}

TEST_F(DiskSetTest, AHaltedVmWritesNothingUntilItGoesOn) {
    disks_->hold();
    write(0, 1);
    disks_->retry_parked();  // a doubt ends meanwhile
    begin(Epoch(2));         // and the winner's epoch is recorded
    ASSERT_TRUE(disks_->flush());
    EXPECT_EQ(disks_->status()[0].written_bytes, 0u);
    disks_->release();  // an operator lets it go on after all
    ASSERT_TRUE(wait_for_written(1));
    EXPECT_EQ(on_disk(0), 1);
}

TEST_F(DiskSetTest, NothingThatWasQueuedIsLostOrDoneTwiceByAHalt) {
    constexpr size_t kWrites = 250;
    for (size_t i = 0; i < kWrites; ++i) write(i, static_cast<uint8_t>(1 + i % 200));
    disks_->hold();  // somewhere among them
    bool idle = false;
    disks_->when_idle([&] { idle = true; });
    const auto until = std::chrono::steady_clock::now() + 20s;
    while (!idle && std::chrono::steady_clock::now() < until) {
        core_.restart();
        core_.run_one_for(20ms);
    }
    ASSERT_TRUE(idle);
    EXPECT_EQ(disks_->status()[0].error, "");
    disks_->release();
    ASSERT_TRUE(wait_for_written(kWrites));
    EXPECT_EQ(disks_->status()[0].written_bytes, kWrites * kBlock);
    disks_->close();
    std::ifstream file(path_, std::ios::binary);
    for (size_t i = 0; i < kWrites; ++i) {
        file.seekg(static_cast<std::streamoff>(i * kBlock));
        EXPECT_EQ(file.get(), static_cast<int>(1 + i % 200)) << i;
    }
}

TEST_F(DiskSetTest, WhatIsUnderWayWhenTrackingBeginsCountsAsWrittenLater) {
    std::vector<std::pair<uint32_t, uint64_t>> taken;
    for (size_t attempt = 0; attempt < 50 && taken.empty(); ++attempt) {
        for (uint64_t i = 0; i < 200; ++i) write(i, 1);
        disks_->start_tracking();  // unless the disk has done them all by now
        taken = disks_->take_written(64 << 10);
        disks_->stop_tracking();
        ASSERT_TRUE(wait_for_written((attempt + 1) * 200));
    }
    EXPECT_FALSE(taken.empty());
}

TEST_F(DiskSetTest, ReadsWaitForNobody) {
    stand_still();
    vmm::BlockRequest request;
    request.operation = vmm::BlockOperation::read;
    request.length_bytes = kBlock;
    request.data.resize(kBlock);
    disks_->submit(std::move(request));
    const auto until = std::chrono::steady_clock::now() + 20s;
    while (disks_->status()[0].read_bytes == 0 && std::chrono::steady_clock::now() < until) {
        std::this_thread::sleep_for(1ms);
    }
    EXPECT_EQ(disks_->status()[0].read_bytes, kBlock);
}

}  // namespace
}  // namespace antipode::control
