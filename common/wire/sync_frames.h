// SyncFrame: what two copies of a disk say to each other (docs/PROTOCOL-disk.md).
//
// A frame is a 64-byte header, a fixed part of its type, and a payload (data, bits, digests, text).
// It travels over a TLS connection of disksync's own or as a message of the logging channel: the
// bytes are the same.
//
//   offset  bytes  field
//        0      4  magic            "APs1"
//        4      1  protocol         2 = disks
//        5      1  type             SyncType
//        6      1  version          of the format that the sender wrote
//        7      1  compat           the oldest version whose readers can read it
//        8      2  flags
//       10      2  disk             which disk of the group, in the order of their names
//       12      4  body_bytes       fixed part and payload
//       16      8  pair
//       24      8  epoch            the sender's
//       32      8  sequence         of what changes the peer's disk, from 1 a connection; else 0
//       40      8  barrier          changes with a higher barrier come after all with a lower one
//       48      8  header_checksum  XXH3-64 of the header, this field taken as zero
//       56      8  body_checksum    XXH3-64 of the payload, with that of the fixed part as its seed
//
// Little endian, no padding, reserved bytes zero, canonical. The header is judged alone, before
// anything is allocated for its body. Pure values; any thread.
//
// INVARIANTS: a data payload has at most kSyncDataBytesMax bytes before it is compressed; decode
// refuses what encode would not have made.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "common/base/ids.h"
#include "common/base/result.h"

namespace antipode::wire {

constexpr uint32_t kSyncMagic = 0x31735041;  // "APs1"
constexpr uint8_t kSyncProtocol = 2;
// 2: compressed data. 3: roles change within a connection (turn, turned, demoted); everything else
// reads as in 2, so the two understand each other, and a hello's version says what its sender can.
constexpr uint8_t kSyncVersion = 3;
constexpr uint8_t kSyncVersionMin = 2;
constexpr size_t kSyncHeaderBytes = 64;
constexpr size_t kSyncDataBytesMax = size_t{1} << 20;
constexpr size_t kSyncTextBytesMax = 512;
constexpr size_t kSyncDigestsMax = 1024;  // of one frame
// What compressing may add in the worst case.
constexpr size_t kSyncCompressedExtraMax = 8192;
constexpr size_t kSyncBodyBytesMax = kSyncDataBytesMax + kSyncCompressedExtraMax + 64;

// Bytes with several readers and no writer once they are shared. Copying shares.
class SharedBytes {
  public:
    SharedBytes() = default;
    static SharedBytes make(size_t bytes);
    static SharedBytes copy_of(std::span<const std::byte> bytes);
    // A part of the same bytes.
    SharedBytes part(size_t offset, size_t bytes) const;

    std::byte* data() { return data_; }
    const std::byte* data() const { return data_; }
    size_t size() const { return size_; }
    bool empty() const { return size_ == 0; }
    std::span<const std::byte> span() const { return {data_, size_}; }
    std::span<std::byte> writable() { return {data_, size_}; }
    friend bool operator==(const SharedBytes& one, const SharedBytes& other);

