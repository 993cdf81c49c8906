#include "replicator/control/seed_frames.h"

#include "common/base/check.h"
#include "replicator/vmm/state_io.h"

namespace antipode::control {
namespace {

using vmm::StateReader;
using vmm::StateWriter;

constexpr unsigned kInHalt = 1;
constexpr unsigned kHeld = 2;  // paused by an operator
constexpr uint8_t kVersion = 1;
constexpr size_t kStateBytesMax = 4 << 20;
constexpr uint32_t kHeldMax = 1 << 16;
constexpr size_t kOutputBytesMax = 64 << 10;

enum class Kind : uint8_t { pages = 1, chunk = 2, end = 3 };

struct Encoder {
    StateWriter& out;

    void header(Kind kind, uint64_t attempt) const {
        out.put(kVersion);
        out.put(kind);
        out.put(attempt);
    }
    void operator()(const SeedPages& piece) const {
        header(Kind::pages, piece.attempt);
        out.put<uint32_t>(static_cast<uint32_t>(piece.pages.pages.size()));
        for (const auto& page : piece.pages.pages) {
            out.put(page.number);
            out.put_bytes(page.bytes);
        }
    }
    void operator()(const SeedChunk& piece) const {
        header(Kind::chunk, piece.attempt);
        out.put(piece.drive);
        out.put(piece.offset_bytes);
        out.put(piece.length_bytes);
        out.put_bytes(piece.bytes);
    }
    void operator()(const SeedEnd& piece) const {
        header(Kind::end, piece.attempt);
        out.put(piece.piece_count);
        out.put(piece.position.value());
        out.put(piece.released.value());
        out.put<uint32_t>(static_cast<uint32_t>(piece.held.size()));
        for (const auto& held : piece.held) {
            out.put(held.number.value());
            out.put(held.output.kind);
            out.put(held.output.device);
            out.put_bytes(held.output.bytes);
        }
        out.put(piece.state.exit.value());
        out.put(piece.state.output.value());
        out.put<uint8_t>(static_cast<uint8_t>((piece.state.in_halt ? kInHalt : 0u) |
                                              (piece.state.held ? kHeld : 0u)));
        out.put(piece.state.guest_clock_ns);
        out.put_bytes(piece.state.cpu);
        out.put_bytes(piece.state.machine);
        out.put(piece.state.digest_number);
    }
};

Failure broken(const char* rule) {
    return fail(Errc::protocol, "seed piece: {}", rule);
}

Result<SeedPiece> decode_pages(StateReader& in, uint64_t attempt) {
    SeedPages piece{attempt, {}};
    const auto count = in.get<uint32_t>();
    if (count > replay::DeltaPages::kPagesMax) return broken("too many pages");
    for (uint32_t i = 0; i < count && in.ok(); ++i) {
        replay::DeltaPages::Page page;
        in.get(page.number);
        page.bytes = in.get_bytes(vmm::layout::kPageBytes);
        if (!page.bytes.empty() && page.bytes.size() != vmm::layout::kPageBytes) {
            return broken("a page has another size");
        }
        piece.pages.pages.push_back(std::move(page));
    }
    return SeedPiece(std::move(piece));
}

Result<SeedPiece> decode_chunk(StateReader& in, uint64_t attempt) {
    SeedChunk piece;
    piece.attempt = attempt;
    in.get(piece.drive);
    in.get(piece.offset_bytes);
    in.get(piece.length_bytes);
    piece.bytes = in.get_bytes(SeedChunk::kBytes);
    if (!piece.bytes.empty() && piece.bytes.size() != piece.length_bytes) {
        return broken("a chunk's bytes do not match its length");
    }
    return SeedPiece(std::move(piece));
}

Result<SeedPiece> decode_end(StateReader& in, uint64_t attempt) {
    SeedEnd piece;
    piece.attempt = attempt;
    in.get(piece.piece_count);
    piece.position = LogIndex(in.get<uint64_t>());
    piece.released = OutputNumber(in.get<uint64_t>());
    const auto count = in.get<uint32_t>();
    if (count > kHeldMax) return broken("too many held outputs");
    for (uint32_t i = 0; i < count && in.ok(); ++i) {
        replay::ReplayedOutput held;
        held.number = OutputNumber(in.get<uint64_t>());
        const auto kind = in.get<uint8_t>();
        if (kind < 1 || kind > 2) return broken("output kind is not known");
        held.output.kind = static_cast<vmm::Output::Kind>(kind);
        in.get(held.output.device);
        held.output.bytes = in.get_bytes(kOutputBytesMax);
        piece.held.push_back(std::move(held));
    }
    piece.state.exit = ExitNumber(in.get<uint64_t>());
    piece.state.output = OutputNumber(in.get<uint64_t>());
    const auto flags = in.get<uint8_t>();
    if (flags > (kInHalt | kHeld)) return broken("a flag is not known");
    piece.state.in_halt = (flags & kInHalt) != 0;
    piece.state.held = (flags & kHeld) != 0;
    in.get(piece.state.guest_clock_ns);
    piece.state.cpu = in.get_bytes(replay::VmState::kCpuBytesMax);
    piece.state.machine = in.get_bytes(kStateBytesMax);
    in.get(piece.state.digest_number);
    return SeedPiece(std::move(piece));
}

}  // namespace

std::vector<std::byte> encode(const SeedPiece& piece) {
    StateWriter out;
    std::visit(Encoder{out}, piece);
    return out.take();
}

Result<SeedPiece> decode_seed_piece(std::span<const std::byte> bytes) {
    StateReader in(bytes);
    const auto version = in.get<uint8_t>();
    const auto kind = in.get<uint8_t>();
    const auto attempt = in.get<uint64_t>();
    if (version != kVersion) {
        return fail(Errc::version, "seed piece: version is {}, expected {}", version, kVersion);
    }
    Result<SeedPiece> piece = broken("kind is not known");
    switch (static_cast<Kind>(kind)) {
        case Kind::pages:
            piece = decode_pages(in, attempt);
            break;
        case Kind::chunk:
            piece = decode_chunk(in, attempt);
            break;
        case Kind::end:
            piece = decode_end(in, attempt);
            break;
    }
    if (!piece) return piece;
    if (!in.ok()) return broken("cut off");
    if (!in.at_end()) return broken("bytes behind its end");
    return piece;
}

}  // namespace antipode::control
