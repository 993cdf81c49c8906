// Which handler answers which method and path. Patterns are literal segments and {name} segments,
// which match exactly one non-empty segment: "/api/v1/pairs/{pair}/events". Literal segments win
// over {name}.
//
// Threads: filled at start, then read on the web thread.
// INVARIANTS: a (method, pattern) is added once; HEAD is served by GET's handler.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "replicator/control/control_api.h"
#include "web/http/message.h"

namespace antipode::web {

// Who asks.
struct Principal {
    std::string name;  // empty = nobody
    std::string via;   // "session", "token", "loopback"
    // What they may do; nullopt = nothing that needs to be known.
    std::optional<control::Access> access;
    std::string role;     // its word, for the page
    std::string session;  // hash of the session, with via "session"
    std::string csrf;     // of that session

    bool may(control::Access wanted) const { return access && wanted <= *access; }
};

struct Call {
    const Request& request;
    const Principal& principal;
    std::map<std::string, std::string, std::less<>> parameters;

    // The {name} part of the path.
    const std::string& parameter(std::string_view name) const;
};

using Handler = std::function<boost::asio::awaitable<Response>(const Call&)>;

// What a caller must be to reach a route.
enum class Need {
    nobody,   // the page itself, login, health
    read,     // any known caller
    drill,    // the drill operator, and above
    operate,  // the operator, and above
    admin,
};

struct Route {
    http::verb method;
    std::string pattern;
    Need need;
    Handler handler;
};

class Router {
  public:
    void add(http::verb method, std::string pattern, Need need, Handler handler);
    // For handlers that need not wait.
    void add_sync(http::verb method, std::string pattern, Need need,
                  std::function<Response(const Call&)> handler);

    struct Match {
        const Route* route = nullptr;  // null: see `allowed`
        std::map<std::string, std::string, std::less<>> parameters;
        std::string allowed;  // "GET, HEAD, POST": the path exists, the method does not; or OPTIONS
    };
    Match find(http::verb method, std::string_view path) const;
    const std::vector<Route>& routes() const { return routes_; }

  private:
    std::vector<Route> routes_;
};

}  // namespace antipode::web
