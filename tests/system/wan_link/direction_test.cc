// The emulator's arithmetic under virtual time.
#include "tests/system/wan_link/direction.h"

#include <cmath>
#include <gtest/gtest.h>

namespace antipode::wan {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr Instant kStart{seconds(1000)};

Direction with(std::initializer_list<std::pair<const char*, const char*>> fields,
               uint64_t seed = 1) {
    Direction direction(seed);
    for (const auto& [field, value] : fields) {
        EXPECT_TRUE(set_field(direction.settings(), field, value)) << field;
    }
    return direction;
}

TEST(Direction, DelayIsExact) {
    Direction direction = with({{"delay_ms", "50"}});
    EXPECT_EQ(direction.stream(kStart, 100, {}, {}), kStart + milliseconds(50));
    EXPECT_EQ(direction.datagram(kStart, 100, {}).at[0], kStart + milliseconds(50));
}

TEST(Direction, RateIsExactUnderSaturation) {
    Direction direction = with({{"rate_mbytes", "125"}, {"delay_ms", "10"}});
    const size_t piece = direction.piece_bytes_max();
    EXPECT_EQ(piece, 125'000u);
    Instant now = kStart;
    Instant arrival{};
    size_t sent = 0;
    while (sent < 1'250'000'000) {
        now = std::max(now, direction.room_at());
        arrival = direction.stream(now, piece, arrival, {});
        sent += piece;
        // A sender that is held up for less than the queue's length does not slow the line.
        if (sent % (piece * 100) == 0) now += milliseconds(15);
    }
    const double elapsed = std::chrono::duration<double>(arrival - kStart).count() - 0.010;
    EXPECT_NEAR(static_cast<double>(sent) / elapsed, 125e6, 125e6 * 0.001);
}

TEST(Direction, QueueIsBounded) {
    Direction direction = with({{"rate_mbytes", "1"}, {"queue_ms", "20"}});
    for (int piece = 0; piece < 100 && direction.room_at() <= kStart; ++piece) {
        (void)direction.stream(kStart, 1448, {}, {});
    }
    EXPECT_GT(direction.room_at(), kStart);
    EXPECT_LE(direction.room_at() - kStart, milliseconds(2));
    EXPECT_EQ(direction.datagram(kStart, 100, {}).count, 1u)
        << "a stream that fills it starves all";
    uint64_t dropped = 0;
    for (int datagram = 0; datagram < 100; ++datagram) {
        dropped += direction.datagram(kStart, 1000, {}).count == 0 ? 1 : 0;
    }
    EXPECT_GE(dropped, 98u);
    EXPECT_EQ(direction.stats().datagrams_overflow, dropped);
    EXPECT_LE(direction.room_at() - kStart, milliseconds(3));
}

TEST(Direction, ATailDropLeavesADatagramNoRoomBesideAStream) {
    Direction direction = with({{"rate_mbytes", "1"}, {"queue_ms", "20"}, {"tail_drop", "1"}});
    while (direction.room_at() <= kStart) (void)direction.stream(kStart, 1448, {}, {});
    EXPECT_EQ(direction.datagram(kStart, 100, {}).count, 0u);
    EXPECT_EQ(direction.stats().datagrams_overflow, 1u);
    EXPECT_EQ(direction.datagram(direction.room_at(), 100, {}).count, 1u);
    ASSERT_TRUE(set_field(direction.settings(), "tail_drop", "0"));
    EXPECT_EQ(direction.datagram(kStart, 100, {}).count, 1u);
}

TEST(Direction, WithoutARateNothingOverflows) {
    Direction direction = with({{"delay_ms", "1"}});
    for (int datagram = 0; datagram < 1000; ++datagram) {
        EXPECT_EQ(direction.datagram(kStart, 1400, {}).count, 1u);
    }
}

TEST(Direction, BothForwardsShareTheTransmitter) {
    Direction direction = with({{"rate_mbytes", "1"}});
    EXPECT_EQ(direction.stream(kStart, 1000, {}, {}), kStart + milliseconds(1));
    EXPECT_EQ(direction.datagram(kStart, 1000, {}).at[0], kStart + milliseconds(2));
}

TEST(Direction, JitterStaysInItsBoundsAndOrder) {
    Direction direction = with({{"delay_ms", "30"}, {"jitter_ms", "10"}});
    Instant floor{};
    double sum = 0;
    for (int index = 0; index < 10'000; ++index) {
        const Instant now = kStart + milliseconds(100 * index);
        const Instant arrival = direction.stream(now, 100, floor, {});
        EXPECT_GE(arrival, floor);
        EXPECT_GE(arrival - now, milliseconds(20));
        EXPECT_LE(arrival - now, milliseconds(40));
        sum += std::chrono::duration<double, std::milli>(arrival - now).count();
        floor = arrival;
    }
    EXPECT_NEAR(sum / 10'000, 30, 0.5);
}

TEST(Direction, LossOfDatagrams) {
    Direction direction = with({{"loss", "0.1"}});
    int arrived = 0;
    for (int index = 0; index < 100'000; ++index) {
        arrived += static_cast<int>(direction.datagram(kStart, 100, {}).count);
    }
    EXPECT_NEAR(arrived, 90'000, 600);  // six standard deviations
    EXPECT_EQ(direction.stats().datagrams_lost, 100'000u - static_cast<uint64_t>(arrived));
}

TEST(Direction, LossStallsAStreamByARoundTrip) {
    Direction direction = with({{"loss", "0.01"}, {"delay_ms", "10"}});
    int stalled = 0;
    Instant floor{};
    for (int index = 0; index < 10'000; ++index) {
        const Instant now = kStart + seconds(index);
        const Duration took = direction.stream(now, 1448 * 10, floor, milliseconds(20)) - now;
        EXPECT_TRUE(took == milliseconds(10) || took == milliseconds(30));
        stalled += took == milliseconds(30) ? 1 : 0;
    }
    const double expected = (1 - std::pow(0.99, 10)) * 10'000;
    EXPECT_NEAR(stalled, expected, 180);
    EXPECT_EQ(direction.stats().stalls, static_cast<uint64_t>(stalled));
}

TEST(Direction, BehindAStallEverythingWaits) {
    Direction direction = with({{"loss", "1"}, {"stall_ms", "300"}, {"delay_ms", "1"}});
    const Instant first = direction.stream(kStart, 100, {}, {});
    EXPECT_EQ(first, kStart + milliseconds(301));
    ASSERT_TRUE(set_field(direction.settings(), "loss", "0"));
    EXPECT_EQ(direction.stream(kStart + milliseconds(1), 100, first, {}), first);
}

TEST(Direction, DuplicatesAndReorders) {
    Direction direction = with({{"duplicate", "1"}});
    const auto twice = direction.datagram(kStart, 100, {});
    EXPECT_EQ(twice.count, 2u);
    EXPECT_GT(twice.at[1], twice.at[0]);

    Direction late = with({{"reorder", "1"}, {"reorder_ms", "7"}});
    const auto held = late.datagram(kStart, 100, {});
    EXPECT_EQ(held.at[0], kStart + milliseconds(7));
    EXPECT_FALSE(held.in_order);
    ASSERT_TRUE(set_field(late.settings(), "reorder", "0"));
    EXPECT_LT(late.datagram(kStart + milliseconds(1), 100, {}).at[0], held.at[0]);
}

TEST(Direction, ACutLineTakesNoDatagram) {
    Direction direction = with({});
    direction.set_cut(Cut::blackhole);
    EXPECT_EQ(direction.datagram(kStart, 100, {}).count, 0u);
    direction.set_cut(Cut::none);
    EXPECT_EQ(direction.datagram(kStart, 100, {}).count, 1u);
    EXPECT_EQ(direction.stats().datagrams_cut, 1u);
}

TEST(Direction, SameSeedSameAnswers) {
    const auto run = [](uint64_t seed) {
        Direction direction = with({{"delay_ms", "5"}, {"jitter_ms", "5"}, {"loss", "0.2"}}, seed);
        std::vector<Instant> arrivals;
        for (int index = 0; index < 100; ++index) {
            arrivals.push_back(direction.datagram(kStart, 10, {}).at[0]);
        }
        return arrivals;
    };
    EXPECT_EQ(run(7), run(7));
    EXPECT_NE(run(7), run(8));
}

TEST(Direction, SettingsRefuseNonsense) {
    Settings settings;
    const std::pair<const char*, const char*> kNonsense[] = {
        {"delay_ms", "fast"}, {"delay_ms", "-1"},  {"loss", "1.5"},     {"speed", "1"},
        {"delay_ms", "5x"},   {"rate_mbytes", ""}, {"delay_ms", "nan"},
    };
    for (const auto& [field, value] : kNonsense) {
        const auto set = set_field(settings, field, value);
        ASSERT_FALSE(set) << field << "=" << value;
        EXPECT_NE(set.error().context.find(field), std::string::npos);
    }
}

TEST(Direction, LatenessIsMeasured) {
    Direction direction(1);
    direction.delivered(kStart, kStart + microseconds(30));
    direction.delivered(kStart, kStart - microseconds(30));
    EXPECT_EQ(direction.stats().lateness_max, microseconds(30));
    EXPECT_EQ(direction.stats().deliveries, 2u);
}

}  // namespace
}  // namespace antipode::wan
