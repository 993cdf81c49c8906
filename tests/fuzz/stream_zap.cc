// ZAP requests: frames with a byte of length each.
#include <cstdint>

#include "common/base/check.h"
#include "replicator/stream/zap.h"
#include "tests/fuzz/byte_source.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace antipode;
    fuzz::ByteSource source(data, size);
    std::vector<std::vector<std::byte>> frames;
    while (!source.empty() && frames.size() <= stream::kZapFramesMax) {
        size_t length = source.take<uint8_t>();
        if (length == 0xff) length = 2 * stream::kZapFrameBytesMax;
        const auto bytes = source.bytes(length);
        frames.emplace_back(bytes.begin(), bytes.end());
    }
    const auto request = stream::parse_zap_request(frames);
    if (!request) return 0;
    for (const char c : request->address) FT_CHECK(c >= 32 && c < 127, "unprintable address");
    stream::CurveKeyBytes pinned{};
    pinned.fill(std::byte{0x5a});
    const auto verdict = stream::judge(*request, pinned);
    FT_CHECK((verdict == stream::ZapVerdict::allowed) == (request->key == pinned), "wrong verdict");
    FT_CHECK(stream::zap_answer(request->request_id, verdict).size() == 6,
             "answer of another size");
    return 0;
}
