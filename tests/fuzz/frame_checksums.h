// Both kinds of frames have their length and their two checksums at the same places of a header: a
// fuzzer makes them right, for without that nothing but the checksums would be tested.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "common/wire/checksum.h"

namespace antipode::wire {

inline void put_little_endian(std::vector<std::byte>& bytes, size_t at, uint64_t value,
                              size_t count) {
    for (size_t i = 0; i < count; ++i) bytes[at + i] = static_cast<std::byte>(value >> (8 * i));
}

inline void make_right(std::vector<std::byte>& bytes, size_t header_bytes, uint64_t body_checksum) {
    constexpr size_t kBodyBytesOffset = 12;
    constexpr size_t kHeaderChecksumOffset = 48;
    constexpr size_t kBodyChecksumOffset = 56;
    put_little_endian(bytes, kBodyBytesOffset, bytes.size() - header_bytes, 4);
    put_little_endian(bytes, kBodyChecksumOffset, body_checksum, 8);
    put_little_endian(bytes, kHeaderChecksumOffset, 0, 8);
    const auto header = std::span<const std::byte>(bytes).first(header_bytes);
    put_little_endian(bytes, kHeaderChecksumOffset, checksum64(header), 8);
}

}  // namespace antipode::wire
