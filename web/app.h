// The application behind the HTTP server: it decides who may reach which route, answers every
// request one way or another, and adds to each answer what each must have (security headers, ETag,
// no caching).
//
// Threads: the web thread only.
// INVARIANTS
//   - dispatch() never throws and never waits longer than a question to a replicator may take.
//   - A request whose Host is none of ours is refused before anything else.
//   - Nothing is changed but by a known caller with the right to, and not before it is in the audit
//     log.
#pragma once

#include <boost/asio/io_context.hpp>
#include <memory>

#include "web/http/router.h"
#include "web/security/gate.h"
#include "web/services.h"

namespace antipode::web {

class App : public Dispatcher {
  public:
    static Result<std::unique_ptr<App>> start(boost::asio::io_context& context, Settings settings);
    ~App() override;

    // Idempotent; after it the io_context runs dry. Destroy only then.
    void stop();
    uint16_t port() const { return server_->port(); }
    const Router& router() const { return router_; }
    Services& services() { return services_; }

    boost::asio::awaitable<Response> dispatch(Request& request) override;

  private:
    App(boost::asio::io_context& context, Settings settings, std::unique_ptr<Database> database);
    void add_routes();
    boost::asio::awaitable<Response> route(Request& request);
    bool known_host(std::string_view host) const;
    void publish(const View& view);
    void take_event(const PairEvent& event);
    boost::asio::awaitable<void> overview_loop();

    const Settings settings_;
    std::unique_ptr<Database> database_;
    Registry registry_;
    LiveHub hub_;
    Fleet fleet_;
    Accounts accounts_;
    AuditLog audit_;
    EventHistory events_;
    Tasks tasks_;
    Idempotency idempotency_;
    Preferences preferences_;
    LoginLimiter limiter_;
    Worker worker_;
    Pairings pairings_;
    Drills drills_;
    Hooks hooks_;
    Services services_;
    Gate gate_;
    Router router_;
    std::unique_ptr<HttpServer> server_;
    boost::asio::steady_timer overview_timer_;
    bool stopped_ = false;
};

}  // namespace antipode::web
