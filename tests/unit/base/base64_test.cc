#include "common/base/base64.h"

#include <gtest/gtest.h>

namespace antipode {
namespace {

TEST(Base64, TheStandardsVectors) {
    struct Case {
        const char* bytes;
        const char* padded;
        const char* url;
    };
    for (const Case each :
         {Case{"", "", ""}, Case{"f", "Zg==", "Zg"}, Case{"fo", "Zm8=", "Zm8"},
          Case{"foo", "Zm9v", "Zm9v"}, Case{"foob", "Zm9vYg==", "Zm9vYg"},
          Case{"fooba", "Zm9vYmE=", "Zm9vYmE"}, Case{"foobar", "Zm9vYmFy", "Zm9vYmFy"},
          Case{"\xfb\xff", "+/8=", "-_8"}}) {
        EXPECT_EQ(base64(each.bytes), each.padded);
        EXPECT_EQ(base64url(each.bytes), each.url);
        EXPECT_EQ(from_base64(each.padded).value(), each.bytes);
        EXPECT_EQ(from_base64url(each.url).value(), each.bytes);
    }
}

TEST(Base64, ComesBackAsItWas) {
    std::string bytes;
    for (int i = 0; i < 300; ++i) {
        EXPECT_EQ(from_base64(base64(bytes)).value(), bytes);
        EXPECT_EQ(from_base64url(base64url(bytes)).value(), bytes);
        bytes.push_back(static_cast<char>(i * 7));
    }
}

TEST(Base64, NothingElseIsRead) {
    for (const char* bad : {"a", "ab?=", "abc", "====", "=abc", "a===", "ab==", "-_8=", "AA=A",
                            "AAAAA===", "Zg==Zg=="}) {
        EXPECT_FALSE(from_base64(bad)) << bad;
    }
    for (const char* bad : {"A", "A=", "AB", "a b", "AAAAA", "+/8", "Zg=="}) {
        EXPECT_FALSE(from_base64url(bad)) << bad;
    }
}

}  // namespace
}  // namespace antipode
