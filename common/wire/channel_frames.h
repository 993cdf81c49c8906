// The bodies of the logging channel's own frames: hello, ack, ping, goodbye. (The body of a data
// frame is the application's; with kCompressed it is a 4-byte uncompressed size and the next part
// of the zstd stream of its class.)
//
// Fixed little-endian structs behind a Frame header; reserved bytes are zero when written and are
// ignored when a newer version wrote them. decode_*() refuses what encode() would not have made,
// and names the rule.
//
// Pure values; any thread. See docs/PROTOCOL-channel.md.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "common/base/ids.h"
#include "common/base/result.h"
#include "common/wire/frame.h"

namespace antipode::wire {

// Optional abilities. A session uses those that both ends name.
namespace features {
constexpr uint32_t kZstd = 1;  // data frames may be compressed
constexpr uint32_t kAll = kZstd;
}  // namespace features

// Two versions can speak if the ranges overlap; then the lower of the two maxima is spoken.
struct Hello {
    uint8_t version_min = kChannelVersionMin;
    uint8_t version_max = kChannelVersion;
    uint32_t features = features::kAll;
    Member from;
    Incarnation to;  // whom the sender has heard, or 0
    // A process whose pair has three sites turns from one to another and back: which of the
    // channels that it has opened this is, from 1 on, and which one of `to` it has heard. 0: from a
    // release whose processes are heard on their first channel only.
    uint32_t channel = 0;
    uint32_t to_channel = 0;
    // Credit that the sender grants before the first ack: payload bytes a class.
    std::array<uint64_t, kMessageClassCount> credit{};
    std::string software;         // at most 15 characters, for people
    std::vector<std::byte> blob;  // the application's; at most kHelloBlobBytesMax
    friend bool operator==(const Hello&, const Hello&) = default;
};
constexpr size_t kHelloFixedBytes = 192;
std::vector<std::byte> encode(const Hello& hello);
Result<Hello> decode_hello(std::span<const std::byte> body);

// The version that two ranges have in common, or 0.
uint8_t common_version(uint8_t min_one, uint8_t max_one, uint8_t min_other, uint8_t max_other);

// What the sender of this has of each stream.
struct Ack {
    struct Stream {
        uint64_t received = 0;  // every frame up to this sequence number
        uint64_t credit = 0;    // payload bytes of the stream that may be sent in all
        uint32_t hold_us = 0;   // how long ago frame `received` came
        friend bool operator==(const Stream&, const Stream&) = default;
    };
    uint64_t token = 0;  // of the ping that this answers; 0: unasked
    uint8_t gaps = 0;    // bit index_of(class): a frame after `received` has come, the next has not
    std::array<Stream, kMessageClassCount> streams{};
    friend bool operator==(const Ack&, const Ack&) = default;
};
constexpr size_t kAckBytes = 112;
std::vector<std::byte> encode(const Ack& ack);
Result<Ack> decode_ack(std::span<const std::byte> body);

// Everything that was sent on the same connection before a ping has arrived, or is lost, when its
// ack arrives.
struct Ping {
    uint64_t token = 0;  // never 0
    friend bool operator==(const Ping&, const Ping&) = default;
};
constexpr size_t kPingBytes = 16;
std::vector<std::byte> encode(const Ping& ping);
Result<Ping> decode_ping(std::span<const std::byte> body);

struct Goodbye {
    std::string reason;  // at most 200 bytes, for people
    friend bool operator==(const Goodbye&, const Goodbye&) = default;
};
constexpr size_t kGoodbyeReasonBytesMax = 200;
std::vector<std::byte> encode(const Goodbye& goodbye);
Result<Goodbye> decode_goodbye(std::span<const std::byte> body);

}  // namespace antipode::wire
