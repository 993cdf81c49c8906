// Accepts at one side of the line and makes a TcpConnection of each caller.
#include <memory>
#include <set>

#include "common/base/log.h"
#include "tests/system/wan_link/sockets.h"
#include "tests/system/wan_link/tcp_connection.h"
#include "tests/system/wan_link/wan.h"

namespace antipode::wan {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;

class TcpForward final : public Forward {
  public:
    TcpForward(asio::io_context& context, Line line) : acceptor_(context), line_(line) {}

    Result<> open(std::string_view listen, std::string_view target) {
        FT_TRY(const auto local, parse_endpoint<tcp::endpoint>(listen));
        FT_TRY(target_, parse_endpoint<tcp::endpoint>(target));
        boost::system::error_code error;
        acceptor_.open(local.protocol(), error);
        if (!error) acceptor_.set_option(tcp::acceptor::reuse_address(true), error);
        // Small, so that little waits where the line's queue does not see it. Before listen():
        // accepted sockets inherit it.
        if (!error)
            acceptor_.set_option(asio::socket_base::receive_buffer_size(kReceiveBytes), error);
        if (!error) acceptor_.bind(local, error);
        if (!error) acceptor_.listen(64, error);
        if (error) return fail(Errc::io, "tcp {}: {}", listen, error.message());
        cut_changed();
        accept();
        return {};
    }

    void cut_changed() override {
        // A handshake needs both directions.
        const bool dead = line_.out->cut() == Cut::blackhole || line_.back->cut() == Cut::blackhole;
        drop_incoming(acceptor_.native_handle(), dead);
        for (const auto& connection : all()) connection->cut_changed();
    }

    void break_connections() override {
        for (const auto& connection : all()) connection->abort();
    }

    size_t connections() const override { return connections_.size(); }

  private:
    static constexpr int kReceiveBytes = 256 * 1024;
    using Connections = std::set<std::shared_ptr<TcpConnection>>;

    // A copy: closing changes the set.
    Connections all() const { return connections_; }

    void accept() {
        acceptor_.async_accept([this](auto error, tcp::socket socket) {
            if (error == asio::error::operation_aborted) return;
            if (error) {
                logger("wan").error("accept: {}", error.message());
            } else if (connections_.size() >= kConnectionsMax) {
                logger("wan").error("refused: {} connections are open", connections_.size());
            } else {
                take(std::move(socket));
            }
            accept();
        });
    }

    void take(tcp::socket socket) {
        auto handle = std::make_shared<std::weak_ptr<TcpConnection>>();
        auto connection =
            std::make_shared<TcpConnection>(std::move(socket), line_, target_,
                                            [this, handle] { connections_.erase(handle->lock()); });
        *handle = connection;
        connections_.insert(connection);
        connection->start();
    }

    tcp::acceptor acceptor_;
    Line line_;
    tcp::endpoint target_;
    Connections connections_;
};

}  // namespace

Result<std::unique_ptr<Forward>> make_tcp_forward(asio::io_context& context, Line line,
                                                  std::string_view listen,
                                                  std::string_view target) {
    auto forward = std::make_unique<TcpForward>(context, line);
    FT_TRY_VOID(forward->open(listen, target));
    return std::unique_ptr<Forward>(std::move(forward));
}

}  // namespace antipode::wan
