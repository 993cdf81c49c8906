// What operators see of the places that differ.
#include "replicator/control/verify_record.h"

#include <gtest/gtest.h>

namespace antipode::control {
namespace {

VerifyFinding finding(uint64_t chunk, int64_t time) {
    VerifyFinding made;
    made.disk = "sda";
    made.offset_bytes = chunk * VerifyAsk::kChunkBytes;
    made.found_unix_ms = time;
    return made;
}

TEST(VerifyRecord, UnresolvedUntilEqualOrAcknowledged) {
    VerifyRecord record;
    EXPECT_TRUE(record.empty());
    for (const uint64_t chunk : {5, 6, 9}) record.differs({0, chunk}, finding(chunk, 10));
    record.differs({1, 5}, finding(5, 11));
    EXPECT_EQ(record.unresolved(), 4u);
    record.equal({0, 5}, 4, 20);
    EXPECT_EQ(record.unresolved(), 2u);
    EXPECT_EQ(record.findings()[0].equal_unix_ms, 20);
    EXPECT_FALSE(record.findings()[2].equal_unix_ms);
    record.acknowledge();
    EXPECT_EQ(record.unresolved(), 0u);
    EXPECT_EQ(record.findings().size(), 4u);
    record.differs({0, 9}, finding(9, 30));
    EXPECT_EQ(record.unresolved(), 1u);
    EXPECT_EQ(record.findings().back().found_unix_ms, 30);
    record.all_equal(40);
    EXPECT_EQ(record.unresolved(), 0u);
}

TEST(VerifyRecord, IsBoundedAndForgetsNoAlarm) {
    VerifyRecord record;
    record.differs({0, 0}, finding(0, 1));
    record.equal({0, 0}, 1, 2);
    for (uint64_t i = 1; i <= VerifyRecord::kKept; ++i) {
        record.differs({0, i}, finding(i, static_cast<int64_t>(i)));
    }
    // What was equal again went first.
    EXPECT_EQ(record.findings().size(), VerifyRecord::kKept);
    EXPECT_EQ(record.findings().front().offset_bytes, VerifyAsk::kChunkBytes);
    record.differs({1, 0}, finding(0, 1000));
    EXPECT_EQ(record.findings().size(), VerifyRecord::kKept);
    EXPECT_EQ(record.unresolved(), VerifyRecord::kKept + 1);
    record.acknowledge();
    EXPECT_EQ(record.unresolved(), 0u);
}

}  // namespace
}  // namespace antipode::control
