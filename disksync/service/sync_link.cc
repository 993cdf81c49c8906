#include "disksync/service/sync_link.h"

#include <boost/asio/post.hpp>

namespace antipode::disksync {

namespace {

constexpr size_t kBufferBytes = size_t{256} << 10;
constexpr int kFramesAtOnce = 64;  // then others on this thread get their turn
constexpr size_t kCompressFromBytes = 4096;
// zstd's first level does 550 MB/s of mixed data on one core: a faster line is better left alone.
constexpr double kSlowLineBytesPerSecond = 250e6;
constexpr std::chrono::milliseconds kJudgeInterval(500);

uint64_t cost_of(const wire::SyncFrame& frame) {
    return wire::kSyncHeaderBytes + frame.payload.size();
}

}  // namespace

SyncLink::SyncLink(std::unique_ptr<env::TlsStream> stream, Name expected_peer,
                   Compression compression, Owner owner)
    : stream_(std::move(stream)),
      expected_peer_(expected_peer),
      compression_(compression),
      owner_(std::move(owner)) {
    compressing_ = compression == Compression::always;
}

void SyncLink::start() {
    stream_->expect_bulk();
    handshake();
}

void SyncLink::failed(const std::string& reason) {
    if (std::exchange(ended_, true)) return;
    stream_->close();
    owner_.closed(reason);
}

void SyncLink::close() {
    {
        const std::lock_guard lock(queue_mutex_);
        if (std::exchange(closing_, true)) return;
    }
    boost::asio::post(stream_->socket().get_executor(),
                      [self = shared_from_this()] { self->close_now(); });
}

void SyncLink::close_now() {
    if (ended_) return;
    write_some();
    ended_ = true;
    stream_->close();
}

SyncLink::Counts SyncLink::counts() const {
    Counts counts;
    counts.sent_bytes = sent_bytes_;
    counts.sent_wire_bytes = sent_wire_bytes_;
    counts.received_bytes = received_bytes_;
    counts.received_wire_bytes = received_wire_bytes_;
    counts.compressing = compressing_;
    return counts;
}

void SyncLink::handshake() {
    if (ended_) return;
    const auto needs = stream_->handshake();
    if (!needs) return failed(needs.error().context);
    if (*needs != env::TlsStream::Needs::nothing) {
        stream_->wait(*needs, [self = shared_from_this()](const boost::system::error_code& error) {
            if (error) return self->failed("TLS handshake: " + error.message());
            self->handshake();
        });
        return;
    }
    const auto identity = stream_->peer_identity();
    if (!identity) return failed(identity.error().context);
    // A site that listens shows a certificate of its web daemon's kind: a site's own is no
    // server's.
    const bool is_site =
        identity->role == env::PeerRole::site || identity->role == env::PeerRole::web;
    if (!is_site || identity->name != expected_peer_) {
        return failed(fmt::format("the peer at {} is {}, expected site {}", stream_->peer_address(),
                                  identity->uri(), expected_peer_));
    }
    ready_ = true;
    owner_.ready();
    read_some();
    write_some();
}

// ---- reading

void SyncLink::resume() {
    if (!paused_.exchange(false)) return;
    boost::asio::post(stream_->socket().get_executor(), [self = shared_from_this()] {
        if (self->ready_ && !self->read_waiting_ && !self->reading_) self->read_some();
    });
}

void SyncLink::read_some() {
    reading_ = true;
    for (int frames = 0; !ended_ && frames < kFramesAtOnce; ++frames) {
        if (!owner_.wants_frames()) {
            paused_ = true;
            // It may have changed its mind before it could know that we pause.
            if (!owner_.wants_frames() || !paused_.exchange(false)) {
                reading_ = false;
                return;
            }
        }
        const auto went = read_once();
        if (!went) {
            reading_ = false;
            return failed(went.error().context);
        }
        if (!*went) {
            reading_ = false;
            return;
        }
    }
    reading_ = false;
    if (ended_) return;
    read_waiting_ = true;
    boost::asio::post(stream_->socket().get_executor(), [self = shared_from_this()] {
        self->read_waiting_ = false;
        self->read_some();
    });
}

// Until a frame is complete. False: waiting for the socket.
Result<bool> SyncLink::read_once() {
    while (!ended_) {
        const std::span<std::byte> into =
            in_body_ ? body_.writable().subspan(got_) : std::span(header_).subspan(got_);
        if (!into.empty()) {
            FT_TRY(const env::TlsStream::Moved moved, stream_->read(into));
            if (moved.bytes == 0) {
                read_waiting_ = true;
                stream_->wait(moved.needs,
                              [self = shared_from_this()](const boost::system::error_code& error) {
                                  self->read_waiting_ = false;
                                  if (error) return self->failed(error.message());
                                  self->read_some();
                              });
                return false;
            }
            got_ += moved.bytes;
            received_wire_bytes_ += moved.bytes;
            if (moved.bytes < into.size()) continue;
        }
        got_ = 0;
        if (!in_body_) {
            FT_TRY(const wire::SyncHeader header, wire::decode_sync_header(header_));
            body_ = wire::SharedBytes::make(header.body_bytes);
            in_body_ = true;
            continue;
        }
        in_body_ = false;
        FT_TRY(wire::SyncFrame frame, wire::decode_sync_frame(header_, body_));
        body_ = {};
        FT_TRY_VOID(decompress(frame));
        received_bytes_ += cost_of(frame);
        owner_.received(std::move(frame));
        return true;
    }
    return false;
}

// ---- writing

void SyncLink::send(wire::SyncFrame&& frame) {
    {
        const std::lock_guard lock(queue_mutex_);
        if (closing_) return;
        queued_bytes_ += cost_of(frame);
        frames_.push_back(std::move(frame));
        if (std::exchange(flush_posted_, true)) return;
    }
    boost::asio::post(stream_->socket().get_executor(),
                      [self = shared_from_this()] { self->flush(); });
}

void SyncLink::flush() {
    {
        const std::lock_guard lock(queue_mutex_);
        flush_posted_ = false;
    }
    if (!ended_) write_some();
}

// The other side's compressor has made one stream of all its pieces.
Result<> SyncLink::decompress(wire::SyncFrame& frame) {
    if ((frame.flags & wire::sync_flags::kCompressed) == 0) return {};
    if (!decompressor_) {
        FT_TRY(wire::Decompressor made, wire::Decompressor::create());
        decompressor_.emplace(std::move(made));
    }
    const auto& range = std::get<wire::SyncRange>(frame.body);
    wire::SharedBytes data = wire::SharedBytes::make(range.length_bytes);
    FT_TRY_VOID(decompressor_->decompress(frame.payload.span(), data.writable()));
    frame.payload = std::move(data);
    frame.flags = static_cast<uint16_t>(frame.flags & ~wire::sync_flags::kCompressed);
    return {};
}

Result<> SyncLink::compress(wire::SyncFrame& frame) {
    const bool data =
        frame.type == wire::SyncType::write || frame.type == wire::SyncType::resync_data;
    if (!compressing_ || !data || frame.payload.size() < kCompressFromBytes ||
        wire::looks_incompressible(frame.payload.span())) {
        return {};
    }
    if (!compressor_) {
        FT_TRY(wire::Compressor made, wire::Compressor::create({}));
        compressor_.emplace(std::move(made));
    }
    wire::SharedBytes packed =
        wire::SharedBytes::make(wire::Compressor::bound(frame.payload.size()));
    // Once the stream has it, it has to be sent this way, whatever became of its size.
    FT_TRY(const size_t bytes, compressor_->compress(frame.payload.span(), packed.writable()));
    frame.payload = packed.part(0, bytes);
    frame.flags = static_cast<uint16_t>(frame.flags | wire::sync_flags::kCompressed);
    return {};
}

// Compressing pays where the line is what everything waits for.
void SyncLink::judge_line() {
    if (compression_ != Compression::automatic) return;
    const Instant now = MonotonicClock::now();
    if (now - judged_at_ < kJudgeInterval) return;
    const double seconds = std::chrono::duration<double>(now - judged_at_).count();
    const auto bytes = static_cast<double>(sent_wire_bytes_ - judged_wire_bytes_);
    // A line that was idle for most of the time says nothing about itself.
    if (judged_at_ != Instant() && seconds < 2 && bytes > 0) {
        compressing_ = line_was_full_ && bytes / seconds < kSlowLineBytesPerSecond;
    }
    judged_at_ = now;
    judged_wire_bytes_ = sent_wire_bytes_;
    line_was_full_ = false;
}

// Small frames travel together: one TLS record and one system call for many of them.
Result<bool> SyncLink::fill_buffer() {
    buffer_.clear();
    written_ = 0;
    judge_line();
    while (buffer_.size() < kBufferBytes) {
        wire::SyncFrame frame;
        {
            const std::lock_guard lock(queue_mutex_);
            if (frames_.empty()) break;
            frame = std::move(frames_.front());
            frames_.pop_front();
            queued_bytes_ -= cost_of(frame);
        }
        sent_bytes_ += cost_of(frame);
        FT_TRY_VOID(compress(frame));
        const std::vector<std::byte> head = wire::encode_head(frame);
        buffer_.append(reinterpret_cast<const char*>(head.data()), head.size());
        if (!frame.payload.empty()) {
            buffer_.append(reinterpret_cast<const char*>(frame.payload.data()),
                           frame.payload.size());
        }
    }
    return !buffer_.empty();
}

void SyncLink::write_some() {
    if (!ready_ || writing_ || write_waiting_) return;
    writing_ = true;
    while (!ended_) {
        if (written_ == buffer_.size()) {
            const auto filled = fill_buffer();
            if (!filled) {
                writing_ = false;
                return failed(filled.error().context);
            }
            if (!*filled) break;
        }
        const auto moved = stream_->write(std::string_view(buffer_).substr(written_));
        if (!moved) {
            writing_ = false;
            return failed(moved.error().context);
        }
        written_ += moved->bytes;
        sent_wire_bytes_ += moved->bytes;
        if (moved->bytes != 0) continue;
        line_was_full_ = true;
        write_waiting_ = true;
        stream_->wait(moved->needs,
                      [self = shared_from_this()](const boost::system::error_code& error) {
                          self->write_waiting_ = false;
                          if (error) return self->failed(error.message());
                          self->write_some();
                      });
        break;
    }
    writing_ = false;
    if (ended_) return;
    uint64_t queued = buffer_.size() - written_;
    {
        const std::lock_guard lock(queue_mutex_);
        queued += queued_bytes_;
    }
    owner_.queued(queued);
}

}  // namespace antipode::disksync
