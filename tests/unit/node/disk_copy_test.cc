// What a seed sends of the disks: towards a site whose disks hold some of it already, beside a
// guest that writes, and into a file.
#include "replicator/control/disk_copy.h"

#include <chrono>
#include <gtest/gtest.h>

#include "replicator/control/disk_digester.h"
#include "tests/unit/node/site_disk.h"

namespace antipode::control {
namespace {

using namespace std::chrono_literals;

constexpr uint64_t kChunk = SeedChunk::kBytes;
constexpr uint64_t kTail = 512;  // of the last chunk
constexpr uint64_t kSize = 40 * kChunk + kTail;

class DiskCopyTest : public testing::Test {
  protected:
    // After the contents of both are as the test wants them.
    void open(DiskCopy::FirstPass first_pass = DiskCopy::FirstPass::what_differs) {
        primary_.open(core_);
        backup_.open(core_);
        copy_ = std::make_unique<DiskCopy>(
            7, *primary_.disks, first_pass,
            DiskCopy::Hooks{[] {}, [this](const std::string& text) { problem_ = text; }});
        digester_ = std::make_unique<DiskDigester>(
            *backup_.disks,
            DiskDigester::Hooks{[this](SeedDigests answer) {
                                    const auto back = decode_seed_digests(encode(answer));
                                    ASSERT_TRUE(back);
                                    copy_->answer(*back);
                                },
                                [this](const std::string& text) { problem_ = text; }});
        copy_->begin();
    }
    void deliver(const SeedPiece& piece) {
        if (const auto* ask = std::get_if<SeedAsk>(&piece)) {
            ++asks_;
            return digester_->ask(*ask);
        }
        const auto& chunk = std::get<SeedChunk>(piece);
        sent_.push_back(chunk.offset_bytes / kChunk);
        ++writing_;
        backup_.disks->write_chunk(0, chunk.offset_bytes, chunk.length_bytes, chunk.bytes,
                                   [this](const Result<void>& written) {
                                       --writing_;
                                       EXPECT_TRUE(written) << written.error().to_string();
                                   });
    }
    // Until everything that is known to differ has been written.
    void run() {
        const auto until = std::chrono::steady_clock::now() + 60s;
        while (problem_.empty()) {
            copy_->read(DiskCopy::kReadsMax);
            while (const SeedPiece* piece = copy_->front()) {
                deliver(*piece);
                copy_->pop();
            }
            if (copy_->all_sent() && writing_ == 0) return;
            core_.restart();
            core_.run_one_for(20ms);
            ASSERT_LT(std::chrono::steady_clock::now(), until);
        }
    }
    void expect_equal_disks() {
        copy_.reset();
        ASSERT_TRUE(primary_.disks->flush());
        ASSERT_TRUE(backup_.disks->flush());
        EXPECT_TRUE(content(primary_.path) == content(backup_.path));
    }

