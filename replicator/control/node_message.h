// What travels in the channel's messages: a frame's message_type. Numbers are never given twice.
// docs/PROTOCOL-channel.md has them all, with who says what to whom.
//
// Pure values.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "common/base/ids.h"

namespace antipode::control {

enum class NodeMessage : uint8_t {
    log_batch = 1,
    acknowledge = 2,
    peer = 3,
    lag_report = 4,
    seed_piece = 5,
    seed_progress = 6,
    seed_digests = 7,  // from the new backup: what it holds of the disks
    seed_ratio = 8,    // to the new backup: how far its seed is
    heal = 16,
    resend = 20,         // from the backup: entries were dropped here that are wanted now
    switch_wanted = 24,  // from the backup: an operator there asks for a switchover
    switch_refused = 25,
    verify = 28,  // of the disks, both ways
};

constexpr std::string_view to_string(NodeMessage message) {
    switch (message) {
        case NodeMessage::log_batch:
            return "log batch";
        case NodeMessage::acknowledge:
            return "acknowledge";
        case NodeMessage::peer:
            return "peer message";
        case NodeMessage::lag_report:
            return "lag report";
        case NodeMessage::seed_piece:
            return "seed piece";
        case NodeMessage::seed_progress:
            return "seed progress";
        case NodeMessage::seed_digests:
            return "seed digests";
        case NodeMessage::seed_ratio:
            return "seed ratio";
        case NodeMessage::heal:
            return "heal";
        case NodeMessage::resend:
            return "resend";
        case NodeMessage::switch_wanted:
            return "switch wanted";
        case NodeMessage::switch_refused:
            return "switch refused";
        case NodeMessage::verify:
            return "verify";
    }
    return "unknown";
}

// Said within an epoch, and of no use after it. The others carry what they depend on in themselves
// (the core's own messages), name an attempt (seeds), or are for people.
constexpr bool is_of_an_epoch(NodeMessage message) {
    switch (message) {
        case NodeMessage::log_batch:
        case NodeMessage::acknowledge:
        case NodeMessage::resend:
        case NodeMessage::heal:
        case NodeMessage::switch_wanted:
        case NodeMessage::verify:
            return true;
        case NodeMessage::peer:
        case NodeMessage::lag_report:
        case NodeMessage::seed_piece:
        case NodeMessage::seed_progress:
        case NodeMessage::seed_digests:
        case NodeMessage::seed_ratio:
        case NodeMessage::switch_refused:
            return false;
    }
    return false;
}

// Its sender was in an epoch that is over at the receiver: refused and counted.
constexpr bool is_stale(NodeMessage message, Epoch said_in, Epoch now) {
    return is_of_an_epoch(message) && said_in < now;
}

// The whole of a message that names one entry of the log: acknowledge, lag report, resend.
constexpr size_t kIndexBytes = 8;

inline std::array<std::byte, kIndexBytes> encode_index(LogIndex index) {
    std::array<std::byte, kIndexBytes> bytes{};
    for (size_t i = 0; i < kIndexBytes; ++i) {
        bytes[i] = static_cast<std::byte>(index.value() >> (8 * i));
    }
    return bytes;
}

inline std::optional<LogIndex> decode_index(std::span<const std::byte> bytes) {
    if (bytes.size() != kIndexBytes) return std::nullopt;
    uint64_t value = 0;
    for (size_t i = 0; i < kIndexBytes; ++i) value |= static_cast<uint64_t>(bytes[i]) << (8 * i);
    return LogIndex(value);
}

}  // namespace antipode::control
