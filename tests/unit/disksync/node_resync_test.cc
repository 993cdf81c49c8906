// Resync: what it costs when it breaks off.
#include <gtest/gtest.h>

#include "tests/unit/disksync/node_pair.h"

namespace antipode::disksync {
namespace {

using std::chrono::milliseconds;

uint64_t first_sector_of(uint64_t block) {
    return block * kBlockBytes / kSimSectorBytes;
}

// A block of each number, and its end waited for.
void write_blocks(NodePair& pair, size_t site, uint64_t first, uint64_t count, Stamp stamp = 0) {
    uint64_t last = 0;
    for (uint64_t block = first; block < first + count; ++block) {
        last = pair.write(site, first_sector_of(block), stamp != 0 ? stamp : block + 1);
    }
    ASSERT_TRUE(pair.run_until([&] { return pair.succeeded(last) && pair.node(site).idle(); }));
}

// What of a resync is seen on the line.
struct Seen {
    uint64_t data_blocks = 0;
    uint64_t digests = 0;

    static uint64_t blocks_of(const SyncFrame& frame) {
        return std::get<wire::SyncRange>(frame.body).length_bytes / kBlockBytes;
    }
    void look(const SyncFrame& frame) {
        if (frame.type == SyncType::resync_data) data_blocks += blocks_of(frame);
        if (frame.type == SyncType::digests) {
            digests += std::get<wire::SyncDigests>(frame.body).count;
        }
    }
};

// Blocks that are not known to be durable at the other site.
uint64_t marked(NodePair& pair, size_t site) {
    return pair.node(site).status().disks[0].marked_blocks;
}

TEST(Resync, AFirstOneThatBrokeOffIsReadAgainAndNotSentAgain) {
    NodeConfig config;
    config.resync_window_bytes = 8 * kBlockBytes;
    config.durable_bytes = kBlockBytes / 8;
    NodePair pair(config);
    ASSERT_TRUE(pair.promote(0));
    constexpr uint64_t kBlocks = 400;
    write_blocks(pair, 0, 0, kBlocks);
    Seen seen;
    pair.tamper = [&](size_t, const SyncFrame& frame) {
        seen.look(frame);
        return true;
    };
    pair.input(1, [](Node& node) { ASSERT_TRUE(node.invalidate()); });
    ASSERT_TRUE(
        pair.run_until([&] { return seen.data_blocks > 0 && marked(pair, 0) <= kBlocks / 2; }));
    EXPECT_EQ(seen.digests, 0u) << "of a copy that has nothing";
    pair.crash(1, SimSite::Crash::kill);
    const Seen before = std::exchange(seen, {});
    pair.restart(1);
    ASSERT_TRUE(pair.run_until([&] { return pair.together(); }));
    EXPECT_GT(seen.digests, 0u);
    // What was on its way is sent once more.
    EXPECT_LE(before.data_blocks + seen.data_blocks, kBlocks + 64);
    EXPECT_EQ(pair.disk(0).contents(), pair.disk(1).contents());
}

TEST(Resync, ItsTargetCountsDownToo) {
    NodeConfig config;
    config.resync_window_bytes = 8 * kBlockBytes;
    config.checksum = ChecksumResync::always;
    NodePair pair(config);
    ASSERT_TRUE(pair.promote(0));
    pair.reconnects = false;
    pair.cut();
    write_blocks(pair, 0, 0, 200);
    // A few are there already, and only compared.
    for (uint64_t block = 0; block < 40; ++block) {
        pair.disk(1).set(first_sector_of(block), block + 1);
    }
    pair.connect();
    std::vector<uint64_t> left;
    ASSERT_TRUE(pair.run_until([&] {
        const DiskStatus disk = pair.node(1).status().disks[0];
        if (disk.phase == SyncPhase::resync && disk.blocks_total != 0) {
            EXPECT_EQ(disk.blocks_total, 200u);
            left.push_back(disk.blocks_left);
        }
        return pair.together();
    }));
    ASSERT_GT(left.size(), 3u);
    EXPECT_TRUE(std::is_sorted(left.rbegin(), left.rend()));
    EXPECT_EQ(left.front(), 200u);
    EXPECT_EQ(left.back(), 0u);
    EXPECT_EQ(pair.node(1).status().disks[0].phase, SyncPhase::idle);
}

TEST(Resync, IsPausedWhereItIsSent) {
    NodePair pair{NodeConfig()};
    ASSERT_TRUE(pair.promote(0));
    pair.input(1, [](Node& node) {
        const auto paused = node.pause_resync(true);
        ASSERT_FALSE(paused);
        EXPECT_EQ(paused.error().code, Errc::denied);
        EXPECT_TRUE(node.pause_resync(false));
    });
    EXPECT_FALSE(pair.node(1).status().disks[0].paused);
    pair.input(0, [](Node& node) { EXPECT_TRUE(node.pause_resync(true)); });
    pair.input(1, [](Node& node) { ASSERT_TRUE(node.invalidate()); });
    ASSERT_TRUE(pair.run_until([&] { return pair.has_event(0, "resync"); }));
    pair.run_for(milliseconds(300));
    EXPECT_EQ(pair.node(1).status().disks[0].state, DiskState::inconsistent);
    pair.input(0, [](Node& node) { EXPECT_TRUE(node.pause_resync(false)); });
    ASSERT_TRUE(pair.run_until([&] { return pair.together(); }));
}

// The policy would come to the opposite when most of the winner's marks have been dealt with.
TEST(Resync, OfASplitBrainThatWasResolvedGoesOnInItsDirection) {
    NodeConfig config;
    config.split.no_primary = SplitPolicy::discard_least_changes;
    config.checksum = ChecksumResync::never;
    config.resync_window_bytes = 8 * kBlockBytes;
    config.durable_bytes = kBlockBytes / 8;
    for (const bool crashes : {false, true}) {
        NodePair pair(config);
        pair.reconnects = false;
        pair.cut();
        for (const size_t site : {size_t{0}, size_t{1}}) {
            ASSERT_TRUE(pair.promote(site));
            write_blocks(pair, site, site * 200, site == 0 ? 100 : 60);
            pair.input(site, [](Node& node) { ASSERT_TRUE(node.demote()); });
            ASSERT_TRUE(pair.run_until([&] { return !pair.node(site).is_primary(); }));
        }
        uint64_t blocks = 0;
        pair.tamper = [&](size_t, const SyncFrame& frame) {
            const bool block =
                frame.type == SyncType::resync_data || frame.type == SyncType::resync_zeroes;
            blocks += block ? Seen::blocks_of(frame) : 0;
            return true;
        };
        pair.connect();
        ASSERT_TRUE(pair.run_until([&] { return marked(pair, 0) < 60; }));
        ASSERT_FALSE(pair.together());
        if (crashes) {
            pair.crash(1, SimSite::Crash::kill);
            pair.restart(1);
        } else {
            pair.cut();
        }
        pair.connect();
        ASSERT_TRUE(pair.run_until([&] { return pair.together(); }));
        EXPECT_FALSE(pair.has_event(0, "halted"));
        EXPECT_EQ(pair.disk(0).contents(), pair.disk(1).contents());
        EXPECT_EQ(pair.disk(1).at(0), 1u);
        EXPECT_EQ(pair.disk(1).at(first_sector_of(200)), 0u);
    }
}

// ---- verify

TEST(Verify, ThatIsCutOffByTheLineSaysSo) {
    NodeConfig config;
    NodePair pair(config);
    ASSERT_TRUE(pair.promote(0));
    EXPECT_FALSE(pair.node(0).status().disks[0].last_verify);
    std::set<uint64_t> answered;  // runs, in any order
    bool lost = false;
    pair.tamper = [&](size_t, const SyncFrame& frame) {
        if (frame.type != SyncType::digest_answer) return true;
        lost = answered.size() == 8;
        if (!lost) answered.insert(std::get<wire::SyncDigests>(frame.body).first_block);
        return !lost;
    };
    pair.input(0, [](Node& node) { ASSERT_TRUE(node.verify(0, 16, 500)); });
    ASSERT_TRUE(pair.run_until([&] { return lost; }));
    pair.run_for(milliseconds(1));
    pair.cut();
    uint64_t block = 16;
    while (answered.contains(block)) block += 16;
    const auto text = fmt::format("at block {} of 16 to 516, 0 differences so far: cut", block);
    EXPECT_TRUE(pair.has_event(0, "verify-ended", text)) << text;
    const DiskStatus status = pair.node(0).status().disks[0];
    ASSERT_TRUE(status.last_verify);
    EXPECT_FALSE(status.last_verify->complete);
    EXPECT_EQ(status.last_verify->blocks, block - 16);
    pair.tamper = nullptr;
    ASSERT_TRUE(pair.run_until([&] { return pair.together(); }));
    pair.input(0, [](Node& node) { ASSERT_TRUE(node.verify(0, 16, 500)); });
    ASSERT_TRUE(pair.run_until([&] { return pair.has_event(0, "verify-done"); }));
    EXPECT_TRUE(pair.node(0).status().disks[0].last_verify->complete);
    EXPECT_EQ(pair.node(0).status().disks[0].last_verify->blocks, 500u);
}

TEST(Verify, ThatCannotReadEndsAndCanBeginAgain) {
    NodePair pair{NodeConfig()};
    ASSERT_TRUE(pair.promote(0));
    pair.disk(0).fail_next(StoreOperation::read, Errc::io);
    pair.input(0, [](Node& node) { ASSERT_TRUE(node.verify(0, 0, ~uint64_t{0})); });
    ASSERT_TRUE(pair.run_until([&] { return pair.has_event(0, "verify-ended"); }));
    EXPECT_FALSE(pair.node(0).status().disks[0].paused);
    ASSERT_TRUE(pair.run_until([&] { return pair.node(0).idle(); }));
    pair.run_for(milliseconds(5));  // what was asked is answered
    pair.input(0, [](Node& node) { ASSERT_TRUE(node.verify(0, 0, ~uint64_t{0})); });
    ASSERT_TRUE(pair.run_until([&] { return pair.has_event(0, "verify-done"); }));
}

}  // namespace
}  // namespace antipode::disksync
