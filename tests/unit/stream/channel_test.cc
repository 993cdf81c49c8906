// The channel as the core sees it: two of them, over loopback.
#include <gtest/gtest.h>

#include "tests/unit/stream/channel_pair.h"

namespace antipode::stream {
namespace {

TEST(Channel, opens_a_session_and_tells_who_is_there) {
    ChannelPair pair;
    ASSERT_TRUE(pair.open_both().has_value());
    ASSERT_TRUE(pair.both_up());
    EXPECT_EQ(pair.a.handler.peer->site, pair.b.site);
    EXPECT_EQ(text_of(pair.a.handler.hello), "I am site-b");
    EXPECT_EQ(pair.a.channel->session().id, pair.b.channel->session().id);
    EXPECT_EQ(pair.a.channel->session().start, SessionStart::fresh);
}

TEST(Channel, delivers_in_order_within_a_class_once) {
    ChannelPair pair;
    ASSERT_TRUE(pair.open_both().has_value());
    ASSERT_TRUE(pair.both_up());
    constexpr int kCount = 2000;
    for (int i = 0; i < kCount; ++i) {
        const auto text = "entry " + std::to_string(i);
        ASSERT_TRUE(pair.a.channel->send(MessageClass::log, 7, Epoch(3), bytes_of(text)));
    }
    ASSERT_TRUE(run_until(pair.context, [&] { return pair.b.handler.messages.size() >= kCount; }));
    for (int i = 0; i < kCount; ++i) {
        const auto& message = pair.b.handler.messages[static_cast<size_t>(i)];
        EXPECT_EQ(text_of(message.payload), "entry " + std::to_string(i));
        EXPECT_EQ(message.type, 7);
        EXPECT_EQ(message.epoch, Epoch(3));
        EXPECT_EQ(message.message_class, MessageClass::log);
    }
}

TEST(Channel, a_large_message_arrives_whole) {
    ChannelPair pair;
    ASSERT_TRUE(pair.open_both().has_value());
    ASSERT_TRUE(pair.both_up());
    std::vector<std::byte> large(8 << 20);
    for (size_t i = 0; i < large.size(); ++i)
        large[i] = static_cast<std::byte>(i * 2654435761u >> 13);
    ASSERT_TRUE(pair.a.channel->send(MessageClass::resync, 1, Epoch(1), large));
    ASSERT_TRUE(run_until(pair.context, [&] { return pair.b.handler.messages.size() == 1; }));
    EXPECT_EQ(pair.b.handler.messages[0].payload, large);
}

TEST(Channel, a_callback_may_destroy_the_channel) {
    for (const bool in_session_up : {true, false}) {
        ChannelPair pair;
        ASSERT_TRUE(pair.open_both().has_value());
        if (in_session_up) {
            pair.b.handler.on_up = [&] { pair.b.channel.reset(); };
            ASSERT_TRUE(run_until(pair.context, [&] { return pair.b.channel == nullptr; }));
            continue;
        }
        ASSERT_TRUE(pair.both_up());
        pair.b.handler.on_each = [&](const Recorded::Message&) { pair.b.channel.reset(); };
        for (int i = 0; i < 100; ++i) {
            ASSERT_TRUE(pair.a.channel->send(MessageClass::log, 1, Epoch(1), bytes_of("x")));
        }
        ASSERT_TRUE(run_until(pair.context, [&] { return pair.b.channel == nullptr; }));
        EXPECT_EQ(pair.b.handler.message_count, 1u);
    }
}

TEST(Channel, a_paused_class_waits_and_the_others_do_not) {
    ChannelPair pair;
    ASSERT_TRUE(pair.open_both().has_value());
    ASSERT_TRUE(pair.both_up());
    pair.b.channel->set_delivery(MessageClass::resync, Channel::Delivery::paused);
    for (int i = 0; i < 10; ++i) {
        const auto text = bytes_of(std::to_string(i));
        ASSERT_TRUE(pair.a.channel->send(MessageClass::resync, 1, Epoch(1), text));
    }
    ASSERT_TRUE(pair.a.channel->send(MessageClass::log, 1, Epoch(1), bytes_of("log")));
    ASSERT_TRUE(run_until(pair.context, [&] {
        return pair.b.channel->stats().of(MessageClass::resync).messages_received == 10 &&
               !pair.b.handler.messages.empty();
    }));
    ASSERT_EQ(pair.b.handler.messages.size(), 1u);
    EXPECT_EQ(text_of(pair.b.handler.messages[0].payload), "log");
    pair.b.channel->set_delivery(MessageClass::resync, Channel::Delivery::flowing);
    EXPECT_EQ(pair.b.handler.messages.size(), 1u) << "no callback from within a call";
    ASSERT_TRUE(run_until(pair.context, [&] { return pair.b.handler.messages.size() == 11; }));
    for (size_t i = 0; i < 10; ++i) {
        EXPECT_EQ(text_of(pair.b.handler.messages[i + 1].payload), std::to_string(i));
    }
}

TEST(Channel, counts_what_crosses_the_line_and_how_long_it_takes) {
    ChannelPair pair;
    Registry registry;
    auto config = pair.config(pair.a, pair.b);
    config.metrics = &registry;
    config.times.ping_interval = std::chrono::milliseconds(50);
    ASSERT_TRUE(pair.open(pair.a, config).has_value());
    ASSERT_TRUE(pair.open(pair.b, pair.config(pair.b, pair.a)).has_value());
    ASSERT_TRUE(pair.both_up());
    const std::vector<std::byte> zeros(100000);
    ASSERT_TRUE(pair.a.channel->send(MessageClass::log, 1, Epoch(1), zeros));
    ASSERT_TRUE(run_until(pair.context, [&] {
        const auto stats = pair.a.channel->stats();
        return stats.rtt && stats.jitter && stats.of(MessageClass::log).messages_sent == 1;
    }));
    const auto stats = pair.a.channel->stats();
    EXPECT_EQ(stats.of(MessageClass::log).payload_bytes_sent, zeros.size());
    EXPECT_LT(stats.of(MessageClass::log).body_bytes_sent, 1000u);
    EXPECT_GT(stats.wire_bytes_sent, 0u);
    const std::string text = registry.prometheus_text();
    EXPECT_NE(text.find("antipode_channel_payload_bytes_total{class=\"log\",direction=\"sent\"} "
                        "100000"),
              std::string::npos)
        << text;
}

}  // namespace
}  // namespace antipode::stream
