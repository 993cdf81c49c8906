// A peer that holds the right key and still breaks the rules of an established session.
#include <cstring>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/stream/session_pair.h"

namespace antipode::stream {
namespace {

using testing::HasSubstr;
using namespace std::chrono_literals;

constexpr size_t kA = SessionPair::kA;
constexpr size_t kB = SessionPair::kB;

class SessionErrors : public testing::Test {
  protected:
    SessionErrors() {
        pair.ends[kB].config.receive_bytes_max = {1 << 20, 1 << 20, 1 << 20, 1 << 20};
        pair.start(kA);
        pair.start(kB);
        pair.connect_all();
        EXPECT_TRUE(pair.run_until([&] { return pair.both_up(); }));
        pair.run_for(100ms);
    }
    const ChannelStats& stats() const { return pair.ends[kB].session->stats(); }
    wire::Frame data(uint64_t sequence, uint16_t flags = 0,
                     MessageClass message_class = MessageClass::log) const {
        wire::Frame frame = pair.data_frame(kB, message_class, sequence);
        frame.flags = flags;
        return frame;
    }
    void send(const wire::Frame& frame, std::string_view body) {
        const auto bytes = std::as_bytes(std::span(body));
        pair.inject(kB, SessionPair::frame_bytes(frame, bytes));
    }
    // The session is over, and stays so for this process of the peer.
    void expect_broken(const std::string& rule) {
        ASSERT_FALSE(pair.ends[kB].events.empty());
        std::string all;
        for (const auto& event : pair.ends[kB].events) all += event + "\n";
        EXPECT_THAT(all, HasSubstr("broke the protocol"));
        EXPECT_THAT(all, HasSubstr(rule));
        EXPECT_FALSE(pair.ends[kB].up);
        pair.run_for(2s);
        EXPECT_FALSE(pair.ends[kB].up) << "no second chance for the same process";
        pair.stop(kA);
        pair.start(kA);
        pair.connect_all();
        EXPECT_TRUE(pair.run_until([&] { return pair.both_up(); })) << "a new one is welcome";
    }

