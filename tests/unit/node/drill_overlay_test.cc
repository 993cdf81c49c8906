// The two sides of a drill's overlay over a drive that changes underneath.
#include "replicator/control/drill_overlay.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <gtest/gtest.h>
#include <random>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

namespace antipode::control {
namespace {

constexpr uint64_t kChunk = DrillOverlay::kChunkBytes;
constexpr uint64_t kDriveBytes = 5 * kChunk + 512;

class DrillOverlayTest : public testing::Test {
  protected:
    DrillOverlayTest() : drive_(kDriveBytes) {
        std::mt19937 random(7);
        for (auto& byte : drive_) byte = static_cast<std::byte>(random());
        before_ = drive_;
        auto made = DrillOverlay::create(folder_ + "/data", kDriveBytes);
        EXPECT_TRUE(made) << made.error().to_string();
        overlay_ = std::move(*made);
    }
    ~DrillOverlayTest() override { std::filesystem::remove_all(folder_); }

    static std::string make_folder() {
        std::string name = std::filesystem::temp_directory_path() / "drill-overlay-XXXXXX";
        EXPECT_NE(mkdtemp(name.data()), nullptr);
        return name;
    }
    DrillOverlay::ReadDrive drive() {
        return [this](uint64_t at, std::span<std::byte> data) -> Result<void> {
            ++drive_reads_;
            if (drive_fails_) return fail(Errc::io, "the drive is gone");
            std::copy_n(drive_.begin() + static_cast<ptrdiff_t>(at), data.size(), data.begin());
            return {};
        };
    }
    // What a write of the backup's VM does.
    void change(uint64_t at, uint64_t bytes, int value) {
        overlay_->save(at, bytes, drive());
        std::fill_n(drive_.begin() + static_cast<ptrdiff_t>(at), bytes,
                    static_cast<std::byte>(value));
    }
    std::vector<std::byte> read(uint64_t at, uint64_t bytes) {
        std::vector<std::byte> data(bytes);
        const auto done = overlay_->read(at, data, drive());
        EXPECT_TRUE(done) << done.error().to_string();
        return data;
    }
    std::vector<std::byte> expected(uint64_t at, uint64_t bytes) const {
        const auto from = before_.begin() + static_cast<ptrdiff_t>(at);
        return {from, from + static_cast<ptrdiff_t>(bytes)};
    }

    const std::string folder_ = make_folder();
    std::vector<std::byte> drive_;
    std::vector<std::byte> before_;
    std::unique_ptr<DrillOverlay> overlay_;
    int drive_reads_ = 0;
    bool drive_fails_ = false;
};

TEST_F(DrillOverlayTest, TheDrillSeesTheDriveAsItWas) {
    change(0, 512, 1);
    change(kChunk - 512, 1024, 2);  // over a border
    change(kDriveBytes - 512, 512, 3);
    EXPECT_EQ(read(0, kDriveBytes), expected(0, kDriveBytes));
    EXPECT_NE(drive_, before_);
    EXPECT_EQ(overlay_->bytes(), 3 * kChunk);
}

TEST_F(DrillOverlayTest, AChunkIsKeptOnce) {
    change(0, 512, 1);
    const int reads = drive_reads_;
    change(512, 4096, 2);
    EXPECT_EQ(drive_reads_, reads);
    EXPECT_EQ(read(0, kChunk), expected(0, kChunk));
}

TEST_F(DrillOverlayTest, TheDrillsWritesAreItsOwn) {
    const std::vector<std::byte> written(1024, std::byte{0xdd});
    change(kChunk, 512, 1);  // the backup first here, the drill first there
    for (const uint64_t at : {kChunk - 512, 3 * kChunk + 512, kDriveBytes - 1024}) {
        ASSERT_TRUE(overlay_->write(at, written, drive()));
        std::copy(written.begin(), written.end(), before_.begin() + static_cast<ptrdiff_t>(at));
    }
    change(3 * kChunk, kChunk, 5);
    EXPECT_EQ(read(0, kDriveBytes), expected(0, kDriveBytes));
    EXPECT_EQ(drive_[3 * kChunk], std::byte{5}) << "the backup's own write is on the drive";
    EXPECT_EQ(std::search(drive_.begin(), drive_.end(), written.begin(), written.end()),
              drive_.end());
}

TEST_F(DrillOverlayTest, WhatIsBehindTheDriveIsRefused) {
    std::vector<std::byte> data(1024);
    EXPECT_FALSE(overlay_->read(kDriveBytes - 512, data, drive()));
    EXPECT_FALSE(overlay_->write(kDriveBytes, data, drive()));
    overlay_->save(kDriveBytes, 512, drive());
    overlay_->save(kDriveBytes - 512, UINT32_MAX, drive());
    EXPECT_FALSE(overlay_->broken());
}

TEST_F(DrillOverlayTest, ADriveThatFailsEndsTheDrillAndNotTheBackup) {
    drive_fails_ = true;
    overlay_->save(0, 512, drive());
    EXPECT_TRUE(overlay_->broken());
    const int reads = drive_reads_;
    overlay_->save(kChunk, 512, drive());
    EXPECT_EQ(drive_reads_, reads) << "nothing is saved for a drill that is over";
}

// The copy is another process: what is kept after the fork is seen there.
TEST_F(DrillOverlayTest, TheBitmapsAreSharedAcrossAFork) {
    std::array<int, 2> ready{};
    ASSERT_EQ(pipe(ready.data()), 0);
    const pid_t child = fork();
    if (child == 0) {
        char go = 0;
        if (::read(ready[0], &go, 1) != 1) _exit(2);
        // The drive of this process is as old as the fork; a read of it would not show the change.
        std::fill(drive_.begin(), drive_.end(), std::byte{0});
        std::vector<std::byte> data(kChunk);
        const bool good = static_cast<bool>(overlay_->read(0, data, drive()));
        _exit(good && data == expected(0, kChunk) ? 0 : 1);
    }
    change(0, 512, 9);
    ASSERT_EQ(::write(ready[1], "g", 1), 1);
    int status = -1;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
    close(ready[0]);
    close(ready[1]);
}

}  // namespace
}  // namespace antipode::control
