#include "web/app.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/json/serialize.hpp>
#include <xxhash.h>

#include "common/base/log.h"
#include "web/routes/accounts.h"
#include "web/routes/actions.h"
#include "web/routes/disks.h"
#include "web/routes/drills.h"
#include "web/routes/events.h"
#include "web/routes/hooks.h"
#include "web/routes/live.h"
#include "web/routes/metrics.h"
#include "web/routes/pages.h"
#include "web/routes/pairing.h"
#include "web/routes/pairs.h"
#include "web/routes/resources.h"
#include "web/routes/session.h"

namespace antipode::web {
namespace {

namespace asio = boost::asio;

spdlog::logger& log() {
    static spdlog::logger& instance = logger("web");
    return instance;
}

// "name:port" without the port, lower case; an IPv6 literal without its brackets.
std::string host_name(std::string_view host) {
    if (host.starts_with('[')) {
        return std::string(host.substr(1, std::min(host.find(']'), host.size()) - 1));
    }
    std::string name(host.substr(0, host.rfind(':')));
    for (char& c : name) {
        if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    }
    return name;
}

// Nobody but the asking browser may keep an answer, and that only to ask whether it still holds.
std::string cacheable(const Request& request) {
    for (const std::string_view path : {"/api/v1/session", "/api/v1/users", "/api/v1/tokens",
                                        "/api/v1/audit", "/api/v1/pairing"}) {
        if (request.path.starts_with(path)) return "no-store";
    }
    return "private, no-cache";
}

constexpr const char* kContentSecurityPolicy =
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

void add_common_headers(const Request& request, Response& response) {
    const auto has = [&](std::string_view name) {
        return std::any_of(response.headers.begin(), response.headers.end(),
                           [&](const auto& header) { return header.first == name; });
    };
    if (!has("Content-Security-Policy"))
        response.with("Content-Security-Policy", kContentSecurityPolicy);
    if (request.transport == Transport::tls)
        response.with("Strict-Transport-Security", "max-age=31536000");
    response.with("X-Content-Type-Options", "nosniff");
    response.with("Referrer-Policy", "no-referrer");
    response.with("Cross-Origin-Opener-Policy", "same-origin");
    response.with("Cross-Origin-Resource-Policy", "same-origin");
    response.with("Permissions-Policy", "camera=(), geolocation=(), microphone=()");
    if (!has("Cache-Control")) {
        response.with("Cache-Control", response.stream ? "no-store" : cacheable(request));
    }
}

// Gives a cacheable answer its ETag, and turns it into 304 where the caller has it already.
void apply_etag(const Request& request, Response& response) {
    if (request.method != http::verb::get && request.method != http::verb::head) return;
    if (response.status != 200 || response.stream) return;
    const std::string_view bytes = response.bytes();
    const std::string tag = fmt::format("\"{:016x}\"", XXH3_64bits(bytes.data(), bytes.size()));
    response.with("ETag", tag);
    std::string_view known = request.header("If-None-Match");
    while (!known.empty()) {
        const size_t comma = std::min(known.find(','), known.size());
        std::string_view item = known.substr(0, comma);
        known.remove_prefix(std::min(comma + 1, known.size()));
        while (!item.empty() && item.front() == ' ') item.remove_prefix(1);
        while (!item.empty() && item.back() == ' ') item.remove_suffix(1);
        if (item.starts_with("W/")) item.remove_prefix(2);
        if (item != tag && item != "*") continue;
        response.status = 304;
        response.body.clear();
        response.static_body = {};
        return;
    }
}

}  // namespace

App::App(asio::io_context& context, Settings settings, std::unique_ptr<Database> database)
    : settings_(std::move(settings)),
      database_(std::move(database)),
      hub_(context.get_executor(), settings_.subscribers_max),
      fleet_(context.get_executor(), settings_.fleet),
      accounts_(*database_),
      audit_(*database_),
      events_(*database_, settings_.events_max),
      tasks_(*database_),
      idempotency_(*database_),
      preferences_(*database_),
      pairings_(context.get_executor(), settings_, *database_, fleet_),
      drills_(context.get_executor(), settings_, *database_, fleet_, events_),
      hooks_(context.get_executor(), settings_.hooks, *database_),
      services_{context.get_executor(),
                settings_,
                *database_,
                fleet_,
                hub_,
                registry_,
                accounts_,
                audit_,
                events_,
                tasks_,
                idempotency_,
                preferences_,
                limiter_,
                worker_,
                pairings_,
                drills_,
                hooks_},
      gate_(services_),
      overview_timer_(context) {
    add_routes();
    fleet_.on_view = [this](const View& view) {
        follow_tasks(services_, view);
        drills_.see(view);
        publish(view);
    };
    drills_.on_change = [this](const DrillEntry& entry) { publish_drill(services_, entry); };
    fleet_.on_event = [this](const PairEvent& event) { take_event(event); };
}

App::~App() {
    stop();
    worker_.join();
}

void App::add_routes() {
    add_page_routes(router_);
    add_session_routes(router_, services_);
    add_pair_routes(router_, services_);
    add_action_routes(router_, services_);
    add_resource_routes(router_, services_);
    add_disk_routes(router_, services_);
    add_event_routes(router_, services_);
    add_live_routes(router_, services_);
    add_metrics_routes(router_, services_);
    add_account_routes(router_, services_);
    add_pairing_routes(router_, services_);
    add_drill_routes(router_, services_);
    add_hook_routes(router_, services_);
}

Result<std::unique_ptr<App>> App::start(asio::io_context& context, Settings settings) {
    FT_TRY(auto database, Database::open(database_path(settings)));
    if (settings.tls) {
        FT_TRY(settings.server.tls, make_https(settings.https, settings.tls_least));
    }
    std::unique_ptr<App> app(new App(context, std::move(settings), std::move(database)));
    FT_TRY_VOID(app->preferences_.load());
    FT_TRY_VOID(app->pairings_.load());
    FT_TRY_VOID(app->drills_.load());
    FT_TRY(app->server_, HttpServer::start(context, app->settings_.server, *app));
    app->services_.server = app->server_.get();
    app->pairings_.set_page_port(app->server_->port());
    app->fleet_.start();
    auto task = app->overview_loop();
    asio::co_spawn(context, std::move(task), [](const std::exception_ptr& thrown) {
        if (thrown) std::rethrow_exception(thrown);
    });
    return app;
}

void App::take_event(const PairEvent& event) {
    auto stored = events_.add(event);
    if (!stored) {
        log().error("event of {} is not kept: {}", event.pair, stored.error().to_string());
    } else if (*stored) {
        hub_.publish(kEventsTopic, make_message("event", json::serialize(to_json(**stored))));
        hooks_.see(**stored);
    }
}

void App::stop() {
    if (stopped_) return;
    stopped_ = true;
    hub_.close_all();
    pairings_.stop();
    drills_.stop();
    hooks_.stop();
    fleet_.stop();
    overview_timer_.cancel();
    if (server_) server_->stop();
}

void App::publish(const View& view) {
    const std::string pair = pair_of(view);
    const std::string topic = pair_topic(pair);
    if (!hub_.wanted(topic)) return;
    hub_.publish(topic, make_message("pair", json::serialize(pair_json(fleet_, pair))));
}

asio::awaitable<void> App::overview_loop() {
    while (!stopped_) {
        overview_timer_.expires_after(settings_.fleet.poll_interval);
        co_await overview_timer_.async_wait(asio::as_tuple(asio::use_awaitable));
        if (stopped_) co_return;
        pairings_.tick();
        drills_.tick();
        if (!hub_.wanted(kOverviewTopic)) continue;
        hub_.publish(kOverviewTopic,
                     make_message("overview", json::serialize(overview_json(fleet_))));
    }
}

bool App::known_host(std::string_view host) const {
    const std::string name = host_name(host);
    // An address cannot be rebound to us by somebody else's name server, as a name can.
    if (name == "localhost" || name == settings_.server.address || is_address(name)) return true;
    return std::find(settings_.host_names.begin(), settings_.host_names.end(), name) !=
           settings_.host_names.end();
}

asio::awaitable<Response> App::dispatch(Request& request) {
    Response response;
    try {
        response = co_await route(request);
    } catch (const std::exception& error) {
        log().error("{} {}: {}", std::string(http::to_string(request.method)), request.path,
                    error.what());
        response = problem(500, "internal", "internal error",
                           "this request met a defect of the server; its log says more");
    }
    apply_etag(request, response);
    add_common_headers(request, response);
    log().debug("{} {} {} -> {}", request.remote, std::string(http::to_string(request.method)),
                request.path, response.status);
    co_return response;
}

asio::awaitable<Response> App::route(Request& request) {
    if (!known_host(request.header("Host"))) {
        co_return problem(421, "unknown-host", "not a name of this server",
                          "the Host header names no host that this server is known by; add it to "
                          "listen.host_names");
    }
    const Router::Match match = router_.find(request.method, request.path);
    if (match.route == nullptr) {
        if (match.allowed.empty()) {
            co_return problem(404, "not-found", "not found",
                              fmt::format("there is nothing at {}", request.path));
        }
        if (request.method == http::verb::options) {
            Response response = Response::empty();
            response.with("Allow", match.allowed);
            co_return response;
        }
        Response response = problem(405, "method-not-allowed", "method not allowed",
                                    fmt::format("{} takes {}", request.path, match.allowed));
        response.with("Allow", match.allowed);
        co_return response;
    }
    Principal principal;
    if (auto refusal = gate_.admit(request, match.route->need, principal))
        co_return *std::move(refusal);
    const Call call{request, principal, match.parameters};
    co_return co_await match.route->handler(call);
}

}  // namespace antipode::web
