#include "common/wire/arbiter_frames.h"

#include <algorithm>
#include <array>
#include <boost/endian/buffers.hpp>
#include <cstring>
#include <xxhash.h>

#include "common/base/check.h"

namespace antipode::wire {
namespace {

using boost::endian::little_uint16_buf_t;
using boost::endian::little_uint32_buf_t;
using boost::endian::little_uint64_buf_t;
using boost::endian::little_uint8_buf_t;

constexpr std::array<char, 4> kMagic{'A', 'P', 'T', 'B'};
constexpr uint16_t kVersion = 1;
constexpr uint16_t kCompat = 1;

struct HeaderLayout {
    std::array<char, 4> magic;
    little_uint16_buf_t protocol;
    little_uint8_buf_t type;
    little_uint8_buf_t flags;  // none yet: zero
    little_uint16_buf_t version;
    little_uint16_buf_t compat;  // the lowest version that a reader must know
    little_uint32_buf_t body_bytes;
    little_uint64_buf_t pair_id;  // XXH64 of the pair's name; 0 in frames about no pair
    little_uint64_buf_t store;
    little_uint64_buf_t epoch;
    little_uint64_buf_t number;
    little_uint64_buf_t header_xxh64;  // of all before it
    little_uint64_buf_t body_xxh64;
};
static_assert(sizeof(HeaderLayout) == kArbiterHeaderBytes && alignof(HeaderLayout) == 1);
constexpr size_t kHeaderCheckedBytes = offsetof(HeaderLayout, header_xxh64);

using NameLayout = std::array<char, Name::kBytes>;
struct MemberLayout {
    NameLayout site;
    little_uint64_buf_t incarnation;
};
struct RecordLayout {
    NameLayout pair;
    little_uint64_buf_t store;
    little_uint64_buf_t epoch;
    little_uint8_buf_t mode;
    std::array<uint8_t, 7> reserved;
    MemberLayout holder;
    std::array<MemberLayout, 2> members;
    std::array<NameLayout, 2> sites;
};
struct RecordTailLayout {
    NameLayout third;
    NameLayout former;
};
struct RequestTailLayout {
    std::array<NameLayout, 3> sites;
};
static_assert(sizeof(RecordTailLayout) == kRecordTailBytes);
static_assert(sizeof(RequestTailLayout) == kRequestTailBytes);
static_assert(sizeof(RecordLayout) == kRecordBytes && alignof(RecordLayout) == 1);
struct RequestLayout {
    little_uint8_buf_t kind;
    std::array<uint8_t, 7> reserved;
    NameLayout pair;
    little_uint64_buf_t store;
    little_uint64_buf_t epoch;
    MemberLayout me;
    MemberLayout other;
};
static_assert(sizeof(RequestLayout) == 136 && alignof(RequestLayout) == 1);
struct AnswerLayout {
    little_uint8_buf_t kind;
    little_uint8_buf_t reason;
    std::array<uint8_t, 6> reserved;
    RequestLayout request;
    RecordLayout record;
    little_uint64_buf_t store;
};
static_assert(sizeof(AnswerLayout) == kAnswerBytes && alignof(AnswerLayout) == 1);
struct HelloLayout {
    NameLayout site;
    std::array<uint8_t, 32> reserved;
};
struct WelcomeLayout {
    NameLayout tiebreaker;
    little_uint32_buf_t idle_limit_ms;
    std::array<uint8_t, 28> reserved;
};
struct WatchLayout {
    NameLayout pair;
    MemberLayout me;
};
struct RecordFrameLayout {
    NameLayout pair;
    little_uint8_buf_t known;
    std::array<uint8_t, 7> reserved;
    RecordLayout record;
};
struct ErrorLayout {  // followed by text_bytes of UTF-8
    little_uint16_buf_t code;
    little_uint16_buf_t text_bytes;
    std::array<uint8_t, 12> reserved;
};
static_assert(sizeof(HelloLayout) == 64 && sizeof(WelcomeLayout) == 64);
static_assert(sizeof(WatchLayout) == 72 && sizeof(RecordFrameLayout) == 280);
static_assert(sizeof(ErrorLayout) + kArbiterErrorTextBytesMax + kArbiterHeaderBytes <=
              kArbiterFrameBytesMax);

// On the wire; the order of ArbiterBody's alternatives, counted from 1.
enum class Type : uint8_t {
    hello = 1,
    welcome,
    request,
    answer,
    watch,
    record,
    ping,
    pong,
    error,
};
static_assert(std::variant_size_v<ArbiterBody> == static_cast<size_t>(Type::error));

struct BodyBytes {
    size_t min;
    size_t max;
};

BodyBytes body_bytes_of(Type type) {
    constexpr auto exactly = [](size_t bytes) { return BodyBytes{bytes, bytes}; };
    switch (type) {
        case Type::hello:
            return exactly(sizeof(HelloLayout));
        case Type::welcome:
            return exactly(sizeof(WelcomeLayout));
        case Type::request:
            return {sizeof(RequestLayout), sizeof(RequestLayout) + kRequestTailBytes};
        case Type::answer:
            return {sizeof(AnswerLayout),
                    sizeof(AnswerLayout) + kRequestTailBytes + kRecordTailBytes};
        case Type::watch:
            return exactly(sizeof(WatchLayout));
        case Type::record:
            return {sizeof(RecordFrameLayout), sizeof(RecordFrameLayout) + kRecordTailBytes};
        case Type::ping:
        case Type::pong:
            return exactly(0);
        case Type::error:
            return {sizeof(ErrorLayout), sizeof(ErrorLayout) + kArbiterErrorTextBytesMax};
    }
    return exactly(0);
}

uint64_t pair_id(const Name& pair) {
    return pair.empty() ? 0 : XXH64(pair.view().data(), pair.view().size(), 0);
}

// ---- Encoding ----

MemberLayout lay_out(const Member& member) {
    MemberLayout out{};
    out.site = member.site.bytes();
    out.incarnation = member.incarnation.value();
    return out;
}

RecordLayout lay_out(const Record& record) {
    RecordLayout out{};
    out.pair = record.pair.bytes();
    out.store = record.store.value();
    out.epoch = record.epoch.value();
    out.mode = static_cast<uint8_t>(record.mode);
    out.holder = lay_out(record.holder);
    for (size_t i = 0; i < 2; ++i) {
        out.members[i] = lay_out(record.members[i]);
        out.sites[i] = record.sites[i].bytes();
    }
    return out;
}

RequestLayout lay_out(const Request& request) {
    RequestLayout out{};
    out.kind = static_cast<uint8_t>(request.kind);
    out.pair = request.pair.bytes();
    out.store = request.store.value();
    out.epoch = request.epoch.value();
    out.me = lay_out(request.me);
    out.other = lay_out(request.other);
    return out;
}

AnswerLayout lay_out(const Answer& answer) {
    AnswerLayout out{};
    out.kind = static_cast<uint8_t>(answer.kind);
    out.reason = static_cast<uint8_t>(answer.reason);
    out.request = lay_out(answer.request);
    out.record = lay_out(answer.record);
    out.store = answer.store.value();
    return out;
}

HelloLayout lay_out(const ArbiterHello& hello) {
    HelloLayout out{};
    out.site = hello.site.bytes();
    return out;
}

WelcomeLayout lay_out(const ArbiterWelcome& welcome) {
    WelcomeLayout out{};
    out.tiebreaker = welcome.tiebreaker.bytes();
    out.idle_limit_ms = static_cast<uint32_t>(welcome.idle_limit.count());
    return out;
}

WatchLayout lay_out(const ArbiterWatch& watch) {
    WatchLayout out{};
    out.pair = watch.pair.bytes();
    out.me = lay_out(watch.me);
    return out;
}

RecordFrameLayout lay_out(const ArbiterRecord& body) {
    RecordFrameLayout out{};
    out.pair = body.pair.bytes();
    out.known = body.record ? 1 : 0;
    if (body.record) {
        FT_CHECK(body.record->pair == body.pair, "record of {} sent as one of {}",
                 body.record->pair, body.pair);
        out.record = lay_out(*body.record);
    }
    return out;
}

template <typename Layout>
void append(std::string& out, const Layout& layout) {
    static_assert(std::is_trivially_copyable_v<Layout> && alignof(Layout) == 1);
    out.append(reinterpret_cast<const char*>(&layout), sizeof(layout));
}

// A pair of two sites has no tails: its bytes are those of software that knows no others.
void append_tail(std::string& out, const Record& record) {
    if (record.sites[2].empty()) return;
    append(out, RecordTailLayout{record.sites[2].bytes(), record.former.bytes()});
}

void append_tail(std::string& out, const Request& request) {
    if (request.sites[0].empty()) return;
    append(out, RequestTailLayout{{request.sites[0].bytes(), request.sites[1].bytes(),
                                   request.sites[2].bytes()}});
}

template <typename Body>
void append_body(std::string& out, const Body& body) {
    append(out, lay_out(body));
}
void append_body(std::string& out, const Request& request) {
    append(out, lay_out(request));
    append_tail(out, request);
}
void append_body(std::string& out, const Answer& answer) {
    append(out, lay_out(answer));
    append_tail(out, answer.request);
    append_tail(out, answer.record);
}
void append_body(std::string& out, const ArbiterRecord& body) {
    append(out, lay_out(body));
    if (body.record) append_tail(out, *body.record);
}
void append_body(std::string&, const ArbiterPing&) {}
void append_body(std::string&, const ArbiterPong&) {}
void append_body(std::string& out, const ArbiterError& error) {
    const auto bytes = std::min(error.text.size(), kArbiterErrorTextBytesMax);
    ErrorLayout layout{};
    layout.code = static_cast<uint16_t>(error.code);
    layout.text_bytes = static_cast<uint16_t>(bytes);
    append(out, layout);
    out.append(error.text, 0, bytes);
}

// What the header repeats of the body.
struct About {
    Name pair;
    Epoch epoch;
    std::optional<StoreIdentity> store;  // nullopt: the body has none
};

template <typename Body>
About about(const Body&) {
    return {};
}
About about(const Request& request) {
    return {request.pair, request.epoch, request.store};
}
About about(const Answer& answer) {
    return {answer.request.pair, answer.record.epoch, answer.store};
}
About about(const ArbiterWatch& watch) {
    return {watch.pair, {}, {}};
}
About about(const ArbiterRecord& body) {
    return {body.pair, body.record ? body.record->epoch : Epoch(), {}};
}

// ---- Decoding ----

Failure broken(std::string_view rule) {
    return fail(Errc::protocol, "tiebreaker frame: {}", rule);
}

template <size_t N>
bool all_zero(const std::array<uint8_t, N>& bytes) {
    return std::all_of(bytes.begin(), bytes.end(), [](uint8_t b) { return b == 0; });
}

template <typename Layout>
Layout layout_from(std::span<const std::byte> bytes) {
    Layout layout;
    std::memcpy(&layout, bytes.data(), sizeof(layout));
    return layout;
}

// Reads fields and remembers the first rule that is broken, so that the readers stay plain.
class Reader {
  public:
    void require(bool holds, const char* rule) {
        if (!holds && rule_ == nullptr) rule_ = rule;
    }
    const char* rule() const { return rule_; }

