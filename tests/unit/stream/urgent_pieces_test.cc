// A piece of the log is as long as the line needs 50 ms for.
#include "replicator/stream/urgent_pieces.h"

#include <gtest/gtest.h>

namespace antipode::stream {
namespace {

using namespace std::chrono_literals;

constexpr Instant kStart{1000s};
constexpr uint64_t kMuch = 1 << 20;
constexpr Duration kLength = 20ms;

// Acknowledgements each `interval` for as long as the line brings `rate` and much is waiting.
Instant flood(UrgentPieces& pieces, double rate, Duration interval, int count, Instant now,
              uint64_t out = kMuch) {
    for (int i = 0; i < count; ++i) {
        now += interval;
        const double bytes = rate * std::chrono::duration<double>(interval).count();
        pieces.acknowledged(static_cast<uint64_t>(bytes), out, kLength, now);
    }
    return now;
}

TEST(UrgentPieces, are_short_until_something_is_known) {
    EXPECT_EQ(UrgentPieces().bytes(), UrgentPieces::kBytesFirst);
}

TEST(UrgentPieces, fit_a_narrow_line) {
    UrgentPieces pieces;
    flood(pieces, 0.2e6, 1s, 3, kStart);
    EXPECT_NEAR(static_cast<double>(pieces.bytes()), 0.2e6 * 0.05, 100);
    UrgentPieces narrower;
    flood(narrower, 0.02e6, 1s, 5, kStart);
    EXPECT_EQ(narrower.bytes(), UrgentPieces::kBytesMin);
}

TEST(UrgentPieces, are_long_on_a_fast_line) {
    UrgentPieces pieces;
    flood(pieces, 125e6, 2ms, 200, kStart);
    EXPECT_EQ(pieces.bytes(), UrgentPieces::kBytesMax);
}

TEST(UrgentPieces, bound_what_is_queued_in_front_of_a_narrow_line_only) {
    UrgentPieces pieces;
    EXPECT_EQ(pieces.window(), UINT64_MAX);
    Instant now = flood(pieces, 0.2e6, 1s, 3, kStart);
    EXPECT_NEAR(static_cast<double>(pieces.window()), 0.3e6, 1000);
    now = flood(pieces, 0.02e6, 1s, 3, now);
    EXPECT_EQ(pieces.window(), UrgentPieces::kWindowBytesMin);
    flood(pieces, 2e6, 125ms, 10, now);
    EXPECT_EQ(pieces.window(), UINT64_MAX);
}

TEST(UrgentPieces, follow_a_line_that_becomes_slower_and_faster) {
    UrgentPieces pieces;
    Instant now = flood(pieces, 10e6, 25ms, 40, kStart);
    EXPECT_EQ(pieces.bytes(), UrgentPieces::kBytesMax);
    now = flood(pieces, 0.2e6, 1s, 3, now);
    EXPECT_LT(pieces.bytes(), 11'000u);
    flood(pieces, 10e6, 25ms, 40, now);
    EXPECT_EQ(pieces.bytes(), UrgentPieces::kBytesMax);
}

TEST(UrgentPieces, little_to_send_says_nothing_of_the_line) {
    UrgentPieces pieces;
    Instant now = flood(pieces, 10e6, 25ms, 40, kStart);
    for (int i = 0; i < 20; ++i) {
        now += 1s;
        pieces.acknowledged(2000, 500, kLength, now);
    }
    EXPECT_EQ(pieces.bytes(), UrgentPieces::kBytesMax);
}

TEST(UrgentPieces, what_is_on_its_way_because_the_way_is_long_is_no_queue) {
    UrgentPieces pieces;
    Instant now = flood(pieces, 10e6, 25ms, 40, kStart);
    // 0.5 MB/s, acknowledged every half second, a tenth of a second of it out: no queue.
    flood(pieces, 0.5e6, 500ms, 20, now, 50'000);
    EXPECT_EQ(pieces.bytes(), UrgentPieces::kBytesMax);
    EXPECT_EQ(pieces.window(), UINT64_MAX);
}

TEST(UrgentPieces, a_line_of_which_little_was_asked_is_not_called_narrow) {
    UrgentPieces pieces;
    flood(pieces, 2000, 1s, 20, kStart, 500);
    EXPECT_EQ(pieces.bytes(), UrgentPieces::kBytesFirst);
    EXPECT_EQ(pieces.window(), UINT64_MAX);
}

TEST(UrgentPieces, a_pause_is_no_slow_line) {
    UrgentPieces pieces;
    Instant now = flood(pieces, 10e6, 25ms, 40, kStart);
    pieces.acknowledged(kMuch, 0, kLength, now + 25ms);
    pieces.acknowledged(5000, kMuch, kLength, now + 100s);
    EXPECT_EQ(pieces.bytes(), UrgentPieces::kBytesMax);
}

}  // namespace
}  // namespace antipode::stream
