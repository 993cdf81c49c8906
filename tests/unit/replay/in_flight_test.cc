#include "replicator/replay/in_flight.h"

#include <gtest/gtest.h>

namespace antipode::replay {
namespace {

using std::chrono::milliseconds;

class InFlightTest : public testing::Test {
  protected:
    static InFlightOptions options() {
        InFlightOptions options;
        options.interval.longest = milliseconds(100);
        options.in_flight_max = 2;
        options.in_flight_bytes_max = 1000;
        return options;
    }
    bool takes_more(Instant now) const { return in_flight_.takes_more(interval_, kRtt, now); }

    static constexpr Duration kRtt = milliseconds(20);
    const Instant begin_ = Instant(milliseconds(5));
    IntervalController interval_{options().interval};
    InFlight in_flight_{options()};
};

TEST_F(InFlightTest, SoManyAndNoMoreUntilTheOldestIsAcknowledged) {
    EXPECT_TRUE(takes_more(begin_));
    in_flight_.taken(7, 10, begin_);
    EXPECT_TRUE(takes_more(begin_));
    in_flight_.taken(9, 10, begin_);
    EXPECT_FALSE(takes_more(begin_));
    in_flight_.acknowledged(6);
    EXPECT_FALSE(takes_more(begin_));
    in_flight_.acknowledged(8);
    EXPECT_TRUE(takes_more(begin_));
}

TEST_F(InFlightTest, SoManyBytes) {
    in_flight_.taken(1, 1000, begin_);
    EXPECT_FALSE(takes_more(begin_));
    in_flight_.acknowledged(1);
    in_flight_.taken(2, 999, begin_);
    EXPECT_TRUE(takes_more(begin_)) << "what was acknowledged does not count";
}

TEST_F(InFlightTest, ALineThatDoesNotKeepUp) {
    in_flight_.taken(1, 10, begin_);
    EXPECT_TRUE(takes_more(begin_ + milliseconds(119)));
    EXPECT_FALSE(takes_more(begin_ + milliseconds(120)));
    in_flight_.forget();
    EXPECT_TRUE(takes_more(begin_ + milliseconds(120)));
}

}  // namespace
}  // namespace antipode::replay