    Name name(const NameLayout& bytes, const char* rule) {
        const size_t length = strnlen(bytes.data(), bytes.size());
        const auto rest = bytes.begin() + static_cast<ptrdiff_t>(length);
        require(std::all_of(rest, bytes.end(), [](char c) { return c == 0; }), rule);
        if (length == 0) return {};
        auto name = Name::parse({bytes.data(), length}, "");
        require(name.has_value(), rule);
        return name ? *name : Name();
    }
    Member member(const MemberLayout& in) {
        return {name(in.site, "a member's site is not a name"),
                Incarnation(in.incarnation.value())};
    }
    template <typename Enum>
    Enum word(uint8_t value, Enum last, const char* rule) {
        require(value >= 1 && value <= static_cast<uint8_t>(last), rule);
        return static_cast<Enum>(value);
    }

    Record read(const RecordLayout& in) {
        Record out;
        out.pair = name(in.pair, "the record's pair is not a name");
        out.store = StoreIdentity(in.store.value());
        out.epoch = Epoch(in.epoch.value());
        out.mode = word(in.mode.value(), PairMode::solo, "the record's mode is not known");
        out.holder = member(in.holder);
        for (size_t i = 0; i < 2; ++i) {
            out.members[i] = member(in.members[i]);
            out.sites[i] = name(in.sites[i], "a site of the record is not a name");
        }
        require(all_zero(in.reserved), "reserved bytes of the record are not zero");
        return out;
    }
    Request read(const RequestLayout& in) {
        Request out;
        out.kind = word(in.kind.value(), RequestKind::forget, "the request's kind is not known");
        out.pair = name(in.pair, "the request's pair is not a name");
        out.store = StoreIdentity(in.store.value());
        out.epoch = Epoch(in.epoch.value());
        out.me = member(in.me);
        out.other = member(in.other);
        require(all_zero(in.reserved), "reserved bytes of the request are not zero");
        return out;
    }
    Answer read(const AnswerLayout& in) {
        Answer out;
        out.kind = word(in.kind.value(), AnswerKind::refused, "the answer's kind is not known");
        out.reason =
            word(in.reason.value(), RefusalReason::malformed, "the answer's reason is not known");
        out.request = read(in.request);
        out.record = read(in.record);
        out.store = StoreIdentity(in.store.value());
        require(all_zero(in.reserved), "reserved bytes of the answer are not zero");
        return out;
    }
    void read_tail(const RecordTailLayout& in, Record& out) {
        out.sites[2] = name(in.third, "the third site of the record is not a name");
        out.former = name(in.former, "the former site of the record is not a name");
        require(!out.sites[2].empty(), "the third site of the record is empty");
    }
    void read_tail(const RequestTailLayout& in, Request& out) {
        for (size_t i = 0; i < 3; ++i) {
            out.sites[i] = name(in.sites[i], "a site of the request is not a name");
            require(!out.sites[i].empty(), "a site of the request is empty");
        }
    }
    // All that is left of the body: such a tail, or nothing.
    template <typename Tail, typename Out>
    void read_last_tail(std::span<const std::byte> rest, Out& out, const char* rule) {
        require(rest.empty() || rest.size() == sizeof(Tail), rule);
        if (rest.size() == sizeof(Tail)) read_tail(layout_from<Tail>(rest), out);
    }
    ArbiterHello read(const HelloLayout& in) {
        require(all_zero(in.reserved), "reserved bytes of the hello are not zero");
        ArbiterHello out{name(in.site, "the hello's site is not a name")};
        require(!out.site.empty(), "the hello's site is empty");
        return out;
    }
    ArbiterWelcome read(const WelcomeLayout& in) {
        require(all_zero(in.reserved), "reserved bytes of the welcome are not zero");
        return {name(in.tiebreaker, "the welcome's tiebreaker is not a name"),
                std::chrono::milliseconds(in.idle_limit_ms.value())};
    }
    ArbiterWatch read(const WatchLayout& in) {
        ArbiterWatch out{name(in.pair, "the watch's pair is not a name"), member(in.me)};
        require(!out.pair.empty(), "the watch's pair is empty");
        return out;
    }
    ArbiterRecord read(const RecordFrameLayout& in) {
        ArbiterRecord out{name(in.pair, "the record's pair is not a name"), {}};
        require(!out.pair.empty(), "the record's pair is empty");
        require(all_zero(in.reserved), "reserved bytes of the record are not zero");
        require(in.known.value() <= 1, "known is neither 0 nor 1");
        if (in.known.value() == 1) {
            out.record = read(in.record);
            require(out.record->pair == out.pair, "the record is of another pair");
        } else {
            const RecordLayout zero{};
            require(std::memcmp(&in.record, &zero, sizeof(zero)) == 0,
                    "an unknown record is not zero");
        }
        return out;
    }

