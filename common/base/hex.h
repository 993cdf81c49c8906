// Bytes as hexadecimal digits, for people and text files.
//
// Pure.
#pragma once

#include <cstddef>
#include <fmt/format.h>
#include <span>
#include <string>

namespace antipode {

inline std::string to_hex(std::span<const std::byte> bytes) {
    std::string text;
    for (const std::byte each : bytes) text += fmt::format("{:02x}", static_cast<unsigned>(each));
    return text;
}

}  // namespace antipode
