#include "replicator/replay/delta_filter.h"

#include <gtest/gtest.h>

namespace antipode::replay {
namespace {

TEST(DeltaFilter, SkipsWhatTheLastDeltaBrought) {
    DeltaFilter filter;
    filter.begin(5);
    EXPECT_TRUE(filter.differs(1, 100));
    EXPECT_TRUE(filter.differs(2, 200));
    filter.begin(5);
    EXPECT_FALSE(filter.differs(1, 100));
    EXPECT_TRUE(filter.differs(2, 201));
    filter.begin(5);
    EXPECT_TRUE(filter.differs(2, 200)) << "it is as it was two deltas ago, not one";
    EXPECT_FALSE(filter.differs(2, 200));
}

TEST(DeltaFilter, KnowsNothingBehindAnExitOrAnEvent) {
    DeltaFilter filter;
    filter.begin(5);
    EXPECT_TRUE(filter.differs(1, 100));
    filter.begin(6);
    EXPECT_TRUE(filter.differs(1, 100));
    filter.forget();
    EXPECT_TRUE(filter.differs(1, 100));
}

TEST(DeltaFilter, IsBounded) {
    DeltaFilter filter;
    filter.begin(1);
    for (uint64_t page = 0; page < DeltaFilter::kPagesMax; ++page) {
        EXPECT_TRUE(filter.differs(page, page));
    }
    EXPECT_TRUE(filter.differs(0, 0)) << "forgotten, not grown";
}

}  // namespace
}  // namespace antipode::replay
