#include "replicator/stream/heartbeat_tracker.h"

#include <algorithm>
#include <bit>

#include "common/base/check.h"

namespace antipode::stream {
namespace {

constexpr size_t kFinishedMax = 64;
constexpr size_t kOffsetSamples = 128;
constexpr Duration kOffsetAge = std::chrono::seconds(10);

uint64_t nanoseconds(Instant at) {
    return static_cast<uint64_t>(at.time_since_epoch().count());
}

// A path on which nothing came for so long, while another was heard, says nothing of the line.
constexpr Duration kPathSilent = std::chrono::seconds(3);

Duration from_ns(uint64_t ns) {
    return Duration(static_cast<int64_t>(ns));
}

}  // namespace

void SequenceWindow::set(uint64_t sequence, bool seen) {
    uint64_t& word = bits_[sequence % kBits / 64];
    const uint64_t bit = uint64_t{1} << sequence % 64;
    const bool was = (word & bit) != 0;
    if (was && !seen) --seen_count_;
    if (!was && seen) ++seen_count_;
    word = seen ? word | bit : word & ~bit;
}

bool SequenceWindow::add(uint64_t sequence) {
    if (highest_ == 0) {
        lowest_ = sequence;
        highest_ = sequence;
        set(sequence, true);
        return true;
    }
    if (sequence <= highest_) {
        if (highest_ - sequence >= kBits) return false;
        // What was sent before the first that came is late: nobody counts on it, nor counts it.
        if (sequence < lowest_ || test(sequence)) return false;
        set(sequence, true);
        return true;
    }
    // A jump of more than the window leaves nothing of it.
    const uint64_t first_new = highest_ + 1;
    const uint64_t clear_from = sequence - first_new >= kBits ? sequence - kBits + 1 : first_new;
    for (uint64_t s = clear_from; s != sequence; ++s) set(s, false);
    set(sequence, false);
    set(sequence, true);
    highest_ = sequence;
    return true;
}

std::optional<double> SequenceWindow::loss_ratio() const {
    if (highest_ == 0) return std::nullopt;
    const uint64_t expected = std::min(kBits, highest_ - lowest_ + 1);
    return 1.0 - static_cast<double>(seen_count_) / static_cast<double>(expected);
}

HeartbeatTracker::HeartbeatTracker(wire::HeartbeatKey key, PairId pair, Member self, Name peer_site,
                                   size_t path_count)
    : key_(key), pair_(pair), self_(self), peer_site_(peer_site), paths_(path_count) {
    FT_CHECK(path_count >= 1 && path_count <= wire::kHeartbeatPathsMax, "{} paths", path_count);
    FT_CHECK(self.incarnation != Incarnation(), "a heartbeat needs an incarnation");
}

wire::HeartbeatBytes HeartbeatTracker::packet(size_t path, Instant now) {
    Path& p = paths_[path];
    wire::HeartbeatPacket packet;
    packet.pair = pair_;
    packet.from = self_;
    packet.path = static_cast<uint8_t>(path);
    packet.epoch = epoch_;
    packet.sequence = sequence_;
    packet.sent_ns = nanoseconds(now);
    if (p.echo) {
        packet.to = p.echo->from;
        packet.echo_sequence = p.echo->sequence;
        packet.echo_sent_ns = p.echo->sent_ns;
        packet.echo_hold_ns = static_cast<uint64_t>((now - p.echo->arrived).count());
    }
    p.sent[sequence_ % kSentRing] = {sequence_, packet.sent_ns};
    ++p.stats.sent;
    return wire::seal(packet, key_);
}

// From our packet that it echoes; nullopt if it echoes none that we know.
std::optional<Duration> HeartbeatTracker::round_trip(const Path& path,
                                                     const wire::HeartbeatPacket& packet,
                                                     Instant now) const {
    if (packet.to != self_.incarnation || packet.echo_sequence == 0) return std::nullopt;
    const Sent& sent = path.sent[packet.echo_sequence % kSentRing];
    if (sent.sequence != packet.echo_sequence || sent.sent_ns != packet.echo_sent_ns) {
        return std::nullopt;
    }
    const Duration total = now.time_since_epoch() - from_ns(sent.sent_ns);
    if (packet.echo_hold_ns > static_cast<uint64_t>(std::max<int64_t>(total.count(), 0))) {
        return std::nullopt;
    }
    return total - from_ns(packet.echo_hold_ns);
}

bool HeartbeatTracker::proves_life(const Path& path, const wire::HeartbeatPacket& packet,
                                   Instant now) const {
    if (!round_trip(path, packet, now)) return false;
    return now.time_since_epoch() - from_ns(packet.echo_sent_ns) <= kEchoAgeMax;
}

bool HeartbeatTracker::accept_peer(Path& path, const wire::HeartbeatPacket& packet, Instant now) {
    if (peer_ && *peer_ == packet.from) return true;
    const Incarnation incarnation = packet.from.incarnation;
    const bool over = std::find(finished_.begin(), finished_.end(), incarnation) != finished_.end();
    if (over || !proves_life(path, packet, now)) {
        ++path.stats.unproven;
        // Whoever it is gets an echo, so that it can prove us alive; unless there is a peer, who
        // needs it.
        if (!over && !peer_) path.echo = Echo{incarnation, packet.sequence, packet.sent_ns, now};
        return false;
    }
    if (peer_) {
        finished_.push_back(peer_->incarnation);
        if (finished_.size() > kFinishedMax) finished_.pop_front();
    }
    peer_ = packet.from;
    any_path_ = SequenceWindow();
    for (Path& p : paths_) {
        p.window = SequenceWindow();
        p.echo.reset();
        p.offsets.clear();
    }
    return true;
}

std::optional<HeartbeatEvent> HeartbeatTracker::received(size_t path,
                                                         std::span<const std::byte> datagram,
                                                         Instant now) {
    Path& p = paths_[path];
    const auto packet = wire::open(datagram, key_);
    if (!packet) {
        ++(packet.error().code == Errc::denied ? p.stats.forged : p.stats.garbage);
        return std::nullopt;
    }
    if (packet->pair != pair_ || packet->from.site != peer_site_ || packet->path != path ||
        !has_possible_times(*packet)) {
        ++p.stats.garbage;
        return std::nullopt;
    }
    if (!accept_peer(p, *packet, now)) return std::nullopt;
    const bool newest = packet->sequence > p.window.highest();
    if (!p.window.add(packet->sequence)) {
        ++p.stats.replayed;
        return std::nullopt;
    }
    ++p.stats.received;
    p.stats.last_heard = now;
    p.stats.loss_ratio = p.window.loss_ratio();
    if (newest) {
        p.echo = Echo{packet->from.incarnation, packet->sequence, packet->sent_ns, now};
    }
    HeartbeatEvent event;
    event.path = path;
    event.from = packet->from;
    event.epoch = packet->epoch;
    event.sequence = packet->sequence;
    event.at = now;
    event.copy =
        any_path_.add(packet->sequence) ? HeartbeatEvent::Copy::first : HeartbeatEvent::Copy::again;
    if (packet->echo_sequence > p.last_echoed) {
        event.rtt = round_trip(p, *packet, now);
        if (event.rtt) {
            p.last_echoed = packet->echo_sequence;
            event.echo_of = Instant(Duration(static_cast<int64_t>(packet->echo_sent_ns)));
            learn(p, *packet, *event.rtt, now);
        }
    }
    return event;
}

// Where it is computed with, nothing overflows.
bool HeartbeatTracker::has_possible_times(const wire::HeartbeatPacket& packet) {
    constexpr uint64_t kTimeMax = uint64_t{1} << 61;  // 73 years of uptime
    return packet.sent_ns < kTimeMax && packet.echo_sent_ns < kTimeMax &&
           packet.echo_hold_ns < kTimeMax;
}

void HeartbeatTracker::learn(Path& path, const wire::HeartbeatPacket& packet, Duration rtt,
                             Instant now) {
    HeartbeatStats& stats = path.stats;
    if (!stats.rtt_min || rtt < *stats.rtt_min) stats.rtt_min = rtt;
    if (!stats.rtt) {
        stats.rtt = rtt;
        stats.jitter = Duration::zero();
    } else {
        const Duration difference = rtt > *stats.rtt ? rtt - *stats.rtt : *stats.rtt - rtt;
        *stats.jitter += (difference - *stats.jitter) / 16;
        *stats.rtt += (rtt - *stats.rtt) / 8;
    }
    // Theirs minus ours, half way through: the shorter the trip, the smaller the error can be.
    const Duration sent_there = from_ns(packet.sent_ns);
    const Duration came_there = sent_there - from_ns(packet.echo_hold_ns);
    const Duration sent_here = from_ns(packet.echo_sent_ns);
    const Duration offset = ((came_there - sent_here) + (sent_there - now.time_since_epoch())) / 2;
    path.offsets.push_back({now, rtt, offset});
    while (path.offsets.size() > kOffsetSamples || path.offsets.front().at + kOffsetAge < now) {
        path.offsets.pop_front();
    }
    const auto best = std::min_element(path.offsets.begin(), path.offsets.end(),
                                       [](const auto& a, const auto& b) { return a.rtt < b.rtt; });
    stats.clock_offset = best->offset;
}

HeartbeatStats HeartbeatTracker::stats() const {
    HeartbeatStats all;
    Instant newest{};
    for (const Path& path : paths_) {
        newest = std::max(newest, path.stats.last_heard.value_or(Instant()));
    }
    for (const Path& path : paths_) {
        const HeartbeatStats& one = path.stats;
        all.sent += one.sent;
        all.received += one.received;
        all.replayed += one.replayed;
        all.forged += one.forged;
        all.garbage += one.garbage;
        all.unproven += one.unproven;
        all.send_errors += one.send_errors;
        if (one.last_heard && (!all.last_heard || *one.last_heard > *all.last_heard)) {
            all.last_heard = one.last_heard;
        }
        if (one.last_heard && newest - *one.last_heard > kPathSilent) continue;
        if (one.rtt && (!all.rtt || *one.rtt < *all.rtt)) {
            all.rtt = one.rtt;
            all.rtt_min = one.rtt_min;
            all.jitter = one.jitter;
            all.clock_offset = one.clock_offset;
        }
    }
    all.loss_ratio = any_path_.loss_ratio();
    return all;
}

}  // namespace antipode::stream
