// HeartbeatTracker: what to put into the next heartbeat, and what to make of one that came: who is
// alive, how far away, how many are lost. No sockets, no clock.
//
// One owner, core thread. INVARIANTS
//   - Only packets with the pair's HMAC are looked at, and of those only the peer site's.
//   - A packet counts once: a window of sequence numbers a path drops repeats.
//   - A process of the peer counts as alive only after it has echoed a packet that this process
//     sent within kEchoAgeMax: recordings of an earlier life, replayed, prove nothing. One that was
//     followed by another never counts again.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <vector>

#include "common/base/clock.h"
#include "common/base/ids.h"
#include "common/wire/heartbeat.h"

namespace antipode::stream {

struct HeartbeatStats {
    uint64_t sent = 0;
    uint64_t received = 0;  // counted as signs of life
    uint64_t replayed = 0;  // seen before, or too old to tell
    uint64_t forged = 0;    // not made with the pair's key
    uint64_t garbage = 0;   // made with the key, but makes no sense here
    uint64_t unproven = 0;  // of a process that has not echoed us yet, or of an earlier one
    uint64_t send_errors = 0;
    std::optional<Duration> rtt;  // smoothed
    std::optional<Duration> rtt_min;
    std::optional<Duration> jitter;    // mean deviation of the round trip
    std::optional<double> loss_ratio;  // 0..1, over the last 256 numbers
    std::optional<Instant> last_heard;
    // The peer's monotonic clock minus ours, by the packet with the smallest round trip of late.
    std::optional<Duration> clock_offset;
};

struct HeartbeatEvent {
    enum class Copy : uint8_t { first = 1, again };  // again: its number has come on another path

    size_t path = 0;
    Member from;
    Epoch epoch;
    uint64_t sequence = 0;
    Copy copy = Copy::first;
    Instant at{};
    std::optional<Duration> rtt;
    std::optional<Instant>
        echo_of;  // it was sent after a packet of ours that was sent then; with rtt
};

// Which of the last kBits numbers were seen. A number that has left the window counts as seen.
class SequenceWindow {
  public:
    static constexpr uint64_t kBits = 256;
    // Notes it; false if it was seen before.
    bool add(uint64_t sequence);
    uint64_t highest() const { return highest_; }
    std::optional<double> loss_ratio() const;

  private:
    bool test(uint64_t sequence) const {
        return (bits_[sequence % kBits / 64] >> sequence % 64 & 1) != 0;
    }
    void set(uint64_t sequence, bool seen);

    uint64_t lowest_ = 0;  // the first that was ever added
    uint64_t highest_ = 0;
    uint64_t seen_count_ = 0;
    std::array<uint64_t, kBits / 64> bits_{};
};

class HeartbeatTracker {
  public:
    static constexpr Duration kEchoAgeMax = std::chrono::seconds(10);

    HeartbeatTracker(wire::HeartbeatKey key, PairId pair, Member self, Name peer_site,
                     size_t path_count);

    void set_epoch(Epoch epoch) { epoch_ = epoch; }
    // One number for all paths: call it once an interval, then packet() for each path.
    void next_sequence() { ++sequence_; }
    uint64_t sequence() const { return sequence_; }
    void go_on_after(uint64_t sequence) { sequence_ = sequence; }
    wire::HeartbeatBytes packet(size_t path, Instant now);
    std::optional<HeartbeatEvent> received(size_t path, std::span<const std::byte> datagram,
                                           Instant now);
    void send_failed(size_t path) { ++paths_[path].stats.send_errors; }

    // Of one path, and of all together: the best delay, the loss that is left.
    const HeartbeatStats& path_stats(size_t path) const { return paths_[path].stats; }
    HeartbeatStats stats() const;
    size_t path_count() const { return paths_.size(); }
    const std::optional<Member>& peer() const { return peer_; }

  private:
    struct Echo {
        Incarnation from;
        uint64_t sequence = 0;
        uint64_t sent_ns = 0;
        Instant arrived{};
    };
    struct Sent {
        uint64_t sequence = 0;
        uint64_t sent_ns = 0;
    };
    struct OffsetSample {
        Instant at;
        Duration rtt;
        Duration offset;
    };
    static constexpr size_t kSentRing = 1024;
    struct Path {
        SequenceWindow window;
        std::optional<Echo> echo;  // the newest packet of the peer, or of who may be it
        std::array<Sent, kSentRing> sent{};
        uint64_t last_echoed = 0;
        std::deque<OffsetSample> offsets;
        HeartbeatStats stats;
    };

    bool accept_peer(Path& path, const wire::HeartbeatPacket& packet, Instant now);
    bool proves_life(const Path& path, const wire::HeartbeatPacket& packet, Instant now) const;
    std::optional<Duration> round_trip(const Path& path, const wire::HeartbeatPacket& packet,
                                       Instant now) const;
    static bool has_possible_times(const wire::HeartbeatPacket& packet);
    void learn(Path& path, const wire::HeartbeatPacket& packet, Duration rtt, Instant now);

    wire::HeartbeatKey key_;
    PairId pair_;
    Member self_;
    Name peer_site_;
    Epoch epoch_;
    uint64_t sequence_ = 0;
    std::optional<Member> peer_;
    std::deque<Incarnation> finished_;
    std::vector<Path> paths_;
    SequenceWindow any_path_;
};

}  // namespace antipode::stream
