// CaptureDump: a capture as text: one line a frame, and with messages put together and decompressed
// again, one line a message. What is inside of a message is told by whoever knows: MessagePrinter.
//
// Pure. A capture that begins in the middle of a session shows frames; messages of a compressed
// stream can only be read from its beginning, and the dump says so once.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "common/wire/channel_frames.h"
#include "common/wire/compress.h"
#include "replicator/stream/capture.h"

namespace antipode::stream {

// What a message says, on one or more lines; nullopt: not known.
using MessagePrinter = std::function<std::optional<std::string>(
    wire::MessageClass message_class, uint8_t type, std::span<const std::byte> payload)>;

struct DumpOptions {
    bool frames = true;
    bool messages = false;
    bool count = false;         // the printer sees the messages; what it says is not shown
    double from_seconds = 0;    // of the capture's clock; what came earlier is only followed
    size_t hex_bytes_max = 64;  // of a message that nobody knows
};

class CaptureDump {
  public:
    CaptureDump(DumpOptions options, MessagePrinter printer)
        : options_(options), printer_(std::move(printer)) {}

    // The lines for one record, each ended by a newline.
    std::string record(const CaptureRecord& record);
    // The totals, a class and direction each.
    std::string summary() const;

  private:
    struct Key {
        Direction direction;
        uint64_t session;
        uint8_t message_class;
        friend auto operator<=>(const Key&, const Key&) = default;
    };
    struct Stream {
        uint64_t next = 1;
        bool broken = false;  // cannot be followed any more
        std::vector<std::byte> message;
        std::optional<wire::Decompressor> decompressor;
        uint64_t frames = 0;
        uint64_t messages = 0;
        uint64_t body_bytes = 0;
        uint64_t payload_bytes = 0;
    };

    std::string describe(const wire::Frame& frame, std::span<const std::byte> body) const;
    std::string follow(Stream& stream, const wire::Frame& frame, std::span<const std::byte> body);
    Result<> append(Stream& stream, const wire::Frame& frame, std::span<const std::byte> body);
    std::string show_message(const wire::Frame& frame, std::span<const std::byte> payload) const;

    DumpOptions options_;
    MessagePrinter printer_;
    struct Sum {
        uint64_t frames = 0;
        uint64_t bytes = 0;
    };
    std::map<Key, Stream> streams_;
    std::map<std::pair<Direction, wire::FrameType>, Sum> types_;
    bool begun_ = false;
    uint64_t garbage_ = 0;
};

}  // namespace antipode::stream
