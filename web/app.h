// The application behind the HTTP server: it decides who may reach which route, answers every
// request one way or another, and adds to each answer what each must have (security headers, ETag,
// no caching).
//
// Threads: the web thread only.
// INVARIANTS
//   - dispatch() never throws and never waits longer than a question to a replicator may take.
//   - A request whose Host is none of ours is refused before anything else.
//   - Without logins (this build): only reading, and only for callers that come over loopback.
#pragma once

#include <boost/asio/io_context.hpp>
#include <memory>

#include "common/base/metrics.h"
#include "web/events.h"
#include "web/fleet.h"
#include "web/http/live.h"
#include "web/http/router.h"
#include "web/http/server.h"
#include "web/settings.h"

namespace antipode::web {

// What routes work with.
struct Services {
    Fleet& fleet;
    EventHistory& events;
    LiveHub& hub;
    Registry& registry;
    const HttpServer* server = nullptr;  // set once it listens
};

class App : public Dispatcher {
  public:
    static Result<std::unique_ptr<App>> start(boost::asio::io_context& context, Settings settings);
    ~App() override;

    // Idempotent; after it the io_context runs dry. Destroy only then.
    void stop();
    uint16_t port() const { return server_->port(); }

    boost::asio::awaitable<Response> dispatch(Request& request) override;

  private:
    App(boost::asio::io_context& context, Settings settings);
    boost::asio::awaitable<Response> route(Request& request);
    bool known_host(std::string_view host) const;
    void publish(const View& view);
    boost::asio::awaitable<void> overview_loop();

    Settings settings_;
    Registry registry_;
    LiveHub hub_;
    Fleet fleet_;
    EventHistory events_;
    Services services_;
    Router router_;
    std::unique_ptr<HttpServer> server_;
    boost::asio::steady_timer overview_timer_;
    bool stopped_ = false;
};

}  // namespace antipode::web
