#include "replicator/control/arbiter_client.h"

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>

#include "tests/unit/tiebreaker/fixture.h"
#include "tiebreaker/atomic_file.h"
#include "tiebreaker/sqlite_store.h"

namespace antipode::tiebreaker::testing {
namespace {

using control::ArbiterClient;
using control::ArbiterClientEvents;
using control::ArbiterClientSettings;
using std::chrono::milliseconds;
using wire::AnswerKind;
using wire::RequestKind;

class ArbiterClientTest : public ::testing::Test {
  protected:
    ArbiterClientTest() {
        certificates_.tiebreaker("tb");
        certificates_.site("site-a");
        certificates_.site("site-b");
        start_daemon();
    }
    ~ArbiterClientTest() override {
        for (auto& client : clients_) client->stop();
        loop_.poll();
    }
    void start_daemon(std::function<void(Config&)> change = {}) {
        Config config = test_config(directory_, certificates_);
        if (port_ != 0) config.listener.listen = fmt::format("127.0.0.1:{}", port_);
        if (change) change(config);
        daemon_.emplace(std::move(config));
        port_ = daemon_->port();
    }
    ArbiterClientSettings settings(const char* site) {
        const auto files = certificates_.files(site);
        ArbiterClientSettings out;
        out.address = fmt::format("127.0.0.1:{}", port_);
        out.ca = files.ca;
        out.certificate = files.certificate;
        out.key = files.key;
        out.pair = Name::literal("web1");
        out.me = member(site, 1);
        out.attempt_limit = milliseconds(1500);
        out.ping_interval = milliseconds(200);
        out.pause_min = milliseconds(10);
        out.pause_max = milliseconds(100);
        return out;
    }
    ArbiterClient& make(const ArbiterClientSettings& wanted) {
        ArbiterClientEvents events;
        events.up = [this](wire::StoreIdentity store) {
            ++ups_;
            store_ = store;
        };
        events.down = [this](const std::string& reason) { downs_.push_back(reason); };
        events.answered = [this](const wire::Answer& answer) { answers_.push_back(answer); };
        auto made = ArbiterClient::create(loop_, wanted, registry_, events);
        EXPECT_TRUE(made.has_value()) << made.error().context;
        clients_.push_back(std::move(*made));
        clients_.back()->start();
        return *clients_.back();
    }
    // Runs the loop until `done` holds; fails after twenty seconds.
    template <typename Done>
    void run_until(Done done) {
        boost::asio::steady_timer limit(loop_, std::chrono::seconds(20));
        // Of its own, since a cancelled wait's handler runs when the loop goes on, after this.
        const auto late = std::make_shared<bool>(false);
        limit.async_wait([late](const boost::system::error_code& error) { *late = !error; });
        while (!done() && !*late) loop_.run_one();
        limit.cancel();
        loop_.restart();
        ASSERT_FALSE(*late) << "what the test waits for did not happen";
    }
    wire::Answer ask(ArbiterClient& client, const wire::Request& asked) {
        std::optional<Result<wire::Answer>> got;
        client.ask(asked, [&](Result<wire::Answer> answer) { got = std::move(answer); });
        run_until([&] { return got.has_value(); });
        EXPECT_TRUE(got && got->has_value()) << (got && !*got ? got->error().context : "");
        return got && got->has_value() ? **got : wire::Answer{};
    }
    Error ask_error(ArbiterClient& client, const wire::Request& asked) {
        std::optional<Result<wire::Answer>> got;
        client.ask(asked, [&](Result<wire::Answer> answer) { got = std::move(answer); });
        run_until([&] { return got.has_value(); });
        EXPECT_TRUE(got && !got->has_value());
        return got && !got->has_value() ? got->error() : Error{Errc::io, "none"};
    }
    wire::Request create() { return request(RequestKind::create, "web1", 0, a1_, b1_); }

