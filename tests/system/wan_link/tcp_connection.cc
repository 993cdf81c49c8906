#include "tests/system/wan_link/tcp_connection.h"

#include <array>
#include <boost/asio/buffer.hpp>
#include <boost/asio/write.hpp>

#include "common/base/log.h"
#include "tests/system/wan_link/sockets.h"

namespace antipode::wan {

namespace asio = boost::asio;

TcpConnection::TcpConnection(Socket client, Line line, Endpoint target,
                             std::function<void()> on_closed)
    : line_(line),
      target_(std::move(target)),
      on_closed_(std::move(on_closed)),
      client_(std::move(client)),
      server_(client_.get_executor()),
      setup_timer_(client_.get_executor()),
      up_(client_, server_, *line.out),
      down_(server_, client_, *line.back) {}

void TcpConnection::start() {
    accepted_at_ = MonotonicClock::now();
    boost::system::error_code error;
    client_.non_blocking(true, error);
    client_.set_option(asio::ip::tcp::no_delay(true), error);
    cut_changed();
    if (closed_) return;
    // The kernel has shaken hands at once; the line would have taken a round trip. So the target
    // hears of the connection one way from now, and the client's first byte leaves a round trip
    // from now.
    setup_timer_.expires_at(timer_point(accepted_at_ + line_.out->settings().delay));
    setup_timer_.async_wait([self = shared_from_this()](auto failed) {
        if (!failed) self->connect();
    });
}

void TcpConnection::connect() {
    if (closed_ || connecting_ || up_.frozen_at) return;  // thawing calls again
    connecting_ = true;
    boost::system::error_code error;
    server_.open(target_.protocol(), error);
    if (error) return abort();
    set_filters();
    server_.async_connect(target_, [self = shared_from_this()](auto failed) {
        if (failed) {
            logger("wan").debug("connecting to the target: {}", failed.message());
            return self->abort();
        }
        self->opened();
    });
}

void TcpConnection::opened() {
    if (closed_) return;
    connected_ = true;
    boost::system::error_code error;
    server_.non_blocking(true, error);
    server_.set_option(asio::ip::tcp::no_delay(true), error);
    open_pipe(down_, MonotonicClock::now());
    open_pipe(up_, accepted_at_ + line_.round_trip());
}

void TcpConnection::open_pipe(Pipe& pipe, Instant at) {
    pipe.read_timer.expires_at(timer_point(at));
    pipe.read_timer.async_wait([self = shared_from_this(), &pipe](auto) {
        if (self->closed_) return;
        pipe.open = true;
        self->read(pipe);
    });
}

// Packets from a side vanish when the direction that leads away from it is a black hole.
void TcpConnection::set_filters() {
    if (client_.is_open()) {
        drop_incoming(client_.native_handle(), line_.out->cut() == Cut::blackhole);
    }
    if (server_.is_open()) {
        drop_incoming(server_.native_handle(), line_.back->cut() == Cut::blackhole);
    }
}

void TcpConnection::cut_changed() {
    if (closed_) return;
    if (line_.out->cut() == Cut::reset || line_.back->cut() == Cut::reset) return abort();
    set_filters();
    const Instant now = MonotonicClock::now();
    freeze_or_thaw(up_, now);
    freeze_or_thaw(down_, now);
    const bool waited = now >= accepted_at_ + line_.out->settings().delay;
    if (!connecting_ && !up_.frozen_at && waited) connect();
}

void TcpConnection::freeze_or_thaw(Pipe& pipe, Instant now) {
    const bool cut = pipe.direction.cut() != Cut::none;
    if (cut == pipe.frozen_at.has_value()) return;
    if (cut) {
        pipe.frozen_at = now;
        pipe.write_timer.cancel();
        return;
    }
    const Duration frozen = now - *pipe.frozen_at;
    pipe.frozen_at.reset();
    for (Piece& piece : pipe.travelling) piece.due += frozen;
    pipe.floor += frozen;
    read(pipe);
    write(pipe);
}

void TcpConnection::read(Pipe& pipe) {
    if (closed_ || !pipe.open || pipe.reading || pipe.read_ended || pipe.frozen_at) return;
    if (pipe.bytes >= kBufferBytesMax) return;  // written() calls again
    pipe.reading = true;
    const auto resume = [self = shared_from_this(), &pipe](auto) {
        pipe.reading = false;
        if (!self->closed_ && !pipe.frozen_at) self->read_ready(pipe);
    };
    if (pipe.direction.room_at() > MonotonicClock::now()) {
        pipe.read_timer.expires_at(timer_point(pipe.direction.room_at()));
        pipe.read_timer.async_wait(resume);
    } else {
        pipe.from.async_wait(Socket::wait_read, resume);
    }
}

void TcpConnection::read_ready(Pipe& pipe) {
    // A few pieces at a time, so that other connections get their turn.
    for (int pieces = 0; pieces < 8 && read_piece(pipe); ++pieces) {
    }
    read(pipe);
    write(pipe);
}

bool TcpConnection::read_piece(Pipe& pipe) {
    static thread_local std::array<char, Direction::kPieceBytesMax> incoming;
    const Instant now = MonotonicClock::now();
    if (pipe.read_ended || pipe.bytes >= kBufferBytesMax || pipe.direction.room_at() > now) {
        return false;
    }
    boost::system::error_code error;
    const size_t bytes =
        pipe.from.read_some(asio::buffer(incoming.data(), pipe.direction.piece_bytes_max()), error);
    if (error == asio::error::would_block || error == asio::error::try_again) return false;
    Piece piece;
    piece.due = pipe.direction.stream(now, bytes, pipe.floor, line_.round_trip());
    if (error) {
        piece.kind = error == asio::error::eof ? Piece::Kind::end : Piece::Kind::reset;
        pipe.read_ended = true;
    } else {
        piece.bytes.assign(incoming.data(), incoming.data() + bytes);
    }
    push(pipe, std::move(piece));
    return !error;
}

void TcpConnection::push(Pipe& pipe, Piece piece) {
    pipe.floor = piece.due;
    pipe.bytes += piece.bytes.size();
    pipe.direction.buffered(piece.bytes.size());
    pipe.travelling.push_back(std::move(piece));
}

void TcpConnection::write(Pipe& pipe) {
    if (closed_ || pipe.writing || pipe.travelling.empty() || pipe.frozen_at) return;
    const Instant now = MonotonicClock::now();
    const Instant due = pipe.travelling.front().due;
    if (due <= now) return write_due(pipe, now);
    pipe.write_timer.expires_at(timer_point(due));
    pipe.write_timer.async_wait([self = shared_from_this(), &pipe, due](auto error) {
        if (error) return;
        pipe.direction.delivered(due, MonotonicClock::now());
        self->write(pipe);
    });
}

void TcpConnection::write_due(Pipe& pipe, Instant now) {
    std::vector<asio::const_buffer> buffers;
    constexpr size_t kBuffersMax = 16;
    for (const Piece& piece : pipe.travelling) {
        if (piece.due > now || buffers.size() == kBuffersMax || piece.kind != Piece::Kind::bytes) {
            break;
        }
        buffers.emplace_back(piece.bytes.data(), piece.bytes.size());
    }
    if (buffers.empty()) {
        if (pipe.travelling.front().kind == Piece::Kind::reset) return abort();
        return end(pipe);
    }
    pipe.writing = true;
    const size_t pieces = buffers.size();
    asio::async_write(pipe.to, buffers,
                      [self = shared_from_this(), &pipe, pieces](auto error, size_t) {
                          if (self->closed_) return;
                          if (error) return self->abort();
                          self->written(pipe, pieces);
                      });
}

void TcpConnection::written(Pipe& pipe, size_t pieces) {
    pipe.writing = false;
    for (size_t index = 0; index < pieces; ++index) {
        const size_t bytes = pipe.travelling.front().bytes.size();
        pipe.bytes -= bytes;
        pipe.direction.unbuffered(bytes);
        pipe.travelling.pop_front();
    }
    read(pipe);
    write(pipe);
}

// The end of the stream has arrived.
void TcpConnection::end(Pipe& pipe) {
    pipe.travelling.pop_front();
    pipe.write_ended = true;
    boost::system::error_code ignored;
    pipe.to.shutdown(Socket::shutdown_send, ignored);
    if (up_.write_ended && down_.write_ended) close();
}

void TcpConnection::abort() {
    if (closed_) return;
    const auto self = shared_from_this();
    boost::system::error_code ignored;
    for (Socket* socket : {&client_, &server_}) {
        if (!socket->is_open()) continue;
        drop_incoming(socket->native_handle(), false);
        socket->set_option(asio::socket_base::linger(true, 0), ignored);
    }
    close();
}

void TcpConnection::close() {
    closed_ = true;
    boost::system::error_code ignored;
    client_.close(ignored);
    server_.close(ignored);
    setup_timer_.cancel();
    for (Pipe* pipe : {&up_, &down_}) {
        pipe->read_timer.cancel();
        pipe->write_timer.cancel();
        for (const Piece& piece : pipe->travelling) pipe->direction.unbuffered(piece.bytes.size());
        pipe->travelling.clear();
    }
    on_closed_();
}

}  // namespace antipode::wan
