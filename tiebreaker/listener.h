// Listener: takes connections and shakes hands, on a thread of its own, so that ten thousand sites
// that come back at once do not delay a decision.
//
// Threads: start(), stop() and set_context() from the core thread; finished connections are posted
// to the core thread's io_context. INVARIANTS
//   - At most handshakes_max are under way; when one more comes, the oldest one of the origins that
//     have most is cut: who is slow gives way to who is not.
//   - A handshake has handshake_limit, whatever trickles in.
// A port that is in use is an error of start(). When descriptors run out accepting pauses.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "common/base/metrics.h"
#include "common/env/posix/tls_stream.h"

namespace antipode::tiebreaker {

struct ListenerSettings {
    std::string listen;  // ADDRESS:PORT; port 0: any, see port()
    size_t handshakes_max = 512;
    std::chrono::milliseconds handshake_limit{5000};
};

// "127.0.0.1:7200", "[::]:7200"; an error says what is wrong with it.
Result<boost::asio::ip::tcp::endpoint> listen_endpoint(std::string_view listen);

// Whom handshakes are counted for: an IPv4 address, or the /64 that whoever has one IPv6 address of
// it has all of.
std::string handshake_origin(const boost::asio::ip::address& address);

class Listener {
  public:
    // On the core thread.
    using Ready = std::function<void(std::unique_ptr<env::TlsStream>)>;
    static Result<std::unique_ptr<Listener>> start(boost::asio::io_context& core,
                                                   std::shared_ptr<boost::asio::ssl::context> tls,
                                                   const ListenerSettings& settings,
                                                   Registry& registry, std::function<bool()> full,
                                                   Ready ready);
    ~Listener();

    void set_context(std::shared_ptr<boost::asio::ssl::context> tls);
    uint16_t port() const;
    // Calls back on the core thread once its own thread has come round.
    void probe(std::function<void()> alive);
    void stop();

  private:
    class Impl;
    explicit Listener(std::shared_ptr<Impl> impl);
    std::shared_ptr<Impl> impl_;
};

}  // namespace antipode::tiebreaker
