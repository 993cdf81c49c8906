// Bytes as hexadecimal digits, for golden bytes.
#pragma once

#include <cstddef>
#include <span>
#include <string>

namespace antipode::wire {

inline std::string hex(std::span<const std::byte> bytes) {
    constexpr const char* kDigits = "0123456789abcdef";
    std::string text;
    for (const std::byte b : bytes) {
        text.push_back(kDigits[std::to_integer<unsigned>(b) >> 4]);
        text.push_back(kDigits[std::to_integer<unsigned>(b) & 15]);
    }
    return text;
}

}  // namespace antipode::wire
