// Two releases that do not understand each other say so, and which one is too old.
#include "replicator/control/format_versions.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace antipode::control {
namespace {

using testing::HasSubstr;

std::string trouble(const FormatVersions& own, const FormatVersions& peer) {
    return format_trouble({"north", "1.0", own}, {"south", "2.0", peer}).value_or("");
}

// What is on the line today. A number that changes here needs a reader for the former version.
TEST(FormatVersions, of_this_software) {
    EXPECT_EQ(to_lines(own_formats()),
              "format checkpoint 1..1\nformat heal 2..2\nformat log 1..2\nformat peer 1..1\nformat "
              "seed 2..2\nformat seed-digests 1..1\nformat verify 1..1\n");
}

TEST(FormatVersions, a_greeting_is_formats_and_a_shape) {
    const auto greeting = read_greeting("memory 16 MiB\nformat log 1..3\nboot image 0a\n");
    EXPECT_EQ(greeting.shape, "memory 16 MiB\nboot image 0a\n");
    EXPECT_EQ(greeting.formats, (FormatVersions{{"log", {1, 3}}}));
    const auto own = read_greeting(to_lines(own_formats()));
    EXPECT_EQ(own.formats, own_formats());
    EXPECT_EQ(own.shape, "");
}

TEST(FormatVersions, what_is_not_understood_is_left_out) {
    for (const char* line : {"format", "format ", "format log", "format log 1", "format log 1..",
                             "format log ..1", "format log 2..1", "format log 0..1",
                             "format log 1..300", "format log 1..2x", "format 1..2 log"}) {
        EXPECT_EQ(read_greeting(line).formats, FormatVersions()) << line;
    }
}

TEST(FormatVersions, ranges_that_overlap_are_understood) {
    EXPECT_EQ(trouble(own_formats(), own_formats()), "");
    EXPECT_EQ(trouble({{"log", {1, 1}}}, {{"log", {1, 2}}}), "");
    EXPECT_EQ(trouble({{"log", {2, 3}}}, {{"log", {1, 2}}}), "");
    EXPECT_EQ(trouble({{"log", {1, 1}}}, {{"log", {1, 1}}, {"future", {7, 7}}}), "");
}

// Only what an operator asks for needs it.
TEST(FormatVersions, a_site_that_cannot_compare_disks_is_understood_all_the_same) {
    auto former = own_formats();
    former.erase(std::string(kVerifyFormat));
    EXPECT_EQ(trouble(own_formats(), former), "");
    EXPECT_FALSE(speaks(former, kVerifyFormat));
    EXPECT_TRUE(speaks(own_formats(), kVerifyFormat));
    former[std::string(kVerifyFormat)] = {2, 2};
    EXPECT_EQ(trouble(own_formats(), former), "");
    EXPECT_FALSE(speaks(former, kVerifyFormat));
}

// A VM of another mode does not need stretches of a peer.
TEST(FormatVersions, mode_auto_needs_a_peer_that_knows_stretches) {
    const FormatVersions former{{"log", {1, 1}}};
    EXPECT_EQ(trouble({{"log", {1, 2}}}, former), "");
    const auto refused = stretch_trouble({"south", "0.9", former});
    ASSERT_TRUE(refused);
    EXPECT_EQ(*refused,
              "machine-config.mode is auto, which needs version 2 of the log format, and south "
              "(software 0.9) does not speak it: bring it to this site's release, or use \"mode\": "
              "\"lockstep\"");
    EXPECT_TRUE(stretch_trouble({"south", "0.9", {}}));
    EXPECT_FALSE(stretch_trouble({"south", "1.0", own_formats()}));
}

TEST(FormatVersions, the_refusal_says_who_is_too_old) {
    const auto older = trouble({{"log", {1, 1}}}, {{"log", {2, 3}}});
    EXPECT_THAT(older, HasSubstr("south (software 2.0) speaks versions 2 to 3 of the log format"));
    EXPECT_THAT(older, HasSubstr("north (software 1.0) speaks version 1"));
    EXPECT_THAT(older, HasSubstr("bring north to the release of south"));
    const auto newer = trouble({{"log", {2, 3}}}, {{"log", {1, 1}}});
    EXPECT_THAT(newer, HasSubstr("bring south to the release of north"));
    const auto silent = trouble({{"log", {1, 1}}, {"seed", {2, 2}}}, {{"log", {1, 1}}});
    EXPECT_THAT(silent, HasSubstr("south (software 2.0) does not say which version of the seed"));
}

}  // namespace
}  // namespace antipode::control
