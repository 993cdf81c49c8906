// What a session receives: headers judged before bodies, streams put back together.
#include <algorithm>
#include <cstring>
#include <utility>

#include "common/base/check.h"
#include "replicator/stream/session.h"

namespace antipode::stream {
namespace {

using wire::FrameType;
namespace flags = wire::frame_flags;

constexpr size_t kSizeBytes = 4;
constexpr size_t kAckTokensMax = 64;
// After so much an acknowledgement does not wait for its timer.
constexpr uint64_t kUrgentAckBytes = 256 << 10;
constexpr uint64_t kBulkAckBytes = 64 << 10;

}  // namespace

void Session::garbage(const std::string& rule) {
    ++stats_.garbage_frames;
    last_garbage_ = rule;
}

void Session::received(const Bytes& bytes, Instant now) {
    const auto all = bytes.view();
    ++stats_.frames_received;
    stats_.wire_bytes_received += all.size();
    if (all.size() < wire::kFrameHeaderBytes) return garbage("shorter than a frame's header");
    const auto header = all.first<wire::kFrameHeaderBytes>();
    if (const char* rule = wire::invalid(header)) return garbage(rule);
    const wire::Frame frame = wire::decode_frame(header);
    const auto body = all.subspan(wire::kFrameHeaderBytes);
    if (const char* rule = wire::invalid_body(frame, body)) return garbage(rule);
    if (frame.pair != config_.pair) {
        ++stats_.wrong_pair_frames;
        return;
    }
    if (frame.type == FrameType::hello) return handle_hello(frame, body, now);
    if (!established_ || frame.session != info_.id) {
        ++stats_.stale_session_frames;
        return;
    }
    last_heard_ = now;
    switch (frame.type) {
        case FrameType::hello:
            return;
        case FrameType::data:
            return handle_data(frame, bytes, now);
        case FrameType::ack: {
            const auto ack = wire::decode_ack(body);
            if (!ack) return garbage(ack.error().context);
            return handle_ack(*ack, now);
        }
        case FrameType::ping: {
            const auto ping = wire::decode_ping(body);
            if (!ping) return garbage(ping.error().context);
            ack_tokens_.push_back(ping->token);
            if (ack_tokens_.size() > kAckTokensMax) ack_tokens_.pop_front();
            return;
        }
        case FrameType::goodbye: {
            const auto goodbye = wire::decode_goodbye(body);
            if (!goodbye) return garbage(goodbye.error().context);
            return forget_peer(fmt::format("{} ends: {}", info_.peer.site, goodbye->reason));
        }
    }
}

void Session::want_ack(Instant when) {
    ack_at_ = std::min(ack_at_, when);
}

void Session::handle_data(const wire::Frame& frame, const Bytes& bytes, Instant now) {
    const auto message_class = static_cast<MessageClass>(frame.message_class);
    const size_t index = wire::index_of(message_class);
    ReceiveStream& stream = receive_[index];
    StreamStats& stats = stats_.of(message_class);
    stats_.data_heard = now;
    if (frame.sequence <= stream.received) {
        ++stats.duplicates;
        return want_ack(now + config_.times.bulk_ack_delay);
    }
    if (frame.sequence > stream.received + 1) {
        ++stats.gap_frames;
        if (!stream.gap) {
            stream.gap = true;
            want_ack(now);
        }
        return;
    }
    stream.received = frame.sequence;
    stream.received_at = now;
    stream.gap = false;
    ++stats.frames_received;
    stats.body_bytes_received += frame.body_bytes;
    if (const char* rule = take_piece(stream, frame, bytes)) {
        return break_session(
            fmt::format("{} frame {}: {}", to_string(message_class), frame.sequence, rule));
    }
    after_data(message_class, bytes.size(), now);
}

// The piece as it was before compression, or why there is none.
Result<Bytes> Session::piece_of(ReceiveStream& stream, const wire::Frame& frame,
                                const Bytes& bytes) {
    const auto body = bytes.view().subspan(wire::kFrameHeaderBytes);
    if ((frame.flags & flags::kCompressed) == 0) {
        if (body.size() > wire::kPieceBytesMax) return fail(Errc::protocol, "piece is too large");
        return Bytes(bytes.owner(), body);
    }
    if ((info_.features & wire::features::kZstd) == 0) {
        return fail(Errc::protocol, "compressed, which was not agreed on");
    }
    if (body.size() <= kSizeBytes) return fail(Errc::protocol, "compressed to nothing");
    uint32_t size = 0;
    std::memcpy(&size, body.data(), kSizeBytes);
    if (size == 0 || size > wire::kPieceBytesMax) {
        return fail(Errc::protocol, "says that it has {} bytes uncompressed", size);
    }
    if (!stream.decompressor) {
        FT_TRY(auto made, wire::Decompressor::create());
        stream.decompressor.emplace(std::move(made));
    }
    std::vector<std::byte> out(size);
    FT_TRY_VOID(stream.decompressor->decompress(body.subspan(kSizeBytes), out));
    return Bytes::own(std::move(out));
}

// Puts messages together and hands them on; returns the rule that was broken, or nullptr.
const char* Session::take_piece(ReceiveStream& stream, const wire::Frame& frame,
                                const Bytes& bytes) {
    const auto message_class = static_cast<MessageClass>(frame.message_class);
    const uint64_t bound = config_.receive_bytes_max[wire::index_of(message_class)];
    auto piece = piece_of(stream, frame, bytes);
    if (!piece) {
        last_garbage_ = piece.error().to_string();
        return "piece cannot be decompressed";
    }
    const uint64_t cost = piece->size() + kFrameCostBytes;
    stream.cost_received += cost;
    if (stream.cost_received > stream.credit_told) return "exceeds its credit";
    StreamStats& stats = stats_.of(message_class);
    stats.payload_bytes_received += piece->size();
    const bool more = (frame.flags & flags::kMore) != 0;
    MessageReceived message;
    message.message_class = message_class;
    message.type = frame.message_type;
    message.epoch = frame.epoch;
    if (!stream.in_message && !more) {
        message.cost = cost;
        stream.cost_handed_on += cost;
        message.payload = std::move(*piece);
        ++stats.messages_received;
        events_.push_back(std::move(message));
        return nullptr;
    }
    if (stream.in_message &&
        (stream.partial_type != frame.message_type || stream.partial_epoch != frame.epoch)) {
        return "piece does not belong to the message before it";
    }
    if (stream.partial.size() + piece->size() > message_bytes_max_for(bound)) {
        return "message is too large";
    }
    stream.in_message = true;
    stream.partial_type = frame.message_type;
    stream.partial_epoch = frame.epoch;
    stream.partial_cost += cost;
    stream.partial.insert(stream.partial.end(), piece->view().begin(), piece->view().end());
    if (more) return nullptr;
    message.cost = std::exchange(stream.partial_cost, 0);
    stream.cost_handed_on += message.cost;
    message.payload = Bytes::own(std::exchange(stream.partial, {}));
    stream.in_message = false;
    ++stats.messages_received;
    events_.push_back(std::move(message));
    return nullptr;
}

void Session::after_data(MessageClass message_class, uint64_t wire_bytes, Instant now) {
    const Lane lane = lane_of(message_class);
    LaneState& state = lanes_[static_cast<size_t>(lane)];
    state.unacked_bytes += wire_bytes;
    const bool bulk = lane == Lane::bulk;
    if (state.unacked_bytes >= (bulk ? kBulkAckBytes : kUrgentAckBytes)) return want_ack(now);
    want_ack(now + (bulk ? config_.times.bulk_ack_delay : config_.times.urgent_ack_delay));
}

}  // namespace antipode::stream
