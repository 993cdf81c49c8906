// A checkpoint's bytes (docs/PROTOCOL-checkpoint.md), and what is refused.
#include "replicator/checkpoint/checkpoint_part.h"

#include <gtest/gtest.h>
#include <xxhash.h>

#include "common/base/random.h"
#include "tests/unit/checkpoint/parts.h"

namespace antipode::checkpoint {
namespace {

std::string to_hex(std::span<const std::byte> bytes) {
    std::string text;
    for (const std::byte each : bytes) text += fmt::format("{:02x}", static_cast<unsigned>(each));
    return text;
}

// What the decoder says; "" if it takes the bytes.
std::string problem(std::span<const std::byte> bytes) {
    PartDecoder decoder;
    const auto part = decoder.decode(bytes);
    return part ? "" : part.error().context;
}

// A part with this kind and content, raw, with the right checksum.
std::vector<std::byte> raw_part(uint8_t kind, std::span<const std::byte> content) {
    vmm::StateWriter out;
    out.put<uint8_t>(1);
    out.put(kind);
    out.put<uint8_t>(0);
    out.put<uint8_t>(0);
    out.put<uint64_t>(5);
    out.put(static_cast<uint32_t>(content.size()));
    out.put<uint64_t>(XXH3_64bits(content.data(), content.size()));
    out.put_fixed({reinterpret_cast<const uint8_t*>(content.data()), content.size()});
    return out.take();
}

TEST(CheckpointPartTest, GoldenBytes) {
    EXPECT_EQ(to_hex(encoded({5, PagesPart{{{3, {}}, {9, {}}}}})),
              "01010000"
              "0500000000000000"
              "14000000"
              "eb6711c36041db85"
              "02000000"
              "0600000000000000"
              "1200000000000000");
    EXPECT_EQ(to_hex(encoded({6, OutputsPart{{console_output(17, "ok\n")}}})),
              "01020000"
              "0600000000000000"
              "18000000"
              "11e1323eccc6f051"
              "01000000"
              "1100000000000000"
              "01"
              "00000000"
              "03000000"
              "6f6b0a");
    EXPECT_EQ(to_hex(encoded({7, MachinePart{some_bytes(3)}})),
              "01030000"
              "0700000000000000"
              "07000000"
              "e1612b949ae22f24"
              "03000000"
              "010203");
    EXPECT_EQ(to_hex(encoded({8, EndPart{2, 3, OutputNumber(4), true, some_bytes(2)}})),
              "01040000"
              "0800000000000000"
              "1f000000"
              "7a4f6dc498a82853"
              "0200000000000000"
              "0300000000000000"
              "0400000000000000"
              "01"
              "02000000"
              "0102");
}

TEST(CheckpointPartTest, GoldenCompressed) {
    // What one version of zstd packed, every later one unpacks.
    const auto bytes = encoded({1, PagesPart{{full_page(2, 0xee)}}});
    EXPECT_LT(bytes.size(), 80u);
    EXPECT_EQ(bytes[2], std::byte{1});
    PartDecoder decoder;
    const auto part = decoder.decode(bytes);
    ASSERT_TRUE(part) << part.error().to_string();
    EXPECT_EQ(std::get<PagesPart>(part->body), (PagesPart{{full_page(2, 0xee)}}));
}

TEST(CheckpointPartTest, TheEndIsKnownWithoutUnpacking) {
    EXPECT_TRUE(is_end(encoded({8, EndPart{2, 3, OutputNumber(4), true, some_bytes(2)}})));
    EXPECT_FALSE(is_end(encoded({8, MachinePart{some_bytes(3)}})));
    EXPECT_FALSE(is_end({}));
}

TEST(CheckpointPartTest, ComesBackAsItWas) {
    Random random(7);
    PartEncoder encoder;
    PartDecoder decoder;
    for (int round = 0; round < 200; ++round) {
        PagesPart pages;
        uint64_t number = random.below(1000);
        for (uint64_t count = random.between(1, 64); count > 0; --count) {
            pages.pages.push_back({number, {}});
            number += random.between(1, 1000);
            if (random.chance(0.3)) continue;
            auto& bytes = pages.pages.back().bytes;
            bytes.resize(4096);
            const bool noise = random.chance(0.5);
            for (auto& each : bytes) each = static_cast<std::byte>(noise ? random.next() : 1);
        }
        const auto bytes = encoder.encode({round + 1u, pages});
        const auto part = decoder.decode(bytes);
        ASSERT_TRUE(part) << part.error().to_string();
        ASSERT_EQ(part->checkpoint, round + 1u);
        ASSERT_EQ(std::get<PagesPart>(part->body), pages);
    }
}

TEST(CheckpointPartTest, LargestPartsFit) {
    Random random(8);
    PagesPart pages;
    for (uint64_t i = 0; i < PagesPart::kPagesMax; ++i) {
        pages.pages.push_back({i, std::vector<std::byte>(4096)});
        for (auto& each : pages.pages.back().bytes) each = static_cast<std::byte>(random.next());
    }
    EXPECT_EQ(problem(encoded({1, pages})), "");
    EXPECT_EQ(problem(encoded({1, MachinePart{some_bytes(Part::kMachineBytesMax)}})), "");
}

TEST(CheckpointPartTest, EveryTruncationAndEveryBitFlipIsRefused) {
    const auto bytes =
        encoded({5, OutputsPart{{console_output(1, "hello"), console_output(2, "x")}}});
    for (size_t length = 0; length < bytes.size(); ++length) {
        ASSERT_NE(problem(std::span(bytes).first(length)), "") << length;
    }
    for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
        const bool number = bit >= 4 * 8 && bit < 12 * 8;
        if (number) continue;  // another checkpoint's: the assembler sees that
        auto flipped = bytes;
        flipped[bit / 8] ^= static_cast<std::byte>(1u << bit % 8);
        ASSERT_NE(problem(flipped), "") << bit;
    }
    const auto packed = encoded({5, PagesPart{{full_page(2)}}});
    for (size_t length = 0; length < packed.size(); ++length) {
        ASSERT_NE(problem(std::span(packed).first(length)), "") << length;
    }
}

TEST(CheckpointPartTest, RefusalsNameTheRule) {
    auto bytes = encoded({5, MachinePart{some_bytes(3)}});
    auto changed = bytes;
    changed[0] = std::byte{2};
    EXPECT_EQ(problem(changed), "checkpoint part: version is 2, expected 1");
    changed = bytes;
    changed[3] = std::byte{1};
    EXPECT_EQ(problem(changed), "checkpoint part: a reserved byte is not zero");
    changed = bytes;
    changed[4] = std::byte{0};
    EXPECT_EQ(problem(changed), "checkpoint part: checkpoint number is zero");
    changed = bytes;
    changed[15] = std::byte{1};
    EXPECT_EQ(problem(changed), "checkpoint part: content is longer than allowed");
    changed = bytes;
    changed.back() = std::byte{9};
    EXPECT_EQ(problem(changed), "checkpoint part: checksum does not match");
    EXPECT_EQ(problem(raw_part(5, some_bytes(4))), "checkpoint part: kind is not known");

    vmm::StateWriter zeros;
    zeros.put<uint32_t>(1);
    zeros.put<uint64_t>(3 << 1 | 1);
    zeros.put_fixed(std::vector<uint8_t>(4096));
    EXPECT_EQ(problem(raw_part(1, zeros.bytes())), "checkpoint part: a page of zeros has bytes");
    vmm::StateWriter order;
    order.put<uint32_t>(2);
    order.put<uint64_t>(8);
    order.put<uint64_t>(8);
    EXPECT_EQ(problem(raw_part(1, order.bytes())), "checkpoint part: pages are out of order");
    vmm::StateWriter none;
    none.put<uint32_t>(0);
    EXPECT_EQ(problem(raw_part(1, none.bytes())), "checkpoint part: page count is out of range");
    EXPECT_EQ(problem(raw_part(2, none.bytes())), "checkpoint part: output count is out of range");
    EXPECT_EQ(problem(raw_part(3, none.bytes())), "checkpoint part: a part without state");
}

}  // namespace
}  // namespace antipode::checkpoint
