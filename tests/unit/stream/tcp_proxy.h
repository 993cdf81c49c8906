// TcpProxy: a TCP port that leads to another one, until the test breaks or holds its connections.
// Runs on the test's io_context.
#pragma once

#include <array>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>
#include <cstdint>
#include <memory>
#include <vector>

namespace antipode::stream {

class TcpProxy {
  public:
    using tcp = boost::asio::ip::tcp;
    TcpProxy(boost::asio::io_context& context, uint16_t target_port)
        : context_(context),
          acceptor_(context, tcp::endpoint(boost::asio::ip::address_v4::loopback(), 0)),
          target_(boost::asio::ip::address_v4::loopback(), target_port) {
        accept();
    }
    ~TcpProxy() { break_all(); }

    uint16_t port() const { return acceptor_.local_endpoint().port(); }
    // Resets every connection; the next ones are let through if `open`.
    void break_all() {
        for (auto& weak : connections_) {
            if (const auto connection = weak.lock()) connection->close();
        }
        connections_.clear();
    }
    void set_open(bool open) {
        open_ = open;
        if (!open) break_all();
    }

  private:
    struct Connection : std::enable_shared_from_this<Connection> {
        Connection(boost::asio::io_context& context, tcp::socket accepted)
            : near(std::move(accepted)), far(context) {}
        void close() {
            boost::system::error_code ignored;
            near.close(ignored);
            far.close(ignored);
        }
        void pump(tcp::socket& from, tcp::socket& to, std::vector<char>& buffer) {
            from.async_read_some(boost::asio::buffer(buffer),
                                 [self = shared_from_this(), &from, &to, &buffer](
                                     const boost::system::error_code& error, size_t size) {
                                     if (error) return self->close();
                                     boost::asio::async_write(
                                         to, boost::asio::buffer(buffer.data(), size),
                                         [self, &from, &to, &buffer](
                                             const boost::system::error_code& failed, size_t) {
                                             if (failed) return self->close();
                                             self->pump(from, to, buffer);
                                         });
                                 });
        }
        tcp::socket near;
        tcp::socket far;
        std::vector<char> there = std::vector<char>(64 << 10);
        std::vector<char> back = std::vector<char>(64 << 10);
    };

    void accept() {
        acceptor_.async_accept([this](const boost::system::error_code& error, tcp::socket socket) {
            if (error) return;
            if (open_) {
                auto connection = std::make_shared<Connection>(context_, std::move(socket));
                connections_.push_back(connection);
                connection->far.async_connect(
                    target_, [connection](const boost::system::error_code& failed) {
                        if (failed) return connection->close();
                        connection->pump(connection->near, connection->far, connection->there);
                        connection->pump(connection->far, connection->near, connection->back);
                    });
            }
            accept();
        });
    }

    boost::asio::io_context& context_;
    tcp::acceptor acceptor_;
    tcp::endpoint target_;
    bool open_ = true;
    std::vector<std::weak_ptr<Connection>> connections_;
};

}  // namespace antipode::stream
