#include "common/base/name.h"

#include <gtest/gtest.h>

#include "common/base/ids.h"

namespace antipode {
namespace {

TEST(Name, TakesWhatFitsEverywhere) {
    EXPECT_EQ(Name::parse("site-a", "site")->view(), "site-a");
    EXPECT_EQ(Name::parse("0", "site")->view(), "0");
    EXPECT_TRUE(Name::parse(std::string(31, 'a'), "site").has_value());
    EXPECT_TRUE(Name().empty());
}

TEST(Name, RefusesAndSaysWhichField) {
    for (const std::string& text :
         {std::string(), std::string(32, 'a'), std::string("Site"), std::string("a b"),
          std::string("-a"), std::string("a-"), std::string("a/b"), std::string("a\0b", 3)}) {
        const auto name = Name::parse(text, "pair.name");
        ASSERT_FALSE(name.has_value()) << text;
        EXPECT_EQ(name.error().context.rfind("pair.name: ", 0), 0u) << name.error().context;
    }
}

TEST(Name, EqualNamesAreEqualBytes) {
    EXPECT_EQ(Name::literal("b").bytes(), Name::parse("b", "x")->bytes());
    EXPECT_LT(Name::literal("a"), Name::literal("b"));
}

TEST(Ids, AreOrderedAndFormatted) {
    EXPECT_LT(Epoch(1), Epoch(1).next());
    EXPECT_EQ(fmt::format("{}", Epoch(12)), "12");
    EXPECT_EQ((Member{Name::literal("a"), Incarnation(1)}),
              (Member{Name::literal("a"), Incarnation(1)}));
}

}  // namespace
}  // namespace antipode
