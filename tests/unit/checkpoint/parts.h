// Parts and bytes that more than one test of checkpoints needs.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "replicator/checkpoint/checkpoint_part.h"

namespace antipode::checkpoint {

inline std::vector<std::byte> some_bytes(size_t count, uint8_t first = 1) {
    std::vector<std::byte> bytes;
    for (size_t i = 0; i < count; ++i) bytes.push_back(static_cast<std::byte>(first + i % 251));
    return bytes;
}

inline replay::DeltaPages::Page full_page(uint64_t number, uint8_t value = 7) {
    return {number, std::vector<std::byte>(4096, std::byte{value})};
}

inline replay::ReplayedOutput console_output(uint64_t number, std::string_view text) {
    const auto bytes = std::as_bytes(std::span(text));
    return {OutputNumber(number), {vmm::Output::Kind::console, 0, {bytes.begin(), bytes.end()}}};
}

inline std::vector<std::byte> encoded(const Part& part) {
    PartEncoder encoder;
    return encoder.encode(part);
}

}  // namespace antipode::checkpoint
