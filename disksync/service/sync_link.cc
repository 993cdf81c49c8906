#include "disksync/service/sync_link.h"

#include <boost/asio/post.hpp>

namespace antipode::disksync {

namespace {

constexpr size_t kBufferBytes = size_t{256} << 10;
constexpr int kFramesAtOnce = 64;  // then others on this thread get their turn

uint64_t cost_of(const wire::SyncFrame& frame) {
    return wire::kSyncHeaderBytes + frame.payload.size();
}

}  // namespace

SyncLink::SyncLink(std::unique_ptr<env::TlsStream> stream, Name expected_peer, Owner owner)
    : stream_(std::move(stream)), expected_peer_(expected_peer), owner_(std::move(owner)) {}

void SyncLink::start() {
    handshake();
}

void SyncLink::failed(const std::string& reason) {
    if (std::exchange(ended_, true)) return;
    stream_->close();
    owner_.closed(reason);
}

void SyncLink::close() {
    if (ended_) return;
    write_some();
    ended_ = true;
    stream_->close();
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
    if (ready_ && !read_waiting_ && !reading_) read_some();
}

void SyncLink::read_some() {
    reading_ = true;
    for (int frames = 0; !ended_ && frames < kFramesAtOnce; ++frames) {
        if (!owner_.wants_frames()) {
            reading_ = false;
            return;
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
        self->resume();
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
                                  self->resume();
                              });
                return false;
            }
            got_ += moved.bytes;
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
        owner_.received(std::move(frame));
        return true;
    }
    return false;
}

// ---- writing

void SyncLink::send(wire::SyncFrame&& frame) {
    if (ended_) return;
    queued_bytes_ += cost_of(frame);
    frames_.push_back(std::move(frame));
    if (ready_ && !write_waiting_ && !writing_) write_some();
}

// Small frames travel together: one TLS record and one system call for many of them.
bool SyncLink::fill_buffer() {
    buffer_.clear();
    written_ = 0;
    while (!frames_.empty() && buffer_.size() < kBufferBytes) {
        const wire::SyncFrame& frame = frames_.front();
        const std::vector<std::byte> head = wire::encode_head(frame);
        buffer_.append(reinterpret_cast<const char*>(head.data()), head.size());
        if (!frame.payload.empty()) {
            buffer_.append(reinterpret_cast<const char*>(frame.payload.data()),
                           frame.payload.size());
        }
        queued_bytes_ -= cost_of(frame);
        frames_.pop_front();
    }
    return !buffer_.empty();
}

void SyncLink::write_some() {
    if (!ready_ || writing_ || write_waiting_) return;
    writing_ = true;
    while (!ended_) {
        if (written_ == buffer_.size() && !fill_buffer()) break;
        const auto moved = stream_->write(std::string_view(buffer_).substr(written_));
        if (!moved) {
            writing_ = false;
            return failed(moved.error().context);
        }
        written_ += moved->bytes;
        if (moved->bytes != 0) continue;
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
    if (!ended_) owner_.queued(queued_bytes_ + buffer_.size() - written_);
}

}  // namespace antipode::disksync
