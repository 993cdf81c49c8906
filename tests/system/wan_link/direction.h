// Direction: one direction of an emulated line, as arithmetic: it says when what is sent now
// arrives, and what never does. It neither sends nor waits; tcp_forward and udp_forward do.
//
// The line: a queue of bounded length (in time), then a transmitter of a given rate, then a delay
// with jitter. Everything that goes in this direction, over all forwards, shares the transmitter.
// A stream (TCP) never loses: a lost segment costs a stall, as a retransmission would, and what is
// behind it waits. A datagram is lost, duplicated or overtaken. Only payload counts for the rate.
//
// INVARIANTS
// - A stream's pieces arrive in order; so do datagrams that were not picked for reordering.
// - Equal seeds and calls give equal answers. Pure: time comes in as an argument.
// One owner, one thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "common/base/clock.h"
#include "common/base/random.h"
#include "common/base/result.h"

namespace antipode::wan {

struct Settings {
    Duration delay{};                                // one way
    Duration jitter{};                               // uniform in delay +- jitter, never below zero
    double rate_bytes_per_second = 0;                // 0 = without limit
    Duration queue = std::chrono::milliseconds(20);  // before the transmitter
    bool tail_drop = false;  // a datagram finds no room where a stream finds none
    double loss = 0;         // of a segment (1448 bytes) or a datagram
    Duration stall{};        // what a lost segment costs its stream; 0 = one round trip
    double duplicate = 0;
    double reorder = 0;  // share of datagrams held back by reorder_delay
    Duration reorder_delay = std::chrono::milliseconds(5);
};

// `delay_ms=50`, `jitter_ms=5`, `rate_mbytes=125`, `queue_ms=20`, `tail_drop=1`, `loss=0.01`,
// `stall_ms=300`, `duplicate=0.01`, `reorder=0.1`, `reorder_ms=5`.
Result<> set_field(Settings& settings, std::string_view field, std::string_view value);

// What a line does when it is cut. hold: traffic waits and nobody notices. blackhole: packets
// vanish, so that the senders' own retransmission timers run. reset: connections break.
enum class Cut { none, hold, blackhole, reset };

struct DirectionStats {
    uint64_t stream_bytes = 0;
    uint64_t stalls = 0;
    uint64_t datagrams = 0;
    uint64_t datagram_bytes = 0;
    uint64_t datagrams_lost = 0;      // by chance
    uint64_t datagrams_cut = 0;       // by a cut
    uint64_t datagrams_overflow = 0;  // the queue was full
    uint64_t datagrams_duplicated = 0;
    uint64_t datagrams_reordered = 0;
    uint64_t buffered_bytes = 0;
    uint64_t buffered_bytes_peak = 0;
    Duration lateness_max{};  // of our own deliveries against the plan: the emulator's error
    uint64_t deliveries = 0;
    Duration lateness_sum{};
};

class Direction {
  public:
    static constexpr size_t kSegmentBytes = 1448;
    static constexpr size_t kPieceBytesMax = 256 * 1024;

    explicit Direction(uint64_t seed) : random_(seed) {}

    Settings& settings() { return settings_; }
    const Settings& settings() const { return settings_; }
    Cut cut() const { return cut_; }
    void set_cut(Cut cut) { cut_ = cut; }
    DirectionStats& stats() { return stats_; }
    const DirectionStats& stats() const { return stats_; }

    // From when on the queue takes more of a stream.
    Instant room_at() const { return line_free_ - settings_.queue; }
    // The largest piece of a stream to send at once: a millisecond's worth, so that a piece's
    // length does not show in its delay.
    size_t piece_bytes_max() const;
    // When a piece sent at `now` arrives. `floor`: when the stream's piece before it does.
    Instant stream(Instant now, size_t bytes, Instant floor, Duration round_trip);

    struct Arrivals {
        std::array<Instant, 2> at{};
        size_t count = 0;      // 0 = lost, 2 = duplicated
        bool in_order = true;  // false: later datagrams may overtake this one
    };
    Arrivals datagram(Instant now, size_t bytes, Instant floor);

    void buffered(size_t bytes);
    void unbuffered(size_t bytes) { stats_.buffered_bytes -= bytes; }
    void delivered(Instant planned, Instant now);

  private:
    Duration transmission(size_t bytes) const;
    Instant transmitted(Instant now, size_t bytes);
    Duration travel();

    Settings settings_;
    Cut cut_ = Cut::none;
    DirectionStats stats_;
    Random random_;
    Instant line_free_{};  // when the transmitter has sent everything accepted so far
};

}  // namespace antipode::wan
