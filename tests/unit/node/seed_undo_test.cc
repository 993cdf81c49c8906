// What a seed overwrites, and how the disks come back to it: with the process ending anywhere.
#include "replicator/control/seed_undo.h"

#include <chrono>
#include <filesystem>
#include <gtest/gtest.h>

#include "tests/unit/node/site_disk.h"

namespace antipode::control {
namespace {

using namespace std::chrono_literals;

constexpr uint64_t kChunk = SeedChunk::kBytes;
constexpr uint64_t kTail = 512;  // of the last chunk
constexpr uint64_t kChunks = 200;
constexpr uint64_t kSize = kChunks * kChunk + kTail;
constexpr uint64_t kNoLimit = uint64_t{1} << 60;

class SeedUndoTest : public testing::Test {
  protected:
    void SetUp() override {
        for (const char* name : {"root", "data"}) {
            paths_.push_back(directory_.image(name, kSize));
            put(paths_.back(), 0, std::string(100 * kChunk, name[0]));
            put(paths_.back(), kSize - 4, "tail");
            old_.push_back(content(paths_.back()));
        }
        open();
    }
    void TearDown() override { close(); }
    // As the process does when it begins.
    void prepare(uint64_t bytes_max = kNoLimit) {
        std::vector<vmm::DriveConfig> drives;
        for (const std::string& path : paths_) {
            vmm::DriveConfig drive;
            drive.drive_id = "d" + std::to_string(drives.size());
            drive.path_on_host = path;
            drives.push_back(drive);
        }
        auto opened =
            DiskSet::open(drives, Name::literal("web1"), directory_.file(""), core_, metrics_);
        ASSERT_TRUE(opened) << opened.error().to_string();
        disks_ = std::move(*opened);
        fence(next_epoch());
        work_ = std::make_unique<boost::asio::thread_pool>(1);
        SeedUndo::Hooks hooks;
        hooks.on_given_up = [this](const std::string& why) { given_up_ = why; };
        hooks.on_put_back = [this](Epoch back_to, uint64_t blocks) {
            put_back_ = fmt::format("{} blocks of epoch {}", blocks, back_to);
        };
        undo_ = std::make_unique<SeedUndo>(*disks_, core_, *work_, bytes_max, std::move(hooks));
    }
    void open(uint64_t bytes_max = kNoLimit) {
        prepare(bytes_max);
        ASSERT_TRUE(undo_->load());
    }
    void run_until(const std::function<bool()>& over) {
        const auto until = std::chrono::steady_clock::now() + 60s;
        while (!over() && std::chrono::steady_clock::now() < until) {
            core_.restart();
            core_.run_one_for(20ms);
        }
        ASSERT_TRUE(over());
    }
    void close() {
        if (work_) work_->join();
        undo_.reset();
        disks_.reset();
        core_.restart();
        core_.poll();
    }
    void reopen() {
        close();
        open();
    }
    Epoch next_epoch() const { return Epoch(disks_->highest_epoch().value() + 1); }
    void fence(Epoch epoch) {
        ASSERT_TRUE(disks_->fence(epoch));
        disks_->set_epoch(epoch);
    }
    // Chunks of a seed, all at once, as a receiver takes them.
    void seed(uint32_t drive, const std::vector<uint64_t>& chunks, char value) {
        for (const uint64_t chunk : chunks) {
            ++open_;
            undo_->save_then({drive, chunk}, [this, drive, chunk, value](const Result<>& saved) {
                ASSERT_TRUE(saved) << saved.error().to_string();
                const uint64_t offset = chunk * kChunk;
                const uint64_t bytes = std::min(kChunk, kSize - offset);
                disks_->write_chunk(drive, offset, bytes,
                                    std::vector<std::byte>(bytes, std::byte(value)),
                                    [this](const Result<>& written) {
                                        EXPECT_TRUE(written);
                                        --open_;
                                    });
            });
        }
        run_until([this] { return open_ == 0; });
        ASSERT_TRUE(disks_->flush());
    }
    void put_back() {
        const Epoch next = next_epoch();
        fence(next);
        const auto done = undo_->put_back(next);
        ASSERT_TRUE(done) << done.error().to_string();
        core_.restart();
        core_.poll();
    }
    bool old(size_t drive) const { return content(paths_[drive]) == old_[drive]; }
    std::string file(size_t drive) const { return paths_[drive] + ".antipode.undo"; }
    size_t files() const {
        return size_t{std::filesystem::exists(file(0))} + size_t{std::filesystem::exists(file(1))};
    }

