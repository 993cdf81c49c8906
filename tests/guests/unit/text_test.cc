#include "tests/guests/lib/text.h"

#include <gtest/gtest.h>
#include <string>

namespace antipode::guest {
namespace {

template <size_t kBytes>
std::string str(const Line<kBytes>& line) {
    return {line.data(), line.bytes()};
}

std::string option_or(const char* line, const char* name, const char* otherwise) {
    Text value;
    return option(text_of(line), name, value) ? std::string(value.data, value.bytes) : otherwise;
}

TEST(Text, LineWritesNumbersAndAddresses) {
    Line<128> line;
    line.text("a=").number(0).text(" b=").number(18446744073709551615ull);
    line.text(" c=").hex(0).text(" d=").hex(0xdeadbeef).text(" ").address(0x0a00020f);
    EXPECT_EQ(str(line), "a=0 b=18446744073709551615 c=0x0 d=0xdeadbeef 10.0.2.15");
}

TEST(Text, LineStopsAtItsCapacity) {
    Line<4> line;
    line.text("abcdef").number(7);
    EXPECT_EQ(str(line), "abcd");
}

TEST(Text, OptionTakesTheLastAndOnlyWholeNames) {
    EXPECT_EQ(option_or("x=1 xy=2 x=3", "x", "none"), "3");
    EXPECT_EQ(option_or("ax=1", "x", "none"), "none");
    EXPECT_EQ(option_or("x", "x", "none"), "none");
    EXPECT_EQ(option_or("x=", "x", "none"), "");
    EXPECT_EQ(option_or("  a\tx=5\n", "x", "none"), "5");
}

TEST(Text, OptionNumberFallsBackOnRubbish) {
    EXPECT_EQ(option_number(text_of("n=12"), "n", 7), 12u);
    EXPECT_EQ(option_number(text_of("n=0x1f"), "n", 7), 31u);
    EXPECT_EQ(option_number(text_of("n=12k"), "n", 7), 7u);
    EXPECT_EQ(option_number(text_of("n=0x"), "n", 7), 7u);
    EXPECT_EQ(option_number(text_of(""), "n", 7), 7u);
}

TEST(Text, AddressTakesFourPartsBelow256) {
    uint32_t ip = 0;
    Text text = text_of("10.0.2.15/24");
    EXPECT_TRUE(take_address(text, ip));
    EXPECT_EQ(ip, 0x0a00020fu);
    EXPECT_TRUE(take_char(text, '/'));
    text = text_of("10.0.2");
    EXPECT_FALSE(take_address(text, ip));
    text = text_of("10.0.2.256");
    EXPECT_FALSE(take_address(text, ip));
}

}  // namespace
}  // namespace antipode::guest
