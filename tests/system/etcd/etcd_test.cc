// The tiebreaker on a real etcd over mutual TLS: one member, three members whose leader is killed
// in the middle of a stream of decisions, and every way in which a store can be an old one.
#include <atomic>
#include <csignal>

#include "tests/system/etcd/etcd_cluster.h"
#include "tiebreaker/atomic_file.h"
#include "tiebreaker/etcd/etcd_store.h"

namespace antipode::tiebreaker {
namespace {

using testing::EtcdCluster;
using testing::Finished;
using testing::member;
using testing::request;
using testing::TempDirectory;
using wire::AnswerKind;
using wire::RequestKind;

// A site that asks for one pair's next epoch again and again, and counts.
class Asker {
  public:
    Asker(testing::RunningDaemon& daemon, const testing::Certificates& certificates,
          std::string pair)
        : context_(testing::raw_context(certificates.files("site-a"))),
          client_(daemon.port(), context_.get()),
          pair_(std::move(pair)) {
        client_.hello("site-a");
    }
    // Asks until it is decided; what could not be decided just now is asked again, unchanged.
    wire::Answer ask(const wire::Request& asked) {
        while (true) {
            const uint64_t number = ++number_;
            client_.send(number, asked);
            const auto frame = client_.receive();
            if (!frame) {
                ADD_FAILURE() << pair_ << ": hung up: " << client_.error();
                return {};
            }
            EXPECT_EQ(frame->number, number);
            store_ = frame->store;
            if (const auto* answer = std::get_if<wire::Answer>(&frame->body)) return *answer;
            const auto* error = std::get_if<wire::ArbiterError>(&frame->body);
            EXPECT_TRUE(error != nullptr && error->code == Errc::busy);
            if (error == nullptr || error->code != Errc::busy) return {};
            ++asked_again_;
        }
    }
    void enrol() {
        const wire::Answer answer = ask(request(RequestKind::create, pair_.c_str(), 0,
                                                member("site-a", 1), member("site-b", 1)));
        EXPECT_EQ(answer.kind, AnswerKind::paired);
        epoch_ = answer.record.epoch.value();
    }
    // One decision: the pair's epoch rises by one, never by two.
    bool decide() {
        const wire::Answer answer = ask(
            request(RequestKind::acquire, pair_.c_str(), epoch_, member("site-a", 1), {}, store_));
        EXPECT_EQ(answer.kind, AnswerKind::granted);
        EXPECT_EQ(answer.record.epoch, Epoch(epoch_ + 1)) << "a decision was lost or doubled";
        if (answer.record.epoch != Epoch(epoch_ + 1)) return false;
        ++epoch_;
        return true;
    }
    uint64_t epoch() const { return epoch_; }
    size_t asked_again() const { return asked_again_; }
    const std::string& pair() const { return pair_; }

  private:
    testing::SslContextPointer context_;
    testing::RawClient client_;
    std::string pair_;
    wire::StoreIdentity store_;
    uint64_t number_ = 0;
    uint64_t epoch_ = 0;
    size_t asked_again_ = 0;
};

class EtcdSystem : public ::testing::Test {
  protected:
    void SetUp() override {
        if (!testing::etcd_is_installed()) GTEST_SKIP() << "etcd-server or etcd-client is missing";
        certificates_.tiebreaker("tb");
        certificates_.site("site-a");
        certificates_.site("site-b");
    }
    Config config(const EtcdCluster& cluster) {
        Config config = testing::test_config(directory_, certificates_);
        config.store = StoreKind::etcd;
        config.etcd = cluster.settings(directory_ / "etcd.mark");
        config.server.session.requests_per_second = 1e6;
        config.server.session.requests_burst = 1e6;
        config.service.changes_per_second = config.service.changes_burst = 1e6;
        return config;
    }
    std::string start_error(const EtcdCluster& cluster) {
        boost::asio::io_context core(1);
        auto daemon = Daemon::start(core, config(cluster), [](const std::string&) {});
        return daemon ? std::string() : daemon.error().context;
    }
    // Every decision that was told is in the history once, and the store is sound.
    void expect_recorded(const EtcdCluster& cluster, const std::vector<uint64_t>& epochs) {
        Registry registry;
        auto store = EtcdStore::open(cluster.settings(""), EtcdStore::Use::read, nullptr, registry);
        ASSERT_TRUE(store.has_value()) << store.error().context;
        const auto verified = (*store)->verify();
        ASSERT_TRUE(verified.has_value()) << verified.error().context;
        for (const std::string& finding : verified->findings) ADD_FAILURE() << finding;
        EXPECT_EQ(verified->pairs, epochs.size());
        for (size_t i = 0; i < epochs.size(); ++i) {
            const auto lines = (*store)->history(Name::literal(pair_name(i)), 100000);
            ASSERT_TRUE(lines.has_value()) << lines.error().context;
            uint64_t epoch = 0;
            for (const Decided& line : *lines) {
                if (!line.record) continue;
                EXPECT_EQ(line.record->epoch, Epoch(++epoch));
            }
            EXPECT_EQ(epoch, epochs[i]) << pair_name(i);
        }
    }
    static std::string pair_name(size_t index) { return fmt::format("vm-{}", index); }

