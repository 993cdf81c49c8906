#include "common/base/toml_section.h"

#include <filesystem>
#include <fstream>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

namespace antipode {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using Need = TomlSection::Need;

enum class Colour : uint8_t { red = 1, green };

struct Settings {
    std::string text = "as it was";
    std::string file;
    Name name;
    bool flag = false;
    uint16_t count = 7;
    double share = 0.5;
    std::chrono::nanoseconds pause = std::chrono::microseconds(1500);
    std::chrono::milliseconds limit{250};
    std::vector<std::string> list;
    Colour colour = Colour::green;
};

Result<Settings> read(std::string_view toml) {
    Settings out;
    FT_TRY(const toml::table file, parse_toml(toml, "/etc/x/y.toml"));
    TomlSection top(file, "/etc/x/y.toml");
    FT_TRY_VOID(top.name("name", out.name));
    FT_TRY(TomlSection section, top.section("part"));
    FT_TRY_VOID(section.text("text", out.text));
    FT_TRY_VOID(section.path("file", out.file));
    FT_TRY_VOID(section.flag("flag", out.flag));
    FT_TRY_VOID(section.number("count", out.count, 1, 60'000));
    FT_TRY_VOID(section.number("share", out.share, 0.25, 4));
    FT_TRY_VOID(section.milliseconds("pause_ms", out.pause, 0, 5000));
    FT_TRY_VOID(section.seconds("limit_seconds", out.limit, 0.1, 10));
    FT_TRY_VOID(section.texts("list", out.list));
    FT_TRY_VOID(section.word("colour", out.colour, {"red", "green"}));
    FT_TRY_VOID(section.nothing_else());
    FT_TRY_VOID(top.nothing_else());
    return out;
}

std::string problem(std::string_view toml) {
    const auto settings = read(toml);
    return settings ? "" : settings.error().context;
}

std::string problem_of(std::string_view line) {
    return problem("name = \"a\"\n[part]\n" + std::string(line) + "\n");
}

TEST(TomlSection, WhatIsNotGivenStaysAsItWas) {
    const auto settings = read("name = \"a\"");
    ASSERT_TRUE(settings) << settings.error().to_string();
    EXPECT_EQ(settings->text, "as it was");
    EXPECT_EQ(settings->file, "");
    EXPECT_EQ(settings->count, 7u);
    EXPECT_EQ(settings->pause, std::chrono::microseconds(1500));
    EXPECT_EQ(settings->limit, std::chrono::milliseconds(250));
    EXPECT_EQ(settings->colour, Colour::green);
}

TEST(TomlSection, WhatIsGiven) {
    const auto settings = read(
        "name = \"a\"\n[part]\ntext = \"t\"\nfile = \"f.pem\"\nflag = true\ncount = 60_000\n"
        "share = 1\npause_ms = 20\nlimit_seconds = 1.5\nlist = [\"b\", \"c\"]\ncolour = \"red\"\n");
    ASSERT_TRUE(settings) << settings.error().to_string();
    EXPECT_EQ(settings->name.view(), "a");
    EXPECT_EQ(settings->text, "t");
    EXPECT_EQ(settings->file, "/etc/x/f.pem");
    EXPECT_TRUE(settings->flag);
    EXPECT_EQ(settings->count, 60'000u);
    EXPECT_EQ(settings->share, 1.0);
    EXPECT_EQ(settings->pause, std::chrono::milliseconds(20));
    EXPECT_EQ(settings->limit, std::chrono::milliseconds(1500));
    EXPECT_THAT(settings->list, ElementsAre("b", "c"));
    EXPECT_EQ(settings->colour, Colour::red);
}

TEST(TomlSection, WhatIsWrongIsNamedWithItsLine) {
    const std::string at = "/etc/x/y.toml:3: part.";
    EXPECT_EQ(problem_of("text = \"\""), at + "text is not a string with text in it");
    EXPECT_EQ(problem_of("file = 1"), at + "file is not a string with text in it");
    EXPECT_EQ(problem_of("flag = 1"), at + "flag is not true or false");
    for (const char* bad : {"0", "60001", "-1", "9223372036854775807", "1.0", "\"1\"", "true"}) {
        EXPECT_EQ(problem_of(std::string("count = ") + bad),
                  at + "count is not a whole number from 1 to 60000")
            << bad;
    }
    for (const char* bad : {"0.2", "4.1", "nan", "inf", "\"1\""}) {
        EXPECT_EQ(problem_of(std::string("share = ") + bad),
                  at + "share is not a number from 0.25 to 4")
            << bad;
    }
    EXPECT_EQ(problem_of("pause_ms = 5001"), at + "pause_ms is not a whole number from 0 to 5000");
    EXPECT_THAT(problem_of("limit_seconds = 0"), HasSubstr("limit_seconds is not a number from"));
    EXPECT_EQ(problem_of("list = \"b\""), at + "list is not a list of strings");
    EXPECT_EQ(problem_of("list = [\"b\", 1]"),
              at + "list is not a list of strings with text in them");
    EXPECT_EQ(problem_of("colour = \"blue\""), at + "colour is \"blue\", allowed are: red, green");
    EXPECT_EQ(problem_of("tint = \"blue\""), at + "tint is not a setting");
    EXPECT_EQ(problem("name = \"a\"\nother = 1"), "/etc/x/y.toml:2: other is not a setting");
    EXPECT_EQ(problem("name = \"a\"\npart = 1"), "/etc/x/y.toml:2: part is not a section");
    EXPECT_EQ(problem(""), "/etc/x/y.toml: name is missing");
    EXPECT_THAT(problem("name = \"Not A Name\""), HasSubstr("/etc/x/y.toml: name"));
    EXPECT_THAT(problem("name = \n"), HasSubstr("/etc/x/y.toml:1: "));
}

TEST(TomlSection, ARequiredSectionIsMissed) {
    const auto file = parse_toml("", "y.toml");
    ASSERT_TRUE(file);
    TomlSection top(*file, "y.toml");
    const auto section = top.section("part", Need::required);
    ASSERT_FALSE(section);
    EXPECT_EQ(section.error().context, "y.toml: part is missing");
    EXPECT_EQ(top.needs({"this"}).error().context, "y.toml: this is missing");
}

TEST(TomlSection, AFileIsReadWithinItsBound) {
    std::string pattern = std::filesystem::temp_directory_path() / "toml-XXXXXX";
    const std::string directory = ::mkdtemp(pattern.data());
    const std::string path = directory + "/y.toml";
    const auto absent = load_toml(path);
    ASSERT_FALSE(absent);
    EXPECT_EQ(absent.error().code, Errc::not_found);
    EXPECT_THAT(absent.error().context, HasSubstr(path + ": No such file"));
    std::ofstream(path) << "a = 1\n#" << std::string((1 << 20) - 7, 'x');
    EXPECT_TRUE(load_toml(path));
    std::ofstream(path, std::ios::app) << "x";
    const auto large = load_toml(path);
    ASSERT_FALSE(large);
    EXPECT_THAT(large.error().context, HasSubstr("is larger than 1048576 bytes"));
    std::filesystem::remove_all(directory);
}

}  // namespace
}  // namespace antipode
