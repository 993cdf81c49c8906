// TlsStream: one TLS connection over a non-blocking TCP socket, without buffers of its own.
//
// OpenSSL reads and writes the socket itself and frees its buffers when idle, so that an idle
// connection costs a few kilobytes, where asio::ssl::stream keeps about seventy. Nothing here
// waits: each step says what it needs, and the owner waits for that with wait().
//
// Threads: one at a time; move_to() hands a connection to another thread's io_context.
// INVARIANTS: at most one wait() of each kind is pending; close() ends both with an error.
// After a failed step only close() makes sense. A peer that hangs up is Errc::closed.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <functional>
#include <memory>
#include <openssl/ssl.h>
#include <span>
#include <string>
#include <string_view>

#include "common/base/freer.h"
#include "common/base/result.h"
#include "common/env/posix/tls.h"

namespace antipode::env {

class TlsStream {
  public:
    using Socket = boost::asio::ip::tcp::socket;
    using WaitHandler = std::function<void(const boost::system::error_code&)>;
    enum class Needs : uint8_t { nothing = 1, readable, writable };
    struct Moved {
        size_t bytes = 0;              // 0 with needs == nothing never happens
        Needs needs = Needs::nothing;  // what to wait for before the next step of this kind
    };

    // `host`: of a client, what was dialled; the server's certificate must name it.
    static Result<std::unique_ptr<TlsStream>> create(
        Socket socket, const std::shared_ptr<boost::asio::ssl::context>& context, TlsRole role,
        std::string_view host = {});
    ~TlsStream();
    TlsStream(const TlsStream&) = delete;
    TlsStream& operator=(const TlsStream&) = delete;

    // Needs::nothing: it is done.
    Result<Needs> handshake();
    Result<Moved> read(std::span<std::byte> into);
    Result<Moved> write(std::string_view from);
    void wait(Needs needs, WaitHandler handler);
    // Larger buffers: fewer system calls for a connection that moves much. Before the handshake.
    void expect_bulk();
    // Says goodbye if the socket takes it at once, and closes.
    void close();

    // Of a finished handshake.
    Result<CertificateIdentity> peer_identity() const;
    std::string peer_serial() const;
    std::chrono::sys_seconds peer_not_after() const;

    Socket& socket() { return socket_; }
    const std::string& peer_address() const { return peer_address_; }  // "10.0.0.1:4711"
    // Without pending waits only.
    Result<> move_to(boost::asio::io_context& context);

  private:
    TlsStream(Socket socket, std::shared_ptr<boost::asio::ssl::context> context, SSL* ssl);
    Result<Moved> outcome(int returned, const char* doing);

    Socket socket_;
    std::shared_ptr<boost::asio::ssl::context> context_;
    std::unique_ptr<SSL, Freer<SSL_free>> ssl_;
    std::string peer_address_;
    bool broken_ = false;
};

}  // namespace antipode::env
