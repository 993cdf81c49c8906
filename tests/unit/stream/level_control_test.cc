#include "replicator/stream/level_control.h"

#include <gtest/gtest.h>

namespace antipode::stream {
namespace {

constexpr double kRate = 1e8;

TEST(LevelControl, begins_at_a_fast_level) {
    EXPECT_EQ(LevelControl().level(), -3);
}

TEST(LevelControl, a_line_that_holds_bulk_back_gets_more_for_its_bytes) {
    LevelControl control;
    EXPECT_EQ(control.look({0.05, 0.9, kRate}), -3);  // once may be chance
    EXPECT_EQ(control.look({0.05, 0.9, kRate}), -1);
    for (int i = 0; i < 100; ++i) control.look({0.05, 0.9, kRate});
    EXPECT_EQ(control.level(), LevelControl::kLevels.back());
}

TEST(LevelControl, a_busy_thread_compresses_less) {
    LevelControl control;
    control.look({0.9, 0.0, kRate});
    EXPECT_EQ(control.look({0.9, 0.0, kRate}), -5);
    control.look({0.9, 0.0, kRate});
    EXPECT_EQ(control.look({0.9, 0.0, kRate}), -7);
}

TEST(LevelControl, nothing_changes_in_between_or_by_turns) {
    LevelControl control;
    for (int i = 0; i < 10; ++i) {
        EXPECT_EQ(control.look({0.4, 0.4, kRate}), -3);  // neither is scarce
        EXPECT_EQ(control.look({0.9, 0.9, kRate}), -3);  // both are
        EXPECT_EQ(control.look({0.0, 0.0, 0}), -3);      // nothing to send
        EXPECT_EQ(control.look({0.9, 0.0, kRate}), -3);
        EXPECT_EQ(control.look({0.0, 0.9, kRate}), -3);
    }
}

// A line, and what comes through it at each level: payload a second.
struct Played {
    LevelControl control;
    double with = 0;     // compressed, at the lowest level
    double without = 0;  // not compressed

    double rate() const { return control.level() == LevelControl::kNone ? without : with; }
    // How many of so many looks were without compression.
    int looks_without(int looks) {
        int count = 0;
        for (int i = 0; i < looks; ++i) {
            const bool none = control.level() == LevelControl::kNone;
            count += none ? 1 : 0;
            control.look({none ? 0.1 : 0.9, none ? 0.9 : 0.1, rate()});
        }
        return count;
    }
};

TEST(LevelControl, on_a_line_that_is_faster_than_the_processors_nothing_is_compressed) {
    Played line{{}, 5e8, 8e8};
    line.looks_without(20);
    EXPECT_EQ(line.control.level(), LevelControl::kNone);
    EXPECT_GT(line.looks_without(1000), 950) << "but for a trial now and then";
}

TEST(LevelControl, where_compression_gets_more_through_it_stays) {
    Played line{{}, 5e8, 4e8};
    EXPECT_LT(line.looks_without(1000), 50);
    EXPECT_EQ(line.control.level(), -7);
}

TEST(LevelControl, a_line_that_becomes_narrow_is_noticed_at_once) {
    Played line{{}, 5e8, 8e8};
    line.looks_without(500);
    line.with = 3e7;
    line.without = 1e7;
    EXPECT_LT(line.looks_without(10), 5);
    EXPECT_NE(line.control.level(), LevelControl::kNone);
}

TEST(LevelControl, a_trial_in_which_there_is_nothing_to_send_shows_nothing) {
    LevelControl control;
    for (int i = 0; i < 4; ++i) control.look({0.9, 0.0, kRate});
    ASSERT_EQ(control.level(), -7);
    ASSERT_EQ(control.look({0.9, 0.0, kRate}), LevelControl::kNone);
    EXPECT_EQ(control.look({0.0, 0.0, 0}), -7);
}

}  // namespace
}  // namespace antipode::stream
