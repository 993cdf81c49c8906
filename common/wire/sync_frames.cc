#include "common/wire/sync_frames.h"

#include <algorithm>
#include <boost/endian/buffers.hpp>
#include <cstring>

#include "common/base/check.h"
#include "common/wire/checksum.h"

namespace antipode::wire {

namespace {

using namespace boost::endian;

struct HeaderLayout {
    little_uint32_buf_t magic;
    little_uint8_buf_t protocol;
    little_uint8_buf_t type;
    little_uint8_buf_t version;
    little_uint8_buf_t compat;
    little_uint16_buf_t flags;
    little_uint16_buf_t disk;
    little_uint32_buf_t body_bytes;
    little_uint64_buf_t pair;
    little_uint64_buf_t epoch;
    little_uint64_buf_t sequence;
    little_uint64_buf_t barrier;
    little_uint64_buf_t header_checksum;
    little_uint64_buf_t body_checksum;
};
static_assert(sizeof(HeaderLayout) == kSyncHeaderBytes);
static_assert(offsetof(HeaderLayout, pair) == 16);
static_assert(offsetof(HeaderLayout, header_checksum) == 48);

struct GenerationsLayout {
    little_uint64_buf_t current;
    std::array<little_uint64_buf_t, 3> bases;
    std::array<little_uint64_buf_t, 8> history;
};
static_assert(sizeof(GenerationsLayout) == 96);

struct HelloLayout {
    std::array<char, Name::kBytes> pair;
    std::array<char, Name::kBytes> disk;
    little_uint16_buf_t disk_count;
    little_uint8_buf_t role;
    little_uint8_buf_t state;
    little_uint8_buf_t mode;
    little_uint8_buf_t bits;  // 1 = crashed primary, 2 = discard mine
    std::array<little_uint8_buf_t, 3> split_policies;
    std::array<std::byte, 7> reserved;
    little_uint64_buf_t id;
    little_uint64_buf_t peer_id;
    little_uint64_buf_t size_bytes;
    little_uint64_buf_t marked_blocks;
    little_int64_buf_t generation_time_seconds;
    little_uint64_buf_t resync_target;
    GenerationsLayout generations;
};
static_assert(sizeof(HelloLayout) == 224);

struct BeginLayout {
    GenerationsLayout generations;
    little_int64_buf_t generation_time_seconds;
    little_uint64_buf_t blocks_to_come;
    little_uint64_buf_t size_bytes;
};
struct EndLayout {
    GenerationsLayout generations;
    little_int64_buf_t generation_time_seconds;
};
struct TwoLayout {  // bitmap, ranges
    little_uint64_buf_t first;
    little_uint64_buf_t second;
};
struct ThreeLayout {  // ack, read
    little_uint64_buf_t first;
    little_uint64_buf_t second;
    little_uint64_buf_t third;
};
struct DigestsLayout {
    little_uint64_buf_t first_block;
    little_uint32_buf_t count;
    std::array<std::byte, 4> reserved;
};
struct CodedLayout {  // read_answer, failed, goodbye, turned
    little_uint64_buf_t request;
    little_uint16_buf_t code;
    std::array<std::byte, 6> reserved;
};
struct OneLayout {  // adopted, ping, turn
    little_uint64_buf_t value;
};

enum : uint8_t { kHelloCrashed = 1, kHelloDiscardMine = 2 };

GenerationsLayout to_layout(const SyncGenerations& generations) {
    GenerationsLayout layout;
    layout.current = generations.current;
    std::copy(generations.bases.begin(), generations.bases.end(), layout.bases.begin());
    std::copy(generations.history.begin(), generations.history.end(), layout.history.begin());
    return layout;
}

SyncGenerations from_layout(const GenerationsLayout& layout) {
    SyncGenerations generations;
    generations.current = layout.current.value();
    std::transform(layout.bases.begin(), layout.bases.end(), generations.bases.begin(),
                   [](const auto& value) { return value.value(); });
    std::transform(layout.history.begin(), layout.history.end(), generations.history.begin(),
                   [](const auto& value) { return value.value(); });
    return generations;
}

HelloLayout to_layout(const SyncHello& hello) {
    HelloLayout layout{};
    layout.pair = hello.pair.bytes();
    layout.disk = hello.disk.bytes();
    layout.disk_count = hello.disk_count;
    layout.role = hello.role;
    layout.state = hello.state;
    layout.mode = hello.mode;
    layout.bits = static_cast<uint8_t>((hello.crashed_primary ? kHelloCrashed : 0) |
                                       (hello.discard_mine ? kHelloDiscardMine : 0));
    std::copy(hello.split_policies.begin(), hello.split_policies.end(),
              layout.split_policies.begin());
    layout.id = hello.id;
    layout.peer_id = hello.peer_id;
    layout.size_bytes = hello.size_bytes;
    layout.marked_blocks = hello.marked_blocks;
    layout.generation_time_seconds = hello.generation_time_seconds;
    layout.resync_target = hello.resync_target;
    layout.generations = to_layout(hello.generations);
    return layout;
}

// A name with its padding, or the rule that it breaks.
Result<Name> name_of(const std::array<char, Name::kBytes>& bytes, std::string_view field) {
    const auto end = std::find(bytes.begin(), bytes.end(), '\0');
    if (end == bytes.end() || std::any_of(end, bytes.end(), [](char c) { return c != '\0'; })) {
        return fail(Errc::protocol, "sync frame: {} is not ended and padded with zeroes", field);
    }
    const std::string_view text(bytes.data(), static_cast<size_t>(end - bytes.begin()));
    auto name = Name::parse(text, field);
    if (!name) return fail(Errc::protocol, "sync frame: {}", name.error().context);
    return *name;
}

template <typename Array>
bool all_zero(const Array& bytes) {
    return std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; });
}

