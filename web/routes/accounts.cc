#include "web/routes/accounts.h"

#include <charconv>

#include "web/http/body.h"
#include "web/routes/page.h"
#include "web/security/secrets.h"

namespace antipode::web {
namespace {

namespace asio = boost::asio;
using control::json::array;
using control::json::object;
using control::json::value;

template <typename T>
value or_null(const std::optional<T>& given) {
    return given ? value(*given) : value(nullptr);
}

value user_json(const User& user) {
    object out;
    out["name"] = user.name;
    out["role"] = word(user.role);
    out["disabled"] = user.disabled;
    out["created_unix_ms"] = user.created_unix_ms;
    out["changed_unix_ms"] = user.changed_unix_ms;
    return out;
}

value token_json(const Token& token) {
    object out;
    out["id"] = token.id;
    out["name"] = token.name;
    out["role"] = word(token.role);
    out["created_by"] = token.created_by;
    out["created_unix_ms"] = token.created_unix_ms;
    out["expires_unix_ms"] = or_null(token.expires_unix_ms);
    out["used_unix_ms"] = or_null(token.used_unix_ms);
    return out;
}

Response list_users(const Services& services) {
    auto users = services.accounts.users();
    if (!users) return problem(users.error());
    array items;
    for (const User& user : *users) items.push_back(user_json(user));
    return list_of(std::move(items));
}

asio::awaitable<Result<std::string>> hash_of(Services& services, std::string password) {
    auto work = [password = std::move(password)]() { return hash_password(password); };
    const auto home = services.executor;
    auto hash = co_await services.worker.run<std::string>(home, std::move(work));
    co_return hash;
}

asio::awaitable<Response> add_user(Services& services, const Call& call) {
    std::string name;
    std::string role_text;
    std::string password;
    Body body(call.request);
    body.text("name", name, Body::required, 64);
    body.text("role", role_text, Body::required, 64);
    body.text("password", password, Body::required, 1024);
    if (auto read = body.done(); !read) co_return problem(read.error());
    auto role = read_role(role_text);
    if (!role) co_return problem(role.error());
    if (auto parsed = Name::parse(name, "name"); !parsed) co_return problem(parsed.error());
    if (const std::string weak = password_weakness(name, password); !weak.empty()) {
        co_return problem(422, "weak-password", "not an acceptable password", weak);
    }
    auto hash = co_await hash_of(services, password);
    if (!hash) co_return problem(hash.error());
    auto added = services.change(call, "user.add", name, role_text, [&] {
        return services.accounts.add_user(unix_ms_now(), name, *role, *hash);
    });
    if (!added) co_return problem(added.error());
    auto user = services.accounts.find_user(name);
    if (!user) co_return problem(user.error());
    co_return Response::from_json(user_json(*user), 201).with("Location", "/api/v1/users/" + name);
}

asio::awaitable<Response> change_user(Services& services, const Call& call) {
    const std::string name = call.parameter("user");
    std::optional<std::string> role_text;
    std::optional<std::string> password;
    Accounts::UserChange change;
    Body body(call.request);
    body.text("role", role_text, 64);
    body.text("password", password, 1024);
    body.flag("disabled", change.disabled);
    if (auto read = body.done(); !read) co_return problem(read.error());
    if (role_text) {
        auto role = read_role(*role_text);
        if (!role) co_return problem(role.error());
        change.role = *role;
    }
    if (password) {
        if (const std::string weak = password_weakness(name, *password); !weak.empty()) {
            co_return problem(422, "weak-password", "not an acceptable password", weak);
        }
        auto hash = co_await hash_of(services, *password);
        if (!hash) co_return problem(hash.error());
        change.password_hash = std::move(*hash);
    }
    const std::string detail =
        fmt::format("role={} disabled={} password={}", role_text.value_or("as before"),
                    change.disabled ? (*change.disabled ? "yes" : "no") : "as before",
                    password ? "new" : "as before");
    auto changed = services.change(call, "user.change", name, detail, [&] {
        return services.accounts.change_user(unix_ms_now(), name, change);
    });
    if (!changed) co_return problem(changed.error());
    services.close_streams_of(name);
    auto user = services.accounts.find_user(name);
    if (!user) co_return problem(user.error());
    co_return Response::from_json(user_json(*user));
}

Response remove_user(Services& services, const Call& call) {
    const std::string& name = call.parameter("user");
    auto removed = services.change(call, "user.remove", name, "",
                                   [&] { return services.accounts.remove_user(name); });
    if (!removed) return problem(removed.error());
    services.close_streams_of(name);
    return Response::empty();
}

Response list_tokens(const Services& services) {
    auto tokens = services.accounts.tokens();
    if (!tokens) return problem(tokens.error());
    array items;
    for (const Token& token : *tokens) items.push_back(token_json(token));
    return list_of(std::move(items));
}

Response add_token(Services& services, const Call& call) {
    std::string name;
    std::string role_text;
    std::optional<int64_t> days;
    Body body(call.request);
    body.text("name", name, Body::required, 64);
    body.text("role", role_text, Body::required, 64);
    body.integer("expires_days", days, 1, 3650);
    if (auto read = body.done(); !read) return problem(read.error());
    auto role = read_role(role_text);
    if (!role) return problem(role.error());
    const int64_t now = unix_ms_now();
    std::optional<int64_t> expires;
    if (days) expires = now + *days * 86'400'000;
    Accounts::NewToken made;
    auto added = services.change(call, "token.add", name, role_text, [&]() -> Result<> {
        FT_TRY(made, services.accounts.add_token(now, name, *role, call.principal.name, expires));
        return {};
    });
    if (!added) return problem(added.error());
    object out;
    out["id"] = made.id;
    out["name"] = name;
    out["role"] = role_text;
    out["expires_unix_ms"] = or_null(expires);
    out["token"] = made.secret;  // the only time that it is shown
    return Response::from_json(out, 201)
        .with("Location", fmt::format("/api/v1/tokens/{}", made.id))
        .with("Cache-Control", "no-store");
}

Response remove_token(Services& services, const Call& call) {
    const std::string& text = call.parameter("token");
    int64_t id = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), id);
    if (error != std::errc() || end != text.data() + text.size()) {
        return problem(Error{Errc::not_found, "there is no token '" + text.substr(0, 40) + "'"});
    }
    auto removed = services.change(call, "token.remove", text, "",
                                   [&] { return services.accounts.remove_token(id); });
    if (!removed) return problem(removed.error());
    return Response::empty();
}

