// What the history names is everything written since a digest, also where it had to forget.
#include "replicator/replay/change_history.h"

#include <gtest/gtest.h>
#include <map>

#include "common/base/random.h"

namespace antipode::replay {
namespace {

std::vector<uint64_t> bitmap_of(uint64_t page_count, const std::set<uint64_t>& pages) {
    std::vector<uint64_t> bitmap((page_count + 63) / 64);
    for (const uint64_t page : pages) bitmap[page / 64] |= uint64_t{1} << (page % 64);
    return bitmap;
}

TEST(ChangeHistory, NamesWhatWasWrittenAfterADigest) {
    ChangeHistory history(1000);
    ChunkSet chunks;
    chunks.add(0, 65535, 2);
    history.close(1, bitmap_of(1000, {3}), chunks);
    history.close(2, bitmap_of(1000, {3, 64, 999}), {});
    EXPECT_EQ(history.pages_since(2), bitmap_of(1000, {}));
    EXPECT_EQ(history.pages_since(1), bitmap_of(1000, {3, 64, 999}));
    EXPECT_TRUE(history.chunks_since(1).chunks().empty());
    EXPECT_EQ(history.chunks_since(0).chunks(), (std::set<DiskChunk>{{0, 0}, {0, 1}}));
    history.forget();
    EXPECT_EQ(history.pages_since(0), bitmap_of(1000, {}));
}

TEST(ChangeHistory, NamesMoreWhereItForgotAndNeverLess) {
    constexpr uint64_t kPages = 256;
    Random random(3);
    for (int round = 0; round < 50; ++round) {
        ChangeHistory history(kPages);
        std::map<uint64_t, std::set<uint64_t>> written;
        for (uint64_t number = 1; number <= 200; ++number) {
            for (uint64_t i = random.below(8); i > 0; --i) {
                written[number].insert(random.below(kPages));
            }
            history.close(number, bitmap_of(kPages, written[number]), {});
            const uint64_t since = random.below(number + 1);
            const auto named = history.pages_since(since);
            for (const auto& [at, pages] : written) {
                if (at <= since) continue;
                for (const uint64_t page : pages) {
                    ASSERT_TRUE(named[page / 64] >> (page % 64) & 1) << number << " " << page;
                }
            }
        }
    }
}

TEST(ChangeHistory, AChunkSetSaysWhenItIsFull) {
    ChunkSet set;
    set.add(0, 0, 0);
    EXPECT_TRUE(set.chunks().empty());
    set.add(1, 0, ChunkSet::kCountMax * DiskChunk::kBytes);
    EXPECT_FALSE(set.overflowed());
    set.add(1, ChunkSet::kCountMax * DiskChunk::kBytes, 1);
    EXPECT_TRUE(set.overflowed());
    ChunkSet other;
    other.add(set);
    EXPECT_TRUE(other.overflowed());
}

}  // namespace
}  // namespace antipode::replay
