// The zstd streams of the channel: history, escapes, limits.
#include "common/wire/compress.h"

#include <gtest/gtest.h>
#include <string>
#include <vector>

#include "common/base/random.h"

namespace antipode::wire {
namespace {

using Bytes = std::vector<std::byte>;

Bytes text(Random& random, size_t size) {
    std::string words;
    while (words.size() < size) words += "exit " + std::to_string(random.below(10000)) + " irq 5, ";
    words.resize(size);
    const auto view = std::as_bytes(std::span(words));
    return {view.begin(), view.end()};
}

Bytes noise(Random& random, size_t size) {
    Bytes bytes(size);
    for (auto& b : bytes) b = static_cast<std::byte>(random.next());
    return bytes;
}

Bytes compressed(Compressor& compressor, const Bytes& in) {
    Bytes out(Compressor::bound(in.size()));
    const auto size = compressor.compress(in, out);
    EXPECT_TRUE(size.has_value());
    out.resize(size.value_or(0));
    return out;
}

TEST(Compress, each_piece_can_be_read_as_soon_as_it_is_there) {
    Random random(1);
    auto compressor = *Compressor::create({});
    auto decompressor = *Decompressor::create();
    for (const size_t size : {1u, 10u, 100u, 5000u, 131072u, 3u, 70000u}) {
        for (const Bytes& piece : {text(random, size), noise(random, size)}) {
            const Bytes wire = compressed(compressor, piece);
            Bytes out(piece.size());
            ASSERT_TRUE(decompressor.decompress(wire, out).has_value()) << size;
            EXPECT_EQ(out, piece);
        }
    }
}

TEST(Compress, a_repeated_piece_costs_next_to_nothing) {
    Random random(2);
    auto compressor = *Compressor::create({});
    const Bytes piece = text(random, 20000);
    const size_t first = compressed(compressor, piece).size();
    const size_t second = compressed(compressor, piece).size();
    EXPECT_LT(second, 64u);
    EXPECT_GT(first, 10 * second);
}

TEST(Compress, small_log_batches_profit_from_those_before) {
    Random random(3);
    auto compressor = *Compressor::create({});
    size_t in = 0;
    size_t out = 0;
    for (int i = 0; i < 200; ++i) {
        const Bytes batch = text(random, 60);
        in += batch.size();
        out += compressed(compressor, batch).size();
    }
    EXPECT_LT(out * 2, in);
}

TEST(Compress, what_is_damaged_is_refused) {
    Random random(4);
    const Bytes piece = text(random, 4000);
    auto compressor = *Compressor::create({});
    const Bytes wire = compressed(compressor, piece);
    Bytes out(piece.size());
    const auto fails = [&](const Bytes& bytes, size_t size) {
        auto decompressor = *Decompressor::create();
        Bytes target(size);
        return !decompressor.decompress(bytes, target).has_value();
    };
    EXPECT_TRUE(fails(Bytes(wire.begin(), wire.end() - 1), piece.size())) << "cut off";
    EXPECT_TRUE(fails(wire, piece.size() - 1)) << "more than announced";
    EXPECT_TRUE(fails(wire, piece.size() + 1)) << "less than announced";
    EXPECT_TRUE(fails(noise(random, 500), 500)) << "no zstd at all";
    EXPECT_TRUE(fails({}, 1)) << "nothing";
}

TEST(Compress, a_window_above_the_limit_is_refused) {
    Random random(5);
    CompressSettings settings;
    settings.window_log = 20;
    auto compressor = *Compressor::create(settings);
    const Bytes piece = text(random, 1000);
    const Bytes wire = compressed(compressor, piece);
    auto small = *Decompressor::create(19);
    Bytes out(piece.size());
    EXPECT_FALSE(small.decompress(wire, out).has_value());
    auto large = *Decompressor::create(20);
    EXPECT_TRUE(large.decompress(wire, out).has_value());
}

TEST(Compress, an_impossible_level_is_named) {
    CompressSettings settings;
    settings.window_log = 99;
    const auto made = Compressor::create(settings);
    ASSERT_FALSE(made.has_value());
    EXPECT_NE(made.error().context.find("window 99"), std::string::npos);
}

TEST(Compress, a_changed_level_is_not_noticed_by_the_reader) {
    Random random(6);
    auto compressor = *Compressor::create({});
    auto decompressor = *Decompressor::create();
    for (const int level : {1, 3, 3, -7, 9, 1}) {
        compressor.set_level(level);
        for (int i = 0; i < 3; ++i) {
            const Bytes piece = text(random, 3000);
            const Bytes wire = compressed(compressor, piece);
            Bytes out(piece.size());
            ASSERT_TRUE(decompressor.decompress(wire, out).has_value());
            EXPECT_EQ(out, piece);
        }
    }
}

TEST(Compress, long_range_finds_what_is_far_away) {
    Random random(7);
    CompressSettings settings;
    settings.window_log = 23;
    settings.long_range = CompressSettings::LongRange::on;
    auto far = *Compressor::create(settings);
    auto near = *Compressor::create({});
    const Bytes block = noise(random, 100000);
    const Bytes between = noise(random, 100000);
    const auto again = [&](Compressor& compressor) {
        (void)compressed(compressor, block);
        for (int i = 0; i < 20; ++i) (void)compressed(compressor, noise(random, 100000));
        return compressed(compressor, block).size();
    };
    EXPECT_LT(again(far), 5000u);
    EXPECT_GT(again(near), 90000u);
}

TEST(Compress, noise_looks_like_noise_and_text_does_not) {
    Random random(8);
    for (int i = 0; i < 200; ++i) {
        EXPECT_TRUE(looks_incompressible(noise(random, 65536)));
        EXPECT_FALSE(looks_incompressible(text(random, 65536)));
        EXPECT_FALSE(looks_incompressible(Bytes(65536)));
        EXPECT_FALSE(looks_incompressible(noise(random, 100))) << "too short to tell";
    }
}

}  // namespace
}  // namespace antipode::wire
