// Greeting, life and time of a session.
#include "replicator/stream/session.h"

#include <algorithm>
#include <utility>

#include "common/base/check.h"
#include "common/wire/checksum.h"
#include "replicator/stream/level_control.h"

namespace antipode::stream {
namespace {

constexpr size_t kFinishedMax = 64;
constexpr size_t kProbesMax = 16;
constexpr Duration kProbeIntervalMin = std::chrono::milliseconds(200);
constexpr Duration kPaceStep = std::chrono::microseconds(20);  // no timer is finer
constexpr int kProbeRoundTrips = 3;

}  // namespace

Session::Session(SessionConfig config)
    : config_(std::move(config)), pacer_(config_.bulk_in_flight_bytes_max) {
    FT_CHECK(config_.self.incarnation != Incarnation(), "a session needs an incarnation");
}

void Session::lane_connected(Lane lane, Instant now) {
    LaneState& state = lanes_[static_cast<size_t>(lane)];
    state.connected = true;
    state.in_step = false;
    state.probes.clear();
    if (++stats_.connects > kLaneCount) ++stats_.reconnects;
    if (lane == Lane::urgent) {
        hello_due_ = true;
        next_hello_ = now + config_.times.hello_interval;
        last_heard_ = now;
    }
    if (established_) want_ping(lane);
}

void Session::lane_lost(Lane lane, const std::string& reason, Instant now) {
    LaneState& state = lanes_[static_cast<size_t>(lane)];
    state.connected = false;
    state.in_step = false;
    state.probes.clear();
    if (lane == Lane::bulk) pacer_.restart(now);
    if (lane == Lane::urgent) go_down(reason);
}

void Session::submit(OutgoingMessage message, Instant now) {
    SendStream& stream = send_[wire::index_of(message.message_class)];
    if (!established_) {
        stream.released += message.payload.size();
        return;
    }
    if (!has_work(stream) && stream.retained.empty()) stream.last_progress = now;
    stream.queue.push_back(std::move(message));
}

void Session::consumed(MessageClass message_class, uint64_t total_cost, Instant now) {
    const size_t index = wire::index_of(message_class);
    ReceiveStream& stream = receive_[index];
    if (total_cost <= stream.cost_before) return;
    stream.cost_consumed = total_cost - stream.cost_before;
    const uint64_t grant = stream.cost_consumed + config_.receive_bytes_max[index];
    // Often enough that the peer never waits for credit that it could have.
    if (grant - stream.credit_told >= config_.receive_bytes_max[index] / 4) want_ack(now);
}

void Session::tick(Instant now) {
    const bool greeting = !established_ && lanes_[0].connected;
    if (greeting && now >= next_hello_) {
        hello_due_ = true;
        next_hello_ = now + config_.times.hello_interval;
    }
    if (!established_) return;
    if (now >= next_ping_) {
        next_ping_ = now + config_.times.ping_interval;
        want_ping(Lane::urgent);
        const auto& bulk = lanes_[static_cast<size_t>(Lane::bulk)];
        if (!bulk.in_step) want_ping(Lane::bulk);
    }
    if (announced_ && now - last_heard_ >= config_.times.silence_limit) {
        for (auto& lane : lanes_) lane.in_step = false;
        go_down(fmt::format(
            "nothing heard for {} ms",
            std::chrono::duration_cast<std::chrono::milliseconds>(now - last_heard_).count()));
    }
    check_progress(now);
}

// How long a frame may go without an acknowledgement before it is asked for.
Duration Session::loss_patience() const {
    const Duration round_trip = rtt_.value_or(Duration::zero());
    return std::max(config_.times.loss_suspicion_min,
                    config_.times.urgent_ack_delay + 4 * round_trip);
}

// What was sent and is not acknowledged after a while may be lost: ask.
void Session::check_progress(Instant now) {
    const Duration round_trip = rtt_.value_or(Duration::zero());
    const Duration patience = loss_patience();
    for (const MessageClass c : wire::kMessageClasses) {
        SendStream& stream = send_[wire::index_of(c)];
        const bool waiting = stream.next_send > stream.first_retained;
        if (!waiting || now - stream.last_progress < patience) continue;
        stream.last_progress = now;
        want_ping(lane_of(c));
    }
    for (const Lane lane : kLanes) {
        LaneState& state = lanes_[static_cast<size_t>(lane)];
        if (!state.connected || state.in_step || state.ping_due) continue;
        const Duration interval = std::max(kProbeIntervalMin, kProbeRoundTrips * round_trip);
        if (state.probes.empty() || now - state.probes.back().sent >= interval) want_ping(lane);
    }
}

Instant Session::deadline(Instant now) const {
    // Of what cannot be done now, no time is near: that would be a loop without a pause.
    Instant next = lanes_[0].connected ? ack_at_ : Instant::max();
    if (!established_) {
        if (lanes_[0].connected) next = std::min(next, next_hello_);
        return next;
    }
    next = std::min(next, next_ping_);
    if (announced_) next = std::min(next, last_heard_ + config_.times.silence_limit);
    for (const auto& stream : send_) {
        if (stream.next_send > stream.first_retained) {
            next = std::min(next, stream.last_progress + loss_patience());
        }
    }
    for (const auto& lane : lanes_) {
        if (lane.connected && !lane.in_step) next = std::min(next, now + kProbeIntervalMin);
    }
    if (bulk_paced_ && lanes_[static_cast<size_t>(Lane::bulk)].in_step) {
        next = std::min(next, std::max(pacer_.ready_at(now), now + kPaceStep));
    }
    return next;
}

void Session::set_bulk_cap(uint64_t bytes_per_second, Instant now) {
    pacer_.set_cap(bytes_per_second, now);
    stats_.bulk_cap_bytes_per_second = bytes_per_second;
}

void Session::set_compression_level(MessageClass message_class, int level) {
    ClassCompression& compression = config_.compression[wire::index_of(message_class)];
    compression.paused = level == LevelControl::kNone;
    if (compression.paused) return;
    compression.settings.level = level;
    auto& compressor = send_[wire::index_of(message_class)].compressor;
    if (compressor) compressor->set_level(level);
}

void Session::say_goodbye(std::string reason) {
    if (goodbye_wanted_) return;
    goodbye_wanted_ = true;
    goodbye_reason_ = std::move(reason);
}

std::optional<SessionEvent> Session::next_event() {
    if (events_.empty()) return std::nullopt;
    SessionEvent event = std::move(events_.front());
    events_.pop_front();
    return event;
}

uint64_t Session::take_released(MessageClass message_class) {
    return std::exchange(send_[wire::index_of(message_class)].released, 0);
}

void Session::fill_stats() {
    for (const MessageClass c : wire::kMessageClasses) {
        const SendStream& stream = send_[wire::index_of(c)];
        StreamStats& out = stats_.of(c);
        out.credit_bytes = stream.credit > stream.cost_sent ? stream.credit - stream.cost_sent : 0;
    }
    stats_.rtt = rtt_;
    if (rtt_) stats_.jitter = rtt_deviation_;
    stats_.bulk_window_bytes = pacer_.window();
    stats_.bulk_in_flight_bytes = pacer_.in_flight();
    stats_.bulk_delivery_bytes_per_second = pacer_.delivery_rate();
    stats_.line_bytes_per_second = pacer_.line_rate();
    stats_.bulk_queue_delay = pacer_.queue_delay();
}

// ---- Greeting ----

bool Session::is_finished(const wire::ChannelEnd& end) const {
    return std::find(finished_.begin(), finished_.end(), end) != finished_.end();
}

void Session::finish(const wire::ChannelEnd& end) {
    if (end.incarnation == Incarnation() || is_finished(end)) return;
    finished_.push_back(end);
    if (finished_.size() > kFinishedMax) finished_.pop_front();
}

void Session::refuse_peer(const Member& peer, const std::string& reason) {
    ++stats_.refused_peers;
    if (refused_ == peer.incarnation) return;
    refused_ = peer.incarnation;
    events_.push_back(PeerRefused{reason});
}

void Session::handle_hello(const wire::Frame& frame, std::span<const std::byte> body, Instant now) {
    auto decoded = wire::decode_hello(body);
    if (!decoded) return garbage(decoded.error().context);
    const wire::Hello& hello = *decoded;
    const Member& peer = hello.from;
    const wire::ChannelEnd end{peer.incarnation, std::max(hello.channel, 1u)};
    if (is_finished(end)) {
        ++stats_.stale_session_frames;
        return;
    }
    if (peer.site != config_.peer_site) {
        return refuse_peer(peer, fmt::format("the channel's other end says that it is site {}, "
                                             "expected {}",
                                             peer.site, config_.peer_site));
    }
    last_heard_ = now;
    if (end != heard_) {
        const bool turned = end.incarnation == heard_.incarnation;
        forget_peer(fmt::format("{} {}", peer.site,
                                turned ? "turns to this site anew" : "was started again"));
        heard_ = end;
        hello_due_ = true;
    }
    const uint8_t version = wire::common_version(config_.version_min, config_.version_max,
                                                 hello.version_min, hello.version_max);
    if (version == 0) {
        return refuse_peer(
            peer, fmt::format("{} ({}) speaks channel versions {} to {}, expected {} to {}",
                              peer.site, hello.software, hello.version_min, hello.version_max,
                              config_.version_min, config_.version_max));
    }
    if ((frame.flags & wire::frame_flags::kWantReply) != 0) hello_due_ = true;
    if (hello.to != config_.self.incarnation) return;
    // It has heard a channel that is closed; it will hear this one.
    if (hello.channel != 0 && hello.to_channel != config_.channel) return;
    if (established_) {
        info_.hello = hello.blob;
        return;
    }
    establish(hello, version, now);
}

// The peer's process is another one now, or has opened another channel, or there is none.
void Session::forget_peer(const std::string& reason) {
    go_down(reason);
    finish(heard_);
    established_ = false;
    ever_announced_ = false;
    heard_ = {};
    for (auto& lane : lanes_) {
        lane.in_step = false;
        lane.ping_due = false;
        lane.probes.clear();
        lane.unacked_bytes = 0;
    }
    for (auto& stream : send_) {
        uint64_t dropped = 0;
        for (const auto& message : stream.queue) dropped += message.payload.size();
        for (const auto& frame : stream.retained) dropped += frame.payload_bytes;
        dropped -= std::min<uint64_t>(dropped, stream.cut_bytes);
        const uint64_t released = stream.released + dropped;
        stream = SendStream();
        stream.released = released;
    }
    for (auto& stream : receive_) {
        const uint64_t handed_on = stream.cost_handed_on;
        stream = ReceiveStream();
        stream.cost_handed_on = stream.cost_before = handed_on;
    }
    urgent_out_bytes_ = 0;
    ack_at_ = Instant::max();
    ack_tokens_.clear();
}

void Session::establish(const wire::Hello& hello, uint8_t version, Instant now) {
    info_.peer = hello.from;
    info_.id = wire::session_id({config_.self.incarnation, config_.channel}, heard_);
    info_.version = version;
    info_.features = config_.features & hello.features;
    info_.software = hello.software;
    info_.hello = hello.blob;
    for (size_t i = 0; i < wire::kMessageClassCount; ++i) {
        send_[i].credit = hello.credit[i];
        info_.message_bytes_max[i] = message_bytes_max_for(hello.credit[i]);
        receive_[i].credit_told = config_.receive_bytes_max[i];
    }
    established_ = true;
    info_.generation = ++generation_;
    ++stats_.sessions;
    next_ping_ = now + config_.times.ping_interval;
    // The hello that answers is ahead of everything on the urgent lane, so that the peer knows of
    // the session when the first data comes. On the bulk lane only an answered ping shows that.
    hello_due_ = true;
    if (lanes_[0].connected) {
        lanes_[0].in_step = true;
        announce(SessionStart::fresh);
    }
    want_ping(Lane::urgent);
    want_ping(Lane::bulk);
}

void Session::announce(SessionStart start) {
    if (announced_) return;
    announced_ = true;
    ever_announced_ = true;
    info_.start = start;
    if (start == SessionStart::resumed) ++stats_.resumes;
    events_.push_back(SessionUp{info_});
}

void Session::go_down(const std::string& reason) {
    if (!announced_) return;
    announced_ = false;
    events_.push_back(SessionDown{reason});
}

void Session::break_session(const std::string& rule) {
    ++stats_.garbage_frames;
    const std::string reason =
        fmt::format("{} broke the protocol: {}; no session with this process of it any more",
                    info_.peer.site, rule);
    events_.push_back(PeerRefused{reason});
    forget_peer(reason);
}

void Session::want_ping(Lane lane) {
    LaneState& state = lanes_[static_cast<size_t>(lane)];
    if (state.connected) state.ping_due = true;
    while (state.probes.size() >= kProbesMax) state.probes.pop_front();
}

}  // namespace antipode::stream
