#include "common/wire/channel_frames.h"

#include <algorithm>
#include <boost/endian/buffers.hpp>
#include <cstring>

namespace antipode::wire {
namespace {

using boost::endian::little_uint16_buf_t;
using boost::endian::little_uint32_buf_t;
using boost::endian::little_uint64_buf_t;
using boost::endian::little_uint8_buf_t;

constexpr size_t kSoftwareBytes = 16;

struct HelloLayout {
    little_uint8_buf_t version_min;
    little_uint8_buf_t version_max;
    std::array<uint8_t, 2> reserved;
    little_uint32_buf_t features;
    std::array<char, Name::kBytes> site;
    little_uint64_buf_t from;
    little_uint64_buf_t to;
    std::array<little_uint64_buf_t, kMessageClassCount> credit;
    std::array<char, kSoftwareBytes> software;
    little_uint32_buf_t blob_bytes;
    little_uint32_buf_t channel;
    little_uint32_buf_t to_channel;
    std::array<uint8_t, 76> reserved_tail;
};
static_assert(sizeof(HelloLayout) == kHelloFixedBytes);
static_assert(alignof(HelloLayout) == 1);

struct AckLayout {
    struct Stream {
        little_uint64_buf_t received;
        little_uint64_buf_t credit;
        little_uint32_buf_t hold_us;
        std::array<uint8_t, 4> reserved;
    };
    little_uint64_buf_t token;
    little_uint8_buf_t gaps;
    std::array<uint8_t, 7> reserved;
    std::array<Stream, kMessageClassCount> streams;
};
static_assert(sizeof(AckLayout) == kAckBytes);
static_assert(alignof(AckLayout) == 1);

struct PingLayout {
    little_uint64_buf_t token;
    std::array<uint8_t, 8> reserved;
};
static_assert(sizeof(PingLayout) == kPingBytes);
static_assert(alignof(PingLayout) == 1);

template <typename Layout>
std::vector<std::byte> bytes_of(const Layout& layout) {
    const auto bytes = std::as_bytes(std::span(&layout, 1));
    return {bytes.begin(), bytes.end()};
}

template <typename Layout>
Layout layout_of(std::span<const std::byte> body) {
    Layout layout;
    std::memcpy(&layout, body.data(), sizeof layout);
    return layout;
}

Failure broken(std::string_view frame, std::string_view rule) {
    return fail(Errc::protocol, "{}: {}", frame, rule);
}

// Text in a fixed field: what is behind its end is zero, and the last byte always is.
template <size_t N>
Result<std::string> read_text(const std::array<char, N>& bytes, const char* frame,
                              const char* field) {
    const auto end = std::find(bytes.begin(), bytes.end(), '\0');
    if (end == bytes.end()) return fail(Errc::protocol, "{}: {} does not end", frame, field);
    if (std::any_of(end, bytes.end(), [](char c) { return c != '\0'; })) {
        return fail(Errc::protocol, "{}: {} has bytes behind its end", frame, field);
    }
    const bool printable =
        std::all_of(bytes.begin(), end, [](char c) { return c > 32 && c < 127; });
    if (!printable) return fail(Errc::protocol, "{}: {} is not printable", frame, field);
    return std::string(bytes.begin(), end);
}

}  // namespace

std::vector<std::byte> encode(const Hello& hello) {
    HelloLayout out{};
    out.version_min = hello.version_min;
    out.version_max = hello.version_max;
    out.features = hello.features;
    out.site = hello.from.site.bytes();
    out.from = hello.from.incarnation.value();
    out.to = hello.to.value();
    for (size_t i = 0; i < kMessageClassCount; ++i) out.credit[i] = hello.credit[i];
    std::copy_n(hello.software.begin(), std::min(hello.software.size(), kSoftwareBytes - 1),
                out.software.begin());
    out.channel = hello.channel;
    out.to_channel = hello.to_channel;
    const size_t blob_bytes = std::min(hello.blob.size(), kHelloBlobBytesMax);
    out.blob_bytes = static_cast<uint32_t>(blob_bytes);
    auto bytes = bytes_of(out);
    bytes.insert(bytes.end(), hello.blob.begin(),
                 hello.blob.begin() + static_cast<ptrdiff_t>(blob_bytes));
    return bytes;
}

Result<Hello> decode_hello(std::span<const std::byte> body) {
    if (body.size() < kHelloFixedBytes) return broken("hello", "shorter than its fixed part");
    const auto in = layout_of<HelloLayout>(body);
    Hello hello;
    hello.version_min = in.version_min.value();
    hello.version_max = in.version_max.value();
    hello.features = in.features.value();
    if (hello.version_min == 0 || hello.version_max < hello.version_min) {
        return broken("hello", "versions make no range");
    }
    FT_TRY(const std::string site, read_text(in.site, "hello", "site"));
    FT_TRY(hello.from.site, Name::parse(site, "hello: site"));
    hello.from.incarnation = Incarnation(in.from.value());
    if (hello.from.incarnation == Incarnation()) return broken("hello", "incarnation is 0");
    hello.to = Incarnation(in.to.value());
    for (size_t i = 0; i < kMessageClassCount; ++i) hello.credit[i] = in.credit[i].value();
    FT_TRY(hello.software, read_text(in.software, "hello", "software"));
    hello.channel = in.channel.value();
    hello.to_channel = in.to_channel.value();
    const uint32_t blob_bytes = in.blob_bytes.value();
    if (blob_bytes > kHelloBlobBytesMax) return broken("hello", "blob is above its limit");
    // A newer version may append; an equal one must fit exactly.
    const size_t rest = body.size() - kHelloFixedBytes;
    if (rest < blob_bytes) return broken("hello", "shorter than its blob");
    if (rest > blob_bytes && hello.version_max <= kChannelVersion) {
        return broken("hello", "bytes behind the blob");
    }
    const auto blob = body.subspan(kHelloFixedBytes, blob_bytes);
    hello.blob.assign(blob.begin(), blob.end());
    return hello;
}

uint8_t common_version(uint8_t min_one, uint8_t max_one, uint8_t min_other, uint8_t max_other) {
    const uint8_t version = std::min(max_one, max_other);
    return version >= std::max(min_one, min_other) ? version : uint8_t{0};
}

std::vector<std::byte> encode(const Ack& ack) {
    AckLayout out{};
    out.token = ack.token;
    out.gaps = ack.gaps;
    for (size_t i = 0; i < kMessageClassCount; ++i) {
        out.streams[i].received = ack.streams[i].received;
        out.streams[i].credit = ack.streams[i].credit;
        out.streams[i].hold_us = ack.streams[i].hold_us;
    }
    return bytes_of(out);
}

Result<Ack> decode_ack(std::span<const std::byte> body) {
    if (body.size() < kAckBytes) return broken("ack", "shorter than its fixed part");
    const auto in = layout_of<AckLayout>(body);
    Ack ack;
    ack.token = in.token.value();
    ack.gaps = in.gaps.value();
    if (ack.gaps >> kMessageClassCount != 0) return broken("ack", "gap in a class that is not");
    for (size_t i = 0; i < kMessageClassCount; ++i) {
        ack.streams[i].received = in.streams[i].received.value();
        ack.streams[i].credit = in.streams[i].credit.value();
        ack.streams[i].hold_us = in.streams[i].hold_us.value();
    }
    return ack;
}

std::vector<std::byte> encode(const Ping& ping) {
    PingLayout out{};
    out.token = ping.token;
    return bytes_of(out);
}

Result<Ping> decode_ping(std::span<const std::byte> body) {
    if (body.size() < kPingBytes) return broken("ping", "shorter than its fixed part");
    Ping ping;
    ping.token = layout_of<PingLayout>(body).token.value();
    if (ping.token == 0) return broken("ping", "token is 0");
    return ping;
}

std::vector<std::byte> encode(const Goodbye& goodbye) {
    const size_t length = std::min(goodbye.reason.size(), kGoodbyeReasonBytesMax);
    const auto bytes = std::as_bytes(std::span(goodbye.reason.data(), length));
    return {bytes.begin(), bytes.end()};
}

Result<Goodbye> decode_goodbye(std::span<const std::byte> body) {
    if (body.size() > kGoodbyeReasonBytesMax) return broken("goodbye", "reason is too long");
    Goodbye goodbye;
    for (const std::byte b : body) {
        const char c = static_cast<char>(b);
        if (c < 32 || c > 126) return broken("goodbye", "reason is not printable");
        goodbye.reason.push_back(c);
    }
    return goodbye;
}

}  // namespace antipode::wire
