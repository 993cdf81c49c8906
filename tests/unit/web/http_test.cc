#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "web/http/message.h"
#include "web/http/router.h"

namespace antipode::web {
namespace {

using testing::HasSubstr;

TEST(Target, IsDecodedOnce) {
    Request request;
    ASSERT_TRUE(parse_target("/vms/a%20b?x=1&y=a%2Bb+c&flag&x=2", request));
    EXPECT_EQ(request.path, "/vms/a b");
    EXPECT_EQ(request.query_value("x"), "2");
    EXPECT_EQ(request.query_value("y"), "a+b c");
    EXPECT_EQ(request.query_value("flag"), "");
    EXPECT_FALSE(request.query_value("z").has_value());
    Request plus;
    ASSERT_TRUE(parse_target("/a+b", plus));
    EXPECT_EQ(plus.path, "/a+b");
    Request trailing;
    ASSERT_TRUE(parse_target("/a/", trailing));
    EXPECT_EQ(trailing.path, "/a/");
}

TEST(Target, WhatIsNoCleanPathIsRefused) {
    for (const char* target : {"", "a", "*", "http://x/", "//", "/a//b", "/..", "/a/../b", "/./a",
                               "/%2e%2e/a", "/%00", "/%", "/%1", "/%zz", "/?a=%f", "/?%00=1"}) {
        Request request;
        EXPECT_FALSE(parse_target(target, request)) << target;
    }
    std::string many = "/?";
    for (int i = 0; i < 40; ++i) many += fmt::format("k{}=1&", i);
    Request request;
    EXPECT_FALSE(parse_target(many, request));
}

TEST(RequestNumbers, AreBoundedAndNamed) {
    Request request;
    ASSERT_TRUE(parse_target("/?limit=20&bad=2x&big=1001&minus=-1&empty=", request));
    EXPECT_EQ(request.query_number("limit", 5, 1000).value(), 20u);
    EXPECT_EQ(request.query_number("absent", 5, 1000).value(), 5u);
    for (const char* name : {"bad", "big", "minus", "empty"}) {
        const auto refused = request.query_number(name, 5, 1000);
        ASSERT_FALSE(refused) << name;
        EXPECT_THAT(refused.error().context, HasSubstr(name));
    }
}

TEST(RequestCookies, AreFoundByName) {
    Request request;
    request.headers.set(http::field::cookie, "a=1; session=xyz;b=; c");
    EXPECT_EQ(request.cookie("session"), "xyz");
    EXPECT_EQ(request.cookie("a"), "1");
    EXPECT_EQ(request.cookie("b"), "");
    EXPECT_EQ(request.cookie("c"), "");
    EXPECT_EQ(request.cookie("sess"), "");
}

TEST(Problems, CarryTheirKindAndStatus) {
    const Response response = problem(Error{Errc::not_found, "no pair 'x'"});
    EXPECT_EQ(response.status, 404u);
    EXPECT_EQ(response.content_type, "application/problem+json");
    auto body = control::parse_json(response.body);
    ASSERT_TRUE(body);
    EXPECT_EQ(body->at("type"), "/problems/not-found");
    EXPECT_EQ(body->at("detail"), "no pair 'x'");
    EXPECT_EQ(body->at("status"), 404);
    for (int code = 1; code <= static_cast<int>(Errc::diverged); ++code) {
        const Response each = problem(Error{static_cast<Errc>(code), "x"});
        EXPECT_EQ(each.body.find("/problems/internal"), std::string::npos) << code;
    }
}

Response named(const Call&) {
    return Response::empty();
}

TEST(Router, LiteralsWinOverParameters) {
    Router router;
    router.add_sync(http::verb::get, "/pairs/{pair}", Need::read, named);
    router.add_sync(http::verb::get, "/pairs/all", Need::read, named);
    router.add_sync(http::verb::post, "/pairs/{pair}", Need::operate, named);
    router.add_sync(http::verb::get, "/", Need::nobody, named);

    EXPECT_EQ(router.find(http::verb::get, "/pairs/all").route->pattern, "/pairs/all");
    const auto match = router.find(http::verb::head, "/pairs/web1");
    EXPECT_EQ(match.route->pattern, "/pairs/{pair}");
    EXPECT_EQ(match.parameters.at("pair"), "web1");
    EXPECT_EQ(router.find(http::verb::get, "/").route->pattern, "/");
    const auto wrong = router.find(http::verb::delete_, "/pairs/web1");
    EXPECT_EQ(wrong.route, nullptr);
    EXPECT_EQ(wrong.allowed, "GET, HEAD, POST");
    EXPECT_EQ(router.find(http::verb::get, "/pairs").allowed, "");
    EXPECT_EQ(router.find(http::verb::get, "/pairs/").route, nullptr);
    EXPECT_EQ(router.find(http::verb::get, "/pairs/a/b").route, nullptr);
}

}  // namespace
}  // namespace antipode::web
