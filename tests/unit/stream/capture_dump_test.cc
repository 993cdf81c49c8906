// Captures as text.
#include "replicator/stream/capture_dump.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/stream/session_pair.h"

namespace antipode::stream {
namespace {

using testing::HasSubstr;

struct CapturedPair {
    SessionPair pair;
    std::vector<CaptureRecord> records;
    CapturedPair() {
        pair.tamper = [this](size_t from, Lane lane, std::vector<std::byte>& bytes) {
            if (from == SessionPair::kA) {
                records.push_back({static_cast<uint64_t>(pair.now.time_since_epoch().count()),
                                   Direction::sent, static_cast<uint8_t>(lane), bytes});
            }
            return true;
        };
        pair.start(SessionPair::kA);
        pair.start(SessionPair::kB);
        pair.connect_all();
        EXPECT_TRUE(pair.run_until([&] { return pair.both_up(); }));
        pair.submit(SessionPair::kA, MessageClass::log, std::string(200, 'a'), 1, Epoch(7));
        pair.submit(SessionPair::kA, MessageClass::control, "small", 2, Epoch(7));
        pair.submit(SessionPair::kA, MessageClass::seed, std::string(300000, 's'), 5, Epoch(7));
        pair.run_for(std::chrono::seconds(2));
    }
    std::string dump(DumpOptions options, size_t skip = 0) {
        CaptureDump dump(options, [](wire::MessageClass, uint8_t type, auto payload) {
            return type == 1 ? std::optional<std::string>(
                                   fmt::format("log of {} bytes\nand more", payload.size()))
                             : std::nullopt;
        });
        std::string text;
        for (size_t i = skip; i < records.size(); ++i) text += dump.record(records[i]);
        return text + dump.summary();
    }
};

TEST(CaptureDump, shows_every_frame_on_a_line) {
    CapturedPair captured;
    const std::string text = captured.dump({});
    EXPECT_THAT(text, HasSubstr("-> hello v1 session=0000000000000000"));
    EXPECT_THAT(
        text, HasSubstr("site=site-a incarnation=0000000000000064 channel=1 to=0000000000000000"));
    EXPECT_THAT(text, HasSubstr("log seq=1 type=1 epoch=7 zstd"));
    EXPECT_THAT(text, HasSubstr("control seq=1 type=2 epoch=7\n"));
    EXPECT_THAT(text, HasSubstr("bulk data"));
    EXPECT_THAT(text, HasSubstr("seed seq=1 type=5 epoch=7 zstd more"));
    EXPECT_THAT(text, HasSubstr("-> ping v1"));
    EXPECT_THAT(text, HasSubstr("log: 1 frames, 1 messages, 200 payload bytes"));
    EXPECT_THAT(text, HasSubstr("300000 payload bytes"));
}

TEST(CaptureDump, puts_messages_together) {
    CapturedPair captured;
    DumpOptions options;
    options.frames = false;
    options.messages = true;
    options.hex_bytes_max = 4;
    const std::string text = captured.dump(options);
    EXPECT_THAT(text, HasSubstr("  message log type=1 epoch=7 bytes=200\n"
                                "    log of 200 bytes\n    and more\n"));
    EXPECT_THAT(text, HasSubstr("  message control type=2 epoch=7 bytes=5\n    736d616c...\n"));
    EXPECT_THAT(text, HasSubstr("  message seed type=5 epoch=7 bytes=300000\n    73737373...\n"));
}

TEST(CaptureDump, says_when_a_stream_cannot_be_followed) {
    CapturedPair captured;
    size_t first_data = 0;
    while (static_cast<uint8_t>(captured.records[first_data].frame[5]) != 2) ++first_data;
    DumpOptions options;
    options.messages = true;
    captured.pair.submit(SessionPair::kA, MessageClass::log, "later", 1, Epoch(7));
    captured.pair.run_for(std::chrono::seconds(1));
    const std::string text = captured.dump(options, first_data + 1);
    EXPECT_THAT(text, HasSubstr("log stream cannot be followed: frames 1 to 1 are not captured"));
}

TEST(CaptureDump, garbage_is_shown_as_garbage) {
    CaptureDump dump({}, nullptr);
    CaptureRecord record;
    record.frame.assign(10, std::byte{1});
    EXPECT_THAT(dump.record(record), HasSubstr("GARBAGE 10 bytes: shorter than a frame's header"));
    record.frame.assign(100, std::byte{1});
    EXPECT_THAT(dump.record(record), HasSubstr("GARBAGE 100 bytes: magic is wrong"));
    EXPECT_THAT(dump.summary(), HasSubstr("2 frames of garbage"));
}

}  // namespace
}  // namespace antipode::stream
