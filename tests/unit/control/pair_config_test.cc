// What a site knows about its pair: read whole, or refused with file, line and setting.
#include "replicator/control/pair_config.h"

#include <gtest/gtest.h>

#include "tests/unit/vmm/temporary_file.h"

namespace antipode::control {
namespace {

constexpr const char* kFull = R"([pair]
name = "web1"
site = "site-a"
peer_site = "site-b"
role = "primary"
state_directory = "/var/lib/antipode/web1"

[channel]
listen = "tcp://10.0.0.1:7100"
peer = "tcp://10.0.0.2:7100"
own_key = "channel.key"
peer_key = "peer.pub"

[heartbeat]
listen = "10.0.0.1:7101"
peer = "10.0.0.2:7101"
key = "heartbeat.key"

[tiebreaker]
address = "10.0.0.3:7200"
ca = "ca.pem"
certificate = "site.pem"
key = "/etc/keys/site.key"

[control]
socket = "/run/antipode/web1.sock"
)";

// The file with one line changed; `to` empty = without it.
std::string with(std::string_view from, std::string_view to) {
    std::string text = kFull;
    const auto at = text.find(from);
    if (at == std::string::npos) throw std::invalid_argument(std::string(from));
    if (to.empty()) {
        const auto end = text.find('\n', at);
        text.erase(at, end - at + 1);
    } else {
        text.replace(at, from.size(), to);
    }
    return text;
}

std::string problem(const std::string& text) {
    const auto config = parse_pair_config(text, "pair.toml");
    if (config) return "";
    EXPECT_EQ(config.error().code, Errc::invalid_argument);
    EXPECT_EQ(config.error().context.rfind("pair.toml:", 0), 0u) << config.error().context;
    return config.error().context.substr(10);
}

TEST(PairConfigTest, Everything) {
    const auto parsed = parse_pair_config(kFull, "/etc/antipode/vms/web1/pair.toml");
    ASSERT_TRUE(parsed) << parsed.error().to_string();
    const auto& config = *parsed;
    EXPECT_EQ(config.pair, Name::literal("web1"));
    EXPECT_EQ(config.site, Name::literal("site-a"));
    EXPECT_EQ(config.peer_site, Name::literal("site-b"));
    EXPECT_EQ(config.first_role, PairConfig::FirstRole::primary);
    EXPECT_EQ(config.rejoin, SelfHelp::automatic) << "unless it is said";
    EXPECT_EQ(config.reclaim, SelfHelp::automatic) << "unless it is said";
    EXPECT_EQ(config.state_directory, "/var/lib/antipode/web1");
    EXPECT_EQ(config.channel_listen, "tcp://10.0.0.1:7100");
    EXPECT_EQ(config.channel_peer, "tcp://10.0.0.2:7100");
    EXPECT_EQ(config.channel_own_key, "/etc/antipode/vms/web1/channel.key");
    EXPECT_EQ(config.channel_peer_key, "/etc/antipode/vms/web1/peer.pub");
    EXPECT_EQ(config.heartbeat_listen, "10.0.0.1:7101");
    EXPECT_EQ(config.heartbeat_key, "/etc/antipode/vms/web1/heartbeat.key");
    EXPECT_EQ(config.heartbeat_interval, std::chrono::milliseconds(20));
    EXPECT_EQ(config.tiebreaker_address, "10.0.0.3:7200");
    EXPECT_EQ(config.tiebreaker_ca, "/etc/antipode/vms/web1/ca.pem");
    EXPECT_EQ(config.tiebreaker_key, "/etc/keys/site.key");
    EXPECT_EQ(config.tiebreaker_crl, "") << "nothing is revoked unless it is said";
    EXPECT_EQ(config.control_socket, "/run/antipode/web1.sock");
    EXPECT_EQ(config.digest_interval, std::chrono::seconds(1));
    EXPECT_EQ(config.log_buffer_bytes, uint64_t{64} << 20);
    EXPECT_EQ(config.checkpoint_output_delay, std::chrono::milliseconds(100));
    EXPECT_EQ(config.checkpoint_bandwidth, 0u);
    EXPECT_EQ(config.lockstep_after, std::chrono::minutes(10));
}

TEST(PairConfigTest, WhatIsOptional) {
    auto text = with("key = \"heartbeat.key\"", "key = \"heartbeat.key\"\ninterval_ms = 50");
    text += "[replay]\ndigest_interval_ms = 0\nlog_buffer_mib = 128\n";
    text += "[checkpoint]\noutput_delay_ms = 20\nbandwidth_mib = 3\n";
    text += "[auto]\nlockstep_after_s = 90\n";
    const auto config = parse_pair_config(text, "pair.toml");
    ASSERT_TRUE(config) << config.error().to_string();
    EXPECT_EQ(config->heartbeat_interval, std::chrono::milliseconds(50));
    EXPECT_EQ(config->digest_interval, Duration::zero());
    EXPECT_EQ(config->log_buffer_bytes, uint64_t{128} << 20);
    EXPECT_EQ(config->checkpoint_output_delay, std::chrono::milliseconds(20));
    EXPECT_EQ(config->checkpoint_bandwidth, uint64_t{3} << 20);
    EXPECT_EQ(config->lockstep_after, std::chrono::seconds(90));
}

TEST(PairConfigTest, WhatTheLineMayCarry) {
    const auto text =
        with("peer_key = \"peer.pub\"",
             "peer_key = \"peer.pub\"\nbulk_schedule = \"always 50MB; mon-fri 08:00-18:00 "
             "5MB\"\nlong_window = true\ncapture = \"channel.cap\"\ncapture_mib = 64");
    const auto config = parse_pair_config(text, "/etc/antipode/vms/web1/pair.toml");
    ASSERT_TRUE(config) << config.error().to_string();
    EXPECT_EQ(config->bulk_schedule.cap_at(0, 12 * 60), 5'000'000u);
    EXPECT_EQ(config->bulk_schedule.cap_at(6, 12 * 60), 50'000'000u);
    EXPECT_TRUE(config->long_window);
    EXPECT_EQ(config->capture_path, "/etc/antipode/vms/web1/channel.cap");
    EXPECT_EQ(config->capture_bytes_max, uint64_t{64} << 20);
    EXPECT_EQ(problem(with("peer_key = \"peer.pub\"",
                           "peer_key = \"peer.pub\"\nbulk_schedule = \"mon-fry 08:00-18:00 5MB\"")),
              " channel.bulk_schedule: rule 1: 'fry' is no day, expected mon to sun");
}

TEST(PairConfigTest, ASecondPathForHeartbeats) {
    const auto config = parse_pair_config(
        with("key = \"heartbeat.key\"",
             "key = \"heartbeat.key\"\nsecond_listen = \"10.1.0.1:7101\"\nsecond_peer = "
             "\"10.1.0.2:7101\""),
        "pair.toml");
    ASSERT_TRUE(config) << config.error().to_string();
    EXPECT_EQ(config->second_heartbeat_listen, "10.1.0.1:7101");
    EXPECT_EQ(config->second_heartbeat_peer, "10.1.0.2:7101");
    EXPECT_EQ(problem(with("key = \"heartbeat.key\"",
                           "key = \"heartbeat.key\"\nsecond_listen = \"10.1.0.1:7101\"")),
              " heartbeat.second_peer is missing, for there is second_listen");
    EXPECT_EQ(problem(with("key = \"heartbeat.key\"",
                           "key = \"heartbeat.key\"\nsecond_peer = \"10.1.0.1:7101\"")),
              " heartbeat.second_listen is missing, for there is second_peer");
    EXPECT_EQ(problem(with("key = \"heartbeat.key\"",
                           "key = \"heartbeat.key\"\nsecond_listen = \"x\"\nsecond_peer = "
                           "\"10.1.0.1:7101\"")),
              " heartbeat.second_listen is \"x\", not HOST:PORT");
}

constexpr const char* kNextSite = R"([next_site]
site = "a-third"
channel = "tcp://10.0.0.4:7100"
channel_key = "a-third.pub"
heartbeat = "10.0.0.4:7101"
heartbeat_key = "a-third.key"
)";

