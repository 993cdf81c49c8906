// Whether bytes are nothing but zeros: what is so is not stored, sent or kept.
//
// Pure.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>

namespace antipode {

inline bool all_zero(std::span<const std::byte> bytes) {
    return std::all_of(bytes.begin(), bytes.end(),
                       [](std::byte each) { return each == std::byte{0}; });
}

}  // namespace antipode
