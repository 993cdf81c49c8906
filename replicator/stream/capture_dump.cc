#include "replicator/stream/capture_dump.h"

#include <algorithm>
#include <cstring>

#include "common/base/hex.h"

namespace antipode::stream {
namespace {

constexpr size_t kSizeBytes = 4;
constexpr size_t kMessageBytesMax = 64 << 20;
constexpr size_t kStreamsMax = 1024;

const char* arrow(Direction direction) {
    return direction == Direction::sent ? "->" : "<-";
}

std::string hex(std::span<const std::byte> bytes, size_t max) {
    std::string text = to_hex(bytes.first(std::min(bytes.size(), max)));
    if (bytes.size() > max) text += "...";
    return text;
}

std::string indented(const std::string& text) {
    std::string out;
    size_t begin = 0;
    while (begin < text.size()) {
        const size_t end = std::min(text.find('\n', begin), text.size());
        out += "    " + text.substr(begin, end - begin) + "\n";
        begin = end + 1;
    }
    return out;
}

std::string describe_ack(const wire::Ack& ack) {
    std::string text = ack.token == 0 ? "" : fmt::format(" token={}", ack.token);
    for (const auto c : wire::kMessageClasses) {
        const auto& stream = ack.streams[wire::index_of(c)];
        if (stream.received == 0 && (ack.gaps >> wire::index_of(c) & 1) == 0) continue;
        text += fmt::format(" {}={}{}", to_string(c), stream.received,
                            (ack.gaps >> wire::index_of(c) & 1) != 0 ? "(gap)" : "");
    }
    return text;
}

std::string describe_hello(const wire::Hello& hello) {
    return fmt::format(
        " site={} incarnation={:016x} channel={} to={:016x} channel={} versions={}-{} "
        "features={:#x} software={} blob={}",
        hello.from.site, hello.from.incarnation.value(), hello.channel, hello.to.value(),
        hello.to_channel, hello.version_min, hello.version_max, hello.features, hello.software,
        hello.blob.size());
}

template <typename T, typename Describe>
std::string shown(const Result<T>& decoded, Describe describe) {
    return decoded ? describe(*decoded) : " BROKEN " + decoded.error().context;
}

}  // namespace

std::string CaptureDump::describe(const wire::Frame& frame, std::span<const std::byte> body) const {
    switch (frame.type) {
        case wire::FrameType::hello:
            return shown(wire::decode_hello(body), describe_hello);
        case wire::FrameType::ack:
            return shown(wire::decode_ack(body), describe_ack);
        case wire::FrameType::ping:
            return shown(wire::decode_ping(body), [](const wire::Ping& ping) {
                return fmt::format(" token={}", ping.token);
            });
        case wire::FrameType::goodbye:
            return shown(wire::decode_goodbye(body), [](const wire::Goodbye& goodbye) {
                return fmt::format(" reason='{}'", goodbye.reason);
            });
        case wire::FrameType::data:
            return fmt::format(" {} seq={} type={} epoch={}{}{}",
                               to_string(static_cast<wire::MessageClass>(frame.message_class)),
                               frame.sequence, frame.message_type, frame.epoch,
                               (frame.flags & wire::frame_flags::kCompressed) != 0 ? " zstd" : "",
                               (frame.flags & wire::frame_flags::kMore) != 0 ? " more" : "");
    }
    return "";
}

std::string CaptureDump::record(const CaptureRecord& record) {
    begun_ = begun_ || static_cast<double>(record.time_ns) / 1e9 >= options_.from_seconds;
    const std::string head =
        fmt::format("{}.{:09} {}{}", record.time_ns / 1'000'000'000, record.time_ns % 1'000'000'000,
                    arrow(record.direction),
                    record.direction == Direction::sent && record.lane == 1 ? " bulk" : "");
    const std::span<const std::byte> all(record.frame);
    const char* rule = "shorter than a frame's header";
    if (all.size() >= wire::kFrameHeaderBytes) {
        rule = wire::invalid(all.first<wire::kFrameHeaderBytes>());
    }
    if (rule != nullptr) {
        ++garbage_;
        return fmt::format("{} GARBAGE {} bytes: {}\n", head, all.size(), rule);
    }
    const wire::Frame frame = wire::decode_frame(all.first<wire::kFrameHeaderBytes>());
    const auto body = all.subspan(wire::kFrameHeaderBytes);
    rule = wire::invalid_body(frame, body);
    std::string out;
    if ((options_.frames && begun_) || rule != nullptr) {
        out = fmt::format("{} {} v{} session={:016x} body={}{}{}\n", head, to_string(frame.type),
                          frame.version, frame.session, frame.body_bytes,
                          rule == nullptr ? "" : " GARBAGE ",
                          rule == nullptr ? describe(frame, body) : rule);
    }
    if (rule != nullptr) {
        ++garbage_;
        return out;
    }
    if (begun_) {
        Sum& sum = types_[{record.direction, frame.type}];
        ++sum.frames;
        sum.bytes += all.size();
    }
    if (frame.type != wire::FrameType::data) return out;
    const Key key{record.direction, frame.session, frame.message_class};
    if (streams_.size() >= kStreamsMax && !streams_.contains(key)) return out;
    Stream& stream = streams_[key];
    if (begun_) {
        ++stream.frames;
        stream.body_bytes += body.size();
    }
    out += follow(stream, frame, body);
    return out;
}

// Messages out of frames, as the receiver would.
std::string CaptureDump::follow(Stream& stream, const wire::Frame& frame,
                                std::span<const std::byte> body) {
    if (stream.broken || frame.sequence < stream.next) return "";  // a repeat
    if (frame.sequence > stream.next) {
        stream.broken = true;
        return fmt::format("    {} stream cannot be followed: frames {} to {} are not captured\n",
                           to_string(static_cast<wire::MessageClass>(frame.message_class)),
                           stream.next, frame.sequence - 1);
    }
    ++stream.next;
    if (auto appended = append(stream, frame, body); !appended) {
        stream.broken = true;
        return fmt::format("    stream cannot be followed: {}\n", appended.error().to_string());
    }
    if ((frame.flags & wire::frame_flags::kMore) != 0) return "";
    std::string out;
    if (begun_) {
        ++stream.messages;
        stream.payload_bytes += stream.message.size();
        if (options_.messages || options_.count) out = show_message(frame, stream.message);
        if (!options_.messages) out.clear();
    }
    stream.message.clear();
    return out;
}

Result<> CaptureDump::append(Stream& stream, const wire::Frame& frame,
                             std::span<const std::byte> body) {
    if ((frame.flags & wire::frame_flags::kCompressed) == 0) {
        stream.message.insert(stream.message.end(), body.begin(), body.end());
    } else {
        uint32_t size = 0;
        if (body.size() <= kSizeBytes) return fail(Errc::corrupt, "compressed to nothing");
        std::memcpy(&size, body.data(), kSizeBytes);
        if (size > wire::kPieceBytesMax) return fail(Errc::corrupt, "a piece of {} bytes", size);
        if (!stream.decompressor) {
            FT_TRY(auto made, wire::Decompressor::create());
            stream.decompressor.emplace(std::move(made));
        }
        std::vector<std::byte> piece(size);
        FT_TRY_VOID(stream.decompressor->decompress(body.subspan(kSizeBytes), piece));
        stream.message.insert(stream.message.end(), piece.begin(), piece.end());
    }
    if (stream.message.size() > kMessageBytesMax) {
        return fail(Errc::limit, "a message of more than {} bytes", kMessageBytesMax);
    }
    return {};
}

std::string CaptureDump::show_message(const wire::Frame& frame,
                                      std::span<const std::byte> payload) const {
    const auto message_class = static_cast<wire::MessageClass>(frame.message_class);
    std::string out =
        fmt::format("  message {} type={} epoch={} bytes={}\n", to_string(message_class),
                    frame.message_type, frame.epoch, payload.size());
    std::optional<std::string> text;
    if (printer_) text = printer_(message_class, frame.message_type, payload);
    if (!text && !payload.empty()) text = hex(payload, options_.hex_bytes_max);
    if (text) out += indented(*text);
    return out;
}

std::string CaptureDump::summary() const {
    std::string out;
    for (const auto& [key, sum] : types_) {
        out += fmt::format("{} {}: {} frames, {} bytes with headers\n", arrow(key.first),
                           to_string(key.second), sum.frames, sum.bytes);
    }
    for (const auto& [key, stream] : streams_) {
        out += fmt::format(
            "{} session={:016x} {}: {} frames, {} messages, {} payload bytes in {} "
            "body bytes{}\n",
            arrow(key.direction), key.session,
            to_string(static_cast<wire::MessageClass>(key.message_class)), stream.frames,
            stream.messages, stream.payload_bytes, stream.body_bytes,
            stream.broken ? " (could not be followed to the end)" : "");
    }
    if (garbage_ > 0) out += fmt::format("{} frames of garbage\n", garbage_);
    return out;
}

}  // namespace antipode::stream
