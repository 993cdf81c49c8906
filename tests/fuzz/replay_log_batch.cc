// The log batch's decoder, as the backup meets it: whatever it takes, it must be exactly what the
// encoder makes of it.
#include <cstdint>
#include <cstring>

#include "common/base/check.h"
#include "replicator/replay/log_entry.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace antipode;
    const std::span<const std::byte> bytes(reinterpret_cast<const std::byte*>(data), size);
    const auto batch = replay::decode_log_batch(bytes);
    if (!batch) return 0;
    const auto again = replay::encode(*batch);
    FT_CHECK(std::ranges::equal(again, bytes), "{} bytes became {}", size, again.size());
    size_t bound = 64;
    ExitNumber last;
    for (const auto& entry : batch->entries) {
        FT_CHECK(!replay::describe(entry).empty(), "an entry without a description");
        FT_CHECK(entry.exit >= last, "exit {} after {}", entry.exit, last);
        last = entry.exit;
        bound += replay::encoded_bytes_max(entry);
    }
    FT_CHECK(size <= bound, "{} bytes, but at most {} were foreseen", size, bound);
    return 0;
}
