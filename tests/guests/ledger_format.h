// The ledger: what a guest has promised, as it stands on its disk.
//
// A guest of ours answers a request only after the request is on its disk. Each request is one
// record of 512 bytes; record number `sequence` (from 1) lies at byte offset (sequence - 1) * 512,
// so that the ledger is an array that only grows. A checker outside the guest
// (tests/system/clients/ledger_check.py) reads the image and compares it with what the clients saw
// acknowledged.
//
//   offset  bytes  field
//        0      4  magic           "APLG" = 0x474c5041
//        4      4  payload_bytes   0..480
//        8      8  sequence        from 1
//       16      8  guest_time_ms   the guest's own uptime when it took the request, 0 if it has no
//       clock 24      8  checksum        ledger_checksum() 32    480  payload         the request
//       as it came, without its newline; the rest is zero
//
// INVARIANTS: little endian. Bytes after the payload are zero. The checksum covers all 512 bytes,
// its own field taken as zero. A record with a wrong magic, checksum, length or sequence is no
// record: the ledger ends there. A torn last record is therefore simply absent, and was never
// acknowledged.
//
// Freestanding: used by the Linux guest's init, by the bare-metal guests and by unit tests.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace antipode::guest {

inline constexpr uint32_t kLedgerMagic = 0x474c5041;
inline constexpr uint32_t kLedgerPayloadBytesMax = 480;
inline constexpr uint32_t kLedgerRecordBytes = 512;

struct LedgerRecord {
    uint32_t magic;
    uint32_t payload_bytes;
    uint64_t sequence;
    uint64_t guest_time_ms;
    uint64_t checksum;
    uint8_t payload[kLedgerPayloadBytesMax];
};
static_assert(sizeof(LedgerRecord) == kLedgerRecordBytes);
static_assert(offsetof(LedgerRecord, sequence) == 8 && offsetof(LedgerRecord, checksum) == 24);

// A word-wise FNV-1a with a shift that lets high bits come down again. It finds torn and misplaced
// records; it is no defence against forgery and need not be.
inline uint64_t ledger_checksum(const LedgerRecord& record) {
    constexpr size_t kWords = kLedgerRecordBytes / sizeof(uint64_t);
    constexpr size_t kChecksumWord = offsetof(LedgerRecord, checksum) / sizeof(uint64_t);
    const auto* bytes = reinterpret_cast<const uint8_t*>(&record);
    uint64_t hash = 0xcbf29ce484222325;
    for (size_t i = 0; i < kWords; ++i) {
        uint64_t word = 0;
        if (i != kChecksumWord) {
            __builtin_memcpy(&word, bytes + i * sizeof word, sizeof word);
        }
        hash = (hash ^ word) * 0x100000001b3;
        hash ^= hash >> 32;
    }
    return hash;
}

inline void ledger_fill(LedgerRecord& record, uint64_t sequence, uint64_t guest_time_ms,
                        const void* payload, uint32_t payload_bytes) {
    record.magic = kLedgerMagic;
    record.payload_bytes = payload_bytes;
    record.sequence = sequence;
    record.guest_time_ms = guest_time_ms;
    const auto* from = static_cast<const uint8_t*>(payload);
    for (uint32_t i = 0; i < kLedgerPayloadBytesMax; ++i) {
        record.payload[i] = i < payload_bytes ? from[i] : uint8_t{0};
    }
    record.checksum = ledger_checksum(record);
}

// The name of the broken rule, or nullptr for record number `sequence` as it should be.
inline const char* ledger_invalid(const LedgerRecord& record, uint64_t sequence) {
    if (record.magic != kLedgerMagic) {
        return "magic";
    }
    if (record.payload_bytes > kLedgerPayloadBytesMax) {
        return "payload_bytes";
    }
    if (record.checksum != ledger_checksum(record)) {
        return "checksum";
    }
    if (record.sequence != sequence) {
        return "sequence";
    }
    for (uint32_t i = record.payload_bytes; i < kLedgerPayloadBytesMax; ++i) {
        if (record.payload[i] != 0) {
            return "padding";
        }
    }
    return nullptr;
}

// How many records the disk holds: the first place that is no record, found by bisection, since the
// ledger has no holes. `read` is bool(uint64_t index, LedgerRecord&); false means a read error, and
// ends the search with kLedgerUnreadable.
inline constexpr uint64_t kLedgerUnreadable = ~uint64_t{0};

template <typename Read>
uint64_t ledger_count(uint64_t records_max, Read&& read) {
    uint64_t low = 0;
    uint64_t high = records_max;
    LedgerRecord record;
    while (low < high) {
        const uint64_t middle = low + (high - low) / 2;
        if (!read(middle, record)) {
            return kLedgerUnreadable;
        }
        if (ledger_invalid(record, middle + 1) == nullptr) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

}  // namespace antipode::guest
