#include "replicator/control/heal_frames.h"

#include <gtest/gtest.h>

#include "common/base/random.h"

namespace antipode::control {
namespace {

std::vector<std::byte> bytes_of(size_t count, uint8_t value) {
    return std::vector<std::byte>(count, static_cast<std::byte>(value));
}

HealEnd an_end() {
    HealEnd end;
    end.attempt = 3;
    end.piece_count = 12;
    end.position = LogIndex(55);
    end.released = OutputNumber(4);
    end.held.push_back({OutputNumber(5), {vmm::Output::Kind::frame, 0, bytes_of(60, 2)}});
    end.answer.attempt = 3;
    end.answer.state.cpu = bytes_of(100, 3);
    end.answer.state.machine = bytes_of(200, 4);
    end.answer.state.exit = ExitNumber(9);
    end.answer.state.digest_number = 17;
    end.answer.digest = {1, 2, 3, 4};
    end.answer.chunks = {{0, 1}, {1, 7}};
    end.answer.evidence.exit = ExitNumber(8);
    end.answer.evidence.registers[16] = 0x1234;
    end.answer.evidence.exits = {{ExitNumber(7), vmm::Exit::Kind::port_in, 1, 1, 0x60, 0xff}};
    return end;
}

std::vector<HealMessage> one_of_each() {
    replay::HealRequest request;
    request.attempt = 3;
    request.verified = 16;
    request.disk_verified = 15;
    request.exit = ExitNumber(8);
    request.pages = {{1, 2}, {700, 3}};
    request.chunks = {{0, 4}};
    return {request, HealPages{3, {{4, bytes_of(4096, 1)}, {5, {}}}},
            HealChunk{3, {0, 4}, bytes_of(512, 9)}, an_end(), HealDone{3, 2}};
}

TEST(HealFrames, EachComesBack) {
    for (const auto& message : one_of_each()) {
        const auto bytes = encode(message);
        const auto back = decode_heal_message(bytes);
        ASSERT_TRUE(back.has_value()) << back.error().to_string();
        EXPECT_EQ(back->index(), message.index());
        EXPECT_EQ(encode(*back), bytes);
    }
    const auto back = decode_heal_message(encode(HealMessage(an_end())));
    const auto& end = std::get<HealEnd>(*back);
    EXPECT_EQ(end.position, LogIndex(55));
    EXPECT_EQ(end.answer.state.digest_number, 17u);
    EXPECT_EQ(end.answer.digest, (replay::DigestMark{1, 2, 3, 4}));
    EXPECT_EQ(end.answer.evidence, an_end().answer.evidence);
}

TEST(HealFrames, CutOffAnywhereOrLongerIsRefused) {
    for (const auto& message : one_of_each()) {
        const auto good = encode(message);
        for (size_t size = 0; size < good.size(); size += size < 200 ? 1 : 61) {
            EXPECT_FALSE(decode_heal_message(std::span(good).first(size)).has_value()) << size;
        }
        auto longer = good;
        longer.push_back(std::byte{0});
        EXPECT_FALSE(decode_heal_message(longer).has_value());
    }
}

TEST(HealFrames, GarbageIsRefusedOrComesBackTheSame) {
    Random random(11);
    for (int round = 0; round < 20000; ++round) {
        auto messages = one_of_each();
        auto bytes = encode(messages[random.below(messages.size())]);
        for (int i = 0; i < 3; ++i) {
            bytes[random.below(std::min<size_t>(bytes.size(), 600))] ^=
                static_cast<std::byte>(1 + random.below(255));
        }
        const auto back = decode_heal_message(bytes);
        if (back) {
            EXPECT_EQ(encode(*back), bytes);
        }
    }
}

}  // namespace
}  // namespace antipode::control