  private:
    std::shared_ptr<std::byte[]> owner_;
    std::byte* data_ = nullptr;
    size_t size_ = 0;
};

enum class SyncType : uint8_t {
    hello = 1,  // who I am and what my copy is; the first frame, one for each disk
    bitmap,     // blocks that are marked at the target; the last one has the flag `last`
    begin,      // the source: from here on you get every change, and so many blocks are to come
    write,      // payload
    write_zeroes,
    discard,
    flush,          // what came before is to be durable before what comes after is applied
    ack,            // how far the target is
    resync_data,    // payload: whole blocks
    resync_zeroes,  // blocks that read as zero
    digests,        // payload: XXH128 of blocks; say which of yours differ
    digest_answer,  // payload: bits of those that differ; verify: and the digests of these
    end,            // everything has been sent: you now have this generation
    adopted,        // the target has it, durably
    read,           // a primary without a disk of its own asks for data
    read_answer,    // payload
    failed,         // this disk cannot go on here; payload: why
    goodbye,        // the connection ends on purpose; payload: why
    ping,
    pong,
    turn,     // the sender becomes primary: from your answer on you get its changes
    turned,   // so be it, durably; or why not
    demoted,  // the sender is primary no more
};
constexpr size_t kSyncTypeCount = 23;
std::string_view to_string(SyncType type);

namespace sync_flags {
constexpr uint16_t kFua = 1;  // write, write_zeroes, discard: durable before it is applied
constexpr uint16_t kKeepAllocated = 2;  // write_zeroes
constexpr uint16_t kLast = 4;           // bitmap
constexpr uint16_t kVerify = 8;         // digests, digest_answer: of a verify, not of a resync
constexpr uint16_t kFull = 16;          // begin: every block is to come, not only marked ones
constexpr uint16_t kResync =
    32;  // begin: blocks are to come, and the target is not whole until `end`
// write, resync_data: the payload is the next piece of the connection's zstd stream (compress.h),
// of as many bytes before as the range has. The connection decompresses it, and clears the flag.
constexpr uint16_t kCompressed = 64;
}  // namespace sync_flags

struct SyncGenerations {
    uint64_t current = 0;
    std::array<uint64_t, 3> bases{};
    std::array<uint64_t, 8> history{};
    friend bool operator==(const SyncGenerations&, const SyncGenerations&) = default;
};

struct SyncHello {
    Name pair;
    Name disk;
    uint16_t disk_count = 1;  // of the group
    uint8_t role = 0;
    uint8_t state = 0;
    uint8_t mode = 0;  // how the sender replicates when it is primary
    bool crashed_primary = false;
    bool discard_mine = false;
    std::array<uint8_t, 3> split_policies{};  // neither, one, both sides primary
    uint64_t id = 0;
    uint64_t peer_id = 0;
    uint64_t size_bytes = 0;
    uint64_t marked_blocks = 0;
    int64_t generation_time_seconds = 0;
    uint64_t resync_target = 0;
    SyncGenerations generations;
    friend bool operator==(const SyncHello&, const SyncHello&) = default;
};
struct SyncBitmap {
    uint64_t first_block = 0;
    uint64_t block_count = 0;
    friend bool operator==(const SyncBitmap&, const SyncBitmap&) = default;
};
struct SyncBegin {
    SyncGenerations generations;
    int64_t generation_time_seconds = 0;
    uint64_t blocks_to_come = 0;
    uint64_t size_bytes = 0;
    friend bool operator==(const SyncBegin&, const SyncBegin&) = default;
};
// write, write_zeroes, discard, resync_data, resync_zeroes: bytes of the disk.
struct SyncRange {
    uint64_t offset_bytes = 0;
    uint64_t length_bytes = 0;
    friend bool operator==(const SyncRange&, const SyncRange&) = default;
};
struct SyncFlush {
    friend bool operator==(const SyncFlush&, const SyncFlush&) = default;
};
// Sequence numbers up to which everything has ...; of the whole group.
struct SyncAck {
    uint64_t received = 0;
    uint64_t applied = 0;
    uint64_t durable = 0;
    friend bool operator==(const SyncAck&, const SyncAck&) = default;
};
struct SyncDigests {
    uint64_t first_block = 0;
    uint32_t count = 0;
    friend bool operator==(const SyncDigests&, const SyncDigests&) = default;
};
struct SyncEnd {
    SyncGenerations generations;
    int64_t generation_time_seconds = 0;
    friend bool operator==(const SyncEnd&, const SyncEnd&) = default;
};
struct SyncAdopted {
    uint64_t generation = 0;
    friend bool operator==(const SyncAdopted&, const SyncAdopted&) = default;
};
struct SyncRead {
    uint64_t request = 0;
    uint64_t offset_bytes = 0;
    uint64_t length_bytes = 0;
    friend bool operator==(const SyncRead&, const SyncRead&) = default;
};
struct SyncReadAnswer {
    uint64_t request = 0;
    uint16_t code = 0;  // 0, or an Errc, without data
    friend bool operator==(const SyncReadAnswer&, const SyncReadAnswer&) = default;
};
struct SyncFailed {
    uint16_t code = 0;  // an Errc
    friend bool operator==(const SyncFailed&, const SyncFailed&) = default;
};
struct SyncGoodbye {
    uint16_t code = 0;  // an Errc
    friend bool operator==(const SyncGoodbye&, const SyncGoodbye&) = default;
};
struct SyncPing {
    uint64_t token = 0;
    friend bool operator==(const SyncPing&, const SyncPing&) = default;
};
struct SyncTurn {
    uint64_t generations = 0;  // XXH3-64 of the current ones of all disks, in their order
    friend bool operator==(const SyncTurn&, const SyncTurn&) = default;
};
struct SyncTurned {
    uint16_t code = 0;  // 0, or an Errc
    friend bool operator==(const SyncTurned&, const SyncTurned&) = default;
};
struct SyncDemoted {
    friend bool operator==(const SyncDemoted&, const SyncDemoted&) = default;
};

using SyncBody = std::variant<SyncHello, SyncBitmap, SyncBegin, SyncRange, SyncFlush, SyncAck,
                              SyncDigests, SyncEnd, SyncAdopted, SyncRead, SyncReadAnswer,
                              SyncFailed, SyncGoodbye, SyncPing, SyncTurn, SyncTurned, SyncDemoted>;

struct SyncFrame {
    SyncType type = SyncType::ping;
    uint8_t version = kSyncVersion;
    uint16_t flags = 0;
    uint16_t disk = 0;
    PairId pair;
    Epoch epoch;
    uint64_t sequence = 0;
    uint64_t barrier = 0;
    SyncBody body = SyncPing{};
    SharedBytes payload;
    friend bool operator==(const SyncFrame&, const SyncFrame&) = default;
};

// Header and fixed part; frame.payload follows them. The values obey the rules (FT_CHECK).
std::vector<std::byte> encode_head(const SyncFrame& frame);
std::vector<std::byte> encode(const SyncFrame& frame);

struct SyncHeader {
    SyncType type = SyncType::ping;
    uint32_t body_bytes = 0;
};
// The header alone: Errc::protocol or Errc::version names the broken rule.
Result<SyncHeader> decode_sync_header(std::span<const std::byte, kSyncHeaderBytes> header);
// `body` has the header's body_bytes; the frame's payload is a part of it. Errc::corrupt for a
// wrong checksum, Errc::protocol for the rest.
Result<SyncFrame> decode_sync_frame(std::span<const std::byte, kSyncHeaderBytes> header,
                                    const SharedBytes& body);
// A whole frame in one piece.
Result<SyncFrame> decode_sync_message(std::span<const std::byte> message);

}  // namespace antipode::wire