    disksync::TemporaryDirectory directory_;
    boost::asio::io_context core_;
    Site primary_{directory_, "a.img", kSize};
    Site backup_{directory_, "b.img", kSize};
    std::unique_ptr<DiskCopy> copy_;
    std::unique_ptr<DiskDigester> digester_;
    std::vector<uint64_t> sent_;
    size_t asks_ = 0;
    size_t writing_ = 0;
    std::string problem_;
};

TEST_F(DiskCopyTest, NothingIsSentOfWhatTheOtherSiteHolds) {
    for (Site* site : {&primary_, &backup_}) {
        put(site->path, 3 * kChunk, std::string(5 * kChunk, 'x'));
        put(site->path, kSize - 4, "tail");
    }
    open();
    run();
    EXPECT_EQ(problem_, "");
    EXPECT_TRUE(sent_.empty());
    EXPECT_EQ(asks_, 1u);
    EXPECT_EQ(copy_->figures().equal_bytes, kSize);
    EXPECT_EQ(copy_->figures().sent_bytes, 0u);
}

TEST_F(DiskCopyTest, OnlyWhatDiffersIsSent) {
    for (Site* site : {&primary_, &backup_}) put(site->path, 0, std::string(20 * kChunk, 'x'));
    put(primary_.path, 2 * kChunk + 100, "y");                  // one byte
    put(primary_.path, 9 * kChunk, std::string(kChunk, '\0'));  // zeroes where the other has data
    put(backup_.path, 30 * kChunk, "z");                        // data where this one has zeroes
    put(primary_.path, kSize - 1, "t");                         // in the chunk that is shorter
    open();
    run();
    EXPECT_EQ(problem_, "");
    std::sort(sent_.begin(), sent_.end());
    EXPECT_EQ(sent_, (std::vector<uint64_t>{2, 9, 30, 40}));
    EXPECT_EQ(copy_->figures().sent_bytes, 3 * kChunk + kTail);
    EXPECT_EQ(copy_->figures().equal_bytes, kSize - 3 * kChunk - kTail);
    expect_equal_disks();
}

TEST_F(DiskCopyTest, WhatTheGuestWritesMeanwhileIsSentInTheNextRound) {
    for (Site* site : {&primary_, &backup_}) put(site->path, 0, std::string(20 * kChunk, 'x'));
    open();
    // More than the store takes at once: the copy waits for its turn, and nothing of it is lost.
    for (uint64_t i = 0; i < 600; ++i) primary_.write((i % 30) * kChunk + 4096 * (i / 30), 'g');
    run();
    copy_->collect();
    EXPECT_GE(copy_->unread(), 0u);
    run();
    ASSERT_TRUE(primary_.disks->flush());  // what was in flight at collect() has landed
    copy_->collect();
    run();
    EXPECT_EQ(problem_, "");
    for (uint64_t chunk = 0; chunk < 30; ++chunk) {
        EXPECT_NE(std::find(sent_.begin(), sent_.end(), chunk), sent_.end()) << chunk;
    }
    expect_equal_disks();
}

// Two rounds of a copy that come together, after a silence of the line: the first of them must not
// be what stands there in the end.
TEST_F(DiskCopyTest, ChunksForOnePlaceLandInTheirOrder) {
    open();
    for (int round = 0; round < 40; ++round) {
        std::vector<uint8_t> last(8);
        for (int i = 0; i < 64; ++i) {
            const uint64_t place = static_cast<uint64_t>(i) % last.size();
            last[place] = static_cast<uint8_t>(1 + (round * 64 + i) % 250);
            ++writing_;
            backup_.disks->write_chunk(0, place * kChunk, kChunk,
                                       std::vector<std::byte>(kChunk, std::byte{last[place]}),
                                       [this](const Result<void>& done) {
                                           EXPECT_TRUE(done) << done.error().to_string();
                                           --writing_;
                                       });
        }
        while (writing_ > 0) {
            core_.restart();
            core_.run_one_for(20ms);
        }
        const std::string bytes = content(backup_.path);
        for (size_t place = 0; place < last.size(); ++place) {
            const std::string wanted(kChunk, static_cast<char>(last[place]));
            ASSERT_TRUE(bytes.compare(place * kChunk, kChunk, wanted) == 0)
                << "round " << round << " place " << place;
        }
    }
}

// So does what is read for them: an old piece does not follow a new one.
TEST_F(DiskCopyTest, ReadsOfOnePlaceEndInTheirOrder) {
    open();
    std::vector<int> ended;
    for (int i = 0; i < 200; ++i) {
        ++writing_;
        primary_.disks->read_chunk(0, static_cast<uint64_t>(i % 3) * 4096, kChunk,
                                   [this, &ended, i](const Result<std::vector<std::byte>>& done) {
                                       EXPECT_TRUE(done);
                                       ended.push_back(i);
                                       --writing_;
                                   });
    }
    while (writing_ > 0) {
        core_.restart();
        core_.run_one_for(20ms);
    }
    EXPECT_TRUE(std::is_sorted(ended.begin(), ended.end()));
}

TEST_F(DiskCopyTest, AFileGetsEverythingAndIsAskedNothing) {
    put(primary_.path, 5 * kChunk, "data");
    open(DiskCopy::FirstPass::all);
    run();
    EXPECT_EQ(asks_, 0u);
    EXPECT_EQ(sent_.size(), 41u);
    EXPECT_EQ(copy_->figures().sent_bytes, kSize);
    expect_equal_disks();
}

TEST_F(DiskCopyTest, AnAnswerThatFitsNoQuestionIsAnError) {
    open();
    copy_->answer({7, 0, 0, 1, std::vector<ChunkDigest>(41)});
    EXPECT_EQ(problem_, "the new backup names contents that nobody asked about");

    problem_.clear();
    copy_ = std::make_unique<DiskCopy>(
        7, *primary_.disks, DiskCopy::FirstPass::what_differs,
        DiskCopy::Hooks{[] {}, [this](const std::string& text) { problem_ = text; }});
    copy_->begin();
    copy_->read(DiskCopy::kReadsMax);
    ASSERT_TRUE(std::holds_alternative<SeedAsk>(*copy_->front()));
    copy_->answer({7, 0, 1, 1, std::vector<ChunkDigest>(40)});
    EXPECT_EQ(problem_,
              "the new backup names the contents of 40 chunks from 1 on of drive 0, asked were 41 "
              "from 0 on of drive 0");
}

TEST_F(DiskCopyTest, QuestionsBeyondTheDiskOrWithoutEndAreRefused) {
    open();
    digester_->ask({7, 0, 40, 2});
    EXPECT_EQ(problem_, "the primary's disk is larger than this site's");

    problem_.clear();
    digester_ = std::make_unique<DiskDigester>(
        *backup_.disks, DiskDigester::Hooks{[](const SeedDigests&) {},
                                            [this](const std::string& text) { problem_ = text; }});
    for (size_t i = 0; i <= DiskDigester::kAsksMax; ++i) digester_->ask({7, 0, 0, 41});
    EXPECT_EQ(problem_, "the primary asks too much at once");
}

TEST_F(DiskCopyTest, WhatCannotBeReadThereIsSent) {
    for (Site* site : {&primary_, &backup_}) put(site->path, 0, std::string(kSize, 'x'));
    open();
    std::filesystem::resize_file(backup_.path, 38 * kChunk);  // behind the store's back
    run();
    EXPECT_EQ(problem_, "");
    std::sort(sent_.begin(), sent_.end());
    EXPECT_EQ(sent_, (std::vector<uint64_t>{38, 39, 40}));
    expect_equal_disks();
}

TEST_F(DiskCopyTest, IdleIsToldWhenWhatWasAskedBeforeHasEnded) {
    open();
    for (uint64_t i = 0; i < 500; ++i) primary_.write((i % 40) * kChunk, 'w');
    bool told = false;
    primary_.disks->when_idle([&] {
        told = true;
        const std::string written = content(primary_.path);
        for (size_t chunk = 0; chunk < 40; ++chunk) EXPECT_EQ(written[chunk * kChunk], 'w');
    });
    const auto until = std::chrono::steady_clock::now() + 60s;
    while (!told && std::chrono::steady_clock::now() < until) {
        core_.restart();
        core_.run_one_for(20ms);
    }
    EXPECT_TRUE(told);
}

}  // namespace
}  // namespace antipode::control