  private:
    const char* rule_ = nullptr;
};

Result<ArbiterBody> decode_error_body(std::span<const std::byte> bytes) {
    const auto layout = layout_from<ErrorLayout>(bytes);
    const auto text = bytes.subspan(sizeof(layout));
    const uint16_t code = layout.code.value();
    if (code < 1 || code > static_cast<uint16_t>(Errc::diverged)) {
        return broken("the error's code is not known");
    }
    if (layout.text_bytes.value() != text.size()) {
        return broken("the error's text has another length");
    }
    if (!all_zero(layout.reserved)) return broken("reserved bytes of the error are not zero");
    return ArbiterError{static_cast<Errc>(code),
                        std::string(reinterpret_cast<const char*>(text.data()), text.size())};
}

template <typename Layout>
Result<ArbiterBody> decode_fixed(std::span<const std::byte> bytes) {
    Reader reader;
    ArbiterBody body = reader.read(layout_from<Layout>(bytes));
    if (reader.rule() != nullptr) return broken(reader.rule());
    return body;
}

Result<ArbiterBody> decode_request_body(std::span<const std::byte> bytes) {
    const auto tail = bytes.subspan(sizeof(RequestLayout));
    Reader reader;
    Request request = reader.read(layout_from<RequestLayout>(bytes));
    reader.read_last_tail<RequestTailLayout>(tail, request, "the request has another length");
    if (reader.rule() != nullptr) return broken(reader.rule());
    return ArbiterBody(std::move(request));
}

Result<ArbiterBody> decode_answer_body(std::span<const std::byte> bytes) {
    auto tail = bytes.subspan(sizeof(AnswerLayout));
    Reader reader;
    Answer answer = reader.read(layout_from<AnswerLayout>(bytes));
    if (tail.size() >= kRequestTailBytes) {
        reader.read_tail(layout_from<RequestTailLayout>(tail), answer.request);
        tail = tail.subspan(kRequestTailBytes);
    }
    reader.read_last_tail<RecordTailLayout>(tail, answer.record, "the answer has another length");
    if (reader.rule() != nullptr) return broken(reader.rule());
    return ArbiterBody(std::move(answer));
}

Result<ArbiterBody> decode_record_body(std::span<const std::byte> bytes) {
    const auto tail = bytes.subspan(sizeof(RecordFrameLayout));
    Reader reader;
    ArbiterRecord body = reader.read(layout_from<RecordFrameLayout>(bytes));
    constexpr const char* kRule = "the record has another length";
    if (body.record) {
        reader.read_last_tail<RecordTailLayout>(tail, *body.record, kRule);
    } else {
        reader.require(tail.empty(), kRule);
    }
    if (reader.rule() != nullptr) return broken(reader.rule());
    return ArbiterBody(std::move(body));
}

Result<ArbiterBody> decode_body(Type type, std::span<const std::byte> bytes) {
    switch (type) {
        case Type::hello:
            return decode_fixed<HelloLayout>(bytes);
        case Type::welcome:
            return decode_fixed<WelcomeLayout>(bytes);
        case Type::request:
            return decode_request_body(bytes);
        case Type::answer:
            return decode_answer_body(bytes);
        case Type::watch:
            return decode_fixed<WatchLayout>(bytes);
        case Type::record:
            return decode_record_body(bytes);
        case Type::ping:
            return ArbiterBody(ArbiterPing{});
        case Type::pong:
            return ArbiterBody(ArbiterPong{});
        case Type::error:
            return decode_error_body(bytes);
    }
    return broken("the type is not known");
}

}  // namespace

void encode(const ArbiterFrame& frame, std::string& out) {
    const size_t start = out.size();
    out.append(sizeof(HeaderLayout), '\0');
    std::visit([&](const auto& body) { append_body(out, body); }, frame.body);
    const std::string_view body = std::string_view(out).substr(start + sizeof(HeaderLayout));
    const About repeated = std::visit([](const auto& b) { return about(b); }, frame.body);
    HeaderLayout header{};
    header.magic = kMagic;
    header.protocol = kArbiterProtocol;
    header.type = static_cast<uint8_t>(frame.body.index() + 1);
    header.version = kVersion;
    header.compat = kCompat;
    header.body_bytes = static_cast<uint32_t>(body.size());
    header.pair_id = pair_id(repeated.pair);
    header.store = repeated.store.value_or(frame.store).value();
    header.epoch = repeated.epoch.value();
    header.number = frame.number;
    header.header_xxh64 = XXH64(&header, kHeaderCheckedBytes, 0);
    header.body_xxh64 = XXH64(body.data(), body.size(), 0);
    std::memcpy(out.data() + start, &header, sizeof(header));
}

Result<size_t> arbiter_frame_bytes(std::span<const std::byte> bytes) {
    if (bytes.size() < kArbiterHeaderBytes) return broken("the header is cut short");
    const auto header = layout_from<HeaderLayout>(bytes);
    if (header.magic != kMagic) return broken("it does not begin with APTB");
    if (header.header_xxh64.value() != XXH64(&header, kHeaderCheckedBytes, 0)) {
        return fail(Errc::corrupt, "tiebreaker frame: the header's checksum does not hold");
    }
    if (header.protocol.value() != kArbiterProtocol) {
        return fail(Errc::version, "tiebreaker frame: the peer speaks protocol {}, this is {}",
                    header.protocol.value(), kArbiterProtocol);
    }
    if (header.compat.value() > kVersion || header.version.value() != kVersion) {
        return fail(Errc::version, "tiebreaker frame: version {} (compatible to {}), this is {}",
                    header.version.value(), header.compat.value(), kVersion);
    }
    const uint8_t type = header.type.value();
    if (type < 1 || type > static_cast<uint8_t>(Type::error)) {
        return broken("the type is not known");
    }
    if (header.flags.value() != 0) return broken("flags are not zero");
    const BodyBytes limit = body_bytes_of(static_cast<Type>(type));
    const size_t body_bytes = header.body_bytes.value();
    if (body_bytes < limit.min || body_bytes > limit.max) {
        return fail(Errc::protocol,
                    "tiebreaker frame: a body of type {} has {} bytes, {} to {} are allowed", type,
                    body_bytes, limit.min, limit.max);
    }
    return kArbiterHeaderBytes + body_bytes;
}

Result<ArbiterFrame> decode_arbiter_frame(std::span<const std::byte> bytes) {
    FT_TRY(const size_t frame_bytes, arbiter_frame_bytes(bytes));
    if (bytes.size() != frame_bytes) return broken("the frame has another length");
    const auto header = layout_from<HeaderLayout>(bytes);
    const auto body_bytes = bytes.subspan(kArbiterHeaderBytes);
    if (header.body_xxh64.value() != XXH64(body_bytes.data(), body_bytes.size(), 0)) {
        return fail(Errc::corrupt, "tiebreaker frame: the body's checksum does not hold");
    }
    if (header.compat.value() != kCompat) return broken("compat is not this version's");
    FT_TRY(ArbiterBody body, decode_body(static_cast<Type>(header.type.value()), body_bytes));
    const About repeated = std::visit([](const auto& b) { return about(b); }, body);
    const StoreIdentity store(header.store.value());
    if (header.pair_id.value() != pair_id(repeated.pair)) {
        return broken("the header is of another pair");
    }
    if (header.epoch.value() != repeated.epoch.value()) {
        return broken("the header has another epoch");
    }
    if (repeated.store.value_or(store) != store) return broken("the header has another store");
    return ArbiterFrame{header.number.value(), store, std::move(body)};
}

void ArbiterFrameBuffer::append(std::span<const std::byte> bytes) {
    buffer_.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

Result<std::optional<ArbiterFrame>> ArbiterFrameBuffer::next() {
    const auto rest = std::as_bytes(std::span(buffer_)).subspan(start_);
    size_t frame_bytes = 0;
    if (rest.size() >= kArbiterHeaderBytes) {
        FT_TRY(frame_bytes, arbiter_frame_bytes(rest));
    }
    if (frame_bytes == 0 || rest.size() < frame_bytes) {
        buffer_.erase(0, start_);
        start_ = 0;
        if (buffer_.empty()) std::string().swap(buffer_);  // an idle connection holds nothing
        return std::nullopt;
    }
    FT_TRY(ArbiterFrame frame, decode_arbiter_frame(rest.first(frame_bytes)));
    start_ += frame_bytes;
    return std::optional<ArbiterFrame>(std::move(frame));
}

std::string encode_record(const Record& record) {
    std::string out;
    append(out, lay_out(record));
    append_tail(out, record);
    const little_uint64_buf_t checksum(XXH64(out.data(), out.size(), 0));
    append(out, checksum);
    return out;
}

Result<Record> decode_record(std::span<const std::byte> bytes) {
    const bool three_sites = bytes.size() == kStoredRecordBytes + kRecordTailBytes;
    if (bytes.size() != kStoredRecordBytes && !three_sites) {
        return fail(Errc::corrupt, "stored record: {} bytes, expected {} or {}", bytes.size(),
                    kStoredRecordBytes, kStoredRecordBytes + kRecordTailBytes);
    }
    const size_t checked_bytes = bytes.size() - sizeof(little_uint64_buf_t);
    const auto checksum = layout_from<little_uint64_buf_t>(bytes.subspan(checked_bytes));
    if (checksum.value() != XXH64(bytes.data(), checked_bytes, 0)) {
        return fail(Errc::corrupt, "stored record: the checksum does not hold");
    }
    Reader reader;
    Record record = reader.read(layout_from<RecordLayout>(bytes));
    if (three_sites) {
        reader.read_tail(layout_from<RecordTailLayout>(bytes.subspan(kRecordBytes)), record);
    }
    if (reader.rule() != nullptr) return fail(Errc::corrupt, "stored record: {}", reader.rule());
    return record;
}

std::string_view to_string(const ArbiterBody& body) {
    switch (static_cast<Type>(body.index() + 1)) {
        case Type::hello:
            return "hello";
        case Type::welcome:
            return "welcome";
        case Type::request:
            return "request";
        case Type::answer:
            return "answer";
        case Type::watch:
            return "watch";
        case Type::record:
            return "record";
        case Type::ping:
            return "ping";
        case Type::pong:
            return "pong";
        case Type::error:
            return "error";
    }
    return "?";
}

}  // namespace antipode::wire
