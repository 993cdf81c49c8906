#include "web/security/gate.h"

#include <boost/asio/ip/address.hpp>

#include "web/security/secrets.h"

namespace antipode::web {
namespace {

Response not_logged_in(std::string_view detail) {
    return problem(401, "not-logged-in", "log in first", detail)
        .with("WWW-Authenticate", "Bearer realm=\"antipode\"");
}

control::Access access_for(Role role) {
    using control::Access;
    for (const Access access : {Access::admin, Access::operate, Access::drill}) {
        if (allows(role, access)) return access;
    }
    return Access::read;
}

control::Access access_of(Need need) {
    switch (need) {
        case Need::nobody:
        case Need::read:
            return control::Access::read;
        case Need::drill:
            return control::Access::drill;
        case Need::operate:
            return control::Access::operate;
        case Need::admin:
            return control::Access::admin;
    }
    return control::Access::admin;
}

}  // namespace

std::string_view session_cookie_name(Transport transport) {
    return transport == Transport::tls ? "__Host-antipode" : "antipode";
}

bool is_address(std::string_view text) {
    boost::system::error_code error;
    boost::asio::ip::make_address(std::string(text), error);
    return !error;
}

bool is_loopback(std::string_view address) {
    boost::system::error_code error;
    const auto parsed = boost::asio::ip::make_address(std::string(address), error);
    return !error && parsed.is_loopback();
}

bool changes_something(http::verb method) {
    return method != http::verb::get && method != http::verb::head && method != http::verb::options;
}

std::optional<Response> Gate::by_token(std::string_view header, Principal& principal) {
    if (!header.starts_with("Bearer "))
        return not_logged_in("Authorization: expected Bearer TOKEN");
    header.remove_prefix(7);
    auto token = services_.accounts.find_token(unix_ms_now(), header);
    if (!token) {
        if (token.error().code == Errc::denied) return not_logged_in(token.error().context);
        return problem(token.error());
    }
    principal.name = "token:" + token->name;
    principal.via = "token";
    principal.access = access_for(token->role);
    principal.role = word(token->role);
    return std::nullopt;
}

std::optional<Response> Gate::by_session(const Request& request, std::string_view secret,
                                         Principal& principal) {
    const SessionLimits limits = services_.preferences.values().session_limits();
    auto session = services_.accounts.find_session(unix_ms_now(), secret, limits);
    if (!session) {
        if (session.error().code == Errc::denied) return not_logged_in(session.error().context);
        return problem(session.error());
    }
    if (changes_something(request.method)) {
        const std::string_view from = request.header("Sec-Fetch-Site");
        const bool foreign = !from.empty() && from != "same-origin";
        if (foreign ||
            compare_secrets(request.header("X-CSRF-Token"), session->csrf) == Match::no) {
            return problem(403, "csrf", "not from our own page",
                           "a change over a session needs the X-CSRF-Token that the login gave");
        }
    }
    principal.name = session->user;
    principal.via = "session";
    principal.access = access_for(session->role);
    principal.role = word(session->role);
    principal.session = session->hash;
    principal.csrf = session->csrf;
    return std::nullopt;
}

std::optional<Response> Gate::identify(const Request& request, Principal& principal) {
    const std::string_view authorization = request.header("Authorization");
    if (!authorization.empty()) return by_token(authorization, principal);
    const std::string_view cookie = request.cookie(session_cookie_name(request.transport));
    std::optional<Response> refusal;
    if (!cookie.empty()) {
        refusal = by_session(request, cookie, principal);
        if (!refusal) return std::nullopt;
    }
    // An expired cookie is what a browser keeps sending: reading over loopback needs none at all.
    const bool only_reads = !changes_something(request.method);
    if (services_.settings.loopback_read && only_reads && is_loopback(request.remote)) {
        principal.name = "loopback";
        principal.via = "loopback";
        principal.access = control::Access::read;
        principal.role = word(Role::viewer);
        return std::nullopt;
    }
    if (refusal) return refusal;
    return not_logged_in("this needs a login or a token");
}

std::optional<Response> Gate::admit(const Request& request, Need need, Principal& principal) {
    if (need == Need::nobody) return std::nullopt;
    if (auto refusal = identify(request, principal)) return refusal;
    if (!principal.may(access_of(need))) {
        return problem(
            403, "denied", "not allowed",
            fmt::format("'{}' is {} and may not do this", principal.name, principal.role));
    }
    return std::nullopt;
}

}  // namespace antipode::web
