// Two honest Sessions over lines that lose what is on its way, stall, repeat and come back, as the
// input says. Whatever the line does: once it is good again, every message of each class has
// arrived once, in order.
#include <array>
#include <cstdint>
#include <deque>

#include "common/base/check.h"
#include "replicator/stream/session.h"
#include "tests/fuzz/byte_source.h"

namespace {

using namespace antipode;
using namespace antipode::stream;

struct End {
    explicit End(SessionConfig config) : session(std::move(config)) {}
    Session session;
    std::array<bool, kLaneCount> connected{};
    std::array<std::deque<OutgoingFrame>, kLaneCount> out;  // on its way
    PerClass<uint64_t> submitted{};                         // messages
    PerClass<uint64_t> arrived{};
    PerClass<uint64_t> cost{};
};

constexpr size_t kNumberBytes = 8;

class Line {
  public:
    Line() : ends_{End(config("site-a", "site-b", 1)), End(config("site-b", "site-a", 2))} {}

    void step(fuzz::ByteSource& source);
    void make_good();

  private:
    static SessionConfig config(const char* own, const char* other, uint64_t incarnation) {
        SessionConfig config;
        config.pair = PairId(42);
        config.self = {Name::literal(own), Incarnation(incarnation)};
        config.peer_site = Name::literal(other);
        config.receive_bytes_max.fill(256 << 10);
        return config;
    }
    void submit(fuzz::ByteSource& source);
    void collect(size_t from);
    void arrive(size_t from, Lane lane, size_t count);
    void take_events(size_t end);
    void pass(Duration time);
    void reconnect(size_t from, Lane lane);
    bool done() const;

    Instant now_{std::chrono::seconds(1000)};
    std::array<End, 2> ends_;
};

void Line::submit(fuzz::ByteSource& source) {
    End& end = ends_[source.below(2)];
    const size_t index = source.below(wire::kMessageClassCount);
    if (!end.session.established()) return;
    const size_t size = kNumberBytes + source.take<uint16_t>() % 40000;
    std::vector<std::byte> payload(size, std::byte{source.take<uint8_t>()});
    const uint64_t number = end.submitted[index]++;
    for (size_t i = 0; i < kNumberBytes; ++i) payload[i] = static_cast<std::byte>(number >> 8 * i);
    OutgoingMessage message;
    message.message_class = wire::kMessageClasses[index];
    message.payload = Bytes::own(std::move(payload));
    end.session.submit(std::move(message), now_);
}

void Line::collect(size_t from) {
    End& end = ends_[from];
    for (const Lane lane : kLanes) {
        const auto l = static_cast<size_t>(lane);
        if (!end.connected[l]) continue;
        for (int i = 0; i < 64; ++i) {
            auto frame = end.session.next_frame(lane, now_);
            if (!frame) break;
            end.out[l].push_back(std::move(*frame));
        }
    }
}

void Line::arrive(size_t from, Lane lane, size_t count) {
    auto& out = ends_[from].out[static_cast<size_t>(lane)];
    for (size_t i = 0; i < count && !out.empty(); ++i) {
        const auto view = out.front().view();
        ends_[1 - from].session.received(Bytes::own({view.begin(), view.end()}), now_);
        out.pop_front();
        take_events(1 - from);
    }
}

void Line::take_events(size_t index) {
    End& end = ends_[index];
    while (auto event = end.session.next_event()) {
        const auto* refused = std::get_if<PeerRefused>(&*event);
        FT_CHECK(refused == nullptr, "an honest peer is refused: {}", refused->reason);
        const auto* message = std::get_if<MessageReceived>(&*event);
        if (message == nullptr) continue;
        const size_t c = wire::index_of(message->message_class);
        const auto view = message->payload.view();
        uint64_t number = 0;
        for (size_t i = 0; i < kNumberBytes; ++i) {
            number |= static_cast<uint64_t>(view[i]) << 8 * i;
        }
        FT_CHECK(number == end.arrived[c], "message {} of class {}, expected {}", number, c,
                 end.arrived[c]);
        ++end.arrived[c];
        end.cost[c] += message->cost;
        end.session.consumed(message->message_class, end.cost[c], now_);
    }
}

void Line::pass(Duration time) {
    now_ += time;
    for (auto& end : ends_) end.session.tick(now_);
    for (size_t i = 0; i < 2; ++i) take_events(i);
}

void Line::reconnect(size_t from, Lane lane) {
    End& end = ends_[from];
    const auto l = static_cast<size_t>(lane);
    end.out[l].clear();
    if (end.connected[l]) end.session.lane_lost(lane, "fuzz", now_);
    end.connected[l] = true;
    end.session.lane_connected(lane, now_);
}

void Line::step(fuzz::ByteSource& source) {
    const size_t from = source.below(2);
    const Lane lane = kLanes[source.below(kLaneCount)];
    const auto l = static_cast<size_t>(lane);
    End& end = ends_[from];
    switch (source.below(8)) {
        case 0:
        case 1:
            submit(source);
            break;
        case 2:
            arrive(from, lane, source.take<uint8_t>());
            break;
        case 3:
            if (!end.connected[l]) break;
            end.connected[l] = false;
            end.out[l].clear();
            end.session.lane_lost(lane, "fuzz", now_);
            break;
        case 4:
            reconnect(from, lane);
            break;
        case 5:  // the newest are lost though the connection stays, as when ZeroMQ drops a pipe
            for (size_t n = source.below(8); n > 0 && !end.out[l].empty(); --n) {
                end.out[l].pop_back();
            }
            break;
        case 6:
            if (!end.out[l].empty()) end.out[l].push_back(end.out[l].front());
            break;
        default:
            pass(std::chrono::microseconds(source.take<uint16_t>() * 20));
    }
    for (size_t i = 0; i < 2; ++i) {
        collect(i);
        take_events(i);
    }
}

bool Line::done() const {
    for (size_t i = 0; i < 2; ++i) {
        if (ends_[i].submitted != ends_[1 - i].arrived) return false;
    }
    return true;
}

void Line::make_good() {
    for (size_t i = 0; i < 2; ++i) {
        for (const Lane lane : kLanes) reconnect(i, lane);
    }
    for (int round = 0; round < 20000; ++round) {
        if (done()) return;
        pass(std::chrono::milliseconds(2));
        for (size_t i = 0; i < 2; ++i) {
            collect(i);
            for (const Lane lane : kLanes) arrive(i, lane, SIZE_MAX);
        }
    }
    FT_CHECK(done(), "something has not arrived after 40 s on a good line");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    fuzz::ByteSource source(data, size);
    Line line;
    for (int i = 0; i < 200 && !source.empty(); ++i) line.step(source);
    line.make_good();
    return 0;
}
