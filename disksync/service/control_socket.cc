#include "disksync/service/control_socket.h"

#include <atomic>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/base/unique_fd.h"

namespace antipode::disksync {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;
using Local = asio::local::stream_protocol;

constexpr size_t kLineBytesMax = 1024;
constexpr size_t kConnectionsMax = 16;
constexpr std::chrono::seconds kLineLimit(5);
constexpr time_t kAnswerSeconds = 120;
constexpr size_t kAnswerBytesMax = size_t{16} << 20;

Result<sockaddr_un> socket_address(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.empty() || path.size() >= sizeof(address.sun_path)) {
        return fail(Errc::invalid_argument, "control socket {}: 1 to {} bytes of path, not {}",
                    path, sizeof(address.sun_path) - 1, path.size());
    }
    path.copy(address.sun_path, path.size());
    return address;
}

Result<UniqueFd> dial(const std::string& path) {
    FT_TRY(const sockaddr_un address, socket_address(path));
    UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!fd ||
        ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
        return fail_errno(errno, "control socket {}", path);
    }
    return fd;
}

// Of a process that is gone the file remains, and nobody answers there.
Result<UniqueFd> listen_at(const std::string& path) {
    FT_TRY(const sockaddr_un address, socket_address(path));
    struct stat info {};
    if (::lstat(path.c_str(), &info) == 0) {
        if (!S_ISSOCK(info.st_mode)) {
            return fail(Errc::already_exists, "control socket {}: exists and is no socket", path);
        }
        if (dial(path)) {
            return fail(Errc::already_exists, "control socket {}: another process serves it", path);
        }
        ::unlink(path.c_str());
    }
    UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    // The mode before the name: nobody gets in between. The group's members are the web daemon and
    // operators.
    if (!fd || ::fchmod(fd.get(), 0660) != 0 ||
        ::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0 ||
        ::listen(fd.get(), 16) != 0) {
        return fail_errno(errno, "control socket {}", path);
    }
    return fd;
}

}  // namespace

class ControlSocket::Impl : public std::enable_shared_from_this<ControlSocket::Impl> {
  public:
    Impl(asio::io_context& context, std::string path, Handler handler)
        : path_(std::move(path)), acceptor_(context), handler_(std::move(handler)) {}

    Result<> open() {
        FT_TRY(UniqueFd fd, listen_at(path_));
        acceptor_.assign(Local(), fd.release());
        return {};
    }
    void accept() {
        acceptor_.async_accept(
            [self = shared_from_this()](const error_code& error, Local::socket socket) {
                if (!self->acceptor_.is_open()) return;
                if (!error && self->connections_ < kConnectionsMax) self->serve(std::move(socket));
                self->accept();
            });
    }
    void stop() {
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
    void serve(Local::socket socket);

    const std::string path_;
    Local::acceptor acceptor_;
    const Handler handler_;
    std::atomic<size_t> connections_ = 0;  // an answer's last copy may end in any thread
};

void ControlSocket::Impl::serve(Local::socket socket) {
    ++connections_;
    const std::shared_ptr<Connection> connection(new Connection(std::move(socket)),
                                                 [self = shared_from_this()](Connection* gone) {
                                                     --self->connections_;
                                                     delete gone;
                                                 });
    connection->timer.expires_after(kLineLimit);
    connection->timer.async_wait([weak = std::weak_ptr(connection)](const error_code& error) {
        const auto late = weak.lock();
        error_code ignored;
        if (!error && late) late->socket.close(ignored);
    });
    asio::async_read_until(
        connection->socket, asio::dynamic_buffer(connection->text, kLineBytesMax), '\n',
        [self = shared_from_this(), connection](const error_code& error, size_t bytes) {
            if (error || !self->acceptor_.is_open()) return;
            connection->timer.cancel();
            const std::string line = connection->text.substr(0, bytes - 1);
            self->handler_(line, [connection](std::string text) {
                connection->text = std::move(text);
                connection->text += "\n";
                asio::async_write(connection->socket, asio::buffer(connection->text),
                                  [connection](const error_code&, size_t) {});
            });
        });
}

ControlSocket::ControlSocket(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}

ControlSocket::~ControlSocket() {
    impl_->stop();
}

Result<std::unique_ptr<ControlSocket>> ControlSocket::start(asio::io_context& context,
                                                            const std::string& path,
                                                            Handler handler) {
    auto impl = std::make_shared<Impl>(context, path, std::move(handler));
    FT_TRY_VOID(impl->open());
    impl->accept();
    return std::unique_ptr<ControlSocket>(new ControlSocket(std::move(impl)));
}

Result<std::string> ControlSocket::ask(const std::string& path, const std::string& line) {
    FT_TRY(const UniqueFd fd, dial(path));
    const timeval limit{kAnswerSeconds, 0};
    ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    const std::string text = line + "\n";
    if (::send(fd.get(), text.data(), text.size(), MSG_NOSIGNAL) !=
        static_cast<ssize_t>(text.size())) {
        return fail_errno(errno, "control socket {}", path);
    }
    std::string out;
    while (out.size() < kAnswerBytesMax) {
        std::array<char, 4096> bytes;
        const ssize_t got = ::recv(fd.get(), bytes.data(), bytes.size(), 0);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return fail_errno(errno, "control socket {}", path);
        if (got == 0) return out;
        out.append(bytes.data(), static_cast<size_t>(got));
    }
    return fail(Errc::limit, "control socket {}: an answer of more than {} bytes", path,
                kAnswerBytesMax);
}

}  // namespace antipode::disksync
