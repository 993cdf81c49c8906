// Encoding of PeerMessage: a fixed 224-byte little-endian struct, the same for every kind, so that
// it is canonical by construction: equal values, equal bytes, and reserved bytes are zero.
//
// Pure. decode() refuses what encode() would not have made and names the rule.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "common/base/result.h"
#include "common/wire/failover_messages.h"

namespace antipode::wire {

constexpr size_t kPeerMessageBytes = 224;

std::vector<std::byte> encode(const PeerMessage& message);
Result<PeerMessage> decode_peer_message(std::span<const std::byte> bytes);

}  // namespace antipode::wire