    SessionPair pair;
};

TEST_F(SessionErrors, a_frame_of_another_session_is_dropped) {
    wire::Frame frame = data(1);
    frame.session = 12345;
    send(frame, "stale");
    EXPECT_EQ(stats().stale_session_frames, 1u);
    EXPECT_TRUE(pair.ends[kB].received.empty());
    EXPECT_TRUE(pair.ends[kB].up);
}

TEST_F(SessionErrors, a_frame_of_another_pair_is_dropped) {
    wire::Frame frame = data(1);
    frame.pair = PairId(1);
    send(frame, "lost");
    EXPECT_EQ(stats().wrong_pair_frames, 1u);
    EXPECT_TRUE(pair.ends[kB].received.empty());
    EXPECT_TRUE(pair.ends[kB].up);
}

TEST_F(SessionErrors, frames_that_are_cut_off_or_too_long_are_garbage) {
    const auto good = SessionPair::frame_bytes(data(1), std::as_bytes(std::span("abcdef", 6)));
    for (size_t length = 0; length < good.size(); ++length) {
        pair.inject(kB, {good.begin(), good.begin() + static_cast<ptrdiff_t>(length)});
    }
    auto longer = good;
    longer.push_back(std::byte{0});
    pair.inject(kB, longer);
    EXPECT_EQ(stats().garbage_frames, good.size() + 1);
    EXPECT_TRUE(pair.ends[kB].received.empty());
    pair.inject(kB, good);
    EXPECT_EQ(pair.ends[kB].received.size(), 1u) << "and the good one is still good";
}

TEST_F(SessionErrors, a_gap_is_dropped_and_asked_for) {
    send(data(2), "second");
    send(data(3), "third");
    EXPECT_TRUE(pair.ends[kB].received.empty());
    EXPECT_EQ(stats().of(MessageClass::log).gap_frames, 2u);
    const auto ack = pair.ends[kB].session->next_frame(Lane::urgent, pair.now);
    ASSERT_TRUE(ack.has_value());
    const auto decoded = wire::decode_ack(ack->view().subspan(wire::kFrameHeaderBytes));
    ASSERT_TRUE(decoded.has_value());
    EXPECT_EQ(decoded->gaps, 1);
    EXPECT_EQ(decoded->streams[0].received, 0u);
    EXPECT_TRUE(pair.ends[kB].up);
}

TEST_F(SessionErrors, more_than_its_credit_ends_the_session) {
    pair.ends[kB].consumes = false;
    const std::string body(wire::kPieceBytesMax, 'x');
    for (uint64_t sequence = 1; sequence <= 8; ++sequence) send(data(sequence), body);
    expect_broken("exceeds its credit");
}

TEST_F(SessionErrors, a_message_without_end_ends_the_session) {
    const std::string body(wire::kPieceBytesMax, 'x');
    for (uint64_t sequence = 1; sequence <= 3; ++sequence) {
        send(data(sequence, wire::frame_flags::kMore), body);
    }
    expect_broken("message is too large");
}

TEST_F(SessionErrors, pieces_of_nothing_without_end_end_the_session) {
    send(data(1, wire::frame_flags::kMore), "x");
    for (uint64_t sequence = 2; sequence < 20000 && pair.ends[kB].up; ++sequence) {
        send(data(sequence, wire::frame_flags::kMore), "y");
    }
    expect_broken("exceeds its credit");
}

TEST_F(SessionErrors, a_piece_of_another_message_ends_the_session) {
    send(data(1, wire::frame_flags::kMore), "first half, ");
    wire::Frame other = data(2);
    other.message_type = 99;
    send(other, "second half");
    expect_broken("piece does not belong to the message before it");
}

TEST_F(SessionErrors, a_piece_above_the_limit_ends_the_session) {
    send(data(1), std::string(wire::kPieceBytesMax + 1, 'x'));
    expect_broken("piece");
}

TEST_F(SessionErrors, compressed_nonsense_ends_the_session) {
    send(data(1, wire::frame_flags::kCompressed), std::string("\x10\0\0\0nonsense, surely", 21));
    expect_broken("piece cannot be decompressed");
}

TEST_F(SessionErrors, compressed_without_content_ends_the_session) {
    send(data(1, wire::frame_flags::kCompressed), std::string("\x10\0\0\0", 4));
    expect_broken("piece cannot be decompressed");
}

TEST_F(SessionErrors, a_small_frame_that_claims_to_be_huge_ends_the_session) {
    send(data(1, wire::frame_flags::kCompressed), std::string("\xff\xff\xff\x7f(\xb5/\xfd", 8));
    expect_broken("piece cannot be decompressed");
}

TEST_F(SessionErrors, an_acknowledgement_of_what_was_never_sent_ends_the_session) {
    wire::Frame frame = data(0);
    frame.type = wire::FrameType::ack;
    frame.message_class = 0;
    frame.message_type = 0;
    frame.epoch = Epoch();
    wire::Ack ack;
    ack.streams[1].received = 1;
    pair.inject(kB, SessionPair::frame_bytes(frame, wire::encode(ack)));
    expect_broken("acknowledges control 1, the last sent is 0");
}

TEST_F(SessionErrors, own_frames_with_bad_bodies_are_garbage) {
    for (const auto type : {wire::FrameType::hello, wire::FrameType::ack, wire::FrameType::ping,
                            wire::FrameType::goodbye}) {
        wire::Frame frame = data(0);
        frame.type = type;
        frame.message_class = 0;
        frame.message_type = 0;
        const uint64_t before = stats().garbage_frames;
        send(frame, "\x01\x02");
        EXPECT_EQ(stats().garbage_frames, before + 1) << to_string(type);
    }
    EXPECT_TRUE(pair.ends[kB].up);
}

TEST_F(SessionErrors, answers_to_pings_that_were_not_sent_change_nothing) {
    wire::Frame frame = data(0);
    frame.type = wire::FrameType::ack;
    frame.message_class = 0;
    frame.message_type = 0;
    wire::Ack ack;
    ack.token = 0xdeadbeef;
    pair.inject(kB, SessionPair::frame_bytes(frame, wire::encode(ack)));
    EXPECT_TRUE(pair.ends[kB].up);
    pair.submit(kB, MessageClass::log, "goes on");
    pair.run_for(100ms);
    EXPECT_EQ(pair.texts(kA, MessageClass::log).size(), 1u);
}

TEST_F(SessionErrors, a_flood_of_pings_is_answered_within_bounds) {
    wire::Frame frame = data(0);
    frame.type = wire::FrameType::ping;
    frame.message_class = 0;
    frame.message_type = 0;
    for (uint64_t token = 1; token <= 10000; ++token) {
        pair.inject(kB, SessionPair::frame_bytes(frame, wire::encode(wire::Ping{token})));
    }
    int answers = 0;
    while (pair.ends[kB].session->next_frame(Lane::urgent, pair.now)) ++answers;
    EXPECT_LE(answers, 70);
    EXPECT_GT(answers, 0);
}

}  // namespace
}  // namespace antipode::stream
