// The programs as they are shipped: antipode-ca and antipode-tiebreaker as processes.
#include <cmath>
#include <csignal>
#include <filesystem>
#include <netinet/in.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/tiebreaker/child.h"
#include "tests/unit/tiebreaker/fixture.h"
#include "tiebreaker/atomic_file.h"

namespace antipode::tiebreaker::testing {
namespace {

class ProgramsTest : public ::testing::Test {
  protected:
    Finished ca(std::vector<std::string> arguments) {
        arguments.insert(arguments.begin(), ANTIPODE_CA);
        return run(directory_.path(), std::move(arguments));
    }
    Finished tiebreaker(std::vector<std::string> arguments) {
        arguments.insert(arguments.begin(), ANTIPODE_TIEBREAKER);
        return run(directory_.path(), std::move(arguments));
    }
    Finished admin(std::vector<std::string> arguments) {
        arguments.insert(arguments.begin(), {"admin", "--config", "tb.toml"});
        return tiebreaker(std::move(arguments));
    }
    void expect_good(const Finished& finished) {
        EXPECT_EQ(finished.exit_code, 0) << finished.error;
        EXPECT_EQ(finished.error, "");
    }
    // One clear line on stderr, an exit code that is not 0, and no word of a crash.
    void expect_refused(const Finished& finished, std::string_view says) {
        EXPECT_EQ(finished.exit_code, 1) << finished.out << finished.error;
        EXPECT_NE(finished.error.find(says), std::string::npos) << finished.error;
        EXPECT_EQ(std::count(finished.error.begin(), finished.error.end(), '\n'), 1)
            << finished.error;
    }
    // An authority, two sites, a tiebreaker and its configuration.
    void set_up() {
        expect_good(ca({"init", "--directory", "ca"}));
        expect_good(ca({"sign", "--directory", "ca", "--site", "site-a", "--pairs", "web1,db-*"}));
        expect_good(ca({"sign", "--directory", "ca", "--site", "site-b", "--pairs", "*"}));
        expect_good(ca({"sign", "--directory", "ca", "--tiebreaker", "tb", "--host", "127.0.0.1"}));
        port_ = free_port();
        write_config(port_);
    }
    void write_config(uint16_t port) {
        const std::string text = fmt::format(
            "listen = \"127.0.0.1:{}\"\n[tls]\nca = \"ca/ca.pem\"\ncrl = \"ca/ca.crl\"\n"
            "certificate = \"tb.pem\"\nkey = \"tb.key\"\n[store]\npath = \"arbiter.db\"\n"
            "[admin]\nsocket = \"admin.sock\"\n",
            port);
        ASSERT_TRUE(write_file(directory_ / "tb.toml", text, 0600, Existing::replace));
    }
    static uint16_t free_port() {
        const UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t length = sizeof(address);
        EXPECT_EQ(::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
        EXPECT_EQ(::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &length), 0);
        return ntohs(address.sin_port);
    }
    std::unique_ptr<DaemonProcess> start(std::vector<std::string> environment = {}) {
        auto daemon = std::make_unique<DaemonProcess>(
            directory_.path(), std::vector<std::string>{ANTIPODE_TIEBREAKER, "run", "tb.toml"},
            std::move(environment));
        EXPECT_NE(daemon->await("READY=1"), "") << daemon->log();
        return daemon;
    }
    std::unique_ptr<RawClient> connect(const std::string& site) {
        contexts_.push_back(raw_context({directory_ / "ca/ca.pem", "", directory_ / (site + ".pem"),
                                         directory_ / (site + ".key")}));
        auto client = std::make_unique<RawClient>(port_, contexts_.back().get());
        client->hello(site.c_str());
        return client;
    }
    wire::Answer create(RawClient& client, const char* pair = "web1") {
        return client.ask(request(wire::RequestKind::create, pair, 0, a1_, b1_));
    }
    const Member a1_ = member("site-a", 1);
    const Member b1_ = member("site-b", 1);
    TempDirectory directory_;
    uint16_t port_ = 0;
    std::vector<SslContextPointer> contexts_;
};

TEST_F(ProgramsTest, CertificatesFromBeginningToEnd) {
    expect_good(ca({"init", "--directory", "ca"}));
    expect_refused(ca({"init", "--directory", "ca"}), "holds an authority already");
    expect_good(ca({"request", "--site", "site-a", "--pairs", "web1"}));
    struct stat info {};
    ASSERT_EQ(::stat((directory_ / "site-a.key").c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 07777u, 0600u);
    expect_refused(ca({"sign", "--directory", "ca", "--request", "site-a.csr", "--site", "site-a",
                       "--pairs", "*"}),
                   "asks for antipode://site/site-a?pairs=web1, the command line grants");
    expect_good(ca({"sign", "--directory", "ca", "--request", "site-a.csr", "--site", "site-a",
                    "--pairs", "web1"}));
    expect_refused(ca({"sign", "--directory", "ca", "--request", "site-a.csr", "--site", "site-a",
                       "--pairs", "web1"}),
                   "site-a.pem: exists");
    const auto old = *read_file(directory_ / "site-a.pem", 1 << 20);
    expect_good(ca({"renew", "--directory", "ca", "--certificate", "site-a.pem", "--revoke-old"}));
    EXPECT_NE(*read_file(directory_ / "site-a.pem", 1 << 20), old);
    expect_good(
        ca({"revoke", "--directory", "ca", "--site", "site-a", "--reason", "key-compromise"}));
    expect_refused(ca({"revoke", "--directory", "ca", "--site", "site-a"}),
                   "has no valid certificate");
    expect_refused(ca({"renew", "--directory", "ca", "--certificate", "site-a.pem"}),
                   "was revoked on");
    const Finished list = ca({"list", "--directory", "ca"});
    expect_good(list);
    EXPECT_EQ(std::count(list.out.begin(), list.out.end(), '\n'), 2);
    EXPECT_NE(list.out.find("superseded"), std::string::npos);
    EXPECT_NE(list.out.find("key-compromise"), std::string::npos);
    EXPECT_EQ(env::revoked_serials(directory_ / "ca/ca.crl")->size(), 2u);
}

TEST_F(ProgramsTest, WrongCallsOfTheAuthorityAreNamed) {
    expect_refused(ca({"list", "--directory", "nowhere"}), "nowhere: is no authority");
    expect_good(ca({"init", "--directory", "ca"}));
    expect_refused(ca({"sign", "--directory", "ca", "--tiebreaker", "tb"}), "--host");
    expect_refused(ca({"sign", "--directory", "ca", "--site", "Site A"}), "--site: is not a name");
    expect_refused(ca({"sign", "--directory", "ca", "--site", "a", "--pairs", "*x"}),
                   "pair pattern '*x'");
    expect_refused(ca({"sign", "--directory", "ca", "--web", "w", "--host", "h", "--pairs", "x"}),
                   "only a site's");
    expect_refused(ca({"revoke", "--directory", "ca", "--serial", "00"}), "has not issued it");
    for (const auto& wrong : std::vector<std::vector<std::string>>{
             {}, {"sign", "--directory", "ca"}, {"init", "--days", "0"}, {"frobnicate"}}) {
        EXPECT_EQ(ca(wrong).exit_code, 2);
    }
}

TEST_F(ProgramsTest, WhatCannotStartSaysWhyInOneLine) {
    set_up();
    const auto run_refused = [&](std::string_view says) {
        expect_refused(tiebreaker({"run", "tb.toml"}), says);
    };
    expect_refused(tiebreaker({"run", "absent.toml"}), "absent.toml: No such file");
    {
        const UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t length = sizeof(address);
        ASSERT_EQ(::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
        ASSERT_EQ(::listen(fd.get(), 1), 0);
        ASSERT_EQ(::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &length), 0);
        write_config(ntohs(address.sin_port));
        const Finished finished = tiebreaker({"run", "tb.toml"});
        EXPECT_EQ(finished.exit_code, 1);
        EXPECT_NE(finished.error.find("Address already in use"), std::string::npos)
            << finished.error;
        write_config(port_);
    }
    ASSERT_EQ(::chmod((directory_ / "tb.key").c_str(), 0644), 0);
    run_refused("everybody may read it");
    ASSERT_EQ(::chmod((directory_ / "tb.key").c_str(), 0600), 0);
    ASSERT_EQ(::rename((directory_ / "tb.key").c_str(), (directory_ / "kept").c_str()), 0);
    run_refused("tb.key: No such file");
    ASSERT_EQ(::rename((directory_ / "kept").c_str(), (directory_ / "tb.key").c_str()), 0);
    ASSERT_TRUE(
        write_file(directory_ / "arbiter.db", std::string(9000, 'x'), 0600, Existing::replace));
    run_refused("arbiter.db: file is not a database");
    ::unlink((directory_ / "arbiter.db").c_str());
    auto first = start();
    run_refused("locked by another process");
    EXPECT_EQ(tiebreaker({"run", "tb.toml", "surplus"}).exit_code, 2);
}

TEST_F(ProgramsTest, ServesUntilItIsToldToStop) {
    set_up();
    expect_good(tiebreaker({"check", "tb.toml"}));
    auto daemon = start();
    auto a = connect("site-a");
    const auto created = create(*a);
    EXPECT_EQ(created.kind, wire::AnswerKind::paired);
    daemon->signal(SIGTERM);
    const auto goodbye = a->expect<wire::ArbiterError>(0);
    EXPECT_EQ(goodbye.code, Errc::closed);
    EXPECT_EQ(daemon->wait(), 0) << daemon->log();
    EXPECT_FALSE(std::filesystem::exists(directory_ / "admin.sock"));
}

TEST_F(ProgramsTest, FeedsTheWatchdogWhileItIsWell) {
    set_up();
    auto daemon = start({"WATCHDOG_USEC=300000"});
    EXPECT_NE(daemon->await("WATCHDOG=1"), "");
    EXPECT_NE(daemon->await("WATCHDOG=1"), "");
}

// Kill -9 at once after an answer, many times: what was granted stays granted.
TEST_F(ProgramsTest, GrantsSurviveKill9) {
    set_up();
    uint64_t epoch = 0;
    wire::StoreIdentity store;
    for (int round = 0; round < 8; ++round) {
        auto daemon = start();
        auto a = connect("site-a");
        if (round == 0) {
            const auto created = create(*a);
            epoch = created.record.epoch.value();
            store = created.store;
        }
        const auto now = a->ask(request(wire::RequestKind::query, "web1", 0, a1_));
        ASSERT_EQ(now.record.epoch.value(), epoch) << "round " << round;
        ASSERT_EQ(now.store, store);
        // The first grant takes it from the pair; the later ones move a solo holder on.
        const auto granted =
            a->ask(request(wire::RequestKind::acquire, "web1", epoch, a1_, {}, store));
        ASSERT_EQ(granted.kind, wire::AnswerKind::granted);
        ASSERT_EQ(granted.record.epoch.value(), epoch + 1);
        ++epoch;
        daemon->signal(SIGKILL);
        EXPECT_EQ(daemon->wait(), -SIGKILL);
    }
    expect_good(admin({"verify"}));
}

TEST_F(ProgramsTest, TheAdministratorsCommands) {
    set_up();
    auto daemon = start();
    auto a = connect("site-a");
    const auto created = create(*a);
    (void)create(*a, "db-1");
    Finished list = admin({"list"});
    expect_good(list);
    EXPECT_NE(list.out.find("web1"), std::string::npos);
    EXPECT_NE(list.out.find("2 pairs, store"), std::string::npos);
    expect_good(admin({"verify"}));
    expect_good(admin({"backup", "copy"}));
    expect_refused(admin({"backup", "copy"}), "copy: exists");
    EXPECT_NE(admin({"status"}).out.find("pairs 2"), std::string::npos);
    EXPECT_NE(admin({"metrics"}).out.find("antipode_tiebreaker_decisions_total"),
              std::string::npos);
    expect_refused(admin({"restore", "copy"}), "stop antipode-tiebreaker first");
    // Forgotten through the running daemon: its watchers and its memory know at once.
    expect_good(admin({"forget", "web1"}));
    expect_refused(admin({"forget", "nothing"}), "unknown_pair");
    const auto after = a->ask(request(wire::RequestKind::query, "web1", 0, a1_));
    EXPECT_EQ(after.record.mode, wire::PairMode::none);
    const Finished history = admin({"history", "web1"});
    expect_good(history);
    EXPECT_EQ(std::count(history.out.begin(), history.out.end(), '\n'), 2) << history.out;
    const std::string me = fmt::format("by administrator uid {}:", ::getuid());
    EXPECT_NE(history.out.find(me), std::string::npos) << history.out;
    daemon->signal(SIGTERM);
    ASSERT_EQ(daemon->wait(), 0);
    // And directly, without a daemon.
    expect_good(admin({"forget", "db-1"}));
    EXPECT_NE(admin({"history", "db-1"}).out.find(me), std::string::npos);
    expect_refused(admin({"forget", "nothing"}), "has no record");
    expect_good(admin({"restore", "copy"}));
    list = admin({"list"});
    EXPECT_NE(list.out.find("NOT ENROLLED"), std::string::npos) << list.out;
    expect_good(admin({"verify"}));
    auto again = start();
    auto b = connect("site-a");
    const auto refused = b->ask(request(wire::RequestKind::acquire, "web1",
                                        created.record.epoch.value(), a1_, {}, created.store));
    EXPECT_EQ(refused.reason, wire::RefusalReason::wrong_store);
    EXPECT_NE(refused.store, created.store);
}

// A certificate that is about to expire is said at the start, of a site's when it connects, and
// shown by the metrics, until it is renewed.
TEST_F(ProgramsTest, WhatExpiresSoonIsSaid) {
    set_up();
    expect_good(ca({"renew", "--directory", "ca", "--certificate", "tb.pem", "--days", "20"}));
    expect_good(ca({"renew", "--directory", "ca", "--certificate", "site-b.pem", "--days", "5"}));
    const auto expiry = [&](const std::string& whose) {
        const std::string text = admin({"metrics"}).out;
        const std::string line =
            "antipode_tiebreaker_certificate_not_after_timestamp_seconds{certificate=\"" + whose +
            "\"} ";
        const size_t at = text.find(line);
        EXPECT_NE(at, std::string::npos) << text;
        return at == std::string::npos ? 0 : std::stod(text.substr(at + line.size()));
    };
    const auto days_left = [&](const std::string& whose) {
        const std::chrono::duration<double> now =
            std::chrono::system_clock::now().time_since_epoch();
        return (expiry(whose) - now.count()) / 86400;
    };
    auto daemon = start();
    EXPECT_NEAR(days_left("own"), 20, 0.1);
    EXPECT_GT(days_left("authority"), 300);
    EXPECT_TRUE(std::isnan(expiry("client"))) << "nobody is connected";
    EXPECT_NE(daemon->log().find("tb.pem: expires in "), std::string::npos) << daemon->log();
    auto a = connect("site-a");
    EXPECT_GT(days_left("client"), 300);
    EXPECT_EQ(daemon->log().find("its certificate"), std::string::npos) << daemon->log();
    auto b = connect("site-b");
    auto c = connect("site-b");
    EXPECT_NEAR(days_left("client"), 5, 0.1);
    const std::string warned = "its certificate expires in ";
    const std::string log = daemon->log();
    ASSERT_NE(log.find(warned), std::string::npos) << log;
    EXPECT_EQ(log.find(warned), log.rfind(warned)) << "once a day is enough";
    expect_good(ca({"renew", "--directory", "ca", "--certificate", "tb.pem", "--days", "90"}));
    daemon->signal(SIGHUP);
    while (days_left("own") < 80 && !::testing::Test::HasFailure()) {
        a->send(2, wire::ArbiterPing{});
        (void)a->expect<wire::ArbiterPong>(2);
    }
}

// The files are replaced under the running daemon: the new ones count for who comes next.
TEST_F(ProgramsTest, ARevocationReachesARunningDaemon) {
    set_up();
    auto daemon = start();
    auto a = connect("site-a");
    auto b = connect("site-b");
    expect_good(ca({"revoke", "--directory", "ca", "--site", "site-a"}));
    daemon->signal(SIGHUP);
    EXPECT_EQ(a->expect<wire::ArbiterError>(0).code, Errc::denied);
    EXPECT_TRUE(a->hung_up());
    b->send(1, wire::ArbiterPing{});
    (void)b->expect<wire::ArbiterPong>(1);
}

}  // namespace
}  // namespace antipode::tiebreaker::testing
