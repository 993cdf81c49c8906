// What a channel does with peers, keys and lines that are not as they should be.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/random.h"
#include "tests/unit/stream/channel_pair.h"
#include "tests/unit/stream/raw_peer.h"
#include "tests/unit/stream/tcp_proxy.h"

namespace antipode::stream {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(ChannelErrors, a_port_in_use_is_named) {
    ChannelPair pair;
    ASSERT_TRUE(pair.open(pair.a, pair.config(pair.a, pair.b)).has_value());
    Recorded handler;
    const auto second = Channel::create(pair.context, pair.config(pair.a, pair.b), handler);
    ASSERT_FALSE(second.has_value());
    EXPECT_EQ(second.error().code, Errc::already_exists);
    EXPECT_THAT(second.error().context, HasSubstr("cannot listen on " + pair.endpoint(pair.a)));
}

TEST(ChannelErrors, an_endpoint_that_is_none_is_named) {
    ChannelPair pair;
    Recorded handler;
    auto config = pair.config(pair.a, pair.b);
    config.listen = "tcp://nowhere";
    const auto listens = Channel::create(pair.context, config, handler);
    ASSERT_FALSE(listens.has_value());
    EXPECT_THAT(listens.error().context, HasSubstr("tcp://nowhere"));
    config = pair.config(pair.a, pair.b);
    config.peer = "nothing";
    const auto connects = Channel::create(pair.context, config, handler);
    ASSERT_FALSE(connects.has_value());
    EXPECT_THAT(connects.error().context, HasSubstr("cannot connect to nothing"));
}

TEST(ChannelErrors, another_key_than_the_pinned_one_is_not_let_in) {
    ChannelPair pair;
    auto config = pair.config(pair.b, pair.a);
    config.own_keys = *generate_curve_keys();  // an intruder at site B's address
    ASSERT_TRUE(pair.open(pair.a, pair.config(pair.a, pair.b)).has_value());
    ASSERT_TRUE(pair.open(pair.b, config).has_value());
    ASSERT_TRUE(run_until(pair.context, [&] { return pair.a.channel->stats().refused_keys >= 2; }));
    EXPECT_TRUE(pair.a.handler.events.empty());
    EXPECT_TRUE(pair.b.handler.events.empty());
    EXPECT_EQ(pair.a.channel->stats().frames_received, 0u);
    EXPECT_EQ(pair.b.channel->stats().frames_received, 0u);
}

TEST(ChannelErrors, garbage_of_every_length_is_counted_and_nothing_else) {
    ChannelPair pair;
    RawPeer raw(pair, pair.b, pair.a);
    ASSERT_TRUE(pair.open(pair.a, pair.config(pair.a, pair.b)).has_value());
    Random random(7);
    uint64_t sent = 0;
    ASSERT_TRUE(run_until(pair.context, [&] {
        for (int i = 0; i < 100 && sent < 500; ++i) {
            std::vector<std::byte> bytes(random.below(300));
            for (auto& b : bytes) b = static_cast<std::byte>(random.next());
            if (!raw.try_send(bytes)) break;
            ++sent;
        }
        return sent == 500;
    }));
    ASSERT_TRUE(
        run_until(pair.context, [&] { return pair.a.channel->stats().garbage_frames == sent; }));
    EXPECT_TRUE(pair.a.handler.events.empty());
}

TEST(ChannelErrors, a_frame_above_the_limit_ends_the_connection_before_it_is_read) {
    ChannelPair pair;
    RawPeer raw(pair, pair.b, pair.a);
    ASSERT_TRUE(pair.open(pair.a, pair.config(pair.a, pair.b)).has_value());
    const std::vector<std::byte> huge(8 << 20);
    const std::vector<std::byte> small(10);
    bool huge_sent = false;
    // ZeroMQ drops the connection at the length; the sender connects anew, and can go on.
    ASSERT_TRUE(run_until(pair.context, [&] {
        if (!huge_sent) {
            huge_sent = raw.try_send(huge);
        } else {
            (void)raw.try_send(small);
        }
        return pair.a.channel->stats().garbage_frames >= 1;
    }));
    const auto stats = pair.a.channel->stats();
    EXPECT_LE(stats.wire_bytes_received, small.size() * stats.frames_received);
}

TEST(ChannelErrors, a_hello_of_another_version_is_refused_with_a_clear_word) {
    ChannelPair pair;
    RawPeer raw(pair, pair.b, pair.a);
    ASSERT_TRUE(pair.open(pair.a, pair.config(pair.a, pair.b)).has_value());
    wire::Hello hello;
    hello.version_min = 7;
    hello.version_max = 8;
    hello.from = {pair.b.site, Incarnation(77)};
    hello.software = "9.0";
    wire::Frame header;
    header.pair = wire::pair_id(Name::literal("web1"));
    header.version = 8;
    const auto frame = RawPeer::frame(header, wire::encode(hello));
    ASSERT_TRUE(run_until(pair.context, [&] {
        (void)raw.try_send(frame);
        return !pair.a.handler.events.empty();
    }));
    EXPECT_THAT(
        pair.a.handler.events,
        ElementsAre("refused site-b (9.0) speaks channel versions 7 to 8, expected 1 to 1"));
    // And it says which versions it speaks itself.
    std::optional<std::vector<std::byte>> answer;
    ASSERT_TRUE(run_until(pair.context, [&] { return (answer = raw.receive()).has_value(); }));
    const auto decoded = wire::decode_hello(std::span(*answer).subspan(wire::kFrameHeaderBytes));
    ASSERT_TRUE(decoded.has_value());
    EXPECT_EQ(decoded->version_max, wire::kChannelVersion);
}

TEST(ChannelErrors, an_unreachable_peer_is_no_error_until_it_comes) {
    ChannelPair pair;
    ASSERT_TRUE(pair.open(pair.a, pair.config(pair.a, pair.b)).has_value());
    const auto result = pair.a.channel->send(MessageClass::log, 1, Epoch(1), bytes_of("x"));
    ASSERT_FALSE(result.has_value());
    EXPECT_EQ(result.error().code, Errc::closed);
    ASSERT_TRUE(pair.open(pair.b, pair.config(pair.b, pair.a)).has_value());
    EXPECT_TRUE(pair.both_up());
}

TEST(ChannelErrors, a_message_above_the_limit_is_refused) {
    ChannelPair pair;
    ASSERT_TRUE(pair.open_both().has_value());
    ASSERT_TRUE(pair.both_up());
    const size_t max = pair.a.channel->message_bytes_max(MessageClass::log);
    std::vector<std::byte> large(max + 1);
    const auto result = pair.a.channel->send(MessageClass::log, 1, Epoch(1), std::move(large));
    ASSERT_FALSE(result.has_value());
    EXPECT_EQ(result.error().code, Errc::limit);
    EXPECT_EQ(large.size(), max + 1) << "a refused message is not taken";
}

TEST(ChannelErrors, a_full_channel_refuses_and_tells_when_there_is_room) {
    ChannelPair pair;
    auto config = pair.config(pair.a, pair.b);
    config.send_bytes_max = {1 << 20, 1 << 20, 1 << 20, 1 << 20};
    ASSERT_TRUE(pair.open(pair.a, config).has_value());
    ASSERT_TRUE(pair.open(pair.b, pair.config(pair.b, pair.a)).has_value());
    ASSERT_TRUE(pair.both_up());
    pair.b.handler.keep_payloads = false;
    const std::vector<std::byte> block(100000);
    uint64_t sent = 0;
    uint64_t refused = 0;
    constexpr uint64_t kCount = 500;
    const auto fill = [&] {
        while (sent < kCount) {
            const auto result = pair.a.channel->send(MessageClass::resync, 1, Epoch(1), block);
            if (!result) {
                EXPECT_EQ(result.error().code, Errc::busy);
                EXPECT_LE(pair.a.channel->unsent_bytes(MessageClass::resync), 1u << 20);
                ++refused;
                return;
            }
            ++sent;
        }
    };
    fill();
    uint64_t writable = 0;
    ASSERT_TRUE(run_until(pair.context, [&] {
        if (pair.a.handler.writable != writable) {
            writable = pair.a.handler.writable;
            fill();
        }
        return pair.b.handler.message_count == kCount;
    }));
    EXPECT_GT(refused, 0u);
    EXPECT_EQ(pair.b.handler.payload_bytes, kCount * block.size());
    ASSERT_TRUE(run_until(pair.context,
                          [&] { return pair.a.channel->unsent_bytes(MessageClass::resync) == 0; }));
}

TEST(ChannelErrors, broken_connections_lose_and_repeat_nothing) {
    ChannelPair pair;
    TcpProxy to_b(pair.context, static_cast<uint16_t>(pair.base_port + 1));
    TcpProxy to_a(pair.context, pair.base_port);
    auto config_a = pair.config(pair.a, pair.b);
    config_a.peer = "tcp://127.0.0.1:" + std::to_string(to_b.port());
    auto config_b = pair.config(pair.b, pair.a);
    config_b.peer = "tcp://127.0.0.1:" + std::to_string(to_a.port());
    ASSERT_TRUE(pair.open(pair.a, config_a).has_value());
    ASSERT_TRUE(pair.open(pair.b, config_b).has_value());
    ASSERT_TRUE(pair.both_up());
    Random random(11);
    uint64_t sent = 0;
    constexpr uint64_t kCount = 3000;
    uint64_t next_break = 200;
    std::vector<MessageClass> classes{MessageClass::log, MessageClass::seed};
    ASSERT_TRUE(run_until(
        pair.context,
        [&] {
            for (int i = 0; i < 10 && sent < kCount; ++i) {
                const auto text = "message " + std::to_string(sent) + std::string(3000, '.');
                if (!pair.a.channel->send(classes[sent % 2], 1, Epoch(1), bytes_of(text))) break;
                ++sent;
            }
            if (sent >= next_break) {
                next_break += 300;
                (random.chance(0.5) ? to_a : to_b).break_all();
            }
            return pair.b.handler.messages.size() >= kCount;
        },
        std::chrono::seconds(60)));
    EXPECT_EQ(pair.b.handler.messages.size(), kCount);
    PerClass<uint64_t> next{0, 0, 0, 1};
    for (const auto& message : pair.b.handler.messages) {
        auto& expected = next[wire::index_of(message.message_class)];
        const std::string start = "message " + std::to_string(expected) + ".";
        ASSERT_EQ(text_of(message.payload).substr(0, start.size()), start);
        expected += 2;
    }
    EXPECT_TRUE(run_until(pair.context, [&] {
        return pair.a.channel->stats().reconnects + pair.b.channel->stats().reconnects > 0;
    }));
    EXPECT_EQ(pair.a.channel->session().generation, 1u);
}

TEST(ChannelErrors, a_cut_line_is_down_and_resumes) {
    ChannelPair pair;
    TcpProxy to_b(pair.context, static_cast<uint16_t>(pair.base_port + 1));
    auto config_a = pair.config(pair.a, pair.b);
    config_a.peer = "tcp://127.0.0.1:" + std::to_string(to_b.port());
    ASSERT_TRUE(pair.open(pair.a, config_a).has_value());
    ASSERT_TRUE(pair.open(pair.b, pair.config(pair.b, pair.a)).has_value());
    ASSERT_TRUE(pair.both_up());
    to_b.set_open(false);
    ASSERT_TRUE(run_until(pair.context, [&] { return !pair.a.handler.peer; }));
    EXPECT_EQ(pair.a.channel->send(MessageClass::log, 1, Epoch(1), bytes_of("x")).error().code,
              Errc::closed);
    to_b.set_open(true);
    ASSERT_TRUE(run_until(pair.context, [&] { return pair.a.handler.peer.has_value(); }));
    EXPECT_EQ(pair.a.channel->session().start, SessionStart::resumed);
    ASSERT_TRUE(pair.a.channel->send(MessageClass::log, 1, Epoch(1), bytes_of("again")));
    ASSERT_TRUE(run_until(pair.context, [&] { return pair.b.handler.messages.size() == 1; }));
}

TEST(ChannelErrors, a_peer_that_was_started_again_is_another_session) {
    ChannelPair pair;
    ASSERT_TRUE(pair.open_both().has_value());
    ASSERT_TRUE(pair.both_up());
    pair.b.channel->say_goodbye("it turns to another");
    pair.b.channel.reset();
    ASSERT_TRUE(run_until(pair.context, [&] { return !pair.a.handler.peer; }));
    // The goodbye and the end of the other direction's connection take different ways; on a loaded
    // machine the second may be seen first.
    EXPECT_THAT(pair.a.handler.events.back(),
                AnyOf(HasSubstr("site-b ends: it turns to another"), HasSubstr("is lost")));
    pair.b.handler.peer.reset();
    ASSERT_TRUE(pair.open(pair.b, pair.config(pair.b, pair.a)).has_value());
    ASSERT_TRUE(pair.both_up());
    EXPECT_EQ(pair.a.channel->session().start, SessionStart::fresh);
    ASSERT_TRUE(pair.a.channel->send(MessageClass::log, 1, Epoch(1), bytes_of("hello again")));
    ASSERT_TRUE(run_until(pair.context, [&] { return pair.b.handler.messages.size() == 1; }));
    EXPECT_TRUE(run_until(pair.context, [&] { return pair.a.channel->stats().sessions == 2; }));
}

}  // namespace
}  // namespace antipode::stream
