#include "web/exposition.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <limits>

namespace antipode::web {
namespace {

using testing::HasSubstr;

TEST(Exposition, OneFamilyStandsTogetherWhateverItsSources) {
    Exposition out;
    out.family("own_up", "gauge", "Own.");
    out.sample("own_up", {{"pair", "a\"b\\c\nd"}}, 1);
    out.sample("own_up", {}, std::numeric_limits<double>::quiet_NaN());
    const std::string text =
        "# HELP x_total Things.\n# TYPE x_total counter\nx_total 3\n"
        "# HELP d_seconds Delay.\n# TYPE d_seconds histogram\n"
        "d_seconds_bucket{le=\"+Inf\"} 2\nd_seconds_sum 0.5\nd_seconds_count 2\n";
    out.merge(text, {{"pair", "one"}});
    out.merge(text, {{"pair", "two"}});
    EXPECT_EQ(out.text(),
              "# HELP d_seconds Delay.\n# TYPE d_seconds histogram\n"
              "d_seconds_bucket{pair=\"one\",le=\"+Inf\"} 2\n"
              "d_seconds_sum{pair=\"one\"} 0.5\nd_seconds_count{pair=\"one\"} 2\n"
              "d_seconds_bucket{pair=\"two\",le=\"+Inf\"} 2\n"
              "d_seconds_sum{pair=\"two\"} 0.5\nd_seconds_count{pair=\"two\"} 2\n"
              "# HELP own_up Own.\n# TYPE own_up gauge\nown_up{pair=\"a\\\"b\\\\c\\nd\"} 1\n"
              "# HELP x_total Things.\n# TYPE x_total counter\n"
              "x_total{pair=\"one\"} 3\nx_total{pair=\"two\"} 3\n");
    EXPECT_EQ(out.rejected(), 0u);
}

TEST(Exposition, WhatIsNoSampleIsLeftOutAndCounted) {
    Exposition out;
    out.family("good", "gauge", "Good.");
    out.merge(
        "good 1\nunknown 2\n{} 3\n9bad 1\ngood{x=\"1\" 2\n# TYPE good counter\n\n# a comment\n",
        {});
    EXPECT_EQ(out.text(), "# HELP good Good.\n# TYPE good gauge\ngood{} 1\n");
    EXPECT_EQ(out.rejected(), 5u);
}

TEST(Exposition, IsBounded) {
    Exposition out;
    out.family("good", "gauge", "Good.");
    const std::string line = "good{x=\"" + std::string(1 << 20, 'y') + "\"} 1\n";
    for (int i = 0; i < 20; ++i) out.merge(line, {});
    EXPECT_LE(out.text().size(), Exposition::kBytesMax + 1024);
    EXPECT_GT(out.rejected(), 0u);
}

}  // namespace
}  // namespace antipode::web
