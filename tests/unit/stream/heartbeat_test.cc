// Heartbeats: what counts as a sign of life, what is measured, and the sockets around it.
#include "replicator/stream/heartbeat.h"

#include <deque>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/random.h"
#include "common/wire/checksum.h"

namespace antipode::stream {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

wire::HeartbeatKey key_of(uint8_t fill) {
    wire::HeartbeatKey key;
    key.fill(std::byte{fill});
    return key;
}

// Two trackers and a line with delay, under virtual time; each side has its own clock.
struct Line {
    struct Flying {
        size_t to;
        size_t path;
        Instant arrives;
        wire::HeartbeatBytes bytes;
    };
    PairId pair = wire::pair_id(Name::literal("web1"));
    std::array<Name, 2> sites{Name::literal("site-a"), Name::literal("site-b")};
    std::array<std::optional<HeartbeatTracker>, 2> ends;
    std::array<std::vector<HeartbeatEvent>, 2> events;
    std::array<Duration, 2> clock_ahead{0s, 0s};
    Instant now{1000s};
    Duration delay = 10ms;
    std::deque<Flying> flying;
    std::vector<wire::HeartbeatBytes> recorded;  // everything that end 1 sent on path 0
    std::function<bool(size_t from, size_t path)> lost;
    size_t paths = 1;

