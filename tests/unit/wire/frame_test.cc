// Frames of the logging channel: golden bytes, and every rule that a header can break.
#include "common/wire/frame.h"

#include <cstring>
#include <gtest/gtest.h>

#include "common/wire/channel_frames.h"
#include "common/wire/checksum.h"
#include "tests/unit/wire/hex.h"

namespace antipode::wire {
namespace {

Frame log_frame() {
    Frame frame;
    frame.type = FrameType::data;
    frame.message_class = static_cast<uint8_t>(MessageClass::log);
    frame.message_type = 7;
    frame.flags = frame_flags::kMore;
    frame.body_bytes = 3;
    frame.pair = pair_id(Name::literal("web1"));
    frame.epoch = Epoch(5);
    frame.sequence = 258;
    frame.session = session_id(Incarnation(0x1111), Incarnation(0x2222));
    frame.body_checksum = checksum64(std::as_bytes(std::span("abc", 3)));
    return frame;
}

// With its checksum made right again, so that the rule behind it is reached.
FrameHeaderBytes changed(size_t offset, std::initializer_list<uint8_t> bytes) {
    FrameHeaderBytes header = encode(log_frame());
    for (const uint8_t b : bytes) header[offset++] = std::byte{b};
    std::memset(header.data() + 48, 0, 8);
    const uint64_t checksum = checksum64(header);
    std::memcpy(header.data() + 48, &checksum, 8);
    return header;
}

std::string rule(const FrameHeaderBytes& header) {
    const char* broken = invalid(std::span<const std::byte, kFrameHeaderBytes>(header));
    return broken == nullptr ? "" : broken;
}

// Version 1. What a peer of another version has written must be read for ever: never change these.
TEST(Frame, golden_bytes_of_version_1) {
    EXPECT_EQ(hex(encode(log_frame())),
              "41506631010201010200010703000000a5b6302c9be1ab400500000000000000"
              "0201000000000000104f4ee09ca96668f48797354e4c16c850392f89945faf78");
}

TEST(Frame, decodes_what_it_encodes) {
    const FrameHeaderBytes header = encode(log_frame());
    EXPECT_EQ(rule(header), "");
    EXPECT_EQ(decode_frame(header), log_frame());
}

TEST(Frame, every_changed_bit_of_a_header_is_found) {
    for (size_t bit = 0; bit < kFrameHeaderBytes * 8; ++bit) {
        FrameHeaderBytes header = encode(log_frame());
        header[bit / 8] ^= std::byte{1} << bit % 8;
        EXPECT_NE(rule(header), "") << "bit " << bit;
    }
}

TEST(Frame, every_rule_has_a_name) {
    EXPECT_EQ(rule(changed(0, {0})), "magic is wrong");
    EXPECT_EQ(rule(changed(4, {2})), "protocol is not the channel's");
    EXPECT_EQ(rule(changed(5, {0})), "type is not known");
    EXPECT_EQ(rule(changed(5, {6})), "type is not known");
    EXPECT_EQ(rule(changed(6, {0})), "version is 0");
    EXPECT_EQ(rule(changed(7, {0})), "compat is 0");
    EXPECT_EQ(rule(changed(7, {2})), "compat is above version");
    EXPECT_EQ(rule(changed(6, {9, 2})), "compat is above the version spoken here");
    EXPECT_EQ(rule(changed(8, {4})), "flags that its type does not have");
    EXPECT_EQ(rule(changed(8, {0, 0x80})), "flags that its type does not have");
    EXPECT_EQ(rule(changed(10, {0})), "message class is not known");
    EXPECT_EQ(rule(changed(10, {5})), "message class is not known");
    EXPECT_EQ(rule(changed(12, {0, 0, 0, 1})), "body is above its type's limit");
    EXPECT_EQ(rule(changed(12, {0})), "flags on an empty body");
    EXPECT_EQ(rule(changed(32, {0, 0})), "sequence of a data frame is 0");
    EXPECT_EQ(rule(changed(40, {0, 0, 0, 0, 0, 0, 0, 0})), "session is 0");
    EXPECT_EQ(rule(changed(5, {3})), "flags that its type does not have");
}

TEST(Frame, own_frames_carry_nothing_of_a_message) {
    Frame ack;
    ack.type = FrameType::ack;
    ack.session = 1;
    EXPECT_EQ(invalid(ack), nullptr);
    Frame bad = ack;
    bad.message_class = 1;
    EXPECT_STREQ(invalid(bad), "message class outside of a data frame");
    bad = ack;
    bad.message_type = 1;
    EXPECT_STREQ(invalid(bad), "message type outside of a data frame");
    bad = ack;
    bad.sequence = 1;
    EXPECT_STREQ(invalid(bad), "sequence outside of a data frame");
    Frame hello;
    hello.type = FrameType::hello;
    EXPECT_EQ(invalid(hello), nullptr) << "a hello needs no session";
}

TEST(Frame, each_type_has_its_own_limit) {
    for (size_t type = 1; type <= kFrameTypeCount; ++type) {
        Frame frame = log_frame();
        if (static_cast<FrameType>(type) != FrameType::data) {
            frame = Frame();
            frame.session = 1;
        }
        frame.type = static_cast<FrameType>(type);
        frame.body_bytes = body_bytes_max(frame.type);
        EXPECT_EQ(invalid(frame), nullptr) << to_string(frame.type);
        ++frame.body_bytes;
        EXPECT_STREQ(invalid(frame), "body is above its type's limit") << to_string(frame.type);
    }
}

// The compatibility rule: what a newer version added is ignored, unless it says that it must not
// be.
TEST(Frame, a_newer_version_may_use_flags_that_are_not_known_here) {
    Frame frame = log_frame();
    frame.version = 2;
    frame.flags |= 0x4000;
    EXPECT_EQ(invalid(frame), nullptr);
    frame.compat = 2;
    EXPECT_STREQ(invalid(frame), "compat is above the version spoken here");
}

TEST(Frame, body_is_checked_after_the_header) {
    const Frame frame = log_frame();
    const auto body = std::as_bytes(std::span("abc", 3));
    EXPECT_EQ(invalid_body(frame, body), nullptr);
    EXPECT_STREQ(invalid_body(frame, body.first(2)), "body is shorter than its header says");
    EXPECT_STREQ(invalid_body(frame, std::as_bytes(std::span("abcd", 4))),
                 "body is longer than its header says");
    EXPECT_STREQ(invalid_body(frame, std::as_bytes(std::span("abd", 3))), "body checksum is wrong");
}

TEST(Frame, session_id_is_the_same_at_both_ends) {
    const Incarnation a(0x1111);
    const Incarnation b(0x2222);
    EXPECT_EQ(session_id(a, b), session_id(b, a));
    EXPECT_NE(session_id(a, b), session_id(a, Incarnation(0x2223)));
    EXPECT_EQ(session_id(a, b), 0x6866a99ce04e4f10u);
}

Hello sample_hello() {
    Hello hello;
    hello.from = {Name::literal("site-a"), Incarnation(0x1111)};
    hello.to = Incarnation(0x2222);
    hello.credit = {1, 2, 3, 1ull << 40};
    hello.software = "0.1.0";
    hello.blob = {std::byte{0xde}, std::byte{0xad}};
    return hello;
}

TEST(ChannelFrames, golden_bytes_of_version_1) {
    EXPECT_EQ(hex(encode(sample_hello())),
              "0101000001000000736974652d61000000000000000000000000000000000000"
              "0000000000000000111100000000000022220000000000000100000000000000"
              "020000000000000003000000000000000000000000010000302e312e30000000"
              "0000000000000000020000000000000000000000000000000000000000000000"
              "0000000000000000000000000000000000000000000000000000000000000000"
              "0000000000000000000000000000000000000000000000000000000000000000"
              "dead");
    Ack ack;
    ack.token = 9;
    ack.gaps = 5;
    for (size_t i = 0; i < kMessageClassCount; ++i) {
        ack.streams[i] = {i + 1, (i + 1) << 20, static_cast<uint32_t>(i)};
    }
    EXPECT_EQ(hex(encode(ack)),
              "0900000000000000050000000000000001000000000000000000100000000000"
              "0000000000000000020000000000000000002000000000000100000000000000"
              "0300000000000000000030000000000002000000000000000400000000000000"
              "00004000000000000300000000000000");
    EXPECT_EQ(hex(encode(Ping{0x0102030405060708})), "08070605040302010000000000000000");
    EXPECT_EQ(hex(encode(Goodbye{"bye"})), "627965");
}

TEST(ChannelFrames, decode_what_they_encode) {
    const auto hello = decode_hello(encode(sample_hello()));
    ASSERT_TRUE(hello.has_value()) << hello.error().to_string();
    EXPECT_EQ(*hello, sample_hello());
    Ack ack;
    ack.token = 1;
    ack.gaps = 15;
    ack.streams[3] = {7, 8, 9};
    EXPECT_EQ(*decode_ack(encode(ack)), ack);
    EXPECT_EQ(*decode_ping(encode(Ping{3})), Ping{3});
    EXPECT_EQ(*decode_goodbye(encode(Goodbye{"why not"})), Goodbye{"why not"});
}

std::string hello_error(size_t offset, std::initializer_list<uint8_t> bytes) {
    auto body = encode(sample_hello());
    for (const uint8_t b : bytes) body[offset++] = std::byte{b};
    const auto decoded = decode_hello(body);
    return decoded ? "" : decoded.error().context;
}

TEST(ChannelFrames, a_hello_breaks_no_rule_unnoticed) {
    EXPECT_EQ(hello_error(0, {0}), "hello: versions make no range");
    EXPECT_EQ(hello_error(0, {9}), "hello: versions make no range");
    EXPECT_EQ(hello_error(8, {'S'}),
              "hello: site: is not a name: only a-z, 0-9 and '-' inside are allowed");
    EXPECT_EQ(hello_error(8, {0}), "hello: site has bytes behind its end");
    EXPECT_EQ(hello_error(40, {0, 0}), "hello: incarnation is 0");
    EXPECT_EQ(hello_error(88, {7}), "hello: software is not printable");
    EXPECT_EQ(hello_error(104, {1}), "hello: bytes behind the blob");
    EXPECT_EQ(hello_error(104, {3}), "hello: shorter than its blob");
    EXPECT_EQ(hello_error(104, {0, 0, 1}), "hello: blob is above its limit");
    const auto body = encode(sample_hello());
    EXPECT_FALSE(decode_hello(std::span(body).first(kHelloFixedBytes - 1)).has_value());
}

TEST(ChannelFrames, a_newer_hello_with_more_behind_it_is_read) {
    Hello hello = sample_hello();
    hello.version_max = kChannelVersion + 1;
    auto body = encode(hello);
    body.resize(body.size() + 16, std::byte{0x55});
    const auto decoded = decode_hello(body);
    ASSERT_TRUE(decoded.has_value());
    EXPECT_EQ(*decoded, hello);
}

TEST(ChannelFrames, small_frames_break_no_rule_unnoticed) {
    EXPECT_FALSE(decode_ack(std::vector<std::byte>(kAckBytes - 1)).has_value());
    auto ack = encode(Ack{});
    ack[8] = std::byte{0x10};
    EXPECT_EQ(decode_ack(ack).error().context, "ack: gap in a class that is not");
    EXPECT_FALSE(decode_ping(std::vector<std::byte>(kPingBytes - 1)).has_value());
    EXPECT_EQ(decode_ping(encode(Ping{0})).error().context, "ping: token is 0");
    EXPECT_FALSE(decode_goodbye(std::vector<std::byte>(201, std::byte{'a'})).has_value());
    EXPECT_FALSE(decode_goodbye(std::vector<std::byte>(1, std::byte{'\n'})).has_value());
}

TEST(ChannelFrames, versions_meet_at_the_lower_maximum) {
    EXPECT_EQ(common_version(1, 1, 1, 1), 1);
    EXPECT_EQ(common_version(1, 3, 2, 9), 3);
    EXPECT_EQ(common_version(2, 9, 1, 3), 3);
    EXPECT_EQ(common_version(1, 1, 2, 3), 0);
    EXPECT_EQ(common_version(4, 5, 1, 3), 0);
}

}  // namespace
}  // namespace antipode::wire
