// What seeds, heals, verifies and snapshot files are made of: whatever a decoder takes, it must be
// exactly what the encoder makes of it. The first byte chooses the decoder.
#include <algorithm>
#include <cstdint>
#include <cstring>

#include "common/base/check.h"
#include "replicator/control/heal_frames.h"
#include "replicator/control/seed_digests.h"
#include "replicator/control/seed_frames.h"
#include "replicator/control/snapshot_file.h"
#include "replicator/control/verify_frames.h"

namespace antipode::control {
namespace {

template <typename Decoded>
void check_canonical(const Decoded& decoded, std::span<const std::byte> bytes) {
    if (!decoded) return;
    const auto again = encode(*decoded);
    FT_CHECK(std::ranges::equal(again, bytes), "{} bytes became {}", bytes.size(), again.size());
}

void read_snapshot(std::span<const std::byte> file) {
    auto reader = SnapshotReader::create(
        "fuzz", [file](uint64_t offset, std::span<std::byte> into) -> Result<size_t> {
            const size_t at = std::min<uint64_t>(offset, file.size());
            const size_t count = std::min(into.size(), file.size() - at);
            std::copy_n(file.begin() + static_cast<ptrdiff_t>(at), count, into.begin());
            return count;
        });
    if (!reader) return;
    for (;;) {
        const auto piece = reader->next();
        if (!piece || !*piece) break;
        check_canonical(decode_seed_piece(**piece), **piece);
        FT_CHECK(reader->offset() <= file.size(), "beyond the end");
    }
}

}  // namespace
}  // namespace antipode::control

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace antipode::control;
    if (size == 0) return 0;
    const std::span<const std::byte> bytes(reinterpret_cast<const std::byte*>(data) + 1, size - 1);
    switch (data[0] % 5) {
        case 0:
            check_canonical(decode_seed_piece(bytes), bytes);
            break;
        case 1:
            check_canonical(decode_heal_message(bytes), bytes);
            break;
        case 4:
            check_canonical(decode_verify_message(bytes), bytes);
            break;
        case 3:
            check_canonical(decode_seed_digests(bytes), bytes);
            break;
        default:
            read_snapshot(bytes);
    }
    return 0;
}
