// The heartbeat's datagram: golden bytes, HMAC, rules.
#include "common/wire/heartbeat.h"

#include <gtest/gtest.h>

#include "common/wire/checksum.h"
#include "tests/unit/wire/hex.h"

namespace antipode::wire {
namespace {

HeartbeatKey key_of(uint8_t first) {
    HeartbeatKey key;
    for (size_t i = 0; i < key.size(); ++i) key[i] = static_cast<std::byte>(first + i);
    return key;
}

HeartbeatPacket sample() {
    HeartbeatPacket packet;
    packet.pair = pair_id(Name::literal("web1"));
    packet.from = {Name::literal("site-a"), Incarnation(0x1111)};
    packet.to = Incarnation(0x2222);
    packet.path = 1;
    packet.epoch = Epoch(5);
    packet.sequence = 1000;
    packet.sent_ns = 123456789;
    packet.echo_sequence = 999;
    packet.echo_sent_ns = 123000000;
    packet.echo_hold_ns = 77;
    return packet;
}

TEST(HeartbeatPacket, golden_bytes_of_version_1) {
    EXPECT_EQ(hex(seal(sample(), key_of(1))),
              "4150683101010000a5b6302c9be1ab40736974652d6100000000000000000000"
              "0000000000000000000000000000000011110000000000002222000000000000"
              "0500000000000000e80300000000000015cd5b0700000000e703000000000000"
              "c0d45407000000004d0000000000000000000000000000000000000000000000"
              "00000000000000000000000000000000ac27512e92896091a61aa8082d896d9e"
              "0f524fb5ac357ef4e3d987614dc19856");
}

TEST(HeartbeatPacket, opens_what_it_seals) {
    const auto opened = open(seal(sample(), key_of(1)), key_of(1));
    ASSERT_TRUE(opened.has_value()) << opened.error().to_string();
    EXPECT_EQ(*opened, sample());
}

TEST(HeartbeatPacket, another_key_is_denied) {
    const auto opened = open(seal(sample(), key_of(1)), key_of(2));
    ASSERT_FALSE(opened.has_value());
    EXPECT_EQ(opened.error().code, Errc::denied);
}

TEST(HeartbeatPacket, every_changed_bit_is_denied) {
    const auto good = seal(sample(), key_of(1));
    for (size_t bit = 0; bit < good.size() * 8; ++bit) {
        auto bad = good;
        bad[bit / 8] ^= std::byte{1} << bit % 8;
        const auto opened = open(bad, key_of(1));
        ASSERT_FALSE(opened.has_value()) << "bit " << bit;
        EXPECT_EQ(opened.error().code, Errc::denied);
    }
}

TEST(HeartbeatPacket, other_lengths_are_refused) {
    const auto good = seal(sample(), key_of(1));
    for (size_t length = 0; length < good.size(); ++length) {
        EXPECT_FALSE(open(std::span(good).first(length), key_of(1)).has_value());
    }
    std::vector<std::byte> longer(good.begin(), good.end());
    longer.push_back(std::byte{0});
    EXPECT_FALSE(open(longer, key_of(1)).has_value());
}

TEST(HeartbeatPacket, values_that_make_no_sense_are_refused_though_the_key_is_right) {
    const auto context = [](const HeartbeatPacket& packet) {
        const auto opened = open(seal(packet, key_of(1)), key_of(1));
        return opened ? std::string() : opened.error().context;
    };
    HeartbeatPacket packet = sample();
    packet.path = kHeartbeatPathsMax;
    EXPECT_EQ(context(packet), "heartbeat: path is above its limit");
    packet = sample();
    packet.from.incarnation = Incarnation();
    EXPECT_EQ(context(packet), "heartbeat: incarnation is 0");
    packet = sample();
    packet.sequence = 0;
    EXPECT_EQ(context(packet), "heartbeat: sequence is 0");
    packet = sample();
    packet.from.site = Name();
    EXPECT_NE(context(packet), "");
}

}  // namespace
}  // namespace antipode::wire
