// How a site and the tiebreaker talk: frames over a mutual TLS 1.3 stream.
//
// A frame is a 64-byte header and a body of fixed layout (an error's text excepted), little endian,
// without padding. The header stands for itself: it has its own checksum, and its length field is
// checked against the limit of its type before a body is read. It carries the pair, the store and
// the epoch of what the body says, and decoding checks that both agree.
//
//   client                         tiebreaker
//   hello(site)                    welcome(tiebreaker, idle limit), or error and close
//   watch(pair, me)                record(now), then record(...) at each change, unasked (number 0)
//   request(...)                   answer(...), once it is durable; or error with the same number
//   ping                           pong
//
// `number` is the client's and comes back with what answers it; 0 = unasked.
// Pure: no I/O; any thread. decode refuses what encode would not have made and names the rule, so
// that equal values are equal bytes. A version bump appends fields; a change of `compat` breaks.
#pragma once

#include <chrono>
#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <variant>

#include "common/base/result.h"
#include "common/wire/arbiter_messages.h"

namespace antipode::wire {

constexpr uint16_t kArbiterProtocol = 1;
constexpr size_t kArbiterHeaderBytes = 64;
constexpr size_t kArbiterErrorTextBytesMax = 512;
constexpr size_t kRecordBytes = 240;
// What is appended to a body that has to do with a pair of three sites, and to no other: of a
// record its third and its former site, of a request that names its pair's sites these.
constexpr size_t kRecordTailBytes = 64;
constexpr size_t kRequestTailBytes = 96;
constexpr size_t kAnswerBytes = 392;
constexpr size_t kArbiterFrameBytesMax =
    kArbiterHeaderBytes + kAnswerBytes + kRequestTailBytes + kRecordTailBytes;

struct ArbiterHello {
    Name site;  // as the client's configuration has it; must be what its certificate names
    friend bool operator==(const ArbiterHello&, const ArbiterHello&) = default;
};
struct ArbiterWelcome {
    Name tiebreaker;
    std::chrono::milliseconds idle_limit{};  // a silent connection is cut after this
    friend bool operator==(const ArbiterWelcome&, const ArbiterWelcome&) = default;
};
struct ArbiterWatch {
    Name pair;
    Member me;
    friend bool operator==(const ArbiterWatch&, const ArbiterWatch&) = default;
};
struct ArbiterRecord {
    Name pair;
    std::optional<Record> record;  // nullopt: the tiebreaker has no record of this pair
    friend bool operator==(const ArbiterRecord&, const ArbiterRecord&) = default;
};
struct ArbiterPing {
    friend bool operator==(const ArbiterPing&, const ArbiterPing&) = default;
};
struct ArbiterPong {
    friend bool operator==(const ArbiterPong&, const ArbiterPong&) = default;
};
// The request was not looked at. With number 0 the connection is closed behind it.
struct ArbiterError {
    Errc code = Errc::protocol;
    std::string text;  // cut to kArbiterErrorTextBytesMax
    friend bool operator==(const ArbiterError&, const ArbiterError&) = default;
};

using ArbiterBody = std::variant<ArbiterHello, ArbiterWelcome, Request, Answer, ArbiterWatch,
                                 ArbiterRecord, ArbiterPing, ArbiterPong, ArbiterError>;

struct ArbiterFrame {
    uint64_t number = 0;
    StoreIdentity store;  // request, answer: as in the body; else the sender's, 0 if it has none
    ArbiterBody body;
    friend bool operator==(const ArbiterFrame&, const ArbiterFrame&) = default;
};

// Appends the frame to `out`.
void encode(const ArbiterFrame& frame, std::string& out);

// The whole frame's length, from its first kArbiterHeaderBytes; checks the header alone.
Result<size_t> arbiter_frame_bytes(std::span<const std::byte> header);
// `bytes` is exactly one frame.
Result<ArbiterFrame> decode_arbiter_frame(std::span<const std::byte> bytes);

// Cuts a stream of bytes into frames. After an error the stream is of no more use. Holds less than
// one frame more than what it was given and not asked for.
class ArbiterFrameBuffer {
  public:
    void append(std::span<const std::byte> bytes);
    Result<std::optional<ArbiterFrame>> next();
    bool empty() const { return buffer_.empty(); }

  private:
    std::string buffer_;
    size_t start_ = 0;
};

// A record alone, as stores keep it: kRecordBytes, the tail if there are three sites, and a
// checksum of 8.
constexpr size_t kStoredRecordBytes = kRecordBytes + 8;
std::string encode_record(const Record& record);
Result<Record> decode_record(std::span<const std::byte> bytes);

std::string_view to_string(const ArbiterBody& body);

}  // namespace antipode::wire