Result<SyncBody> read_hello(const HelloLayout& layout) {
    SyncHello hello;
    FT_TRY(hello.pair, name_of(layout.pair, "hello.pair"));
    FT_TRY(hello.disk, name_of(layout.disk, "hello.disk"));
    if (!all_zero(layout.reserved) ||
        (layout.bits.value() & ~(kHelloCrashed | kHelloDiscardMine)) != 0) {
        return fail(Errc::protocol, "sync frame: reserved parts of the hello are not zero");
    }
    hello.disk_count = layout.disk_count.value();
    hello.role = layout.role.value();
    hello.state = layout.state.value();
    hello.mode = layout.mode.value();
    hello.crashed_primary = (layout.bits.value() & kHelloCrashed) != 0;
    hello.discard_mine = (layout.bits.value() & kHelloDiscardMine) != 0;
    std::transform(layout.split_policies.begin(), layout.split_policies.end(),
                   hello.split_policies.begin(), [](const auto& value) { return value.value(); });
    hello.id = layout.id.value();
    hello.peer_id = layout.peer_id.value();
    hello.size_bytes = layout.size_bytes.value();
    hello.marked_blocks = layout.marked_blocks.value();
    hello.generation_time_seconds = layout.generation_time_seconds.value();
    hello.resync_target = layout.resync_target.value();
    hello.generations = from_layout(layout.generations);
    return hello;
}

template <typename Layout>
Layout layout_at(std::span<const std::byte> bytes) {
    Layout layout;
    std::memcpy(&layout, bytes.data(), sizeof(layout));
    return layout;
}

// What is fixed about each type.
struct Shape {
    std::string_view name;
    size_t fixed_bytes;
    size_t payload_bytes_max;
    uint16_t flags;
    bool changes;  // has a sequence and a barrier
    // The first version that has it as it is: who reads that can read it.
    uint8_t since = 2;
};

constexpr std::array<Shape, kSyncTypeCount> kShapes{{
    {"hello", sizeof(HelloLayout), 0, 0, false},
    {"bitmap", sizeof(TwoLayout), kSyncDataBytesMax, sync_flags::kLast, false},
    {"begin", sizeof(BeginLayout), 0, sync_flags::kFull | sync_flags::kResync, false},
    {"write", sizeof(TwoLayout), kSyncDataBytesMax + kSyncCompressedExtraMax,
     sync_flags::kFua | sync_flags::kCompressed, true},
    {"write-zeroes", sizeof(TwoLayout), 0, sync_flags::kFua | sync_flags::kKeepAllocated, true},
    {"discard", sizeof(TwoLayout), 0, sync_flags::kFua, true},
    {"flush", 0, 0, 0, true},
    {"ack", sizeof(ThreeLayout), 0, 0, false},
    {"resync-data", sizeof(TwoLayout), kSyncDataBytesMax + kSyncCompressedExtraMax,
     sync_flags::kCompressed, true},
    {"resync-zeroes", sizeof(TwoLayout), 0, 0, true},
    {"digests", sizeof(DigestsLayout), kSyncDigestsMax * 16, sync_flags::kVerify, true},
    {"digest-answer", sizeof(DigestsLayout), kSyncDigestsMax / 8 + kSyncDigestsMax * 16,
     sync_flags::kVerify, false},
    {"end", sizeof(EndLayout), 0, 0, true},
    {"adopted", sizeof(OneLayout), 0, 0, false},
    {"read", sizeof(ThreeLayout), 0, 0, false},
    {"read-answer", sizeof(CodedLayout), kSyncDataBytesMax, 0, false},
    {"failed", sizeof(CodedLayout), kSyncTextBytesMax, 0, false},
    {"goodbye", sizeof(CodedLayout), kSyncTextBytesMax, 0, false},
    {"ping", sizeof(OneLayout), 0, 0, false},
    {"pong", sizeof(OneLayout), 0, 0, false},
    {"turn", sizeof(OneLayout), 0, 0, false, 3},
    {"turned", sizeof(CodedLayout), 0, 0, false, 3},
    {"demoted", 0, 0, 0, false, 3},
}};

