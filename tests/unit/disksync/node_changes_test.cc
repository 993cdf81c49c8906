// The writes of a VM on their way: how many may be unanswered, how many answered and not durable at
// the peer, and what makes them so.
#include <gtest/gtest.h>

#include "tests/unit/disksync/node_pair.h"

namespace antipode::disksync {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// A peer that makes nothing durable by itself for a while.
NodeConfig lazy_peer(Mode mode) {
    NodeConfig config;
    config.mode = mode;
    config.durable_interval = seconds(1);
    config.durable_bytes = uint64_t{1} << 40;
    return config;
}

class Writes {
  public:
    explicit Writes(NodePair& pair) : pair_(pair) {}
    void add(uint64_t count) {
        for (uint64_t each = 0; each < count; ++each) {
            const uint64_t number = ids_.size() + 1;
            ids_.push_back(pair_.write(0, number * 7, number));
        }
    }
    uint64_t answered() const {
        return static_cast<uint64_t>(std::count_if(
            ids_.begin(), ids_.end(), [this](uint64_t id) { return pair_.succeeded(id); }));
    }
    bool run_until_answered(uint64_t count, Duration limit = seconds(10)) {
        // Most often the last one tells; counting all of them at each event takes long.
        return pair_.run_until(
            [&] { return pair_.succeeded(ids_[count - 1]) && answered() == count; }, limit);
    }

