#include "web/security/accounts.h"

#include <array>

#include "web/security/secrets.h"

namespace antipode::web {
namespace {

struct RoleEntry {
    Role role;
    std::string_view text;
    control::Access most;
};
constexpr auto kRoles = std::to_array<RoleEntry>({
    {Role::viewer, "viewer", control::Access::read},
    {Role::drill_operator, "drill_operator", control::Access::drill},
    {Role::operator_, "operator", control::Access::operate},
    {Role::admin, "admin", control::Access::admin},
});
constexpr std::string_view kTokenPrefix = "antipode_";
constexpr int64_t kSeenStepMs = 30'000;  // a session's use is written down at most this often

User user_of(const SqlRow& row) {
    User user;
    user.name = row.text(0);
    user.role = role_from_word(row.text(1)).value_or(Role::viewer);
    user.password = row.text(2);
    user.disabled = row.number(3) != 0;
    user.created_unix_ms = row.number(4);
    user.changed_unix_ms = row.number(5);
    return user;
}

Token token_of(const SqlRow& row) {
    Token token;
    token.id = row.number(0);
    token.name = row.text(1);
    token.role = role_from_word(row.text(2)).value_or(Role::viewer);
    token.created_by = row.text(3);
    token.created_unix_ms = row.number(4);
    if (!row.is_null(5)) token.expires_unix_ms = row.number(5);
    if (!row.is_null(6)) token.used_unix_ms = row.number(6);
    return token;
}

constexpr std::string_view kUserColumns =
    "SELECT name, role, password, disabled, created_unix_ms, changed_unix_ms FROM users ";
constexpr std::string_view kTokenColumns =
    "SELECT id, name, role, created_by, created_unix_ms, expires_unix_ms, used_unix_ms FROM "
    "tokens ";

std::string text(std::string_view view) {
    return std::string(view);
}

}  // namespace

std::string_view word(Role role) {
    for (const RoleEntry& entry : kRoles) {
        if (entry.role == role) return entry.text;
    }
    return "viewer";
}

std::optional<Role> role_from_word(std::string_view given) {
    for (const RoleEntry& entry : kRoles) {
        if (entry.text == given) return entry.role;
    }
    return std::nullopt;
}

Result<Role> read_role(std::string_view text) {
    const auto role = role_from_word(text);
    if (!role) {
        return fail(Errc::invalid_argument,
                    "role: '{}' is none of viewer, drill_operator, operator, admin",
                    text.substr(0, 40));
    }
    return *role;
}

bool allows(Role role, control::Access access) {
    for (const RoleEntry& entry : kRoles) {
        if (entry.role == role) return access <= entry.most;
    }
    return false;
}

Result<std::vector<User>> Accounts::users() const {
    std::vector<User> out;
    FT_TRY_VOID(database_.query(text(kUserColumns) + "ORDER BY name", {},
                                [&](const SqlRow& row) { out.push_back(user_of(row)); }));
    return out;
}

Result<User> Accounts::find_user(std::string_view name) const {
    std::optional<User> found;
    FT_TRY_VOID(database_.query(text(kUserColumns) + "WHERE name=?", {text(name)},
                                [&](const SqlRow& row) { found = user_of(row); }));
    if (!found) return fail(Errc::not_found, "there is no user '{}'", name);
    return *std::move(found);
}

Result<> Accounts::add_user(int64_t now, std::string_view name, Role role,
                            std::string_view password_hash) {
    FT_TRY_VOID(Name::parse(name, "name"));
    FT_TRY(const auto all, users());
    if (all.size() >= kUsersMax) {
        return fail(Errc::limit, "there are {} users, no more are allowed", all.size());
    }
    auto added = database_.run(
        "INSERT INTO users (name, role, password, created_unix_ms, changed_unix_ms) "
        "VALUES (?,?,?,?,?)",
        {text(name), text(word(role)), text(password_hash), now, now});
    if (!added && added.error().code == Errc::already_exists) {
        return fail(Errc::already_exists, "there is a user '{}' already", name);
    }
    return added;
}

// In a transaction, after a change: nobody may be left who can administer.
Result<> Accounts::keep_an_admin(std::string_view changed) const {
    int64_t count = 0;
    FT_TRY_VOID(database_.query("SELECT count(*) FROM users WHERE role='admin' AND disabled=0", {},
                                [&](const SqlRow& row) { count = row.number(0); }));
    if (count == 0) {
        return fail(Errc::busy, "'{}' is the last administrator; make another one first", changed);
    }
    return {};
}

Result<> Accounts::change_user(int64_t now, std::string_view name, const UserChange& change) {
    FT_TRY(const User before, find_user(name));
    const Role role = change.role.value_or(before.role);
    const bool disabled = change.disabled.value_or(before.disabled);
    return database_.transaction([&]() -> Result<> {
        FT_TRY_VOID(database_.run(
            "UPDATE users SET role=?, disabled=?, password=?, changed_unix_ms=? WHERE name=?",
            {text(word(role)), int64_t{disabled}, change.password_hash.value_or(before.password),
             now, text(name)}));
        if (before.role == Role::admin && !before.disabled) FT_TRY_VOID(keep_an_admin(name));
        return close_sessions_of(name);
    });
}

Result<> Accounts::remove_user(std::string_view name) {
    FT_TRY(const User before, find_user(name));
    return database_.transaction([&]() -> Result<> {
        FT_TRY_VOID(database_.run("DELETE FROM users WHERE name=?", {text(name)}));
        if (before.role == Role::admin && !before.disabled) FT_TRY_VOID(keep_an_admin(name));
        return {};
    });
}

Result<Accounts::NewSession> Accounts::open_session(int64_t now, std::string_view user,
                                                    std::string_view remote) {
    NewSession made{random_secret(), random_secret()};
    auto stored = database_.transaction([&]() -> Result<> {
        FT_TRY_VOID(database_.run(
            "INSERT INTO sessions (hash, user, csrf, remote, created_unix_ms, seen_unix_ms) "
            "VALUES (?,?,?,?,?,?)",
            {digest_of(made.secret), text(user), made.csrf, text(remote), now, now}));
        return database_.run(
            "DELETE FROM sessions WHERE user=?1 AND hash NOT IN (SELECT hash FROM sessions WHERE "
            "user=?1 ORDER BY seen_unix_ms DESC, rowid DESC LIMIT ?2)",
            {text(user), static_cast<int64_t>(kSessionsOfUserMax)});
    });
    if (!stored) return fail(std::move(stored).error());
    return made;
}

Result<Session> Accounts::find_session(int64_t now, std::string_view secret,
                                       const SessionLimits& limits) {
    std::optional<Session> found;
    bool disabled = false;
    FT_TRY_VOID(database_.query(
        "SELECT s.hash, s.user, u.role, s.csrf, s.created_unix_ms, s.seen_unix_ms, u.disabled "
        "FROM sessions s JOIN users u ON u.name = s.user WHERE s.hash=?",
        {digest_of(secret)}, [&](const SqlRow& row) {
            found = Session{
                row.text(0), row.text(1),   role_from_word(row.text(2)).value_or(Role::viewer),
                row.text(3), row.number(4), row.number(5)};
            disabled = row.number(6) != 0;
        }));
    if (!found || disabled) return fail(Errc::denied, "not logged in");
    if (now - found->seen_unix_ms > limits.idle_ms ||
        now - found->created_unix_ms > limits.age_ms) {
        FT_TRY_VOID(close_session(found->hash));
        return fail(Errc::denied, "the session is over; log in again");
    }
    if (now - found->seen_unix_ms > kSeenStepMs) {
        FT_TRY_VOID(
            database_.run("UPDATE sessions SET seen_unix_ms=? WHERE hash=?", {now, found->hash}));
        found->seen_unix_ms = now;
    }
    return *std::move(found);
}

Result<> Accounts::close_session(std::string_view hash) {
    return database_.run("DELETE FROM sessions WHERE hash=?", {text(hash)});
}

Result<> Accounts::close_sessions_of(std::string_view user, std::string_view except_hash) {
    return database_.run("DELETE FROM sessions WHERE user=? AND hash<>?",
                         {text(user), text(except_hash)});
}

Result<std::vector<Token>> Accounts::tokens() const {
    std::vector<Token> out;
    FT_TRY_VOID(database_.query(text(kTokenColumns) + "ORDER BY id", {},
                                [&](const SqlRow& row) { out.push_back(token_of(row)); }));
    return out;
}

Result<Accounts::NewToken> Accounts::add_token(int64_t now, std::string_view name, Role role,
                                               std::string_view created_by,
                                               std::optional<int64_t> expires) {
    FT_TRY_VOID(Name::parse(name, "name"));
    FT_TRY(const auto all, tokens());
    if (all.size() >= kTokensMax) {
        return fail(Errc::limit, "there are {} tokens, no more are allowed", all.size());
    }
    NewToken made;
    made.secret = text(kTokenPrefix) + random_secret();
    auto added = database_.run(
        "INSERT INTO tokens (name, role, hash, created_by, created_unix_ms, expires_unix_ms) "
        "VALUES (?,?,?,?,?,?)",
        {text(name), text(word(role)), digest_of(made.secret), text(created_by), now,
         expires ? SqlValue(*expires) : SqlValue(nullptr)});
    if (!added && added.error().code == Errc::already_exists) {
        return fail(Errc::already_exists, "there is a token '{}' already", name);
    }
    if (!added) return fail(std::move(added).error());
    made.id = database_.last_row_id();
    return made;
}

Result<Token> Accounts::find_token(int64_t now, std::string_view secret) {
    std::optional<Token> found;
    const std::string hash = digest_of(secret);
    FT_TRY_VOID(database_.query(text(kTokenColumns) + "WHERE hash=?", {hash},
                                [&](const SqlRow& row) { found = token_of(row); }));
    if (!found) return fail(Errc::denied, "the token is not known");
    if (found->expires_unix_ms && *found->expires_unix_ms <= now) {
        return fail(Errc::denied, "the token '{}' has expired", found->name);
    }
    if (!found->used_unix_ms || now - *found->used_unix_ms > kSeenStepMs) {
        FT_TRY_VOID(database_.run("UPDATE tokens SET used_unix_ms=? WHERE id=?", {now, found->id}));
        found->used_unix_ms = now;
    }
    return *std::move(found);
}

Result<> Accounts::remove_token(int64_t id) {
    FT_TRY_VOID(database_.run("DELETE FROM tokens WHERE id=?", {id}));
    if (database_.changed_rows() == 0) return fail(Errc::not_found, "there is no token {}", id);
    return {};
}

}  // namespace antipode::web
