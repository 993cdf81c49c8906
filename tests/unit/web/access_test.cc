// Who may do what, over the wire: logins, sessions and their CSRF tokens, bearer tokens, roles, and
// what the audit log says of it all.
#include <boost/json/serialize.hpp>
#include <gmock/gmock.h>

#include "tests/unit/web/app_fixture.h"
#include "web/security/secrets.h"

namespace antipode::web::test {
namespace {

using control::json::object;
using control::json::value;
using testing::HasSubstr;
using testing::Not;

constexpr const char* kPassword = "correct horse battery";

class AccessTest : public AppTest {
  protected:
    AccessTest() { settings_.loopback_read = false; }

    void start_with_users() {
        add_pair("web1");
        start();
        const std::string hash = hash_password(kPassword, ScryptCost{1 << 4, 8, 1}).value();
        play([&] {
            Accounts& accounts = app_->services().accounts;
            for (const auto& [name, role] :
                 {std::pair{"ann", Role::admin}, std::pair{"otto", Role::operator_},
                  std::pair{"dora", Role::drill_operator}, std::pair{"vera", Role::viewer}}) {
                ASSERT_TRUE(accounts.add_user(1, name, role, hash));
            }
        });
    }
    struct Login {
        std::string cookie;
        std::string csrf;
    };
    Login log_in(const std::string& name) {
        const RawResponse answer =
            send("POST", "/api/v1/session", object{{"name", name}, {"password", kPassword}});
        EXPECT_EQ(answer.status, 201) << answer.body;
        const std::string cookie = answer.headers.at("set-cookie");
        auto body = control::parse_json(answer.body);
        return {cookie.substr(0, cookie.find(';')), std::string(body->at("csrf").as_string())};
    }
    RawResponse send(const std::string& method, const std::string& path, const value& body,
                     const std::string& headers = "") {
        RawClient client(port_);
        const std::string text = body.is_null() ? "" : control::json::serialize(body);
        client.send(fmt::format(
            "{} {} HTTP/1.1\r\nHost: localhost\r\n{}{}Content-Length: {}\r\n\r\n{}", method, path,
            headers, body.is_null() ? "" : "Content-Type: application/json\r\n", text.size(),
            text));
        return client.response().value_or(RawResponse{});
    }
    RawResponse as(const Login& login, const std::string& method, const std::string& path,
                   const value& body = nullptr, const std::string& headers = "") {
        return send(
            method, path, body,
            "Cookie: " + login.cookie + "\r\nX-CSRF-Token: " + login.csrf + "\r\n" + headers);
    }
    value json_of(const RawResponse& response) {
        auto parsed = control::parse_json(response.body);
        return parsed ? *parsed : value(nullptr);
    }
    // The fleet has heard of the pair.
    void wait_for_pair(const Login& login) {
        for (;;) {
            const value list = json_of(as(login, "GET", "/api/v1/pairs"));
            if (list.at("items").as_array().size() == 1 &&
                list.at("items").at(0).at("word") == "protected") {
                const value pair = json_of(as(login, "GET", "/api/v1/pairs/web1"));
                if (pair.at("views").at(0).at("reachable").as_bool() &&
                    pair.at("views").as_array().size() == 2 &&
                    pair.at("views").at(1).at("reachable").as_bool()) {
                    return;
                }
            }
            std::this_thread::yield();
        }
    }
};

TEST_F(AccessTest, NothingIsShownWithoutALogin) {
    start_with_users();
    for (const char* path :
         {"/api/v1/pairs", "/api/v1/pairs/web1", "/api/v1/events", "/api/v1/live", "/metrics",
          "/api/v1/tasks", "/api/v1/users", "/api/v1/settings"}) {
        const RawResponse answer = get(path);
        EXPECT_EQ(answer.status, 401) << path;
        EXPECT_THAT(answer.headers.at("www-authenticate"), HasSubstr("Bearer"));
    }
    EXPECT_EQ(get("/").status, 200);
    const value session = json_of(get("/api/v1/session"));
    EXPECT_EQ(session.at("authenticated"), false);
    EXPECT_EQ(session.at("login_possible"), true);
}

TEST_F(AccessTest, ALoginGivesASessionThatALogoutEnds) {
    start_with_users();
    const RawResponse answer =
        send("POST", "/api/v1/session", object{{"name", "vera"}, {"password", kPassword}});
    ASSERT_EQ(answer.status, 201);
    EXPECT_THAT(answer.headers.at("set-cookie"), HasSubstr("HttpOnly; SameSite=Strict"));
    EXPECT_EQ(answer.headers.at("cache-control"), "no-store");
    const Login login = log_in("vera");
    EXPECT_EQ(as(login, "GET", "/api/v1/pairs").status, 200);
    const value session = json_of(as(login, "GET", "/api/v1/session"));
    EXPECT_EQ(session.at("user"), "vera");
    EXPECT_EQ(session.at("role"), "viewer");

    RawClient live(port_);
    live.get("/api/v1/live", "Cookie: " + login.cookie + "\r\n");
    ASSERT_TRUE(live.until("event: overview"));
    EXPECT_EQ(as(login, "DELETE", "/api/v1/session").status, 204);
    EXPECT_EQ(as(login, "GET", "/api/v1/pairs").status, 401);
    EXPECT_TRUE(live.closed());  // what was open in its name is closed, too
}

TEST_F(AccessTest, WrongCredentialsSayTheSameAndSlowDown) {
    start_with_users();
    const RawResponse wrong = send("POST", "/api/v1/session",
                                   object{{"name", "vera"}, {"password", "wrong horse battery"}});
    const RawResponse nobody = send(
        "POST", "/api/v1/session", object{{"name", "nobody"}, {"password", "wrong horse battery"}});
    EXPECT_EQ(wrong.status, 401);
    EXPECT_EQ(wrong.body, nobody.body);
    int refused = 0;
    for (int i = 0; i < 10; ++i) {
        const RawResponse answer =
            send("POST", "/api/v1/session", object{{"name", "vera"}, {"password", "x"}});
        if (answer.status == 429) {
            ++refused;
            EXPECT_GT(std::stoi(answer.headers.at("retry-after")), 0);
        }
    }
    EXPECT_EQ(refused, 4);
    // Not even the right one, from here, for now.
    EXPECT_EQ(
        send("POST", "/api/v1/session", object{{"name", "vera"}, {"password", kPassword}}).status,
        429);
}

TEST_F(AccessTest, AChangeOverASessionNeedsItsCsrfToken) {
    start_with_users();
    const Login otto = log_in("otto");
    const Login other = log_in("otto");
    wait_for_pair(otto);
    const value body = object{{"check", true}};
    const std::string path = "/api/v1/pairs/web1/actions/switchover";
    EXPECT_EQ(send("POST", path, body, "Cookie: " + otto.cookie + "\r\n").status, 403);
    EXPECT_EQ(send("POST", path, body,
                   "Cookie: " + otto.cookie + "\r\nX-CSRF-Token: " + other.csrf + "\r\n")
                  .status,
              403);
    EXPECT_EQ(as(otto, "POST", path, body, "Sec-Fetch-Site: cross-site\r\n").status, 403);
    EXPECT_EQ(as(otto, "POST", path, body, "Sec-Fetch-Site: same-origin\r\n").status, 200);
    // What another site's form can send is no JSON.
    RawClient client(port_);
    client.send("POST " + path + " HTTP/1.1\r\nHost: localhost\r\nCookie: " + otto.cookie +
                "\r\nX-CSRF-Token: " + otto.csrf +
                "\r\nContent-Type: text/plain\r\nContent-Length: 14\r\n\r\n{\"check\":true}");
    EXPECT_EQ(client.response()->status, 400);
}

TEST_F(AccessTest, RolesBoundWhatCanBeDone) {
    start_with_users();
    const Login ann = log_in("ann");
    wait_for_pair(ann);
    const value check = object{{"check", true}};
    struct Case {
        const char* user;
        const char* action;
        int status;
    };
    for (const Case& test :
         {Case{"vera", "switchover", 403}, Case{"vera", "drill_start", 403},
          Case{"dora", "drill_start", 200}, Case{"dora", "failover", 403},
          Case{"dora", "switchover", 403}, Case{"otto", "switchover", 200},
          Case{"otto", "failover", 200}, Case{"otto", "force", 403}, Case{"ann", "force", 200}}) {
        const RawResponse answer =
            as(log_in(test.user), "POST", std::string("/api/v1/pairs/web1/actions/") + test.action,
               check);
        EXPECT_EQ(answer.status, test.status)
            << test.user << " " << test.action << " " << answer.body;
    }
    for (const char* path : {"/api/v1/users", "/api/v1/tokens", "/api/v1/audit"}) {
        EXPECT_EQ(as(log_in("otto"), "GET", path).status, 403) << path;
        EXPECT_EQ(as(ann, "GET", path).status, 200) << path;
    }
    const value audit = json_of(as(ann, "GET", "/api/v1/audit?limit=1000"));
    const std::string text = control::json::serialize(audit);
    EXPECT_THAT(
        text,
        HasSubstr("\"actor\":\"dora\",\"via\":\"session\",\"remote\":\"127.0.0.1\","
                  "\"action\":\"pair.failover\",\"target\":\"web1\",\"outcome\":\"refused\""));
    EXPECT_THAT(text, Not(HasSubstr(kPassword)));
}

TEST_F(AccessTest, TokensServePrograms) {
    start_with_users();
    const Login ann = log_in("ann");
    const RawResponse made =
        as(ann, "POST", "/api/v1/tokens", object{{"name", "grafana"}, {"role", "viewer"}});
    ASSERT_EQ(made.status, 201) << made.body;
    const std::string secret(json_of(made).at("token").as_string());
    const std::string header = "Authorization: Bearer " + secret + "\r\n";
    EXPECT_EQ(get("/metrics", header).status, 200);
    EXPECT_EQ(get("/api/v1/pairs", header).status, 200);
    EXPECT_EQ(send("POST", "/api/v1/pairs/web1/actions/pause", object{}, header).status, 403);
    EXPECT_EQ(get("/metrics", "Authorization: Bearer antipode_guess\r\n").status, 401);
    EXPECT_EQ(get("/metrics", "Authorization: Basic YTpi\r\n").status, 401);
    const std::string list = as(ann, "GET", "/api/v1/tokens").body;
    EXPECT_THAT(list, HasSubstr("grafana"));
    EXPECT_THAT(list, Not(HasSubstr(secret)));
    EXPECT_EQ(as(ann, "DELETE", "/api/v1/tokens/1").status, 204);
    EXPECT_EQ(get("/metrics", header).status, 401);
    EXPECT_EQ(as(ann, "DELETE", "/api/v1/tokens/1").status, 404);
    EXPECT_EQ(as(ann, "DELETE", "/api/v1/tokens/x").status, 404);
}

TEST_F(AccessTest, UsersAreManagedByAdministrators) {
    start_with_users();
    const Login ann = log_in("ann");
    const auto add = [&](const char* name, const char* role, const char* password) {
        return as(ann, "POST", "/api/v1/users",
                  object{{"name", name}, {"role", role}, {"password", password}});
    };
    EXPECT_EQ(add("new", "viewer", kPassword).status, 201);
    EXPECT_EQ(add("new", "viewer", kPassword).status, 409);
    EXPECT_EQ(add("weak", "viewer", "short").status, 422);
    EXPECT_EQ(add("odd", "king", kPassword).status, 400);
    EXPECT_EQ(add("No Name", "viewer", kPassword).status, 400);
    const Login fresh = log_in("new");
    EXPECT_EQ(as(ann, "PATCH", "/api/v1/users/new", object{{"disabled", true}}).status, 200);
    EXPECT_EQ(as(fresh, "GET", "/api/v1/pairs").status, 401);
    EXPECT_EQ(
        send("POST", "/api/v1/session", object{{"name", "new"}, {"password", kPassword}}).status,
        401);
    EXPECT_EQ(as(ann, "DELETE", "/api/v1/users/new").status, 204);
    EXPECT_EQ(as(ann, "DELETE", "/api/v1/users/new").status, 404);
    EXPECT_EQ(as(ann, "DELETE", "/api/v1/users/ann").status, 409);
    EXPECT_EQ(as(ann, "PATCH", "/api/v1/users/vera", object{{"rule", "x"}}).status, 400);
    // What was refused is written down as refused.
    const std::string audit = as(ann, "GET", "/api/v1/audit").body;
    EXPECT_THAT(audit,
                HasSubstr("\"action\":\"user.remove\",\"target\":\"ann\",\"outcome\":\"refused\","
                          "\"detail\":\"'ann' is the last administrator"));
    const std::string users = as(ann, "GET", "/api/v1/users").body;
    EXPECT_THAT(users, Not(HasSubstr("scrypt")));
}

TEST_F(AccessTest, APasswordIsChangedByItsOwner) {
    start_with_users();
    const Login vera = log_in("vera");
    const Login elsewhere = log_in("vera");
    const std::string path = "/api/v1/session/password";
    EXPECT_EQ(as(vera, "POST", path,
                 object{{"old_password", "wrong"}, {"new_password", "another good one"}})
                  .status,
              403);
    EXPECT_EQ(as(vera, "POST", path, object{{"old_password", kPassword}, {"new_password", "short"}})
                  .status,
              422);
    const RawResponse changed =
        as(vera, "POST", path,
           object{{"old_password", kPassword}, {"new_password", "another good one"}});
    EXPECT_EQ(changed.status, 201) << changed.body;
    EXPECT_EQ(as(elsewhere, "GET", "/api/v1/pairs").status, 401);
    EXPECT_EQ(as(vera, "GET", "/api/v1/pairs").status, 401);  // it goes on with the new cookie
    const std::string cookie = changed.headers.at("set-cookie");
    EXPECT_EQ(get("/api/v1/pairs", "Cookie: " + cookie.substr(0, cookie.find(';')) + "\r\n").status,
              200);
    EXPECT_EQ(
        send("POST", "/api/v1/session", object{{"name", "vera"}, {"password", kPassword}}).status,
        401);
}

TEST_F(AccessTest, SettingsAreChangedByAdministratorsWithinBounds) {
    start_with_users();
    const Login ann = log_in("ann");
    EXPECT_EQ(as(log_in("otto"), "PATCH", "/api/v1/settings", object{{"session_hours", 1}}).status,
              403);
    EXPECT_EQ(as(ann, "PATCH", "/api/v1/settings", object{{"session_hours", 0}}).status, 400);
    EXPECT_EQ(as(ann, "PATCH", "/api/v1/settings", object{{"unknown", 1}}).status, 400);
    const RawResponse changed =
        as(ann, "PATCH", "/api/v1/settings",
           object{{"session_idle_minutes", 5}, {"login_banner", "Keep out"}});
    EXPECT_EQ(changed.status, 200);
    EXPECT_EQ(json_of(changed).at("session_idle_minutes"), 5);
    EXPECT_EQ(json_of(get("/api/v1/session")).at("banner"), "Keep out");
}

TEST_F(AccessTest, LoopbackReadsWhereItIsAllowedAndNoMore) {
    settings_.loopback_read = true;
    start_with_users();
    EXPECT_EQ(get("/api/v1/pairs").status, 200);
    EXPECT_EQ(get("/api/v1/users").status, 403);
    EXPECT_EQ(send("POST", "/api/v1/pairs/web1/actions/pause", object{{"confirm", "web1"}}).status,
              401);
    EXPECT_EQ(get("/api/v1/pairs", "Authorization: Bearer wrong\r\n").status,
              401);  // no weaker way in
    EXPECT_EQ(get("/api/v1/pairs", "Cookie: antipode=old\r\n").status, 200);
}

TEST_F(AccessTest, ManyLoginsAtOnceAreBounded) {
    start();
    const std::string hash = hash_password(kPassword).value();  // the real cost
    play([&] { ASSERT_TRUE(app_->services().accounts.add_user(1, "ann", Role::admin, hash)); });
    std::vector<std::unique_ptr<RawClient>> clients;
    const std::string body =
        control::json::serialize(object{{"name", "ann"}, {"password", kPassword}});
    for (int i = 0; i < 30; ++i) {
        clients.push_back(std::make_unique<RawClient>(port_));
        clients.back()->send(
            fmt::format("POST /api/v1/session HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
                        "application/json\r\nContent-Length: {}\r\n\r\n{}",
                        body.size(), body));
    }
    // While the hashes are computed, others are served.
    EXPECT_EQ(get("/healthz").status, 200);
    int in = 0;
    int busy = 0;
    for (const auto& client : clients) {
        const auto answer = client->response();
        ASSERT_TRUE(answer);
        in += answer->status == 201;
        busy += answer->status == 409;
    }
    EXPECT_EQ(in + busy, 30);
    EXPECT_GE(in, 8);
    EXPECT_GT(busy, 0);
}

}  // namespace
}  // namespace antipode::web::test
