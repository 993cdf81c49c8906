#include "replicator/replay/page_table.h"

#include <gtest/gtest.h>
#include <vector>

namespace antipode::replay {
namespace {

TEST(PageTableTest, SendsWhatTheBackupDoesNotHave) {
    PageTable table(4);
    const auto first = std::vector<std::byte>(4096, std::byte{1});
    const auto second = std::vector<std::byte>(4096, std::byte{2});
    EXPECT_TRUE(table.changed(3, first));
    EXPECT_FALSE(table.changed(3, first));
    EXPECT_TRUE(table.changed(2, first));
    EXPECT_TRUE(table.changed(3, second));
    // Back to what it held before: the backup has the other by now.
    EXPECT_TRUE(table.changed(3, first));
    table.forget();
    EXPECT_TRUE(table.changed(3, first));
}

TEST(PageTableTest, APageThatIsNotKnownIsSentEvenIfZero) {
    PageTable table(1);
    const std::vector<std::byte> zeros(4096);
    EXPECT_TRUE(table.changed(0, zeros));
    EXPECT_FALSE(table.changed(0, zeros));
}

}  // namespace
}  // namespace antipode::replay
