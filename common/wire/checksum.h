// The checksums of frames and the numbers derived from names.
//
// checksum64 (XXH3, 64 bits) finds accidents in frames and files; forgery is kept out by CURVE and
// HMAC, not by it. xxh64 (XXH64, seed 0) makes identifiers that other programs should be able to
// compute as well. Both are frozen formats.
//
// Pure; any thread.
#pragma once

#include <array>
#include <bit>
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

// The same at both sites: XXH64 of the two incarnations, the lower first. Never 0.
inline uint64_t session_id(Incarnation one, Incarnation other) {
    const std::array<uint64_t, 2> sorted = one < other ? std::array{one.value(), other.value()}
                                                       : std::array{other.value(), one.value()};
    const uint64_t id = XXH64(sorted.data(), sizeof sorted, 0);
    return id == 0 ? 1 : id;
}

}  // namespace antipode::wire
