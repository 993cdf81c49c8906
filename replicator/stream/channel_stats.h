// ChannelStats: what a channel has done and how its line is, as plain numbers. A snapshot; the
// ZeroMQ thread refreshes it several times a second.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "common/base/clock.h"
#include "common/wire/frame.h"

namespace antipode::stream {

template <typename T>
using PerClass = std::array<T, wire::kMessageClassCount>;

struct StreamStats {
    uint64_t messages_sent = 0;  // completely handed to the connection
    uint64_t messages_received = 0;
    uint64_t frames_sent = 0;
    uint64_t frames_repeated = 0;
    uint64_t frames_received = 0;
    uint64_t payload_bytes_sent = 0;  // before compression, repeats not counted
    uint64_t payload_bytes_received = 0;
    uint64_t body_bytes_sent = 0;  // after compression, repeats not counted
    uint64_t body_bytes_received = 0;
    uint64_t duplicates = 0;     // frames that had been received before; dropped
    uint64_t gap_frames = 0;     // frames after a missing one; dropped, sent again by the peer
    uint64_t waiting_bytes = 0;  // accepted by send(), not yet acknowledged
    uint64_t credit_bytes = 0;   // that the peer grants beyond what was sent
    friend bool operator==(const StreamStats&, const StreamStats&) = default;
};

struct ChannelStats {
    PerClass<StreamStats> streams{};
    uint64_t wire_bytes_sent = 0;  // frames with headers, repeats counted
    uint64_t wire_bytes_received = 0;
    uint64_t frames_sent = 0;
    uint64_t frames_received = 0;
    uint64_t acks_sent = 0;
    uint64_t acks_received = 0;
    uint64_t connects = 0;
    uint64_t reconnects = 0;  // after the first
    uint64_t sessions = 0;    // fresh ones
    uint64_t resumes = 0;
    uint64_t garbage_frames = 0;        // broken header, body or rule
    uint64_t stale_session_frames = 0;  // of a session that is not ours any more, or not yet
    uint64_t wrong_pair_frames = 0;
    uint64_t refused_keys = 0;   // connections that the ZAP handler turned away
    uint64_t refused_peers = 0;  // hellos of another version, site or pair
    // When a piece of a message last came: what the peer's core had to say, not its thread.
    std::optional<Instant> data_heard;
    std::optional<Duration> rtt;  // of pings on the urgent connection, smoothed
    std::optional<Duration> rtt_min;
    std::optional<Duration> jitter;
    double sent_bytes_per_second = 0;  // over the last second
    double received_bytes_per_second = 0;
    uint64_t bulk_window_bytes = 0;  // what bulk may have in flight
    uint64_t bulk_in_flight_bytes = 0;
    std::optional<double> bulk_delivery_bytes_per_second;
    std::optional<double> line_bytes_per_second;  // when last only the line held bulk back
    std::optional<Duration> bulk_queue_delay;     // that bulk adds to the line, last round
    uint64_t bulk_cap_bytes_per_second = 0;       // 0: none
    int bulk_compression_level = 0;               // zstd's, as chosen by LevelControl; 0: none

    StreamStats& of(wire::MessageClass c) { return streams[wire::index_of(c)]; }
    const StreamStats& of(wire::MessageClass c) const { return streams[wire::index_of(c)]; }
};

}  // namespace antipode::stream
