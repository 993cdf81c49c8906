// The bytes of sync frames: golden ones, every broken rule, and what a random peer could send.
#include "common/wire/sync_frames.h"

#include <gtest/gtest.h>

#include "common/base/random.h"
#include "common/wire/checksum.h"
#include "tests/unit/disksync/test_disk.h"

namespace antipode::wire {
namespace {

using disksync::pattern;

SyncFrame frame_of(SyncType type, SyncBody body, SharedBytes payload = {}) {
    SyncFrame frame;
    frame.type = type;
    frame.disk = 1;
    frame.pair = PairId(0x1122334455667788);
    frame.epoch = Epoch(7);
    frame.body = std::move(body);
    frame.payload = std::move(payload);
    return frame;
}

SyncFrame change_of(SyncType type, SyncBody body, SharedBytes payload = {}) {
    SyncFrame frame = frame_of(type, std::move(body), std::move(payload));
    frame.sequence = 5;
    frame.barrier = 3;
    return frame;
}

SharedBytes bytes_of(size_t count) {
    return SharedBytes::copy_of(pattern(count, 1));
}

std::vector<SyncFrame> examples() {
    SyncGenerations generations{10, {9, 8}, {7, 6, 5}};
    SyncHello hello;
    hello.pair = Name::literal("web1");
    hello.disk = Name::literal("rootfs");
    hello.disk_count = 2;
    hello.role = 2;
    hello.state = 1;
    hello.crashed_primary = true;
    hello.split_policies = {1, 2, 3};
    hello.id = 1;
    hello.size_bytes = 1 << 20;
    hello.generations = generations;
    SyncFrame answer = frame_of(SyncType::digest_answer, SyncDigests{4, 3},
                                SharedBytes::copy_of(std::vector<std::byte>{std::byte{5}}));
    SyncFrame verified = answer;
    verified.flags = sync_flags::kVerify;
    std::vector<std::byte> two_digests(1 + 32, std::byte{1});
    two_digests[0] = std::byte{5};
    verified.payload = SharedBytes::copy_of(two_digests);
    SyncFrame fua = change_of(SyncType::write, SyncRange{4096, 512}, bytes_of(512));
    fua.flags = sync_flags::kFua;
    SyncFrame packed = change_of(SyncType::resync_data, SyncRange{65536, 65536}, bytes_of(1000));
    packed.flags = sync_flags::kCompressed;
    return {
        frame_of(SyncType::hello, hello),
        frame_of(SyncType::bitmap, SyncBitmap{0, 12}, bytes_of(2)),
        frame_of(SyncType::begin, SyncBegin{generations, 1000, 5, 1 << 20}),
        fua,
        change_of(SyncType::write_zeroes, SyncRange{0, 1 << 30}),
        change_of(SyncType::discard, SyncRange{0, 1 << 30}),
        change_of(SyncType::flush, SyncFlush{}),
        frame_of(SyncType::ack, SyncAck{3, 2, 1}),
        change_of(SyncType::resync_data, SyncRange{65536, 65536}, bytes_of(65536)),
        packed,
        change_of(SyncType::resync_zeroes, SyncRange{65536, 65536}),
        change_of(SyncType::digests, SyncDigests{4, 3}, bytes_of(48)),
        answer,
        verified,
        change_of(SyncType::end, SyncEnd{generations, 1000}),
        frame_of(SyncType::adopted, SyncAdopted{10}),
        frame_of(SyncType::read, SyncRead{1, 0, 4096}),
        frame_of(SyncType::read_answer, SyncReadAnswer{1, 0}, bytes_of(4096)),
        frame_of(SyncType::read_answer, SyncReadAnswer{1, 4}),
        frame_of(SyncType::failed, SyncFailed{4}, bytes_of(10)),
        frame_of(SyncType::goodbye, SyncGoodbye{14}, bytes_of(10)),
        frame_of(SyncType::ping, SyncPing{99}),
        frame_of(SyncType::pong, SyncPing{99}),
        frame_of(SyncType::turn, SyncTurn{77}),
        frame_of(SyncType::turned, SyncTurned{}),
        frame_of(SyncType::turned, SyncTurned{4}),
        frame_of(SyncType::demoted, SyncDemoted{}),
    };
}

TEST(SyncFrames, ComeBackAsTheyWere) {
    for (const SyncFrame& frame : examples()) {
        SCOPED_TRACE(to_string(frame.type));
        const std::vector<std::byte> bytes = encode(frame);
        const auto decoded = decode_sync_message(bytes);
        ASSERT_OK(decoded);
        EXPECT_EQ(*decoded, frame);
        EXPECT_EQ(encode(*decoded), bytes);
    }
}

// Of all examples together: a change of any byte of the format changes this number.
uint64_t checksum_of_all(uint8_t version) {
    std::vector<std::byte> all;
    for (SyncFrame& frame : examples()) {
        if (frame.type >= SyncType::turn && version < 3) continue;
        frame.version = version;
        const auto bytes = encode(frame);
        EXPECT_EQ(decode_sync_message(bytes)->version, version);
        all.insert(all.end(), bytes.begin(), bytes.end());
    }
    return checksum64(all);
}

TEST(SyncFrames, GoldenBytes) {
    EXPECT_EQ(checksum_of_all(2), uint64_t{8607188284017078027u});
    EXPECT_EQ(checksum_of_all(3), uint64_t{792000496981279425u});
    const auto flush = encode(change_of(SyncType::flush, SyncFlush{}));
    const auto expect = [&](size_t at, std::vector<int> values) {
        for (size_t index = 0; index < values.size(); ++index) {
            EXPECT_EQ(std::to_integer<int>(flush[at + index]), values[index]) << at + index;
        }
    };
    ASSERT_EQ(flush.size(), kSyncHeaderBytes);
    expect(0, {'A', 'P', 's', '1', 2, 7, 3, 2, 0, 0, 1, 0, 0, 0, 0, 0});
    expect(16, {0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 7, 0, 0, 0, 0, 0, 0, 0});
    expect(32, {5, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0});
}

TEST(SyncFrames, EveryFlippedBitIsFound) {
    for (const SyncFrame& frame : examples()) {
        const std::vector<std::byte> good = encode(frame);
        const size_t bits = std::min<size_t>(good.size(), 400) * 8;
        for (size_t bit = 0; bit < bits; ++bit) {
            std::vector<std::byte> bad = good;
            bad[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
            ASSERT_FALSE(decode_sync_message(bad).has_value())
                << to_string(frame.type) << " bit " << bit;
        }
        EXPECT_ERROR(decode_sync_message(std::span(good).first(good.size() - 1)), Errc::protocol);
    }
}

// A peer that makes valid checksums around nonsense.
class Forger {
  public:
    explicit Forger(const SyncFrame& frame)
        : bytes_(encode(frame)),
          fixed_bytes_(bytes_.size() - kSyncHeaderBytes - frame.payload.size()) {}
    template <typename Value>
    Forger& set(size_t at, Value value) {
        std::memcpy(bytes_.data() + at, &value, sizeof(value));
        return *this;
    }
    Result<SyncFrame> decoded() {
        const auto fixed = std::span(bytes_).subspan(kSyncHeaderBytes, fixed_bytes_);
        const auto payload = std::span(bytes_).subspan(kSyncHeaderBytes + fixed_bytes_);
        const uint64_t body =
            XXH3_64bits_withSeed(payload.data(), payload.size(), checksum64(fixed));
        set(56, body).set(48, uint64_t{0});
        set(48, checksum64(std::span(bytes_).first(kSyncHeaderBytes)));
        return decode_sync_message(bytes_);
    }

  private:
    std::vector<std::byte> bytes_;
    size_t fixed_bytes_;
};

TEST(SyncFrames, BrokenRulesAreNamed) {
    const SyncFrame write = change_of(SyncType::write, SyncRange{4096, 512}, bytes_of(512));
    EXPECT_OK(Forger(write).decoded());
    EXPECT_ERROR(Forger(write).set(0, uint32_t{1}).decoded(), Errc::protocol);
    EXPECT_ERROR(Forger(write).set(4, uint8_t{1}).decoded(), Errc::protocol);
    EXPECT_ERROR(Forger(write).set(5, uint8_t{0}).decoded(), Errc::protocol);
    EXPECT_ERROR(Forger(write).set(5, uint8_t{24}).decoded(), Errc::protocol);
    EXPECT_ERROR(Forger(write).set(7, uint8_t{4}).decoded(), Errc::version);
    EXPECT_ERROR(Forger(write).set(6, uint8_t{1}).decoded(), Errc::version);
    EXPECT_ERROR(Forger(write).set(7, uint8_t{3}).decoded(), Errc::protocol);
    const SyncFrame turn = frame_of(SyncType::turn, SyncTurn{77});
    EXPECT_ERROR(Forger(turn).set(6, uint8_t{2}).decoded(), Errc::protocol);
    EXPECT_ERROR(Forger(turn).set(7, uint8_t{2}).decoded(), Errc::protocol);
    // Compressed: the range says how much it is afterwards.
    const auto packed = [&] { return Forger(write).set(8, uint16_t{64}); };
    EXPECT_OK(packed().set(72, uint64_t{65536}).decoded());
    EXPECT_ERROR(packed().set(72, uint64_t{kSyncDataBytesMax + 512}).decoded(), Errc::protocol);
    EXPECT_ERROR(Forger(write).set(8, uint16_t{8}).decoded(), Errc::protocol);
    EXPECT_ERROR(Forger(write).set(12, uint32_t{4}).decoded(), Errc::protocol);
    EXPECT_ERROR(Forger(write).set(12, ~uint32_t{0}).decoded(), Errc::protocol);
    EXPECT_ERROR(Forger(write).set(32, uint64_t{0}).decoded(), Errc::protocol);
    EXPECT_ERROR(Forger(write).set(72, uint64_t{1024}).decoded(), Errc::protocol);  // length
    EXPECT_ERROR(Forger(write).set(72, uint64_t{0}).decoded(), Errc::protocol);
    const SyncFrame zeroes = change_of(SyncType::write_zeroes, SyncRange{4096, 512});
    EXPECT_ERROR(Forger(zeroes).set(64, ~uint64_t{0}).decoded(), Errc::protocol);
    const SyncFrame bitmap = frame_of(SyncType::bitmap, SyncBitmap{0, 12}, bytes_of(2));
    EXPECT_ERROR(Forger(bitmap).set(72, uint64_t{17}).decoded(), Errc::protocol);
    EXPECT_ERROR(Forger(bitmap).set(32, uint64_t{1}).decoded(), Errc::protocol);  // sequence
    const SyncFrame digests = change_of(SyncType::digests, SyncDigests{4, 3}, bytes_of(48));
    EXPECT_ERROR(Forger(digests).set(72, uint32_t{4}).decoded(), Errc::protocol);
    const SyncFrame hello = examples()[0];
    EXPECT_ERROR(Forger(hello).set(64, uint8_t{'!'}).decoded(), Errc::protocol);
    EXPECT_ERROR(Forger(hello).set(64 + 31, uint8_t{'a'}).decoded(), Errc::protocol);
    EXPECT_ERROR(Forger(hello).set(64 + 73, uint8_t{1}).decoded(), Errc::protocol);  // reserved
}

}  // namespace
}  // namespace antipode::wire
