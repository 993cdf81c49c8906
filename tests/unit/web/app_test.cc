// Routes and live data, against played replicators.
#include <gmock/gmock.h>

#include "tests/unit/web/app_fixture.h"

namespace antipode::web::test {
namespace {

using control::json::value;
using testing::HasSubstr;
using testing::Not;

bool all_answer(const value& pair) {
    for (const value& view : pair.at("views").as_array()) {
        if (!view.at("reachable").as_bool()) return false;
    }
    return pair.at("views").as_array().size() == 2;
}

TEST_F(AppTest, ThePageComesWithItsGuards) {
    start();
    for (const char* path : {"/", "/vms/web1", "/events"}) {
        const RawResponse page = get(path);
        EXPECT_EQ(page.status, 200) << path;
        EXPECT_EQ(page.headers.at("content-type"), "text/html; charset=utf-8");
        EXPECT_THAT(page.headers.at("content-security-policy"), HasSubstr("default-src 'none'"));
        EXPECT_THAT(page.headers.at("content-security-policy"), Not(HasSubstr("unsafe")));
        EXPECT_EQ(page.headers.at("x-content-type-options"), "nosniff");
        EXPECT_THAT(page.body, HasSubstr("<!doctype html>"));
        EXPECT_THAT(page.body, Not(HasSubstr("http")));  // nothing from elsewhere
    }
    const RawResponse script = get("/assets/app.js");
    EXPECT_EQ(script.status, 200);
    EXPECT_GT(script.body.size(), 10'000u);
    const RawResponse packed = get("/assets/app.js", "Accept-Encoding: br, gzip\r\n");
    EXPECT_EQ(packed.headers.at("content-encoding"), "gzip");
    EXPECT_LT(packed.body.size(), script.body.size());
    EXPECT_EQ(packed.body.substr(0, 2), "\x1f\x8b");
    EXPECT_NE(packed.headers.at("etag"), script.headers.at("etag"));
    EXPECT_EQ(
        get("/assets/app.js", "Accept-Encoding: gzip;q=0\r\n").headers.count("content-encoding"),
        0u);
}

TEST_F(AppTest, AKnownAnswerIsNotSentAgain) {
    start();
    const RawResponse first = get("/assets/app.css");
    const std::string tag = first.headers.at("etag");
    const RawResponse again = get("/assets/app.css", "If-None-Match: \"x\", W/" + tag + "\r\n");
    EXPECT_EQ(again.status, 304);
    EXPECT_EQ(again.body, "");
    EXPECT_EQ(again.headers.at("etag"), tag);
    EXPECT_EQ(get("/assets/app.css", "If-None-Match: \"x\"\r\n").status, 200);
}

TEST_F(AppTest, PairsAreListedAndPaged) {
    for (const char* name : {"alpha", "beta", "gamma"}) add_pair(name);
    start();
    eventually("/api/v1/pairs", [](const value& list) {
        size_t answered = 0;
        for (const value& item : list.at("items").as_array())
            answered += item.at("word") == "protected";
        return answered == 3;
    });
    const value first = get_json("/api/v1/pairs?limit=2");
    ASSERT_EQ(first.at("items").as_array().size(), 2u);
    EXPECT_EQ(first.at("next"), "beta");
    const value second = get_json("/api/v1/pairs?limit=2&after=beta");
    ASSERT_EQ(second.at("items").as_array().size(), 1u);
    EXPECT_EQ(second.at("items").at(0).at("name"), "gamma");
    EXPECT_TRUE(second.at("next").is_null());
    EXPECT_EQ(get("/api/v1/pairs?limit=many").status, 400);
}

TEST_F(AppTest, APairShowsBothSites) {
    add_pair("web1");
    start();
    const value pair = eventually("/api/v1/pairs/web1", all_answer);
    EXPECT_EQ(pair.at("word"), "protected");
    EXPECT_EQ(pair.at("mood"), "good");
    ASSERT_EQ(pair.at("sites").as_array().size(), 2u);
    EXPECT_EQ(pair.at("sites").at(0).at("site"), "lisbon");
    EXPECT_EQ(pair.at("sites").at(0).at("word"), "backup");
    EXPECT_EQ(pair.at("sites").at(1).at("holds_vm"), true);
    auto status = control::parse_status(pair.at("views").at(0).at("status"));
    ASSERT_TRUE(status) << status.error().to_string();
    EXPECT_EQ(status->pair, "web1");

    const value history = get_json("/api/v1/pairs/web1/history");
    EXPECT_GE(history.at("rows").as_array().size(), 60u);
    const value none = get_json("/api/v1/pairs/web1/history?site=lisbon&after=99999999999999");
    EXPECT_TRUE(none.at("rows").as_array().empty());
    const value console = get_json("/api/v1/pairs/web1/console");
    EXPECT_THAT(std::string(console.at("text").as_string()), HasSubstr("echo server"));

    EXPECT_EQ(get("/api/v1/pairs/nobody").status, 404);
    EXPECT_EQ(get("/api/v1/pairs/web1/history?site=paris").status, 404);
    EXPECT_EQ(get("/api/v1/pairs/web1/history?after=x").status, 400);
}

TEST_F(AppTest, ALostSiteIsSeenAndItsNumbersAreNotShownAsThePresent) {
    add_pair("web1");
    start();
    eventually("/api/v1/pairs/web1", all_answer);
    play([&] {
        pairs_["web1"]->kill(0);
        servers_.erase(socket_path("web1", 0));
    });
    const value pair = eventually("/api/v1/pairs/web1", [](const value& seen) {
        return seen.at("word") == "solo" && !all_answer(seen);
    });
    EXPECT_EQ(pair.at("sites").at(1).at("word"), "unknown");
    EXPECT_EQ(pair.at("sites").at(1).at("holds_vm"), false);
    const std::string metrics = get("/metrics").body;
    EXPECT_THAT(metrics, HasSubstr("antipode_pair_up{pair=\"web1\",site=\"prague\"} 0\n"));
    EXPECT_THAT(metrics, Not(HasSubstr("antipode_pair_epoch{pair=\"web1\",site=\"prague\"}")));
    EXPECT_THAT(metrics,
                HasSubstr("antipode_pair_state{pair=\"web1\",site=\"lisbon\",state=\"solo\"} 1\n"));
    // It comes back, and is seen again without a restart of ours.
    play([&] {
        pairs_["web1"]->begin_sync(0);
        serve("web1", 0);
    });
    eventually("/api/v1/pairs/web1", all_answer);
}

TEST_F(AppTest, EventsComeOnceInOrderAndByPage) {
    add_pair("web1");
    start();
    eventually("/api/v1/events",
               [](const value& list) { return list.at("items").as_array().size() == 8; });
    play([&] { pairs_["web1"]->diverge(); });
    const value list = eventually("/api/v1/events", [](const value& seen) {
        return seen.at("items").as_array().size() == 10;
    });
    EXPECT_EQ(list.at("items").at(0).at("code"), "digest_healed");
    EXPECT_EQ(list.at("items").at(1).at("code"), "digest_mismatch");
    const value bad = get_json("/api/v1/events?severity=error");
    ASSERT_EQ(bad.at("items").as_array().size(), 1u);

    const value page = get_json("/api/v1/events?limit=4&pair=web1");
    ASSERT_EQ(page.at("items").as_array().size(), 4u);
    ASSERT_FALSE(page.at("next").is_null());
    const auto before = page.at("next").to_number<uint64_t>();
    const value rest = get_json(fmt::format("/api/v1/events?limit=100&before={}", before));
    EXPECT_EQ(rest.at("items").as_array().size(), 6u);
    EXPECT_TRUE(rest.at("next").is_null());
    EXPECT_TRUE(get_json("/api/v1/events?pair=other").at("items").as_array().empty());
    EXPECT_EQ(get("/api/v1/events?severity=grave").status, 400);
}

TEST_F(AppTest, MoreEventsThanAStatusCarriesAreFetched) {
    add_pair("web1");
    for (int i = 0; i < 300; ++i) pairs_["web1"]->diverge();
    start();
    eventually("/api/v1/events?limit=1000",
               [](const value& list) { return list.at("items").as_array().size() == 608; });
}

TEST_F(AppTest, MetricsJoinEverySource) {
    add_pair("one");
    add_pair("two");
    start();
    eventually("/api/v1/pairs/one", all_answer);
    eventually("/api/v1/pairs/two", all_answer);
    const RawResponse response = get("/metrics");
    EXPECT_EQ(response.status, 200);
    EXPECT_THAT(response.headers.at("content-type"), HasSubstr("version=0.0.4"));
    const std::string& text = response.body;
    for (const char* line :
         {"antipode_vm_exits_total{pair=\"one\",site=\"prague\",kind=\"pio\"} ",
          "antipode_vm_exits_total{pair=\"two\",site=\"lisbon\",kind=\"pio\"} ",
          "antipode_pair_protected{pair=\"two\",site=\"prague\"} 1\n",
          "antipode_pair_disk_size_bytes{pair=\"one\",site=\"lisbon\",disk=\"root\"} ",
          "antipode_web_requests_total{} "}) {
        EXPECT_THAT(text, HasSubstr(line));
    }
    const size_t first = text.find("# TYPE antipode_vm_exits_total");
    EXPECT_EQ(text.find("# TYPE antipode_vm_exits_total", first + 1), std::string::npos);
}

TEST_F(AppTest, LiveDataBeginWithThePresentAndGoOn) {
    add_pair("web1");
    start();
    eventually("/api/v1/pairs/web1", all_answer);
    RawClient client(port_);
    client.get("/api/v1/live?pair=web1");
    const auto head = client.until("\r\n\r\n");
    ASSERT_TRUE(head);
    EXPECT_THAT(*head, HasSubstr("text/event-stream"));
    EXPECT_THAT(*head, HasSubstr("Cache-Control: no-store"));
    ASSERT_TRUE(client.until("event: overview\ndata: {\"items\":[{\"name\":\"web1\""));
    ASSERT_TRUE(client.until("event: pair\ndata: "));
    ASSERT_TRUE(client.until("event: pair\ndata: "));  // and the next
    play([&] { pairs_["web1"]->cut_link(); });
    ASSERT_TRUE(client.until("\"code\":\"acquire_denied\""));
    EXPECT_EQ(on_loop([&] { return app_->port(); }), port_);
}

TEST_F(AppTest, LiveSubscribersAreBounded) {
    settings_.subscribers_max = 2;
    start();
    RawClient one(port_);
    RawClient two(port_);
    for (RawClient* client : {&one, &two}) {
        client->get("/api/v1/live");
        ASSERT_TRUE(client->until("event: overview"));
    }
    const RawResponse refused = get("/api/v1/live");
    EXPECT_EQ(refused.status, 503);
    EXPECT_EQ(refused.headers.at("retry-after"), "10");
    EXPECT_THAT(refused.body, HasSubstr("/problems/subscribers"));
}

TEST_F(AppTest, WhatIsNotThereOrNotAllowedIsSaidSo) {
    start();
    const RawResponse missing = get("/api/v1/nothing");
    EXPECT_EQ(missing.status, 404);
    EXPECT_EQ(missing.headers.at("content-type"), "application/problem+json");
    RawClient client(port_);
    client.send("POST /api/v1/pairs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
    const auto wrong = client.response();
    ASSERT_TRUE(wrong);
    EXPECT_EQ(wrong->status, 405);
    EXPECT_EQ(wrong->headers.at("allow"), "GET, HEAD");
    client.send("OPTIONS /api/v1/pairs HTTP/1.1\r\nHost: localhost\r\n\r\n");
    const auto options = client.response();
    ASSERT_TRUE(options);
    EXPECT_EQ(options->status, 204);
    client.send("HEAD /assets/app.js HTTP/1.1\r\nHost: localhost\r\n\r\n");
    const auto head = client.response(false);
    ASSERT_TRUE(head);
    EXPECT_EQ(head->status, 200);
    EXPECT_GT(std::stoul(head->headers.at("content-length")), 10'000u);
    client.get("/healthz");
    EXPECT_EQ(client.response()->body, "ok\n");  // still the same connection
}

TEST_F(AppTest, ANameThatIsNotOursIsRefused) {
    settings_.host_names = {"antipode.example"};
    start();
    const auto ask = [&](const std::string& host) {
        RawClient client(port_);
        client.send("GET /healthz HTTP/1.1\r\nHost: " + host + "\r\n\r\n");
        return client.response()->status;
    };
    EXPECT_EQ(ask("evil.example:8080"), 421);
    EXPECT_EQ(ask(""), 421);
    EXPECT_EQ(ask("localhost.evil.example"), 421);
    EXPECT_EQ(ask("LOCALHOST:8080"), 200);
    EXPECT_EQ(ask("127.0.0.1:1"), 200);
    EXPECT_EQ(ask("[::1]:8080"), 200);
    EXPECT_EQ(ask("Antipode.Example"), 200);
}

TEST_F(AppTest, APortInUseIsNamed) {
    start();
    Settings second = settings_;
    second.server.port = port_;
    boost::asio::io_context other;
    auto app = App::start(other, second);
    ASSERT_FALSE(app);
    EXPECT_EQ(app.error().code, Errc::already_exists);
    EXPECT_THAT(app.error().context,
                HasSubstr(fmt::format("listen 127.0.0.1:{}: cannot bind", port_)));
}

}  // namespace
}  // namespace antipode::web::test