TEST(PairConfigTest, AThirdSite) {
    auto config = parse_pair_config(std::string(kFull) + kNextSite + "spare_after_s = 2.5\n",
                                    "/etc/antipode/vms/web1/pair.toml");
    ASSERT_TRUE(config) << config.error().to_string();
    EXPECT_EQ(config->spare_after, std::chrono::milliseconds(2500));
    const Name a = Name::literal("site-a");
    const Name b = Name::literal("site-b");
    const Name third = Name::literal("a-third");
    EXPECT_EQ(config->sites(), (wire::Sites{a, b, third})) << "last, whatever its name";
    EXPECT_EQ(config->peer(b).channel, "tcp://10.0.0.2:7100");
    EXPECT_EQ(config->peer(b).channel_key, "/etc/antipode/vms/web1/peer.pub");
    EXPECT_EQ(config->peer(third).channel, "tcp://10.0.0.4:7100");
    EXPECT_EQ(config->peer(third).channel_key, "/etc/antipode/vms/web1/a-third.pub");
    EXPECT_EQ(config->peer(third).heartbeat, "10.0.0.4:7101");
    EXPECT_EQ(config->peer(third).heartbeat_key, "/etc/antipode/vms/web1/a-third.key");

    config = parse_pair_config(with("\"primary\"", "\"spare\"") + kNextSite, "pair.toml");
    ASSERT_TRUE(config) << config.error().to_string();
    EXPECT_EQ(config->spare_after, std::chrono::seconds(60));
    EXPECT_EQ(config->sites(), (wire::Sites{third, b, a})) << "this one is the third";

    config = parse_pair_config(kFull, "pair.toml");
    ASSERT_TRUE(config);
    EXPECT_EQ(config->sites(), wire::Sites{}) << "two sites";
}