    disksync::TemporaryDirectory directory_;
    std::vector<std::string> paths_;
    std::vector<std::string> old_;
    boost::asio::io_context core_;
    Registry metrics_;
    std::unique_ptr<DiskSet> disks_;
    std::unique_ptr<boost::asio::thread_pool> work_;
    std::unique_ptr<SeedUndo> undo_;
    size_t open_ = 0;
    std::string given_up_;
    std::string put_back_;
};

std::vector<uint64_t> chunks(uint64_t first, uint64_t count) {
    std::vector<uint64_t> all;
    for (uint64_t i = 0; i < count; ++i) all.push_back(first + i);
    return all;
}

TEST_F(SeedUndoTest, BothDisksAreAsTheyWere) {
    ASSERT_TRUE(undo_->begin(Epoch(5)));
    seed(0, chunks(0, 150), 'n');         // more than a batch; data, and zeroes
    seed(0, chunks(10, 20), 'm');         // a second round: the first content counts
    seed(1, {3, 99, 100, kChunks}, 'n');  // the last one is shorter
    EXPECT_EQ(undo_->status().blocks, 154u);
    EXPECT_FALSE(old(0) || old(1));
    put_back();
    EXPECT_TRUE(old(0));
    EXPECT_TRUE(old(1));
    EXPECT_EQ(put_back_, "154 blocks of epoch 5");
    EXPECT_EQ(files(), 0u);
    EXPECT_FALSE(undo_->counts());
    put_back();  // nothing
    EXPECT_TRUE(old(0));
}

TEST_F(SeedUndoTest, ItOutlivesTheProcessAndTheNextAttemptGoesOnWithIt) {
    ASSERT_TRUE(undo_->begin(Epoch(5)));
    seed(0, chunks(0, 40), 'n');
    reopen();
    EXPECT_TRUE(undo_->counts());
    EXPECT_EQ(undo_->status().back_to, Epoch(5));
    ASSERT_TRUE(undo_->begin(Epoch(8)));
    seed(0, chunks(20, 60), 'o');
    reopen();
    EXPECT_EQ(undo_->status().blocks, 80u);
    put_back();
    EXPECT_TRUE(old(0));
    EXPECT_EQ(put_back_, "80 blocks of epoch 5");
}

TEST_F(SeedUndoTest, AnEndInTheMiddleOfPuttingBackIsRepeated) {
    ASSERT_TRUE(undo_->begin(Epoch(5)));
    seed(0, chunks(0, 90), 'n');
    seed(1, chunks(0, 90), 'n');
    // What was put back of one disk before the end.
    close();
    put(paths_[0], 0, old_[0].substr(0, 30 * kChunk));
    open();
    put_back();
    EXPECT_TRUE(old(0));
    EXPECT_TRUE(old(1));
}

TEST_F(SeedUndoTest, OneOfTwoFilesCountsForNothing) {
    ASSERT_TRUE(undo_->begin(Epoch(5)));
    seed(0, {1}, 'n');
    seed(1, {1}, 'n');
    const std::string whole = content(paths_[1]);
    close();
    std::filesystem::remove(file(0));  // the end came in the middle of forget()
    open();
    EXPECT_FALSE(undo_->counts());
    EXPECT_EQ(files(), 0u);
    put_back();
    EXPECT_EQ(content(paths_[1]), whole);
}

TEST_F(SeedUndoTest, FilesOfTwoBeginningsCountForNothing) {
    ASSERT_TRUE(undo_->begin(Epoch(5)));
    close();
    std::filesystem::rename(file(0), file(0) + ".kept");
    open();
    ASSERT_TRUE(undo_->begin(Epoch(6)));
    close();
    std::filesystem::rename(file(0) + ".kept", file(0));
    open();
    EXPECT_FALSE(undo_->counts());
    EXPECT_EQ(files(), 0u);
}

TEST_F(SeedUndoTest, AWholeCopyIsNotTakenBack) {
    ASSERT_TRUE(undo_->begin(Epoch(5)));
    seed(0, chunks(0, 40), 'n');
    const std::string copy = content(paths_[0]);
    ASSERT_TRUE(undo_->forget());
    EXPECT_EQ(files(), 0u);
    put_back();
    EXPECT_EQ(content(paths_[0]), copy);
    reopen();
    EXPECT_FALSE(undo_->counts());
}

TEST_F(SeedUndoTest, BeyondItsLimitItIsGivenUpAndTheSeedGoesOn) {
    close();
    open(50 * kChunk);
    ASSERT_TRUE(undo_->begin(Epoch(5)));
    seed(0, chunks(0, 100), 'n');
    seed(1, chunks(0, 100), 'n');
    EXPECT_NE(given_up_.find("seed_undo_max_mib"), std::string::npos) << given_up_;
    EXPECT_FALSE(undo_->counts());
    EXPECT_EQ(files(), 0u);
    put_back();
    EXPECT_EQ(content(paths_[1])[5], 'n');
}

TEST_F(SeedUndoTest, WithALimitOfNothingNothingIsKept) {
    close();
    open(0);
    ASSERT_TRUE(undo_->begin(Epoch(5)));
    seed(0, chunks(0, 10), 'n');
    EXPECT_EQ(files(), 0u);
    EXPECT_EQ(given_up_, "");
}

TEST_F(SeedUndoTest, WhatIsDamagedIsNotPutBack) {
    ASSERT_TRUE(undo_->begin(Epoch(5)));
    seed(0, chunks(0, 100), 'n');
    seed(0, chunks(100, 1), 'n');  // so that the batch before is not the last one
    const std::string copy = content(paths_[0]);
    put(file(0), 3 * kChunk, "rotten");
    put_back();
    EXPECT_NE(given_up_.find("not what was written"), std::string::npos) << given_up_;
    EXPECT_EQ(content(paths_[0]), copy) << "all of it or nothing";
    EXPECT_EQ(files(), 0u);
}

// A file that cannot be removed could count later: no block that it does not hold is overwritten.
TEST_F(SeedUndoTest, NothingIsOverwrittenWhileAFileIsInTheWay) {
    close();
    std::filesystem::create_directory(file(1));
    prepare();
    const auto loaded = undo_->load();
    ASSERT_FALSE(loaded);
    EXPECT_NE(loaded.error().to_string().find(file(1)), std::string::npos);
    EXPECT_FALSE(undo_->begin(Epoch(5)));
    std::string trouble;
    undo_->save_then({0, 1}, [&trouble](const Result<>& saved) {
        trouble = saved ? "saved" : saved.error().to_string();
    });
    run_until([&trouble] { return !trouble.empty(); });
    EXPECT_NE(trouble.find("removing it"), std::string::npos) << trouble;
    std::filesystem::remove(file(1));
    ASSERT_TRUE(undo_->begin(Epoch(5)));
    seed(0, {1}, 'n');
    put_back();
    EXPECT_TRUE(old(0));
}

}  // namespace
}  // namespace antipode::control
