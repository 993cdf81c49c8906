// Session: the reliable part of the logging channel, without sockets, threads and clocks: it is
// told what happened and when, is asked for the next frame to send, and keeps a list of events for
// the core. docs/PROTOCOL-channel.md has the exchanges and the table of failures.
//
//   greeting   both ends send hellos until each has seen its own incarnation in the other's; the
//              session's number is made of both incarnations
//   streams    one a class: pieces numbered from 1, compressed with one zstd stream for the whole
//              session, kept as they were encoded until the peer has acknowledged them
//   lanes      two connections to the peer, one for log and control, one for bulk. Frames on a lane
//              arrive in order or not at all. After a lane has (re)connected, and when something
//              seems lost, a ping is sent on it: its answer says what the peer has, and everything
//              sent before the ping that the peer lacks is lost and is sent again from there
//   credit     each end grants payload bytes a class; what waits to be delivered never exceeds it
//
// One owner, on the ZeroMQ thread. Nothing blocks. INVARIANTS
//   - next_frame() gives new data only while the lane is in step and the peer's credit lasts.
//   - A frame once encoded never changes: repeats are the same bytes, so that compression contexts
//     need no reset for as long as both processes live.
//   - An incarnation that was followed by another one, or that broke the protocol, is never talked
//     to again.
//   - Bytes held: to send, what was submitted and not acknowledged; received, at most the credit.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "common/base/clock.h"
#include "common/base/ids.h"
#include "common/base/result.h"
#include "common/wire/channel_frames.h"
#include "common/wire/checksum.h"
#include "common/wire/compress.h"
#include "common/wire/frame.h"
#include "replicator/stream/bulk_pacer.h"
#include "replicator/stream/bytes.h"
#include "replicator/stream/channel_stats.h"
#include "replicator/stream/urgent_pieces.h"

namespace antipode::stream {

using wire::MessageClass;

enum class Lane : uint8_t { urgent = 0, bulk = 1 };
constexpr size_t kLaneCount = 2;
constexpr std::array<Lane, kLaneCount> kLanes{Lane::urgent, Lane::bulk};
constexpr Lane lane_of(MessageClass c) {
    return wire::is_bulk(c) ? Lane::bulk : Lane::urgent;
}

enum class SessionStart : uint8_t { fresh = 1, resumed };

struct SessionInfo {
    Member peer;
    uint64_t id = 0;
    uint64_t generation = 0;  // counts fresh sessions of this process
    SessionStart start = SessionStart::fresh;
    uint8_t version = 0;  // spoken
    uint32_t features = 0;
    std::string software;  // the peer's
    std::vector<std::byte> hello;
    PerClass<uint64_t> message_bytes_max{};  // that the peer takes
};

struct SessionTimes {
    Duration hello_interval = std::chrono::milliseconds(250);
    Duration ping_interval = std::chrono::seconds(1);     // keep-alive and round trip
    Duration silence_limit = std::chrono::seconds(5);     // then the session is down
    Duration urgent_ack_delay = std::chrono::seconds(1);  // a ping is answered as often
    Duration bulk_ack_delay = std::chrono::milliseconds(1);
    Duration loss_suspicion_min = std::chrono::milliseconds(1500);  // above urgent_ack_delay
};

struct ClassCompression {
    enum class Use : uint8_t { off = 1, on };
    Use use = Use::on;
    wire::CompressSettings settings;
    bool paused = false;  // by LevelControl; the stream goes on afterwards
};

inline constexpr uint64_t kMiB = uint64_t{1} << 20;
inline constexpr PerClass<uint64_t> kSendBytesMaxDefault{64 * kMiB, 8 * kMiB, 64 * kMiB, 64 * kMiB};
inline constexpr PerClass<uint64_t> kReceiveBytesMaxDefault{32 * kMiB, 8 * kMiB, 64 * kMiB,
                                                            64 * kMiB};
inline constexpr PerClass<ClassCompression> kCompressionDefault{};

struct SessionConfig {
    PairId pair;
    Member self;
    uint32_t channel = 1;  // of those that this process has opened
    Name peer_site;
    uint8_t version_min = wire::kChannelVersionMin;
    uint8_t version_max = wire::kChannelVersion;
    uint32_t features = wire::features::kAll;
    std::string software;
    std::vector<std::byte> hello;
    PerClass<uint64_t> receive_bytes_max = kReceiveBytesMaxDefault;
    PerClass<ClassCompression> compression = kCompressionDefault;
    uint64_t bulk_in_flight_bytes_max = 64 * kMiB;
    SessionTimes times;
};

struct OutgoingMessage {
    MessageClass message_class = MessageClass::log;
    uint8_t type = 0;
    Epoch epoch;
    Bytes payload;
};

// What a frame costs of the credit beside its payload, so that empty messages are bounded too.
constexpr uint64_t kFrameCostBytes = 64;
// A message must fit into a quarter of the receiver's bound, so that it can be put together there.
constexpr uint64_t message_bytes_max_for(uint64_t receive_bytes_max) {
    return receive_bytes_max / 4;
}

struct SessionUp {
    SessionInfo info;
};
struct SessionDown {
    std::string reason;
};
struct MessageReceived {
    MessageClass message_class = MessageClass::log;
    uint8_t type = 0;
    Epoch epoch;
    uint64_t cost = 0;  // of the peer's credit, until consumed
    Bytes payload;
};
struct PeerRefused {
    std::string reason;
};
using SessionEvent = std::variant<SessionUp, SessionDown, MessageReceived, PeerRefused>;

// An encoded frame, header and body in one piece.
struct OutgoingFrame {
    std::shared_ptr<const std::byte[]> bytes;
    size_t size = 0;
    std::span<const std::byte> view() const { return {bytes.get(), size}; }
};

class Session {
  public:
    explicit Session(SessionConfig config);

