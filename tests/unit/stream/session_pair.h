// Two Sessions and the connections between them under virtual time: what is sent arrives after the
// line's delay, in order on each lane, unless the lane is cut, which loses what was on its way.
//
// Frames can be dropped, repeated and changed one by one. Everything a session hands on is noted.
#pragma once

#include <array>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/wire/checksum.h"
#include "replicator/stream/session.h"

namespace antipode::stream {

struct Received {
    MessageClass message_class;
    uint8_t type;
    Epoch epoch;
    std::string text;
    friend bool operator==(const Received&, const Received&) = default;
};

// A frame on its way; what a test may do to it.
struct Flying {
    std::vector<std::byte> bytes;
    Instant arrives;
};

class SessionPair {
  public:
    static constexpr size_t kA = 0;
    static constexpr size_t kB = 1;

    struct End {
        std::unique_ptr<Session> session;
        SessionConfig config;
        std::array<bool, kLaneCount> connected{};
        std::array<std::deque<Flying>, kLaneCount> out;  // towards the other end
        std::array<Instant, kLaneCount> free_at{};       // the line is busy until then
        std::vector<std::string> events;
        std::vector<Received> received;
        std::function<void(const MessageReceived&, Instant)> on_each;  // then none is noted
        std::optional<SessionInfo> up;
        PerClass<uint64_t> consumed{};
        PerClass<uint64_t> submitted{};
        PerClass<uint64_t> released{};
        uint64_t wire_bytes = 0;
        bool consumes = true;
        std::deque<MessageReceived> unconsumed;
    };

    SessionPair();
    // A new process at this end, with the next incarnation.
    void start(size_t end);
    // The same process closes its channel and opens the next.
    void turn_anew(size_t end);
    void stop(size_t end);

    void connect(size_t from, Lane lane);
    void connect_all();
    void cut(size_t from, Lane lane, const std::string& reason = "cut");
    void cut_all();

    void submit(size_t from, MessageClass message_class, std::string_view text, uint8_t type = 1,
                Epoch epoch = Epoch(1));
    void consume(size_t end);
    // Lets time pass, in steps of 100 us at most.
    void run_for(Duration duration);
    bool run_until(const std::function<bool()>& condition,
                   Duration patience = std::chrono::seconds(30));
    bool both_up() const { return ends[kA].up && ends[kB].up; }
    // As if it had come from the other end's process.
    void inject(size_t to, std::vector<std::byte> bytes);

    std::vector<std::string> texts(size_t end, MessageClass message_class) const;
    // A data frame from the other end's process, good in every respect.
    wire::Frame data_frame(size_t to, MessageClass message_class, uint64_t sequence) const;
    static std::vector<std::byte> frame_bytes(wire::Frame frame, std::span<const std::byte> body);

    std::array<End, 2> ends;
    Instant now{std::chrono::seconds(1000)};
    Duration delay = std::chrono::milliseconds(5);  // one way
    double bytes_per_second = 125e6;                // a lane
    // May change or drop (return false) a frame when it is sent.
    std::function<bool(size_t from, Lane lane, std::vector<std::byte>& bytes)> tamper;
    bool shared_line = false;  // both lanes of a direction share bytes_per_second

  private:
    void open(size_t end);
    void turn();
    void send_from(size_t end);
    void arrive(size_t end);
    void take_events(size_t end);
    uint64_t next_incarnation_ = 100;
};

}  // namespace antipode::stream
