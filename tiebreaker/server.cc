#include "tiebreaker/server.h"

#include <boost/asio/post.hpp>

#include "common/base/check.h"
#include "common/base/expiry.h"
#include "common/base/log.h"

namespace antipode::tiebreaker {
namespace {

constexpr std::chrono::milliseconds kSweepInterval(500);

}  // namespace

Server::Server(boost::asio::io_context& context, Service& service, const Name& name,
               const ServerLimits& limits, Registry& registry)
    : context_(context),
      service_(service),
      name_(name),
      limits_(limits),
      sweep_timer_(context),
      refused_lines_(1, 20, MonotonicClock::now()),
      sessions_gauge_(registry.gauge("antipode_tiebreaker_sessions", "Sites' open connections")),
      adopted_(registry.counter("antipode_tiebreaker_sessions_total", "Connections taken in")),
      refused_(registry.counter("antipode_tiebreaker_sessions_refused_total",
                                "Connections refused for a limit or their certificate")),
      cut_(registry.counter("antipode_tiebreaker_sessions_ended_total", "Connections that ended")) {
}

Server::~Server() {
    stop();
}

void Server::start() {
    sweep_timer_.expires_after(kSweepInterval);
    sweep_timer_.async_wait([this](const boost::system::error_code& error) {
        if (error || stopped_) return;
        sweep();
        start();
    });
}

void Server::adopt(std::unique_ptr<env::TlsStream> stream) {
    const std::string address = stream->peer_address();
    const auto turn_away = [&](const std::string& why) {
        refused_.add();
        if (!refused_lines_.take(MonotonicClock::now())) return;
        logger("tiebreaker").warn("{}: refused: {}", address, why);
    };
    if (stopped_) return stream->close();
    auto identity = stream->peer_identity();
    if (!identity) {
        turn_away(identity.error().context);
        return stream->close();
    }
    auto session = std::make_shared<Session>(static_cast<SessionHost&>(*this), std::move(stream),
                                             *identity, limits_.session);
    Site& site = sites_
                     .try_emplace(identity->name, Site{0,
                                                       TokenBucket(limits_.site_requests_per_second,
                                                                   limits_.site_requests_burst,
                                                                   MonotonicClock::now()),
                                                       {}})
                     .first->second;
    sessions_.emplace(session.get(), session);
    ++site.connections;
    count_.store(sessions_.size(), std::memory_order_relaxed);
    sessions_gauge_.set(static_cast<double>(sessions_.size()));
    const auto refuse = [&](Errc code, const std::string& why) {
        turn_away(why);
        session->refuse(code, why);
    };
    if (identity->role != env::PeerRole::site) {
        return refuse(Errc::denied, fmt::format("the certificate is that of {} {}, not of a site",
                                                to_string(identity->role), identity->name));
    }
    if (revoked_.contains(session->serial())) {
        return refuse(Errc::denied, "the certificate was revoked");
    }
    if (sessions_.size() > limits_.connections_max) {
        return refuse(Errc::limit,
                      fmt::format("{} connections are open, the limit", limits_.connections_max));
    }
    if (site.connections > limits_.connections_per_site_max) {
        return refuse(Errc::limit, fmt::format("site {} has {} connections open, the limit",
                                               identity->name, limits_.connections_per_site_max));
    }
    adopted_.add();
    warn_of_expiry(*session,
                   std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now()));
    session->start();
}

// Once a day for a site, however often it connects.
void Server::warn_of_expiry(const Session& session, std::chrono::sys_seconds now) {
    if (!expires_soon(session.not_after(), now)) return;
    Site& site = sites_.at(session.identity().name);
    const auto today = std::chrono::floor<std::chrono::days>(now);
    if (std::exchange(site.warned, today) == today) return;
    logger("tiebreaker")
        .warn("{}: its certificate {}: antipode-ca renew", session.described(),
              expiry_text(session.not_after(), now));
}

void Server::warn_of_expiry(std::chrono::sys_seconds now) {
    for (const auto& [key, session] : sessions_) warn_of_expiry(*session, now);
}

std::optional<std::chrono::sys_seconds> Server::first_not_after() const {
    std::optional<std::chrono::sys_seconds> first;
    for (const auto& [key, session] : sessions_) {
        first = std::min(first.value_or(session->not_after()), session->not_after());
    }
    return first;
}

TokenBucket& Server::site_bucket(const Name& site) {
    const auto found = sites_.find(site);
    FT_CHECK(found != sites_.end(), "site {} has a session and no bucket", site);
    return found->second.bucket;
}

void Server::closed(Session& session, const std::string& reason) {
    logger("tiebreaker").debug("{}: ended: {}", session.described(), reason);
    const auto found = sessions_.find(&session);
    FT_CHECK(found != sessions_.end(), "a session ended twice");
    --sites_.at(session.identity().name).connections;
    cut_.add();
    // Its last reference may be this one, and we are called from within it.
    boost::asio::post(context_, [keep = std::move(found->second)] {});
    sessions_.erase(found);
    count_.store(sessions_.size(), std::memory_order_relaxed);
    sessions_gauge_.set(static_cast<double>(sessions_.size()));
}

void Server::sweep() {
    const Instant now = MonotonicClock::now();
    const auto date = std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
    std::vector<std::shared_ptr<Session>> all;  // a session that ends changes the map
    all.reserve(sessions_.size());
    for (const auto& [key, session] : sessions_) all.push_back(session);
    for (const auto& session : all) session->check_deadlines(now, date);
}

void Server::revoke(const std::set<std::string>& serials) {
    revoked_ = serials;
    std::vector<std::shared_ptr<Session>> gone;
    for (const auto& [key, session] : sessions_) {
        if (serials.contains(session->serial())) gone.push_back(session);
    }
    for (const auto& session : gone) {
        logger("tiebreaker").warn("{}: its certificate was revoked", session->described());
        session->refuse(Errc::denied, "the certificate was revoked");
    }
}

void Server::stop() {
    if (std::exchange(stopped_, true)) return;
    sweep_timer_.cancel();
    std::vector<std::shared_ptr<Session>> all;
    for (const auto& [key, session] : sessions_) all.push_back(session);
    for (const auto& session : all) session->refuse(Errc::closed, "the tiebreaker is ending");
}

}  // namespace antipode::tiebreaker
