#include "tests/guests/ledger_format.h"

#include <cstring>
#include <gtest/gtest.h>
#include <string_view>
#include <vector>

namespace antipode::guest {
namespace {

LedgerRecord record_of(uint64_t sequence, uint64_t time_ms, std::string_view payload) {
    LedgerRecord record;
    ledger_fill(record, sequence, time_ms, payload.data(), static_cast<uint32_t>(payload.size()));
    return record;
}

// The same bytes are in tests/system/clients/ledger_test.py: the checker is written in another
// language.
TEST(LedgerFormat, GoldenBytes) {
    const LedgerRecord record = record_of(3, 1234, "hello 17");
    const uint8_t head[24] = {0x41, 0x50, 0x4c, 0x47, 8,    0, 0, 0, 3, 0, 0, 0,
                              0,    0,    0,    0,    0xd2, 4, 0, 0, 0, 0, 0, 0};
    EXPECT_EQ(std::memcmp(&record, head, 24), 0);
    EXPECT_EQ(record.checksum, 0x387785af8b50aa4cu);
    EXPECT_EQ(std::memcmp(record.payload, "hello 17\0\0", 10), 0);
}

TEST(LedgerFormat, EveryFlippedBitIsNoticed) {
    const LedgerRecord good = record_of(7, 99, "a request");
    ASSERT_EQ(ledger_invalid(good, 7), nullptr);
    for (size_t bit = 0; bit < kLedgerRecordBytes * 8; ++bit) {
        LedgerRecord bad = good;
        reinterpret_cast<uint8_t*>(&bad)[bit / 8] ^= static_cast<uint8_t>(1 << (bit % 8));
        EXPECT_NE(ledger_invalid(bad, 7), nullptr) << "bit " << bit;
    }
}

TEST(LedgerFormat, InvalidNamesTheRule) {
    LedgerRecord record{};
    EXPECT_STREQ(ledger_invalid(record, 1), "magic");
    record = record_of(1, 0, "x");
    EXPECT_STREQ(ledger_invalid(record, 2), "sequence");
    record.payload_bytes = 481;
    EXPECT_STREQ(ledger_invalid(record, 1), "payload_bytes");
    record = record_of(1, 0, "x");
    record.guest_time_ms = 1;
    EXPECT_STREQ(ledger_invalid(record, 1), "checksum");
    record = record_of(1, 0, "x");
    record.payload[479] = 1;
    record.checksum = ledger_checksum(record);
    EXPECT_STREQ(ledger_invalid(record, 1), "padding");
}

TEST(LedgerFormat, LongestPayloadFits) {
    const std::vector<char> longest(kLedgerPayloadBytesMax, 'z');
    LedgerRecord record;
    ledger_fill(record, 1, 0, longest.data(), kLedgerPayloadBytesMax);
    EXPECT_EQ(ledger_invalid(record, 1), nullptr);
    EXPECT_EQ(record.payload[479], 'z');
}

TEST(LedgerFormat, CountFindsTheEndOfEveryLedger) {
    constexpr uint64_t kRecords = 33;
    for (uint64_t length = 0; length <= kRecords; ++length) {
        uint64_t reads = 0;
        const auto read = [&](uint64_t index, LedgerRecord& to) {
            ++reads;
            to = index < length ? record_of(index + 1, 0, "r") : LedgerRecord{};
            return true;
        };
        EXPECT_EQ(ledger_count(kRecords, read), length);
        EXPECT_LE(reads, 6u);
    }
}

TEST(LedgerFormat, ARecordOfAnotherPlaceIsTheEnd) {
    const auto read = [](uint64_t index, LedgerRecord& to) {
        to = record_of(index < 5 ? index + 1 : 1, 0, "r");
        return true;
    };
    EXPECT_EQ(ledger_count(16, read), 5u);
}

TEST(LedgerFormat, AnUnreadableDiskIsNotAnEmptyOne) {
    EXPECT_EQ(ledger_count(16, [](uint64_t, LedgerRecord&) { return false; }), kLedgerUnreadable);
}

}  // namespace
}  // namespace antipode::guest
