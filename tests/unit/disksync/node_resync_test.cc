// Resync: what it costs when it breaks off.
#include <gtest/gtest.h>

#include "tests/unit/disksync/node_pair.h"

namespace antipode::disksync {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

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

TEST(Resync, AFirstOneThatBrokeOffIsReadAgainAndNotSentAgain) {
    NodeConfig config;
    config.resync_window_bytes = 8 * kBlockBytes;
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
    ASSERT_TRUE(pair.run_until([&] { return seen.data_blocks >= kBlocks / 2; }));
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

}  // namespace
}  // namespace antipode::disksync
