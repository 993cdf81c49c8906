// SyncLink: one TLS connection to the peer that carries SyncFrames, in order, both ways.
//
// Frames to send wait in a queue here; the node is told how many bytes do, and stops reading for a
// resync when it is too many. Reading stops while the owner does not want frames, so that TCP makes
// the peer wait.
//
// Threads: send(), resume(), close() and counts() from any; the rest, and all calls of the owner,
// on the io_context's one thread. Nothing is called from within send(), resume() or close().
//
// INVARIANTS
//   - The peer's certificate names a site, and that site is the configured one; else nothing is
//     read.
//   - closed() is called once, unless close() came first. What close() overtakes may still be
//     called: an owner that has closed a link ignores it.
#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "common/base/clock.h"
#include "common/env/posix/tls_stream.h"
#include "common/wire/compress.h"
#include "common/wire/sync_frames.h"
#include "disksync/service/compression.h"

namespace antipode::disksync {

class SyncLink : public std::enable_shared_from_this<SyncLink> {
  public:
    struct Owner {
        std::function<void()> ready;  // the handshake is done, and the peer is the right one
        std::function<void(wire::SyncFrame&&)> received;
        std::function<bool()> wants_frames;
        std::function<void(uint64_t bytes)> queued;  // fewer bytes than before wait to be sent
        std::function<void(const std::string& reason)> closed;
    };
    struct Counts {
        uint64_t sent_bytes = 0;       // of frames, before compression
        uint64_t sent_wire_bytes = 0;  // and after
        uint64_t received_bytes = 0;
        uint64_t received_wire_bytes = 0;
        bool compressing = false;
    };
    SyncLink(std::unique_ptr<env::TlsStream> stream, Name expected_peer, Compression compression,
             Owner owner);

    void start();  // on the io thread
    void send(wire::SyncFrame&& frame);
    // The owner wants frames again.
    void resume();
    // What has been queued is tried once more; then the connection ends.
    void close();
    bool is_ready() const { return ready_; }
    Counts counts() const;
    const std::string& peer_address() const { return stream_->peer_address(); }

  private:
    void flush();
    void close_now();
    void handshake();
    void read_some();
    Result<bool> read_once();
    void write_some();
    Result<bool> fill_buffer();
    Result<> compress(wire::SyncFrame& frame);
    Result<> decompress(wire::SyncFrame& frame);
    void judge_line();
    void failed(const std::string& reason);

    std::unique_ptr<env::TlsStream> stream_;
    const Name expected_peer_;
    const Compression compression_;
    Owner owner_;
    bool ready_ = false;
    bool ended_ = false;

    std::array<std::byte, wire::kSyncHeaderBytes> header_{};
    wire::SharedBytes body_;
    bool in_body_ = false;
    size_t got_ = 0;
    bool read_waiting_ = false;
    bool reading_ = false;
    std::atomic<bool> paused_{false};  // the owner wants no frames for now

    std::mutex queue_mutex_;
    std::deque<wire::SyncFrame> frames_;
    uint64_t queued_bytes_ = 0;
    bool flush_posted_ = false;
    bool closing_ = false;

    std::string buffer_;
    size_t written_ = 0;
    bool write_waiting_ = false;
    bool writing_ = false;

    std::atomic<uint64_t> sent_bytes_{0};
    std::atomic<uint64_t> sent_wire_bytes_{0};
    std::atomic<uint64_t> received_bytes_{0};
    std::atomic<uint64_t> received_wire_bytes_{0};
    std::atomic<bool> compressing_{false};
    std::optional<wire::Compressor> compressor_;
    std::optional<wire::Decompressor> decompressor_;
    // Of the last while, to judge the line by.
    Instant judged_at_{};
    uint64_t judged_wire_bytes_ = 0;
    bool line_was_full_ = false;
};

}  // namespace antipode::disksync
