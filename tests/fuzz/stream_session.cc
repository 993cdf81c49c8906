// One Session against a peer that holds the key and says what it likes: any sequence of frames,
// broken connections, time, and work of its own. It must not crash, hold more than it granted, or
// tell of a session that is up twice.
#include <cstdint>

#include "common/base/check.h"
#include "common/wire/checksum.h"
#include "replicator/stream/session.h"
#include "tests/fuzz/byte_source.h"

namespace {

using namespace antipode;
using namespace antipode::stream;
using wire::FrameType;

constexpr uint64_t kOwnIncarnation = 100;
constexpr uint64_t kBound = 256 << 10;

class Victim {
  public:
    Victim() : session_(config()) {
        for (const Lane lane : kLanes) session_.lane_connected(lane, now_);
    }

    void step(fuzz::ByteSource& source);

  private:
    static SessionConfig config() {
        SessionConfig config;
        config.pair = PairId(42);
        config.self = {Name::literal("site-a"), Incarnation(kOwnIncarnation)};
        config.peer_site = Name::literal("site-b");
        config.receive_bytes_max.fill(kBound);
        return config;
    }
    void hello(fuzz::ByteSource& source);
    void data(fuzz::ByteSource& source);
    void ack(fuzz::ByteSource& source);
    void own_work(fuzz::ByteSource& source);
    void lanes(fuzz::ByteSource& source);
    void give(FrameType type, uint16_t flags, std::span<const std::byte> body,
              wire::Frame frame = {});
    void drain();

