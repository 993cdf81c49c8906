// Daemon: the running tiebreaker, put together from its parts.
//
// Threads: the core thread runs the io_context and all decisions; the listener's thread shakes
// hands; the store's thread commits. start() opens everything; an error says what could not be
// opened, and nothing is left half-started. Certificates and CRL are read again when their files
// change, or at SIGHUP; what cannot be read leaves the old ones in use, and says so.
//
// The watchdog is fed only while all three threads come round. When the store is in doubt the
// process ends with an error and is started anew.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <memory>
#include <string>

#include "common/base/metrics.h"
#include "common/env/posix/line_socket.h"
#include "tiebreaker/config.h"
#include "tiebreaker/listener.h"
#include "tiebreaker/server.h"
#include "tiebreaker/service.h"
#include "tiebreaker/store.h"

namespace antipode::tiebreaker {

// `core` may be null for commands that only read.
enum class StoreUse : uint8_t { serve = 1, change, read };
Result<std::unique_ptr<Store>> open_store(const Config& config, StoreUse use,
                                          boost::asio::io_context* core, Registry& registry);

class Daemon {
  public:
    // `ended`: it cannot go on; on the core thread.
    static Result<std::unique_ptr<Daemon>> start(boost::asio::io_context& core, Config config,
                                                 std::function<void(const std::string&)> ended);
    ~Daemon();

    void stop();
    void reload();
    // Calls back if the listener's and the store's thread come round.
    void probe(std::function<void()> alive);
    uint16_t port() const { return listener_->port(); }
    wire::StoreIdentity identity() const { return store_->identity(); }
    size_t pair_count() const { return service_->pair_count(); }
    std::string metrics_text();

  private:
    Daemon(boost::asio::io_context& core, Config config);
    Result<> open(std::function<void(const std::string&)> ended);
    void watch_files();
    void look_at_certificates();
    Gauge& expiry_gauge(const char* whose);
    void on_admin(const env::LineSocket::Caller& caller, const std::string& line,
                  const env::LineSocket::Reply& reply);
    std::string status() const;

    boost::asio::io_context& core_;
    const Config config_;
    Registry registry_;
    std::string files_seen_;
    std::chrono::sys_days certificates_seen_;
    boost::asio::steady_timer files_timer_;
    std::unique_ptr<Store> store_;
    std::unique_ptr<Service> service_;
    std::unique_ptr<Server> server_;
    std::unique_ptr<Listener> listener_;
    std::unique_ptr<env::LineSocket> admin_;
    bool stopped_ = false;
};

// The whole of `antipode-tiebreaker run`: until SIGTERM or SIGINT, or an error. Returns the exit
// code.
int run_daemon(const std::string& config_path);

}  // namespace antipode::tiebreaker
