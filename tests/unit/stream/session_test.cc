// A session's life: greeting, order, loss, reconnects, restarts, credit.
#include "replicator/stream/session.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/random.h"
#include "replicator/stream/level_control.h"
#include "tests/unit/stream/session_pair.h"

namespace antipode::stream {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using namespace std::chrono_literals;

constexpr size_t kA = SessionPair::kA;
constexpr size_t kB = SessionPair::kB;

std::unique_ptr<SessionPair> started() {
    auto pair = std::make_unique<SessionPair>();
    pair->start(kA);
    pair->start(kB);
    pair->connect_all();
    return pair;
}

std::vector<std::string> numbered(int first, int last) {
    std::vector<std::string> texts;
    for (int i = first; i <= last; ++i) texts.push_back("message " + std::to_string(i));
    return texts;
}

// Text that zstd makes something of, of exactly this length.
std::string filler(Random& random, size_t bytes) {
    std::string text;
    while (text.size() < bytes) text += "page " + std::to_string(random.below(1000)) + "; ";
    text.resize(bytes);
    return text;
}

TEST(Session, both_ends_agree_on_the_session) {
    auto pair = started();
    ASSERT_TRUE(pair->run_until([&] { return pair->both_up(); }));
    EXPECT_EQ(pair->ends[kA].up->id, pair->ends[kB].up->id);
    EXPECT_NE(pair->ends[kA].up->id, 0u);
    EXPECT_EQ(pair->ends[kA].up->peer, pair->ends[kB].config.self);
    EXPECT_EQ(pair->ends[kB].up->hello.size(), 6u);  // "site-a"
    EXPECT_EQ(pair->ends[kA].up->features, wire::features::kAll);
    EXPECT_THAT(pair->ends[kA].events, ElementsAre("fresh"));
}

TEST(Session, greeting_survives_the_loss_of_any_hello) {
    for (int lost = 0; lost < 6; ++lost) {
        SessionPair pair;
        int hellos = 0;
        pair.tamper = [&](size_t, Lane, std::vector<std::byte>& bytes) {
            const bool hello = static_cast<uint8_t>(bytes[5]) == 1;
            return !hello || hellos++ != lost;
        };
        pair.start(kA);
        pair.start(kB);
        pair.connect_all();
        ASSERT_TRUE(pair.run_until([&] { return pair.both_up(); })) << "hello " << lost << " lost";
    }
}

TEST(Session, one_end_connects_long_after_the_other) {
    SessionPair pair;
    pair.start(kA);
    pair.start(kB);
    pair.connect(kA, Lane::urgent);
    pair.run_for(3s);
    EXPECT_FALSE(pair.ends[kA].up);
    pair.connect_all();
    ASSERT_TRUE(pair.run_until([&] { return pair.both_up(); }));
}

TEST(Session, messages_of_all_classes_arrive_in_order_once) {
    auto pair = started();
    ASSERT_TRUE(pair->run_until([&] { return pair->both_up(); }));
    for (const auto& text : numbered(1, 300)) {
        for (const MessageClass c : wire::kMessageClasses) pair->submit(kA, c, text);
    }
    pair->run_for(1s);
    for (const MessageClass c : wire::kMessageClasses) {
        EXPECT_EQ(pair->texts(kB, c), numbered(1, 300)) << to_string(c);
    }
    EXPECT_EQ(pair->ends[kB].session->stats().garbage_frames, 0u);
    EXPECT_EQ(pair->ends[kB].session->stats().of(MessageClass::log).duplicates, 0u);
}

TEST(Session, an_empty_message_is_a_message) {
    auto pair = started();
    ASSERT_TRUE(pair->run_until([&] { return pair->both_up(); }));
    pair->submit(kA, MessageClass::control, "", 9, Epoch(4));
    pair->run_for(100ms);
    ASSERT_EQ(pair->ends[kB].received.size(), 1u);
    EXPECT_EQ(pair->ends[kB].received[0], (Received{MessageClass::control, 9, Epoch(4), ""}));
}

TEST(Session, what_was_sent_is_released_when_it_is_acknowledged) {
    auto pair = started();
    ASSERT_TRUE(pair->run_until([&] { return pair->both_up(); }));
    Random random(1);
    for (int i = 0; i < 20; ++i) {
        pair->submit(kA, MessageClass::log, filler(random, 300000));
        pair->submit(kA, MessageClass::seed, filler(random, 300000));
    }
    pair->run_for(3s);
    for (const MessageClass c : wire::kMessageClasses) {
        EXPECT_EQ(pair->ends[kA].released[wire::index_of(c)],
                  pair->ends[kA].submitted[wire::index_of(c)])
            << to_string(c);
    }
}

TEST(Session, a_lost_frame_is_sent_again_and_nothing_is_delivered_before_it) {
    for (const MessageClass c : wire::kMessageClasses) {
        auto pair = started();
        ASSERT_TRUE(pair->run_until([&] { return pair->both_up(); }));
        int data = 0;
        pair->tamper = [&](size_t from, Lane, std::vector<std::byte>& bytes) {
            const bool is_data = static_cast<uint8_t>(bytes[5]) == 2;
            return from != kA || !is_data || ++data != 10;
        };
        for (const auto& text : numbered(1, 50)) pair->submit(kA, c, text);
        pair->run_for(1s);
        EXPECT_EQ(pair->texts(kB, c), numbered(1, 50)) << to_string(c);
        EXPECT_GT(pair->ends[kB].session->stats().of(c).gap_frames, 0u);
        EXPECT_GT(pair->ends[kA].session->stats().of(c).frames_repeated, 0u);
    }
}

TEST(Session, a_lost_tail_is_found_without_anything_after_it) {
    for (const MessageClass c : wire::kMessageClasses) {
        auto pair = started();
        ASSERT_TRUE(pair->run_until([&] { return pair->both_up(); }));
        int data = 0;
        pair->tamper = [&](size_t from, Lane, std::vector<std::byte>& bytes) {
            const bool is_data = static_cast<uint8_t>(bytes[5]) == 2;
            return from != kA || !is_data || ++data != 3;
        };
        for (const auto& text : numbered(1, 3)) pair->submit(kA, c, text);
        pair->run_for(5s);
        EXPECT_EQ(pair->texts(kB, c), numbered(1, 3)) << to_string(c);
    }
}

TEST(Session, a_changed_byte_anywhere_in_a_frame_is_found_and_repaired) {
    for (const size_t offset : {0u, 5u, 9u, 12u, 16u, 30u, 33u, 41u, 50u, 60u, 64u, 70u}) {
        auto pair = started();
        ASSERT_TRUE(pair->run_until([&] { return pair->both_up(); }));
        int data = 0;
        pair->tamper = [&](size_t from, Lane, std::vector<std::byte>& bytes) {
            const bool is_data = static_cast<uint8_t>(bytes[5]) == 2;
            if (from == kA && is_data && ++data == 2) bytes[offset] ^= std::byte{0x10};
            return true;
        };
        for (const auto& text : numbered(1, 20)) pair->submit(kA, MessageClass::log, text);
        pair->run_for(3s);
        EXPECT_EQ(pair->texts(kB, MessageClass::log), numbered(1, 20)) << "offset " << offset;
        EXPECT_EQ(pair->ends[kB].session->stats().garbage_frames, 1u) << "offset " << offset;
    }
}

TEST(Session, repeated_frames_are_dropped) {
    auto pair = started();
    ASSERT_TRUE(pair->run_until([&] { return pair->both_up(); }));
    std::vector<std::vector<std::byte>> seen;
    pair->tamper = [&](size_t from, Lane, std::vector<std::byte>& bytes) {
        if (from == kA) seen.push_back(bytes);
        return true;
    };
    for (const auto& text : numbered(1, 20)) pair->submit(kA, MessageClass::log, text);
    pair->run_for(100ms);
    for (const auto& bytes : seen) pair->inject(kB, bytes);
    pair->run_for(100ms);
    EXPECT_EQ(pair->texts(kB, MessageClass::log), numbered(1, 20));
    EXPECT_EQ(pair->ends[kB].session->stats().of(MessageClass::log).duplicates, 20u);
    EXPECT_TRUE(pair->both_up());
}

TEST(Session, a_reconnect_repeats_only_what_was_not_received) {
    auto pair = started();
    pair->delay = 50ms;
    ASSERT_TRUE(pair->run_until([&] { return pair->both_up(); }));
    pair->run_for(300ms);
    for (const auto& text : numbered(1, 100)) pair->submit(kA, MessageClass::log, text);
    pair->run_for(75ms);  // they have arrived, and nothing has been acknowledged
    for (const auto& text : numbered(101, 120)) pair->submit(kA, MessageClass::log, text);
    pair->run_for(10ms);  // these are on their way
    pair->cut_all();
    pair->run_for(1s);
    EXPECT_THAT(pair->ends[kA].events, ElementsAre("fresh", "down: cut"));
    pair->connect_all();
    pair->run_for(2s);
    EXPECT_EQ(pair->texts(kB, MessageClass::log), numbered(1, 120));
    EXPECT_EQ(pair->ends[kA].session->stats().of(MessageClass::log).frames_repeated, 20u);
    EXPECT_EQ(pair->ends[kB].session->stats().of(MessageClass::log).duplicates, 0u);
    EXPECT_THAT(pair->ends[kA].events, ElementsAre("fresh", "down: cut", "resumed"));
    EXPECT_THAT(pair->ends[kB].events, ElementsAre("fresh", "down: cut", "resumed"));
}

TEST(Session, one_lane_lost_leaves_the_other_alone) {
    auto pair = started();
    ASSERT_TRUE(pair->run_until([&] { return pair->both_up(); }));
    pair->cut(kA, Lane::bulk);
    for (const auto& text : numbered(1, 10)) {
        pair->submit(kA, MessageClass::log, text);
        pair->submit(kA, MessageClass::resync, text);
    }
    pair->run_for(1s);
    EXPECT_EQ(pair->texts(kB, MessageClass::log), numbered(1, 10));
    EXPECT_TRUE(pair->texts(kB, MessageClass::resync).empty());
    EXPECT_THAT(pair->ends[kA].events, ElementsAre("fresh"));
    pair->connect_all();
    pair->run_for(1s);
    EXPECT_EQ(pair->texts(kB, MessageClass::resync), numbered(1, 10));
}

TEST(Session, a_silent_connection_is_down_and_comes_back) {
    auto pair = started();
    ASSERT_TRUE(pair->run_until([&] { return pair->both_up(); }));
    pair->tamper = [](size_t, Lane, std::vector<std::byte>&) { return false; };  // a black hole
    pair->submit(kA, MessageClass::log, "message 1");
    pair->run_for(6s);
    EXPECT_FALSE(pair->ends[kA].up);
    ASSERT_EQ(pair->ends[kA].events.size(), 2u);
    EXPECT_THAT(pair->ends[kA].events[1], HasSubstr("nothing heard for"));
    pair->tamper = nullptr;
    ASSERT_TRUE(pair->run_until([&] { return pair->both_up(); }));
    pair->run_for(1s);
    EXPECT_EQ(pair->texts(kB, MessageClass::log), numbered(1, 1));
    EXPECT_EQ(pair->ends[kA].events.back(), "resumed");
}

TEST(Session, a_restarted_peer_is_a_fresh_session_and_gets_nothing_of_the_old) {
    auto pair = started();
    ASSERT_TRUE(pair->run_until([&] { return pair->both_up(); }));
    pair->stop(kB);
    pair->submit(kA, MessageClass::log, "for the old one");
    pair->run_for(500ms);
    pair->start(kB);
    pair->connect_all();
    ASSERT_TRUE(pair->run_until([&] { return pair->both_up(); }));
    pair->submit(kA, MessageClass::log, "for the new one");
    pair->run_for(1500ms);
    EXPECT_THAT(pair->texts(kB, MessageClass::log), ElementsAre("for the new one"));
    EXPECT_THAT(pair->ends[kA].events, ElementsAre("fresh", "down: cut", "fresh"));
    EXPECT_EQ(pair->ends[kA].session->generation(), 2u);
    EXPECT_EQ(pair->ends[kA].released[0], pair->ends[kA].submitted[0]);
}

// What is at end B is another process, or the same one, which has turned away and back.
enum class Anew : uint8_t { restarted, turned, turned_with_goodbye };

class SessionAnew : public testing::TestWithParam<Anew> {
  protected:
    static void begin_anew(SessionPair& pair) {
        if (GetParam() == Anew::turned_with_goodbye) {
            pair.ends[kB].session->say_goodbye("turns away");
            pair.run_for(20ms);
        }
        if (GetParam() == Anew::restarted) {
            pair.stop(kB);
            pair.start(kB);
        } else {
            pair.turn_anew(kB);
        }
        pair.connect_all();
    }
};
std::string name_of(const testing::TestParamInfo<Anew>& anew) {
    switch (anew.param) {
        case Anew::restarted:
            return "restarted";
        case Anew::turned:
            return "turned";
        case Anew::turned_with_goodbye:
            return "turned_with_goodbye";
    }
    return "unknown";
}
INSTANTIATE_TEST_SUITE_P(All, SessionAnew,
                         testing::Values(Anew::restarted, Anew::turned, Anew::turned_with_goodbye),
                         name_of);

TEST_P(SessionAnew, the_streams_of_the_session_after_begin_empty) {
    auto pair = started();
    ASSERT_TRUE(pair->run_until([&] { return pair->both_up(); }));
    for (const size_t end : {kA, kB}) pair->submit(end, MessageClass::log, "before");
    pair->run_for(2s);
    begin_anew(*pair);
    ASSERT_TRUE(pair->run_until([&] { return pair->both_up(); }));
    for (const size_t end : {kA, kB}) pair->submit(end, MessageClass::log, "after");
    pair->run_for(2s);
    for (const size_t end : {kA, kB}) {
        EXPECT_THAT(pair->texts(end, MessageClass::log), ElementsAre("before", "after"));
    }
}

TEST_P(SessionAnew, frames_of_an_earlier_session_are_dropped) {
    auto pair = started();
    ASSERT_TRUE(pair->run_until([&] { return pair->both_up(); }));
    std::vector<std::vector<std::byte>> old;
    pair->tamper = [&](size_t from, Lane, std::vector<std::byte>& bytes) {
        if (from == kB) old.push_back(bytes);
        return true;
    };
    pair->submit(kB, MessageClass::log, "old news");
    pair->run_for(2s);
    pair->tamper = nullptr;
    begin_anew(*pair);
    ASSERT_TRUE(pair->run_until([&] { return pair->both_up(); }));
    const auto before = pair->ends[kA].received.size();
    const auto events = pair->ends[kA].events;
    ASSERT_GE(old.size(), 3u);
    for (const auto& bytes : old) pair->inject(kA, bytes);
    EXPECT_EQ(pair->ends[kA].received.size(), before);
    EXPECT_EQ(pair->ends[kA].events, events) << "a hello of an earlier life must change nothing";
    EXPECT_EQ(pair->ends[kA].session->stats().stale_session_frames, old.size());
    EXPECT_TRUE(pair->both_up());
}

TEST(Session, goodbye_ends_the_session_at_once) {
    auto pair = started();
    ASSERT_TRUE(pair->run_until([&] { return pair->both_up(); }));
    pair->ends[kB].session->say_goodbye("maintenance");
    pair->run_for(20ms);
    EXPECT_THAT(pair->ends[kA].events, ElementsAre("fresh", "down: site-b ends: maintenance"));
    EXPECT_FALSE(pair->ends[kB].session->next_frame(Lane::urgent, pair->now));
}

TEST(Session, credit_stops_a_peer_that_is_not_listened_to) {
    auto pair = std::make_unique<SessionPair>();
    pair->ends[kB].config.receive_bytes_max = {1 << 20, 1 << 20, 1 << 20, 1 << 20};
    pair->start(kA);
    pair->start(kB);
    pair->connect_all();
    ASSERT_TRUE(pair->run_until([&] { return pair->both_up(); }));
    pair->ends[kB].consumes = false;
    const std::string text(1000, 'x');
    for (int i = 0; i < 5000; ++i) {
        for (const MessageClass c : wire::kMessageClasses) pair->submit(kA, c, text);
    }
    pair->run_for(3s);
    for (const MessageClass c : wire::kMessageClasses) {
        const size_t arrived = pair->texts(kB, c).size();
        EXPECT_EQ(arrived, (1u << 20) / (1000 + kFrameCostBytes)) << to_string(c);
    }
    pair->ends[kB].consumes = true;
    pair->consume(kB);
    pair->run_for(3s);
    for (const MessageClass c : wire::kMessageClasses) {
        EXPECT_EQ(pair->texts(kB, c).size(), 5000u) << to_string(c);
    }
}

TEST(Session, log_goes_before_control_and_both_before_bulk) {
    auto pair = started();
    ASSERT_TRUE(pair->run_until([&] { return pair->both_up(); }));
    pair->run_for(100ms);
    std::vector<uint8_t> order;
    pair->tamper = [&](size_t from, Lane, std::vector<std::byte>& bytes) {
        if (from == kA && static_cast<uint8_t>(bytes[5]) == 2) {
            order.push_back(static_cast<uint8_t>(bytes[10]));
        }
        return true;
    };
    for (const MessageClass c :
         {MessageClass::seed, MessageClass::resync, MessageClass::control, MessageClass::log}) {
        pair->submit(kA, c, "one");
        pair->submit(kA, c, "two");
    }
    pair->run_for(100ms);
    EXPECT_THAT(order, ElementsAre(1, 1, 2, 2, 3, 4, 3, 4));
}

TEST(Session, control_is_not_starved_by_log) {
    auto pair = started();
    ASSERT_TRUE(pair->run_until([&] { return pair->both_up(); }));
    pair->bytes_per_second = 1e6;
    const std::string entry(2000, 'e');
    for (int i = 0; i < 2000; ++i) pair->submit(kA, MessageClass::log, entry);
    for (const auto& text : numbered(1, 5)) pair->submit(kA, MessageClass::control, text);
    ASSERT_TRUE(
        pair->run_until([&] { return pair->texts(kB, MessageClass::control).size() == 5; }, 2s));
    EXPECT_LT(pair->texts(kB, MessageClass::log).size(), 500u);
}

// A connection whose queue is older than 3 s is given up though all is well.
TEST(Session, the_queue_in_front_of_a_narrow_line_is_short_and_the_line_is_full) {
    for (const double rate : {0.05e6, 0.2e6}) {
        SessionPair pair;
        for (auto& end : pair.ends) {
            end.config.compression.fill({ClassCompression::Use::off, {}});
        }
        pair.bytes_per_second = rate;
        pair.start(kA);
        pair.start(kB);
        pair.connect_all();
        ASSERT_TRUE(pair.run_until([&] { return pair.both_up(); }));
        uint64_t arrived = 0;
        Instant last = pair.now;
        Duration silence_max{};
        pair.ends[kB].on_each = [&](const MessageReceived& message, Instant) {
            arrived += message.payload.size();
        };
        const auto flood = [&](Duration duration) {
            const Instant end = pair.now + duration;
            Duration queue_max{};
            while (pair.now < end) {
                auto& log = pair.ends[kA];
                while (log.submitted[0] - log.released[0] < kMiB / 4) {
                    pair.submit(kA, MessageClass::log, std::string(32 << 10, 'x'));
                }
                pair.run_for(10ms);
                queue_max = std::max(queue_max, pair.ends[kA].free_at[0] - pair.now);
                const auto heard = pair.ends[kB].session->stats().data_heard;
                if (heard) last = *heard;
                silence_max = std::max(silence_max, pair.now - last);
            }
            return queue_max;
        };
        (void)flood(10s);
        arrived = 0;
        silence_max = {};
        EXPECT_LT(flood(20s), Duration(2500ms)) << rate;
        EXPECT_GT(static_cast<double>(arrived), 0.9 * 20 * rate) << rate;
        EXPECT_LT(silence_max, Duration(150ms)) << rate;
        EXPECT_EQ(pair.ends[kA].session->stats().of(MessageClass::log).frames_repeated, 0u);
    }
}

TEST(Session, wrong_site_is_refused_and_told_once) {
    auto pair = std::make_unique<SessionPair>();
    pair->ends[kB].config.self.site = Name::literal("site-c");
    pair->start(kA);
    pair->start(kB);
    pair->connect_all();
    pair->run_for(3s);
    EXPECT_THAT(pair->ends[kA].events,
                ElementsAre("refused: the channel's other end says that it is site site-c, "
                            "expected site-b"));
    EXPECT_FALSE(pair->ends[kB].up);
}

TEST(Session, another_pair_is_dropped) {
    auto pair = std::make_unique<SessionPair>();
    pair->ends[kB].config.pair = wire::pair_id(Name::literal("db7"));
    pair->start(kA);
    pair->start(kB);
    pair->connect_all();
    pair->run_for(3s);
    EXPECT_FALSE(pair->ends[kA].up);
    EXPECT_GT(pair->ends[kA].session->stats().wrong_pair_frames, 0u);
}

TEST(Session, versions_without_overlap_are_refused_at_both_ends) {
    auto pair = std::make_unique<SessionPair>();
    pair->ends[kB].config.version_min = 2;
    pair->ends[kB].config.version_max = 3;
    pair->start(kA);
    pair->start(kB);
    pair->connect_all();
    pair->run_for(3s);
    EXPECT_THAT(pair->ends[kA].events,
                ElementsAre("refused: site-b (test) speaks channel versions 2 to 3, "
                            "expected 1 to 1"));
    EXPECT_THAT(pair->ends[kB].events,
                ElementsAre("refused: site-a (test) speaks channel versions 1 to 1, "
                            "expected 2 to 3"));
}

TEST(Session, a_newer_peer_speaks_our_version) {
    auto pair = std::make_unique<SessionPair>();
    pair->ends[kB].config.version_max = 9;
    pair->ends[kB].config.features = wire::features::kAll | 0x80000000;
    pair->start(kA);
    pair->start(kB);
    pair->connect_all();
    ASSERT_TRUE(pair->run_until([&] { return pair->both_up(); }));
    EXPECT_EQ(pair->ends[kA].up->version, 1);
    EXPECT_EQ(pair->ends[kB].up->version, 1);
    EXPECT_EQ(pair->ends[kA].up->features, wire::features::kAll);
    pair->submit(kB, MessageClass::log, "understood");
    pair->run_for(1s);
    EXPECT_THAT(pair->texts(kA, MessageClass::log), ElementsAre("understood"));
}

TEST(Session, a_peer_without_zstd_is_sent_nothing_compressed) {
    auto pair = std::make_unique<SessionPair>();
    pair->ends[kB].config.features = 0;
    pair->start(kA);
    pair->start(kB);
    pair->connect_all();
    ASSERT_TRUE(pair->run_until([&] { return pair->both_up(); }));
    const std::string text(50000, 'z');
    pair->submit(kA, MessageClass::log, text);
    pair->run_for(1s);
    EXPECT_THAT(pair->texts(kB, MessageClass::log), ElementsAre(text));
    EXPECT_EQ(pair->ends[kA].session->stats().of(MessageClass::log).body_bytes_sent, text.size());
}

TEST(Session, compression_history_carries_over_reconnects) {
    auto pair = started();
    ASSERT_TRUE(pair->run_until([&] { return pair->both_up(); }));
    Random random(3);
    const std::string page = filler(random, 60000);
    std::vector<std::string> sent;
    for (int i = 0; i < 10; ++i) {
        sent.push_back(page + std::to_string(i));
        pair->submit(kA, MessageClass::log, sent.back());
        pair->run_for(3ms);
        pair->cut_all();
        pair->connect_all();
        pair->run_for(200ms);
    }
    pair->run_for(2s);
    EXPECT_EQ(pair->texts(kB, MessageClass::log), sent);
    // The page was sent once; after that the stream refers back to it.
    const auto& stats = pair->ends[kA].session->stats().of(MessageClass::log);
    EXPECT_LT(stats.body_bytes_sent, 30000u);
}

// Two megabytes that zstd saves a quarter of, twice.
uint64_t body_bytes_of_a_repeat(const wire::CompressSettings& settings) {
    SessionPair pair;
    for (auto& end : pair.ends) {
        end.config.compression[wire::index_of(MessageClass::seed)].settings = settings;
    }
    pair.start(kA);
    pair.start(kB);
    pair.connect_all();
    EXPECT_TRUE(pair.run_until([&] { return pair.both_up(); }));
    constexpr std::string_view kLetters =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    Random random(3);
    std::string text(2 << 20, ' ');
    for (char& each : text) each = kLetters[random.below(kLetters.size())];
    std::array<uint64_t, 2> sent{};
    for (size_t round = 0; round < sent.size(); ++round) {
        pair.submit(kA, MessageClass::seed, text);
        pair.run_for(2s);
        EXPECT_EQ(pair.texts(kB, MessageClass::seed).size(), round + 1);
        EXPECT_EQ(pair.texts(kB, MessageClass::seed).back(), text);
        sent[round] = pair.ends[kA].session->stats().of(MessageClass::seed).body_bytes_sent;
    }
    return sent[1] - sent[0];
}

TEST(Session, a_long_window_finds_what_came_megabytes_ago) {
    EXPECT_GT(body_bytes_of_a_repeat({}), 1'000'000u);
    EXPECT_LT(body_bytes_of_a_repeat(wire::kLongWindow), 100'000u);
}

TEST(Session, the_level_can_change_within_a_stream) {
    auto pair = started();
    ASSERT_TRUE(pair->run_until([&] { return pair->both_up(); }));
    Random random(4);
    std::vector<std::string> sent;
    for (const int level : {1, 3, -5, LevelControl::kNone, 6, -1, 1}) {
        pair->ends[kA].session->set_compression_level(MessageClass::seed, level);
        for (int i = 0; i < 3; ++i) {
            sent.push_back(filler(random, 100000));
            pair->submit(kA, MessageClass::seed, sent.back());
        }
        pair->run_for(300ms);
    }
    EXPECT_EQ(pair->texts(kB, MessageClass::seed), sent);
}

// Everything at once, for many seeds: what arrives is what was sent, in order, once, whatever the
// lines do, and nothing is forgotten or held too long.
class SessionUnderFaults : public testing::TestWithParam<uint64_t> {};

struct Chaos {
    explicit Chaos(uint64_t seed) : random(seed) {}
    Random random;
    SessionPair pair;
    std::array<PerClass<std::vector<std::string>>, 2> sent;
    double loss = 0;
    double change = 0;

    bool tamper(std::vector<std::byte>& bytes) {
        if (random.chance(change)) bytes[random.below(bytes.size())] ^= std::byte{1};
        return !random.chance(loss);
    }
    void submit_some(size_t from) {
        const auto c = static_cast<MessageClass>(random.between(1, 4));
        const size_t size = random.chance(0.1) ? random.below(400000) : random.below(300);
        auto& list = sent[from][wire::index_of(c)];
        std::string text = std::to_string(list.size()) + ":";
        if (random.chance(0.3)) {
            for (size_t i = 0; i < size; ++i) text.push_back(static_cast<char>(random.next()));
        } else {
            text += filler(random, size);
        }
        list.push_back(text);
        pair.submit(from, c, text);
    }
};

TEST_P(SessionUnderFaults, delivers_everything_in_order_once) {
    Chaos chaos(GetParam());
    SessionPair& pair = chaos.pair;
    Random& random = chaos.random;
    pair.delay = std::chrono::microseconds(random.between(50, 80000));
    pair.bytes_per_second = static_cast<double>(random.between(1, 200)) * 1e6;
    pair.shared_line = random.chance(0.5);
    pair.tamper = [&](size_t, Lane, std::vector<std::byte>& bytes) { return chaos.tamper(bytes); };
    pair.start(kA);
    pair.start(kB);
    pair.connect_all();
    ASSERT_TRUE(pair.run_until([&] { return pair.both_up(); }));
    chaos.loss = random.chance(0.5) ? random.unit() * 0.05 : 0;
    chaos.change = random.chance(0.5) ? random.unit() * 0.02 : 0;
    const double cut_chance = random.unit() * 0.1;
    for (int i = 0; i < 150; ++i) {
        for (const size_t end : {kA, kB}) {
            for (uint64_t n = random.below(6); n > 0; --n) chaos.submit_some(end);
        }
        if (random.chance(cut_chance)) {
            pair.cut(random.below(2), random.chance(0.5) ? Lane::urgent : Lane::bulk);
        }
        if (random.chance(cut_chance)) pair.cut_all();
        if (random.chance(0.3)) pair.connect_all();
        pair.run_for(std::chrono::microseconds(random.below(20000)));
    }
    chaos.loss = 0;
    chaos.change = 0;
    pair.connect_all();
    const auto all_there = [&] {
        for (const size_t end : {kA, kB}) {
            size_t count = 0;
            for (const auto& list : chaos.sent[1 - end]) count += list.size();
            if (pair.ends[end].received.size() < count) return false;
        }
        return true;
    };
    ASSERT_TRUE(pair.run_until(all_there, 120s)) << "not everything arrived";
    pair.run_for(2s);
    for (const size_t end : {kA, kB}) {
        for (const MessageClass c : wire::kMessageClasses) {
            const size_t index = wire::index_of(c);
            ASSERT_EQ(pair.texts(end, c), chaos.sent[1 - end][index]) << to_string(c);
            EXPECT_EQ(pair.ends[end].released[index], pair.ends[end].submitted[index]);
        }
        for (const auto& event : pair.ends[end].events) {
            EXPECT_THAT(event, testing::Not(HasSubstr("broke the protocol")));
        }
        EXPECT_EQ(pair.ends[end].session->generation(), 1u);
    }
}

INSTANTIATE_TEST_SUITE_P(Seeds, SessionUnderFaults, testing::Range<uint64_t>(1, 61));

}  // namespace
}  // namespace antipode::stream