    Instant now_{std::chrono::seconds(1000)};
    Session session_;
    uint64_t peer_ = 1;  // incarnation
    PerClass<uint64_t> next_{1, 1, 1, 1};
    PerClass<uint64_t> handed_on_{};
    PerClass<uint64_t> consumed_{};
    bool up_ = false;
};

void Victim::give(FrameType type, uint16_t flags, std::span<const std::byte> body,
                  wire::Frame frame) {
    frame.type = type;
    frame.flags = flags;
    frame.pair = PairId(42);
    if (type != FrameType::hello) {
        frame.session = wire::session_id(Incarnation(kOwnIncarnation), Incarnation(peer_));
    }
    frame.body_bytes = static_cast<uint32_t>(body.size());
    frame.body_checksum = wire::checksum64(body);
    const auto header = wire::encode(frame);
    std::vector<std::byte> bytes(header.begin(), header.end());
    bytes.insert(bytes.end(), body.begin(), body.end());
    session_.received(Bytes::own(std::move(bytes)), now_);
}

void Victim::hello(fuzz::ByteSource& source) {
    wire::Hello hello;
    const auto what = source.take<uint8_t>();
    if ((what & 1) != 0) {
        peer_ = source.below(3) + 1;
        next_.fill(1);
    }
    hello.from = {Name::literal((what & 2) != 0 ? "site-c" : "site-b"), Incarnation(peer_)};
    hello.to = Incarnation((what & 4) != 0 ? 0 : kOwnIncarnation);
    hello.version_min = (what & 8) != 0 ? 9 : 1;
    hello.version_max = (what & 8) != 0 ? 9 : static_cast<uint8_t>(1 + (what >> 6));
    hello.credit.fill((what & 16) != 0 ? source.take<uint32_t>() : kBound);
    const auto body = wire::encode(hello);
    give(FrameType::hello, (what & 32) != 0 ? wire::frame_flags::kWantReply : uint16_t{0}, body);
}

void Victim::data(fuzz::ByteSource& source) {
    wire::Frame frame;
    const size_t index = source.below(wire::kMessageClassCount);
    frame.message_class = static_cast<uint8_t>(index + 1);
    const auto what = source.take<uint8_t>();
    frame.message_type = static_cast<uint8_t>(what >> 6);
    frame.epoch = Epoch((what >> 5) & 1);
    frame.sequence = next_[index];
    if ((what & 4) != 0) frame.sequence += source.below(4);
    if ((what & 8) != 0) frame.sequence -= std::min<uint64_t>(frame.sequence - 1, source.below(4));
    if (frame.sequence == next_[index]) ++next_[index];
    const auto flags = static_cast<uint16_t>(what & 3);
    if ((what & 16) != 0) {
        const std::vector<std::byte> much(source.take<uint16_t>() * size_t{2}, std::byte{1});
        return give(FrameType::data, flags, much, frame);
    }
    give(FrameType::data, flags, source.bytes(source.take<uint8_t>()), frame);
}

void Victim::ack(fuzz::ByteSource& source) {
    wire::Ack ack;
    const auto what = source.take<uint8_t>();
    ack.token = (what & 1) != 0 ? source.below(8) : 0;
    ack.gaps = static_cast<uint8_t>(what >> 4);
    for (auto& stream : ack.streams) {
        stream.received = source.below(16);
        stream.credit = (what & 2) != 0 ? source.take<uint64_t>() : kBound * 4;
        stream.hold_us = source.take<uint16_t>();
    }
    give(FrameType::ack, 0, wire::encode(ack));
}

void Victim::own_work(fuzz::ByteSource& source) {
    const size_t index = source.below(wire::kMessageClassCount);
    const auto size = source.take<uint16_t>();
    OutgoingMessage message;
    message.message_class = wire::kMessageClasses[index];
    message.payload = Bytes::own(std::vector<std::byte>(size, std::byte{source.take<uint8_t>()}));
    session_.submit(std::move(message), now_);
    for (const Lane lane : kLanes) {
        for (int i = 0; i < 8 && session_.next_frame(lane, now_); ++i) {
        }
    }
}

void Victim::lanes(fuzz::ByteSource& source) {
    const Lane lane = kLanes[source.below(kLaneCount)];
    session_.lane_lost(lane, "fuzz", now_);
    if (source.below(4) != 0) session_.lane_connected(lane, now_);
}

void Victim::drain() {
    while (auto event = session_.next_event()) {
        if (std::holds_alternative<SessionUp>(*event)) {
            FT_CHECK(!up_, "up twice");
            up_ = true;
        } else if (std::holds_alternative<SessionDown>(*event)) {
            FT_CHECK(up_, "down twice");
            up_ = false;
        } else if (const auto* message = std::get_if<MessageReceived>(&*event)) {
            const size_t index = wire::index_of(message->message_class);
            handed_on_[index] += message->cost;
            FT_CHECK(message->payload.view().size() <= message_bytes_max_for(kBound) ||
                         message->payload.view().size() <= wire::kPieceBytesMax,
                     "a message of {} bytes", message->payload.view().size());
        }
    }
    // What an earlier process of the peer was granted does not count against the next one.
    session_.fill_stats();
}

void Victim::step(fuzz::ByteSource& source) {
    switch (source.below(10)) {
        case 0:
            hello(source);
            break;
        case 1:
        case 2:
        case 3:
            data(source);
            break;
        case 4:
            ack(source);
            break;
        case 5:
            give(FrameType::ping, 0, wire::encode(wire::Ping{source.take<uint64_t>() | 1}));
            break;
        case 6:
            if (source.below(4) == 0) {
                give(FrameType::goodbye, 0, wire::encode(wire::Goodbye{"fuzz"}));
            } else {
                const auto raw = source.bytes(source.take<uint8_t>());
                session_.received(Bytes::own({raw.begin(), raw.end()}), now_);
            }
            break;
        case 7:
            own_work(source);
            break;
        case 8:
            lanes(source);
            break;
        default:
            now_ += std::chrono::milliseconds(source.take<uint16_t>());
            session_.tick(now_);
            for (size_t i = 0; i < wire::kMessageClassCount; ++i) {
                consumed_[i] = handed_on_[i];
                session_.consumed(wire::kMessageClasses[i], consumed_[i], now_);
                (void)session_.take_released(wire::kMessageClasses[i]);
            }
    }
    drain();
    (void)session_.deadline(now_);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    fuzz::ByteSource source(data, size);
    Victim victim;
    for (int i = 0; i < 256 && !source.empty(); ++i) victim.step(source);
    return 0;
}
