// ZmqThread: the thread that owns a channel's sockets and its session, and the two queues by which
// it and the core thread talk.
//
//   core thread   admit(), submit(), consumed(), order(), take_event(); event_fd() becomes readable
//   zmq thread    the loop: sockets -> session -> sockets, events -> core
//
// Both queues are bounded. Into the thread: admit() says no when it is full. Out of it: events wait
// in the session, whose credit bounds them, until the core has taken some.
// INVARIANTS: unsent_bytes() is what submit() took and the session has not released.
// Life: the constructor starts the thread, the destructor says goodbye and joins it.
#pragma once

#include <array>
#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

#include "common/base/metrics.h"
#include "common/base/spsc_queue.h"
#include "common/base/unique_fd.h"
#include "replicator/stream/capture.h"
#include "replicator/stream/channel_metrics.h"
#include "replicator/stream/level_control.h"
#include "replicator/stream/session.h"
#include "replicator/stream/zmq_link.h"

namespace antipode::stream {

// An eventfd that is written at most once for each time it is read.
class WakeUp {
  public:
    static Result<WakeUp> create();
    WakeUp(WakeUp&& other) noexcept : fd_(std::move(other.fd_)) {}
    int fd() const { return fd_.get(); }
    void notify();  // any thread
    void clear();   // the thread that waits, before it looks at what it was woken for

  private:
    explicit WakeUp(UniqueFd fd) : fd_(std::move(fd)) {}
    UniqueFd fd_;
    std::atomic<bool> notified_{false};
};

// There is room again for a class that was refused.
struct Writable {
    MessageClass message_class;
};
using ThreadEvent = std::variant<SessionUp, SessionDown, MessageReceived, PeerRefused, Writable>;

class ZmqThread {
  public:
    struct Config {
        SessionConfig session;
        PerClass<uint64_t> send_bytes_max{};
        Registry* metrics = nullptr;
        std::unique_ptr<CaptureWriter> capture;
    };
    static Result<std::unique_ptr<ZmqThread>> start(Config config, std::unique_ptr<ZmqLink> link);
    ~ZmqThread();
    ZmqThread(const ZmqThread&) = delete;
    ZmqThread& operator=(const ZmqThread&) = delete;

    // ---- Core thread ----
    enum class Admitted { no = 1, yes };
    // Whether there is room for a message now. no: over the bound; a Writable follows.
    Admitted admit(MessageClass message_class, size_t size);
    // Only what has just been admitted.
    void submit(OutgoingMessage message, uint64_t generation);
    void consumed(MessageClass message_class, uint64_t total_cost);
    // What the thread shall do between two turns of its loop; false if it is too busy.
    bool order(std::function<void(Session&, Instant)> order);
    std::optional<ThreadEvent> take_event();
    void set_line(Line line);
    int event_fd() const { return to_core_.fd(); }
    void clear_event() { to_core_.clear(); }
    uint64_t unsent_bytes(MessageClass message_class) const;
    ChannelStats stats() const;

  private:
    struct Submission {
        OutgoingMessage message;
        uint64_t generation;
    };
    using Command = std::variant<Submission, std::function<void(Session&, Instant)>>;

    ZmqThread(Config config, std::unique_ptr<ZmqLink> link, WakeUp to_thread, WakeUp to_core);
    void run();
    void turn(Instant now);
    void say_goodbye();
    void take_link_events(Instant now);
    bool take_frames(Instant now);
    void take_commands(Instant now);
    bool pump(Instant now);
    bool pump_lane(Lane lane, Instant now);
    void release();
    void hand_events();
    void report_garbage(Instant now);
    void publish(Instant now);
    bool has_refused() const;
    void tune_compression(Instant now);
    void set_bulk_level(int level);

    std::unique_ptr<ZmqLink> link_;
    Session session_;
    const PerClass<uint64_t> send_bytes_max_;
    std::optional<ChannelMetrics> metrics_;
    std::unique_ptr<CaptureWriter> capture_;
    const std::string peer_site_;

    WakeUp to_thread_;
    WakeUp to_core_;
    SpscQueue<Command> commands_;
    SpscQueue<ThreadEvent> events_;
    std::atomic<bool> stopping_{false};
    std::atomic<Line> line_{Line::open};
    std::atomic<bool> core_owes_wake_{false};  // events wait for room in events_
    std::array<std::atomic<uint64_t>, wire::kMessageClassCount> unsent_{};
    std::array<std::atomic<uint64_t>, wire::kMessageClassCount> consumed_{};
    std::array<std::atomic<bool>, wire::kMessageClassCount> refused_{};
    PerClass<uint64_t> woken_for_{};  // core thread: consumption that the thread was woken for
    PerClass<uint64_t> wake_step_{};

    // zmq thread only
    std::array<std::optional<OutgoingFrame>, kLaneCount> stash_;  // its socket was full
    std::array<bool, kLaneCount> connected_{};
    std::optional<ThreadEvent> waiting_event_;
    uint64_t refused_keys_ = 0;
    uint64_t garbage_told_ = 0;
    Instant next_garbage_line_{};
    Instant next_key_line_{};
    Instant next_publish_{};
    bool unpublished_ = false;  // something happened since
    uint64_t published_sent_ = 0;
    uint64_t published_received_ = 0;
    Instant rate_since_{};
    uint64_t rate_sent_ = 0;
    uint64_t rate_received_ = 0;

    // How hard bulk is compressed: looked at each kLevelInterval.
    LevelControl level_control_;
    Instant level_since_{};
    uint64_t level_payload_ = 0;  // bulk's, by then
    Duration bulk_busy_{};        // making bulk frames, since then
    Duration bulk_held_{};        // in which bulk had to wait for the line
    bool bulk_waits_ = false;
    Instant turn_end_{};

    mutable std::mutex stats_mutex_;  // held for a copy, some times a second
    ChannelStats stats_;

    std::thread thread_;  // last: it uses all of the above
};

}  // namespace antipode::stream
