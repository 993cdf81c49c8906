// What routes work with: the parts of the application, by reference. They live in App and outlive
// every request.
#pragma once

#include <boost/asio/any_io_executor.hpp>

#include "common/base/metrics.h"
#include "web/drills/drills.h"
#include "web/events.h"
#include "web/fleet.h"
#include "web/hooks/hooks.h"
#include "web/http/live.h"
#include "web/http/server.h"
#include "web/idempotency.h"
#include "web/pairing/pairing.h"
#include "web/preferences.h"
#include "web/security/accounts.h"
#include "web/security/audit.h"
#include "web/security/login_limiter.h"
#include "web/security/worker.h"
#include "web/settings.h"
#include "web/tasks.h"

namespace antipode::web {

struct Call;

struct Services {
    boost::asio::any_io_executor executor;
    const Settings& settings;
    Database& database;
    Fleet& fleet;
    LiveHub& hub;
    Registry& registry;
    Accounts& accounts;
    AuditLog& audit;
    EventHistory& events;
    Tasks& tasks;
    Idempotency& idempotency;
    Preferences& preferences;
    LoginLimiter& limiter;
    Worker& worker;
    Pairings& pairings;
    Drills& drills;
    Hooks& hooks;
    const HttpServer* server = nullptr;  // set once it listens

    // Writes down what the caller did, or tried.
    Result<> note(const Call& call, std::string action, std::string target, std::string outcome,
                  std::string detail = "") const;
    // Changes something and writes that down, both or neither; a change that fails is written down
    // as refused, with the reason.
    Result<> change(const Call& call, std::string action, std::string target, std::string detail,
                    const std::function<Result<>()>& work) const;
    // Ends what is open in a user's name.
    void close_streams_of(std::string_view user) const;
};

// "session USER": whose live streams end with their sessions.
std::string stream_owner(std::string_view user);

}  // namespace antipode::web
