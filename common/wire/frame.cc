#include "common/wire/frame.h"

#include <boost/endian/buffers.hpp>
#include <cstring>

#include "common/wire/checksum.h"

namespace antipode::wire {
namespace {

using boost::endian::little_uint16_buf_t;
using boost::endian::little_uint32_buf_t;
using boost::endian::little_uint64_buf_t;
using boost::endian::little_uint8_buf_t;

struct Layout {
    little_uint32_buf_t magic;
    little_uint8_buf_t protocol;
    little_uint8_buf_t type;
    little_uint8_buf_t version;
    little_uint8_buf_t compat;
    little_uint16_buf_t flags;
    little_uint8_buf_t message_class;
    little_uint8_buf_t message_type;
    little_uint32_buf_t body_bytes;
    little_uint64_buf_t pair;
    little_uint64_buf_t epoch;
    little_uint64_buf_t sequence;
    little_uint64_buf_t session;
    little_uint64_buf_t header_checksum;
    little_uint64_buf_t body_checksum;
};
static_assert(sizeof(Layout) == kFrameHeaderBytes);
static_assert(alignof(Layout) == 1);
static_assert(offsetof(Layout, type) == 5);
static_assert(offsetof(Layout, body_bytes) == 12);
static_assert(offsetof(Layout, pair) == 16);
static_assert(offsetof(Layout, session) == 40);
static_assert(offsetof(Layout, header_checksum) == 48);

uint64_t checksum_of(Layout layout) {
    layout.header_checksum = 0;
    return checksum64(std::as_bytes(std::span(&layout, 1)));
}

Layout layout_of(std::span<const std::byte, kFrameHeaderBytes> header) {
    Layout layout;
    std::memcpy(&layout, header.data(), sizeof layout);
    return layout;
}

const char* invalid_data(const Frame& frame) {
    if (frame.message_class < 1 || frame.message_class > kMessageClassCount) {
        return "message class is not known";
    }
    if (frame.sequence == 0) return "sequence of a data frame is 0";
    if (frame.body_bytes == 0 && frame.flags != 0) return "flags on an empty body";
    return nullptr;
}

const char* invalid_other(const Frame& frame) {
    if (frame.message_class != 0) return "message class outside of a data frame";
    if (frame.message_type != 0) return "message type outside of a data frame";
    if (frame.sequence != 0) return "sequence outside of a data frame";
    return nullptr;
}

uint16_t flags_of(FrameType type) {
    switch (type) {
        case FrameType::hello:
            return frame_flags::kWantReply;
        case FrameType::data:
            return frame_flags::kCompressed | frame_flags::kMore;
        case FrameType::ack:
        case FrameType::ping:
        case FrameType::goodbye:
            return 0;
    }
    return 0;
}

}  // namespace

std::string_view to_string(FrameType type) {
    switch (type) {
        case FrameType::hello:
            return "hello";
        case FrameType::data:
            return "data";
        case FrameType::ack:
            return "ack";
        case FrameType::ping:
            return "ping";
        case FrameType::goodbye:
            return "goodbye";
    }
    return "?";
}

std::string_view to_string(MessageClass message_class) {
    switch (message_class) {
        case MessageClass::log:
            return "log";
        case MessageClass::control:
            return "control";
        case MessageClass::resync:
            return "resync";
        case MessageClass::seed:
            return "seed";
    }
    return "?";
}

void encode(const Frame& frame, std::span<std::byte, kFrameHeaderBytes> out) {
    Layout layout{};
    layout.magic = kFrameMagic;
    layout.protocol = kChannelProtocol;
    layout.type = static_cast<uint8_t>(frame.type);
    layout.version = frame.version;
    layout.compat = frame.compat;
    layout.flags = frame.flags;
    layout.message_class = frame.message_class;
    layout.message_type = frame.message_type;
    layout.body_bytes = frame.body_bytes;
    layout.pair = frame.pair.value();
    layout.epoch = frame.epoch.value();
    layout.sequence = frame.sequence;
    layout.session = frame.session;
    layout.body_checksum = frame.body_checksum;
    layout.header_checksum = checksum_of(layout);
    std::memcpy(out.data(), &layout, sizeof layout);
}

FrameHeaderBytes encode(const Frame& frame) {
    FrameHeaderBytes bytes;
    encode(frame, bytes);
    return bytes;
}

const char* invalid(const Frame& frame) {
    if (frame.version == 0) return "version is 0";
    if (frame.compat == 0) return "compat is 0";
    if (frame.compat > frame.version) return "compat is above version";
    if (frame.compat > kChannelVersion) return "compat is above the version spoken here";
    const auto type = static_cast<uint8_t>(frame.type);
    if (type < 1 || type > kFrameTypeCount) return "type is not known";
    if (frame.version <= kChannelVersion && (frame.flags & ~flags_of(frame.type)) != 0) {
        return "flags that its type does not have";
    }
    if (frame.body_bytes > body_bytes_max(frame.type)) return "body is above its type's limit";
    if (frame.session == 0 && frame.type != FrameType::hello) return "session is 0";
    return frame.type == FrameType::data ? invalid_data(frame) : invalid_other(frame);
}

const char* invalid(std::span<const std::byte, kFrameHeaderBytes> header) {
    const Layout layout = layout_of(header);
    if (layout.magic.value() != kFrameMagic) return "magic is wrong";
    if (layout.header_checksum.value() != checksum_of(layout)) return "header checksum is wrong";
    if (layout.protocol.value() != kChannelProtocol) return "protocol is not the channel's";
    return invalid(decode_frame(header));
}

Frame decode_frame(std::span<const std::byte, kFrameHeaderBytes> header) {
    const Layout layout = layout_of(header);
    Frame frame;
    frame.type = static_cast<FrameType>(layout.type.value());
    frame.version = layout.version.value();
    frame.compat = layout.compat.value();
    frame.flags = layout.flags.value();
    frame.message_class = layout.message_class.value();
    frame.message_type = layout.message_type.value();
    frame.body_bytes = layout.body_bytes.value();
    frame.pair = PairId(layout.pair.value());
    frame.epoch = Epoch(layout.epoch.value());
    frame.sequence = layout.sequence.value();
    frame.session = layout.session.value();
    frame.body_checksum = layout.body_checksum.value();
    return frame;
}

const char* invalid_body(const Frame& frame, std::span<const std::byte> body) {
    if (body.size() < frame.body_bytes) return "body is shorter than its header says";
    if (body.size() > frame.body_bytes) return "body is longer than its header says";
    if (checksum64(body) != frame.body_checksum) return "body checksum is wrong";
    return nullptr;
}

}  // namespace antipode::wire
