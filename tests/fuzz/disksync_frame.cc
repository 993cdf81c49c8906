// The frames of replicated disks. The first byte says whether the checksums are made right first:
// without that nothing but the checksums would be tested. The second one is how long the fixed part
// is, for the body's checksum.
#include <cstdint>
#include <cstring>
#include <vector>
#include <xxhash.h>

#include "common/base/check.h"
#include "common/wire/checksum.h"
#include "common/wire/sync_frames.h"
#include "tests/fuzz/frame_checksums.h"

namespace {

using namespace antipode;
using namespace antipode::wire;

uint64_t checksum_of(std::span<const std::byte> body, size_t fixed_bytes) {
    const auto fixed = body.first(std::min(fixed_bytes, body.size()));
    const auto payload = body.subspan(fixed.size());
    return XXH3_64bits_withSeed(payload.data(), payload.size(), checksum64(fixed));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    if (size < 2 + kSyncHeaderBytes) return 0;
    const auto* begin = reinterpret_cast<const std::byte*>(data) + 2;
    std::vector<std::byte> bytes(begin, begin + size - 2);
    if ((data[0] & 1) != 0) {
        const auto body = std::span<const std::byte>(bytes).subspan(kSyncHeaderBytes);
        make_right(bytes, kSyncHeaderBytes, checksum_of(body, data[1]));
    }
    const auto frame = decode_sync_message(bytes);
    if (!frame) {
        FT_CHECK(frame.error().context.rfind("sync ", 0) == 0, "an error of something else: {}",
                 frame.error().context);
        return 0;
    }
    FT_CHECK(to_string(frame->type) != "unknown", "a type without a name");
    FT_CHECK(frame->payload.size() <= kSyncBodyBytesMax, "{} bytes", frame->payload.size());
    // A later version may have what we do not know; ours has one encoding.
    if (frame->version > kSyncVersion) return 0;
    FT_CHECK(encode(*frame) == bytes, "not what the encoder makes of it");
    return 0;
}