    // ---- What happened ----
    void lane_connected(Lane lane, Instant now);
    void lane_lost(Lane lane, const std::string& reason, Instant now);
    // A frame from the peer, header and body; `bytes` owns it for as long as it is needed.
    void received(const Bytes& bytes, Instant now);
    // Only while established(); else it is dropped, and counts as released.
    void submit(OutgoingMessage message, Instant now);
    // The core is done with messages of this cost in all, since this object was made.
    void consumed(MessageClass message_class, uint64_t total_cost, Instant now);
    void tick(Instant now);
    void set_hello(std::vector<std::byte> hello) { config_.hello = std::move(hello); }
    void set_bulk_cap(uint64_t bytes_per_second, Instant now);
    void set_compression_level(MessageClass message_class, int level);  // LevelControl's
    // This channel ends: next_frame() gives a goodbye, and nothing after it. The first one counts.
    void say_goodbye(std::string reason);

    // ---- What is to be done ----
    std::optional<OutgoingFrame> next_frame(Lane lane, Instant now);
    std::optional<SessionEvent> next_event();
    // When tick() is wanted next: later than now, once tick() and next_frame() have had their turn.
    Instant deadline(Instant now) const;
    // Payload bytes that submit() was given and that are no longer held, since last asked.
    uint64_t take_released(MessageClass message_class);

    // Bulk has something to send, and waits for nothing but the line or a cap.
    bool bulk_held() const { return bulk_paced_; }
    bool established() const { return established_; }
    // Counts sessions: what was submitted for an earlier one is dropped by the caller.
    uint64_t generation() const { return generation_; }
    const SessionInfo& info() const { return info_; }
    const ChannelStats& stats() const { return stats_; }
    ChannelStats& mutable_stats() { return stats_; }
    void fill_stats();  // gauges that are not kept up to date
    // The rule that the last frame counted as garbage broke.
    const std::string& last_garbage() const { return last_garbage_; }

  private:
    struct Retained {
        OutgoingFrame frame;
        uint32_t payload_bytes = 0;
        uint32_t sends = 0;
        bool ends_message = false;
        Instant sent{};
    };
    struct SendStream {
        std::deque<OutgoingMessage> queue;  // the front one is cut up to cut_bytes
        size_t cut_bytes = 0;
        std::deque<Retained> retained;  // first_retained ... next_new - 1
        uint64_t first_retained = 1;
        uint64_t next_send = 1;
        uint64_t next_new = 1;
        uint64_t cost_sent = 0;
        uint64_t credit = 0;
        uint64_t released = 0;
        uint64_t rewound_to = 0;  // by a gap; not again until acknowledged beyond
        Instant last_progress{};
        std::optional<wire::Compressor> compressor;
        // Pieces to send raw because compressing has not paid.
        uint32_t skip = 0;
        uint32_t skip_next = 1;
        uint64_t tried_bytes = 0;
        uint64_t tried_result_bytes = 0;
        double squeezed = 1;  // bytes before compression for each of the line, of the last pieces
    };
    struct ReceiveStream {
        uint64_t received = 0;
        Instant received_at{};
        bool gap = false;
        std::vector<std::byte> partial;
        bool in_message = false;
        uint64_t partial_cost = 0;
        uint8_t partial_type = 0;
        Epoch partial_epoch;
        uint64_t cost_received = 0;
        uint64_t cost_consumed = 0;
        uint64_t cost_handed_on = 0;  // since this object was made
        uint64_t cost_before = 0;     // of it, handed on in earlier sessions
        uint64_t credit_told = 0;
        std::optional<wire::Decompressor> decompressor;
    };
    struct Probe {
        uint64_t token;
        Instant sent;
        PerClass<uint64_t> next_send;  // at that time
    };
    struct LaneState {
        bool connected = false;
        bool in_step = false;  // an answered ping has shown what the peer has
        bool ping_due = false;
        std::deque<Probe> probes;  // unanswered, the oldest first
        uint64_t unacked_bytes = 0;
        uint32_t urgent_turns = 0;  // log frames since the last control frame
    };