const Shape& shape_of(SyncType type) {
    return kShapes[static_cast<size_t>(type) - 1];
}

// Relations between the fixed part and the payload.
const char* invalid(const SyncFrame& frame) {
    const size_t payload = frame.payload.size();
    if (const auto* range = std::get_if<SyncRange>(&frame.body)) {
        if (range->length_bytes == 0) return "an empty range";
        if (range->length_bytes > ~uint64_t{0} - range->offset_bytes) return "a range beyond 2^64";
        const bool with_data = frame.type == SyncType::write || frame.type == SyncType::resync_data;
        if (!with_data) return nullptr;
        if (range->length_bytes > kSyncDataBytesMax) return "too much data";
        if ((frame.flags & sync_flags::kCompressed) != 0) {
            return payload == 0 ? "no compressed data" : nullptr;
        }
        return payload == range->length_bytes ? nullptr : "data of another length than its range";
    }
    if (const auto* bitmap = std::get_if<SyncBitmap>(&frame.body)) {
        if (bitmap->block_count > kSyncDataBytesMax * 8) return "a bitmap of too many blocks";
        return payload == (bitmap->block_count + 7) / 8 ? nullptr
                                                        : "bits of another count than said";
    }
    if (const auto* digests = std::get_if<SyncDigests>(&frame.body)) {
        if (digests->count == 0 || digests->count > kSyncDigestsMax)
            return "no or too many digests";
        const size_t bits = (digests->count + 7) / 8;
        if (frame.type == SyncType::digests) {
            return payload == digests->count * size_t{16} ? nullptr : "digests of another count";
        }
        if (payload < bits || (payload - bits) % 16 != 0) return "an answer of another length";
        size_t set = 0;
        for (size_t index = 0; index < bits * 8; ++index) {
            const bool bit =
                (std::to_integer<unsigned>(frame.payload.data()[index / 8]) >> (index % 8) & 1) !=
                0;
            if (bit && index >= digests->count) return "an answer about more blocks than asked";
            set += bit ? 1 : 0;
        }
        const size_t expected = (frame.flags & sync_flags::kVerify) != 0 ? set * 16 : 0;
        return payload - bits == expected ? nullptr : "an answer with another number of digests";
    }
    if (const auto* read = std::get_if<SyncRead>(&frame.body)) {
        if (read->length_bytes == 0 || read->length_bytes > kSyncDataBytesMax)
            return "a read too long";
    }
    if (const auto* answer = std::get_if<SyncReadAnswer>(&frame.body)) {
        if ((answer->code == 0) == (payload == 0)) return "a read's answer is data or an error";
    }
    return nullptr;
}

