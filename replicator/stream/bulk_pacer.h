// BulkPacer: how many bytes of bulk may be on their way at once, so that the line stays full and a
// log entry waits behind them for about kQueueDelayTarget at most.
//
// Whatever is queued ahead of the bottleneck, be it in ZeroMQ, in the kernel or in a router, shows
// as round trip time above the smallest one seen. So: a window of bytes in flight, adjusted once a
// round trip by the lower quartile of the round trips within it (which stands noise). This is the
// signal of TCP Vegas and LEDBAT. Below half of what is allowed the window grows, above it shrinks
// to what the measured rate delivers in a base round trip.
//
// Not every delay is a queue of ours: a line with jitter delivers late whatever we do. Where round
// trips in a row differ much (a queue of ours changes slowly) the delay says nothing, and the
// window is found by trial: a quarter more that brings no more rate is taken back, a fifth less
// that costs no rate is kept.
//
// The base is the smallest round trip of the last minute, so that a changed route is learned; one
// that nothing comes near to any more, however small the window, is given up at once. Lest
// our own queue be learned as a part of the route, the window is drained for a round in each slot.
// Within a round trip the window is spread by a token bucket, for a burst is a queue, too. A cap in
// bytes a second is another one.
//
// Pure: time comes in. One owner.
// INVARIANTS: kWindowBytesMin <= window() <= the maximum given.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "common/base/clock.h"

namespace antipode::stream {

class BulkPacer {
  public:
    static constexpr Duration kQueueDelayTarget = std::chrono::microseconds(1000);
    static constexpr uint64_t kPieceBytesMin = 4 << 10;
    static constexpr uint64_t kPieceBytesMax = 128 << 10;
    static constexpr uint64_t kWindowBytesMin = 4 * kPieceBytesMin;
    static constexpr uint64_t kWindowBytesFirst = 128 << 10;

    explicit BulkPacer(uint64_t window_bytes_max) : window_max_(window_bytes_max) {}

    // Bytes that may be sent now; 0: wait for an acknowledgement or until ready_at().
    uint64_t allowance(Instant now);
    // How large a piece may be, so that the line is done with it in a quarter of a millisecond.
    uint64_t piece_bytes() const;
    // When a bucket lets the next bytes out; Instant::max() when it is the window that holds.
    Instant ready_at(Instant now) const;

    void sent(uint64_t bytes, Instant now);
    // `bytes` have arrived. `rtt`: of the newest of them; nullopt when it was sent more than once.
    void acknowledged(uint64_t bytes, std::optional<Duration> rtt, Instant now);
    // What was in flight is lost or will be sent again.
    void restart(Instant now);
    void set_cap(uint64_t bytes_per_second, Instant now);

    uint64_t window() const { return window_; }
    uint64_t in_flight() const { return in_flight_; }
    Duration noise() const { return noise_; }
    std::optional<Duration> queue_delay() const { return queue_delay_; }
    std::optional<Duration> base_rtt() const;
    std::optional<double> delivery_rate() const { return delivery_rate_; }  // bytes a second
    // What the line carries: the rate when last nothing but the line held bulk back.
    std::optional<double> line_rate() const { return line_rate_; }

  private:
    void end_round(Instant now);
    void learn_line();
    void adjust(Duration delay, double rate, Duration base);
    bool believes(Duration delay, Duration base);
    bool stands(Duration delay);
    void rebase(Duration base);
    void grow(double rate);
    void step_up(uint64_t bytes);
    void shrink(double rate, Duration base);
    void adjust(Duration delay, Duration base, Instant now);
    void next_trial();
    void begin_trial(double factor);
    void judge_trial(double rate);
    void learn_base(Duration rtt, Instant now);
    void begin_round(Instant now);
    void set_pace(Instant now);
    uint64_t limit() const;
    void learn_noise(Duration rtt, Instant now);
    double smoothed_rate() const;

    uint64_t window_max_;
    uint64_t window_ = kWindowBytesFirst;
    uint64_t in_flight_ = 0;
    bool line_found_full_ = false;
    // A step up is made in parts, over a round, and looked at for a round: what was sent with the
    // new window is acknowledged only then.
    uint64_t growth_ = 0;  // bytes of the last step up
    double growth_per_byte_ = 0;
    uint64_t goal_ = 0;
    bool observing_ = false;
    uint64_t drain_bytes_ = 0;  // less in flight in this round
    // What the rounds before have shown of a queue.
    struct Seen {
        bool doubted = false;  // in the last one, and it was not believed
        int standing = 0;      // rounds in a row in which the window's giving way did not lessen it
        Duration delay{};      // in the first of these
    };
    Seen seen_;

    // The smallest round trip in each of the last slots of time.
    static constexpr size_t kBaseSlots = 8;
    static constexpr Duration kBaseSlot = std::chrono::seconds(8);
    std::array<std::optional<Duration>, kBaseSlots> base_{};
    size_t base_slot_ = 0;
    Instant base_slot_end_{};
    bool drain_wanted_ = false;

    // The round: from an acknowledgement until what was sent then is acknowledged.
    uint64_t sent_total_ = 0;
    uint64_t acknowledged_total_ = 0;
    uint64_t round_end_ = 0;  // acknowledged_total_ at which the round ends
    uint64_t round_acknowledged_ = 0;
    Instant round_start_{};
    static constexpr size_t kRoundSamplesMax = 4096;
    std::vector<Duration> round_rtts_;
    bool round_limited_ = false;         // the window held something back
    bool round_capped_ = false;          // the cap did
    std::optional<Duration> round_rtt_;  // of the last round
    std::optional<Duration> queue_delay_;
    std::optional<double> delivery_rate_;
    std::optional<double> line_rate_;
    // The last rounds: bytes and time.
    static constexpr size_t kRounds = 4;
    struct Round {
        uint64_t bytes = 0;
        Duration time{};
    };
    std::array<Round, kRounds> rounds_{};
    size_t round_index_ = 0;
    double peak_rate_ = 0;    // of the last rounds
    size_t line_rounds_ = 0;  // the last so many in which only the line held bulk back

    // How much round trips some milliseconds apart differ.
    Instant next_noise_{};
    std::optional<Duration> last_rtt_;
    Duration noise_{};
    Instant quiet_at_{};  // the last time there was none

    // On a line with jitter: a window that is being tried, against what it was before.
    struct Trial {
        double factor = 1;  // 1: measures the rate that the next trials are compared with
        uint64_t window_before = 0;
        int rounds = 0;
        Duration rtt_sum{};  // of what was acknowledged since the window was the new one
        uint64_t rtt_count = 0;
    };
    std::optional<Trial> trial_;
    bool trials_failed_ = false;  // one has: the line is not far from full
    double reference_rate_ = 0;   // window / mean round trip: what goes through when it is full

    // Bytes that time has let out: at a rate, with a small burst.
    struct Bucket {
        double rate = 0;  // bytes a second; 0: does not hold anything back
        double burst = 0;
        double tokens = 0;
        Instant at{};
        void refill(Instant now);
        bool open() const { return rate == 0 || tokens > 0; }
        Instant opens_at(Instant now) const;
        void set(double new_rate, double new_burst, Instant now);
    };
    Bucket cap_;
    Bucket pace_;  // spreads the window over the round trip
};

}  // namespace antipode::stream