    const Member a1_ = member("site-a", 1);
    const Member b1_ = member("site-b", 1);
    TempDirectory directory_;
    Certificates certificates_{directory_};
    std::optional<RunningDaemon> daemon_;
    uint16_t port_ = 0;
    boost::asio::io_context loop_{1};
    boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_{
        loop_.get_executor()};
    Registry registry_;
    int ups_ = 0;
    wire::StoreIdentity store_;
    std::vector<std::string> downs_;
    std::vector<wire::Answer> answers_;
    std::vector<std::unique_ptr<ArbiterClient>> clients_;
};

TEST_F(ArbiterClientTest, ConnectsWatchesAndAsks) {
    ArbiterClient& client = make(settings("site-a"));
    run_until([&] { return !answers_.empty(); });
    EXPECT_TRUE(client.connected());
    EXPECT_EQ(client.last_error(), "");
    EXPECT_EQ(ups_, 1);
    EXPECT_EQ(store_, daemon_->daemon().identity());
    EXPECT_EQ(answers_[0].reason, wire::RefusalReason::unknown_pair) << "what the watch found";
    EXPECT_EQ(answers_[0].request.me, a1_);
    EXPECT_EQ(ask(client, create()).kind, AnswerKind::paired);
    run_until([&] { return client.round_trip().has_value(); });
    EXPECT_NE(registry_.prometheus_text().find("antipode_tiebreaker_request_seconds_count 1"),
              std::string::npos);
}

TEST_F(ArbiterClientTest, AnswersToPlainAsksComeAsEvents) {
    ArbiterClient& client = make(settings("site-a"));
    client.ask(create());
    client.ask(create());  // waits already
    run_until([&] { return answers_.size() >= 2; });
    EXPECT_EQ(answers_[1].kind, AnswerKind::paired);
    EXPECT_EQ(answers_[1].request, create());
}

TEST_F(ArbiterClientTest, IsToldWhatTheOtherSiteDid) {
    ArbiterClient& a = make(settings("site-a"));
    const auto created = ask(a, create());
    ArbiterClient& b = make(settings("site-b"));
    run_until([&] { return b.connected(); });
    answers_.clear();
    const auto acquire =
        request(RequestKind::acquire, "web1", created.record.epoch.value(), b1_, {}, store_);
    EXPECT_EQ(ask(b, acquire).kind, AnswerKind::granted);
    const auto pushed = [&] {
        return std::any_of(answers_.begin(), answers_.end(), [&](const wire::Answer& answer) {
            return answer.request.me == a1_ && answer.record.holder == b1_ &&
                   answer.kind == AnswerKind::record;
        });
    };
    run_until(pushed);
}

TEST_F(ArbiterClientTest, WhatWasAskedInAnOutageIsAnsweredAfterIt) {
    ArbiterClient& client = make(settings("site-a"));
    const auto created = ask(client, create());
    daemon_.reset();
    run_until([&] { return !client.connected(); });
    EXPECT_EQ(downs_.size(), 1u);
    EXPECT_NE(client.last_error(), "");
    std::optional<Result<wire::Answer>> got;
    client.ask(request(RequestKind::acquire, "web1", created.record.epoch.value(), a1_, {}, store_),
               [&](Result<wire::Answer> answer) { got = std::move(answer); });
    start_daemon();
    run_until([&] { return got.has_value(); });
    ASSERT_TRUE(got->has_value());
    EXPECT_EQ((*got)->kind, AnswerKind::granted);
    EXPECT_EQ(ups_, 2);
}

// A server that shakes hands and then says nothing: the connection is given up and tried again.
TEST_F(ArbiterClientTest, SilenceIsNoticed) {
    const auto context = env::make_mutual_tls(env::TlsRole::server, certificates_.files("tb"));
    boost::asio::ip::tcp::acceptor acceptor(loop_, {boost::asio::ip::address_v4::loopback(), 0});
    std::vector<std::unique_ptr<env::TlsStream>> taken;
    std::function<void()> accept = [&] {
        acceptor.async_accept([&](const boost::system::error_code& error, auto socket) {
            if (error) return;
            auto stream = env::TlsStream::create(std::move(socket), *context, env::TlsRole::server);
            ASSERT_TRUE(stream);
            taken.push_back(std::move(*stream));
            accept();
        });
    };
    accept();
    auto wanted = settings("site-a");
    wanted.address = fmt::format("127.0.0.1:{}", acceptor.local_endpoint().port());
    wanted.attempt_limit = milliseconds(200);
    const ArbiterClient& client = make(wanted);
    run_until([&] { return taken.size() >= 3; });
    EXPECT_FALSE(client.connected());
    EXPECT_NE(client.last_error().find("no answer in time"), std::string::npos);
    EXPECT_EQ(downs_.size(), 1u) << "one outage is reported once";
    acceptor.close();
}

TEST_F(ArbiterClientTest, AHungDaemonIsNoticedByItsSilence) {
    ArbiterClient& client = make(settings("site-a"));
    run_until([&] { return client.connected(); });
    // The core thread stands still for longer than the client waits.
    std::promise<void> release;
    std::thread hold([&] { daemon_->on_core([&](Daemon&) { release.get_future().wait(); }); });
    run_until([&] { return !downs_.empty(); });
    EXPECT_NE(downs_[0].find("does not answer"), std::string::npos) << downs_[0];
    release.set_value();
    hold.join();
    run_until([&] { return client.connected(); });
}

TEST_F(ArbiterClientTest, AnotherStoreIsNotFollowedOncePinned) {
    ArbiterClient& client = make(settings("site-a"));
    const auto created = ask(client, create());
    const wire::StoreIdentity old = store_;
    client.pin(old);
    daemon_.reset();
    ASSERT_EQ(::rename((directory_ / "arbiter.db").c_str(), (directory_ / "lost").c_str()), 0);
    start_daemon();
    run_until([&] { return ups_ == 2; });
    EXPECT_NE(store_, old);
    EXPECT_NE(client.last_error().find("enrol again"), std::string::npos) << client.last_error();
    const auto acquire =
        request(RequestKind::acquire, "web1", created.record.epoch.value(), a1_, {}, old);
    const Error error = ask_error(client, acquire);
    EXPECT_EQ(error.code, Errc::denied);
    EXPECT_NE(error.context.find("is enrolled with"), std::string::npos) << error.context;
    // Enrolling again is how it is followed after all.
    auto again =
        request(RequestKind::create, "web1", created.record.epoch.value(), a1_, b1_, store_);
    EXPECT_EQ(ask(client, again).kind, AnswerKind::paired);
}

TEST_F(ArbiterClientTest, OnlyATiebreakerThatNamesItsHostIsTalkedTo) {
    const auto last_error_with = [&](const env::TlsFiles& server) {
        const auto context = env::make_mutual_tls(env::TlsRole::server, server);
        EXPECT_TRUE(context.has_value()) << context.error().context;
        Registry registry;
        boost::asio::io_context core(1);
        std::thread thread;
        auto listener = Listener::start(
            core, *context, {"127.0.0.1:0"}, registry, [] { return false; }, [](auto) {});
        auto wanted = settings("site-a");
        wanted.address = fmt::format("127.0.0.1:{}", (*listener)->port());
        const size_t before = downs_.size();
        ArbiterClient& client = make(wanted);
        run_until([&] { return downs_.size() > before; });
        client.stop();
        return downs_.back();
    };
    const auto issue = [&](env::PeerRole role, const char* name, const char* host) {
        const KeyPointer key = make_key();
        const auto issued = certificates_.authority().issue(
            {{role, Name::literal(name), {}}, {host}}, key.get(), Authority::Days(1));
        const auto files = certificates_.files(name);
        EXPECT_TRUE(write_file(files.certificate, issued->pem, 0644, Existing::keep));
        EXPECT_TRUE(write_file(files.key, key_pem(key.get()), 0600, Existing::keep));
        return files;
    };
    const std::string other_host =
        last_error_with(issue(env::PeerRole::tiebreaker, "elsewhere", "10.1.2.3"));
    EXPECT_NE(other_host.find("IP address mismatch"), std::string::npos) << other_host;
    const std::string web = last_error_with(issue(env::PeerRole::web, "web", "127.0.0.1"));
    EXPECT_NE(web.find("not of a tiebreaker"), std::string::npos) << web;
    const TempDirectory elsewhere;
    Certificates others(elsewhere);
    others.tiebreaker("tb");
    const std::string foreign = last_error_with(others.files("tb"));
    EXPECT_NE(foreign.find("certificate is refused"), std::string::npos) << foreign;
}

TEST_F(ArbiterClientTest, ItsOwnBadFilesAreNamedAtOnce) {
    const auto error_of = [&](const ArbiterClientSettings& wanted) {
        auto made = ArbiterClient::create(loop_, wanted, registry_, {});
        return made ? std::string() : made.error().context;
    };
    auto wanted = settings("site-a");
    wanted.certificate = certificates_.files("site-b").certificate;
    wanted.key = certificates_.files("site-b").key;
    EXPECT_NE(error_of(wanted).find("names site site-b, this is site site-a"), std::string::npos);
    wanted = settings("site-a");
    wanted.ca = directory_ / "absent";
    EXPECT_NE(error_of(wanted).find("absent: No such file"), std::string::npos);
    for (const char* address : {"", "host", "host:", "host:0", "host:99999", "::1:7200", ":7200"}) {
        wanted = settings("site-a");
        wanted.address = address;
        EXPECT_NE(error_of(wanted).find("tiebreaker.address"), std::string::npos) << address;
    }
}

TEST_F(ArbiterClientTest, ARefusalOfItsCertificateIsTold) {
    ASSERT_TRUE(certificates_.authority().revoke(certificates_.site("site-a"), "unspecified"));
    daemon_->on_core([](Daemon& d) { d.reload(); });
    const ArbiterClient& client = make(settings("site-a"));
    run_until([&] { return !downs_.empty(); });
    EXPECT_NE(client.last_error().find("revoked"), std::string::npos) << client.last_error();
}

// A stolen key of a tiebreaker's must not decide anything once it is on the list.
TEST_F(ArbiterClientTest, ARevokedTiebreakerIsNotTalkedTo) {
    auto wanted = settings("site-a");
    wanted.crl = certificates_.authority().crl_path();
    ArbiterClient& client = make(wanted);
    run_until([&] { return ups_ == 1; });
    const auto own = env::read_certificate(certificates_.files("tb").certificate);
    ASSERT_TRUE(own) << own.error().to_string();
    ASSERT_TRUE(certificates_.authority().revoke(env::serial_of(own->get()), "key-compromise"));
    client.reconnect();  // the list is read again before each connection
    run_until([&] {
        return !downs_.empty() && client.last_error().find("revoked") != std::string::npos;
    });
    EXPECT_EQ(ups_, 1);
}

TEST_F(ArbiterClientTest, ItTellsWhenItsCertificateExpires) {
    const auto now = std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
    const auto tells = now + std::chrono::days(7);
    certificates_.between("site-a", now - std::chrono::hours(1), tells);
    ArbiterClient& client = make(settings("site-a"));
    EXPECT_EQ(client.certificate_not_after(), tells);
    run_until([&] { return ups_ == 1; });
    const auto renewed = now + std::chrono::days(20);
    certificates_.between("site-a", now - std::chrono::hours(1), renewed);
    client.reconnect();
    run_until([&] { return ups_ == 2; });
    EXPECT_EQ(client.certificate_not_after(), renewed);
}

TEST_F(ArbiterClientTest, WhatWaitsIsBounded) {
    daemon_.reset();
    auto wanted = settings("site-a");
    wanted.in_flight_max = 3;
    ArbiterClient& client = make(wanted);
    for (uint64_t epoch = 1; epoch <= 50; ++epoch) {
        client.ask(request(RequestKind::acquire, "web1", epoch, a1_, {}, wire::StoreIdentity(5)));
    }
    int limited = 0;
    int closed = 0;
    for (int i = 0; i < 5; ++i) {
        client.ask(create(), [&](Result<wire::Answer> answer) {
            ASSERT_FALSE(answer.has_value());
            limited += answer.error().code == Errc::limit ? 1 : 0;
            closed += answer.error().code == Errc::closed ? 1 : 0;
        });
    }
    run_until([&] { return limited >= 2; });
    client.stop();
    EXPECT_EQ(limited, 2) << "three found room, in place of requests without a handler";
    EXPECT_EQ(closed, 3);
}

TEST_F(ArbiterClientTest, MayBeStoppedFromItsOwnCallbacks) {
    std::unique_ptr<ArbiterClient> client;
    bool ended = false;
    ArbiterClientEvents events;
    events.up = [&](wire::StoreIdentity) {
        client.reset();
        ended = true;
    };
    auto made = ArbiterClient::create(loop_, settings("site-a"), registry_, events);
    client = std::move(*made);
    client->start();
    run_until([&] { return ended; });
    loop_.poll();
    ended = false;
    daemon_.reset();
    events = {};
    events.down = [&](const std::string&) {
        client.reset();
        ended = true;
    };
    made = ArbiterClient::create(loop_, settings("site-a"), registry_, events);
    client = std::move(*made);
    client->start();
    run_until([&] { return ended; });
    loop_.poll();
}

TEST_F(ArbiterClientTest, RenewedCertificatesAreTakenUpAtTheNextConnection) {
    ArbiterClient& client = make(settings("site-a"));
    run_until([&] { return client.connected(); });
    const std::string serial = certificates_.site("site-a");  // replaces the files
    client.reconnect();
    run_until([&] { return ups_ == 2; });
    const auto history = [&] {
        (void)ask(client, create());
        Registry registry;
        auto store =
            SqliteStore::open(directory_ / "arbiter.db", SqliteStore::Use::read, nullptr, registry);
        return *(*store)->history(Name(), 10);
    }();
    ASSERT_FALSE(history.empty());
    EXPECT_NE(history.back().by.find(serial), std::string::npos) << history.back().by;
}

}  // namespace
}  // namespace antipode::tiebreaker::testing