Result<SyncBody> read_body(SyncType type, std::span<const std::byte> fixed) {
    switch (type) {
        case SyncType::hello:
            return read_hello(layout_at<HelloLayout>(fixed));
        case SyncType::bitmap: {
            const auto layout = layout_at<TwoLayout>(fixed);
            return SyncBitmap{layout.first.value(), layout.second.value()};
        }
        case SyncType::begin: {
            const auto layout = layout_at<BeginLayout>(fixed);
            return SyncBegin{from_layout(layout.generations),
                             layout.generation_time_seconds.value(), layout.blocks_to_come.value(),
                             layout.size_bytes.value()};
        }
        case SyncType::write:
        case SyncType::write_zeroes:
        case SyncType::discard:
        case SyncType::resync_data:
        case SyncType::resync_zeroes: {
            const auto layout = layout_at<TwoLayout>(fixed);
            return SyncRange{layout.first.value(), layout.second.value()};
        }
        case SyncType::flush:
            return SyncFlush{};
        case SyncType::ack: {
            const auto layout = layout_at<ThreeLayout>(fixed);
            return SyncAck{layout.first.value(), layout.second.value(), layout.third.value()};
        }
        case SyncType::digests:
        case SyncType::digest_answer: {
            const auto layout = layout_at<DigestsLayout>(fixed);
            if (!all_zero(layout.reserved)) break;
            return SyncDigests{layout.first_block.value(), layout.count.value()};
        }
        case SyncType::end: {
            const auto layout = layout_at<EndLayout>(fixed);
            return SyncEnd{from_layout(layout.generations), layout.generation_time_seconds.value()};
        }
        case SyncType::adopted:
            return SyncAdopted{layout_at<OneLayout>(fixed).value.value()};
        case SyncType::read: {
            const auto layout = layout_at<ThreeLayout>(fixed);
            return SyncRead{layout.first.value(), layout.second.value(), layout.third.value()};
        }
        case SyncType::read_answer:
        case SyncType::failed:
        case SyncType::goodbye:
        case SyncType::turned: {
            const auto layout = layout_at<CodedLayout>(fixed);
            if (!all_zero(layout.reserved)) break;
            const uint16_t code = layout.code.value();
            if (type == SyncType::read_answer) return SyncReadAnswer{layout.request.value(), code};
            if (layout.request.value() != 0) break;
            if (type == SyncType::failed) return SyncFailed{code};
            if (type == SyncType::turned) return SyncTurned{code};
            return SyncGoodbye{code};
        }
        case SyncType::ping:
        case SyncType::pong:
            return SyncPing{layout_at<OneLayout>(fixed).value.value()};
        case SyncType::turn:
            return SyncTurn{layout_at<OneLayout>(fixed).value.value()};
        case SyncType::demoted:
            return SyncDemoted{};
    }
    return fail(Errc::protocol, "sync frame {}: reserved bytes are not zero", to_string(type));
}

// Appends the fixed part.
struct Writer {
    std::vector<std::byte>& out;

    template <typename Layout>
    void put(const Layout& layout) {
        const auto bytes = std::as_bytes(std::span(&layout, 1));
        out.insert(out.end(), bytes.begin(), bytes.end());
    }
    void coded(uint64_t request, uint16_t code) {
        CodedLayout layout{};
        layout.request = request;
        layout.code = code;
        put(layout);
    }
    void three(uint64_t first, uint64_t second, uint64_t third) {
        ThreeLayout layout;
        layout.first = first;
        layout.second = second;
        layout.third = third;
        put(layout);
    }
    void two(uint64_t first, uint64_t second) {
        TwoLayout layout;
        layout.first = first;
        layout.second = second;
        put(layout);
    }
    void one(uint64_t value) {
        OneLayout layout;
        layout.value = value;
        put(layout);
    }
    void operator()(const SyncHello& hello) { put(to_layout(hello)); }
    void operator()(const SyncBitmap& bitmap) { two(bitmap.first_block, bitmap.block_count); }
    void operator()(const SyncBegin& begin) {
        BeginLayout layout;
        layout.generations = to_layout(begin.generations);
        layout.generation_time_seconds = begin.generation_time_seconds;
        layout.blocks_to_come = begin.blocks_to_come;
        layout.size_bytes = begin.size_bytes;
        put(layout);
    }
    void operator()(const SyncRange& range) { two(range.offset_bytes, range.length_bytes); }
    void operator()(const SyncFlush&) {}
    void operator()(const SyncAck& ack) { three(ack.received, ack.applied, ack.durable); }
    void operator()(const SyncDigests& digests) {
        DigestsLayout layout{};
        layout.first_block = digests.first_block;
        layout.count = digests.count;
        put(layout);
    }
    void operator()(const SyncEnd& end) {
        EndLayout layout;
        layout.generations = to_layout(end.generations);
        layout.generation_time_seconds = end.generation_time_seconds;
        put(layout);
    }
    void operator()(const SyncAdopted& adopted) { one(adopted.generation); }
    void operator()(const SyncRead& read) {
        three(read.request, read.offset_bytes, read.length_bytes);
    }
    void operator()(const SyncReadAnswer& answer) { coded(answer.request, answer.code); }
    void operator()(const SyncFailed& failed) { coded(0, failed.code); }
    void operator()(const SyncGoodbye& goodbye) { coded(0, goodbye.code); }
    void operator()(const SyncPing& ping) { one(ping.token); }
    void operator()(const SyncTurn& turn) { one(turn.generations); }
    void operator()(const SyncTurned& turned) { coded(0, turned.code); }
    void operator()(const SyncDemoted&) {}
};

