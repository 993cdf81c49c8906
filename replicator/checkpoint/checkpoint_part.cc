#include "replicator/checkpoint/checkpoint_part.h"

#include <algorithm>
#include <array>
#include <xxhash.h>
#include <zstd.h>

#include "common/base/all_zero.h"
#include "common/base/check.h"
#include "replicator/vmm/state_io.h"

namespace antipode::checkpoint {
namespace {

using vmm::StateReader;
using vmm::StateWriter;

constexpr uint8_t kVersion = 1;
constexpr int kLevel = 1;
// version, kind, encoding, reserved; checkpoint; content bytes; checksum
constexpr size_t kHeaderBytes = 4 + 8 + 4 + 8;
constexpr size_t kPageBytes = vmm::layout::kPageBytes;
// Below this, compression costs more than it saves.
constexpr size_t kPackedFrom = 128;
constexpr uint64_t kPageNumberMax = UINT64_MAX / 2;
// number, kind, device, byte count
constexpr size_t kOutputFixedBytes = 8 + 1 + 4 + 4;
constexpr size_t kOutputBytesMax = 1 << 16;

enum class Kind : uint8_t { pages = 1, outputs = 2, machine = 3, end = 4 };
enum class Encoding : uint8_t { raw = 0, zstd = 1 };

struct ContentWriter {
    StateWriter& out;

