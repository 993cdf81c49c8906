// ZmqLink: the ZeroMQ sockets of a channel and what libzmq tells about them.
//
//   pull          bound to our endpoint: everything that the peer sends. CURVE server; each
//                 connection must hold the pinned key (ZAP)
//   push, urgent  connected to the peer's endpoint: log and control. CURVE client, server key
//   pinned push, bulk    the same, for bulk, so that a log entry never waits behind bulk
//   monitors      one a socket: connected, lost, refused
//
// Threads: create() on any thread; from then on one thread only, that of the loop.
// INVARIANTS: nothing here blocks; send() gives false and keeps nothing when the socket is full.
// Life of what a monitor reports: connected (the CURVE handshake is done) and lost alternate.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "common/base/clock.h"
#include "common/base/result.h"
#include "common/base/unique_fd.h"
#include "replicator/stream/bytes.h"
#include "replicator/stream/curve_keys.h"
#include "replicator/stream/line.h"
#include "replicator/stream/session.h"
#include "replicator/stream/zap.h"

namespace antipode::stream {

struct ZmqLinkConfig {
    std::string listen;
    std::string peer;
    CurveKeyPair own_keys;
    CurvePublicKey peer_key;
    CurvePublicKey other_key;  // of a third site, which may come later; empty: there is none
    Duration connection_timeout = std::chrono::seconds(3);
};

struct LaneConnected {
    Lane lane;
};
struct LaneLost {
    Lane lane;
    std::string reason;
};
// Somebody without the pinned key wanted in.
struct KeyRefused {
    std::string text;
};
// We did not get in: the server at the peer's endpoint does not hold the key we pinned, or refuses
// ours.
struct HandshakeFailed {
    Lane lane;
    std::string text;
};
using LinkEvent = std::variant<LaneConnected, LaneLost, KeyRefused, HandshakeFailed>;

class ZmqSocket {
  public:
    ZmqSocket() = default;
    explicit ZmqSocket(void* socket) : socket_(socket) {}
    ZmqSocket(ZmqSocket&& other) noexcept : socket_(std::exchange(other.socket_, nullptr)) {}
    ZmqSocket& operator=(ZmqSocket&& other) noexcept;
    ~ZmqSocket();
    void* get() const { return socket_; }

  private:
    void* socket_ = nullptr;
};

class ZmqLink {
  public:
    static Result<std::unique_ptr<ZmqLink>> create(const ZmqLinkConfig& config);

    // Waits until a socket, `wake_fd` or one of the wanted lanes has something, or the timeout
    // ends.
    void wait(int wake_fd, std::array<bool, kLaneCount> want_to_send, Duration timeout);
    std::optional<LinkEvent> next_event();
    std::optional<Bytes> receive();
    enum class Sent { no = 1, yes };
    Sent send(Lane lane, const OutgoingFrame& frame);
    // A rehearsed loss of the line. What is on its way stays there, as TCP would keep it: nothing
    // is received, send() gives no, and both sides notice by the silence.
    void set_line(Line line) { line_ = line; }
    // For the destructor: how long unsent frames may still leave.
    void set_linger(Duration linger);
    const std::string& listen_endpoint() const { return listen_endpoint_; }

  private:
    struct FreeContext {
        void operator()(void* context) const;
    };
    struct Watched {  // a socket with its monitor
        ZmqSocket socket;
        ZmqSocket monitor;
        bool connected = false;
    };

    Result<> open(const ZmqLinkConfig& config);
    Result<> open_zap();
    Result<> open_pull(const ZmqLinkConfig& config);
    Result<> open_push(const ZmqLinkConfig& config, Lane lane);
    Result<> watch(Watched& watched, const std::string& name);
    Result<ZmqSocket> make_socket(int type, const ZmqLinkConfig& config);
    void read_monitor(Lane lane);
    void note_failure(Lane lane, uint16_t event, uint32_t value);
    void answer_zap();

    Line line_ = Line::open;
    UniqueFd timer_;
    std::unique_ptr<void, FreeContext> context_;  // closed after every socket
    ZmqSocket zap_;
    ZmqSocket pull_;
    std::array<Watched, kLaneCount> push_;
    CurveKeyBytes pinned_{};
    std::optional<CurveKeyBytes> other_;
    std::string listen_endpoint_;
    std::string peer_endpoint_;
    std::string last_failure_;  // told, and not over
    int silent_failures_ = 0;   // in a row
    std::deque<LinkEvent> events_;
};

}  // namespace antipode::stream