uint64_t header_checksum_of(HeaderLayout layout) {
    layout.header_checksum = 0;
    return checksum64(std::as_bytes(std::span(&layout, 1)));
}

uint64_t body_checksum_of(std::span<const std::byte> fixed, std::span<const std::byte> payload) {
    return XXH3_64bits_withSeed(payload.data(), payload.size(), checksum64(fixed));
}

}  // namespace

SharedBytes SharedBytes::make(size_t bytes) {
    SharedBytes made;
    made.owner_ = std::make_shared_for_overwrite<std::byte[]>(bytes);
    made.data_ = made.owner_.get();
    made.size_ = bytes;
    return made;
}

SharedBytes SharedBytes::copy_of(std::span<const std::byte> bytes) {
    SharedBytes made = make(bytes.size());
    if (!bytes.empty()) std::memcpy(made.data_, bytes.data(), bytes.size());
    return made;
}

SharedBytes SharedBytes::part(size_t offset, size_t bytes) const {
    FT_CHECK(offset <= size_ && bytes <= size_ - offset, "a part at {} of {} bytes, of {}", offset,
             bytes, size_);
    SharedBytes made = *this;
    made.data_ += offset;
    made.size_ = bytes;
    return made;
}

bool operator==(const SharedBytes& one, const SharedBytes& other) {
    return std::ranges::equal(one.span(), other.span());
}

std::string_view to_string(SyncType type) {
    const auto index = static_cast<size_t>(type);
    return index >= 1 && index <= kSyncTypeCount ? shape_of(type).name : "unknown";
}

std::vector<std::byte> encode_head(const SyncFrame& frame) {
    const Shape& shape = shape_of(frame.type);
    const char* rule = invalid(frame);
    FT_CHECK(rule == nullptr, "sync frame {}: {}", shape.name, rule ? rule : "");
    FT_CHECK(frame.payload.size() <= shape.payload_bytes_max, "sync frame {}: {} bytes", shape.name,
             frame.payload.size());
    FT_CHECK(frame.version >= shape.since, "sync frame {}: of version {}", shape.name,
             frame.version);
    std::vector<std::byte> head(kSyncHeaderBytes);
    head.reserve(kSyncHeaderBytes + shape.fixed_bytes + frame.payload.size());
    std::visit(Writer{head}, frame.body);
    const auto fixed = std::span(head).subspan(kSyncHeaderBytes);
    FT_CHECK(fixed.size() == shape.fixed_bytes, "sync frame {}: its body is another type's",
             shape.name);
    HeaderLayout layout{};
    layout.magic = kSyncMagic;
    layout.protocol = kSyncProtocol;
    layout.type = static_cast<uint8_t>(frame.type);
    layout.version = frame.version;
    layout.compat = shape.since;
    layout.flags = frame.flags;
    layout.disk = frame.disk;
    layout.body_bytes = static_cast<uint32_t>(fixed.size() + frame.payload.size());
    layout.pair = frame.pair.value();
    layout.epoch = frame.epoch.value();
    layout.sequence = frame.sequence;
    layout.barrier = frame.barrier;
    layout.body_checksum = body_checksum_of(fixed, frame.payload.span());
    layout.header_checksum = header_checksum_of(layout);
    std::memcpy(head.data(), &layout, sizeof(layout));
    return head;
}

std::vector<std::byte> encode(const SyncFrame& frame) {
    std::vector<std::byte> bytes = encode_head(frame);
    bytes.insert(bytes.end(), frame.payload.span().begin(), frame.payload.span().end());
    return bytes;
}