TEST(PairConfigTest, AThirdSiteThatCannotBe) {
    const std::string full = kFull;
    EXPECT_EQ(problem(full + kNextSite + kNextSite).empty(), false);
    std::string twice = kNextSite;
    twice.replace(0, std::string("[next_site]").size(), "[[next_site]]");
    EXPECT_EQ(problem(full + twice + twice),
              "27: next_site is given more than once: a pair has three sites at most");
    EXPECT_EQ(problem(with("\"primary\"", "\"spare\"")),
              " pair.role is \"spare\", so next_site has to name the other of the two sites beside "
              "pair.peer_site");
    const auto changed = [&](std::string_view from, std::string_view to) {
        std::string text = kNextSite;
        text.replace(text.find(from), from.size(), to);
        return problem(full + text);
    };
    EXPECT_EQ(changed("a-third\"", "site-b\""),
              " next_site.site is site-b, which is pair.peer_site already");
    EXPECT_EQ(changed("a-third\"", "site-a\""),
              " next_site.site is site-a, which is pair.site already");
    EXPECT_EQ(changed("10.0.0.4:7101", "10.0.0.4"),
              " next_site.heartbeat is \"10.0.0.4\", not HOST:PORT");
    EXPECT_EQ(changed("tcp://", "udp://"),
              " next_site.channel is \"udp://10.0.0.4:7100\", not tcp://ADDRESS:PORT");
    EXPECT_EQ(changed("channel_key = \"a-third.pub\"\n", ""), " next_site.channel_key is missing");
    EXPECT_EQ(changed("heartbeat_key", "second_heartbeat = \"10.1.0.4:7101\"\nheartbeat_key"),
              " next_site.second_heartbeat and heartbeat.second_listen need each other");
}

TEST(PairConfigTest, TheBackup) {
    const auto config = parse_pair_config(with("\"primary\"", "\"backup\""), "pair.toml");
    ASSERT_TRUE(config);
    EXPECT_EQ(config->first_role, PairConfig::FirstRole::backup);
}

TEST(PairConfigTest, RejoiningAndReclaimingByItselfOrByAnOperator) {
    for (const auto& [key, policy] :
         {std::pair("rejoin", &PairConfig::rejoin), std::pair("reclaim", &PairConfig::reclaim)}) {
        for (const auto& [word, wanted] :
             {std::pair("automatic", SelfHelp::automatic), std::pair("wait", SelfHelp::wait)}) {
            const auto config = parse_pair_config(
                with("role =", fmt::format("{} = \"{}\"\nrole =", key, word)), "pair.toml");
            ASSERT_TRUE(config) << config.error().to_string();
            EXPECT_EQ((*config).*policy, wanted) << key << " " << word;
        }
        EXPECT_EQ(problem(with("role =", fmt::format("{} = \"never\"\nrole =", key))),
                  fmt::format(" pair.{} is \"never\", not \"automatic\" or \"wait\"", key));
        EXPECT_EQ(problem(with("role =", fmt::format("{} = 1\nrole =", key))),
                  fmt::format("5: pair.{} is not a string with text in it", key));
    }
}

