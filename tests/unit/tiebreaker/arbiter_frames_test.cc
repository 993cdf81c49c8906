#include "common/wire/arbiter_frames.h"

#include <gtest/gtest.h>
#include <xxhash.h>

#include "common/base/random.h"

namespace antipode::wire {
namespace {

constexpr const char* kGoldenRequest =
    "41505442010003000100010088000000a5b6302c9be1ab4088776655443322110600000000000000"
    "0300000000000000a6a85938fce5d80451b0eaf720b3ba1a03000000000000007765623100000000"
    "00000000000000000000000000000000000000000000000088776655443322110600000000000000"
    "736974652d610000000000000000000000000000000000000000000000000000a100000000000000"
    "00000000000000000000000000000000000000000000000000000000000000000000000000000000";
constexpr const char* kGoldenRecord =
    "77656231000000000000000000000000000000000000000000000000000000008877665544332211"
    "07000000000000000200000000000000736974652d61000000000000000000000000000000000000"
    "0000000000000000a100000000000000736974652d61000000000000000000000000000000000000"
    "0000000000000000a100000000000000736974652d62000000000000000000000000000000000000"
    "0000000000000000b100000000000000736974652d61000000000000000000000000000000000000"
    "0000000000000000736974652d620000000000000000000000000000000000000000000000000000"
    "1b06317b64b004e6";

Record sample_record() {
    Record record;
    record.pair = Name::literal("web1");
    record.store = StoreIdentity(0x1122334455667788);
    record.epoch = Epoch(7);
    record.mode = PairMode::paired;
    record.holder = {Name::literal("site-a"), Incarnation(0xa1)};
    record.members = {record.holder, {Name::literal("site-b"), Incarnation(0xb1)}};
    record.sites = {Name::literal("site-a"), Name::literal("site-b")};
    return record;
}

Request sample_request() {
    Request request;
    request.kind = RequestKind::acquire;
    request.pair = Name::literal("web1");
    request.store = StoreIdentity(0x1122334455667788);
    request.epoch = Epoch(6);
    request.me = {Name::literal("site-a"), Incarnation(0xa1)};
    return request;
}

// Of a pair with three sites.
Record spare_record() {
    Record record = sample_record();
    record.mode = PairMode::solo;
    record.members = {record.holder, Member{}};
    record.sites[2] = Name::literal("site-0");
    record.former = Name::literal("site-b");
    return record;
}

Request spare_request() {
    Request request = sample_request();
    request.kind = RequestKind::create;
    request.other = {Name::literal("site-0"), Incarnation(0xc1)};
    request.sites = {Name::literal("site-a"), Name::literal("site-b"), Name::literal("site-0")};
    return request;
}

std::vector<ArbiterFrame> samples() {
    const Answer answer{AnswerKind::granted, RefusalReason::none, sample_request(), sample_record(),
                        StoreIdentity(0x1122334455667788)};
    const StoreIdentity store(0x1122334455667788);
    const Member me{Name::literal("site-b"), Incarnation(9)};
    const Answer of_three{AnswerKind::granted, RefusalReason::none, sample_request(),
                          spare_record(), store};
    const Answer to_create{AnswerKind::granted, RefusalReason::none, spare_request(),
                           spare_record(), store};
    const Answer refused{
        AnswerKind::refused, RefusalReason::wrong_site, spare_request(), {}, store};
    return {
        {0, {}, ArbiterHello{Name::literal("site-a")}},
        {0, store, ArbiterWelcome{Name::literal("tb"), std::chrono::milliseconds(20000)}},
        {3, store, sample_request()},
        {3, store, answer},
        {4, {}, ArbiterWatch{Name::literal("web1"), me}},
        {4, store, ArbiterRecord{Name::literal("web1"), sample_record()}},
        {5, store, ArbiterRecord{Name::literal("web1"), std::nullopt}},
        {6, {}, ArbiterPing{}},
        {6, store, ArbiterPong{}},
        {7, store, ArbiterError{Errc::denied, "pair web1: no"}},
        {8, store, spare_request()},
        {8, store, of_three},
        {8, store, to_create},
        {8, store, refused},
        {9, store, ArbiterRecord{Name::literal("web1"), spare_record()}},
    };
}

std::string encoded(const ArbiterFrame& frame) {
    std::string bytes;
    encode(frame, bytes);
    return bytes;
}

std::span<const std::byte> view(const std::string& bytes) {
    return std::as_bytes(std::span(bytes));
}

std::string hexadecimal(std::string_view bytes) {
    std::string out;
    for (const char c : bytes) out += fmt::format("{:02x}", static_cast<unsigned char>(c));
    return out;
}

TEST(ArbiterFrames, EveryKindComesBackAsItWas) {
    for (const ArbiterFrame& frame : samples()) {
        const std::string bytes = encoded(frame);
        ASSERT_EQ(*arbiter_frame_bytes(view(bytes)), bytes.size());
        const auto decoded = decode_arbiter_frame(view(bytes));
        ASSERT_TRUE(decoded.has_value()) << decoded.error().to_string();
        EXPECT_EQ(*decoded, frame) << to_string(frame.body);
    }
}

TEST(ArbiterFrames, BytesOfVersionOneNeverChange) {
    EXPECT_EQ(hexadecimal(encoded(samples()[2])), kGoldenRequest);
    EXPECT_EQ(hexadecimal(encode_record(sample_record())), kGoldenRecord);
}

TEST(ArbiterFrames, AThirdSiteIsAppended) {
    Record record = spare_record();
    const std::string bytes = encode_record(record);
    EXPECT_EQ(bytes.size(), kStoredRecordBytes + kRecordTailBytes);
    EXPECT_EQ(*decode_record(view(bytes)), record);
    record.former = {};
    EXPECT_EQ(*decode_record(view(encode_record(record))), record);
    record.sites[2] = {};
    EXPECT_EQ(encode_record(record).size(), kStoredRecordBytes);
}

TEST(ArbiterFrames, NoSingleBitCanBeWrong) {
    for (const ArbiterFrame& frame : samples()) {
        const std::string good = encoded(frame);
        for (size_t bit = 0; bit < good.size() * 8; ++bit) {
            std::string bytes = good;
            bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ (1 << (bit % 8)));
            EXPECT_FALSE(decode_arbiter_frame(view(bytes)).has_value())
                << to_string(frame.body) << " bit " << bit;
        }
    }
}

TEST(ArbiterFrames, CutShortOrTooLongIsRefused) {
    for (const ArbiterFrame& frame : samples()) {
        const std::string good = encoded(frame);
        for (size_t bytes = 0; bytes < good.size(); ++bytes) {
            EXPECT_FALSE(decode_arbiter_frame(view(good).first(bytes)).has_value());
        }
        EXPECT_FALSE(decode_arbiter_frame(view(good + '\0')).has_value());
    }
}

TEST(ArbiterFrames, AnErrorsTextIsCut) {
    const std::string bytes = encoded({1, {}, ArbiterError{Errc::io, std::string(10000, 'x')}});
    EXPECT_LE(bytes.size(), kArbiterFrameBytesMax);
    const auto decoded = decode_arbiter_frame(view(bytes));
    ASSERT_TRUE(decoded.has_value());
    EXPECT_EQ(std::get<ArbiterError>(decoded->body).text.size(), kArbiterErrorTextBytesMax);
}

// Bytes of a good frame changed, and the checksums made right again: what an attacker would send.
// Offsets are those of the layouts in arbiter_frames.cc.
std::string forge(const ArbiterFrame& frame, size_t at, std::string_view with) {
    std::string bytes = encoded(frame);
    bytes.replace(at, with.size(), with);
    const auto put = [&](size_t where, uint64_t value) {
        for (size_t i = 0; i < 8; ++i) bytes[where + i] = static_cast<char>(value >> (8 * i));
    };
    put(56, XXH64(bytes.data() + 64, bytes.size() - 64, 0));
    put(48, XXH64(bytes.data(), 48, 0));
    return bytes;
}

TEST(ArbiterFrames, ForgedContentIsRefusedByName) {
    using namespace std::literals;
    const auto all = samples();
    struct Case {
        size_t sample;
        size_t at;
        std::string_view with;
        const char* says;
    };
    const std::vector<Case> cases{
        {2, 0, "XXXX"sv, "does not begin with APTB"},
        {2, 4, "\x02"sv, "speaks protocol 2"},
        {2, 6, "\x63"sv, "type is not known"},
        {2, 7, "\x01"sv, "flags"},
        {2, 8, "\x02"sv, "version 2"},
        {2, 12, "\xff\xff\xff\x7f"sv, "136 to 232 are allowed"},
        {2, 16, "\x00"sv, "another pair"},
        {2, 24, "\x00"sv, "another store"},
        {2, 32, "\x00"sv, "another epoch"},
        {2, 64, "\x00"sv, "kind is not known"},
        {2, 64, "\x0a"sv, "kind is not known"},
        {2, 65, "\x01"sv, "reserved"},
        {2, 72, "WEB1"sv, "not a name"},
        {2, 80, "x"sv, "not a name"},
        {3, 64, "\x06"sv, "answer's kind"},
        {3, 65, "\x00"sv, "answer's reason"},
        {3, 66, "\x01"sv, "reserved"},
        {5, 64 + 32, "\x02"sv, "known is neither"},
        {5, 64 + 40, "web2"sv, "another pair"},
        {5, 64 + 40 + 48, "\x00"sv, "mode is not known"},
        {6, 64 + 40, "x"sv, "not zero"},
        {9, 64, "\x00"sv, "code is not known"},
        {9, 66, "\x01"sv, "another length"},
    };
    for (const Case& one : cases) {
        const auto decoded = decode_arbiter_frame(view(forge(all[one.sample], one.at, one.with)));
        ASSERT_FALSE(decoded.has_value()) << one.says;
        EXPECT_NE(decoded.error().context.find(one.says), std::string::npos)
            << decoded.error().context << ", expected: " << one.says;
    }
}

TEST(ArbiterFrameBuffer, CutsAStreamAtAnyPlace) {
    std::string stream;
    const auto frames = samples();
    for (const auto& frame : frames) encode(frame, stream);
    Random random(1);
    for (int round = 0; round < 200; ++round) {
        ArbiterFrameBuffer buffer;
        size_t at = 0;
        std::vector<ArbiterFrame> got;
        while (at < stream.size()) {
            const size_t bytes = std::min<size_t>(random.between(1, 300), stream.size() - at);
            buffer.append(view(stream).subspan(at, bytes));
            at += bytes;
            while (true) {
                auto next = buffer.next();
                ASSERT_TRUE(next.has_value()) << next.error().to_string();
                if (!*next) break;
                got.push_back(std::move(**next));
            }
        }
        EXPECT_EQ(got, frames);
        EXPECT_TRUE(buffer.empty());
    }
}

TEST(ArbiterFrameBuffer, GarbageIsAnErrorBeforeMoreIsRead) {
    ArbiterFrameBuffer buffer;
    const std::string garbage(kArbiterHeaderBytes, 'x');
    buffer.append(view(garbage));
    const auto next = buffer.next();
    ASSERT_FALSE(next.has_value());
    EXPECT_EQ(next.error().code, Errc::protocol);
}

TEST(StoredRecord, ComesBackAndNoBitCanBeWrong) {
    ASSERT_EQ(encode_record(sample_record()).size(), kStoredRecordBytes);
    for (const Record& record : {sample_record(), spare_record()}) {
        const std::string good = encode_record(record);
        EXPECT_EQ(*decode_record(view(good)), record);
        for (size_t bit = 0; bit < good.size() * 8; ++bit) {
            std::string bytes = good;
            bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ (1 << (bit % 8)));
            const auto decoded = decode_record(view(bytes));
            ASSERT_FALSE(decoded.has_value());
            EXPECT_EQ(decoded.error().code, Errc::corrupt);
        }
    }
}

}  // namespace
}  // namespace antipode::wire
