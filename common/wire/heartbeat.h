// HeartbeatPacket: the UDP datagram by which the two sites of a pair know of each other's life
// without the logging channel, and from which delay, loss and clock offset are measured.
//
//   144 bytes of fields, little endian, then 32 bytes HMAC-SHA256 over them with the pair's key.
//
// Each packet echoes the newest packet of the peer: its sequence number and send time, and how long
// ago it came. The echo proves that the sender is alive now, whatever is replayed on the line, and
// makes round trip and offset: rtt = now - echo_sent - echo_hold.
//
// seal() writes the HMAC; open() verifies it, in constant time, before it looks at any field. Pure;
// any thread. A packet of a version above ours is refused: heartbeats are versioned with the
// channel's hello.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "common/base/ids.h"
#include "common/base/result.h"

namespace antipode::wire {

constexpr size_t kHeartbeatKeyBytes = 32;
constexpr size_t kHeartbeatMacBytes = 32;
constexpr size_t kHeartbeatFieldBytes = 144;
constexpr size_t kHeartbeatBytes = kHeartbeatFieldBytes + kHeartbeatMacBytes;
constexpr size_t kHeartbeatPathsMax = 8;

using HeartbeatKey = std::array<std::byte, kHeartbeatKeyBytes>;
using HeartbeatBytes = std::array<std::byte, kHeartbeatBytes>;

struct HeartbeatPacket {
    PairId pair;
    Member from;
    Incarnation to;              // whom the sender has heard last, or 0
    uint8_t path = 0;            // index of the path that it was sent on
    Epoch epoch;                 // the sender's
    uint64_t sequence = 0;       // from 1; one number per interval, the same on all paths
    uint64_t sent_ns = 0;        // the sender's monotonic clock
    uint64_t echo_sequence = 0;  // of the newest packet of `to` on this path; 0: none yet
    uint64_t echo_sent_ns = 0;   // its sent_ns
    uint64_t echo_hold_ns = 0;   // from its arrival until this was sent
    friend bool operator==(const HeartbeatPacket&, const HeartbeatPacket&) = default;
};

HeartbeatBytes seal(const HeartbeatPacket& packet, const HeartbeatKey& key);
Result<HeartbeatPacket> open(std::span<const std::byte> datagram, const HeartbeatKey& key);

}  // namespace antipode::wire
