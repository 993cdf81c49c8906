#include "replicator/stream/level_control.h"

#include <gtest/gtest.h>

namespace antipode::stream {
namespace {

TEST(LevelControl, begins_at_zstds_first_level) {
    EXPECT_EQ(LevelControl().level(), 1);
}

TEST(LevelControl, a_line_that_holds_bulk_back_gets_more_for_its_bytes) {
    LevelControl control;
    EXPECT_EQ(control.look(0.05, 0.9), 1);  // once may be chance
    EXPECT_EQ(control.look(0.05, 0.9), 2);
    for (int i = 0; i < 100; ++i) control.look(0.05, 0.9);
    EXPECT_EQ(control.level(), LevelControl::kLevels.back());
}

TEST(LevelControl, a_busy_thread_compresses_less) {
    LevelControl control;
    control.look(0.9, 0.0);
    EXPECT_EQ(control.look(0.9, 0.0), -1);
    for (int i = 0; i < 100; ++i) control.look(0.9, 0.0);
    EXPECT_EQ(control.level(), LevelControl::kLevels.front());
}

TEST(LevelControl, nothing_changes_in_between_or_by_turns) {
    LevelControl control;
    for (int i = 0; i < 10; ++i) {
        EXPECT_EQ(control.look(0.4, 0.4), 1);  // neither is scarce
        EXPECT_EQ(control.look(0.9, 0.9), 1);  // both are
        EXPECT_EQ(control.look(0.0, 0.0), 1);  // nothing to send
        EXPECT_EQ(control.look(0.9, 0.0), 1);
        EXPECT_EQ(control.look(0.0, 0.9), 1);
    }
}

}  // namespace
}  // namespace antipode::stream
