// What a resync may send when, and which entries are refused.
#include "disksync/core/rate_schedule.h"

#include <gtest/gtest.h>

namespace antipode::disksync {
namespace {

constexpr int kSunday = 0;
constexpr int kMonday = 1;
constexpr int kFriday = 5;
constexpr int kSaturday = 6;

int at(int hour, int minute = 0) {
    return hour * 60 + minute;
}

RateSchedule schedule_of(const std::vector<std::string>& entries) {
    RateSchedule schedule;
    for (const std::string& entry : entries) {
        const auto added = schedule.add(entry);
        EXPECT_TRUE(added) << added.error().context;
    }
    return schedule;
}

TEST(RateSchedule, CoversItsHoursOfItsDays) {
    const RateSchedule schedule = schedule_of({"mon-fri 08:00-18:00 1000", "sat 12:30-24:00 7"});
    EXPECT_EQ(schedule.at(kMonday, at(8)), 1000u);
    EXPECT_EQ(schedule.at(kFriday, at(17, 59)), 1000u);
    EXPECT_EQ(schedule.at(kMonday, at(7, 59)), std::nullopt);
    EXPECT_EQ(schedule.at(kMonday, at(18)), std::nullopt);
    EXPECT_EQ(schedule.at(kSunday, at(12)), std::nullopt);
    EXPECT_EQ(schedule.at(kSaturday, at(23, 59)), 7u);
    EXPECT_EQ(schedule.at(kSunday, at(0)), std::nullopt);
}

TEST(RateSchedule, GoesPastMidnightAndRoundTheWeek) {
    const RateSchedule schedule = schedule_of({"fri-sun 22:00-06:00 5"});
    EXPECT_EQ(schedule.at(kFriday, at(22)), 5u);
    EXPECT_EQ(schedule.at(kSaturday, at(5, 59)), 5u);
    EXPECT_EQ(schedule.at(kMonday, at(5)), 5u);  // Sunday night
    EXPECT_EQ(schedule.at(kFriday, at(5)), std::nullopt);
    EXPECT_EQ(schedule.at(kMonday, at(22)), std::nullopt);
}

TEST(RateSchedule, TheFirstThatCoversCounts) {
    const RateSchedule schedule = schedule_of({"mon 10:00-11:00 0", "daily 00:00-24:00 9"});
    EXPECT_EQ(schedule.at(kMonday, at(10, 30)), 0u);
    EXPECT_EQ(schedule.at(kMonday, at(11)), 9u);
    EXPECT_EQ(schedule.at(kSunday, at(10, 30)), 9u);
}

TEST(RateSchedule, WhatIsNoEntryIsNamed) {
    for (const char* bad : {"", "mon", "mon 08:00-18:00", "mon 08:00-18:00 ", "moon 08:00-18:00 1",
                            "mon-x 08:00-18:00 1", "mon 8:00-18:00 1", "mon 08:00 1",
                            "mon 08:60-18:00 1", "mon 24:00-18:00 1", "mon 08:00-08:00 1",
                            "mon 08:00-24:01 1", "mon 08:00-18:00 -1", "mon 08:00-18:00 1k"}) {
        RateSchedule schedule;
        const auto refused = schedule.add(bad);
        ASSERT_FALSE(refused) << bad;
        EXPECT_NE(refused.error().context.find(bad), std::string::npos);
        EXPECT_TRUE(schedule.empty());
    }
}

}  // namespace
}  // namespace antipode::disksync
