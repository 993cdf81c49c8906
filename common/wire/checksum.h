// The checksums of frames and the numbers derived from names.
//
// checksum64 (XXH3, 64 bits) finds accidents in frames and files; forgery is kept out by CURVE and
// HMAC, not by it. xxh64 (XXH64, seed 0) makes identifiers that other programs should be able to
// compute as well. Both are frozen formats.
//
// Pure; any thread.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <xxhash.h>

#include "common/base/ids.h"

namespace antipode::wire {

static_assert(std::endian::native == std::endian::little,
              "the wire formats are little endian and so are all hosts that Antipode runs on");

inline uint64_t checksum64(std::span<const std::byte> bytes) {
    return XXH3_64bits(bytes.data(), bytes.size());
}

inline uint64_t xxh64(std::string_view text) {
    return XXH64(text.data(), text.size(), 0);
}

// Binds frames and heartbeats to their pair.
inline PairId pair_id(const Name& pair) {
    return PairId(xxh64(pair.view()));
}

// One of the channels that a process has opened, from 1 on.
struct ChannelEnd {
    Incarnation incarnation;
    uint32_t channel = 1;
    friend auto operator<=>(const ChannelEnd&, const ChannelEnd&) = default;
};

// The same at both sites: XXH64 of the two incarnations, the lower first. The channels are its
// seed, such that it is 0 for the first of both. Never 0.
inline uint64_t session_id(const ChannelEnd& one, const ChannelEnd& other) {
    const auto& [low, high] = std::minmax(one, other);
    const std::array<uint64_t, 2> incarnations{low.incarnation.value(), high.incarnation.value()};
    const uint64_t seed = uint64_t{low.channel - 1} << 32 | uint64_t{high.channel - 1};
    const uint64_t id = XXH64(incarnations.data(), sizeof incarnations, seed);
    return id == 0 ? 1 : id;
}
inline uint64_t session_id(Incarnation one, Incarnation other) {
    return session_id(ChannelEnd{one}, ChannelEnd{other});
}

}  // namespace antipode::wire
