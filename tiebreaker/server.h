// Server: all sessions, what they may take together, and their deadlines.
//
// Threads: the core thread, except count(). INVARIANTS: at most connections_max sessions, and
// connections_per_site_max of one site; a session that was closed is forgotten at once.
#pragma once

#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>

#include "common/base/metrics.h"
#include "tiebreaker/session.h"

namespace antipode::tiebreaker {

struct ServerLimits {
    size_t connections_max = 25000;
    size_t connections_per_site_max = 12500;
    double site_requests_per_second = 5000;
    double site_requests_burst = 25000;
    SessionLimits session;
};

class Server final : private SessionHost {
  public:
    Server(boost::asio::io_context& context, Service& service, const Name& name,
           const ServerLimits& limits, Registry& registry);
    ~Server() override;

    void start();
    // Takes over a connection whose handshake is done and whose socket is on our io_context.
    void adopt(std::unique_ptr<env::TlsStream> stream);
    // Ends the sessions whose certificate is in the list, and takes in none any more: a handshake
    // that began before the list was read ends by the old one.
    void revoke(const std::set<std::string>& serials);
    // The first certificate to expire of those that are connected now.
    std::optional<std::chrono::sys_seconds> first_not_after() const;
    // Warns of each site whose certificate expires soon; for once a day.
    void warn_of_expiry(std::chrono::sys_seconds now);
    void stop();
    size_t count() const { return count_.load(std::memory_order_relaxed); }

  private:
    struct Site {
        size_t connections = 0;
        TokenBucket bucket;
        std::chrono::sys_days warned;  // of a certificate's expiry
    };
    Service& service() override { return service_; }
    const Name& tiebreaker_name() const override { return name_; }
    boost::asio::io_context& context() override { return context_; }
    TokenBucket& site_bucket(const Name& site) override;
    void closed(Session& session, const std::string& reason) override;
    void sweep();
    void warn_of_expiry(const Session& session, std::chrono::sys_seconds now);

    boost::asio::io_context& context_;
    Service& service_;
    const Name name_;
    const ServerLimits limits_;
    boost::asio::steady_timer sweep_timer_;
    std::unordered_map<Session*, std::shared_ptr<Session>> sessions_;
    std::map<Name, Site> sites_;  // as many as have certificates
    std::set<std::string> revoked_;
    TokenBucket refused_lines_;  // who is refused may come again at once, as often as he likes
    std::atomic<size_t> count_{0};
    bool stopped_ = false;
    Gauge& sessions_gauge_;
    Counter& adopted_;
    Counter& refused_;
    Counter& cut_;
};

}  // namespace antipode::tiebreaker
