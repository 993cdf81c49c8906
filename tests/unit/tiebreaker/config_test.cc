#include "tiebreaker/config.h"

#include "tests/unit/tiebreaker/fixture.h"
#include "tiebreaker/atomic_file.h"

namespace antipode::tiebreaker {
namespace {

constexpr const char* kGood = R"(
listen = "127.0.0.1:7200"
[tls]
ca = "ca.pem"
certificate = "/etc/x/tb.pem"
key = "tb.key"
[store]
path = "arbiter.db"
)";

class ConfigTest : public ::testing::Test {
  protected:
    Result<Config> load(const std::string& text) {
        EXPECT_TRUE(write_file(path_, text, 0600, Existing::replace));
        return load_config(path_);
    }
    void expect_error(const std::string& text, std::string_view says) {
        const auto config = load(text);
        ASSERT_FALSE(config.has_value()) << text;
        EXPECT_TRUE(config.error().context.starts_with(path_)) << config.error().context;
        EXPECT_NE(config.error().context.find(says), std::string::npos)
            << config.error().context << ", expected: " << says;
    }
    static std::string with(std::string_view line) {
        return std::string(kGood) + std::string(line);
    }
    testing::TempDirectory directory_;
    std::string path_ = directory_ / "tiebreaker.toml";
};

TEST_F(ConfigTest, ShortestGoodFile) {
    const auto config = load(kGood);
    ASSERT_TRUE(config.has_value()) << config.error().context;
    EXPECT_EQ(config->tls.ca, directory_ / "ca.pem");
    EXPECT_EQ(config->tls.certificate, "/etc/x/tb.pem");
    EXPECT_EQ(config->database, directory_ / "arbiter.db");
    EXPECT_EQ(config->store, StoreKind::sqlite);
    EXPECT_TRUE(config->admin_socket.empty());
}

TEST_F(ConfigTest, EveryLimitIsRead) {
    const auto config = load(with(R"(
[limits]
connections = 7
connections_per_site = 6
pairs = 5
watches_per_connection = 4
requests_per_second = 0.5
requests_burst = 3
site_requests_per_second = 20
site_requests_burst = 30
handshakes = 9
handshake_seconds = 1.5
hello_seconds = 2
frame_seconds = 3
idle_seconds = 40
write_seconds = 5
[admin]
socket = "/run/x.sock"
)"));
    ASSERT_TRUE(config.has_value()) << config.error().context;
    EXPECT_EQ(config->server.connections_max, 7u);
    EXPECT_EQ(config->server.connections_per_site_max, 6u);
    EXPECT_EQ(config->service.pairs_max, 5u);
    EXPECT_EQ(config->server.session.requests_per_second, 0.5);
    EXPECT_EQ(config->listener.handshake_limit, std::chrono::milliseconds(1500));
    EXPECT_EQ(config->server.session.idle_limit, std::chrono::seconds(40));
    EXPECT_EQ(config->admin_socket, "/run/x.sock");
}

TEST_F(ConfigTest, ThePackagedExampleIsGood) {
    const auto example = read_file(ANTIPODE_EXAMPLES "/tiebreaker.toml", 1 << 20);
    ASSERT_TRUE(example.has_value()) << example.error().context;
    const auto config = load(*example);
    ASSERT_TRUE(config.has_value()) << config.error().context;
}

TEST_F(ConfigTest, AnEtcdStore) {
    std::string good(kGood);
    good.erase(good.find("path = "));
    good += "kind = \"etcd\"\n";
    expect_error(good, "store.endpoints is missing");
    const std::string rest =
        "ca = \"etcd-ca.pem\"\ncertificate = \"etcd.pem\"\nkey = \"etcd.key\"\n";
    const auto with_endpoints = [&](std::string_view list) {
        return good + rest + "mark = \"/var/x/etcd.mark\"\nendpoints = " + std::string(list) + "\n";
    };
    const auto config = load(with_endpoints(R"(["https://10.0.0.1:2379", "https://e2:2379"])") +
                             "prefix = \"/ha/\"\nrequest_seconds = 0.5\n");
    ASSERT_TRUE(config.has_value()) << config.error().context;
    EXPECT_EQ(config->store, StoreKind::etcd);
    EXPECT_EQ(config->etcd.client.endpoints.size(), 2u);
    EXPECT_EQ(config->etcd.client.ca, directory_ / "etcd-ca.pem");
    EXPECT_EQ(config->etcd.client.key, directory_ / "etcd.key");
    EXPECT_EQ(config->etcd.client.request_limit, std::chrono::milliseconds(500));
    EXPECT_EQ(config->etcd.prefix, "/ha/");
    EXPECT_EQ(config->etcd.mark, "/var/x/etcd.mark");
    expect_error(good + "endpoints = [\"https://h:1\"]\n" + rest, "store.mark is missing");
    expect_error(good + "endpoints = [\"https://h:1\"]\nca = \"x\"\n",
                 "store.certificate is missing");
    expect_error(with_endpoints("[]"), "store.endpoints names 0, expected 1 to 9");
    expect_error(with_endpoints("[\"http://h:1\"]"), "is not encrypted");
    expect_error(with_endpoints("[\"https://h:1\"]") + "prefix = \"antipode\"\n", "store: prefix");
    expect_error(with_endpoints("[\"https://h:1\"]") + "request_seconds = 60\n",
                 "store.request_seconds");
    expect_error(with_endpoints("[\"https://h:1\"]") + "path = \"x.db\"\n",
                 "store.path is for kind = \"sqlite\"");
}

TEST_F(ConfigTest, WhatIsWrongIsNamedWithItsLine) {
    expect_error("listen = ", ":1: ");
    expect_error("[tls]\n", "listen is missing");
    expect_error("listen = \"127.0.0.1:1\"\n", "tls is missing");
    expect_error("listen = 5\n", "listen is not a string");
    expect_error(with("[limits]\nconections = 5\n"), ":10: limits.conections is not a setting");
    expect_error(with("[limits]\nconnections = 0\n"),
                 "limits.connections is not a whole number from 1");
    expect_error(with("[limits]\nconnections = 1.5\n"), "not a whole number");
    expect_error(with("[limits]\nconnections = \"9\"\n"), ":10: limits.connections");
    expect_error(with("[limits]\nidle_seconds = -1\n"), "limits.idle_seconds");
    expect_error(with("kind = \"mysql\"\n"), "store.kind is 'mysql'");
    expect_error(with("prefix = \"/x/\"\n"), "store.prefix is for kind = \"etcd\"");
    expect_error(with("[surprise]\n"), "surprise is not a setting");
    std::string text(kGood);
    text.replace(text.find("127.0.0.1:7200"), 14, "everywhere:7200");
    expect_error(text, "listen everywhere:7200: is no address");
    text = kGood;
    text.erase(text.find("key = "), 15);
    expect_error(text, "tls.key is missing");
    const auto absent = load_config(directory_ / "absent.toml");
    ASSERT_FALSE(absent.has_value());
    EXPECT_NE(absent.error().context.find("absent.toml: No such file"), std::string::npos);
}

}  // namespace
}  // namespace antipode::tiebreaker
