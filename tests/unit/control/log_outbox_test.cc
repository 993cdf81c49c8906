// Entries become batches, in order and without a gap, and are kept until they are acknowledged.
#include "replicator/control/log_outbox.h"

#include <gtest/gtest.h>

#include "common/base/random.h"

namespace antipode::control {
namespace {

using replay::LogBatch;
using replay::LogEntry;

LogEntry tick(uint64_t exit) {
    return {ExitNumber(exit), replay::TimerTick{}};
}
LogEntry frame(uint64_t exit, size_t bytes) {
    return {ExitNumber(exit), replay::FrameReceived{0, std::vector<std::byte>(bytes)}};
}

class LogOutboxTest : public testing::Test {
  protected:
    void make(uint64_t passed, uint64_t released = 0) {
        outbox_.make_batches(ExitNumber(passed), OutputNumber(released), 7);
    }
    // The next batch, decoded and sent.
    std::optional<LogBatch> send() {
        const auto* batch = outbox_.next_batch();
        if (batch == nullptr) return std::nullopt;
        auto decoded = replay::decode_log_batch(batch->bytes);
        EXPECT_TRUE(decoded) << decoded.error().to_string();
        if (!decoded) return std::nullopt;
        EXPECT_EQ(decoded->first.value() + decoded->entries.size() - 1, batch->last.value());
        outbox_.sent(Epoch(1));
        return std::move(*decoded);
    }