TEST(PairConfigTest, TheListOfTheRevokedIsBesideIt) {
    const auto config =
        parse_pair_config(with("ca = \"ca.pem\"", "ca = \"ca.pem\"\ncrl = \"ca.crl\""),
                          "/etc/antipode/vms/web1/pair.toml");
    ASSERT_TRUE(config) << config.error().to_string();
    EXPECT_EQ(config->tiebreaker_crl, "/etc/antipode/vms/web1/ca.crl");
}

TEST(PairConfigTest, EachSettingThatIsMissingIsNamed) {
    struct Case {
        const char* line;
        const char* setting;
    };
    for (const Case each :
         {Case{"name =", "pair.name"}, Case{"site =", "pair.site"},
          Case{"peer_site =", "pair.peer_site"}, Case{"role =", "pair.role"},
          Case{"state_directory =", "pair.state_directory"},
          Case{"listen = \"tcp", "channel.listen"}, Case{"peer = \"tcp", "channel.peer"},
          Case{"own_key =", "channel.own_key"}, Case{"peer_key =", "channel.peer_key"},
          Case{"listen = \"10", "heartbeat.listen"}, Case{"peer = \"10", "heartbeat.peer"},
          Case{"key = \"heartbeat", "heartbeat.key"}, Case{"address =", "tiebreaker.address"},
          Case{"ca =", "tiebreaker.ca"}, Case{"certificate =", "tiebreaker.certificate"},
          Case{"key = \"/etc", "tiebreaker.key"}, Case{"socket =", "control.socket"}}) {
        EXPECT_EQ(problem(with(each.line, "")), fmt::format(" {} is missing", each.setting));
    }
}

TEST(PairConfigTest, EachSectionThatIsMissingIsNamed) {
    for (const char* section : {"pair", "channel", "heartbeat", "tiebreaker", "control"}) {
        std::string text = kFull;
        const auto at = text.find(fmt::format("[{}]", section));
        const auto end = text.find("\n[", at);
        text.erase(at, end == std::string::npos ? end : end + 1 - at);
        EXPECT_EQ(problem(text), fmt::format(" {} is missing", section));
    }
}

TEST(PairConfigTest, WhatIsNotKnownIsNamedWithItsLine) {
    EXPECT_EQ(problem(with("role =", "rolle = 1\nrole =")), "5: pair.rolle is not a setting");
    EXPECT_EQ(problem(std::string(kFull) + "[extra]\n"), "27: extra is not a setting");
    EXPECT_EQ(problem(std::string("x = 1\n") + kFull), "1: x is not a setting");
    EXPECT_EQ(problem(std::string(kFull) + "[replay]\nspeed = 1\n"),
              "28: replay.speed is not a setting");
    EXPECT_EQ(problem(std::string("control = 1\n") + with("[control]", "[replay]")),
              "1: control is not a section");
}

TEST(PairConfigTest, WhatIsNoToml) {
    EXPECT_EQ(problem("[pair").rfind("1: ", 0), 0u);
    EXPECT_EQ(problem("[pair]\n\nname = \n").rfind("3: ", 0), 0u);
    EXPECT_EQ(problem(std::string(kFull) + "[pair]\n").rfind("27: ", 0), 0u);  // twice
    EXPECT_EQ(problem(with("name =", "name = \"a\"\nname =")).rfind("3: ", 0), 0u);
    EXPECT_EQ(problem(std::string("\xff\xfe")).rfind("1: ", 0), 0u);
}

