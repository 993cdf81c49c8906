// BulkPacer: how many bytes of bulk may be on their way at once, so that the line stays full and a
// log entry waits behind them for less than kQueueDelayTarget.
//
// Whatever is queued ahead of the bottleneck, be it in ZeroMQ, in the kernel or in a router, shows
// as round trip time above the smallest one seen. So: a window of bytes in flight, adjusted once a
// round trip. As long as the smallest round trip of the round is within half the target of the
// base, the window grows (doubles at first; by an eighth once the line has been found full); above
// the target it shrinks to what was delivered in a base round trip plus half the target. (The same
// signal as TCP Vegas and LEDBAT; the minimum of a round is what makes it stand jitter.)
//
// The base is the smallest round trip of the last kBaseMemory, so that a changed route is learned.
// A cap in bytes a second is a token bucket beside the window.
//
// Pure: time comes in. One owner.
// INVARIANTS: kWindowBytesMin <= window() <= the maximum given.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "common/base/clock.h"

namespace antipode::stream {

class BulkPacer {
  public:
    static constexpr Duration kQueueDelayTarget = std::chrono::microseconds(1000);
    static constexpr uint64_t kWindowBytesMin = 128 << 10;
    static constexpr uint64_t kWindowBytesFirst = 512 << 10;

    explicit BulkPacer(uint64_t window_bytes_max) : window_max_(window_bytes_max) {}

    // Bytes that may be sent now; 0: wait for an acknowledgement or until ready_at().
    uint64_t allowance(Instant now);
    // When the cap lets the next bytes out; Instant::max() when it is the window that holds.
    Instant ready_at(Instant now) const;

    void sent(uint64_t bytes, Instant now);
    // `bytes` have arrived. `rtt`: of the newest of them; nullopt when it was sent more than once.
    void acknowledged(uint64_t bytes, std::optional<Duration> rtt, Instant now);
    // What was in flight is lost or will be sent again.
    void restart(Instant now);
    void set_cap(uint64_t bytes_per_second, Instant now);

    uint64_t window() const { return window_; }
    uint64_t in_flight() const { return in_flight_; }
    uint64_t cap() const { return cap_; }
    std::optional<Duration> queue_delay() const { return queue_delay_; }
    std::optional<Duration> base_rtt() const;
    std::optional<double> delivery_rate() const { return delivery_rate_; }  // bytes a second

  private:
    void end_round(Instant now);
    void learn_base(Duration rtt, Instant now);
    void refill(Instant now);

    uint64_t window_max_;
    uint64_t window_ = kWindowBytesFirst;
    uint64_t in_flight_ = 0;
    bool line_found_full_ = false;

    // The smallest round trip in each of the last slots of time.
    static constexpr size_t kBaseSlots = 8;
    static constexpr Duration kBaseSlot = std::chrono::seconds(8);
    std::array<std::optional<Duration>, kBaseSlots> base_{};
    size_t base_slot_ = 0;
    Instant base_slot_end_{};

    // The round: from an acknowledgement until what was sent then is acknowledged.
    uint64_t sent_total_ = 0;
    uint64_t acknowledged_total_ = 0;
    uint64_t round_end_ = 0;  // acknowledged_total_ at which the round ends
    uint64_t round_acknowledged_ = 0;
    Instant round_start_{};
    std::optional<Duration> round_rtt_min_;
    bool round_limited_ = false;  // the window held something back
    std::optional<Duration> queue_delay_;
    std::optional<double> delivery_rate_;

    uint64_t cap_ = 0;
    double tokens_ = 0;
    Instant tokens_at_{};
};

}  // namespace antipode::stream
