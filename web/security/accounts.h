// Who may use the web daemon: users with passwords and their sessions, and bearer tokens for
// programs.
//
// Threads: the web thread only. Password hashing is the caller's (on the worker): here only hashes
// pass.
// INVARIANTS
//   - Secrets are stored as hashes only; a secret is shown once, when it is made.
//   - There is always an administrator who can log in, once there has been one.
//   - A change of role, a disabling or a new password ends the user's sessions.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "replicator/control/control_api.h"
#include "web/store/database.h"

namespace antipode::web {

enum class Role { viewer = 1, drill_operator, operator_, admin };
std::string_view word(Role role);
std::optional<Role> role_from_word(std::string_view text);
// As somebody has given it: an error names the roles that there are.
Result<Role> read_role(std::string_view text);
// May somebody of this role do what needs `access`?
bool allows(Role role, control::Access access);

struct User {
    std::string name;
    Role role = Role::viewer;
    std::string password;  // hash
    bool disabled = false;
    int64_t created_unix_ms = 0;
    int64_t changed_unix_ms = 0;
};
struct Session {
    std::string hash;
    std::string user;
    Role role = Role::viewer;
    std::string csrf;
    int64_t created_unix_ms = 0;
    int64_t seen_unix_ms = 0;
};
struct Token {
    int64_t id = 0;
    std::string name;
    Role role = Role::viewer;
    std::string created_by;
    int64_t created_unix_ms = 0;
    std::optional<int64_t> expires_unix_ms;
    std::optional<int64_t> used_unix_ms;
};

struct SessionLimits {
    int64_t idle_ms = 60 * 60 * 1000;
    int64_t age_ms = 12 * 60 * 60 * 1000;
};

class Accounts {
  public:
    static constexpr size_t kUsersMax = 1000;
    static constexpr size_t kTokensMax = 1000;
    static constexpr size_t kSessionsOfUserMax = 20;

    explicit Accounts(Database& database) : database_(database) {}

    Result<std::vector<User>> users() const;
    Result<User> find_user(std::string_view name) const;  // Errc::not_found
    Result<> add_user(int64_t now, std::string_view name, Role role,
                      std::string_view password_hash);
    struct UserChange {
        std::optional<Role> role;
        std::optional<bool> disabled;
        std::optional<std::string> password_hash;
    };
    Result<> change_user(int64_t now, std::string_view name, const UserChange& change);
    Result<> remove_user(std::string_view name);

    struct NewSession {
        std::string secret;  // for the cookie
        std::string csrf;
    };
    Result<NewSession> open_session(int64_t now, std::string_view user, std::string_view remote);
    // Errc::denied when there is none, it is over, or its user is disabled. Notes that it was used.
    Result<Session> find_session(int64_t now, std::string_view secret, const SessionLimits& limits);
    Result<> close_session(std::string_view hash);
    Result<> close_sessions_of(std::string_view user, std::string_view except_hash = {});

    Result<std::vector<Token>> tokens() const;
    struct NewToken {
        int64_t id = 0;
        std::string secret;
    };
    Result<NewToken> add_token(int64_t now, std::string_view name, Role role,
                               std::string_view created_by, std::optional<int64_t> expires);
    Result<Token> find_token(int64_t now, std::string_view secret);  // Errc::denied
    Result<> remove_token(int64_t id);

  private:
    Result<> keep_an_admin(std::string_view changed) const;

    Database& database_;
};

}  // namespace antipode::web
