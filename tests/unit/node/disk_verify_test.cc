// Two sites' disks compared and put right while a guest writes: the backup does what the primary
// did, later, and what stands in the log's order stays in it.
#include <boost/asio/post.hpp>
#include <deque>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <set>

#include "common/base/random.h"
#include "replicator/control/disk_verifier.h"
#include "replicator/control/verify_follower.h"
#include "tests/unit/node/site_disk.h"

namespace antipode::control {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::IsEmpty;

constexpr uint64_t kChunk = VerifyAsk::kChunkBytes;
constexpr uint64_t kSize = 70 * kChunk + 512;
constexpr uint64_t kBlock = 4096;
constexpr uint64_t kFast = uint64_t{1} << 40;

struct Write {
    uint64_t offset = 0;
    uint8_t value = 0;
};

// Of the guest's writes, each of a block, those that have ended.
uint64_t written(const Site& site) {
    return site.disks->status()[0].written_bytes / kBlock;
}

class DiskVerifyTest : public testing::Test {
  protected:
    void SetUp() override {
        for (uint64_t i = 0; i < kSize / kBlock; ++i) {
            const std::string bytes(16, static_cast<char>('a' + i % 26));
            put(primary_.path, i * kBlock, bytes);
            put(backup_.path, i * kBlock, bytes);
        }
        primary_.open(core_);
        backup_.open(core_);
        follower_ = std::make_unique<VerifyFollower>(
            *backup_.disks, [this](const VerifyMessage& message) { to_primary(message); });
    }

    void begin(VerifyPlan::Repair repair) {
        found_.clear();
        repaired_.clear();
        done_.reset();
        DiskVerifier::Hooks hooks;
        hooks.send = [this](const VerifyMessage& message) {
            auto again = *decode_verify_message(encode(message));
            if (std::holds_alternative<VerifyAsk>(again)) {
                log_.emplace_back(std::move(again));
            } else {  // another class: it may overtake
                boost::asio::post(core_, [this, again] { follower_->receive(again); });
            }
            return true;
        };
        hooks.on_found = [this](const VerifyFound& found) {
            auto& where = found.what == VerifyFound::What::differs ? found_ : repaired_;
            where.push_back(found.chunk);
        };
        hooks.on_compared = [this](const DriveChunk&, uint32_t count) { compared_ += count; };
        hooks.on_done = [this](const Result<void>& done) { done_ = done; };
        const Instant now = MonotonicClock::now();
        verifier_ = std::make_unique<DiskVerifier>(
            *primary_.disks, VerifyPlan({kSize}, repair, kFast, random_.next() >> 1, now),
            random_.next(), std::move(hooks));
    }
    void to_primary(const VerifyMessage& message) {
        const auto again = *decode_verify_message(encode(message));
        boost::asio::post(core_, [this, again] {
            if (verifier_) verifier_->receive(again, MonotonicClock::now());
        });
    }

    // One step of both core loops, and of the backup at its own speed.
    void turn() {
        core_.restart();
        core_.run_one_for(1ms);
        core_.poll();
        const Instant now = MonotonicClock::now();
        if (verifier_ && !done_) verifier_->look(DiskVerifier::Room::some, now);
        for (uint64_t steps = random_.between(0, 12); steps > 0 && !log_.empty(); --steps) {
            follow_one();
        }
        follower_->look(now);
    }
    void follow_one() {
        if (const auto* order = std::get_if<Write>(&log_.front())) {
            // The device keeps requests that overlap apart; here no two of a round do.
            if (order->value != round_at_backup_ && written(backup_) < backup_.number) return;
            round_at_backup_ = order->value;
            backup_.write(order->offset, order->value);
        } else {
            follower_->receive(std::get<VerifyMessage>(log_.front()));
        }
        log_.pop_front();
    }
    // A guest that writes all over the disk: each block at most once a round.
    void write_a_round() {
        if (written(primary_) < primary_.number) return;  // held up, or busy
        if (log_.size() > kLagMax) return;                // it is slowed down
        ++round_;
        ++rounds_;
        std::set<uint64_t> blocks;
        while (blocks.size() < 24) blocks.insert(random_.between(0, kSize / kBlock - 1));
        for (const uint64_t block : blocks) {
            if (block * kBlock % kChunk == kSpared) continue;
            const Write order{block * kBlock, round_};
            primary_.write(order.offset, order.value);
            log_.emplace_back(order);
        }
    }
    enum class Guest : uint8_t { rests, writes };
    bool run(Guest guest) {
        const auto until = std::chrono::steady_clock::now() + 60s;
        while (!done_ && std::chrono::steady_clock::now() < until) {
            if (guest == Guest::writes) write_a_round();
            turn();
        }
        while (!log_.empty() || written(backup_) < backup_.number) turn();
        return done_ && done_->has_value();
    }
    bool images_are_equal() {
        EXPECT_TRUE(primary_.disks->flush());
        EXPECT_TRUE(backup_.disks->flush());
        return content(primary_.path) == content(backup_.path);
    }