Result<SyncHeader> decode_sync_header(std::span<const std::byte, kSyncHeaderBytes> header) {
    const auto layout = layout_at<HeaderLayout>(header);
    if (layout.magic.value() != kSyncMagic)
        return fail(Errc::protocol, "sync frame: magic is wrong");
    if (layout.header_checksum.value() != header_checksum_of(layout)) {
        return fail(Errc::corrupt, "sync frame: header checksum is wrong");
    }
    if (layout.protocol.value() != kSyncProtocol) {
        return fail(Errc::protocol, "sync frame: protocol {}, expected {}", layout.protocol.value(),
                    kSyncProtocol);
    }
    if (layout.compat.value() > kSyncVersion || layout.version.value() < kSyncVersionMin) {
        return fail(Errc::version,
                    "sync frame: version {} (readable from {}), this program speaks {} to {}",
                    layout.version.value(), layout.compat.value(), kSyncVersionMin, kSyncVersion);
    }
    const uint8_t type = layout.type.value();
    if (type < 1 || type > kSyncTypeCount) return fail(Errc::protocol, "sync frame: type {}", type);
    const Shape& shape = shape_of(static_cast<SyncType>(type));
    const uint8_t version = layout.version.value();
    if (version < shape.since ||
        (version <= kSyncVersion && layout.compat.value() != shape.since)) {
        return fail(Errc::protocol, "sync frame {}: version {}, readable from {}", shape.name,
                    version, layout.compat.value());
    }
    if ((layout.flags.value() & ~shape.flags) != 0) {
        return fail(Errc::protocol, "sync frame {}: flags {:#x}", shape.name, layout.flags.value());
    }
    const uint32_t bytes = layout.body_bytes.value();
    if (bytes < shape.fixed_bytes || bytes > shape.fixed_bytes + shape.payload_bytes_max) {
        return fail(Errc::protocol, "sync frame {}: {} bytes of body", shape.name, bytes);
    }
    if (shape.changes != (layout.sequence.value() != 0)) {
        return fail(Errc::protocol, "sync frame {}: sequence {}", shape.name,
                    layout.sequence.value());
    }
    if (!shape.changes && layout.barrier.value() != 0) {
        return fail(Errc::protocol, "sync frame {}: barrier {}", shape.name,
                    layout.barrier.value());
    }
    return SyncHeader{static_cast<SyncType>(type), bytes};
}

Result<SyncFrame> decode_sync_frame(std::span<const std::byte, kSyncHeaderBytes> header,
                                    const SharedBytes& body) {
    FT_TRY(const SyncHeader checked, decode_sync_header(header));
    const auto layout = layout_at<HeaderLayout>(header);
    const Shape& shape = shape_of(checked.type);
    if (body.size() != checked.body_bytes) {
        return fail(Errc::protocol, "sync frame {}: {} bytes of body, its header says {}",
                    shape.name, body.size(), checked.body_bytes);
    }
    const auto fixed = body.span().first(shape.fixed_bytes);
    if (layout.body_checksum.value() !=
        body_checksum_of(fixed, body.span().subspan(shape.fixed_bytes))) {
        return fail(Errc::corrupt, "sync frame {}: body checksum is wrong", shape.name);
    }
    SyncFrame frame;
    frame.type = checked.type;
    frame.version = layout.version.value();
    frame.flags = layout.flags.value();
    frame.disk = layout.disk.value();
    frame.pair = PairId(layout.pair.value());
    frame.epoch = Epoch(layout.epoch.value());
    frame.sequence = layout.sequence.value();
    frame.barrier = layout.barrier.value();
    FT_TRY(frame.body, read_body(checked.type, fixed));
    if (body.size() > shape.fixed_bytes) {
        frame.payload = body.part(shape.fixed_bytes, body.size() - shape.fixed_bytes);
    }
    if (const char* rule = invalid(frame)) {
        return fail(Errc::protocol, "sync frame {}: {}", shape.name, rule);
    }
    return frame;
}

Result<SyncFrame> decode_sync_message(std::span<const std::byte> message) {
    if (message.size() < kSyncHeaderBytes) {
        return fail(Errc::protocol, "sync frame: {} bytes", message.size());
    }
    const auto header = message.first<kSyncHeaderBytes>();
    FT_TRY(const SyncHeader checked, decode_sync_header(header));
    if (message.size() - kSyncHeaderBytes != checked.body_bytes) {
        return fail(Errc::protocol, "sync frame {}: {} bytes of body, its header says {}",
                    to_string(checked.type), message.size() - kSyncHeaderBytes, checked.body_bytes);
    }
    return decode_sync_frame(header, SharedBytes::copy_of(message.subspan(kSyncHeaderBytes)));
}

}  // namespace antipode::wire
