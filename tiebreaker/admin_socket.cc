#include "tiebreaker/admin_socket.h"

#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "common/base/log.h"
#include "common/base/unique_fd.h"

namespace antipode::tiebreaker {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;
using Protocol = asio::local::stream_protocol;

constexpr size_t kLineBytesMax = 256;
constexpr size_t kConnectionsMax = 8;
constexpr std::chrono::seconds kLimit(5);

Result<sockaddr_un> address_of(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.empty() || path.size() >= sizeof(address.sun_path)) {
        return fail(Errc::invalid_argument, "admin socket {}: the path has {} bytes, 1 to {} fit",
                    path, path.size(), sizeof(address.sun_path) - 1);
    }
    path.copy(address.sun_path, path.size());
    return address;
}

// The file of a process that is gone refuses connections, and is removed.
Result<> remove_stale(const std::string& path) {
    struct stat info {};
    if (::lstat(path.c_str(), &info) != 0) {
        if (errno == ENOENT) return {};
        return fail_errno(errno, "admin socket {}", path);
    }
    if (!S_ISSOCK(info.st_mode)) {
        return fail(Errc::already_exists, "admin socket {}: exists and is no socket", path);
    }
    FT_TRY(const sockaddr_un address, address_of(path));
    const UniqueFd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (::connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0 ||
        errno == EAGAIN) {
        return fail(Errc::already_exists, "admin socket {}: another process serves it", path);
    }
    if (errno != ECONNREFUSED || ::unlink(path.c_str()) != 0) {
        return fail_errno(errno, "admin socket {}", path);
    }
    return {};
}

Result<UniqueFd> open_listener(const std::string& path) {
    FT_TRY(const sockaddr_un address, address_of(path));
    FT_TRY_VOID(remove_stale(path));
    UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!fd) return fail_errno(errno, "admin socket {}", path);
    // The new file takes its mode from the socket: nobody gets in between bind and chmod.
    if (::fchmod(fd.get(), 0600) != 0 ||
        ::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0 ||
        ::listen(fd.get(), 8) != 0) {
        return fail_errno(errno, "admin socket {}", path);
    }
    return fd;
}

}  // namespace

class AdminSocket::Impl : public std::enable_shared_from_this<AdminSocket::Impl> {
  public:
    Impl(asio::io_context& context, std::string path, Handler handler)
        : path_(std::move(path)), acceptor_(context), handler_(std::move(handler)) {}

    Result<> open() {
        FT_TRY(UniqueFd fd, open_listener(path_));
        acceptor_.assign(Protocol(), fd.release());
        return {};
    }
    void accept();
    void stop() {
        if (!acceptor_.is_open()) return;
        error_code ignored;
        acceptor_.close(ignored);
        handler_ = {};
        ::unlink(path_.c_str());
    }

  private:
    struct Connection {
        explicit Connection(Protocol::socket taken)
            : socket(std::move(taken)), timer(socket.get_executor()) {}
        Protocol::socket socket;
        asio::steady_timer timer;
        std::string text;
    };
    void serve(Protocol::socket socket);
    static void send(const std::shared_ptr<Connection>& connection, std::string text);

    const std::string path_;
    Protocol::acceptor acceptor_;
    Handler handler_;
    size_t connection_count_ = 0;
};

void AdminSocket::Impl::accept() {
    acceptor_.async_accept(
        [self = shared_from_this()](const error_code& error, Protocol::socket socket) {
            if (error == asio::error::operation_aborted || !self->acceptor_.is_open()) return;
            if (!error) self->serve(std::move(socket));
            self->accept();
        });
}

void AdminSocket::Impl::serve(Protocol::socket socket) {
    if (connection_count_ >= kConnectionsMax) return;
    ++connection_count_;
    const std::shared_ptr<Connection> connection(new Connection(std::move(socket)),
                                                 [self = shared_from_this()](Connection* gone) {
                                                     --self->connection_count_;
                                                     delete gone;
                                                 });
    connection->timer.expires_after(kLimit);
    connection->timer.async_wait([weak = std::weak_ptr(connection)](const error_code& error) {
        const auto late = weak.lock();
        error_code ignored;
        if (!error && late) late->socket.close(ignored);
    });
    asio::async_read_until(
        connection->socket, asio::dynamic_buffer(connection->text, kLineBytesMax), '\n',
        [self = shared_from_this(), connection](const error_code& error, size_t bytes) {
            if (error || !self->handler_) return;
            const std::string line = connection->text.substr(0, bytes - 1);
            self->handler_(line,
                           [connection](std::string text) { send(connection, std::move(text)); });
        });
}

void AdminSocket::Impl::send(const std::shared_ptr<Connection>& connection, std::string text) {
    connection->text = std::move(text);
    asio::async_write(connection->socket, asio::buffer(connection->text),
                      [connection](const error_code&, size_t) { connection->timer.cancel(); });
}

AdminSocket::AdminSocket(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}

AdminSocket::~AdminSocket() {
    impl_->stop();
}

Result<std::unique_ptr<AdminSocket>> AdminSocket::start(asio::io_context& context,
                                                        const std::string& path, Handler handler) {
    auto impl = std::make_shared<Impl>(context, path, std::move(handler));
    FT_TRY_VOID(impl->open());
    impl->accept();
    return std::unique_ptr<AdminSocket>(new AdminSocket(std::move(impl)));
}

Result<std::string> AdminSocket::ask(const std::string& path, const std::string& line) {
    FT_TRY(const sockaddr_un address, address_of(path));
    const UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const timeval limit{30, 0};
    if (!fd || ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) != 0 ||
        ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
        return fail_errno(errno, "admin socket {}", path);
    }
    const std::string text = line + "\n";
    if (::send(fd.get(), text.data(), text.size(), MSG_NOSIGNAL) !=
        static_cast<ssize_t>(text.size())) {
        return fail_errno(errno, "admin socket {}", path);
    }
    std::string out;
    while (true) {
        char bytes[4096];
        const ssize_t got = ::recv(fd.get(), bytes, sizeof(bytes), 0);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return fail_errno(errno, "admin socket {}", path);
        if (got == 0) return out;
        out.append(bytes, static_cast<size_t>(got));
    }
}

}  // namespace antipode::tiebreaker