    // session.cc: greeting, life, time
    void handle_hello(const wire::Frame& frame, std::span<const std::byte> body, Instant now);
    void refuse_peer(const Member& peer, const std::string& reason);
    void forget_peer(const std::string& reason);
    void establish(const wire::Hello& hello, uint8_t version, Instant now);
    void announce(SessionStart start);
    void go_down(const std::string& reason);
    void break_session(const std::string& rule);
    bool is_finished(const wire::ChannelEnd& end) const;
    void finish(const wire::ChannelEnd& end);
    void want_ping(Lane lane);
    void check_progress(Instant now);
    Duration loss_patience() const;

    // session_send.cc
    OutgoingFrame make_frame(wire::FrameType type, uint16_t flags,
                             std::span<const std::byte> body) const;
    std::optional<OutgoingFrame> next_own_frame(Lane lane, Instant now);
    std::optional<OutgoingFrame> next_urgent(LaneState& state, Instant now);
    std::optional<OutgoingFrame> next_data(MessageClass message_class, Instant now);
    std::optional<OutgoingFrame> repeat(SendStream& stream, MessageClass message_class,
                                        Instant now);
    std::optional<OutgoingFrame> cut_piece(SendStream& stream, MessageClass message_class,
                                           Instant now);
    size_t bulk_piece_bytes(const SendStream& stream) const;
    OutgoingFrame encode_piece(SendStream& stream, const OutgoingMessage& message,
                               std::span<const std::byte> piece, uint16_t flags);
    size_t compress_piece(SendStream& stream, std::span<const std::byte> piece,
                          const wire::CompressSettings& settings);
    bool has_work(const SendStream& stream) const;
    OutgoingFrame make_hello();
    OutgoingFrame make_ping(Lane lane, Instant now);
    OutgoingFrame make_ack(Instant now);
    bool ack_is_due(Instant now) const { return !ack_tokens_.empty() || now >= ack_at_; }
    void handle_ack(const wire::Ack& ack, Instant now);
    void acknowledge(MessageClass message_class, const wire::Ack::Stream& state, Instant now);
    void handle_answer(Lane lane, const Probe& probe, Instant now);
    void rewind(MessageClass message_class, Instant now);
    void learn_rtt(Duration rtt);

    // session_receive.cc
    void garbage(const std::string& rule);
    void handle_data(const wire::Frame& frame, const Bytes& bytes, Instant now);
    const char* take_piece(ReceiveStream& stream, const wire::Frame& frame, const Bytes& bytes);
    Result<Bytes> piece_of(ReceiveStream& stream, const wire::Frame& frame, const Bytes& bytes);
    void after_data(MessageClass message_class, uint64_t wire_bytes, Instant now);
    void want_ack(Instant when);

    SessionConfig config_;
    ChannelStats stats_;
    std::deque<SessionEvent> events_;
    std::array<LaneState, kLaneCount> lanes_;
    std::array<SendStream, wire::kMessageClassCount> send_;
    std::array<ReceiveStream, wire::kMessageClassCount> receive_;
    BulkPacer pacer_;
    UrgentPieces urgent_pieces_;
    uint64_t urgent_out_bytes_ = 0;  // frames of log and control that are on their way
    MessageClass bulk_turn_ = MessageClass::resync;

    wire::ChannelEnd heard_;  // the peer's newest, established or not
    std::deque<wire::ChannelEnd> finished_;
    SessionInfo info_;
    uint64_t generation_ = 0;
    bool established_ = false;
    bool announced_ = false;       // up was told, and not down since
    bool ever_announced_ = false;  // up was told for this session
    bool goodbye_wanted_ = false;
    bool goodbye_sent_ = false;
    std::string goodbye_reason_;
    Incarnation refused_;  // told about already

    bool hello_due_ = false;
    Instant next_hello_{};
    Instant next_ping_{};
    Instant last_heard_{};
    Instant ack_at_ = Instant::max();
    bool bulk_paced_ = false;          // bulk waits for nothing but the pacer
    std::deque<uint64_t> ack_tokens_;  // of pings to answer
    uint64_t next_token_ = 1;
    std::optional<Duration> rtt_;
    Duration rtt_deviation_{};
    std::string last_garbage_;
    std::vector<std::byte> scratch_;
};

}  // namespace antipode::stream