    Kind operator()(const PagesPart& body) const {
        FT_CHECK(!body.pages.empty(), "a part without pages");
        FT_CHECK(body.pages.size() <= PagesPart::kPagesMax, "{} pages", body.pages.size());
        out.put(static_cast<uint32_t>(body.pages.size()));
        uint64_t next = 0;
        for (const auto& page : body.pages) {
            FT_CHECK(page.number >= next, "page {} out of order", page.number);
            FT_CHECK(page.number < kPageNumberMax, "page {}", page.number);
            FT_CHECK(page.bytes.empty() || page.bytes.size() == kPageBytes, "half a page");
            out.put(page.number << 1 | (page.bytes.empty() ? 0u : 1u));
            next = page.number + 1;
        }
        for (const auto& page : body.pages) {
            out.put_fixed({reinterpret_cast<const uint8_t*>(page.bytes.data()), page.bytes.size()});
        }
        return Kind::pages;
    }
    Kind operator()(const OutputsPart& body) const {
        FT_CHECK(!body.outputs.empty(), "a part without outputs");
        out.put(static_cast<uint32_t>(body.outputs.size()));
        for (const auto& each : body.outputs) {
            FT_CHECK(each.output.bytes.size() <= kOutputBytesMax, "{} bytes",
                     each.output.bytes.size());
            out.put(each.number.value());
            out.put(each.output.kind);
            out.put(each.output.device);
            out.put_bytes(each.output.bytes);
        }
        return Kind::outputs;
    }
    Kind operator()(const MachinePart& body) const {
        FT_CHECK(!body.bytes.empty(), "a part without state");
        FT_CHECK(body.bytes.size() <= Part::kMachineBytesMax, "{} bytes", body.bytes.size());
        out.put_bytes(body.bytes);
        return Kind::machine;
    }
    Kind operator()(const EndPart& body) const {
        out.put(body.part_count);
        out.put(body.guest_clock_ns);
        out.put(body.output.value());
        out.put(static_cast<uint8_t>(body.held ? 1 : 0));
        out.put_bytes(body.cpus);
        return Kind::end;
    }
};

Failure broken(const char* rule) {
    return fail(Errc::protocol, "checkpoint part: {}", rule);
}

using Body = decltype(Part::body);

// Numbers first, then the contents of those that have any.
Result<Body> read_pages(std::span<const std::byte> content) {
    StateReader in(content);
    const auto count = in.get<uint32_t>();
    if (count == 0 || count > PagesPart::kPagesMax) return broken("page count is out of range");
    PagesPart body;
    uint64_t next = 0;
    size_t full_count = 0;
    std::array<bool, PagesPart::kPagesMax> full{};
    for (uint32_t i = 0; i < count && in.ok(); ++i) {
        const auto packed = in.get<uint64_t>();
        const uint64_t number = packed >> 1;
        if (number < next || number >= kPageNumberMax) return broken("pages are out of order");
        body.pages.push_back({number, {}});
        full[i] = (packed & 1) != 0;
        full_count += full[i] ? 1 : 0;
        next = number + 1;
    }
    const size_t at = sizeof(uint32_t) + count * sizeof(uint64_t);
    if (!in.ok() || content.size() != at + full_count * kPageBytes) {
        return broken("page contents have another length than their count says");
    }
    auto rest = content.subspan(at);
    for (uint32_t i = 0; i < count; ++i) {
        if (!full[i]) continue;
        const auto page = rest.first(kPageBytes);
        rest = rest.subspan(kPageBytes);
        // One way to say it: what is all zero has no bytes.
        if (all_zero(page)) return broken("a page of zeros has bytes");
        body.pages[i].bytes.assign(page.begin(), page.end());
    }
    return Body(std::move(body));
}

Result<Body> read_outputs(StateReader& in) {
    const auto count = in.get<uint32_t>();
    if (count == 0 || count > Part::kContentBytesMax / kOutputFixedBytes) {
        return broken("output count is out of range");
    }
    OutputsPart body;
    uint64_t last = 0;
    for (uint32_t i = 0; i < count && in.ok(); ++i) {
        replay::ReplayedOutput each;
        each.number = OutputNumber(in.get<uint64_t>());
        if (each.number.value() <= last) return broken("outputs are out of order");
        last = each.number.value();
        const auto kind = in.get<uint8_t>();
        if (kind < 1 || kind > 2) return broken("output kind is not known");
        each.output.kind = static_cast<vmm::Output::Kind>(kind);
        in.get(each.output.device);
        each.output.bytes = in.get_bytes(kOutputBytesMax);
        body.outputs.push_back(std::move(each));
    }
    return Body(std::move(body));
}

Result<Body> read_machine(StateReader& in) {
    MachinePart body{in.get_bytes(Part::kMachineBytesMax)};
    if (in.ok() && body.bytes.empty()) return broken("a part without state");
    return Body(std::move(body));
}

Result<Body> read_end(StateReader& in) {
    EndPart body;
    in.get(body.part_count);
    in.get(body.guest_clock_ns);
    body.output = OutputNumber(in.get<uint64_t>());
    body.held = in.get_flag();
    body.cpus = in.get_bytes(Part::kContentBytesMax);
    return Body(std::move(body));
}

Result<Body> read_rest(Kind kind, StateReader& in) {
    switch (kind) {
        case Kind::pages:
            break;
        case Kind::outputs:
            return read_outputs(in);
        case Kind::machine:
            return read_machine(in);
        case Kind::end:
            return read_end(in);
    }
    return broken("kind is not known");
}

Result<Body> read_body(Kind kind, std::span<const std::byte> content) {
    if (kind == Kind::pages) return read_pages(content);
    StateReader in(content);
    FT_TRY(auto body, read_rest(kind, in));
    if (!in.ok()) return broken(in.problem());
    if (!in.at_end()) return broken("bytes behind its end");
    return body;
}

}  // namespace

bool is_end(std::span<const std::byte> bytes) {
    return bytes.size() > 1 && bytes[1] == static_cast<std::byte>(Kind::end);
}

size_t content_bytes(const replay::ReplayedOutput& output) {
    return kOutputFixedBytes + output.output.bytes.size();
}

void PartEncoder::Free::operator()(ZSTD_CCtx_s* context) const {
    ZSTD_freeCCtx(context);
}

PartEncoder::PartEncoder() : context_(ZSTD_createCCtx()) {
    FT_CHECK(context_ != nullptr, "no memory for a compressor");
}
PartEncoder::~PartEncoder() = default;

std::vector<std::byte> PartEncoder::encode(const Part& part) {
    FT_CHECK(part.checkpoint > 0, "checkpoints count from 1");
    StateWriter content;
    const Kind kind = std::visit(ContentWriter{content}, part.body);
    auto payload = content.bytes();
    FT_CHECK(payload.size() <= Part::kContentBytesMax, "{} bytes", payload.size());
    const uint64_t checksum = XXH3_64bits(payload.data(), payload.size());
    const auto content_size = static_cast<uint32_t>(payload.size());
    Encoding encoding = Encoding::raw;
    if (payload.size() >= kPackedFrom) {
        packed_.resize(ZSTD_compressBound(payload.size()));
        const size_t packed = ZSTD_compressCCtx(context_.get(), packed_.data(), packed_.size(),
                                                payload.data(), payload.size(), kLevel);
        if (ZSTD_isError(packed) == 0 && packed < payload.size()) {
            encoding = Encoding::zstd;
            payload = std::span(packed_).first(packed);
        }
    }
    StateWriter out;
    out.put(kVersion);
    out.put(kind);
    out.put(encoding);
    out.put<uint8_t>(0);
    out.put(part.checkpoint);
    out.put(content_size);
    out.put(checksum);
    out.put_fixed({reinterpret_cast<const uint8_t*>(payload.data()), payload.size()});
    auto bytes = out.take();
    FT_CHECK(bytes.size() <= replay::CheckpointPart::kBytesMax, "{} bytes", bytes.size());
    return bytes;
}

void PartDecoder::Free::operator()(ZSTD_DCtx_s* context) const {
    ZSTD_freeDCtx(context);
}

PartDecoder::PartDecoder() : context_(ZSTD_createDCtx()) {
    FT_CHECK(context_ != nullptr, "no memory for a decompressor");
}
PartDecoder::~PartDecoder() = default;

Result<std::span<const std::byte>> PartDecoder::unpack(std::span<const std::byte> payload,
                                                       uint32_t content_bytes) {
    content_.resize(content_bytes);
    const size_t size = ZSTD_decompressDCtx(context_.get(), content_.data(), content_.size(),
                                            payload.data(), payload.size());
    if (ZSTD_isError(size) != 0 || size != content_bytes) {
        return fail(Errc::corrupt, "checkpoint part: content cannot be unpacked");
    }
    return std::span<const std::byte>(content_);
}

Result<Part> PartDecoder::decode(std::span<const std::byte> bytes) {
    StateReader in(bytes);
    const auto version = in.get<uint8_t>();
    const auto kind = in.get<Kind>();
    const auto encoding = in.get_at_most(Encoding::zstd, "encoding is not known");
    const auto reserved = in.get<uint8_t>();
    Part part;
    in.get(part.checkpoint);
    const auto content_size = in.get<uint32_t>();
    const auto checksum = in.get<uint64_t>();
    if (!in.ok()) return broken(in.problem());
    if (version != kVersion) {
        return fail(Errc::version, "checkpoint part: version is {}, expected {}", version,
                    kVersion);
    }
    if (reserved != 0) return broken("a reserved byte is not zero");
    if (part.checkpoint == 0) return broken("checkpoint number is zero");
    if (content_size > Part::kContentBytesMax) return broken("content is longer than allowed");
    auto content = bytes.subspan(kHeaderBytes);
    if (encoding == Encoding::zstd) {
        FT_TRY(content, unpack(content, content_size));
    }
    if (content.size() != content_size) return broken("content has another length than it says");
    if (XXH3_64bits(content.data(), content.size()) != checksum) {
        return fail(Errc::corrupt, "checkpoint part: checksum does not match");
    }
    FT_TRY(part.body, read_body(kind, content));
    return part;
}

}  // namespace antipode::checkpoint
