#include "replicator/control/seed_frames.h"

#include <gtest/gtest.h>

#include "replicator/control/seed_digests.h"

namespace antipode::control {
namespace {

std::vector<std::byte> bytes_of(size_t count, uint8_t value) {
    return std::vector<std::byte>(count, static_cast<std::byte>(value));
}

TEST(SeedFrames, PagesAndChunksComeBack) {
    SeedPages pages{7, {}};
    pages.pages.pages.push_back({3, bytes_of(4096, 5)});
    pages.pages.pages.push_back({9, {}});
    const auto pages_back = decode_seed_piece(encode(pages));
    ASSERT_TRUE(pages_back.has_value()) << pages_back.error().to_string();
    EXPECT_EQ(std::get<SeedPages>(*pages_back), pages);

    SeedChunk chunk;
    chunk.attempt = 7;
    chunk.drive = 1;
    chunk.offset_bytes = 65536;
    chunk.length_bytes = 512;
    chunk.bytes = bytes_of(512, 1);
    const auto chunk_back = decode_seed_piece(encode(chunk));
    ASSERT_TRUE(chunk_back.has_value());
    EXPECT_EQ(std::get<SeedChunk>(*chunk_back), chunk);
}

TEST(SeedFrames, TheEndCarriesTheStateAndWhatIsHeld) {
    SeedEnd end;
    end.attempt = 2;
    end.piece_count = 100;
    end.position = LogIndex(55);
    end.released = OutputNumber(4);
    end.held.push_back({OutputNumber(5), {vmm::Output::Kind::frame, 0, bytes_of(60, 2)}});
    end.state.cpu = bytes_of(100, 3);
    end.state.machine = bytes_of(200, 4);
    end.state.exit = ExitNumber(9);
    end.state.output = OutputNumber(5);
    end.state.in_halt = true;
    end.state.digest_number = 77;
    const auto back = decode_seed_piece(encode(end));
    ASSERT_TRUE(back.has_value()) << back.error().to_string();
    const auto& got = std::get<SeedEnd>(*back);
    EXPECT_EQ(got.piece_count, 100u);
    EXPECT_EQ(got.position, LogIndex(55));
    ASSERT_EQ(got.held.size(), 1u);
    EXPECT_EQ(got.held[0].output.bytes, bytes_of(60, 2));
    EXPECT_EQ(got.state.machine, end.state.machine);
    EXPECT_TRUE(got.state.in_halt);
    EXPECT_EQ(got.state.digest_number, 77u);
}

std::string hex(std::span<const std::byte> bytes) {
    std::string text;
    for (const std::byte each : bytes) text += fmt::format("{:02x}", static_cast<unsigned>(each));
    return text;
}

TEST(SeedFrames, QuestionsAndAnswersHaveTheseBytes) {
    const SeedAsk ask{7, 1, 0x1000, 3};
    EXPECT_EQ(hex(encode(SeedPiece(ask))),
              "02"
              "04"
              "0700000000000000"
              "01000000"
              "0010000000000000"
              "03000000");
    EXPECT_EQ(std::get<SeedAsk>(*decode_seed_piece(encode(SeedPiece(ask)))), ask);

    SeedDigests answer{7, 1, 0x1000, 0x1122334455667788, {}};
    answer.digests.push_back(digest_of(bytes_of(65536, 5), answer.seed));
    answer.digests.push_back(digest_of(bytes_of(65536, 5), answer.seed + 1));
    EXPECT_NE(answer.digests[0], answer.digests[1]) << "the seed counts";
    const auto bytes = encode(answer);
    EXPECT_EQ(hex(std::span(bytes).first(33)),
              "01"
              "0700000000000000"
              "01000000"
              "0010000000000000"
              "8877665544332211"
              "02000000");
    EXPECT_EQ(*decode_seed_digests(bytes), answer);
    EXPECT_EQ(bytes.size(), 33u + 32);
}

TEST(SeedFrames, QuestionsAndAnswersThatMakeNoSenseAreRefused) {
    for (const uint32_t count : {0u, SeedAsk::kChunksMax + 1}) {
        const auto bytes = encode(SeedPiece(SeedAsk{7, 1, 0, count}));
        EXPECT_EQ(decode_seed_piece(bytes).error().context,
                  "seed piece: asks about no or too many chunks");
    }
    const auto good = encode(SeedDigests{7, 1, 0, 1, std::vector<ChunkDigest>(2)});
    for (size_t size = 0; size < good.size(); ++size) {
        EXPECT_FALSE(decode_seed_digests(std::span(good).first(size)).has_value()) << size;
    }
    auto longer = good;
    longer.push_back(std::byte{0});
    EXPECT_FALSE(decode_seed_digests(longer).has_value());
    EXPECT_FALSE(decode_seed_digests(encode(SeedDigests{7, 1, 0, 1, {}})).has_value());
}

TEST(SeedFrames, CutOffAnywhereIsRefused) {
    SeedPages pages{7, {}};
    pages.pages.pages.push_back({3, bytes_of(4096, 5)});
    const auto good = encode(pages);
    for (size_t size = 0; size < good.size(); size += 7) {
        EXPECT_FALSE(decode_seed_piece(std::span(good).first(size)).has_value()) << size;
    }
    auto longer = good;
    longer.push_back(std::byte{0});
    EXPECT_FALSE(decode_seed_piece(longer).has_value());
}

}  // namespace
}  // namespace antipode::control
