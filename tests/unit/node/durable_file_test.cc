#include "replicator/control/durable_file.h"

#include <fcntl.h>
#include <filesystem>
#include <gtest/gtest.h>
#include <unistd.h>

namespace antipode::control {
namespace {

class DurableFileTest : public testing::Test {
  protected:
    void SetUp() override {
        directory_ = std::filesystem::temp_directory_path() /
                     ("durable_file_test." + std::to_string(getpid()) + "." +
                      testing::UnitTest::GetInstance()->current_test_info()->name());
        std::filesystem::remove_all(directory_);
    }
    void TearDown() override { std::filesystem::remove_all(directory_); }

    static DurableRecord record_of(uint64_t epoch) {
        DurableRecord record;
        record.state.epoch = Epoch(epoch);
        record.state.live_epoch = Epoch(epoch - 1);
        record.state.role = failover::DurableRole::primary;
        record.state.disk = wire::DiskCopy::complete;
        record.state.store = wire::StoreIdentity(77);
        record.boot_id = "a-boot";
        return record;
    }
    std::string path() const { return directory_ / "failover.state"; }
    void damage(off_t at) const {
        const int fd = open(path().c_str(), O_RDWR);
        char byte = 0;
        ASSERT_EQ(pread(fd, &byte, 1, at), 1);
        byte = static_cast<char>(byte ^ 1);
        ASSERT_EQ(pwrite(fd, &byte, 1, at), 1);
        close(fd);
    }

    std::filesystem::path directory_;
};

TEST_F(DurableFileTest, KeepsTheLastRecord) {
    {
        auto file = DurableFile::open(directory_);
        ASSERT_TRUE(file.has_value()) << file.error().to_string();
        EXPECT_FALSE(file->loaded().has_value());
        for (uint64_t epoch = 1; epoch <= 5; ++epoch) {
            ASSERT_TRUE(file->store(record_of(epoch)).has_value());
        }
    }
    const auto again = DurableFile::open(directory_);
    ASSERT_TRUE(again.has_value());
    ASSERT_TRUE(again->loaded().has_value());
    EXPECT_EQ(again->loaded()->state, record_of(5).state);
    EXPECT_EQ(again->loaded()->boot_id, "a-boot");
}

TEST_F(DurableFileTest, ATornWriteLeavesTheOneBefore) {
    {
        auto file = DurableFile::open(directory_);
        ASSERT_TRUE(file->store(record_of(1)).has_value());
        ASSERT_TRUE(file->store(record_of(2)).has_value());
    }
    damage(4096 + 24);  // the second record's epoch
    const auto again = DurableFile::open(directory_);
    ASSERT_TRUE(again.has_value()) << again.error().to_string();
    EXPECT_EQ(again->loaded()->state.epoch, Epoch(1));
}

TEST_F(DurableFileTest, RefusesWhenBothCopiesAreBad) {
    {
        auto file = DurableFile::open(directory_);
        ASSERT_TRUE(file->store(record_of(1)).has_value());
        ASSERT_TRUE(file->store(record_of(2)).has_value());
    }
    damage(24);
    damage(4096 + 24);
    const auto again = DurableFile::open(directory_);
    ASSERT_FALSE(again.has_value());
    EXPECT_EQ(again.error().code, Errc::corrupt);
    EXPECT_NE(again.error().context.find("failover.state"), std::string::npos);
}

TEST_F(DurableFileTest, OneProcessAtATime) {
    const auto file = DurableFile::open(directory_);
    ASSERT_TRUE(file.has_value());
    const auto second = DurableFile::open(directory_);
    ASSERT_FALSE(second.has_value());
    EXPECT_EQ(second.error().code, Errc::busy);
}

}  // namespace
}  // namespace antipode::control
