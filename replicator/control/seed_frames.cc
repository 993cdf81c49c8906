#include "replicator/control/seed_frames.h"

#include "common/base/check.h"
#include "replicator/replay/state_codec.h"

namespace antipode::control {
namespace {

using vmm::StateReader;
using vmm::StateWriter;

constexpr uint8_t kVersion = 2;

enum class Kind : uint8_t { pages = 1, chunk = 2, end = 3, ask = 4 };

struct Encoder {
    StateWriter& out;

    void header(Kind kind, uint64_t attempt) const {
        out.put(kVersion);
        out.put(kind);
        out.put(attempt);
    }
    void operator()(const SeedPages& piece) const {
        header(Kind::pages, piece.attempt);
        replay::put_pages(out, piece.pages.pages);
    }
    void operator()(const SeedChunk& piece) const {
        header(Kind::chunk, piece.attempt);
        out.put(piece.drive);
        out.put(piece.offset_bytes);
        out.put(piece.length_bytes);
        out.put_bytes(piece.bytes);
    }
    void operator()(const SeedAsk& piece) const {
        header(Kind::ask, piece.attempt);
        out.put(piece.drive);
        out.put(piece.first_chunk);
        out.put(piece.chunk_count);
    }
    void operator()(const SeedEnd& piece) const {
        header(Kind::end, piece.attempt);
        out.put(piece.piece_count);
        out.put(piece.position.value());
        out.put(piece.released.value());
        replay::put_held(out, piece.held);
        replay::put_state(out, piece.state);
    }
};

SeedChunk decode_chunk(StateReader& in, uint64_t attempt) {
    SeedChunk piece;
    piece.attempt = attempt;
    in.get(piece.drive);
    in.get(piece.offset_bytes);
    in.get(piece.length_bytes);
    piece.bytes = in.get_bytes(SeedChunk::kBytes);
    if (!piece.bytes.empty() && piece.bytes.size() != piece.length_bytes) {
        in.reject("has a chunk whose bytes do not match its length");
    }
    return piece;
}

SeedAsk decode_ask(StateReader& in, uint64_t attempt) {
    SeedAsk piece;
    piece.attempt = attempt;
    in.get(piece.drive);
    in.get(piece.first_chunk);
    in.get(piece.chunk_count);
    if (piece.chunk_count == 0 || piece.chunk_count > SeedAsk::kChunksMax) {
        in.reject("asks about no or too many chunks");
    }
    return piece;
}

SeedEnd decode_end(StateReader& in, uint64_t attempt) {
    SeedEnd piece;
    piece.attempt = attempt;
    in.get(piece.piece_count);
    piece.position = LogIndex(in.get<uint64_t>());
    piece.released = OutputNumber(in.get<uint64_t>());
    piece.held = replay::get_held(in);
    piece.state = replay::get_state(in);
    return piece;
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
    SeedPiece piece;
    switch (static_cast<Kind>(kind)) {
        case Kind::pages:
            piece = SeedPages{attempt, {replay::get_pages(in)}};
            break;
        case Kind::chunk:
            piece = decode_chunk(in, attempt);
            break;
        case Kind::end:
            piece = decode_end(in, attempt);
            break;
        case Kind::ask:
            piece = decode_ask(in, attempt);
            break;
        default:
            in.reject("is of no known kind");
    }
    if (!in.ok()) return fail(Errc::protocol, "seed piece: {}", in.problem());
    if (!in.at_end()) return fail(Errc::protocol, "seed piece: bytes behind its end");
    return piece;
}

std::vector<std::byte> encode(const SeedFigure& figure) {
    StateWriter out;
    out.put(figure.attempt);
    out.put(figure.value);
    return out.take();
}

std::optional<SeedFigure> decode_seed_figure(std::span<const std::byte> bytes) {
    StateReader in(bytes);
    SeedFigure figure;
    in.get(figure.attempt);
    in.get(figure.value);
    if (!in.ok() || !in.at_end()) return std::nullopt;
    return figure;
}

}  // namespace antipode::control
