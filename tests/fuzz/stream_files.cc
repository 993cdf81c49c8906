// What the channel's tools read: captures with what is in them, bandwidth schedules, and the text
// of key files.
#include <cstdint>

#include "common/base/bandwidth_schedule.h"
#include "common/base/check.h"
#include "replicator/stream/capture.h"
#include "replicator/stream/capture_dump.h"
#include "replicator/stream/heartbeat.h"

namespace {

using namespace antipode;

void capture(std::span<const std::byte> bytes) {
    auto reader = stream::CaptureReader::create(bytes);
    if (!reader) return;
    size_t offset = reader->offset();
    while (true) {
        const auto record = reader->next();
        if (!record || !*record) break;
        FT_CHECK(reader->offset() > offset && reader->offset() <= bytes.size(), "goes nowhere");
        FT_CHECK((*record)->frame.size() <= stream::kCapturedFrameBytesMax, "a frame too long");
        offset = reader->offset();
    }
}

void schedule(std::string_view text) {
    const auto parsed = BandwidthSchedule::parse(text, "fuzz");
    if (!parsed) {
        FT_CHECK(parsed.error().context.rfind("fuzz", 0) == 0, "an error that names no setting");
        return;
    }
    for (int day = 0; day < 7; ++day) {
        for (int minute = 0; minute < BandwidthSchedule::kMinutesOfDay; minute += 59) {
            FT_CHECK(parsed->cap_at(day, minute) <= 1'000'000'000'000, "a cap out of bounds");
        }
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    if (size == 0) return 0;
    const std::span bytes(reinterpret_cast<const std::byte*>(data) + 1, size - 1);
    const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    switch (data[0] % 3) {
        case 0:
            capture(bytes);
            break;
        case 1:
            schedule(text);
            break;
        default:
            (void)stream::parse_heartbeat_key(text, "fuzz");
    }
    return 0;
}
