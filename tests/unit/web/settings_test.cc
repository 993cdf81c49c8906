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

TEST(WebSettings, TheCertificateIsOursToMakeOrTheCustomers) {
    const auto ours = parse_settings(
        "[listen]\naddress = '0.0.0.0:8443'\ntls = true\n[state]\ndirectory = '/s'\n", "web.toml");
    ASSERT_TRUE(ours) << ours.error().to_string();
    EXPECT_EQ(ours->https.certificate, "/s/certificate.pem");
    EXPECT_EQ(ours->https.key, "/s/key.pem");
    EXPECT_TRUE(ours->https_is_ours);
    EXPECT_EQ(ours->tls_least, TlsLeast::v1_3);
    const auto theirs = parse_settings(
        "[listen]\ntls = true\ncertificate = 'c'\nkey = 'k'\ntls_minimum = '1.2'\n", "web.toml");
    ASSERT_TRUE(theirs);
    EXPECT_EQ(theirs->https.certificate, "c");
    EXPECT_FALSE(theirs->https_is_ours);
    EXPECT_EQ(theirs->tls_least, TlsLeast::v1_2);
    EXPECT_EQ(database_path(*ours), "/s/web.db");
    EXPECT_EQ(database_path(*theirs), ":memory:");
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
        {"[listen]\naddress = '0.0.0.0:8443'\n", "0.0.0.0 is not loopback, and listen.tls is off"},
        {"[listen]\ntls = true\n", "listen.tls: needs listen.certificate and listen.key, or state"},
        {"[listen]\ntls = true\nkey = 'k'\n", "give both or neither"},
        {"[listen]\ntls = 'yes'\n", "listen.tls: expected true or false"},
        {"[listen]\ntls_minimum = '1.1'\n", "listen.tls_minimum: expected"},
        {"[access]\nloopback_read = 1\n", "access.loopback_read: expected true or false"},
        {"[state]\nfolder = 'x'\n", "state.folder: no such setting"},
    };
    for (const auto& [text, message] : cases) {
        const auto refused = parse_settings(text, "web.toml");
        ASSERT_FALSE(refused) << text;
        EXPECT_THAT(refused.error().context, HasSubstr(message)) << text;
    }
}

}  // namespace
}  // namespace antipode::web