    LogOutbox outbox_;
};

TEST_F(LogOutboxTest, IsEmptyAtFirst) {
    make(0);
    EXPECT_EQ(outbox_.next_batch(), nullptr);
    EXPECT_EQ(outbox_.last(), LogIndex(0));
    EXPECT_EQ(outbox_.unacknowledged_count(), 0u);
    EXPECT_EQ(outbox_.unacknowledged_bytes(), 0u);
}

TEST_F(LogOutboxTest, EntriesAreNumberedFromOne) {
    EXPECT_EQ(outbox_.add(tick(3)), LogIndex(1));
    EXPECT_EQ(outbox_.add(tick(3)), LogIndex(2));
    EXPECT_EQ(outbox_.next_batch(), nullptr);  // not before it is asked for
    make(3, 9);
    const auto batch = send();
    ASSERT_TRUE(batch);
    EXPECT_EQ(batch->first, LogIndex(1));
    EXPECT_EQ(batch->released, OutputNumber(9));
    EXPECT_EQ(batch->guest_clock_ns, 7u);
    EXPECT_EQ(batch->entries, (std::vector<LogEntry>{tick(3), tick(3)}));
    EXPECT_EQ(send(), std::nullopt);
    EXPECT_EQ(outbox_.unacknowledged_count(), 2u);
}

TEST_F(LogOutboxTest, NewsOfPassedExitsAreAnEntry) {
    (void)outbox_.add(tick(3));
    make(10);
    const auto batch = send();
    ASSERT_TRUE(batch);
    EXPECT_EQ(batch->entries, (std::vector<LogEntry>{tick(3), {ExitNumber(10), replay::Passed{}}}));
    make(10);
    EXPECT_EQ(send(), std::nullopt);  // no news
    make(11);
    ASSERT_TRUE(send());
    EXPECT_EQ(outbox_.last(), LogIndex(3));
}

TEST_F(LogOutboxTest, PassedThatIsNotKnownIsNoNews) {
    (void)outbox_.add(tick(3));
    make(0);
    const auto batch = send();
    ASSERT_TRUE(batch);
    EXPECT_EQ(batch->entries.size(), 1u);
}

TEST_F(LogOutboxTest, BatchesHaveNoMoreEntriesAndBytesThanAllowed) {
    for (size_t i = 0; i < LogBatch::kEntriesMax + 10; ++i) (void)outbox_.add(tick(i));
    make(0);
    EXPECT_EQ(send()->entries.size(), LogBatch::kEntriesMax);
    EXPECT_EQ(send()->entries.size(), 10u);
    for (int i = 0; i < 1000; ++i) (void)outbox_.add(frame(10'000, 1518));
    make(0);
    size_t entries = 0;
    while (const auto* batch = outbox_.next_batch()) {
        EXPECT_LE(batch->bytes.size(), LogBatch::kBytesMax);
        entries += send()->entries.size();
    }
    EXPECT_EQ(entries, 1000u);
}

TEST_F(LogOutboxTest, TheLargestEntryFits) {
    replay::DeltaPages pages;
    for (uint64_t i = 0; i < replay::DeltaPages::kPagesMax; ++i) {
        pages.pages.push_back({i * 1'000'000'007, std::vector<std::byte>(4096)});
    }
    (void)outbox_.add({ExitNumber(UINT64_MAX), pages});
    (void)outbox_.add({ExitNumber(UINT64_MAX), pages});
    (void)outbox_.add({ExitNumber(UINT64_MAX), replay::DeltaState{std::vector<std::byte>(
                                                   replay::DeltaState::kCpuBytesMax)}});
    make(0);
    size_t entries = 0;
    while (const auto batch = send()) entries += batch->entries.size();
    EXPECT_EQ(entries, 3u);
}

TEST_F(LogOutboxTest, AcknowledgedEntriesAreForgotten) {
    for (uint64_t i = 1; i <= 4; ++i) {
        (void)outbox_.add(tick(i));
        make(0);
    }
    EXPECT_TRUE(send() && send());
    const uint64_t all = outbox_.unacknowledged_bytes();
    outbox_.acknowledge(LogIndex(1));
    EXPECT_EQ(outbox_.acknowledged(), LogIndex(1));
    EXPECT_EQ(outbox_.unacknowledged_count(), 3u);
    EXPECT_EQ(outbox_.unacknowledged_bytes(), all / 4 * 3);
    outbox_.acknowledge(LogIndex(0));  // old
    EXPECT_EQ(outbox_.acknowledged(), LogIndex(1));
    EXPECT_EQ(send()->first, LogIndex(3));  // sending goes on where it was
    outbox_.acknowledge(LogIndex(4));       // before the last was even sent
    EXPECT_EQ(outbox_.next_batch(), nullptr);
    EXPECT_EQ(outbox_.unacknowledged_bytes(), 0u);
}

TEST_F(LogOutboxTest, RewindSendsAgainWhatIsNotAcknowledged) {
    for (uint64_t i = 1; i <= 3; ++i) {
        (void)outbox_.add(tick(i));
        make(0);
    }
    while (send()) {
    }
    outbox_.acknowledge(LogIndex(1));
    outbox_.rewind();
    EXPECT_EQ(send()->first, LogIndex(2));
    EXPECT_EQ(send()->first, LogIndex(3));
    EXPECT_EQ(send(), std::nullopt);
}

TEST_F(LogOutboxTest, KnowsWhetherWhatIsOutWasSentInThisEpoch) {
    EXPECT_TRUE(outbox_.sent_all_in(Epoch(1)));  // nothing is out
    for (uint64_t i = 1; i <= 2; ++i) {
        (void)outbox_.add(tick(i));
        make(0);
    }
    EXPECT_FALSE(outbox_.next_batch()->sent_in);
    outbox_.sent(Epoch(1));
    EXPECT_TRUE(outbox_.sent_all_in(Epoch(1)));
    outbox_.sent(Epoch(2));
    EXPECT_FALSE(outbox_.sent_all_in(Epoch(1)));
    EXPECT_FALSE(outbox_.sent_all_in(Epoch(2)));
    outbox_.acknowledge(LogIndex(1));
    EXPECT_TRUE(outbox_.sent_all_in(Epoch(2)));
    outbox_.rewind();
    EXPECT_TRUE(outbox_.sent_all_in(Epoch(3)));
    EXPECT_EQ(outbox_.next_batch()->sent_in, Epoch(2));  // a repeat
    outbox_.sent(Epoch(3));
    EXPECT_TRUE(outbox_.sent_all_in(Epoch(3)));
}

TEST_F(LogOutboxTest, ABatchThatIsAcknowledgedInPartIsSentWhole) {
    for (uint64_t i = 1; i <= 3; ++i) (void)outbox_.add(tick(i));
    make(0);
    (void)send();
    outbox_.acknowledge(LogIndex(2));
    outbox_.rewind();
    const auto batch = send();
    ASSERT_TRUE(batch);
    EXPECT_EQ(batch->first, LogIndex(1));
    EXPECT_EQ(batch->entries.size(), 3u);
}

TEST_F(LogOutboxTest, NumberingGoesOnWhenEverythingIsDropped) {
    (void)outbox_.add(tick(1));
    make(1);
    (void)outbox_.add(tick(2));
    outbox_.drop_all();
    EXPECT_EQ(outbox_.next_batch(), nullptr);
    EXPECT_EQ(outbox_.unacknowledged_bytes(), 0u);
    EXPECT_EQ(outbox_.acknowledged(), LogIndex(2));
    EXPECT_EQ(outbox_.add(tick(2)), LogIndex(3));
    make(0);
    EXPECT_EQ(send()->first, LogIndex(3));
    outbox_.acknowledge(LogIndex(3));
    EXPECT_EQ(outbox_.unacknowledged_count(), 0u);
}

TEST_F(LogOutboxTest, ARestartGoesOnBehindWhatWasApplied) {
    (void)outbox_.add(tick(900));
    outbox_.restart_after(LogIndex(500));
    EXPECT_EQ(outbox_.last(), LogIndex(500));
    EXPECT_EQ(outbox_.acknowledged(), LogIndex(500));
    EXPECT_EQ(outbox_.add(tick(1)), LogIndex(501));  // exits count from the start again
    make(2);
    const auto batch = send();
    ASSERT_TRUE(batch);
    EXPECT_EQ(batch->first, LogIndex(501));
    EXPECT_EQ(batch->entries.size(), 2u);
}

TEST_F(LogOutboxTest, AnAcknowledgementOfTheFutureIsAProgrammersError) {
    (void)outbox_.add(tick(1));
    EXPECT_DEATH(outbox_.acknowledge(LogIndex(2)), "acknowledged 2 of 1");
}

// Adds, sends, loses, acknowledges in any order: the receiver, which keeps what is next and
// acknowledges that, gets every entry once and in order.
TEST(LogOutboxPropertyTest, EveryEntryArrivesOnceAndInOrder) {
    for (uint64_t seed = 1; seed <= 200; ++seed) {
        Random random(seed);
        LogOutbox outbox;
        std::vector<uint64_t> recorded;  // exits of the entries that are no Passed
        std::vector<uint64_t> received;
        uint64_t exit = 0;
        uint64_t next_index = 1;
        uint64_t passed_received = 0;
        const auto receive = [&](const LogBatch& batch) {
            uint64_t index = batch.first.value();
            for (const auto& entry : batch.entries) {
                if (index++ != next_index) continue;
                ++next_index;
                ASSERT_GE(entry.exit.value(), passed_received);
                passed_received = entry.exit.value();
                if (std::holds_alternative<replay::TimerTick>(entry.body)) {
                    received.push_back(entry.exit.value());
                }
            }
        };
        const auto step = [&](uint64_t what) {
            switch (what) {
                case 0:
                    exit += random.below(3);
                    (void)outbox.add(tick(exit));
                    recorded.push_back(exit);
                    break;
                case 1:
                    if (random.chance(0.3)) exit += random.below(20);
                    outbox.make_batches(ExitNumber(exit), OutputNumber(), 0);
                    break;
                case 2:
                    if (const auto* batch = outbox.next_batch()) {
                        const auto decoded = replay::decode_log_batch(batch->bytes);
                        ASSERT_TRUE(decoded);
                        outbox.sent(Epoch(1));
                        if (random.chance(0.8)) receive(*decoded);
                    }
                    break;
                case 3:
                    outbox.acknowledge(LogIndex(random.between(0, next_index - 1)));
                    break;
                default:
                    outbox.rewind();
                    break;
            }
        };
        for (int i = 0; i < 400; ++i) step(random.below(5));
        outbox.make_batches(ExitNumber(exit), OutputNumber(), 0);
        outbox.rewind();
        while (const auto* batch = outbox.next_batch()) {
            receive(*replay::decode_log_batch(batch->bytes));
            outbox.sent(Epoch(1));
        }
        ASSERT_EQ(received, recorded) << seed;
        ASSERT_EQ(passed_received, exit) << seed;
        outbox.acknowledge(LogIndex(next_index - 1));
        ASSERT_EQ(outbox.unacknowledged_bytes(), 0u);
        ASSERT_EQ(outbox.unacknowledged_count(), 0u);
        ASSERT_EQ(outbox.next_batch(), nullptr);
    }
}

}  // namespace
}  // namespace antipode::control