TEST(PairConfigTest, WhatHasTheWrongType) {
    EXPECT_EQ(problem(with("\"/var/lib/antipode/web1\"", "7")),
              "6: pair.state_directory is not a string with text in it");
    EXPECT_EQ(problem(with("\"/var/lib/antipode/web1\"", "\"\"")),
              "6: pair.state_directory is not a string with text in it");
    for (const char* bad : {"4", "1001", "-20", "20.5", "\"20\"", "true"}) {
        EXPECT_EQ(problem(with("key = \"heartbeat.key\"",
                               fmt::format("key = \"k\"\ninterval_ms = {}", bad))),
                  "18: heartbeat.interval_ms is not a whole number from 5 to 1000")
            << bad;
    }
    EXPECT_EQ(problem(std::string(kFull) + "[auto]\nlockstep_after_s = 0\n"),
              "28: auto.lockstep_after_s is not a number from 1 to 86400");
    EXPECT_EQ(problem(std::string(kFull) + "[checkpoint]\noutput_delay_ms = 1\n"),
              "28: checkpoint.output_delay_ms is not a whole number from 2 to 10000");
    EXPECT_EQ(problem(std::string(kFull) + "[replay]\nlog_buffer_mib = 3\n"),
              "28: replay.log_buffer_mib is not a whole number from 4 to 4096");
}

TEST(PairConfigTest, NamesAndRoles) {
    EXPECT_EQ(problem(with("\"primary\"", "\"leader\"")),
              " pair.role is \"leader\", not \"primary\", \"backup\" or \"spare\"");
    EXPECT_EQ(problem(with("\"site-b\"", "\"site-a\"")),
              " pair.site and peer_site are both site-a");
    for (const char* setting : {"web1\"", "site-a\"", "site-b\""}) {
        const auto text = problem(with(setting, "Not A Name\""));
        EXPECT_EQ(text.rfind(" pair.", 0), 0u) << text;
    }
}

TEST(PairConfigTest, Addresses) {
    EXPECT_EQ(problem(with("tcp://10.0.0.1:7100", "10.0.0.1:7100")),
              " channel.listen is \"10.0.0.1:7100\", not tcp://ADDRESS:PORT");
    EXPECT_EQ(problem(with("tcp://10.0.0.2:7100", "ipc:///tmp/x")),
              " channel.peer is \"ipc:///tmp/x\", not tcp://ADDRESS:PORT");
    EXPECT_EQ(problem(with("tcp://10.0.0.1:7100", "tcp://10.0.0.1")),
              " channel.listen is \"10.0.0.1\", not HOST:PORT");
    for (const char* bad : {"10.0.0.1", "10.0.0.1:", ":7101", "10.0.0.1:0", "10.0.0.1:65536",
                            "10.0.0.1:71x", "10.0.0.1:-1", "[]:7101"}) {
        EXPECT_EQ(problem(with("10.0.0.1:7101", bad)),
                  fmt::format(" heartbeat.listen is \"{}\", not HOST:PORT", bad));
    }
}

TEST(PairConfigTest, HostAndPort) {
    const auto parse = [](std::string_view text) {
        const auto result = parse_host_port(text, "x");
        return result ? fmt::format("{}|{}", result->host, result->port) : "refused";
    };
    EXPECT_EQ(parse("a.example:1"), "a.example|1");
    EXPECT_EQ(parse("[::1]:65535"), "::1|65535");
    EXPECT_EQ(parse("[fe80::1%eth0]:7"), "fe80::1%eth0|7");
    EXPECT_EQ(parse(""), "refused");
    EXPECT_EQ(parse(":"), "refused");
    EXPECT_EQ(parse("[:1"), "refused");
    EXPECT_EQ(parse("]:1"), "refused");
}

TEST(PairConfigTest, Files) {
    const std::string text = kFull;
    const vmm::TemporaryFile file(std::as_bytes(std::span(text)));
    EXPECT_TRUE(load_pair_config(file.path()));
    const auto none = load_pair_config("/nonexistent/pair.toml");
    ASSERT_FALSE(none);
    EXPECT_EQ(none.error().context, "/nonexistent/pair.toml: No such file or directory");
    const std::string large(2 << 20, '\n');
    const vmm::TemporaryFile large_file(std::as_bytes(std::span(large)));
    const auto refused = load_pair_config(large_file.path());
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().context, large_file.path() + ": is larger than 1048576 bytes");
}

}  // namespace
}  // namespace antipode::control
