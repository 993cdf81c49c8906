#include "tests/unit/stream/session_pair.h"

#include <algorithm>
#include <cstring>

#include "common/base/check.h"
#include "common/base/overloaded.h"

namespace antipode::stream {
namespace {

constexpr Duration kStep = std::chrono::microseconds(100);
constexpr size_t kLaneFramesMax = 512;  // like a socket, a lane takes only so many at once

}  // namespace

SessionPair::SessionPair() {
    for (size_t end : {kA, kB}) {
        SessionConfig& config = ends[end].config;
        config.pair = wire::pair_id(Name::literal("web1"));
        config.self.site = Name::literal(end == kA ? "site-a" : "site-b");
        config.peer_site = Name::literal(end == kA ? "site-b" : "site-a");
        config.software = "test";
        const auto hello = std::as_bytes(std::span(config.self.site.view()));
        config.hello.assign(hello.begin(), hello.end());
    }
}

void SessionPair::start(size_t end) {
    ends[end].config.self.incarnation = Incarnation(next_incarnation_++);
    ends[end].config.channel = 1;
    open(end);
}

void SessionPair::turn_anew(size_t end) {
    stop(end);
    ++ends[end].config.channel;
    open(end);
}

void SessionPair::open(size_t end) {
    End& e = ends[end];
    e.session = std::make_unique<Session>(e.config);
    e.up.reset();
    e.consumed = {};
    e.unconsumed.clear();
}

void SessionPair::stop(size_t end) {
    for (const Lane lane : kLanes) {
        cut(end, lane);
        cut(1 - end, lane);
    }
    ends[end].session.reset();
}

void SessionPair::connect(size_t from, Lane lane) {
    End& e = ends[from];
    if (e.connected[static_cast<size_t>(lane)] || !e.session || !ends[1 - from].session) return;
    e.connected[static_cast<size_t>(lane)] = true;
    e.session->lane_connected(lane, now);
}

void SessionPair::connect_all() {
    for (const size_t end : {kA, kB}) {
        for (const Lane lane : kLanes) connect(end, lane);
    }
}

void SessionPair::cut(size_t from, Lane lane, const std::string& reason) {
    End& e = ends[from];
    const auto index = static_cast<size_t>(lane);
    e.out[index].clear();
    e.free_at[index] = now;
    if (!e.connected[index]) return;
    e.connected[index] = false;
    if (e.session) e.session->lane_lost(lane, reason, now);
}

void SessionPair::cut_all() {
    for (const size_t end : {kA, kB}) {
        for (const Lane lane : kLanes) cut(end, lane);
    }
}

void SessionPair::submit(size_t from, MessageClass message_class, std::string_view text,
                         uint8_t type, Epoch epoch) {
    ends[from].submitted[wire::index_of(message_class)] += text.size();
    const auto bytes = std::as_bytes(std::span(text.data(), text.size()));
    ends[from].session->submit({message_class, type, epoch, Bytes::copy(bytes)}, now);
}

void SessionPair::send_from(size_t end) {
    End& e = ends[end];
    if (!e.session) return;
    for (const Lane lane : kLanes) {
        const auto index = static_cast<size_t>(lane);
        auto& queue = e.out[index];
        while (e.connected[index] && queue.size() < kLaneFramesMax) {
            auto frame = e.session->next_frame(lane, now);
            if (!frame) break;
            e.wire_bytes += frame->size;
            std::vector<std::byte> bytes(frame->view().begin(), frame->view().end());
            const auto busy = std::chrono::duration_cast<Duration>(std::chrono::duration<double>(
                static_cast<double>(bytes.size()) / bytes_per_second));
            Instant& free_at = e.free_at[shared_line ? 0 : index];
            free_at = std::max(free_at, now) + busy;
            if (tamper && !tamper(end, lane, bytes)) continue;
            queue.push_back({std::move(bytes), free_at + delay});
        }
        if (e.connected[index] && queue.size() >= kLaneFramesMax) return;
    }
    // Nothing is left to do now: the thread must be able to sleep.
    FT_CHECK(e.session->deadline(now) > now, "a session that never sleeps");
}

void SessionPair::arrive(size_t end) {
    End& from = ends[1 - end];
    for (auto& queue : from.out) {
        while (!queue.empty() && queue.front().arrives <= now && ends[end].session) {
            std::vector<std::byte> bytes = std::move(queue.front().bytes);
            queue.pop_front();
            ends[end].session->received(Bytes::own(std::move(bytes)), now);
        }
    }
}

void SessionPair::inject(size_t to, std::vector<std::byte> bytes) {
    ends[to].session->received(Bytes::own(std::move(bytes)), now);
    take_events(to);
}

void SessionPair::consume(size_t end) {
    End& e = ends[end];
    while (!e.unconsumed.empty()) {
        const MessageReceived message = std::move(e.unconsumed.front());
        e.unconsumed.pop_front();
        const size_t index = wire::index_of(message.message_class);
        e.consumed[index] += message.cost;
        e.session->consumed(message.message_class, e.consumed[index], now);
    }
}

void SessionPair::take_events(size_t end) {
    End& e = ends[end];
    if (!e.session) return;
    while (auto event = e.session->next_event()) {
        std::visit(
            Overloaded{
                [&](SessionUp& up) {
                    e.up = up.info;
                    e.events.push_back(up.info.start == SessionStart::fresh ? "fresh" : "resumed");
                },
                [&](SessionDown& down) {
                    e.up.reset();
                    e.events.push_back("down: " + down.reason);
                },
                [&](MessageReceived& message) {
                    const auto view = message.payload.view();
                    if (e.on_each) {
                        e.on_each(message, now);
                    } else {
                        e.received.push_back(
                            {message.message_class, message.type, message.epoch,
                             std::string(reinterpret_cast<const char*>(view.data()), view.size())});
                    }
                    e.unconsumed.push_back(std::move(message));
                },
                [&](PeerRefused& refused) { e.events.push_back("refused: " + refused.reason); },
            },
            *event);
    }
    for (const MessageClass c : wire::kMessageClasses) {
        e.released[wire::index_of(c)] += e.session->take_released(c);
    }
    if (e.consumes) consume(end);
}

void SessionPair::turn() {
    for (const size_t end : {kA, kB}) {
        arrive(end);
        if (ends[end].session) ends[end].session->tick(now);
        take_events(end);
        send_from(end);
        take_events(end);
    }
}

void SessionPair::run_for(Duration duration) {
    const Instant end = now + duration;
    while (now < end) {
        turn();
        now = std::min(now + kStep, end);
    }
    turn();
}

bool SessionPair::run_until(const std::function<bool()>& condition, Duration patience) {
    const Instant end = now + patience;
    while (!condition()) {
        if (now > end) return false;
        turn();
        now += kStep;
    }
    return true;
}

std::vector<std::string> SessionPair::texts(size_t end, MessageClass message_class) const {
    std::vector<std::string> texts;
    for (const auto& message : ends[end].received) {
        if (message.message_class == message_class) texts.push_back(message.text);
    }
    return texts;
}

wire::Frame SessionPair::data_frame(size_t to, MessageClass message_class,
                                    uint64_t sequence) const {
    wire::Frame frame;
    frame.type = wire::FrameType::data;
    frame.message_class = static_cast<uint8_t>(message_class);
    frame.message_type = 1;
    frame.pair = ends[to].config.pair;
    frame.epoch = Epoch(1);
    frame.sequence = sequence;
    frame.session = ends[to].up ? ends[to].up->id : 1;
    return frame;
}

std::vector<std::byte> SessionPair::frame_bytes(wire::Frame frame,
                                                std::span<const std::byte> body) {
    frame.body_bytes = static_cast<uint32_t>(body.size());
    frame.body_checksum = wire::checksum64(body);
    const auto header = wire::encode(frame);
    std::vector<std::byte> bytes(header.begin(), header.end());
    bytes.insert(bytes.end(), body.begin(), body.end());
    return bytes;
}

}  // namespace antipode::stream
