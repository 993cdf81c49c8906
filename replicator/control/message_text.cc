#include "replicator/control/message_text.h"

#include <algorithm>

#include "common/base/overloaded.h"
#include "common/wire/failover_frames.h"
#include "replicator/control/control_api.h"
#include "replicator/control/heal_frames.h"
#include "replicator/control/node_message.h"
#include "replicator/control/seed_digests.h"
#include "replicator/control/seed_frames.h"
#include "replicator/control/verify_frames.h"
#include "replicator/replay/log_entry.h"

namespace antipode::control {
namespace {

using Text = std::optional<std::string>;
using Payload = std::span<const std::byte>;

constexpr size_t kTextBytesMax = 200;

Text log_text(Payload payload) {
    const auto batch = replay::decode_log_batch(payload);
    if (!batch) return std::nullopt;
    std::string text =
        fmt::format("log batch: first={} entries={} released={} clock={}ns", batch->first,
                    batch->entries.size(), batch->released, batch->guest_clock_ns);
    uint64_t index = batch->first.value();
    for (const auto& entry : batch->entries) {
        text += fmt::format("\n  {} {}", index++, replay::describe(entry));
    }
    return text;
}

Text peer_text(Payload payload) {
    const auto message = wire::decode_peer_message(payload);
    if (!message) return std::nullopt;
    return fmt::format(
        "{}: epoch={} from={}/{:016x} to={}/{:016x} state={} live_epoch={} "
        "position={}",
        to_string(message->kind), message->epoch, message->from.site,
        message->from.incarnation.value(), message->to.site, message->to.incarnation.value(),
        to_string(message->state), message->live_epoch, message->position);
}

std::string pages_text(const std::vector<replay::DeltaPages::Page>& pages) {
    const auto zero = std::count_if(pages.begin(), pages.end(),
                                    [](const auto& page) { return page.bytes.empty(); });
    return fmt::format("pages={} zero={} first={}", pages.size(), zero,
                       pages.empty() ? 0 : pages.front().number);
}

Text seed_text(Payload payload) {
    const auto piece = decode_seed_piece(payload);
    if (!piece) return std::nullopt;
    return std::visit(
        Overloaded{
            [](const SeedPages& pages) {
                return fmt::format("seed pages: attempt={} {}", pages.attempt,
                                   pages_text(pages.pages.pages));
            },
            [](const SeedChunk& chunk) {
                return fmt::format("seed chunk: attempt={} drive={} offset={} length={}{}",
                                   chunk.attempt, chunk.drive, chunk.offset_bytes,
                                   chunk.length_bytes, chunk.bytes.empty() ? " zero" : "");
            },
            [](const SeedAsk& ask) {
                return fmt::format("seed ask: attempt={} drive={} first_chunk={} chunks={}",
                                   ask.attempt, ask.drive, ask.first_chunk, ask.chunk_count);
            },
            [](const SeedEnd& end) {
                return fmt::format(
                    "seed end: attempt={} pieces={} position={} released={} held={} exit={} "
                    "cpu_bytes={} machine_bytes={}",
                    end.attempt, end.piece_count, end.position, end.released, end.held.size(),
                    end.state.exit, end.state.cpu.size(), end.state.machine.size());
            },
        },
        *piece);
}

Text digests_text(Payload payload) {
    const auto answer = decode_seed_digests(payload);
    if (!answer) return std::nullopt;
    return fmt::format("seed digests: attempt={} drive={} first_chunk={} chunks={}",
                       answer->attempt, answer->drive, answer->first_chunk, answer->digests.size());
}

Text heal_text(Payload payload) {
    const auto message = decode_heal_message(payload);
    if (!message) return std::nullopt;
    return std::visit(
        Overloaded{
            [](const replay::HealRequest& asks) {
                return fmt::format(
                    "heal request: attempt={} exit={} verified={} disk_verified={} pages={} "
                    "chunks={}",
                    asks.attempt, asks.exit, asks.verified, asks.disk_verified, asks.pages.size(),
                    asks.chunks.size());
            },
            [](const HealPages& pages) {
                return fmt::format("heal pages: attempt={} {}", pages.attempt,
                                   pages_text(pages.pages));
            },
            [](const HealChunk& chunk) {
                return fmt::format("heal chunk: attempt={} drive={} index={} bytes={}",
                                   chunk.attempt, chunk.chunk.drive, chunk.chunk.index,
                                   chunk.bytes.size());
            },
            [](const HealEnd& end) {
                if (!end.answer.refused.empty()) {
                    return fmt::format("heal end: attempt={} refused: {}", end.attempt,
                                       printable(end.answer.refused, kTextBytesMax));
                }
                return fmt::format(
                    "heal end: attempt={} pieces={} position={} released={} held={} exit={}",
                    end.attempt, end.piece_count, end.position, end.released, end.held.size(),
                    end.answer.state.exit);
            },
            [](const HealDone& done) {
                return fmt::format("heal done: attempt={} pages={}", done.attempt, done.page_count);
            },
        },
        *message);
}

Text verify_text(Payload payload) {
    const auto message = decode_verify_message(payload);
    if (!message) return std::nullopt;
    return std::visit(
        Overloaded{
            [](const VerifyAsk& ask) {
                return fmt::format(
                    "verify ask: number={} {} drive={} first_chunk={} chunks={} exit={} count={}",
                    ask.number, ask.purpose == VerifyPurpose::repair ? "repair" : "compare",
                    ask.drive, ask.first_chunk, ask.chunk_count, ask.point.exit, ask.point.count);
            },
            [](const VerifyDigests& answer) {
                return fmt::format("verify digests: number={} chunks={}", answer.number,
                                   answer.digests.size());
            },
            [](const VerifyWritten& written) {
                return fmt::format("verify written: number={}", written.number);
            },
            [](const VerifyLater& later) {
                return fmt::format("verify {}: number={} {}",
                                   later.again == VerifyLater::Again::yes ? "later" : "never",
                                   later.number, printable(later.text, kTextBytesMax));
            },
            [](const VerifyBytes& body) {
                return fmt::format("verify bytes: number={} bytes={}", body.number,
                                   body.bytes.size());
            },
            [](const VerifyDrop& drop) {
                return fmt::format("verify drop: number={}", drop.number);
            },
            [](const VerifyFound& found) {
                return fmt::format(
                    "verify {}: drive={} chunk={}",
                    found.what == VerifyFound::What::repaired ? "repaired" : "differs", found.drive,
                    found.chunk);
            },
        },
        *message);
}

Text index_text(NodeMessage type, Payload payload) {
    const auto index = decode_index(payload);
    if (!index) return std::nullopt;
    return fmt::format("{}: index={}", to_string(type), *index);
}

Text figure_text(NodeMessage type, std::string_view what, Payload payload) {
    const auto figure = decode_seed_figure(payload);
    if (!figure) return std::nullopt;
    return fmt::format("{}: attempt={} {}={}", to_string(type), figure->attempt, what,
                       figure->value);
}

Text words_text(NodeMessage type, Payload payload) {
    const std::string_view words(reinterpret_cast<const char*>(payload.data()), payload.size());
    return fmt::format("{}: {}", to_string(type), printable(words, kTextBytesMax));
}

wire::MessageClass class_of(NodeMessage type, wire::MessageClass seen) {
    switch (type) {
        case NodeMessage::log_batch:
        case NodeMessage::peer:
            return wire::MessageClass::log;
        case NodeMessage::acknowledge:
        case NodeMessage::lag_report:
        case NodeMessage::seed_progress:
        case NodeMessage::seed_digests:
        case NodeMessage::seed_ratio:
        case NodeMessage::resend:
        case NodeMessage::switch_wanted:
        case NodeMessage::switch_refused:
            return wire::MessageClass::control;
        case NodeMessage::seed_piece:
            return wire::MessageClass::seed;
        case NodeMessage::heal:
            return seen == wire::MessageClass::control ? seen : wire::MessageClass::seed;
        case NodeMessage::verify:
            return seen == wire::MessageClass::seed ? wire::MessageClass::control : seen;
    }
    return seen;
}

}  // namespace

Text message_text(wire::MessageClass message_class, uint8_t type, Payload payload) {
    const auto message = static_cast<NodeMessage>(type);
    if (class_of(message, message_class) != message_class) return std::nullopt;
    switch (message) {
        case NodeMessage::log_batch:
            return log_text(payload);
        case NodeMessage::peer:
            return peer_text(payload);
        case NodeMessage::acknowledge:
        case NodeMessage::lag_report:
        case NodeMessage::resend:
            return index_text(message, payload);
        case NodeMessage::seed_progress:
            return figure_text(message, "bytes", payload);
        case NodeMessage::seed_ratio:
            return figure_text(message, "ratio", payload);
        case NodeMessage::seed_digests:
            return digests_text(payload);
        case NodeMessage::seed_piece:
            return seed_text(payload);
        case NodeMessage::heal:
            return heal_text(payload);
        case NodeMessage::verify:
            return verify_text(payload);
        case NodeMessage::switch_wanted:
        case NodeMessage::switch_refused:
            return words_text(message, payload);
    }
    return std::nullopt;
}

}  // namespace antipode::control
