// The HTTP/1.1 server: listens, reads one request at a time of each connection within bounds, hands
// it to the Dispatcher and writes what it gives back; feeds server-sent events. Plain or TLS.
//
// Threads: everything on the thread that runs the io_context.
// INVARIANTS
//   - Bounded: connections (in all and of one address), header and body bytes, time for a whole
//   request,
//     idle time, time for each write. A slow client is cut; it never holds anything but its own
//     place.
//   - A request that cannot be read gets one problem document, and the connection is closed.
//   - stop() ends every connection; after it the io_context runs out of this server's work.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ssl/context.hpp>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "web/http/message.h"

namespace antipode::web {

class Dispatcher {
  public:
    virtual ~Dispatcher() = default;
    // Must not throw, and must answer in bounded time.
    virtual boost::asio::awaitable<Response> dispatch(Request& request) = 0;
};

struct ServerSettings {
    std::string address = "127.0.0.1";
    uint16_t port = 8080;  // 0 = any, see HttpServer::port()
    size_t connections_max = 512;
    size_t connections_of_one_address_max = 256;
    uint32_t header_bytes_max = 16 * 1024;
    uint64_t body_bytes_max = 256 * 1024;
    std::chrono::milliseconds request_limit = std::chrono::seconds(15);  // from its first byte
    std::chrono::milliseconds idle_limit = std::chrono::seconds(75);
    std::chrono::milliseconds write_limit = std::chrono::seconds(10);
    // A live stream ends after this long; the page comes back by itself, and is asked who it is
    // again.
    std::chrono::milliseconds stream_limit = std::chrono::minutes(15);
    std::chrono::milliseconds keep_alive_interval = std::chrono::seconds(15);  // of live streams
    std::shared_ptr<boost::asio::ssl::context> tls;                            // null = plain
};

struct ServerCounts {
    uint64_t connections = 0;  // accepted, in all
    uint64_t open = 0;
    uint64_t refused = 0;  // over a limit
    uint64_t requests = 0;
    uint64_t bad_requests = 0;  // could not be read
    uint64_t sent_bytes = 0;
};

class HttpServer {
  public:
    static Result<std::unique_ptr<HttpServer>> start(boost::asio::io_context& context,
                                                     ServerSettings settings,
                                                     Dispatcher& dispatcher);
    ~HttpServer();
    HttpServer(const HttpServer&) = delete;
    HttpServer& operator=(const HttpServer&) = delete;

    void stop();  // idempotent
    uint16_t port() const;
    ServerCounts counts() const;

    class Impl;

  private:
    explicit HttpServer(std::shared_ptr<Impl> impl);
    std::shared_ptr<Impl> impl_;
};

}  // namespace antipode::web
