// Scripts of line changes: what they say, and that nonsense is refused with its line.
#include "tests/system/wan_link/script.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace antipode::wan {
namespace {

using std::chrono::milliseconds;
using testing::AnyOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;
using testing::StartsWith;

// Up to 1000 steps: commands as they are, waits as "wait NANOSECONDS".
std::vector<std::string> steps(std::string_view text, uint64_t seed = 1) {
    auto script = Script::parse(text, seed);
    EXPECT_TRUE(script) << script.error().to_string();
    std::vector<std::string> all;
    while (all.size() < 1000) {
        const auto step = script->next();
        if (!step) break;
        all.push_back(step->command.empty() ? fmt::format("wait {}", step->wait.count())
                                            : step->command);
    }
    return all;
}

TEST(Script, StepsInOrder) {
    EXPECT_THAT(steps("# first\nset a->b loss=0.5\nwait 200ms\n\ncut all # at last\nwait 2s\n"),
                ElementsAre("set a->b loss=0.5", "wait 200000000", "cut all", "wait 2000000000"));
}

TEST(Script, RepeatsAndNests) {
    EXPECT_THAT(steps("repeat 2 {\n x\n repeat 2 {\n y\n }\n}\nz"),
                ElementsAre("x", "y", "y", "x", "y", "y", "z"));
}

TEST(Script, ForEver) {
    EXPECT_THAT(steps("repeat {\n x\n wait 5ms\n}"), SizeIs(1000));
}

TEST(Script, ChoosesOne) {
    const auto all = steps("repeat 300 {\n choose {\n x\n sequence {\n y\n z\n }\n }\n}");
    EXPECT_THAT(all, testing::Each(AnyOf("x", "y", "z")));
    EXPECT_EQ(std::count(all.begin(), all.end(), "y"), std::count(all.begin(), all.end(), "z"));
    EXPECT_GT(std::count(all.begin(), all.end(), "x"), 90);
    EXPECT_GT(std::count(all.begin(), all.end(), "y"), 90);
}

TEST(Script, DrawsNumbers) {
    for (const auto& step : steps("repeat 50 {\n set a->b delay_ms=10..20 loss=0.1\n}")) {
        ASSERT_THAT(step, StartsWith("set a->b delay_ms="));
        EXPECT_THAT(step, HasSubstr(" loss=0.1"));
        const double delay = std::stod(step.substr(18));
        EXPECT_GE(delay, 10);
        EXPECT_LE(delay, 20);
    }
    auto script = Script::parse("repeat 100 {\n wait 10ms..20ms\n}", 3);
    ASSERT_TRUE(script);
    while (const auto step = script->next()) {
        EXPECT_GE(step->wait, milliseconds(10));
        EXPECT_LE(step->wait, milliseconds(20));
    }
}

TEST(Script, SameSeedSameSteps) {
    constexpr const char* kText = "repeat 50 {\n choose {\n x\n y\n }\n wait 1ms..9ms\n}";
    EXPECT_EQ(steps(kText, 5), steps(kText, 5));
    EXPECT_NE(steps(kText, 5), steps(kText, 6));
}

TEST(Script, RefusesNonsenseAndNamesTheLine) {
    const std::pair<const char*, const char*> kNonsense[] = {
        {"x\nwait soon", "line 2"},      {"wait 5", "line 1"},
        {"wait 3s..1s", "backwards"},    {"}", "line 1"},
        {"repeat 3 {\nx", "not closed"}, {"repeat {\nx\n}", "1ms"},
        {"choose {\n}", "empty"},        {"loop 3 {\nx\n}", "opens no block"},
        {"repeat none {\nx\n}", "none"}, {"repeat {\nchoose {\nwait 1s\nx\n}\n}", "1ms"},
    };
    for (const auto& [text, expected] : kNonsense) {
        const auto script = Script::parse(text, 1);
        ASSERT_FALSE(script) << text;
        EXPECT_THAT(script.error().context, HasSubstr(expected)) << text;
    }
}

}  // namespace
}  // namespace antipode::wan