Response list_audit(const Services& services, const Call& call) {
    AuditFilter filter;
    if (auto read = read_page(call.request, filter); !read) return problem(read.error());
    auto found = services.audit.find(filter);
    if (!found) return problem(found.error());
    return page_of(std::move(*found), filter, &AuditEntry::id);
}

Response get_settings(const Services& services) {
    object out = to_json(services.preferences.values()).as_object();
    object https;
    https["tls"] = services.settings.tls;
    if (services.settings.tls) {
        if (auto facts = facts_of(services.settings.https.certificate)) {
            https["subject"] = facts->subject;
            https["issuer"] = facts->issuer;
            https["fingerprint"] = facts->fingerprint;
            https["not_after_unix_ms"] = facts->not_after_unix_ms;
            https["self_signed"] = facts->self_signed;
        }
    }
    out["https"] = std::move(https);
    out["loopback_read"] = services.settings.loopback_read;
    return Response::from_json(out);
}

Response change_settings(Services& services, const Call& call) {
    PreferenceValues values = services.preferences.values();
    std::optional<int64_t> idle;
    std::optional<int64_t> hours;
    std::optional<std::string> banner;
    Body body(call.request);
    body.integer("session_idle_minutes", idle, 1, 24 * 60);
    body.integer("session_hours", hours, 1, 30 * 24);
    body.text("login_banner", banner, 2000);
    if (auto read = body.done(); !read) return problem(read.error());
    if (idle) values.session_idle_minutes = *idle;
    if (hours) values.session_hours = *hours;
    if (banner) values.login_banner = *banner;
    const std::string detail =
        fmt::format("idle={}min age={}h banner={} bytes", values.session_idle_minutes,
                    values.session_hours, values.login_banner.size());
    auto stored = services.change(call, "settings.change", "settings", detail,
                                  [&] { return services.preferences.store(values); });
    if (!stored) return problem(stored.error());
    return get_settings(services);
}

}  // namespace

void add_account_routes(Router& router, Services& services) {
    const auto sync = [&](http::verb method, std::string path, Need need,
                          std::function<Response(const Call&)> handler) {
        router.add_sync(method, std::move(path), need, std::move(handler));
    };
    using http::verb;
    sync(verb::get, "/api/v1/users", Need::admin,
         [&services](const Call&) { return list_users(services); });
    router.add(verb::post, "/api/v1/users", Need::admin,
               [&services](const Call& call) { return add_user(services, call); });
    router.add(verb::patch, "/api/v1/users/{user}", Need::admin,
               [&services](const Call& call) { return change_user(services, call); });
    sync(verb::delete_, "/api/v1/users/{user}", Need::admin,
         [&services](const Call& call) { return remove_user(services, call); });
    sync(verb::get, "/api/v1/tokens", Need::admin,
         [&services](const Call&) { return list_tokens(services); });
    sync(verb::post, "/api/v1/tokens", Need::admin,
         [&services](const Call& call) { return add_token(services, call); });
    sync(verb::delete_, "/api/v1/tokens/{token}", Need::admin,
         [&services](const Call& call) { return remove_token(services, call); });
    sync(verb::get, "/api/v1/audit", Need::admin,
         [&services](const Call& call) { return list_audit(services, call); });
    sync(verb::get, "/api/v1/settings", Need::read,
         [&services](const Call&) { return get_settings(services); });
    sync(verb::patch, "/api/v1/settings", Need::admin,
         [&services](const Call& call) { return change_settings(services, call); });
}

}  // namespace antipode::web
