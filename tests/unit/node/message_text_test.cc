// Every message of the channel has a line of text, and what is not one has none.
#include "replicator/control/message_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/wire/failover_frames.h"
#include "replicator/control/heal_frames.h"
#include "replicator/control/node_message.h"
#include "replicator/control/seed_digests.h"
#include "replicator/control/seed_frames.h"
#include "replicator/control/verify_frames.h"
#include "replicator/replay/log_entry.h"

namespace antipode::control {
namespace {

using testing::HasSubstr;
using testing::StartsWith;
using wire::MessageClass;

std::vector<std::byte> numbers(std::initializer_list<uint64_t> values) {
    std::vector<std::byte> bytes;
    for (const uint64_t value : values) {
        for (int i = 0; i < 8; ++i) bytes.push_back(static_cast<std::byte>(value >> (8 * i)));
    }
    return bytes;
}

std::vector<std::byte> bytes_of(std::string_view text) {
    const auto bytes = std::as_bytes(std::span(text));
    return {bytes.begin(), bytes.end()};
}

std::string text(MessageClass message_class, NodeMessage type,
                 const std::vector<std::byte>& payload) {
    return message_text(message_class, static_cast<uint8_t>(type), payload).value_or("nothing");
}

TEST(MessageText, of_the_log_and_of_the_core) {
    const replay::LogBatch batch{
        LogIndex(7),
        OutputNumber(3),
        99,
        {{ExitNumber(5), replay::TimerTick{}}, {ExitNumber(6), replay::OutputMark{0xab}}}};
    EXPECT_EQ(text(MessageClass::log, NodeMessage::log_batch, replay::encode(batch)),
              "log batch: first=7 entries=2 released=3 clock=99ns\n  7 exit 5 timer-tick\n"
              "  8 exit 6 output checksum=000000ab");
    wire::PeerMessage message;
    message.pair = Name::literal("web1");
    message.epoch = Epoch(4);
    message.from = {Name::literal("north"), Incarnation(1)};
    message.to = {Name::literal("south"), Incarnation(2)};
    EXPECT_THAT(text(MessageClass::log, NodeMessage::peer, wire::encode(message)),
                HasSubstr("epoch=4 from=north/0000000000000001 to=south/0000000000000002"));
}

TEST(MessageText, of_what_a_backup_says) {
    EXPECT_EQ(text(MessageClass::control, NodeMessage::acknowledge, numbers({258})),
              "acknowledge: index=258");
    EXPECT_EQ(text(MessageClass::control, NodeMessage::lag_report, numbers({3})),
              "lag report: index=3");
    EXPECT_EQ(text(MessageClass::control, NodeMessage::resend, numbers({4})), "resend: index=4");
    EXPECT_EQ(text(MessageClass::control, NodeMessage::seed_progress, numbers({2, 4096})),
              "seed progress: attempt=2 bytes=4096");
    EXPECT_EQ(text(MessageClass::control, NodeMessage::switch_wanted, bytes_of("eve at south")),
              "switch wanted: eve at south");
    EXPECT_THAT(text(MessageClass::control, NodeMessage::switch_refused, bytes_of("busy: no")),
                "switch refused: busy: no");
}

TEST(MessageText, of_a_seed) {
    const SeedPages pages{3, {{{4, {}}, {5, std::vector<std::byte>(4096, std::byte{1})}}}};
    EXPECT_EQ(text(MessageClass::seed, NodeMessage::seed_piece, encode(SeedPiece(pages))),
              "seed pages: attempt=3 pages=2 zero=1 first=4");
    const SeedChunk chunk{3, 1, 65536, 512, {}};
    EXPECT_EQ(text(MessageClass::seed, NodeMessage::seed_piece, encode(SeedPiece(chunk))),
              "seed chunk: attempt=3 drive=1 offset=65536 length=512 zero");
    SeedEnd end;
    end.attempt = 3;
    end.piece_count = 12;
    end.position = LogIndex(55);
    end.released = OutputNumber(4);
    end.state.cpu.resize(100);
    end.state.machine.resize(200);
    end.state.exit = ExitNumber(9);
    EXPECT_EQ(text(MessageClass::seed, NodeMessage::seed_piece,
                   encode(SeedPiece(SeedAsk{3, 1, 1024, 7}))),
              "seed ask: attempt=3 drive=1 first_chunk=1024 chunks=7");
    EXPECT_EQ(text(MessageClass::control, NodeMessage::seed_digests,
                   encode(SeedDigests{3, 1, 1024, 99, std::vector<ChunkDigest>(7)})),
              "seed digests: attempt=3 drive=1 first_chunk=1024 chunks=7");
    EXPECT_EQ(text(MessageClass::seed, NodeMessage::seed_piece, encode(SeedPiece(end))),
              "seed end: attempt=3 pieces=12 position=55 released=4 held=0 exit=9 cpu_bytes=100 "
              "machine_bytes=200");
}

TEST(MessageText, of_a_heal) {
    replay::HealRequest request;
    request.attempt = 3;
    request.verified = 16;
    request.disk_verified = 15;
    request.exit = ExitNumber(8);
    request.pages = {{1, 2}, {700, 3}};
    request.chunks = {{0, 4}};
    EXPECT_EQ(text(MessageClass::control, NodeMessage::heal, encode(HealMessage(request))),
              "heal request: attempt=3 exit=8 verified=16 disk_verified=15 pages=2 chunks=1");
    const auto bulk = [](HealMessage message) {
        return text(MessageClass::seed, NodeMessage::heal, encode(message));
    };
    EXPECT_EQ(bulk(HealPages{3, {{4, {}}}}), "heal pages: attempt=3 pages=1 zero=1 first=4");
    EXPECT_EQ(bulk(HealChunk{3, {0, 4}, std::vector<std::byte>(512)}),
              "heal chunk: attempt=3 drive=0 index=4 bytes=512");
    HealEnd end;
    end.attempt = 3;
    end.piece_count = 12;
    end.position = LogIndex(55);
    end.answer.attempt = 3;
    end.answer.state.cpu.resize(100);
    end.answer.state.machine.resize(200);
    end.answer.state.exit = ExitNumber(9);
    EXPECT_THAT(bulk(end), StartsWith("heal end: attempt=3 pieces=12 position=55"));
    EXPECT_EQ(text(MessageClass::control, NodeMessage::heal, encode(HealMessage(HealDone{3, 2}))),
              "heal done: attempt=3 pages=2");
}

TEST(MessageText, of_a_verify) {
    const auto said = [](MessageClass message_class, const VerifyMessage& message) {
        return text(message_class, NodeMessage::verify, encode(message));
    };
    EXPECT_EQ(said(MessageClass::log, VerifyAsk{7, VerifyPurpose::repair, 1, 32, 1, 5, {900, 3}}),
              "verify ask: number=7 repair drive=1 first_chunk=32 chunks=1 exit=900 count=3");
    EXPECT_EQ(said(MessageClass::control, VerifyDigests{7, std::vector<ChunkDigest>(2)}),
              "verify digests: number=7 chunks=2");
    EXPECT_EQ(said(MessageClass::control, VerifyLater{7, VerifyLater::Again::yes, "a heal"}),
              "verify later: number=7 a heal");
    EXPECT_EQ(said(MessageClass::resync, VerifyBytes{7, {std::byte{1}}}),
              "verify bytes: number=7 bytes=1");
    EXPECT_EQ(said(MessageClass::control, VerifyWritten{7}), "verify written: number=7");
    EXPECT_EQ(said(MessageClass::control, VerifyDrop{7}), "verify drop: number=7");
    EXPECT_EQ(said(MessageClass::control, VerifyFound{VerifyFound::What::differs, 1, 33, {}, {}}),
              "verify differs: drive=1 chunk=33");
    EXPECT_EQ(said(MessageClass::seed, VerifyDrop{7}), "nothing");
}

TEST(MessageText, what_is_no_message_of_its_type_has_none) {
    EXPECT_EQ(text(MessageClass::control, NodeMessage::acknowledge, bytes_of("four")), "nothing");
    EXPECT_EQ(text(MessageClass::log, NodeMessage::acknowledge, numbers({1})), "nothing");
    EXPECT_EQ(text(MessageClass::log, NodeMessage::log_batch, bytes_of("a probe!")), "nothing");
    EXPECT_EQ(text(MessageClass::seed, NodeMessage::seed_piece, bytes_of("?")), "nothing");
    EXPECT_EQ(text(MessageClass::seed, NodeMessage::heal, {}), "nothing");
    EXPECT_EQ(text(MessageClass::log, static_cast<NodeMessage>(99), numbers({1})), "nothing");
}

}  // namespace
}  // namespace antipode::control
