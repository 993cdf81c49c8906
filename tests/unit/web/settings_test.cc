#include "web/settings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace antipode::web {
namespace {

using testing::HasSubstr;

TEST(WebSettings, DefaultsAreAReadOnlyPageOnLoopback) {
    const auto settings = load_settings("/nonexistent/web.toml", Missing::is_fine);
    ASSERT_TRUE(settings);
    EXPECT_EQ(settings->server.address, "127.0.0.1");
    EXPECT_EQ(settings->server.port, 8080);
    EXPECT_EQ(settings->fleet.directories, std::vector<std::string>{"/run/antipode"});
    const auto missing = load_settings("/nonexistent/web.toml", Missing::is_error);
    ASSERT_FALSE(missing);
    EXPECT_THAT(missing.error().context, HasSubstr("/nonexistent/web.toml"));
}

TEST(WebSettings, EverySettingIsRead) {
    const auto settings = parse_settings(R"(
[listen]
address = "[::1]:9443"
host_names = ["a.example", "b.example"]
[control]
directories = ["/run/x", "/run/y"]
[limits]
connections = 10
connections_of_one_address = 5
live_subscribers = 7
body_bytes = 4096
events = 200
request_seconds = 3
idle_seconds = 4
write_seconds = 5
)",
                                         "web.toml");
    ASSERT_TRUE(settings) << settings.error().to_string();
    EXPECT_EQ(settings->server.address, "::1");
    EXPECT_EQ(settings->server.port, 9443);
    EXPECT_EQ(settings->host_names.size(), 2u);
    EXPECT_EQ(settings->fleet.directories.size(), 2u);
    EXPECT_EQ(settings->server.connections_max, 10u);
    EXPECT_EQ(settings->server.connections_of_one_address_max, 5u);
    EXPECT_EQ(settings->subscribers_max, 7u);
    EXPECT_EQ(settings->server.body_bytes_max, 4096u);
    EXPECT_EQ(settings->events_max, 200u);
    EXPECT_EQ(settings->server.request_limit, std::chrono::seconds(3));
    EXPECT_EQ(settings->server.idle_limit, std::chrono::seconds(4));
    EXPECT_EQ(settings->server.write_limit, std::chrono::seconds(5));
}

TEST(WebSettings, MistakesAreNamedWithTheirLine) {
    const std::pair<const char*, const char*> cases[] = {
        {"[listen]\nadress = 'x'\n", "web.toml:2: listen.adress: no such setting"},
        {"[lisen]\n", "web.toml:1: lisen: no such setting"},
        {"listen = 3\n", "web.toml:1: listen: expected a table, [listen]"},
        {"[listen]\naddress = 8080\n", "web.toml:2: listen.address: expected a string"},
        {"[listen]\naddress = '127.0.0.1'\n", "listen.address: '127.0.0.1' is not ADDRESS:PORT"},
        {"[listen]\naddress = ':80'\n", "is not ADDRESS:PORT"},
        {"[listen]\naddress = 'x:99999'\n", "is not ADDRESS:PORT"},
        {"[limits]\nconnections = 0\n", "limits.connections: expected a whole number from 1"},
        {"[limits]\n\nidle_seconds = 1.5\n", "web.toml:3: limits.idle_seconds"},
        {"[control]\ndirectories = []\n", "control.directories: expected an array"},
        {"[control]\ndirectories = ['x', 3]\n", "control.directories: expected a string in each"},
        {"[listen\n", "web.toml:1:"},
    };
    for (const auto& [text, message] : cases) {
        const auto refused = parse_settings(text, "web.toml");
        ASSERT_FALSE(refused) << text;
        EXPECT_THAT(refused.error().context, HasSubstr(message)) << text;
    }
}

}  // namespace
}  // namespace antipode::web
