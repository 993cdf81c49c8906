#include "web/routes/session.h"

#include "web/http/body.h"
#include "web/security/gate.h"
#include "web/security/secrets.h"

namespace antipode::web {
namespace {

namespace asio = boost::asio;
using control::json::array;
using control::json::object;
using control::json::value;

std::string session_cookie(const Request& request, std::string_view secret, int64_t age_seconds) {
    return fmt::format("{}={}; Path=/; HttpOnly; SameSite=Strict; Max-Age={}{}",
                       session_cookie_name(request.transport), secret, age_seconds,
                       request.transport == Transport::tls ? "; Secure" : "");
}

object principal_json(const Principal& principal) {
    object out;
    out["user"] = principal.name;
    out["via"] = principal.via;
    out["role"] = principal.role;
    out["csrf"] = principal.csrf;
    array may;
    for (const control::Access access : {control::Access::read, control::Access::drill,
                                         control::Access::operate, control::Access::admin}) {
        if (principal.may(access)) may.emplace_back(control::word(access));
    }
    out["may"] = std::move(may);
    return out;
}

// Who is asking; the answer for nobody says whether there is anybody who could log in.
Response get_session(Services& services, Gate& gate, const Call& call) {
    Principal principal;
    const auto refusal = gate.admit(call.request, Need::read, principal);
    object out = principal_json(principal);
    const auto users = services.accounts.users();
    if (!users) return problem(users.error());
    out["authenticated"] = !refusal.has_value();
    out["login_possible"] = !users->empty();
    out["banner"] = services.preferences.values().login_banner;
    return Response::from_json(out);
}

Response refuse_login(Services& services, const Call& call, const std::string& name,
                      std::string_view why) {
    Call named = call;
    Principal principal;
    principal.name = name;
    principal.via = "password";
    const Call attempt{named.request, principal, {}};
    if (auto noted = services.note(attempt, "login", name, "refused", std::string(why)); !noted) {
        return problem(noted.error());
    }
    // The same words for a wrong name and a wrong password.
    return problem(401, "wrong-credentials", "wrong name or password",
                   "the name or the password is wrong, or the user is disabled");
}

asio::awaitable<Result<Match>> check(Services& services, std::string password, std::string hash) {
    auto work = [password = std::move(password), hash = std::move(hash)]() {
        return verify_password(password, hash);
    };
    const auto home = services.executor;
    auto outcome = co_await services.worker.run<Match>(home, std::move(work));
    co_return outcome;
}

// A hash that no password has: an unknown name costs as much time as a known one.
const std::string& nobody_hash() {
    static const std::string hash = hash_password(random_secret()).value_or("");
    return hash;
}

Response open_session(Services& services, const Call& call, const User& user) {
    const int64_t now = unix_ms_now();
    Principal principal;
    principal.name = user.name;
    principal.via = "password";
    principal.role = word(user.role);
    const Call known{call.request, principal, {}};
    if (auto noted = services.note(known, "login", user.name, "ok"); !noted) {
        return problem(noted.error());
    }
    auto session = services.accounts.open_session(now, user.name, call.request.remote);
    if (!session) return problem(session.error());
    principal.via = "session";
    principal.csrf = session->csrf;
    for (const control::Access access : {control::Access::read, control::Access::drill,
                                         control::Access::operate, control::Access::admin}) {
        if (allows(user.role, access)) principal.access = access;
    }
    object out = principal_json(principal);
    out["authenticated"] = true;
    const int64_t age = services.preferences.values().session_limits().age_ms / 1000;
    return Response::from_json(out, 201).with("Set-Cookie",
                                              session_cookie(call.request, session->secret, age));
}

asio::awaitable<Response> log_in(Services& services, const Call& call) {
    std::string name;
    std::string password;
    Body body(call.request);
    body.text("name", name, Body::required, 64);
    body.text("password", password, Body::required, 1024);
    if (auto read = body.done(); !read) co_return problem(read.error());
    const std::string remote = call.request.remote;
    if (const auto wait = services.limiter.refused(remote, name, MonotonicClock::now())) {
        co_return problem(429, "too-many-attempts", "too many attempts",
                          fmt::format("wait {} s before the next one", wait->count()))
            .with("Retry-After", std::to_string(wait->count()));
    }
    auto user = services.accounts.find_user(name);
    if (!user && user.error().code != Errc::not_found) co_return problem(user.error());
    std::string hash = user ? user->password : nobody_hash();
    auto matched = co_await check(services, password, std::move(hash));
    if (!matched) co_return problem(matched.error());
    if (!user || user->disabled || *matched == Match::no) {
        services.limiter.failed(remote, name, MonotonicClock::now());
        co_return refuse_login(services, call, name, user ? "wrong password" : "no such user");
    }
    services.limiter.succeeded(remote, name);
    co_return open_session(services, call, *user);
}

Response log_out(Services& services, const Call& call) {
    if (call.principal.via == "session") {
        if (auto noted = services.note(call, "logout", call.principal.name, "ok"); !noted) {
            return problem(noted.error());
        }
        if (auto closed = services.accounts.close_session(call.principal.session); !closed) {
            return problem(closed.error());
        }
        services.close_streams_of(call.principal.name);
    }
    return Response::empty().with("Set-Cookie", session_cookie(call.request, "", 0));
}

asio::awaitable<Response> change_password(Services& services, const Call& call) {
    std::string old_password;
    std::string new_password;
    Body body(call.request);
    body.text("old_password", old_password, Body::required, 1024);
    body.text("new_password", new_password, Body::required, 1024);
    if (auto read = body.done(); !read) co_return problem(read.error());
    const std::string name = call.principal.name;
    auto user = services.accounts.find_user(name);
    if (call.principal.via != "session" || !user) {
        co_return problem(403, "denied", "not allowed", "only a logged-in user has a password");
    }
    if (const std::string weak = password_weakness(name, new_password); !weak.empty()) {
        co_return problem(422, "weak-password", "not an acceptable password", weak);
    }
    const std::string remote = call.request.remote;
    if (services.limiter.refused(remote, name, MonotonicClock::now())) {
        co_return problem(429, "too-many-attempts", "too many attempts", "wait some minutes");
    }
    auto matched = co_await check(services, old_password, user->password);
    if (!matched) co_return problem(matched.error());
    if (*matched == Match::no) {
        services.limiter.failed(remote, name, MonotonicClock::now());
        co_return problem(403, "wrong-credentials", "wrong password", "the old password is wrong");
    }
    auto work = [new_password]() { return hash_password(new_password); };
    const auto home = services.executor;
    auto hash = co_await services.worker.run<std::string>(home, std::move(work));
    if (!hash) co_return problem(hash.error());
    Accounts::UserChange change;
    change.password_hash = std::move(*hash);
    auto changed = services.change(call, "password.change", name, "", [&] {
        return services.accounts.change_user(unix_ms_now(), name, change);
    });
    if (!changed) co_return problem(changed.error());
    services.close_streams_of(name);
    // Every session of the user is over, this one too: it goes on with a new one.
    co_return open_session(services, call, *user);
}

}  // namespace

void add_session_routes(Router& router, Services& services) {
    (void)nobody_hash();  // made at start, not while somebody waits
    const auto gate = std::make_shared<Gate>(services);
    router.add_sync(
        http::verb::get, "/api/v1/session", Need::nobody,
        [&services, gate](const Call& call) { return get_session(services, *gate, call); });
    router.add(http::verb::post, "/api/v1/session", Need::nobody,
               [&services](const Call& call) { return log_in(services, call); });
    router.add_sync(http::verb::delete_, "/api/v1/session", Need::read,
                    [&services](const Call& call) { return log_out(services, call); });
    router.add(http::verb::post, "/api/v1/session/password", Need::read,
               [&services](const Call& call) { return change_password(services, call); });
}

}  // namespace antipode::web
