// What a session sends: its own frames, pieces of messages, repeats; and what acknowledgements do.
#include <algorithm>
#include <cstring>
#include <utility>

#include "common/base/check.h"
#include "common/wire/checksum.h"
#include "replicator/stream/session.h"

namespace antipode::stream {
namespace {

using wire::FrameType;
namespace flags = wire::frame_flags;

constexpr size_t kCompressBytesMin = 48;
constexpr size_t kSizeBytes = 4;
// Log frames in a row before a control frame gets its turn.
constexpr uint32_t kUrgentTurns = 16;
// Compression is judged after so many bytes, and given up for a while if it saved less than 3 %.
constexpr uint64_t kTrialBytes = 64 << 10;
constexpr uint32_t kSkipMax = 64;
// A piece that compresses no more takes so much longer than it was cut for, at most.
constexpr double kSqueezedMax = 4;
constexpr double kSqueezedPieces = 8;

}  // namespace

std::optional<OutgoingFrame> Session::next_frame(Lane lane, Instant now) {
    if (goodbye_sent_) return std::nullopt;
    if (auto frame = next_own_frame(lane, now)) return frame;
    LaneState& state = lanes_[static_cast<size_t>(lane)];
    if (!established_ || !state.in_step) return std::nullopt;
    if (lane == Lane::urgent) return next_urgent(state, now);
    bulk_paced_ = false;
    const bool work = has_work(send_[wire::index_of(MessageClass::resync)]) ||
                      has_work(send_[wire::index_of(MessageClass::seed)]);
    if (!work) return std::nullopt;
    if (pacer_.allowance(now) == 0) {
        bulk_paced_ = true;
        return std::nullopt;
    }
    // The two take turns while both have something.
    const MessageClass first = bulk_turn_;
    const MessageClass second =
        first == MessageClass::seed ? MessageClass::resync : MessageClass::seed;
    for (const MessageClass c : {first, second}) {
        if (auto frame = next_data(c, now)) {
            pacer_.sent(frame->size, now);
            bulk_turn_ = c == MessageClass::seed ? MessageClass::resync : MessageClass::seed;
            return frame;
        }
    }
    return std::nullopt;
}

std::optional<OutgoingFrame> Session::next_urgent(LaneState& state, Instant now) {
    const uint64_t window = urgent_pieces_.window();
    // Acknowledgements are not in a hurry by themselves: asked for in time, the line does not rest.
    if (urgent_out_bytes_ >= window / 2 && state.probes.empty()) {
        return make_ping(Lane::urgent, now);
    }
    if (urgent_out_bytes_ >= window) return std::nullopt;
    const bool control_first = state.urgent_turns >= kUrgentTurns &&
                               has_work(send_[wire::index_of(MessageClass::control)]);
    if (!control_first) {
        if (auto frame = next_data(MessageClass::log, now)) {
            ++state.urgent_turns;
            return frame;
        }
    }
    state.urgent_turns = 0;
    return next_data(MessageClass::control, now);
}

std::optional<OutgoingFrame> Session::next_own_frame(Lane lane, Instant now) {
    LaneState& state = lanes_[static_cast<size_t>(lane)];
    if (lane == Lane::urgent) {
        if (goodbye_wanted_) {
            goodbye_sent_ = true;
            if (!established_) return std::nullopt;
            return make_frame(FrameType::goodbye, 0, wire::encode(wire::Goodbye{goodbye_reason_}));
        }
        if (hello_due_) return make_hello();
    }
    if (!established_) return std::nullopt;
    if (state.ping_due) return make_ping(lane, now);
    if (lane == Lane::urgent && ack_is_due(now)) return make_ack(now);
    return std::nullopt;
}

OutgoingFrame Session::make_frame(FrameType type, uint16_t frame_flags,
                                  std::span<const std::byte> body) const {
    wire::Frame frame;
    frame.type = type;
    frame.flags = frame_flags;
    if (type != FrameType::hello) {
        frame.version = info_.version;
        frame.session = info_.id;
    }
    frame.body_bytes = static_cast<uint32_t>(body.size());
    frame.pair = config_.pair;
    frame.body_checksum = wire::checksum64(body);
    auto bytes = std::make_shared_for_overwrite<std::byte[]>(wire::kFrameHeaderBytes + body.size());
    encode(frame,
           std::span<std::byte, wire::kFrameHeaderBytes>(bytes.get(), wire::kFrameHeaderBytes));
    if (!body.empty()) std::memcpy(bytes.get() + wire::kFrameHeaderBytes, body.data(), body.size());
    return {std::move(bytes), wire::kFrameHeaderBytes + body.size()};
}

OutgoingFrame Session::make_hello() {
    hello_due_ = false;
    wire::Hello hello;
    hello.version_min = config_.version_min;
    hello.version_max = config_.version_max;
    hello.features = config_.features;
    hello.from = config_.self;
    hello.channel = config_.channel;
    hello.to = heard_.incarnation;
    hello.to_channel = heard_.incarnation == Incarnation() ? 0 : heard_.channel;
    for (size_t i = 0; i < wire::kMessageClassCount; ++i) {
        hello.credit[i] = receive_[i].cost_consumed + config_.receive_bytes_max[i];
    }
    hello.software = config_.software;
    hello.blob = config_.hello;
    const uint16_t reply = established_ ? uint16_t{0} : flags::kWantReply;
    return make_frame(FrameType::hello, reply, wire::encode(hello));
}

OutgoingFrame Session::make_ping(Lane lane, Instant now) {
    LaneState& state = lanes_[static_cast<size_t>(lane)];
    state.ping_due = false;
    Probe probe{next_token_++, now, {}};
    for (size_t i = 0; i < wire::kMessageClassCount; ++i) probe.next_send[i] = send_[i].next_send;
    state.probes.push_back(probe);
    return make_frame(FrameType::ping, 0, wire::encode(wire::Ping{probe.token}));
}

OutgoingFrame Session::make_ack(Instant now) {
    wire::Ack ack;
    if (!ack_tokens_.empty()) {
        ack.token = ack_tokens_.front();
        ack_tokens_.pop_front();
    }
    for (size_t i = 0; i < wire::kMessageClassCount; ++i) {
        ReceiveStream& stream = receive_[i];
        stream.credit_told = stream.cost_consumed + config_.receive_bytes_max[i];
        ack.streams[i].received = stream.received;
        ack.streams[i].credit = stream.credit_told;
        if (stream.received > 0) {
            const auto hold =
                std::chrono::duration_cast<std::chrono::microseconds>(now - stream.received_at);
            ack.streams[i].hold_us = static_cast<uint32_t>(
                std::clamp<int64_t>(hold.count(), 0, std::numeric_limits<uint32_t>::max()));
        }
        if (stream.gap) ack.gaps = static_cast<uint8_t>(ack.gaps | (1u << i));
    }
    ack_at_ = Instant::max();
    for (auto& lane : lanes_) lane.unacked_bytes = 0;
    ++stats_.acks_sent;
    return make_frame(FrameType::ack, 0, wire::encode(ack));
}

// ---- Data ----

bool Session::has_work(const SendStream& stream) const {
    return stream.next_send < stream.next_new || !stream.queue.empty();
}

std::optional<OutgoingFrame> Session::next_data(MessageClass message_class, Instant now) {
    SendStream& stream = send_[wire::index_of(message_class)];
    if (!has_work(stream)) return std::nullopt;
    if (stream.next_send == stream.first_retained) stream.last_progress = now;  // nothing was due
    if (stream.next_send < stream.next_new) return repeat(stream, message_class, now);
    return cut_piece(stream, message_class, now);
}

std::optional<OutgoingFrame> Session::repeat(SendStream& stream, MessageClass message_class,
                                             Instant now) {
    Retained& retained = stream.retained[stream.next_send - stream.first_retained];
    ++stream.next_send;
    ++retained.sends;
    if (!wire::is_bulk(message_class)) urgent_out_bytes_ += retained.frame.size;
    retained.sent = now;
    ++stats_.of(message_class).frames_repeated;
    return retained.frame;
}

std::optional<OutgoingFrame> Session::cut_piece(SendStream& stream, MessageClass message_class,
                                                Instant now) {
    const OutgoingMessage& message = stream.queue.front();
    const auto rest = message.payload.view().subspan(stream.cut_bytes);
    const bool bulk = wire::is_bulk(message_class);
    // So much of bulk, as the line sees it, that a log entry waits a quarter of a millisecond for
    // it.
    const size_t piece_bytes_max = bulk ? bulk_piece_bytes(stream) : urgent_pieces_.bytes();
    const auto piece = rest.first(std::min(rest.size(), piece_bytes_max));
    const uint64_t cost = piece.size() + kFrameCostBytes;
    if (stream.cost_sent + cost > stream.credit) return std::nullopt;
    const bool last = piece.size() == rest.size();
    Retained retained;
    retained.frame = encode_piece(stream, message, piece, last ? uint16_t{0} : flags::kMore);
    retained.payload_bytes = static_cast<uint32_t>(piece.size());
    retained.sends = 1;
    retained.sent = now;
    retained.ends_message = last;
    stream.cost_sent += cost;
    if (!bulk) urgent_out_bytes_ += retained.frame.size;
    const double squeezed =
        static_cast<double>(piece.size()) / static_cast<double>(retained.frame.size);
    stream.squeezed += (squeezed - stream.squeezed) / kSqueezedPieces;
    StreamStats& stats = stats_.of(message_class);
    ++stats.frames_sent;
    stats.payload_bytes_sent += piece.size();
    stats.body_bytes_sent += retained.frame.size - wire::kFrameHeaderBytes;
    stream.cut_bytes += piece.size();
    if (last) {
        ++stats.messages_sent;
        stream.queue.pop_front();
        stream.cut_bytes = 0;
    }
    ++stream.next_new;
    ++stream.next_send;
    OutgoingFrame frame = retained.frame;
    stream.retained.push_back(std::move(retained));
    return frame;
}

size_t Session::bulk_piece_bytes(const SendStream& stream) const {
    const double factor = std::clamp(stream.squeezed, 1.0, kSqueezedMax);
    const auto bytes = static_cast<size_t>(factor * static_cast<double>(pacer_.piece_bytes()));
    return std::min(bytes, wire::kPieceBytesMax);
}

OutgoingFrame Session::encode_piece(SendStream& stream, const OutgoingMessage& message,
                                    std::span<const std::byte> piece, uint16_t frame_flags) {
    std::span<const std::byte> body = piece;
    const auto& compression = config_.compression[wire::index_of(message.message_class)];
    if (compression.use == ClassCompression::Use::on && !compression.paused &&
        (info_.features & wire::features::kZstd) != 0) {
        const size_t used = compress_piece(stream, piece, compression.settings);
        if (used > 0) {
            body = std::span(scratch_).first(used);
            frame_flags |= flags::kCompressed;
        }
    }
    wire::Frame frame;
    frame.type = FrameType::data;
    frame.version = info_.version;
    frame.flags = frame_flags;
    frame.message_class = static_cast<uint8_t>(message.message_class);
    frame.message_type = message.type;
    frame.body_bytes = static_cast<uint32_t>(body.size());
    frame.pair = config_.pair;
    frame.epoch = message.epoch;
    frame.sequence = stream.next_new;
    frame.session = info_.id;
    frame.body_checksum = wire::checksum64(body);
    const char* rule = invalid(frame);
    FT_CHECK(rule == nullptr, "makes a data frame that is no good: {}", rule);
    auto bytes = std::make_shared_for_overwrite<std::byte[]>(wire::kFrameHeaderBytes + body.size());
    encode(frame,
           std::span<std::byte, wire::kFrameHeaderBytes>(bytes.get(), wire::kFrameHeaderBytes));
    if (!body.empty()) std::memcpy(bytes.get() + wire::kFrameHeaderBytes, body.data(), body.size());
    return {std::move(bytes), wire::kFrameHeaderBytes + body.size()};
}

// Into scratch_: the size, then the stream's next part. 0: send it raw. What once went through the
// compressor is sent as it came out, for the receiver's must see it too.
size_t Session::compress_piece(SendStream& stream, std::span<const std::byte> piece,
                               const wire::CompressSettings& settings) {
    if (piece.size() < kCompressBytesMin) return 0;
    if (stream.skip > 0) {
        --stream.skip;
        return 0;
    }
    if (wire::looks_incompressible(piece)) return 0;
    if (!stream.compressor) {
        auto made = wire::Compressor::create(settings);
        if (!made) return 0;  // no memory: raw will do
        stream.compressor.emplace(std::move(*made));
    }
    scratch_.resize(kSizeBytes + wire::Compressor::bound(wire::kPieceBytesMax));
    const auto size = static_cast<uint32_t>(piece.size());
    std::memcpy(scratch_.data(), &size, kSizeBytes);
    const auto used = stream.compressor->compress(piece, std::span(scratch_).subspan(kSizeBytes));
    FT_CHECK(used.has_value(), "compression failed: {}", used.error().to_string());
    stream.tried_bytes += piece.size();
    stream.tried_result_bytes += *used + kSizeBytes;
    if (stream.tried_bytes >= kTrialBytes) {
        const bool pays = stream.tried_result_bytes * 100 < stream.tried_bytes * 97;
        stream.skip_next = pays ? 1 : std::min(stream.skip_next * 2, kSkipMax);
        if (!pays) stream.skip = stream.skip_next;
        stream.tried_bytes = 0;
        stream.tried_result_bytes = 0;
    }
    return *used + kSizeBytes;
}

// ---- Acknowledgements ----

void Session::handle_ack(const wire::Ack& ack, Instant now) {
    ++stats_.acks_received;
    for (const MessageClass c : wire::kMessageClasses) {
        const auto& state = ack.streams[wire::index_of(c)];
        if (state.received >= send_[wire::index_of(c)].next_new) {
            return break_session(fmt::format("acknowledges {} {}, the last sent is {}",
                                             to_string(c), state.received,
                                             send_[wire::index_of(c)].next_new - 1));
        }
        acknowledge(c, state, now);
    }
    for (const MessageClass c : wire::kMessageClasses) {
        SendStream& stream = send_[wire::index_of(c)];
        const bool gap = (ack.gaps >> wire::index_of(c) & 1) != 0;
        if (gap && stream.rewound_to != stream.first_retained &&
            ack.streams[wire::index_of(c)].received + 1 == stream.first_retained) {
            rewind(c, now);
        }
    }
    if (ack.token == 0) return;
    for (const Lane lane : kLanes) {
        auto& probes = lanes_[static_cast<size_t>(lane)].probes;
        const auto found = std::find_if(probes.begin(), probes.end(),
                                        [&](const Probe& p) { return p.token == ack.token; });
        if (found == probes.end()) continue;
        const Probe probe = *found;
        probes.erase(probes.begin(), found + 1);
        return handle_answer(lane, probe, now);
    }
}

void Session::acknowledge(MessageClass message_class, const wire::Ack::Stream& state, Instant now) {
    SendStream& stream = send_[wire::index_of(message_class)];
    stream.credit = std::max(stream.credit, state.credit);
    const bool bulk = wire::is_bulk(message_class);
    uint64_t wire_bytes = 0;
    std::optional<Duration> rtt;
    while (stream.first_retained <= state.received) {
        const Retained& retained = stream.retained.front();
        stream.released += retained.payload_bytes;
        wire_bytes += retained.frame.size;
        // Unless it was about to be sent again.
        const bool out = stream.first_retained < stream.next_send;
        if (!bulk && out) urgent_out_bytes_ -= retained.frame.size;
        rtt.reset();
        if (retained.sends == 1) {
            rtt = std::max<Duration>(now - retained.sent - std::chrono::microseconds(state.hold_us),
                                     Duration::zero());
        }
        stream.retained.pop_front();
        ++stream.first_retained;
        stream.last_progress = now;
    }
    stream.next_send = std::max(stream.next_send, stream.first_retained);
    if (wire_bytes == 0) return;
    if (bulk) return pacer_.acknowledged(wire_bytes, rtt, now);
    urgent_pieces_.acknowledged(wire_bytes, urgent_out_bytes_,
                                stats_.rtt_min.value_or(Duration::zero()), now);
}

// Everything that was sent on the lane before the ping has arrived, or never will.
void Session::handle_answer(Lane lane, const Probe& probe, Instant now) {
    if (lane == Lane::urgent) learn_rtt(now - probe.sent);
    for (const MessageClass c : wire::kMessageClasses) {
        const SendStream& stream = send_[wire::index_of(c)];
        if (lane_of(c) == lane && stream.first_retained < probe.next_send[wire::index_of(c)]) {
            rewind(c, now);
        }
    }
    LaneState& state = lanes_[static_cast<size_t>(lane)];
    if (!state.connected) return;
    state.in_step = true;
    if (lane == Lane::urgent) {
        announce(ever_announced_ ? SessionStart::resumed : SessionStart::fresh);
    }
}

void Session::rewind(MessageClass message_class, Instant now) {
    SendStream& stream = send_[wire::index_of(message_class)];
    if (!wire::is_bulk(message_class)) {
        for (uint64_t i = stream.first_retained; i < stream.next_send; ++i) {
            urgent_out_bytes_ -= stream.retained[i - stream.first_retained].frame.size;
        }
    }
    stream.next_send = stream.first_retained;
    stream.rewound_to = stream.first_retained;
    stream.last_progress = now;
    if (wire::is_bulk(message_class)) pacer_.restart(now);
}

void Session::learn_rtt(Duration rtt) {
    if (!stats_.rtt_min || rtt < *stats_.rtt_min) stats_.rtt_min = rtt;
    if (!rtt_) {
        rtt_ = rtt;
        rtt_deviation_ = Duration::zero();
        return;
    }
    const Duration difference = rtt > *rtt_ ? rtt - *rtt_ : *rtt_ - rtt;
    rtt_deviation_ += (difference - rtt_deviation_) / 4;
    *rtt_ += (rtt - *rtt_) / 8;
}

}  // namespace antipode::stream