    // No guest writes to the second block of a chunk: what is broken there stays so.
    static constexpr uint64_t kSpared = kBlock;
    static constexpr size_t kLagMax = 100;
    boost::asio::io_context core_;
    disksync::TemporaryDirectory directory_;
    Site primary_{directory_, "primary.img", kSize};
    Site backup_{directory_, "backup.img", kSize};
    Random random_{1};
    std::deque<std::variant<Write, VerifyMessage>> log_;
    uint8_t round_ = 0;
    int rounds_ = 0;
    uint8_t round_at_backup_ = 0;
    std::unique_ptr<VerifyFollower> follower_;
    std::unique_ptr<DiskVerifier> verifier_;
    std::vector<uint64_t> found_;
    std::vector<uint64_t> repaired_;
    uint64_t compared_ = 0;
    std::optional<Result<void>> done_;
};

TEST_F(DiskVerifyTest, EqualDisksAreEqual) {
    begin(VerifyPlan::Repair::no);
    ASSERT_TRUE(run(Guest::rests));
    EXPECT_THAT(found_, IsEmpty());
    EXPECT_EQ(compared_, 71u);
    EXPECT_EQ(verifier_->figures().compared_bytes, kSize);
}

TEST_F(DiskVerifyTest, NothingIsFoundUnderWrites) {
    for (int i = 0; i < 8; ++i) {
        begin(VerifyPlan::Repair::yes);
        ASSERT_TRUE(run(Guest::writes)) << done_->error().to_string();
        EXPECT_THAT(found_, IsEmpty());
    }
    EXPECT_GT(rounds_, 8);
    EXPECT_TRUE(images_are_equal());
}

TEST_F(DiskVerifyTest, WhatDiffersIsFoundUnderWritesAndNothingElse) {
    put(backup_.path, 3 * kChunk + kSpared + 17, "x");
    put(backup_.path, 15 * kChunk + kSpared, "y");
    put(backup_.path, 70 * kChunk + 511, "z");  // the short one at the end
    begin(VerifyPlan::Repair::no);
    ASSERT_TRUE(run(Guest::writes));
    std::ranges::sort(found_);
    EXPECT_THAT(found_, ElementsAre(3, 15, 70));
    EXPECT_THAT(repaired_, IsEmpty());
    EXPECT_FALSE(images_are_equal());
}

TEST_F(DiskVerifyTest, ARepairUnderWritesMakesTheDisksEqual) {
    for (uint64_t i = 0; i < 30; ++i) {
        put(backup_.path, 2 * i * kChunk + kSpared + i, "\x01");
    }
    begin(VerifyPlan::Repair::yes);
    ASSERT_TRUE(run(Guest::writes));
    EXPECT_EQ(found_.size(), 30u);
    EXPECT_EQ(repaired_.size(), 30u);
    EXPECT_TRUE(images_are_equal());
    begin(VerifyPlan::Repair::no);
    ASSERT_TRUE(run(Guest::writes));
    EXPECT_THAT(found_, IsEmpty());
}

TEST_F(DiskVerifyTest, WhatIsInterruptedIsAskedAgain) {
    put(backup_.path, 40 * kChunk + kSpared, "x");
    begin(VerifyPlan::Repair::yes);
    const auto until = std::chrono::steady_clock::now() + 60s;
    for (int i = 0; !done_ && std::chrono::steady_clock::now() < until; ++i) {
        write_a_round();
        turn();
        if (i % 50 == 5) {
            verifier_->interrupt("the session broke", MonotonicClock::now());
            follower_->drop_all("the session broke");
        }
    }
    ASSERT_TRUE(run(Guest::rests));
    EXPECT_THAT(found_, ElementsAre(40));
    EXPECT_THAT(repaired_, ElementsAre(40));
    EXPECT_TRUE(images_are_equal());
}

TEST_F(DiskVerifyTest, ALossInTheMiddleLeavesNobodyWaiting) {
    put(backup_.path, 2 * kChunk + kSpared, "x");
    begin(VerifyPlan::Repair::yes);
    for (int i = 0; i < 200 && !done_; ++i) {
        write_a_round();
        turn();
        if (i % 10 != 3) continue;
        verifier_.reset();
        follower_ = std::make_unique<VerifyFollower>(
            *backup_.disks, [this](const VerifyMessage& message) { to_primary(message); });
        begin(VerifyPlan::Repair::yes);
    }
    verifier_.reset();
    done_ = Result<void>();
    EXPECT_TRUE(run(Guest::rests));
    while (written(primary_) < primary_.number) turn();
    EXPECT_EQ(written(primary_), written(backup_));
}

TEST_F(DiskVerifyTest, AFencedDiskIsNotRepaired) {
    put(backup_.path, 5 * kChunk + kSpared, "x");
    begin(VerifyPlan::Repair::yes);
    ASSERT_TRUE(backup_.disks->fence(Epoch(9)));  // this site is in an epoch that is over
    const auto broken = content(backup_.path);
    ASSERT_TRUE(run(Guest::rests));
    EXPECT_THAT(found_, ElementsAre(5));
    EXPECT_THAT(repaired_, IsEmpty());
    EXPECT_EQ(content(backup_.path), broken);
}

TEST_F(DiskVerifyTest, APlaceBeyondTheDiskIsRefused) {
    std::vector<VerifyMessage> said;
    VerifyFollower follower(*backup_.disks,
                            [&](const VerifyMessage& message) { said.push_back(message); });
    follower.receive(VerifyAsk{1, VerifyPurpose::compare, 1, 0, 1, 0, {}});
    follower.receive(VerifyAsk{2, VerifyPurpose::compare, 0, 71, 1, 0, {}});
    follower.receive(VerifyAsk{3, VerifyPurpose::compare, 0, 60, 16, 0, {}});
    follower.receive(VerifyAsk{4, VerifyPurpose::compare, 0, ~uint64_t{0}, 16, 0, {}});
    follower.receive(VerifyBytes{4, {std::byte{1}}});
    ASSERT_EQ(said.size(), 4u);
    for (const auto& message : said) EXPECT_TRUE(std::holds_alternative<VerifyLater>(message));
}

}  // namespace
}  // namespace antipode::control
