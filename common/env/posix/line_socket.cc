#include "common/env/posix/line_socket.h"

#include <array>
#include <atomic>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <sys/socket.h>
#include <unistd.h>

#include "common/env/posix/unix_socket.h"

namespace antipode::env {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;
using Local = asio::local::stream_protocol;

constexpr std::chrono::seconds kLineLimit(5);
// An asker waits longer than it is served, so that it sees the end of an answer.
constexpr std::chrono::seconds kGrace(1);
// After a connection that could not be accepted: out of descriptors, and it would fail again at
// once.
constexpr std::chrono::milliseconds kAcceptPause(100);

LineSocket::Caller caller_of(Local::socket& socket) {
    ucred who{};
    socklen_t length = sizeof(who);
    if (::getsockopt(socket.native_handle(), SOL_SOCKET, SO_PEERCRED, &who, &length) != 0) {
        return {static_cast<uid_t>(-1), 0};  // nobody's number
    }
    return {who.uid, who.pid};
}

}  // namespace

class LineSocket::Impl : public std::enable_shared_from_this<LineSocket::Impl> {
  public:
    Impl(asio::io_context& context, const LineSocketKind& kind, std::string path,
         CallerHandler handler)
        : kind_(kind),
          path_(std::move(path)),
          acceptor_(context),
          pause_(context),
          handler_(std::move(handler)) {}

    Result<> open() {
        FT_TRY(UniqueFd fd, bind_unix(path_, kind_.name, kind_.mode));
        if (::listen(fd.get(), static_cast<int>(kind_.connections_max)) != 0) {
            return fail_errno(errno, "{} {}", kind_.name, path_);
        }
        acceptor_.assign(Local(), fd.release());
        return {};
    }
    void accept() {
        acceptor_.async_accept(
            [self = shared_from_this()](const error_code& error, Local::socket socket) {
                if (!self->acceptor_.is_open()) return;
                if (error) return self->accept_later();
                if (self->connections_ < self->kind_.connections_max) {
                    self->serve(std::move(socket));
                }
                self->accept();
            });
    }
    void accept_later() {
        pause_.expires_after(kAcceptPause);
        pause_.async_wait([self = shared_from_this()](const error_code& ended) {
            if (!ended && self->acceptor_.is_open()) self->accept();
        });
    }
    void stop() {
        pause_.cancel();
        if (!acceptor_.is_open()) return;
        error_code ignored;
        acceptor_.close(ignored);
        ::unlink(path_.c_str());
    }

  private:
    struct Connection {
        explicit Connection(Local::socket taken)
            : socket(std::move(taken)), timer(socket.get_executor()) {}
        Local::socket socket;
        asio::steady_timer timer;
        std::string text;
    };
    using ConnectionPointer = std::shared_ptr<Connection>;
    void serve(Local::socket socket);
    void read_line(const ConnectionPointer& connection);
    static void cut_after(const ConnectionPointer& connection, std::chrono::seconds limit);
    static void send(const ConnectionPointer& connection, std::string text);

    const LineSocketKind kind_;
    const std::string path_;
    Local::acceptor acceptor_;
    asio::steady_timer pause_;
    const CallerHandler handler_;
    std::atomic<size_t> connections_ = 0;  // an answer's last copy may end in any thread
};

void LineSocket::Impl::serve(Local::socket socket) {
    ++connections_;
    const ConnectionPointer connection(new Connection(std::move(socket)),
                                       [self = shared_from_this()](Connection* gone) {
                                           --self->connections_;
                                           delete gone;
                                       });
    cut_after(connection, kLineLimit);
    read_line(connection);
}

void LineSocket::Impl::cut_after(const ConnectionPointer& connection, std::chrono::seconds limit) {
    connection->timer.expires_after(limit);
    connection->timer.async_wait([weak = std::weak_ptr(connection)](const error_code& error) {
        const auto late = weak.lock();
        error_code ignored;
        if (!error && late) late->socket.close(ignored);
    });
}

void LineSocket::Impl::read_line(const ConnectionPointer& connection) {
    asio::async_read_until(
        connection->socket, asio::dynamic_buffer(connection->text, kind_.line_bytes_max), '\n',
        [self = shared_from_this(), connection](const error_code& error, size_t bytes) {
            if (error || !self->acceptor_.is_open()) return;
            cut_after(connection, self->kind_.answer_limit);
            const std::string line = connection->text.substr(0, bytes - 1);
            self->handler_(caller_of(connection->socket), line, [connection](std::string text) {
                asio::dispatch(connection->socket.get_executor(),
                               [connection, text = std::move(text)]() mutable {
                                   send(connection, std::move(text));
                               });
            });
        });
}

void LineSocket::Impl::send(const ConnectionPointer& connection, std::string text) {
    connection->text = std::move(text);
    asio::async_write(connection->socket, asio::buffer(connection->text),
                      [connection](const error_code&, size_t) {
                          connection->timer.cancel();
                          error_code ignored;
                          connection->socket.close(ignored);  // whoever still holds the reply
                      });
}

LineSocket::LineSocket(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}

LineSocket::~LineSocket() {
    impl_->stop();
}

Result<std::unique_ptr<LineSocket>> LineSocket::start(asio::io_context& context,
                                                      const LineSocketKind& kind,
                                                      const std::string& path, Handler handler) {
    return start(context, kind, path,
                 CallerHandler([handler = std::move(handler)](
                                   const Caller&, const std::string& line, Reply reply) {
                     handler(line, std::move(reply));
                 }));
}

Result<std::unique_ptr<LineSocket>> LineSocket::start(asio::io_context& context,
                                                      const LineSocketKind& kind,
                                                      const std::string& path,
                                                      CallerHandler handler) {
    auto impl = std::make_shared<Impl>(context, kind, path, std::move(handler));
    FT_TRY_VOID(impl->open());
    impl->accept();
    return std::unique_ptr<LineSocket>(new LineSocket(std::move(impl)));
}

Result<std::string> LineSocket::ask(const LineSocketKind& kind, const std::string& path,
                                    const std::string& line) {
    FT_TRY(const UniqueFd fd, connect_unix(path, kind.name));
    const timeval limit{static_cast<time_t>((kind.answer_limit + kGrace).count()), 0};
    if (::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) != 0) {
        return fail_errno(errno, "{} {}", kind.name, path);
    }
    const std::string text = line + "\n";
    if (::send(fd.get(), text.data(), text.size(), MSG_NOSIGNAL) !=
        static_cast<ssize_t>(text.size())) {
        return fail_errno(errno, "{} {}", kind.name, path);
    }
    std::string out;
    while (out.size() < kind.answer_bytes_max) {
        std::array<char, 4096> bytes;
        const ssize_t got = ::recv(fd.get(), bytes.data(), bytes.size(), 0);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return fail_errno(errno, "{} {}", kind.name, path);
        if (got == 0) return out;
        out.append(bytes.data(), static_cast<size_t>(got));
    }
    return fail(Errc::limit, "{} {}: an answer of more than {} bytes", kind.name, path,
                kind.answer_bytes_max);
}

}  // namespace antipode::env
