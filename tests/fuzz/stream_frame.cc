// The channel's frame header and the bodies of its own frames. The first byte says whether the
// checksums are made right first: without that nothing but the checksums would be tested.
#include <cstdint>
#include <cstring>
#include <vector>

#include "common/base/check.h"
#include "common/wire/channel_frames.h"
#include "common/wire/checksum.h"
#include "common/wire/frame.h"
#include "tests/fuzz/frame_checksums.h"

namespace {

using namespace antipode;
using namespace antipode::wire;

// What was read, written and read again is the same.
template <typename T, typename Decode>
void again(const Result<T>& value, Decode decode) {
    if (!value) return;
    const auto bytes = encode(*value);
    const auto second = decode(bytes);
    FT_CHECK(second.has_value(), "refuses its own: {}", second.error().to_string());
    FT_CHECK(*second == *value, "another value after encoding");
}

void body_of(const Frame& frame, std::span<const std::byte> body) {
    switch (frame.type) {
        case FrameType::hello:
            return again(decode_hello(body), decode_hello);
        case FrameType::ack:
            return again(decode_ack(body), decode_ack);
        case FrameType::ping:
            return again(decode_ping(body), decode_ping);
        case FrameType::goodbye:
            return again(decode_goodbye(body), decode_goodbye);
        case FrameType::data:
            return;
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    if (size < 1 + kFrameHeaderBytes) return 0;
    const auto* begin = reinterpret_cast<const std::byte*>(data) + 1;
    std::vector<std::byte> bytes(begin, begin + size - 1);
    if ((data[0] & 1) != 0) {
        make_right(bytes, kFrameHeaderBytes,
                   checksum64(std::span<const std::byte>(bytes).subspan(kFrameHeaderBytes)));
    }
    const auto header = std::span<const std::byte>(bytes).first<kFrameHeaderBytes>();
    const auto body = std::span<const std::byte>(bytes).subspan(kFrameHeaderBytes);
    if (invalid(header) != nullptr) return 0;
    const Frame frame = decode_frame(header);
    FT_CHECK(frame.body_bytes <= body_bytes_max(frame.type), "{} bytes of body", frame.body_bytes);
    const auto encoded = encode(frame);
    if (frame.version == kChannelVersion) {
        FT_CHECK(std::memcmp(encoded.data(), header.data(), header.size()) == 0,
                 "not what the encoder makes of it");
    }
    if (invalid_body(frame, body) == nullptr) body_of(frame, body);
    return 0;
}
