// Heartbeats as the tracker meets them: datagrams from anybody, and, worse, sealed ones from a peer
// that holds the key and says what it likes.
#include <cstdint>

#include "common/base/check.h"
#include "replicator/stream/heartbeat_tracker.h"
#include "tests/fuzz/byte_source.h"

namespace {

using namespace antipode;

constexpr size_t kPaths = 2;

// A number that is near to one that matters, or any.
uint64_t number(fuzz::ByteSource& source, uint64_t near) {
    const auto kind = source.take<uint8_t>();
    if (kind < 0xe0) return near + kind % 64 - 32;
    if (kind < 0xf0) return UINT64_MAX - kind % 16;
    return source.take<uint64_t>();
}

wire::HeartbeatPacket make_packet(fuzz::ByteSource& source, const wire::HeartbeatPacket& last,
                                  Member self) {
    wire::HeartbeatPacket packet = last;
    const auto what = source.take<uint8_t>();
    if ((what & 1) == 0) packet.sequence = number(source, last.sequence + 32);
    if ((what & 2) != 0) packet.sent_ns = number(source, last.sent_ns);
    if ((what & 4) != 0) packet.from.incarnation = Incarnation(source.below(3) + 1);
    if ((what & 8) != 0) packet.to = source.below(2) == 0 ? self.incarnation : Incarnation(9);
    if ((what & 16) != 0) packet.echo_sequence = source.below(8);
    if ((what & 32) != 0) packet.echo_hold_ns = number(source, 0);
    if ((what & 64) != 0) packet.path = source.take<uint8_t>();
    if ((what & 128) != 0) packet.epoch = Epoch(source.take<uint64_t>());
    return packet;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    fuzz::ByteSource source(data, size);
    wire::HeartbeatKey key{};
    key.fill(std::byte{7});
    const PairId pair(42);
    const Member self{Name::literal("site-a"), Incarnation(100)};
    stream::HeartbeatTracker tracker(key, pair, self, Name::literal("site-b"), kPaths);
    Instant now{std::chrono::seconds(1000)};
    wire::HeartbeatPacket packet;
    packet.pair = pair;
    packet.from = {Name::literal("site-b"), Incarnation(1)};
    packet.to = self.incarnation;
    packet.sequence = 1;
    std::array<uint64_t, 2> sent_ns{};  // of our last packets
    uint64_t counted = 0;
    while (!source.empty()) {
        const size_t path = source.below(kPaths);
        now += std::chrono::microseconds(source.take<uint16_t>());
        tracker.next_sequence();
        const auto own = tracker.packet(path, now);
        const auto opened = wire::open(own, key);
        FT_CHECK(opened.has_value(), "its own packet is refused: {}", opened.error().to_string());
        sent_ns[path] = opened->sent_ns;
        std::optional<stream::HeartbeatEvent> event;
        if (source.below(8) == 0) {
            event = tracker.received(path, source.bytes(source.below(200)), now);
            FT_CHECK(!event, "a heartbeat without the key");
            continue;
        }
        packet = make_packet(source, packet, self);
        packet.path = static_cast<uint8_t>(path);
        if (source.below(2) == 0) {
            packet.echo_sequence = opened->sequence;
            packet.echo_sent_ns = sent_ns[path];
        }
        if (packet.sequence == 0) packet.sequence = 1;
        const auto bytes = wire::seal(packet, key);
        event = tracker.received(path, bytes, now);
        if (event) ++counted;
        FT_CHECK(!tracker.received(path, bytes, now), "the same packet counts twice");
        const auto stats = tracker.path_stats(path);
        FT_CHECK(!stats.rtt || *stats.rtt >= Duration::zero(), "a round trip below zero");
        FT_CHECK(!stats.loss_ratio || (*stats.loss_ratio >= 0 && *stats.loss_ratio <= 1),
                 "a loss of {}", *stats.loss_ratio);
    }
    FT_CHECK(tracker.path_stats(0).received + tracker.path_stats(1).received == counted,
             "events and figures differ");
    return 0;
}
