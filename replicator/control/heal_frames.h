// What two sites say to each other to heal a backup (replay/heal.h).
//
//   backup -> primary   HealRequest          in the control class, one message
//   primary -> backup   HealPages* HealChunk* HealEnd    in the seed class, in this order
//   backup -> primary   HealDone             in the control class
//
// Every message names its attempt; one of another attempt is dropped. Encoding: a version byte, a
// kind byte, then StateWriter's; canonical.
//
// Pure values.
#pragma once

#include <cstdint>
#include <span>
#include <variant>
#include <vector>

#include "common/base/result.h"
#include "replicator/replay/heal.h"
#include "replicator/replay/ports.h"

namespace antipode::control {

struct HealPages {
    uint64_t attempt = 0;
    std::vector<replay::DeltaPages::Page> pages;  // at most DeltaPages::kPagesMax
    bool operator==(const HealPages&) const = default;
};

struct HealChunk {
    uint64_t attempt = 0;
    replay::DiskChunk chunk;
    std::vector<std::byte> bytes;  // the last of a drive may be shorter
    bool operator==(const HealChunk&) const = default;
};

struct HealEnd {
    uint64_t attempt = 0;
    uint64_t piece_count = 0;                  // HealPages and HealChunk before this one
    LogIndex position;                         // the log goes on behind this entry
    OutputNumber released;                     // outputs up to this one have left
    std::vector<replay::ReplayedOutput> held;  // made before and not released
    replay::HealAnswer answer;                 // without its pages
};

struct HealDone {
    uint64_t attempt = 0;
    uint64_t page_count = 0;
    bool operator==(const HealDone&) const = default;
};

using HealMessage = std::variant<replay::HealRequest, HealPages, HealChunk, HealEnd, HealDone>;

std::vector<std::byte> encode(const HealMessage& message);
Result<HealMessage> decode_heal_message(std::span<const std::byte> bytes);

}  // namespace antipode::control
