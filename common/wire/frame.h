// Frame: the 64-byte header before everything that crosses the logging channel.
//
//   offset  bytes  field
//        0      4  magic            "APf1", the same for ever
//        4      1  protocol         which family of frames: 1 = logging channel
//        5      1  type             FrameType
//        6      1  version          of the format that the sender wrote
//        7      1  compat           the oldest version whose readers can read it
//        8      2  flags
//       10      1  message_class    data: which stream; else 0
//       11      1  message_type     data: the application's; else 0
//       12      4  body_bytes       what follows the header
//       16      8  pair             PairId
//       24      8  epoch            the sender's, when it sent
//       32      8  sequence         data: position in the stream of its class, from 1; else 0
//       40      8  session          both incarnations in one number; 0 only in a hello
//       48      8  header_checksum  XXH3-64 of the header, this field taken as zero
//       56      8  body_checksum    XXH3-64 of the body
//
// All little endian, no padding. The header is judged alone, before its body is looked at and
// before anything is allocated for it. Encoding is canonical: equal values are equal bytes.
//
// Compatibility: a new field is appended to a body and raises `version`; a reader takes frames
// whose `compat` is not above its own version, ignores flags it does not know in frames of a newer
// version, and ignores what a newer version appended. A change that an old reader would
// misunderstand raises `compat` as well. A hello is always readable: its compat stays 1.
//
// Pure values; any thread. See docs/PROTOCOL-channel.md.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "common/base/ids.h"

namespace antipode::wire {

constexpr size_t kFrameHeaderBytes = 64;
constexpr uint32_t kFrameMagic = 0x31665041;  // "APf1"
constexpr uint8_t kChannelProtocol = 1;
// What this build writes and understands, and the oldest it still speaks.
constexpr uint8_t kChannelVersion = 1;
constexpr uint8_t kChannelVersionMin = 1;

enum class FrameType : uint8_t {
    hello = 1,    // who I am, which versions and features I speak
    data = 2,     // a piece of a message
    ack = 3,      // what has arrived, and credit
    ping = 4,     // asks for an ack at once
    goodbye = 5,  // this process ends on purpose
};
constexpr size_t kFrameTypeCount = 5;
std::string_view to_string(FrameType type);

// The streams of a session, each ordered for itself. A lower number goes first.
enum class MessageClass : uint8_t {
    log = 1,      // log entries, and what must stay in order with them
    control = 2,  // acknowledgements, lag reports
    resync = 3,   // bulk: disk blocks
    seed = 4,     // bulk: a running VM's memory
};
constexpr size_t kMessageClassCount = 4;
constexpr bool is_bulk(MessageClass c) {
    return c == MessageClass::resync || c == MessageClass::seed;
}
constexpr size_t index_of(MessageClass c) {
    return static_cast<size_t>(c) - 1;
}
constexpr std::array<MessageClass, kMessageClassCount> kMessageClasses{
    MessageClass::log, MessageClass::control, MessageClass::resync, MessageClass::seed};
std::string_view to_string(MessageClass message_class);

namespace frame_flags {
constexpr uint16_t kCompressed = 1;  // data: the body is a 4-byte size and a zstd stream's part
constexpr uint16_t kMore = 2;        // data: the message goes on in the next frame of its class
constexpr uint16_t kWantReply = 4;   // hello: the sender does not know yet that it has been heard
constexpr uint16_t kAll = kCompressed | kMore | kWantReply;
}  // namespace frame_flags

// A message is sent in pieces of at most this many bytes, uncompressed.
constexpr size_t kPieceBytesMax = 128 << 10;
constexpr size_t kHelloBlobBytesMax = 4096;

// The longest body of a frame of this type.
constexpr uint32_t body_bytes_max(FrameType type) {
    switch (type) {
        case FrameType::hello:
            return 192 + kHelloBlobBytesMax;
        case FrameType::data:
            return kPieceBytesMax + 1024;  // what zstd adds to incompressible bytes, and the size
        case FrameType::ack:
            return 512;
        case FrameType::ping:
            return 64;
        case FrameType::goodbye:
            return 256;
    }
    return 0;
}
constexpr size_t kFrameBytesMax = kFrameHeaderBytes + body_bytes_max(FrameType::data);

struct Frame {
    FrameType type = FrameType::hello;
    uint8_t version = kChannelVersion;
    uint8_t compat = kChannelVersionMin;
    uint16_t flags = 0;
    uint8_t message_class = 0;  // MessageClass, or 0
    uint8_t message_type = 0;
    uint32_t body_bytes = 0;
    PairId pair;
    Epoch epoch;
    uint64_t sequence = 0;
    uint64_t session = 0;
    uint64_t body_checksum = 0;
    friend bool operator==(const Frame&, const Frame&) = default;
};

using FrameHeaderBytes = std::array<std::byte, kFrameHeaderBytes>;

// Computes the header's checksum. The caller has filled in body_bytes and body_checksum.
void encode(const Frame& frame, std::span<std::byte, kFrameHeaderBytes> out);
FrameHeaderBytes encode(const Frame& frame);

// The rule that a header breaks, or nullptr. Looks at nothing but the header.
const char* invalid(std::span<const std::byte, kFrameHeaderBytes> header);
// The rule that a frame's values break, or nullptr.
const char* invalid(const Frame& frame);
// Of a header that is not invalid.
Frame decode_frame(std::span<const std::byte, kFrameHeaderBytes> header);
// The rule that the body breaks, or nullptr: its length and its checksum.
const char* invalid_body(const Frame& frame, std::span<const std::byte> body);

}  // namespace antipode::wire
