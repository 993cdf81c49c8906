// The code of a pairing and the envelopes under it, and children that run within limits.
#include <boost/json/parse.hpp>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>

#include "common/base/random.h"
#include "web/child.h"
#include "web/cli/table.h"
#include "web/http/https_client.h"
#include "web/pairing/code.h"
#include "web/pairing/link_test.h"
#include "web/pairing/seal.h"
#include "web/pairing/vm_files.h"

namespace antipode::web {
namespace {

PairingCode code_for(const std::string& host, uint16_t port = 8443) {
    PairingCode code;
    code.host = host;
    code.port = port;
    code.fingerprint = std::string(PairingCode::kFingerprintBytes, '\x5a');
    code.secret = std::string("\x00\xff secret 12", PairingCode::kSecretBytes);
    return code;
}

TEST(PairingCode, comes_back_whatever_the_host) {
    for (const char* host : {"192.0.2.1", "2001:db8::1", "site-a.example.org", "a"}) {
        const PairingCode code = code_for(host);
        const auto text = to_text(code);
        ASSERT_TRUE(text);
        EXPECT_EQ(parse_pairing_code(*text).value(), code) << host;
    }
    EXPECT_FALSE(to_text(code_for(std::string(64, 'x'))));
    EXPECT_FALSE(to_text(code_for("")));
}

TEST(PairingCode, case_spaces_and_dashes_mean_nothing) {
    const PairingCode code = code_for("192.0.2.1");
    std::string text = to_text(code).value();
    std::string loose = "  ";
    for (const char c : text) {
        if (c == '-') continue;
        // What is read as a digit may be typed as the letter that looks like it.
        loose += c == '0' ? 'o' : c == '1' ? 'l' : static_cast<char>(std::tolower(c));
        loose += loose.size() % 7 == 0 ? "-" : "";
    }
    EXPECT_EQ(parse_pairing_code(loose).value(), code);
}

// Every single wrong or missing character, and every swap of neighbours, is found.
TEST(PairingCode, mistyping_is_found) {
    constexpr std::string_view kAlphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    const std::string text = to_text(code_for("192.0.2.1")).value();
    for (size_t at = 0; at < text.size(); ++at) {
        if (text[at] == '-') continue;
        std::string shorter = text;
        shorter.erase(at, 1);
        EXPECT_FALSE(parse_pairing_code(shorter)) << at;
        for (const char c : kAlphabet) {
            std::string wrong = text;
            wrong[at] = c;
            if (wrong == text) continue;
            EXPECT_FALSE(parse_pairing_code(wrong)) << at << " " << c;
        }
    }
}

TEST(PairingCode, what_is_no_code_is_refused) {
    EXPECT_FALSE(parse_pairing_code(""));
    EXPECT_FALSE(parse_pairing_code("hello, world!"));
    EXPECT_FALSE(parse_pairing_code(std::string(100'000, 'A')));
    Random random(7);
    for (int i = 0; i < 20'000; ++i) {
        std::string noise(random.below(120), '\0');
        for (char& c : noise) c = static_cast<char>(random.below(256));
        EXPECT_FALSE(parse_pairing_code(noise));
    }
}

TEST(Seal, opens_with_its_own_key_and_use_only) {
    const PairingKeys keys = PairingKeys::derive("secret", "fingerprint");
    boost::json::object payload;
    payload["site"] = "prague";
    const auto sealed = parse_sealed(seal(keys.id, keys.mac_key, "hello request", payload)).value();
    EXPECT_EQ(open_sealed(sealed, keys.mac_key, "hello request").value(), payload);
    // Given back to its author, or used for another step, it is not a message.
    EXPECT_EQ(open_sealed(sealed, keys.mac_key, "hello answer").error().code, Errc::denied);
    EXPECT_EQ(open_sealed(sealed, keys.mac_key, "finish request").error().code, Errc::denied);
    EXPECT_EQ(open_sealed(sealed, keys.lasting, "hello request").error().code, Errc::denied);
    const PairingKeys others = PairingKeys::derive("secret", "another fingerprint");
    EXPECT_NE(others.id, keys.id);
    EXPECT_EQ(open_sealed(sealed, others.mac_key, "hello request").error().code, Errc::denied);
    Sealed forged = sealed;
    forged.payload[2] ^= 1;
    EXPECT_EQ(open_sealed(forged, keys.mac_key, "hello request").error().code, Errc::denied);
}

TEST(Seal, keys_tell_nothing_of_each_other) {
    const PairingKeys keys = PairingKeys::derive("secret", "fingerprint");
    EXPECT_NE(keys.mac_key, keys.lasting);
    EXPECT_EQ(keys.id.size(), 16U);
    EXPECT_FALSE(to_hex(keys.mac_key).starts_with(keys.id));
    EXPECT_EQ(from_hex(to_hex(keys.lasting)), keys.lasting);
    EXPECT_EQ(from_hex("AB:cd"), "\xab\xcd");
    EXPECT_EQ(from_hex("abc"), "");
    EXPECT_EQ(from_hex("zz"), "");
}

TEST(Seal, what_is_no_envelope_is_refused) {
    for (const char* text : {"null", "[]", "{}", R"({"id":1,"payload":"{}","mac":"x"})",
                             R"({"id":"0123456789abcdef","payload":"{}","mac":"short"})"}) {
        EXPECT_FALSE(parse_sealed(boost::json::parse(text))) << text;
    }
}

TEST(LinkJudgment, says_what_to_do) {
    LinkReport report;
    report.sent = 50;
    EXPECT_EQ(judge_link(report, "a", "b", 1, 2).verdict, LinkVerdict::broken);
    report.received = 50;
    report.channel_error = "Connection refused";
    const LinkJudgment closed = judge_link(report, "a", "b", 7100, 7101);
    EXPECT_EQ(closed.verdict, LinkVerdict::broken);
    EXPECT_NE(closed.text.find("TCP port 7100: Connection refused"), std::string::npos);
    report.channel_error.clear();
    report.bytes_per_second = 12.5e6;
    report.rtt_seconds = 0.05;
    EXPECT_EQ(judge_link(report, "a", "b", 1, 2).verdict, LinkVerdict::good);
    report.received = 45;
    EXPECT_EQ(judge_link(report, "a", "b", 1, 2).verdict, LinkVerdict::poor);
    const LinkReport again = link_report_from(to_json(report));
    EXPECT_EQ(to_json(again), to_json(report));
}

ChildOutcome run(std::vector<std::string> argv, std::chrono::milliseconds limit) {
    ChildCommand command;
    command.argv = std::move(argv);
    command.time_limit = limit;
    command.output_bytes_max = 1000;
    return run_child(command).value();
}

TEST(Child, its_output_and_its_end_are_told) {
    const auto good = run({"/bin/sh", "-c", "echo out; echo err >&2"}, std::chrono::seconds(20));
    EXPECT_EQ(good.exit_code, 0);
    EXPECT_EQ(good.output, "out\nerr\n");
    EXPECT_EQ(run({"/bin/sh", "-c", "exit 3"}, std::chrono::seconds(20)).verdict(), "exit code 3");
    const auto killed = run({"/bin/sh", "-c", "kill -9 $$"}, std::chrono::seconds(20));
    EXPECT_EQ(killed.verdict(), "killed by signal 9");
    ChildCommand missing;
    missing.argv = {"/nowhere/program"};
    EXPECT_FALSE(run_child(missing));
    missing.argv = {"relative"};
    EXPECT_EQ(run_child(missing).error().code, Errc::invalid_argument);
}

TEST(Child, neither_time_nor_output_is_without_end) {
    const auto slow =
        run({"/bin/sh", "-c", "sleep 600 & sleep 600"}, std::chrono::milliseconds(50));
    EXPECT_TRUE(slow.timed_out);
    EXPECT_EQ(slow.exit_code, -1);
    const auto loud = run({"/bin/sh", "-c", "yes | head -c 5000000"}, std::chrono::seconds(60));
    EXPECT_EQ(loud.exit_code, 0);
    EXPECT_EQ(loud.output.size(), 1000U);
}

TEST(HttpsUrl, is_taken_apart) {
    const auto url = parse_https_url("https://[2001:db8::1]:8443/a/b?c=d#e").value();
    EXPECT_EQ(url.target.host, "2001:db8::1");
    EXPECT_EQ(url.target.port, 8443);
    EXPECT_EQ(url.path, "/a/b?c=d");
    EXPECT_EQ(parse_https_url("https://example.org").value().path, "/");
    EXPECT_TRUE(parse_https_url("http://127.0.0.1:9000/x").value().target.plain);
    for (const char* bad : {"", "ftp://a/", "http://example.org/", "https://", "https://a:0/",
                            "https://a:x/", "https://u@h/", "https://a b/"}) {
        EXPECT_FALSE(parse_https_url(bad)) << bad;
    }
}

TEST(Table, columns_stand_below_each_other) {
    const auto items = boost::json::parse(
        R"([{"n":"web1","link":{"rtt":0.0502},"size":1048576,"up":true},
            {"n":"a\u001b[31mred","link":{},"size":null,"up":false}])");
    EXPECT_EQ(table(items, {{"NAME", "n"},
                            {"RTT", "link.rtt", Column::Kind::seconds},
                            {"SIZE", "size", Column::Kind::bytes},
                            {"UP", "up"}}),
              "NAME      RTT      SIZE     UP\n"
              "web1      50.2 ms  1.0 MiB  yes\n"
              "a[31mred  -        -        no\n");
    EXPECT_EQ(table(boost::json::array(), {{"NAME", "n"}}), "nothing\n");
}

TEST(VmFiles, lists_what_is_defined_and_finds_free_ports) {
    std::string pattern = testing::TempDir() + "vms-XXXXXX";
    const std::string directory = ::mkdtemp(pattern.data());
    for (const char* name : {"web1", "db", "example", "Not A Name"}) {
        std::filesystem::create_directories(directory + "/" + name);
        std::ofstream(directory + "/" + name + "/vm.json") << "{}";
    }
    PairPlan plan;
    plan.pair = Name::literal("db");
    plan.site = Name::literal("a");
    plan.peer_site = Name::literal("b");
    plan.own_address = "2001:db8::1";
    plan.peer_address = "192.0.2.1";
    std::ofstream(directory + "/db/pair.toml") << pair_toml(plan);
    const VmFiles files(directory, "/bin/false");
    const auto vms = files.list().value();
    ASSERT_EQ(vms.size(), 2U);
    EXPECT_EQ(vms[0].name, "db");
    EXPECT_TRUE(vms[0].paired);
    EXPECT_FALSE(vms[1].paired);
    EXPECT_EQ(files.free_ports(), 7102);
    EXPECT_NE(pair_toml(plan).find("listen = \"tcp://[2001:db8::1]:7100\""), std::string::npos);
    EXPECT_FALSE(files.begin("web1"));  // its program makes no keys
    std::filesystem::remove_all(directory);
}

}  // namespace
}  // namespace antipode::web