    // Streams of decisions, each pair's on a thread of its own, while `meanwhile` does its worst.
    void stream(const EtcdCluster& cluster, size_t pairs, const std::function<void()>& meanwhile) {
        std::vector<uint64_t> epochs(pairs);
        size_t asked_again = 0;
        {
            testing::RunningDaemon daemon(config(cluster));
            std::atomic<bool> enough{false};
            std::vector<std::unique_ptr<Asker>> askers;
            for (size_t i = 0; i < pairs; ++i) {
                askers.push_back(std::make_unique<Asker>(daemon, certificates_, pair_name(i)));
                askers.back()->enrol();
            }
            std::vector<std::thread> threads;
            for (auto& asker : askers) {
                threads.emplace_back([this, &enough, asker = asker.get()] {
                    while (!enough && asker->decide()) ++told_;
                });
            }
            meanwhile();
            enough = true;
            for (std::thread& thread : threads) thread.join();
            for (size_t i = 0; i < pairs; ++i) {
                EXPECT_TRUE(askers[i]->decide()) << "the service does not go on";
                epochs[i] = askers[i]->epoch();
                asked_again += askers[i]->asked_again();
            }
            EXPECT_EQ(daemon.ended(), "");
        }
        expect_recorded(cluster, epochs);
        uint64_t sum = 0;
        for (const uint64_t epoch : epochs) sum += epoch;
        fmt::print("{} decisions of {} pairs, {} were asked again\n", sum, pairs, asked_again);
    }
    // Waits until so many more decisions have been told to the sites.
    void await_decisions(uint64_t more) {
        const uint64_t begin = told_;
        for (int tries = 0; tries < 600 && told_ < begin + more; ++tries) ::usleep(50'000);
        EXPECT_GE(told_, begin + more) << "the stream of decisions has stopped";
    }

    TempDirectory directory_;
    testing::Certificates certificates_{directory_};
    std::atomic<uint64_t> told_{0};
};

TEST_F(EtcdSystem, OneMemberDecidesDeniesAndForgets) {
    EtcdCluster cluster(1);
    cluster.start_all();
    stream(cluster, 4, [&] { await_decisions(100); });
    // And after a restart, from what etcd holds.
    testing::RunningDaemon daemon(config(cluster));
    const auto context = testing::raw_context(certificates_.files("site-b"));
    testing::RawClient b(daemon.port(), context.get());
    b.hello("site-b");
    wire::Request asked = request(RequestKind::acquire, "vm-0", 1, member("site-b", 1));
    asked.store = daemon.daemon().identity();
    EXPECT_EQ(b.ask(asked).kind, AnswerKind::denied);
}

TEST_F(EtcdSystem, OneMemberIsKilledAndComesBack) {
    EtcdCluster cluster(1);
    cluster.start_all();
    stream(cluster, 3, [&] {
        for (int kills = 0; kills < 3; ++kills) {
            await_decisions(30);
            cluster.kill(0);
            cluster.start(0);
        }
        await_decisions(30);
    });
}

TEST_F(EtcdSystem, ThreeMembersAndTheLeaderIsKilled) {
    EtcdCluster cluster(3);
    cluster.start_all();
    stream(cluster, 4, [&] {
        for (int kills = 0; kills < 3; ++kills) {
            await_decisions(30);
            const size_t leader = cluster.leader();
            cluster.kill(leader);
            await_decisions(30);  // two of three go on
            cluster.start(leader);
        }
        await_decisions(30);
    });
}

TEST_F(EtcdSystem, WithoutAMajorityNothingIsDecidedAndItGoesOnAfterwards) {
    EtcdCluster cluster(3);
    cluster.start_all();
    stream(cluster, 2, [&] {
        await_decisions(10);
        cluster.kill(0);
        cluster.kill(1);
        cluster.start(0);
        cluster.start(1);
        await_decisions(10);
    });
}

TEST_F(EtcdSystem, FoldersThatWerePutBackAreRefused) {
    EtcdCluster cluster(1);
    cluster.start_all();
    stream(cluster, 2, [&] { await_decisions(10); });
    cluster.kill_all();
    cluster.save("old");
    cluster.start_all();
    {
        testing::RunningDaemon daemon(config(cluster));
        Asker asker(daemon, certificates_, "vm-9");
        asker.enrol();
    }
    cluster.kill_all();
    cluster.put_back("old");
    cluster.start_all();
    const std::string error = start_error(cluster);
    EXPECT_NE(error.find("has lost decisions that were given"), std::string::npos) << error;
    EXPECT_NE(start_error(cluster).find("was condemned"), std::string::npos);
}

TEST_F(EtcdSystem, ASnapshotThatWasRestoredIsRefusedUntilItHasANewIdentity) {
    EtcdCluster cluster(1);
    cluster.start_all();
    stream(cluster, 2, [&] { await_decisions(10); });
    const std::string file = cluster.path("snapshot.db");
    const Finished saved = cluster.etcdctl({"snapshot", "save", file});
    ASSERT_EQ(saved.exit_code, 0) << saved.error;
    wire::StoreIdentity before;
    {
        testing::RunningDaemon daemon(config(cluster));
        before = daemon.daemon().identity();
        Asker asker(daemon, certificates_, "vm-9");
        asker.enrol();
    }
    cluster.kill_all();
    cluster.restore_snapshot(file);
    cluster.start_all();
    EXPECT_NE(start_error(cluster).find("has lost decisions"), std::string::npos);
    const auto renewed = EtcdStore::renew_identity(config(cluster).etcd);
    ASSERT_TRUE(renewed.has_value()) << renewed.error().context;
    testing::RunningDaemon daemon(config(cluster));
    EXPECT_EQ(daemon.daemon().identity(), *renewed);
    EXPECT_NE(*renewed, before);
    EXPECT_EQ(daemon.daemon().pair_count(), 2u);
    // A site that follows the old one is told so.
    const auto context = testing::raw_context(certificates_.files("site-a"));
    testing::RawClient a(daemon.port(), context.get());
    a.hello("site-a");
    const wire::Answer answer =
        a.ask(request(RequestKind::acquire, "vm-0", 5, member("site-a", 1), {}, before));
    EXPECT_EQ(answer.kind, AnswerKind::refused);
    EXPECT_EQ(answer.reason, wire::RefusalReason::wrong_store);
}

TEST_F(EtcdSystem, WhoMayNotSpeakToEtcdIsToldSo) {
    EtcdCluster cluster(1);
    {
        const std::string error = start_error(cluster);
        EXPECT_NE(error.find("Connection refused"), std::string::npos) << error;
    }
    cluster.start_all();
    Config other = config(cluster);
    const env::TlsFiles foreign = certificates_.files("site-a");  // of another authority
    other.etcd.client.certificate = foreign.certificate;
    other.etcd.client.key = foreign.key;
    boost::asio::io_context core(1);
    auto refused = Daemon::start(core, other, [](const std::string&) {});
    ASSERT_FALSE(refused.has_value());
    EXPECT_NE(refused.error().context.find("certificate"), std::string::npos)
        << refused.error().context;
    other = config(cluster);
    other.etcd.client.ca = foreign.ca;  // etcd is not the one that is meant
    refused = Daemon::start(core, other, [](const std::string&) {});
    ASSERT_FALSE(refused.has_value());
    EXPECT_NE(refused.error().context.find("TLS"), std::string::npos) << refused.error().context;
}

// The program, as an administrator sees it.
TEST_F(EtcdSystem, TheAdministratorsCommands) {
    EtcdCluster cluster(1);
    cluster.start_all();
    const EtcdSettings etcd = cluster.settings("");
    const env::TlsFiles tls = certificates_.files("tb");
    const std::string text = fmt::format(
        "listen = \"127.0.0.1:0\"\n[tls]\nca = \"{}\"\ncertificate = \"{}\"\nkey = \"{}\"\n"
        "[store]\nkind = \"etcd\"\nendpoints = [\"{}\"]\nca = \"{}\"\ncertificate = \"{}\"\n"
        "key = \"{}\"\nmark = \"etcd.mark\"\n[admin]\nsocket = \"admin.sock\"\n",
        tls.ca, tls.certificate, tls.key, etcd.client.endpoints[0], etcd.client.ca,
        etcd.client.certificate, etcd.client.key);
    const std::string path = directory_ / "tiebreaker.toml";
    ASSERT_TRUE(write_file(path, text, 0600, Existing::replace));
    const auto admin = [&](std::vector<std::string> arguments) {
        std::vector<std::string> all{ANTIPODE_TIEBREAKER, "admin", "--config", path};
        all.insert(all.end(), arguments.begin(), arguments.end());
        return testing::run(directory_.path(), all);
    };
    EXPECT_EQ(testing::run(directory_.path(), {ANTIPODE_TIEBREAKER, "check", path}).exit_code, 0);
    {
        testing::DaemonProcess daemon(directory_.path(), {ANTIPODE_TIEBREAKER, "run", path});
        ASSERT_NE(daemon.await("READY=1"), "") << daemon.log();
        EXPECT_NE(admin({"list"}).out.find("0 pairs, store "), std::string::npos);
        EXPECT_NE(admin({"verify"}).out.find("0 findings"), std::string::npos);
        EXPECT_NE(admin({"forget", "vm-1"}).error.find("unknown_pair"), std::string::npos);
        daemon.signal(SIGTERM);
        EXPECT_EQ(daemon.wait(), 0) << daemon.log();
    }
    EXPECT_NE(admin({"forget", "vm-1"}).error.find("pair vm-1: has no record"), std::string::npos);
    EXPECT_NE(admin({"backup", "x"}).error.find("etcdctl snapshot save"), std::string::npos);
    EXPECT_NE(admin({"restore", "x"}).error.find("etcdctl snapshot restore"), std::string::npos);
    const Finished renewed = admin({"restore"});
    EXPECT_EQ(renewed.exit_code, 0) << renewed.error;
    EXPECT_NE(renewed.out.find("restored /antipode/ as store "), std::string::npos);
    ASSERT_EQ(::unlink((directory_ / "etcd.mark").c_str()), 0);
    const Finished blocked = testing::run(directory_.path(), {ANTIPODE_TIEBREAKER, "run", path});
    EXPECT_EQ(blocked.exit_code, 1);
    EXPECT_NE(blocked.error.find("admin adopt"), std::string::npos) << blocked.error;
    EXPECT_EQ(admin({"adopt"}).exit_code, 0);
    testing::DaemonProcess daemon(directory_.path(), {ANTIPODE_TIEBREAKER, "run", path});
    EXPECT_NE(daemon.await("READY=1"), "") << daemon.log();
}

}  // namespace
}  // namespace antipode::tiebreaker
