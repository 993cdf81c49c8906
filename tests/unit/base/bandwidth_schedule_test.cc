// The bandwidth schedule's text, and what it says of a moment.
#include "common/base/bandwidth_schedule.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace antipode {
namespace {

using testing::HasSubstr;

constexpr int kMon = 0, kFri = 4, kSat = 5, kSun = 6;
constexpr int at(int hour, int minute = 0) {
    return hour * 60 + minute;
}

std::string error_of(std::string_view text) {
    const auto parsed = BandwidthSchedule::parse(text, "bulk_cap");
    return parsed ? "none" : parsed.error().context;
}

TEST(BandwidthSchedule, the_last_rule_that_fits_counts) {
    const auto schedule = BandwidthSchedule::parse(
        "# our line\n"
        "always 50MB\n"
        "mon-fri 08:00-18:00 5MB; sat,sun 22:00-06:00 none\n"
        "fri 12:30-13:00 500kB",
        "bulk_cap");
    ASSERT_TRUE(schedule.has_value()) << schedule.error().to_string();
    EXPECT_EQ(schedule->cap_at(kMon, at(7, 59)), 50'000'000u);
    EXPECT_EQ(schedule->cap_at(kMon, at(8)), 5'000'000u);
    EXPECT_EQ(schedule->cap_at(kMon, at(17, 59)), 5'000'000u);
    EXPECT_EQ(schedule->cap_at(kMon, at(18)), 50'000'000u);
    EXPECT_EQ(schedule->cap_at(kFri, at(12, 30)), 500'000u);
    EXPECT_EQ(schedule->cap_at(kFri, at(13)), 5'000'000u);
    EXPECT_EQ(schedule->cap_at(kSat, at(21, 59)), 50'000'000u);
    EXPECT_EQ(schedule->cap_at(kSat, at(22)), 0u);
    EXPECT_EQ(schedule->cap_at(kSun, at(5, 59)), 0u) << "saturday's span goes past midnight";
    EXPECT_EQ(schedule->cap_at(kMon, at(5, 59)), 0u) << "and so does sunday's";
    EXPECT_EQ(schedule->cap_at(kSat, at(5, 59)), 50'000'000u) << "but there is none on friday";
}

TEST(BandwidthSchedule, nothing_caps_nothing) {
    const auto schedule = BandwidthSchedule::parse("", "bulk_cap");
    ASSERT_TRUE(schedule.has_value());
    EXPECT_TRUE(schedule->empty());
    EXPECT_EQ(schedule->cap_at(kMon, 0), 0u);
}

TEST(BandwidthSchedule, days_may_go_round_the_week) {
    const auto schedule = BandwidthSchedule::parse("sat-mon 00:00-24:00 1MB", "bulk_cap");
    ASSERT_TRUE(schedule.has_value()) << schedule.error().to_string();
    for (const int day : {kSat, kSun, kMon})
        EXPECT_EQ(schedule->cap_at(day, at(23, 59)), 1'000'000u);
    EXPECT_EQ(schedule->cap_at(kFri, 0), 0u);
}

TEST(BandwidthSchedule, errors_name_rule_and_word) {
    EXPECT_EQ(error_of("always 5MB\nmonday 08:00-18:00 5MB"),
              "bulk_cap: rule 2: 'monday' is no day, expected mon to sun");
    EXPECT_EQ(error_of("mon 8-18 5MB"),
              "bulk_cap: rule 1: '8' is no time, expected 00:00 to 24:00");
    EXPECT_EQ(error_of("mon 08:00-25:00 5MB"),
              "bulk_cap: rule 1: '25:00' is no time, expected 00:00 to 24:00");
    EXPECT_EQ(error_of("mon 08:00 5MB"),
              "bulk_cap: rule 1: '08:00' is no span of time, expected for example 08:00-18:00");
    EXPECT_EQ(error_of("mon 08:00-08:00 5MB"),
              "bulk_cap: rule 1: '08:00-08:00' is an empty span of time");
    for (const char* rate : {"5XB", "-5MB", "MB", "", "1e99GB", "nanMB", "infB", "0.1B"}) {
        EXPECT_THAT(error_of(std::string("always ") + rate), HasSubstr("is no rate")) << rate;
    }
    EXPECT_EQ(error_of("always 5MB please"), "bulk_cap: rule 1: 'please' behind the rate");
    std::string many;
    for (int i = 0; i < 300; ++i) many += "always 1MB\n";
    EXPECT_EQ(error_of(many), "bulk_cap: more than 256 rules");
}

TEST(BandwidthSchedule, what_no_rule_covers_is_not_said_to_have_no_cap) {
    const auto schedule = BandwidthSchedule::parse("mon 22:00-06:00 none", "schedule");
    ASSERT_TRUE(schedule.has_value()) << schedule.error().to_string();
    EXPECT_EQ(schedule->rule_at(kMon, at(23)), 0u);
    EXPECT_EQ(schedule->rule_at(kMon, at(12)), std::nullopt);
    EXPECT_EQ(schedule->cap_at(kMon, at(12)), 0u);
}

}  // namespace
}  // namespace antipode
