#include "replicator/stream/channel_metrics.h"

#include <string>

namespace antipode::stream {
namespace {

double seconds(const std::optional<Duration>& duration) {
    return duration ? std::chrono::duration<double>(*duration).count() : 0;
}

}  // namespace

void ChannelMetrics::Follower::show(uint64_t total) {
    if (total <= shown) return;
    counter->add(total - shown);
    shown = total;
}

ChannelMetrics::ChannelMetrics(Registry& registry) {
    const auto counter = [&](const char* name, const char* help,
                             const Registry::Labels& labels = {}) {
        return Follower{&registry.counter(name, help, labels)};
    };
    for (const auto c : wire::kMessageClasses) {
        Stream& s = streams_[wire::index_of(c)];
        const std::string name(to_string(c));
        const Registry::Labels out{{"class", name}, {"direction", "sent"}};
        const Registry::Labels in{{"class", name}, {"direction", "received"}};
        const Registry::Labels both{{"class", name}};
        const char* messages = "antipode_channel_messages_total";
        const char* messages_help = "Messages of the logging channel";
        s.messages_sent = counter(messages, messages_help, out);
        s.messages_received = counter(messages, messages_help, in);
        const char* payload = "antipode_channel_payload_bytes_total";
        const char* payload_help = "Bytes of messages before compression";
        s.payload_sent = counter(payload, payload_help, out);
        s.payload_received = counter(payload, payload_help, in);
        const char* body = "antipode_channel_body_bytes_total";
        const char* body_help = "Bytes of messages after compression";
        s.body_sent = counter(body, body_help, out);
        s.body_received = counter(body, body_help, in);
        s.frames_repeated = counter("antipode_channel_frames_repeated_total",
                                    "Frames sent again after a loss or a reconnect", both);
        s.duplicates = counter("antipode_channel_duplicate_frames_total",
                               "Frames received a second time and dropped", both);
        s.gap_frames = counter("antipode_channel_gap_frames_total",
                               "Frames received after a missing one and dropped", both);
        s.waiting_bytes = &registry.gauge("antipode_channel_waiting_bytes",
                                          "Payload that the peer has not acknowledged", both);
    }
    const char* wire = "antipode_channel_wire_bytes_total";
    const char* wire_help = "Bytes of frames, headers and repeats included";
    wire_sent_ = counter(wire, wire_help, {{"direction", "sent"}});
    wire_received_ = counter(wire, wire_help, {{"direction", "received"}});
    reconnects_ = counter("antipode_channel_reconnects_total", "Connections made after the first");
    sessions_ = counter("antipode_channel_sessions_total", "Sessions with a process of the peer");
    resumes_ = counter("antipode_channel_resumes_total", "Sessions that went on after a break");
    garbage_ = counter("antipode_channel_garbage_frames_total", "Frames that broke a rule");
    stale_session_ = counter("antipode_channel_stale_session_frames_total",
                             "Frames of another session, dropped");
    refused_keys_ = counter("antipode_channel_refused_keys_total",
                            "Connections without the pinned key, turned away");
    refused_peers_ = counter("antipode_channel_refused_peers_total",
                             "Greetings of another version, site or pair");
    rtt_ = &registry.gauge("antipode_channel_round_trip_seconds", "Smoothed round trip");
    jitter_ =
        &registry.gauge("antipode_channel_jitter_seconds", "Mean deviation of the round trip");
    const char* rate = "antipode_channel_bytes_per_second";
    const char* rate_help = "Bytes of frames over the last second";
    sent_rate_ = &registry.gauge(rate, rate_help, {{"direction", "sent"}});
    received_rate_ = &registry.gauge(rate, rate_help, {{"direction", "received"}});
    bulk_window_ =
        &registry.gauge("antipode_channel_bulk_window_bytes", "What bulk may have in flight");
    bulk_queue_delay_ = &registry.gauge("antipode_channel_bulk_queue_delay_seconds",
                                        "Delay that bulk adds to the line");
    bulk_cap_ = &registry.gauge("antipode_channel_bulk_cap_bytes_per_second",
                                "The cap on bulk in force; 0: none");
    bulk_level_ = &registry.gauge("antipode_channel_bulk_compression_level",
                                  "How hard bulk is compressed: zstd's level, 0 not at all");
}

void ChannelMetrics::set(const ChannelStats& stats) {
    for (const auto c : wire::kMessageClasses) {
        const StreamStats& from = stats.of(c);
        Stream& to = streams_[wire::index_of(c)];
        to.messages_sent.show(from.messages_sent);
        to.messages_received.show(from.messages_received);
        to.frames_repeated.show(from.frames_repeated);
        to.payload_sent.show(from.payload_bytes_sent);
        to.payload_received.show(from.payload_bytes_received);
        to.body_sent.show(from.body_bytes_sent);
        to.body_received.show(from.body_bytes_received);
        to.duplicates.show(from.duplicates);
        to.gap_frames.show(from.gap_frames);
        to.waiting_bytes->set(static_cast<double>(from.waiting_bytes));
    }
    wire_sent_.show(stats.wire_bytes_sent);
    wire_received_.show(stats.wire_bytes_received);
    reconnects_.show(stats.reconnects);
    sessions_.show(stats.sessions);
    resumes_.show(stats.resumes);
    garbage_.show(stats.garbage_frames);
    stale_session_.show(stats.stale_session_frames);
    refused_keys_.show(stats.refused_keys);
    refused_peers_.show(stats.refused_peers);
    rtt_->set(seconds(stats.rtt));
    jitter_->set(seconds(stats.jitter));
    sent_rate_->set(stats.sent_bytes_per_second);
    received_rate_->set(stats.received_bytes_per_second);
    bulk_window_->set(static_cast<double>(stats.bulk_window_bytes));
    bulk_queue_delay_->set(seconds(stats.bulk_queue_delay));
    bulk_cap_->set(static_cast<double>(stats.bulk_cap_bytes_per_second));
    bulk_level_->set(stats.bulk_compression_level);
}

}  // namespace antipode::stream
