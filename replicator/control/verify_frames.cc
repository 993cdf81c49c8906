#include "replicator/control/verify_frames.h"

#include <algorithm>

#include "common/base/overloaded.h"
#include "replicator/vmm/state_io.h"

namespace antipode::control {
namespace {

using vmm::StateReader;
using vmm::StateWriter;

constexpr uint8_t kVersion = 1;

enum class Kind : uint8_t {
    ask = 1,
    digests = 2,
    written = 3,
    later = 4,
    bytes = 5,
    drop = 6,
    found = 7,
};

void put_header(StateWriter& out, Kind kind) {
    out.put(kVersion);
    out.put(kind);
}

void put_ask(StateWriter& out, const VerifyAsk& ask) {
    put_header(out, Kind::ask);
    out.put(ask.number);
    out.put(ask.purpose);
    out.put(ask.drive);
    out.put(ask.first_chunk);
    out.put(ask.chunk_count);
    out.put(ask.seed);
    out.put(ask.point.exit);
    out.put(ask.point.count);
}

VerifyAsk get_ask(StateReader& in) {
    VerifyAsk ask;
    in.get(ask.number);
    ask.purpose = in.get_at_most(VerifyPurpose::repair, "has no known purpose");
    in.get(ask.drive);
    in.get(ask.first_chunk);
    in.get(ask.chunk_count);
    in.get(ask.seed);
    in.get(ask.point.exit);
    in.get(ask.point.count);
    const uint32_t most = ask.purpose == VerifyPurpose::repair ? 1 : VerifyAsk::kChunksMax;
    if (ask.chunk_count == 0 || ask.chunk_count > most) in.reject("names no or too many chunks");
    return ask;
}

VerifyDigests get_digests(StateReader& in) {
    VerifyDigests answer;
    in.get(answer.number);
    const auto count = in.get<uint32_t>();
    if (count == 0 || count > VerifyAsk::kChunksMax) in.reject("has no or too many digests");
    for (uint32_t i = 0; i < count && in.ok(); ++i) answer.digests.push_back(get_digest(in));
    return answer;
}

VerifyLater get_later(StateReader& in) {
    VerifyLater later;
    in.get(later.number);
    later.again = in.get_at_most(VerifyLater::Again::never, "says neither again nor never");
    const auto text = in.get_bytes(VerifyLater::kTextBytesMax);
    later.text.assign(reinterpret_cast<const char*>(text.data()), text.size());
    return later;
}

VerifyBytes get_bytes(StateReader& in) {
    VerifyBytes body;
    in.get(body.number);
    body.bytes = in.get_bytes(VerifyAsk::kChunkBytes);
    if (body.bytes.empty()) in.reject("has no bytes");
    return body;
}

VerifyFound get_found(StateReader& in) {
    VerifyFound found;
    found.what = in.get_at_most(VerifyFound::What::repaired, "says nothing known");
    in.get(found.drive);
    in.get(found.chunk);
    found.primary = get_digest(in);
    found.backup = get_digest(in);
    return found;
}

}  // namespace

DiskRange chunk_range(uint64_t first, uint64_t count, uint64_t disk_bytes) {
    const uint64_t begin = first * SeedChunk::kBytes;
    return {begin, std::min(count * SeedChunk::kBytes, disk_bytes - begin)};
}

std::vector<std::byte> encode(const VerifyMessage& message) {
    StateWriter out;
    std::visit(Overloaded{
                   [&](const VerifyAsk& ask) { put_ask(out, ask); },
                   [&](const VerifyDigests& answer) {
                       put_header(out, Kind::digests);
                       out.put(answer.number);
                       out.put(static_cast<uint32_t>(answer.digests.size()));
                       for (const auto& digest : answer.digests) out.put_fixed(digest.bytes);
                   },
                   [&](const VerifyWritten& written) {
                       put_header(out, Kind::written);
                       out.put(written.number);
                   },
                   [&](const VerifyLater& later) {
                       put_header(out, Kind::later);
                       out.put(later.number);
                       out.put(later.again);
                       const auto text = std::as_bytes(std::span(later.text));
                       out.put_bytes(text.first(std::min(text.size(), VerifyLater::kTextBytesMax)));
                   },
                   [&](const VerifyBytes& body) {
                       put_header(out, Kind::bytes);
                       out.put(body.number);
                       out.put_bytes(body.bytes);
                   },
                   [&](const VerifyDrop& drop) {
                       put_header(out, Kind::drop);
                       out.put(drop.number);
                   },
                   [&](const VerifyFound& found) {
                       put_header(out, Kind::found);
                       out.put(found.what);
                       out.put(found.drive);
                       out.put(found.chunk);
                       out.put_fixed(found.primary.bytes);
                       out.put_fixed(found.backup.bytes);
                   },
               },
               message);
    return out.take();
}

Result<VerifyMessage> decode_verify_message(std::span<const std::byte> bytes) {
    StateReader in(bytes);
    if (const auto version = in.get<uint8_t>(); version != kVersion) {
        return fail(Errc::version, "verify message: version is {}, expected {}", version, kVersion);
    }
    VerifyMessage message = VerifyDrop{};
    switch (static_cast<Kind>(in.get<uint8_t>())) {
        case Kind::ask:
            message = get_ask(in);
            break;
        case Kind::digests:
            message = get_digests(in);
            break;
        case Kind::written:
            message = VerifyWritten{in.get<uint64_t>()};
            break;
        case Kind::later:
            message = get_later(in);
            break;
        case Kind::bytes:
            message = get_bytes(in);
            break;
        case Kind::drop:
            message = VerifyDrop{in.get<uint64_t>()};
            break;
        case Kind::found:
            message = get_found(in);
            break;
        default:
            in.reject("is of no known kind");
    }
    if (!in.ok()) return fail(Errc::protocol, "verify message: {}", in.problem());
    if (!in.at_end()) return fail(Errc::protocol, "verify message: bytes behind its end");
    return message;
}

}  // namespace antipode::control
