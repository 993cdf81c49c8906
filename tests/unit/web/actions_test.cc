// Actions: preflight, typed confirmation, tasks, idempotency keys, and replicators that fail
// meanwhile.
#include <boost/json/serialize.hpp>
#include <gmock/gmock.h>

#include "tests/unit/web/app_fixture.h"
#include "web/routes/once.h"

namespace antipode::web::test {
namespace {

using control::Method;
using control::json::object;
using control::json::value;
using testing::HasSubstr;

class ActionsTest : public AppTest {
  protected:
    void begin() {
        add_pair("web1");
        start();
        play([&] {
            token_ = app_->services()
                         .accounts.add_token(1, "test", Role::admin, "x", std::nullopt)
                         ->secret;
        });
        eventually("/api/v1/pairs/web1", [](const value& pair) {
            return pair.at("views").as_array().size() == 2 &&
                   pair.at("views").at(0).at("reachable").as_bool() &&
                   pair.at("views").at(1).at("reachable").as_bool();
        });
    }
    RawResponse post(const std::string& path, const value& body, const std::string& headers = "") {
        RawClient client(port_);
        const std::string text = control::json::serialize(body);
        client.send(fmt::format(
            "POST {} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n{}Content-Type: "
            "application/json\r\nContent-Length: {}\r\n\r\n{}",
            path, token_, headers, text.size(), text));
        return client.response().value_or(RawResponse{});
    }
    RawResponse act(const std::string& action, const value& body, const std::string& headers = "") {
        return post("/api/v1/pairs/web1/actions/" + action, body, headers);
    }
    static value json_of(const RawResponse& response) {
        auto parsed = control::parse_json(response.body);
        return parsed ? *parsed : value(nullptr);
    }
    size_t asked() {
        return on_loop([&] { return pairs_["web1"]->methods.size(); });
    }
    std::string token_;
};

TEST_F(ActionsTest, APreflightSaysWhatWouldHappenAndDoesNothing) {
    begin();
    const RawResponse answer = act("switchover", object{{"check", true}});
    ASSERT_EQ(answer.status, 200) << answer.body;
    const value reply = json_of(answer);
    EXPECT_EQ(reply.at("allowed"), true);
    EXPECT_EQ(reply.at("site"), "prague");
    EXPECT_EQ(reply.at("confirm"), "web1");
    EXPECT_TRUE(reply.at("task").is_null());
    EXPECT_THAT(std::string(reply.at("consequence").as_string()), HasSubstr("pauses"));
    const value refused = json_of(act("rejoin", object{{"check", true}}));
    EXPECT_EQ(refused.at("allowed"), false);
    EXPECT_EQ(refused.at("findings").at(0).at("severity"), "error");
    EXPECT_EQ(get_json("/api/v1/tasks").at("items").as_array().size(), 0u);
}

TEST_F(ActionsTest, WhatCanHurtNeedsTheNameTyped) {
    begin();
    for (const char* typed : {"", "web2", "WEB1"}) {
        const RawResponse answer = act("switchover", object{{"confirm", typed}});
        EXPECT_EQ(answer.status, 422);
        EXPECT_THAT(answer.body, HasSubstr("/problems/not-confirmed"));
    }
    EXPECT_EQ(asked(), 0u);  // the replicator was not even asked
}

TEST_F(ActionsTest, ALongActionIsFollowedToItsEnd) {
    begin();
    RawClient live(port_);
    live.get("/api/v1/live");
    ASSERT_TRUE(live.until("event: overview"));
    const RawResponse answer =
        act("switchover", object{{"confirm", "web1"}, {"note", "maintenance"}});
    ASSERT_EQ(answer.status, 202) << answer.body;
    const std::string location = answer.headers.at("location");
    value task = get_json(location);
    EXPECT_EQ(task.at("state"), "running");
    EXPECT_EQ(task.at("action"), "switchover");
    play([&] { pairs_["web1"]->tick(); });
    eventually(location, [](const value& now) { return now.at("text") == "half way"; });
    play([&] { pairs_["web1"]->tick(); });
    task = eventually(location, [](const value& now) { return now.at("state") == "succeeded"; });
    EXPECT_EQ(task.at("progress_ratio"), 1.0);
    EXPECT_FALSE(task.at("ended_unix_ms").is_null());
    ASSERT_TRUE(live.until("\"state\":\"succeeded\""));
    const value pair = eventually("/api/v1/pairs/web1", [](const value& now) {
        return now.at("sites").at(0).at("word") == "primary";
    });
    EXPECT_EQ(pair.at("word"), "protected");
    EXPECT_EQ(get_json("/api/v1/tasks?state=succeeded").at("items").as_array().size(), 1u);
    EXPECT_EQ(get_json("/api/v1/tasks?state=running").at("items").as_array().size(), 0u);
    EXPECT_EQ(get_json("/api/v1/tasks?pair=other").at("items").as_array().size(), 0u);
    EXPECT_EQ(get("/api/v1/tasks?state=odd").status, 400);
    EXPECT_EQ(get("/api/v1/tasks/none").status, 404);
    const auto requests = on_loop([&] { return pairs_["web1"]->requests; });
    EXPECT_EQ(requests.back().actor, "token:test via token");
    EXPECT_EQ(requests.back().note, "maintenance");
}

TEST_F(ActionsTest, AShortActionHasEndedWhenItIsAnswered) {
    begin();
    const RawResponse answer = act("pause", object{{"confirm", "web1"}});
    ASSERT_EQ(answer.status, 200) << answer.body;
    EXPECT_EQ(json_of(answer).at("task").at("state"), "succeeded");
}

TEST_F(ActionsTest, ARestartedReplicatorEndsItsTasks) {
    begin();
    const RawResponse answer = act("snapshot", object{{"text", "x"}});
    ASSERT_EQ(answer.status, 202) << answer.body;
    play([&] { pairs_["web1"]->begin_sync(0); });  // prague is another life now
    const value task = eventually(answer.headers.at("location"),
                                  [](const value& now) { return now.at("state") != "running"; });
    EXPECT_EQ(task.at("state"), "failed");
    EXPECT_THAT(std::string(task.at("text").as_string()), HasSubstr("restarted"));
}

TEST_F(ActionsTest, TheSiteIsTheOneThatIsMeant) {
    begin();
    EXPECT_EQ(json_of(act("failover", object{{"check", true}})).at("site"), "lisbon");
    EXPECT_EQ(json_of(act("pause", object{{"check", true}})).at("site"), "prague");
    EXPECT_EQ(json_of(act("pause", object{{"check", true}, {"site", "lisbon"}})).at("site"),
              "lisbon");
    EXPECT_EQ(act("pause", object{{"check", true}, {"site", "paris"}}).status, 404);
    EXPECT_EQ(act("dance", object{}).status, 404);
    EXPECT_EQ(act("status", object{}).status, 404);
    EXPECT_EQ(post("/api/v1/pairs/none/actions/pause", object{{"confirm", "none"}}).status, 404);
}

TEST_F(ActionsTest, AKeyIsDoneOnce) {
    begin();
    const value body = object{{"confirm", "web1"}};
    const std::string key = "Idempotency-Key: 4711\r\n";
    const RawResponse first = act("pause", body, key);
    const RawResponse again = act("pause", body, key);
    ASSERT_EQ(first.status, 200);
    EXPECT_EQ(again.status, 200);
    EXPECT_EQ(again.body, first.body);
    EXPECT_EQ(again.headers.at("idempotency-replayed"), "true");
    EXPECT_EQ(asked(), 1u);
    EXPECT_EQ(act("resume", object{}, key).status, 422);  // another request under the same key
    EXPECT_EQ(asked(), 1u);
    EXPECT_EQ(act("pause", body, "Idempotency-Key: 4712\r\n").status, 200);
    EXPECT_EQ(asked(), 2u);
    EXPECT_EQ(act("pause", body, "Idempotency-Key: " + std::string(300, 'x') + "\r\n").status, 422);
}

// A handler that throws leaves no answer behind; its caller may try again.
TEST_F(ActionsTest, AKeyWhoseRequestCameToNothingIsFree) {
    begin();
    play([&] {
        Request request;
        request.path = "/api/v1/anything";
        request.headers.insert("Idempotency-Key", "4714");
        Principal principal;
        principal.name = "test";
        const Call call{request, principal, {}};
        {
            Once first(app_->services(), call);
            EXPECT_FALSE(first.answer());
            Once meanwhile(app_->services(), call);
            EXPECT_EQ(meanwhile.answer().value_or(Response{}).status, 409u);
        }
        Once again(app_->services(), call);
        EXPECT_FALSE(again.answer());
        (void)again.finished(Response::from_json(object{{"done", true}}));
        Once replayed(app_->services(), call);
        EXPECT_EQ(replayed.answer().value_or(Response{}).body, "{\"done\":true}");
    });
}

TEST_F(ActionsTest, BadArgumentsAreNamed) {
    begin();
    const std::pair<value, const char*> cases[] = {
        {object{{"confirm", 7}}, "confirm: expected a string"},
        {object{{"check", "yes"}}, "check: expected true or false"},
        {object{{"duration_seconds", -1}}, "duration_seconds: expected a number from 0"},
        {object{{"surprise", 1}}, "surprise: no such field here"},
        {control::json::array{}, "body: expected an object"},
    };
    for (const auto& [body, message] : cases) {
        const RawResponse answer = act("pause", body);
        EXPECT_EQ(answer.status, 400);
        EXPECT_THAT(answer.body, HasSubstr(message));
    }
}

TEST_F(ActionsTest, ADeadReplicatorIsSaidSo) {
    begin();
    play([&] {
        servers_.erase(socket_path("web1", 0));
        servers_.erase(socket_path("web1", 1));
    });
    eventually("/api/v1/pairs/web1",
               [](const value& pair) { return pair.at("word") == "unknown"; });
    const RawResponse answer = act("pause", object{{"confirm", "web1"}});
    EXPECT_EQ(answer.status, 503);
    EXPECT_THAT(answer.body, HasSubstr("/problems/unreachable"));
}

TEST_F(ActionsTest, ATaskIsCancelledAsAnAction) {
    begin();
    const RawResponse answer = act("snapshot", object{{"text", "x"}});
    const std::string id(json_of(answer).at("task").at("id").as_string());
    const std::string key = "Idempotency-Key: 4713\r\n";
    const RawResponse cancelled = post("/api/v1/tasks/" + id + "/cancel", object{}, key);
    EXPECT_EQ(cancelled.status, 200);
    EXPECT_EQ(post("/api/v1/tasks/" + id + "/cancel", object{}, key).body, cancelled.body);
    EXPECT_EQ(asked(), 2u);
    const auto methods = on_loop([&] { return pairs_["web1"]->methods; });
    EXPECT_EQ(methods.back(), Method::cancel);
    EXPECT_EQ(post("/api/v1/tasks/none/cancel", object{}).status, 404);
}

TEST_F(ActionsTest, TheListSaysWhatThereIs) {
    begin();
    const value list = get_json("/api/v1/actions");
    EXPECT_GT(list.at("items").as_array().size(), 15u);
    for (const value& item : list.at("items").as_array()) {
        EXPECT_EQ(item.at("allowed"), false);
        const auto method = control::from_word<Method>(std::string(item.at("name").as_string()));
        EXPECT_TRUE(method && control::info(*method).implemented);
    }
}

TEST_F(ActionsTest, WhatThisVersionCannotDoIsNotTried) {
    begin();
    for (const char* action : {"resolve", "reload"}) {
        const RawResponse answer = act(action, object{{"confirm", "web1"}});
        EXPECT_EQ(answer.status, 501) << answer.body;
        EXPECT_THAT(answer.body, HasSubstr("this version cannot do it"));
    }
    EXPECT_EQ(asked(), 0u);
}

TEST_F(ActionsTest, ALossOfWhatWasAcknowledgedIsAcceptedByItself) {
    begin();
    play([&] {
        pairs_["web1"]->lose_copy();
        pairs_["web1"]->lose_everything(1);
    });
    eventually("/api/v1/pairs/web1", [](const value& pair) {
        return pair.at("views").at(1).at("status").at("state") == "waiting";
    });
    const object sworn{{"check", true}, {"site", "lisbon"}, {"peer_is_down", true}};
    const value refused = json_of(act("force", sworn));
    EXPECT_EQ(refused.at("allowed"), false);
    EXPECT_THAT(control::json::serialize(refused.at("findings")), HasSubstr("acknowledged writes"));
    object accepted = sworn;
    accepted["accept_loss"] = true;
    EXPECT_EQ(json_of(act("force", accepted)).at("allowed"), true);
}

TEST_F(ActionsTest, TheSameFactsAreListedByKind) {
    begin();
    EXPECT_EQ(get_json("/api/v1/vms").at("items").as_array().size(), 2u);
    EXPECT_EQ(get_json("/api/v1/disks?pair=web1").at("items").as_array().size(), 4u);
    EXPECT_EQ(get_json("/api/v1/disks?pair=none").at("items").as_array().size(), 0u);
    EXPECT_EQ(get_json("/api/v1/links").at("items").at(0).at("session_up"), true);
    EXPECT_EQ(get_json("/api/v1/tiebreaker").at("items").at(0).at("record").at("mode"), "paired");
    const value sites = get_json("/api/v1/sites");
    ASSERT_EQ(sites.at("items").as_array().size(), 2u);
    EXPECT_EQ(sites.at("items").at(0).at("name"), "lisbon");
}

TEST_F(ActionsTest, EventsAreKeptOverARestart) {
    settings_.state_directory = directory_;
    begin();
    eventually("/api/v1/events",
               [](const value& list) { return list.at("items").as_array().size() == 8; });
    // The daemon goes and comes; the replicators tell it everything again.
    stop();
    context_.restart();
    for (const size_t site : {0, 1}) serve("web1", site);
    start();
    eventually("/api/v1/pairs/web1",
               [](const value& pair) { return pair.at("word") == "protected"; });
    const value list = get_json("/api/v1/events");
    EXPECT_EQ(list.at("items").as_array().size(), 8u);
}

}  // namespace
}  // namespace antipode::web::test