  private:
    NodePair& pair_;
    std::vector<uint64_t> ids_;
};

TEST(Changes, AsyncOnesAreAnsweredLongBeforeTheyAreDurable) {
    NodePair pair(lazy_peer(Mode::async));
    ASSERT_TRUE(pair.promote(0));
    Writes writes(pair);
    writes.add(3000);
    ASSERT_TRUE(writes.run_until_answered(3000, milliseconds(600)));
    EXPECT_EQ(pair.node(0).status().changes_in_flight, 0u);
    EXPECT_EQ(pair.node(0).status().changes_undurable, 3000u);
    ASSERT_TRUE(pair.run_until([&] { return pair.node(0).status().changes_undurable == 0; }));
    EXPECT_TRUE(pair.run_until([&] { return pair.node(0).idle(); }));
    EXPECT_EQ(pair.disk(0).contents(), pair.disk(1).contents());
}

TEST(Changes, APeerFlushesBeforeTheSenderHasTooManyToRemember) {
    NodeConfig config = lazy_peer(Mode::async);
    config.durable_interval = seconds(600);
    NodePair pair(config);
    ASSERT_TRUE(pair.promote(0));
    Writes writes(pair);
    writes.add(5000);
    ASSERT_TRUE(writes.run_until_answered(5000));
    ASSERT_TRUE(pair.run_until([&] { return pair.node(0).status().changes_undurable < 1000; }));
}

TEST(Changes, ThoseNotDurableAtThePeerAreBounded) {
    NodeConfig config = lazy_peer(Mode::async);
    config.changes_undurable_max = 100;
    NodePair pair(config);
    ASSERT_TRUE(pair.promote(0));
    Writes writes(pair);
    writes.add(150);
    pair.run_for(milliseconds(500));
    EXPECT_EQ(writes.answered(), 100u);
    EXPECT_EQ(pair.node(0).status().changes_undurable, 100u);
    EXPECT_EQ(pair.node(0).status().changes_in_flight, 50u);
    ASSERT_TRUE(writes.run_until_answered(150));
}

TEST(Changes, AndSoAreTheirBytes) {
    NodeConfig config = lazy_peer(Mode::async);
    config.undurable_bytes_max = 40 * kSimSectorBytes;
    NodePair pair(config);
    ASSERT_TRUE(pair.promote(0));
    Writes writes(pair);
    writes.add(150);
    pair.run_for(milliseconds(500));
    EXPECT_EQ(writes.answered(), 40u);
    ASSERT_TRUE(writes.run_until_answered(150));
}

TEST(Changes, TheUnansweredAreBounded) {
    NodeConfig config = lazy_peer(Mode::sync);
    config.changes_in_flight_max = 4;
    NodePair pair(config);
    ASSERT_TRUE(pair.promote(0));
    uint64_t sent = 0;
    bool acknowledges = false;
    pair.tamper = [&](size_t, const SyncFrame& frame) {
        sent += frame.type == SyncType::write ? 1 : 0;
        return acknowledges || frame.type != SyncType::ack;
    };
    Writes writes(pair);
    writes.add(10);
    pair.run_for(milliseconds(50));
    EXPECT_EQ(writes.answered(), 0u);
    EXPECT_EQ(sent, 4u);
    EXPECT_EQ(pair.node(0).status().changes_in_flight, 10u);
    // Another mode needs no acknowledgement: those that wait for one are looked at again.
    pair.input(0, [](Node& node) { node.set_mode(Mode::async); });
    ASSERT_TRUE(writes.run_until_answered(10, milliseconds(50)));
    acknowledges = true;
    ASSERT_TRUE(pair.run_until([&] { return pair.node(0).idle(); }));
}

TEST(Changes, WhatWasNotDurableIsMarkedWhenThePeerGoes) {
    NodePair pair(lazy_peer(Mode::async));
    ASSERT_TRUE(pair.promote(0));
    Writes writes(pair);
    writes.add(500);
    ASSERT_TRUE(writes.run_until_answered(500, milliseconds(300)));
    pair.crash(1, SimSite::Crash::power);
    EXPECT_GT(pair.node(0).status().disks[0].marked_blocks, 0u);
    EXPECT_EQ(pair.node(0).status().changes_undurable, 0u);
    pair.restart(1);
    ASSERT_TRUE(pair.run_until([&] { return pair.together(); }));
    EXPECT_EQ(pair.disk(0).contents(), pair.disk(1).contents());
}

TEST(Changes, AFlushWaitsForWhatCameBeforeIt) {
    NodePair pair(lazy_peer(Mode::sync));
    ASSERT_TRUE(pair.promote(0));
    Writes writes(pair);
    writes.add(20);
    ASSERT_TRUE(writes.run_until_answered(20));
    const uint64_t first = pair.flush(0);
    const uint64_t second = pair.flush(0);  // nothing between them
    ASSERT_TRUE(pair.run_until([&] { return pair.succeeded(first) && pair.succeeded(second); },
                               milliseconds(20)));
    pair.crash(1, SimSite::Crash::power);
    EXPECT_EQ(pair.disk(0).contents(), pair.disk(1).contents());
}

// ---- how often the peer flushes

TEST(TargetFlushes, ManySyncWritesShareOne) {
    NodeConfig config;
    config.mode = Mode::sync;
    NodePair pair(config);
    ASSERT_TRUE(pair.promote(0));
    const uint64_t before = pair.disk(1).flushes();
    for (Stamp stamp = 1; stamp <= 50; ++stamp) {
        const uint64_t id = pair.write(0, stamp, stamp);
        ASSERT_TRUE(pair.run_until([&] { return pair.succeeded(id); }));
    }
    EXPECT_LE(pair.disk(1).flushes() - before, 2u);
}

// A client that flushes will do so again: the flush is under way when it asks.
TEST(TargetFlushes, AfterAFlushTheNextIsNotWaitedFor) {
    NodeConfig config;
    config.mode = Mode::sync;
    NodePair pair(config);
    ASSERT_TRUE(pair.promote(0));
    const auto write = [&](Stamp stamp) {
        const uint64_t id = pair.write(0, stamp, stamp);
        ASSERT_TRUE(pair.run_until([&] { return pair.succeeded(id); }));
    };
    write(1);
    const uint64_t id = pair.flush(0);
    ASSERT_TRUE(pair.run_until([&] { return pair.succeeded(id); }));
    const uint64_t before = pair.disk(1).flushes();
    for (Stamp stamp = 2; stamp < 12; ++stamp) write(stamp);
    pair.run_for(milliseconds(5));
    EXPECT_EQ(pair.disk(1).flushes() - before, 1u);
}

TEST(TargetFlushes, AWriteWithFuaNeedsOne) {
    NodePair pair(lazy_peer(Mode::sync));
    ASSERT_TRUE(pair.promote(0));
    const uint64_t id = pair.write(0, 3, 33, Fua::yes);
    ASSERT_TRUE(pair.run_until([&] { return pair.succeeded(id); }, milliseconds(20)));
    pair.crash(1, SimSite::Crash::power);
    EXPECT_EQ(pair.disk(1).at(3), 33u);
}

// ---- digests

// What has been asked and not answered yet must not look as if it differed.
TEST(Digests, EqualBlocksAreNotSentHoweverLateTheAnswersCome) {
    NodeConfig config;
    config.checksum = ChecksumResync::automatic;
    NodePair pair(config);
    ASSERT_TRUE(pair.promote(0));
    pair.reconnects = false;
    pair.cut();
    constexpr uint64_t kBlocks = 700;
    for (uint64_t block = 0; block < kBlocks; ++block) {
        const uint64_t sector = block * kBlockBytes / kSimSectorBytes;
        pair.write(0, sector, block + 1);
        pair.disk(1).set(sector, block + 1);
    }
    ASSERT_TRUE(pair.run_until([&] { return pair.node(0).idle(); }));
    ASSERT_EQ(pair.node(0).status().disks[0].marked_blocks, kBlocks);
    uint64_t data = 0;
    uint64_t digests = 0;
    pair.tamper = [&](size_t, const SyncFrame& frame) {
        data += frame.type == SyncType::resync_data ? 1 : 0;
        if (frame.type == SyncType::digests) {
            digests += std::get<wire::SyncDigests>(frame.body).count;
        }
        return true;
    };
    pair.connect();
    ASSERT_TRUE(pair.run_until([&] { return pair.together(); }));
    EXPECT_EQ(data, 0u);
    EXPECT_EQ(digests, kBlocks);
}

}  // namespace
}  // namespace antipode::disksync
