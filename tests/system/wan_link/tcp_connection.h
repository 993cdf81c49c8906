// TcpConnection: one connection through the line: the client's socket, the server's, and a pipe
// each way that holds what is travelling.
//
// Life: accepted -> (one way later) connecting to the target -> open -> each direction ends when
// its end-of-stream arrives -> closed. Anything that breaks one side breaks the other, one way
// later. A frozen (cut) direction neither reads nor writes; when it thaws, what was travelling goes
// on from where it was.
//
// One thread, that of the io_context. Handlers hold a shared_ptr, so it outlives what it waits for.
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "tests/system/wan_link/wan.h"

namespace antipode::wan {

class TcpConnection : public std::enable_shared_from_this<TcpConnection> {
  public:
    using Socket = boost::asio::ip::tcp::socket;
    using Endpoint = boost::asio::ip::tcp::endpoint;

    TcpConnection(Socket client, Line line, Endpoint target, std::function<void()> on_closed);
    void start();
    void cut_changed();
    // Both sides get a reset.
    void abort();

  private:
    struct Piece {
        enum class Kind { bytes, end, reset };
        Kind kind = Kind::bytes;
        Instant due{};
        std::vector<char> bytes;
    };
    struct Pipe {
        Pipe(Socket& from_socket, Socket& to_socket, Direction& travelled)
            : from(from_socket),
              to(to_socket),
              direction(travelled),
              read_timer(from_socket.get_executor()),
              write_timer(from_socket.get_executor()) {}

        Socket& from;
        Socket& to;
        Direction& direction;
        boost::asio::steady_timer read_timer;
        boost::asio::steady_timer write_timer;
        std::deque<Piece> travelling;
        size_t bytes = 0;
        Instant floor{};
        std::optional<Instant> frozen_at;
        bool open = false;     // both sockets are connected and the handshake's time has passed
        bool reading = false;  // a wait for bytes or for room is under way
        bool writing = false;
        bool read_ended = false;
        bool write_ended = false;
    };

    void connect();
    void opened();
    void open_pipe(Pipe& pipe, Instant at);
    void set_filters();
    void freeze_or_thaw(Pipe& pipe, Instant now);

    void read(Pipe& pipe);
    void read_ready(Pipe& pipe);
    bool read_piece(Pipe& pipe);
    void push(Pipe& pipe, Piece piece);
    void write(Pipe& pipe);
    void write_due(Pipe& pipe, Instant now);
    void written(Pipe& pipe, size_t pieces);
    void end(Pipe& pipe);
    void close();

    Line line_;
    Endpoint target_;
    std::function<void()> on_closed_;
    Socket client_;
    Socket server_;
    boost::asio::steady_timer setup_timer_;
    Pipe up_;    // client to server
    Pipe down_;  // server to client
    Instant accepted_at_{};
    bool connecting_ = false;
    bool connected_ = false;
    bool closed_ = false;
};

}  // namespace antipode::wan
