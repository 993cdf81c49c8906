// Decides who a request comes from, and whether that suffices for the route it wants.
//
// In this order: a bearer token; a session's cookie, which for anything that changes must come with
// the session's CSRF token and from our own page; and, where the settings allow it, reading over
// loopback. A token that is given and wrong is refused; a cookie whose session is over counts as
// none.
//
// Threads: the web thread only.
#pragma once

#include <optional>

#include "web/http/router.h"
#include "web/services.h"

namespace antipode::web {

class Gate {
  public:
    explicit Gate(Services& services) : services_(services) {}

    // Fills `principal`; a Response is a refusal.
    std::optional<Response> admit(const Request& request, Need need, Principal& principal);

  private:
    std::optional<Response> identify(const Request& request, Principal& principal);
    std::optional<Response> by_token(std::string_view header, Principal& principal);
    std::optional<Response> by_session(const Request& request, std::string_view secret,
                                       Principal& principal);

    Services& services_;
};

// The session cookie's name: over TLS one that browsers bind to this host and to TLS.
std::string_view session_cookie_name(Transport transport);
bool is_address(std::string_view text);
bool is_loopback(std::string_view address);
bool changes_something(http::verb method);

}  // namespace antipode::web
