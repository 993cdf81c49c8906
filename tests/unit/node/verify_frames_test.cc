// The messages of a verify, byte for byte, and what no sender makes.
#include "replicator/control/verify_frames.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace antipode::control {
namespace {

using testing::HasSubstr;

ChunkDigest digest(uint8_t value) {
    ChunkDigest made;
    made.bytes.fill(value);
    return made;
}

std::vector<VerifyMessage> one_of_each() {
    return {VerifyAsk{7, VerifyPurpose::compare, 1, 32, 16, 0x1122334455667788, {900, 3}},
            VerifyAsk{8, VerifyPurpose::repair, 0, 5, 1, 2, {901, 0}},
            VerifyDigests{7, {digest(1), digest(2)}},
            VerifyWritten{8},
            VerifyLater{9, VerifyLater::Again::never, "no"},
            VerifyBytes{8, {std::byte{1}, std::byte{2}}},
            VerifyDrop{7},
            VerifyFound{VerifyFound::What::repaired, 1, 33, digest(3), digest(4)}};
}

std::string hex(const std::vector<std::byte>& bytes) {
    std::string text;
    for (const std::byte each : bytes) text += fmt::format("{:02x}", static_cast<int>(each));
    return text;
}

std::vector<std::byte> changed(const VerifyMessage& message, size_t at, uint8_t value) {
    auto bytes = encode(message);
    bytes.at(at) = static_cast<std::byte>(value);
    return bytes;
}

std::string problem(const std::vector<std::byte>& bytes) {
    const auto read = decode_verify_message(bytes);
    return read ? "" : read.error().to_string();
}

TEST(VerifyFrames, EachComesBack) {
    for (const auto& message : one_of_each()) {
        const auto bytes = encode(message);
        const auto back = decode_verify_message(bytes);
        ASSERT_TRUE(back) << back.error().to_string();
        EXPECT_EQ(*back, message);
    }
}

TEST(VerifyFrames, GoldenBytes) {
    const auto all = one_of_each();
    EXPECT_EQ(hex(encode(all[0])),
              "0101"
              "0700000000000000"
              "00"
              "01000000"
              "2000000000000000"
              "10000000"
              "8877665544332211"
              "8403000000000000"
              "0300000000000000");
    EXPECT_EQ(hex(encode(all[2])),
              "0102"
              "0700000000000000"
              "02000000"
              "01010101010101010101010101010101"
              "02020202020202020202020202020202");
    EXPECT_EQ(hex(encode(all[3])), "01030800000000000000");
    EXPECT_EQ(hex(encode(all[4])), "0104090000000000000001020000006e6f");
    EXPECT_EQ(hex(encode(all[5])), "01050800000000000000020000000102");
    EXPECT_EQ(hex(encode(all[6])), "01060700000000000000");
    EXPECT_EQ(hex(encode(all[7])),
              "0107"
              "01"
              "01000000"
              "2100000000000000"
              "03030303030303030303030303030303"
              "04040404040404040404040404040404");
}

TEST(VerifyFrames, NothingIsShorterOrLonger) {
    for (const auto& message : one_of_each()) {
        auto bytes = encode(message);
        for (size_t length = 0; length < bytes.size(); ++length) {
            EXPECT_FALSE(decode_verify_message(std::span(bytes).first(length)));
        }
        bytes.push_back(std::byte{0});
        EXPECT_FALSE(decode_verify_message(bytes));
    }
}

TEST(VerifyFrames, WhatNoSenderMakesIsRefused) {
    const auto all = one_of_each();
    EXPECT_THAT(problem(changed(all[0], 0, 2)), HasSubstr("version is 2, expected 1"));
    EXPECT_THAT(problem(changed(all[0], 1, 0)), HasSubstr("no known kind"));
    EXPECT_THAT(problem(changed(all[0], 1, 8)), HasSubstr("no known kind"));
    EXPECT_THAT(problem(changed(all[0], 10, 2)), HasSubstr("no known purpose"));
    EXPECT_THAT(problem(changed(all[0], 23, 0)), HasSubstr("no or too many chunks"));
    EXPECT_THAT(problem(changed(all[0], 23, 17)), HasSubstr("no or too many chunks"));
    EXPECT_THAT(problem(changed(all[1], 23, 2)), HasSubstr("no or too many chunks"));
    EXPECT_THAT(problem(changed(all[2], 10, 0)), HasSubstr("no or too many digests"));
    EXPECT_THAT(problem(changed(all[2], 10, 17)), HasSubstr("no or too many digests"));
    EXPECT_THAT(problem(changed(all[4], 10, 2)), HasSubstr("neither again nor never"));
    EXPECT_THAT(problem(encode(VerifyBytes{8, {}})), HasSubstr("has no bytes"));
    EXPECT_THAT(problem(changed(all[7], 2, 2)), HasSubstr("says nothing known"));
    const VerifyBytes large{8, std::vector<std::byte>(VerifyAsk::kChunkBytes + 1)};
    EXPECT_FALSE(decode_verify_message(encode(large)));
}

TEST(VerifyFrames, ALongReasonIsCut) {
    const VerifyLater later{1, VerifyLater::Again::yes, std::string(2000, 'x')};
    const auto back = decode_verify_message(encode(later));
    ASSERT_TRUE(back);
    EXPECT_EQ(std::get<VerifyLater>(*back).text.size(), VerifyLater::kTextBytesMax);
}

}  // namespace
}  // namespace antipode::control
