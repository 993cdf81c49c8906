// What a site sends to the tiebreaker, as a stream of frames. The first byte says whether lengths
// and checksums are made right first: without that nothing but the checksums would be tested.
#include <cstdint>
#include <xxhash.h>

#include "common/base/check.h"
#include "common/wire/arbiter_frames.h"

namespace {

using namespace antipode;
using namespace antipode::wire;

void put(std::string& bytes, size_t at, uint64_t value, size_t count) {
    for (size_t i = 0; i < count; ++i) bytes[at + i] = static_cast<char>(value >> (8 * i));
}

void make_right(std::string& bytes) {
    if (bytes.size() < kArbiterHeaderBytes) bytes.resize(kArbiterHeaderBytes);
    const size_t body_bytes = bytes.size() - kArbiterHeaderBytes;
    put(bytes, 12, body_bytes, 4);
    put(bytes, 56, XXH64(bytes.data() + kArbiterHeaderBytes, body_bytes, 0), 8);
    put(bytes, 48, XXH64(bytes.data(), 48, 0), 8);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    if (size == 0) return 0;
    std::string bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
    if ((data[0] & 1) != 0) make_right(bytes);
    ArbiterFrameBuffer buffer;
    // In pieces, as a stream comes.
    const size_t piece = 1 + data[0] / 2;
    std::string again;
    for (size_t at = 0; at < bytes.size(); at += piece) {
        buffer.append(
            std::as_bytes(std::span(bytes).subspan(at).first(std::min(piece, bytes.size() - at))));
        while (true) {
            const auto frame = buffer.next();
            if (!frame) return 0;
            if (!*frame) break;
            encode(**frame, again);
            FT_CHECK(bytes.starts_with(again), "a frame that is not written as it was read");
        }
    }
    return 0;
}
