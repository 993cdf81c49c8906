#include "replicator/control/heal_frames.h"

#include "replicator/replay/state_codec.h"

namespace antipode::control {
namespace {

using vmm::StateReader;
using vmm::StateWriter;

using replay::get_list;
using replay::put_list;

constexpr uint8_t kVersion = 2;
constexpr size_t kTextBytesMax = 1024;

enum class Kind : uint8_t { request = 1, pages = 2, chunk = 3, end = 4, done = 5 };

void put_chunk(StateWriter& out, const replay::DiskChunk& chunk) {
    out.put(chunk.drive);
    out.put(chunk.index);
}

replay::DiskChunk get_chunk(StateReader& in) {
    replay::DiskChunk chunk;
    in.get(chunk.drive);
    in.get(chunk.index);
    return chunk;
}

void put_evidence(StateWriter& out, const replay::Evidence& evidence) {
    out.put(evidence.exit.value());
    for (const uint64_t value : evidence.registers) out.put(value);
    put_list(out, evidence.exits, [&](const replay::ExitRecord& record) {
        out.put(record.exit.value());
        out.put(record.kind);
        out.put(record.size);
        out.put(record.count);
        out.put(record.address);
        out.put(record.data);
    });
}

struct Encoder {
    StateWriter& out;

    void header(Kind kind, uint64_t attempt) const {
        out.put(kVersion);
        out.put(kind);
        out.put(attempt);
    }
    void operator()(const replay::HealRequest& body) const {
        header(Kind::request, body.attempt);
        out.put(body.verified);
        out.put(body.disk_verified);
        out.put(body.exit.value());
        put_list(out, body.pages, [this](const replay::PageHash& page) {
            out.put(page.number);
            out.put(page.hash);
        });
        put_list(out, body.chunks, [this](const auto& chunk) { put_chunk(out, chunk); });
    }
    void operator()(const HealPages& body) const {
        header(Kind::pages, body.attempt);
        replay::put_pages(out, body.pages);
    }
    void operator()(const HealChunk& body) const {
        header(Kind::chunk, body.attempt);
        put_chunk(out, body.chunk);
        out.put_bytes(body.bytes);
    }
    void operator()(const HealEnd& body) const {
        header(Kind::end, body.attempt);
        out.put(body.piece_count);
        out.put(body.position.value());
        out.put(body.released.value());
        replay::put_held(out, body.held);
        const replay::HealAnswer& answer = body.answer;
        out.put_bytes(std::as_bytes(std::span(answer.refused))
                          .first(std::min(answer.refused.size(), kTextBytesMax)));
        replay::put_state(out, answer.state);
        for (const uint64_t value :
             {answer.digest.cpu, answer.digest.devices, answer.digest.memory, answer.digest.disk}) {
            out.put(value);
        }
        put_list(out, answer.chunks, [this](const auto& chunk) { put_chunk(out, chunk); });
        put_evidence(out, answer.evidence);
    }
    void operator()(const HealDone& body) const {
        header(Kind::done, body.attempt);
        out.put(body.page_count);
    }
};

replay::HealRequest decode_request(StateReader& in, uint64_t attempt) {
    replay::HealRequest body;
    body.attempt = attempt;
    in.get(body.verified);
    in.get(body.disk_verified);
    body.exit = ExitNumber(in.get<uint64_t>());
    get_list(in, replay::HealRequest::kPagesMax, [&] {
        replay::PageHash page;
        in.get(page.number);
        in.get(page.hash);
        body.pages.push_back(page);
    });
    get_list(in, replay::ChunkSet::kCountMax, [&] { body.chunks.push_back(get_chunk(in)); });
    return body;
}

replay::Evidence get_evidence(StateReader& in) {
    replay::Evidence evidence;
    evidence.exit = ExitNumber(in.get<uint64_t>());
    for (uint64_t& value : evidence.registers) in.get(value);
    get_list(in, replay::Evidence::kExitsMax, [&] {
        replay::ExitRecord record;
        record.exit = ExitNumber(in.get<uint64_t>());
        record.kind = in.get_at_most(vmm::Exit::Kind::failure, "has an exit of no known kind");
        in.get(record.size);
        in.get(record.count);
        in.get(record.address);
        in.get(record.data);
        evidence.exits.push_back(record);
    });
    return evidence;
}

void get_answer(StateReader& in, replay::HealAnswer& answer) {
    const auto text = in.get_bytes(kTextBytesMax);
    answer.refused.assign(reinterpret_cast<const char*>(text.data()), text.size());
    answer.state = replay::get_state(in);
    in.get(answer.digest.cpu);
    in.get(answer.digest.devices);
    in.get(answer.digest.memory);
    in.get(answer.digest.disk);
    get_list(in, replay::HealAnswer::kChunksMax, [&] { answer.chunks.push_back(get_chunk(in)); });
    answer.evidence = get_evidence(in);
}

HealEnd decode_end(StateReader& in, uint64_t attempt) {
    HealEnd body;
    body.attempt = attempt;
    in.get(body.piece_count);
    body.position = LogIndex(in.get<uint64_t>());
    body.released = OutputNumber(in.get<uint64_t>());
    body.held = replay::get_held(in);
    body.answer.attempt = attempt;
    get_answer(in, body.answer);
    return body;
}

}  // namespace

std::vector<std::byte> encode(const HealMessage& message) {
    StateWriter out;
    std::visit(Encoder{out}, message);
    return out.take();
}

Result<HealMessage> decode_heal_message(std::span<const std::byte> bytes) {
    StateReader in(bytes);
    const auto version = in.get<uint8_t>();
    const auto kind = in.get<uint8_t>();
    const auto attempt = in.get<uint64_t>();
    if (version != kVersion) {
        return fail(Errc::version, "heal message: version is {}, expected {}", version, kVersion);
    }
    HealMessage message = HealDone{};
    switch (static_cast<Kind>(kind)) {
        case Kind::request:
            message = decode_request(in, attempt);
            break;
        case Kind::pages:
            message = HealPages{attempt, replay::get_pages(in)};
            break;
        case Kind::chunk: {
            HealChunk body;
            body.attempt = attempt;
            body.chunk = get_chunk(in);
            body.bytes = in.get_bytes(replay::DiskChunk::kBytes);
            message = std::move(body);
            break;
        }
        case Kind::end:
            message = decode_end(in, attempt);
            break;
        case Kind::done:
            message = HealDone{attempt, in.get<uint64_t>()};
            break;
        default:
            in.reject("is of no known kind");
    }
    if (!in.ok()) return fail(Errc::protocol, "heal message: {}", in.problem());
    if (!in.at_end()) return fail(Errc::protocol, "heal message: bytes behind its end");
    return message;
}

}  // namespace antipode::control
