// Channel: the logging channel of a pair, seen from the core loop: four ordered streams of messages
// to and from the peer site, over ZeroMQ with CURVE. docs/PROTOCOL-channel.md.
//
// Life: create() binds the listen endpoint (or says why not) and starts the ZeroMQ thread, which
// connects, greets, and goes on trying for ever. on_session_up() opens a session, on_session_down()
// says that the peer cannot be reached for now (or is another process); both alternate. The
// destructor says goodbye and joins the thread.
//
// Threads: everything here, callbacks included, on the one thread that runs the io_context. No
// callback comes from within a call of ours, but from the loop. A callback may destroy the Channel.
//
// INVARIANTS
//   - Within a class, messages arrive in the order they were sent, each once; classes are not
//     ordered between each other. `log` goes first, `control` next, bulk when there is room.
//   - A session is between two incarnations. It outlives connections: a session that comes up again
//     with the same peer (SessionStart::resumed) has lost nothing and repeated nothing of what
//     send() accepted, before or while it was down. A fresh session begins with empty streams: what
//     was accepted for another incarnation and had not arrived is dropped.
//   - send() accepts at most ChannelConfig::send_bytes_max of payload that the peer has not got, a
//     class. Above that it refuses with Errc::busy, keeps nothing, and on_writable() follows.
//   - What waits here to be delivered is bounded by ChannelConfig::receive_bytes_max a class.
// On failure: errors of sockets, keys and garbage from a peer are logged and counted, and never end
// the process. A peer that breaks the rules of an authenticated session ends that session.
#pragma once

#include <array>
#include <boost/asio/io_context.hpp>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "common/base/clock.h"
#include "common/base/ids.h"
#include "common/base/metrics.h"
#include "common/base/result.h"
#include "common/wire/frame.h"
#include "replicator/stream/channel_stats.h"
#include "replicator/stream/curve_keys.h"
#include "replicator/stream/line.h"
#include "replicator/stream/session.h"

namespace antipode::stream {

struct ChannelConfig {
    std::string listen;  // "tcp://10.0.0.1:7100"
    std::string peer;    // "tcp://10.0.0.2:7100"
    CurveKeyPair own_keys;
    CurvePublicKey peer_key;   // pinned: nobody else is let in
    CurvePublicKey other_key;  // of a third site, which is told to come later; may be empty
    PairId pair;               // wire::pair_id(name)
    Member self;
    // Of those that this process has opened to any site: a peer must tell one from the next.
    uint32_t number = 1;
    Name peer_site;
    std::string software;          // our version, for people; at most 15 characters
    std::vector<std::byte> hello;  // what the peer's on_session_up() is given; at most 4096 bytes
    PerClass<uint64_t> send_bytes_max = kSendBytesMaxDefault;
    PerClass<uint64_t> receive_bytes_max = kReceiveBytesMaxDefault;
    SessionTimes times;
    PerClass<ClassCompression> compression = kCompressionDefault;
    // Below it zmq's own heartbeats close a connection on which nothing comes back.
    Duration connection_timeout = std::chrono::seconds(3);
    Registry* metrics = nullptr;  // outlives the channel
    std::string capture_path;     // if not empty: every frame is written there (antipode-dump)
    uint64_t capture_bytes_max = uint64_t{1} << 30;
};

class ChannelHandler {
  public:
    // `hello` is the peer's ChannelConfig::hello. More about the session: Channel::session().
    virtual void on_session_up(const Member& peer, std::span<const std::byte> hello) = 0;
    virtual void on_session_down(const std::string& reason) = 0;
    // Only while a session is up: what arrives while it is down is held until it is up again. The
    // payload is valid during the call. Its credit goes back to the peer when the call returns.
    virtual void on_message(MessageClass message_class, uint8_t type, Epoch epoch,
                            std::span<const std::byte> payload) = 0;
    // A send() was refused as busy; there is room again.
    virtual void on_writable() = 0;
    // The peer's process cannot be talked to: its version, its name or its pair is another. Told
    // once for each process of the peer; there will be no session with it.
    virtual void on_peer_refused(const std::string& reason) { (void)reason; }

  protected:
    ~ChannelHandler() = default;
};

class Channel {
  public:
    static Result<std::unique_ptr<Channel>> create(boost::asio::io_context& context,
                                                   ChannelConfig config, ChannelHandler& handler);
    ~Channel();
    Channel(const Channel&) = delete;
    Channel& operator=(const Channel&) = delete;

    // Errc::busy: over the bound; on_writable() will tell. Errc::closed: no session is up.
    // Errc::limit: larger than message_bytes_max(). Nothing is kept when it fails.
    Result<> send(MessageClass message_class, uint8_t type, Epoch epoch,
                  std::span<const std::byte> payload);
    // The same without a copy. On failure `payload` is untouched.
    Result<> send(MessageClass message_class, uint8_t type, Epoch epoch,
                  std::vector<std::byte>&& payload);
    size_t message_bytes_max(MessageClass message_class) const;
    // Payload bytes that were accepted and that the peer has not got yet.
    uint64_t unsent_bytes(MessageClass message_class) const;

    // While paused, nothing of this class is delivered; credit then stops the peer.
    enum class Delivery : uint8_t { paused = 1, flowing };
    void set_delivery(MessageClass message_class, Delivery delivery);
    // What the next session's peer is given as `hello`.
    void set_hello(std::vector<std::byte> hello);
    // Bulk classes together, on the wire; 0: no cap.
    void set_bulk_cap(uint64_t bytes_per_second);
    // A rehearsed loss of the line, as Heartbeat's.
    void set_line(Line line);
    // What the peer is told when this channel is destroyed right after; else "shut down".
    void say_goodbye(std::string reason);

    // Of the session that is up, or was last.
    const SessionInfo& session() const;
    ChannelStats stats() const;
    // Where it listens: of use when the port was 0.
    const std::string& listen_endpoint() const;

  private:
    class Impl;
    explicit Channel(std::shared_ptr<Impl> impl);
    std::shared_ptr<Impl> impl_;
};

}  // namespace antipode::stream