    void start(size_t end, uint64_t incarnation) {
        ends[end].emplace(key_of(1), pair, Member{sites[end], Incarnation(incarnation)},
                          sites[1 - end], paths);
    }
    Instant clock(size_t end) const { return now + clock_ahead[end]; }
    void beat() {
        for (size_t end : {0u, 1u}) {
            if (!ends[end]) continue;
            ends[end]->next_sequence();
            for (size_t path = 0; path < paths; ++path) {
                const auto bytes = ends[end]->packet(path, clock(end));
                if (end == 1 && path == 0) recorded.push_back(bytes);
                if (lost && lost(end, path)) continue;
                flying.push_back({1 - end, path, now + delay, bytes});
            }
        }
    }
    void deliver(size_t to, size_t path, std::span<const std::byte> bytes) {
        if (!ends[to]) return;
        if (const auto event = ends[to]->received(path, bytes, clock(to))) {
            events[to].push_back(*event);
        }
    }
    void run(int intervals, Duration interval = 20ms) {
        for (int i = 0; i < intervals; ++i) {
            beat();
            const Instant end = now + interval;
            while (!flying.empty() && flying.front().arrives <= end) {
                now = flying.front().arrives;
                const Flying packet = flying.front();
                flying.pop_front();
                deliver(packet.to, packet.path, packet.bytes);
            }
            now = end;
        }
    }
};

Line line_with_both() {
    Line line;
    line.start(0, 100);
    line.start(1, 200);
    return line;
}

TEST(HeartbeatTracker, measures_round_trip_and_clock_offset_exactly_on_a_quiet_line) {
    Line line = line_with_both();
    line.clock_ahead[1] = 12345678us;
    line.run(100);
    const auto stats = line.ends[0]->stats();
    EXPECT_EQ(stats.rtt, Duration(20ms));
    EXPECT_EQ(stats.jitter, Duration(0));
    EXPECT_EQ(stats.clock_offset, Duration(12345678us));
    EXPECT_EQ(stats.loss_ratio, 0.0);
    EXPECT_EQ(line.ends[1]->stats().clock_offset, Duration(-12345678us));
    ASSERT_FALSE(line.events[0].empty());
    EXPECT_EQ(line.events[0].back().from, (Member{line.sites[1], Incarnation(200)}));
}

TEST(HeartbeatTracker, says_after_which_packet_of_ours_the_peer_spoke) {
    Line line = line_with_both();
    const Instant began = line.now;
    line.run(100);
    size_t echoes = 0;
    for (const auto& event : line.events[0]) {
        EXPECT_EQ(event.rtt.has_value(), event.echo_of.has_value());
        if (!event.echo_of) continue;
        ++echoes;
        EXPECT_LE(*event.echo_of + *event.rtt, event.at);
        EXPECT_EQ((*event.echo_of - began) % 20ms, Duration(0)) << "this end sends each 20 ms";
    }
    EXPECT_GT(echoes, 50u);
}

TEST(HeartbeatTracker, carries_the_epoch) {
    Line line = line_with_both();
    line.ends[1]->set_epoch(Epoch(41));
    line.run(5);
    EXPECT_EQ(line.events[0].back().epoch, Epoch(41));
}

TEST(HeartbeatTracker, measures_loss) {
    Line line = line_with_both();
    Random random(5);
    line.lost = [&](size_t from, size_t) { return from == 1 && random.chance(0.2); };
    line.run(2000);
    EXPECT_NEAR(*line.ends[0]->stats().loss_ratio, 0.2, 0.08);
    EXPECT_EQ(line.ends[1]->stats().loss_ratio, 0.0);
}

TEST(HeartbeatTracker, jitter_grows_with_the_line_s) {
    Line line = line_with_both();
    Random random(6);
    for (int i = 0; i < 400; ++i) {
        line.delay = std::chrono::microseconds(5000 + random.below(10000));
        line.run(1, 40ms);
    }
    const auto stats = line.ends[0]->stats();
    EXPECT_GT(*stats.jitter, Duration(1ms));
    EXPECT_LT(*stats.jitter, Duration(10ms));
    EXPECT_NEAR(static_cast<double>(stats.rtt->count()), 20e6, 6e6);
}

TEST(HeartbeatTracker, the_same_packet_counts_once) {
    Line line = line_with_both();
    line.run(50);
    const size_t before = line.events[0].size();
    for (const auto& bytes : line.recorded) line.deliver(0, 0, bytes);
    // The last one was still on its way.
    EXPECT_LE(line.events[0].size(), before + 1);
    EXPECT_GE(line.ends[0]->stats().replayed, line.recorded.size() - 5);
}

TEST(HeartbeatTracker, another_key_counts_for_nothing) {
    Line line = line_with_both();
    line.ends[1].emplace(key_of(2), line.pair, Member{line.sites[1], Incarnation(200)},
                         line.sites[0], 1);
    line.run(50);
    EXPECT_TRUE(line.events[0].empty());
    EXPECT_EQ(line.ends[0]->stats().forged, 50u);
}

TEST(HeartbeatTracker, another_pair_another_site_and_our_own_reflection_count_for_nothing) {
    Line line = line_with_both();
    line.run(10);
    line.events[0].clear();
    HeartbeatTracker other_pair(key_of(1), wire::pair_id(Name::literal("db7")),
                                {line.sites[1], Incarnation(300)}, line.sites[0], 1);
    HeartbeatTracker other_site(key_of(1), line.pair, {Name::literal("site-c"), Incarnation(301)},
                                line.sites[0], 1);
    for (auto* stranger : {&other_pair, &other_site, &*line.ends[0]}) {
        stranger->next_sequence();
        line.deliver(0, 0, stranger->packet(0, line.now));
    }
    EXPECT_TRUE(line.events[0].empty());
    EXPECT_EQ(line.ends[0]->stats().garbage, 3u);
}

TEST(HeartbeatTracker, a_restarted_peer_is_heard_as_the_new_one) {
    Line line = line_with_both();
    line.run(20);
    line.start(1, 201);
    line.flying.clear();
    line.events[0].clear();
    line.run(20);
    ASSERT_FALSE(line.events[0].empty());
    EXPECT_EQ(line.events[0].front().from.incarnation, Incarnation(201));
    EXPECT_EQ(line.ends[0]->peer()->incarnation, Incarnation(201));
}

TEST(HeartbeatTracker, a_recording_of_an_earlier_life_does_not_make_a_dead_peer_alive) {
    Line line = line_with_both();
    line.run(300);
    const auto recording = line.recorded;
    line.ends[1].reset();
    line.flying.clear();
    // This site is restarted as well, so that it has never heard of anybody.
    line.start(0, 101);
    line.events[0].clear();
    for (const auto& bytes : recording) {
        line.ends[0]->next_sequence();
        (void)line.ends[0]->packet(0, line.now);
        line.deliver(0, 0, bytes);
        line.now += 20ms;
    }
    EXPECT_TRUE(line.events[0].empty());
    EXPECT_FALSE(line.ends[0]->peer().has_value());
    EXPECT_EQ(line.ends[0]->stats().unproven, recording.size());
}

TEST(HeartbeatTracker, a_former_process_never_comes_back) {
    Line line = line_with_both();
    line.run(50);
    const auto old = line.recorded;
    line.start(1, 201);
    line.run(50);
    line.events[0].clear();
    for (const auto& bytes : old) line.deliver(0, 0, bytes);
    EXPECT_TRUE(line.events[0].empty());
    EXPECT_EQ(line.ends[0]->peer()->incarnation, Incarnation(201));
}

TEST(HeartbeatTracker, late_packets_count_and_very_late_ones_do_not) {
    Line line = line_with_both();
    line.run(20);
    std::vector<wire::HeartbeatBytes> held;
    for (int i = 0; i < 400; ++i) {
        line.ends[1]->next_sequence();
        held.push_back(line.ends[1]->packet(0, line.now));
    }
    line.events[0].clear();
    line.deliver(0, 0, held.back());
    line.deliver(0, 0, held[held.size() - 200]);
    line.deliver(0, 0, held[0]);
    EXPECT_EQ(line.events[0].size(), 2u);
}

TEST(HeartbeatTracker, two_paths_count_once_and_either_is_enough) {
    Line line;
    line.paths = 2;
    line.start(0, 100);
    line.start(1, 200);
    line.run(50);
    size_t first = 0;
    size_t again = 0;
    for (const auto& event : line.events[0]) {
        ++(event.copy == HeartbeatEvent::Copy::first ? first : again);
    }
    EXPECT_NEAR(static_cast<double>(first), 50, 5);
    EXPECT_NEAR(static_cast<double>(again), 50, 5);
    line.lost = [](size_t, size_t path) { return path == 0; };
    line.run(300);
    line.events[0].clear();
    line.run(100);
    EXPECT_GE(line.events[0].size(), 99u);
    for (const auto& event : line.events[0]) {
        EXPECT_EQ(event.path, 1u);
        EXPECT_EQ(event.copy, HeartbeatEvent::Copy::first);
    }
    EXPECT_EQ(line.ends[0]->stats().loss_ratio, 0.0) << "together they lose nothing";
}

TEST(HeartbeatTracker, an_asymmetric_cut_is_heard_at_the_end_that_can_hear) {
    Line line = line_with_both();
    line.run(20);
    line.lost = [](size_t from, size_t) { return from == 0; };
    line.run(10);
    for (auto& events : line.events) events.clear();
    line.run(100);
    EXPECT_EQ(line.events[0].size(), 100u);
    EXPECT_TRUE(line.events[1].empty());
}

TEST(SequenceWindow, loss_counts_only_what_can_still_be_told) {
    SequenceWindow window;
    EXPECT_FALSE(window.loss_ratio().has_value());
    EXPECT_TRUE(window.add(1000));
    EXPECT_EQ(window.loss_ratio(), 0.0);
    EXPECT_TRUE(window.add(1003));
    EXPECT_EQ(window.loss_ratio(), 0.5);
    EXPECT_TRUE(window.add(1001));
    EXPECT_EQ(window.loss_ratio(), 0.25);
    EXPECT_FALSE(window.add(1001));
    EXPECT_FALSE(window.add(999)) << "before the first";
    EXPECT_TRUE(window.add(5000)) << "a jump clears the window";
    EXPECT_FALSE(window.add(1002));
    EXPECT_NEAR(*window.loss_ratio(), 255.0 / 256, 1e-9);
}

TEST(SequenceWindow, the_last_number_there_is_ends) {
    SequenceWindow window;
    EXPECT_TRUE(window.add(3));
    EXPECT_TRUE(window.add(UINT64_MAX));
    EXPECT_FALSE(window.add(UINT64_MAX));
    EXPECT_TRUE(window.add(UINT64_MAX - 1));
    EXPECT_FALSE(window.add(4));
    EXPECT_FALSE(window.add(UINT64_MAX - 256));
}

// ---- Sockets ----

HeartbeatConfig config_of(const char* site, const char* peer, uint64_t incarnation) {
    HeartbeatConfig config;
    config.paths = {{"127.0.0.1:0", "127.0.0.1:9"}};
    config.key = key_of(7);
    config.pair = wire::pair_id(Name::literal("web1"));
    config.self = {Name::literal(site), Incarnation(incarnation)};
    config.peer_site = Name::literal(peer);
    config.interval = 5ms;
    return config;
}

TEST(Heartbeat, two_sites_hear_each_other) {
    boost::asio::io_context context;
    Registry registry;
    int heard_a = 0;
    int heard_b = 0;
    auto config_a = config_of("site-a", "site-b", 1);
    config_a.metrics = &registry;
    auto a = Heartbeat::create(context, config_a, [&](const HeartbeatEvent&) { ++heard_a; });
    ASSERT_TRUE(a.has_value()) << a.error().to_string();
    auto b = Heartbeat::create(context, config_of("site-b", "site-a", 2),
                               [&](const HeartbeatEvent& event) {
                                   ++heard_b;
                                   EXPECT_EQ(event.from.site.view(), "site-a");
                                   EXPECT_EQ(event.epoch, Epoch(9));
                               });
    ASSERT_TRUE(b.has_value());
    (*a)->set_epoch(Epoch(9));
    ASSERT_TRUE((*a)->set_peer_address(0, (*b)->listen_address(0)).has_value());
    ASSERT_TRUE((*b)->set_peer_address(0, (*a)->listen_address(0)).has_value());
    const Instant end = MonotonicClock::now() + 20s;
    while ((heard_a < 20 || heard_b < 20) && MonotonicClock::now() < end) {
        context.run_one_for(10ms);
    }
    EXPECT_GE(heard_a, 20);
    EXPECT_GE(heard_b, 20);
    EXPECT_TRUE((*a)->stats().rtt.has_value());
    EXPECT_LT(std::abs((*a)->stats().clock_offset->count()), 5'000'000) << "it is the same clock";
    EXPECT_THAT(registry.prometheus_text(), HasSubstr("antipode_heartbeats_received_total"));
}

TEST(Heartbeat, the_callback_may_destroy_it) {
    boost::asio::io_context context;
    std::unique_ptr<Heartbeat> a;
    a = *Heartbeat::create(context, config_of("site-a", "site-b", 1),
                           [&](const HeartbeatEvent&) { a.reset(); });
    auto b =
        *Heartbeat::create(context, config_of("site-b", "site-a", 2), [](const HeartbeatEvent&) {});
    ASSERT_TRUE(a->set_peer_address(0, b->listen_address(0)).has_value());
    ASSERT_TRUE(b->set_peer_address(0, a->listen_address(0)).has_value());
    const Instant end = MonotonicClock::now() + 20s;
    while (a && MonotonicClock::now() < end) context.run_one_for(10ms);
    EXPECT_EQ(a, nullptr);
}

TEST(Heartbeat, bad_settings_are_named) {
    boost::asio::io_context context;
    const auto error = [&](HeartbeatConfig config) {
        const auto made = Heartbeat::create(context, std::move(config), [](const auto&) {});
        return made ? std::string("none") : made.error().context;
    };
    auto config = config_of("site-a", "site-b", 1);
    config.paths[0].listen = "example:7101";
    EXPECT_THAT(error(config), HasSubstr("listen address 'example:7101' is not ADDRESS:PORT"));
    config = config_of("site-a", "site-b", 1);
    config.paths[0].peer = "127.0.0.1";
    EXPECT_THAT(error(config), HasSubstr("peer address '127.0.0.1' is not ADDRESS:PORT"));
    config.paths.clear();
    EXPECT_THAT(error(config), HasSubstr("0 paths"));
    config = config_of("site-a", "site-b", 1);
    const auto first = Heartbeat::create(context, config, [](const auto&) {});
    config.paths[0].listen = (*first)->listen_address(0);
    EXPECT_THAT(error(config), HasSubstr("cannot listen on " + config.paths[0].listen));
}

}  // namespace
}  // namespace antipode::stream
