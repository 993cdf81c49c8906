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

}  // namespace
}  // namespace antipode::stream
