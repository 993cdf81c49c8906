// What a guest with a 24-bit clock source makes of it: it adds up differences, taken at its ticks,
// modulo the clock's range.
#include "replicator/replay/clock_pacer.h"

#include <gtest/gtest.h>

namespace antipode::replay {
namespace {

constexpr uint64_t kSecond = 1'000'000'000;
constexpr uint64_t kWrapNs = 4'687'000'000;  // 2^24 / 3.579545 MHz, rounded down

// Follows the readings as Linux does.
class Guest {
  public:
    void tick(ClockPacer& pacer, uint64_t true_ns) {
        pacer.tick(true_ns);
        look(pacer.reading(true_ns));
    }
    void look(uint64_t reading_ns) {
        monotonic_ns_ += (reading_ns - last_ns_) % kWrapNs;
        last_ns_ = reading_ns;
    }
    uint64_t monotonic_ns() const { return monotonic_ns_; }

  private:
    uint64_t last_ns_ = 0;
    uint64_t monotonic_ns_ = 0;
};

TEST(ClockPacerTest, TheGuestIsRightAfterAStandOfAnyLength) {
    for (const uint64_t stand : {1, 3, 5, 10, 60, 3600}) {
        ClockPacer pacer;
        Guest guest;
        uint64_t now = 0;
        for (int i = 0; i < 100; ++i) guest.tick(pacer, now += kSecond / 100);
        EXPECT_EQ(guest.monotonic_ns(), now);
        now += stand * kSecond;
        for (int i = 0; i < 2000; ++i) {
            guest.look(pacer.reading(now));  // between the ticks as well
            guest.tick(pacer, now += kSecond / 100);
        }
        EXPECT_EQ(guest.monotonic_ns(), now) << stand;
        EXPECT_EQ(pacer.owed_ns(), 0u);
    }
}

TEST(ClockPacerTest, AReadingBeforeTheTickStaysWithinTheRange) {
    ClockPacer pacer;
    Guest guest;
    guest.tick(pacer, kSecond);
    const uint64_t now = 100 * kSecond;
    (void)pacer.reading(now);  // read, but not accounted for
    guest.tick(pacer, now);
    for (int i = 0; i < 100; ++i) guest.tick(pacer, now);
    EXPECT_EQ(guest.monotonic_ns(), now);
}

TEST(ClockPacerTest, NeverBackAndNeverAhead) {
    ClockPacer pacer;
    uint64_t last = 0;
    for (const uint64_t now : {uint64_t{5}, 9 * kSecond, 9 * kSecond, 8 * kSecond, 30 * kSecond}) {
        const uint64_t shown = pacer.reading(now);
        EXPECT_GE(shown, last);
        EXPECT_LE(shown, std::max(now, last));
        last = shown;
    }
}

// The backup goes live nine seconds after the log ended.
TEST(ClockPacerTest, AFailoverIsAStandToo) {
    ClockPacer pacer;
    pacer.start(50 * kSecond);
    EXPECT_EQ(pacer.reading(59 * kSecond), 52 * kSecond);
    for (int i = 0; i < 4; ++i) pacer.tick(59 * kSecond);
    EXPECT_EQ(pacer.reading(59 * kSecond), 59 * kSecond);
}

// A guest without ticks is not held up for ever while it runs.
TEST(ClockPacerTest, TimeThatPassesWhileItRunsIsGivenAtOnce) {
    ClockPacer pacer;
    (void)pacer.reading(60 * kSecond);
    const uint64_t before = pacer.reading(60 * kSecond);
    EXPECT_EQ(pacer.reading(61 * kSecond), before + kSecond);
}

}  // namespace
}  // namespace antipode::replay
