#include "replicator/control/control_server.h"

#include <array>
#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <boost/json/serialize.hpp>
#include <grp.h>
#include <set>
#include <sys/socket.h>
#include <sys/stat.h>

#include "common/base/log.h"
#include "common/base/unique_fd.h"
#include "common/env/posix/unix_socket.h"

namespace antipode::control {
namespace {

namespace asio = boost::asio;
using Socket = asio::local::stream_protocol::socket;
using boost::system::error_code;

spdlog::logger& log() {
    static spdlog::logger& instance = logger("control");
    return instance;
}

Result<> set_owner(const std::string& path, const std::string& group_name) {
    if (!group_name.empty()) {
        std::array<char, 4096> buffer{};
        group entry{};
        group* found = nullptr;
        ::getgrnam_r(group_name.c_str(), &entry, buffer.data(), buffer.size(), &found);
        if (found == nullptr) {
            return fail(Errc::not_found, "control socket {}: no group '{}'", path, group_name);
        }
        if (::chown(path.c_str(), static_cast<uid_t>(-1), found->gr_gid) != 0) {
            return fail_errno(errno, "control socket {}: cannot give it to group {}", path,
                              group_name);
        }
    }
    if (::chmod(path.c_str(), 0660) != 0) return fail_errno(errno, "control socket {}", path);
    return {};
}

Result<UniqueFd> open_listener(const ControlServerSettings& settings) {
    const std::string& path = settings.path;
    FT_TRY(UniqueFd fd, env::bind_unix(path, "control socket", 0600));
    auto ready = set_owner(path, settings.group);
    if (ready && ::listen(fd.get(), 16) != 0) {
        ready = fail_errno(errno, "control socket {}", path);
    }
    if (!ready) {
        ::unlink(path.c_str());
        return fail(std::move(ready).error());
    }
    return fd;
}

}  // namespace

class ControlServer::Impl : public std::enable_shared_from_this<ControlServer::Impl> {
  public:
    Impl(asio::io_context& context, ControlServerSettings settings, ControlHandler& handler)
        : settings_(std::move(settings)),
          handler_(handler),
          acceptor_(context),
          retry_timer_(context) {}

    Result<> open();
    void accept();
    void stop();

    class Session;
    void ended(const std::shared_ptr<Session>& session) { sessions_.erase(session); }
    std::string answer(std::string_view line);

    const ControlServerSettings settings_;
    ControlHandler& handler_;
    asio::local::stream_protocol::acceptor acceptor_;
    asio::steady_timer retry_timer_;
    std::set<std::shared_ptr<Session>> sessions_;
    uint64_t refused_ = 0;
    dev_t device_ = 0;
    ino_t inode_ = 0;
    bool stopped_ = false;

  private:
    void admit(Socket socket);
};

// One connection. Its callbacks hold it; once closed_ they touch nothing but it.
class ControlServer::Impl::Session
    : public std::enable_shared_from_this<ControlServer::Impl::Session> {
  public:
    Session(Impl& server, Socket socket)
        : server_(server), socket_(std::move(socket)), timer_(socket_.get_executor()) {}

    void read() {
        if (const size_t end = input_.find('\n', scanned_); end != std::string::npos) {
            take_line(end);
            return;
        }
        scanned_ = input_.size();
        if (input_.size() >= kLineBytesMax) {
            ++server_.refused_;
            refuse({Errc::limit, fmt::format("request: has more than {} bytes", kLineBytesMax)});
            return;
        }
        if (input_.empty()) {
            limit(server_.settings_.idle_limit);
        } else if (!in_request_) {  // one limit for the whole request, however slowly it drips
            in_request_ = true;
            limit(server_.settings_.request_limit);
        }
        socket_.async_read_some(asio::buffer(chunk_),
                                [self = shared_from_this()](error_code error, size_t count) {
                                    if (self->closed_) return;
                                    if (error) return self->close();
                                    self->input_.append(self->chunk_.data(), count);
                                    self->read();
                                });
    }

    void close() {
        if (closed_) return;
        closed_ = true;
        error_code ignored;
        socket_.close(ignored);
        timer_.cancel();
        server_.ended(shared_from_this());
    }

    void refuse(const Error& error) {
        last_ = true;
        write(error_line(std::nullopt, error));
    }

  private:
    void take_line(size_t end) {
        in_request_ = false;
        std::string reply = server_.answer(std::string_view(input_).substr(0, end));
        if (closed_) return;  // the handler stopped the server
        input_.erase(0, end + 1);
        scanned_ = 0;
        write(std::move(reply));
    }

    void write(std::string text) {
        output_ = std::move(text);
        limit(server_.settings_.write_limit);
        asio::async_write(socket_, asio::buffer(output_),
                          [self = shared_from_this()](error_code error, size_t) {
                              if (self->closed_) return;
                              if (error || self->last_) return self->close();
                              self->read();
                          });
    }

    void limit(std::chrono::milliseconds time) {
        timer_.expires_after(time);
        timer_.async_wait([self = shared_from_this()](error_code error) {
            if (!error && !self->closed_ && self->timer_.expiry() <= Clock::now()) self->close();
        });
    }

    using Clock = asio::steady_timer::clock_type;
    Impl& server_;
    Socket socket_;
    asio::steady_timer timer_;
    std::array<char, 16384> chunk_{};
    std::string input_;
    size_t scanned_ = 0;
    std::string output_;
    bool in_request_ = false;
    bool last_ = false;
    bool closed_ = false;
};

Result<> ControlServer::Impl::open() {
    FT_TRY(UniqueFd fd, open_listener(settings_));
    struct stat info {};
    if (::lstat(settings_.path.c_str(), &info) != 0) {
        return fail_errno(errno, "control socket {}", settings_.path);
    }
    device_ = info.st_dev;
    inode_ = info.st_ino;
    error_code error;
    acceptor_.assign(asio::local::stream_protocol(), fd.get(), error);
    if (error) {
        return fail(Errc::io, "control socket {}: {}", settings_.path, error.message());
    }
    (void)fd.release();
    return {};
}

void ControlServer::Impl::accept() {
    acceptor_.async_accept([self = shared_from_this()](error_code error, Socket socket) {
        if (self->stopped_) return;
        if (error) {  // out of descriptors or memory: wait, do not spin
            log().warn("control socket {}: accept: {}", self->settings_.path, error.message());
            self->retry_timer_.expires_after(std::chrono::milliseconds(200));
            self->retry_timer_.async_wait([self](error_code cancelled) {
                if (!cancelled && !self->stopped_) self->accept();
            });
            return;
        }
        self->admit(std::move(socket));
        self->accept();
    });
}

void ControlServer::Impl::admit(Socket socket) {
    const auto session = std::make_shared<Session>(*this, std::move(socket));
    // A few above the limit are told why; beyond that there is only the close.
    const size_t count = sessions_.size();
    if (count >= settings_.connections_max) ++refused_;
    if (count >= settings_.connections_max + 4) return;
    sessions_.insert(session);
    if (count < settings_.connections_max) {
        session->read();
        return;
    }
    session->refuse({Errc::limit, fmt::format("control socket: {} connections are open, no more "
                                              "are allowed",
                                              settings_.connections_max)});
}

std::string ControlServer::Impl::answer(std::string_view line) {
    std::optional<uint64_t> id;
    auto request = parse_request(line, id);
    if (!request) {
        log().debug("refused a request: {}", request.error().to_string());
        return error_line(id, request.error());
    }
    auto result = handler_.handle(request->method, request->params);
    if (!result) return error_line(id, result.error());
    std::string reply = result_line(request->id, std::move(*result));
    if (reply.size() <= kLineBytesMax) return reply;
    return error_line(
        id, {Errc::limit, fmt::format("{}: the reply has {} bytes, at most {} fit",
                                      word(request->method), reply.size(), kLineBytesMax)});
}

void ControlServer::Impl::stop() {
    if (stopped_) return;
    stopped_ = true;
    error_code ignored;
    acceptor_.close(ignored);
    retry_timer_.cancel();
    const auto sessions = std::move(sessions_);
    sessions_.clear();
    for (const auto& session : sessions) session->close();
    struct stat info {};
    if (::lstat(settings_.path.c_str(), &info) == 0 && info.st_dev == device_ &&
        info.st_ino == inode_) {
        ::unlink(settings_.path.c_str());
    }
}

ControlServer::ControlServer(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}

ControlServer::~ControlServer() {
    stop();
}

Result<std::unique_ptr<ControlServer>> ControlServer::start(asio::io_context& context,
                                                            ControlServerSettings settings,
                                                            ControlHandler& handler) {
    auto impl = std::make_shared<Impl>(context, std::move(settings), handler);
    FT_TRY_VOID(impl->open());
    impl->accept();
    return std::unique_ptr<ControlServer>(new ControlServer(std::move(impl)));
}

void ControlServer::stop() {
    impl_->stop();
}

size_t ControlServer::connection_count() const {
    return impl_->sessions_.size();
}

uint64_t ControlServer::refused_count() const {
    return impl_->refused_;
}

}  // namespace antipode::control
