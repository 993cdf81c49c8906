// EtcdStore against an etcd in memory that loses requests and answers, does them late, is written
// by others meanwhile, and is put back from old backups.
#include "tiebreaker/etcd/etcd_store.h"

#include <algorithm>
#include <boost/asio/executor_work_guard.hpp>

#include "tests/unit/tiebreaker/fake_etcd.h"
#include "tests/unit/tiebreaker/fixture.h"
#include "tiebreaker/atomic_file.h"

namespace antipode::tiebreaker {
namespace {

using testing::commit_of;
using testing::FakeEtcd;
using testing::record_of;
using testing::TempDirectory;
using Kind = CommitResult::Kind;
using Mishap = FakeEtcd::Mishap;

// One tiebreaker's machine: its mark, and the store as it sees it.
class Machine {
  public:
    Machine(FakeEtcd& etcd, std::string mark) {
        settings_.gateway = [&etcd](const etcd::ClientSettings&) { return etcd.gateway(); };
        settings_.client.request_limit = std::chrono::milliseconds(100);
        settings_.mark = std::move(mark);
    }
    std::string open(EtcdStore::Use use = EtcdStore::Use::serve) {
        close();
        auto opened = EtcdStore::open(settings_, use, &core_, registry_);
        if (!opened) return opened.error().context;
        store_ = std::move(*opened);
        return {};
    }
    // Opens, reads, and starts.
    std::string serve() {
        if (std::string error = open(); !error.empty()) return error;
        const auto all = store_->load();
        if (!all) return all.error().context;
        loaded_ = *all;
        EXPECT_TRUE(store_->start([this](const Stored& stored) { changed_.push_back(stored); }));
        return {};
    }
    void close() {
        if (store_) store_->stop();
        store_.reset();
    }
    std::vector<CommitResult> commit(std::vector<Commit> commits) {
        std::vector<CommitResult> out(commits.size());
        size_t open = commits.size();
        for (size_t i = 0; i < commits.size(); ++i) {
            commits[i].done = [&out, &open, i](CommitResult result) {
                out[i] = std::move(result);
                --open;
            };
            store_->commit(std::move(commits[i]));
        }
        while (open > 0) core_.run_one();
        return out;
    }
    CommitResult put(const std::string& pair, uint64_t epoch, uint64_t expected_version) {
        std::vector<Commit> one;
        one.push_back(commit_of(record_of(pair, epoch, store_->identity()), expected_version));
        return commit(std::move(one)).front();
    }
    CommitResult look(const char* pair, uint64_t expected_version) {
        Commit commit_it;
        commit_it.pair = Name::literal(pair);
        commit_it.expected_version = expected_version;
        std::vector<Commit> one;
        one.push_back(std::move(commit_it));
        return commit(std::move(one)).front();
    }
    void run_until_told_of(const Name& pair) {
        const auto is_it = [&](const Stored& stored) { return stored.record.pair == pair; };
        while (std::none_of(changed_.begin(), changed_.end(), is_it)) core_.run_one();
    }

    EtcdSettings settings_;
    boost::asio::io_context core_{1};
    boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_{
        core_.get_executor()};
    Registry registry_;
    std::unique_ptr<EtcdStore> store_;
    std::vector<Stored> loaded_, changed_;
};

class EtcdStoreTest : public ::testing::Test {
  protected:
    void expect_sound(Machine& machine, size_t pairs, size_t lines) {
        // As `admin verify` does: beside the daemon.
        Registry registry;
        const auto beside =
            EtcdStore::open(machine.settings_, EtcdStore::Use::read, nullptr, registry);
        ASSERT_TRUE(beside.has_value()) << beside.error().context;
        const auto verified = (*beside)->verify();
        ASSERT_TRUE(verified.has_value()) << verified.error().context;
        EXPECT_EQ(verified->pairs, pairs);
        EXPECT_EQ(verified->history_lines, lines);
        for (const std::string& finding : verified->findings) ADD_FAILURE() << finding;
    }
    static bool says(const std::string& text, std::string_view what) {
        return text.find(what) != std::string::npos;
    }
    TempDirectory directory_;
    FakeEtcd etcd_;
    Machine one_{etcd_, directory_ / "one.mark"};
    Machine two_{etcd_, directory_ / "two.mark"};
};

TEST_F(EtcdStoreTest, IsMadeOnceAndKeepsItsIdentity) {
    ASSERT_EQ(one_.serve(), "");
    const auto identity = one_.store_->identity();
    EXPECT_NE(identity, wire::StoreIdentity(0));
    one_.close();
    ASSERT_EQ(one_.serve(), "");
    EXPECT_EQ(one_.store_->identity(), identity);
    Machine other(etcd_, directory_ / "one.mark");
    EXPECT_TRUE(says(other.open(), "in use by another process"));
    EXPECT_EQ(other.open(EtcdStore::Use::read), "");
}

TEST_F(EtcdStoreTest, TellsHowLargeEtcdIs) {
    one_.settings_.size_interval = Duration::zero();
    ASSERT_EQ(one_.serve(), "");
    const auto shown = [&] {
        return says(one_.registry_.prometheus_text(), "antipode_tiebreaker_etcd_size_bytes ");
    };
    for (int tries = 0; tries < 1000 && !shown(); ++tries) {
        one_.core_.run_for(std::chrono::milliseconds(10));
    }
    EXPECT_TRUE(shown());
    EXPECT_EQ(one_.put("web1", 1, 0).kind, Kind::committed) << "and goes on";
}

TEST_F(EtcdStoreTest, WritesOnlyOnTheVersionThatWasExpected) {
    ASSERT_EQ(one_.serve(), "");
    const CommitResult first = one_.put("web1", 1, 0);
    ASSERT_EQ(first.kind, Kind::committed) << first.error;
    const CommitResult second = one_.put("web1", 2, first.current->version);
    ASSERT_EQ(second.kind, Kind::committed);
    EXPECT_GT(second.current->version, first.current->version);
    for (const uint64_t wrong : {uint64_t{0}, first.current->version, uint64_t{999}}) {
        const CommitResult result = one_.put("web1", 9, wrong);
        ASSERT_EQ(result.kind, Kind::conflict);
        EXPECT_EQ(*result.current, *second.current);
    }
    EXPECT_EQ(one_.look("web1", second.current->version).kind, Kind::committed);
    EXPECT_EQ(one_.look("web1", first.current->version).kind, Kind::conflict);
    EXPECT_EQ(one_.store_->history(Name(), 100)->size(), 2u);
    expect_sound(one_, 1, 2);
    one_.close();
    ASSERT_EQ(one_.serve(), "");
    ASSERT_EQ(one_.loaded_.size(), 1u);
    EXPECT_EQ(one_.loaded_[0], *second.current);
}

TEST_F(EtcdStoreTest, ManyAtOnceAreFewTransactionsAndOneBadOneSpoilsNoOther) {
    ASSERT_EQ(one_.serve(), "");
    const CommitResult there = one_.put("pair-7", 5, 0);
    std::vector<Commit> many;
    constexpr size_t kPairs = 300;
    for (size_t i = 0; i < kPairs; ++i) {
        many.push_back(
            commit_of(record_of(fmt::format("pair-{}", i), 1, one_.store_->identity()), 0));
    }
    const size_t before = etcd_.calls();
    const auto results = one_.commit(std::move(many));
    EXPECT_LT(etcd_.calls() - before, 20u);
    for (size_t i = 0; i < kPairs; ++i) {
        ASSERT_EQ(results[i].kind, i == 7 ? Kind::conflict : Kind::committed) << i;
    }
    EXPECT_EQ(*results[7].current, *there.current);
    expect_sound(one_, kPairs, kPairs);
    const auto last = one_.store_->history(Name::literal("pair-7"), 10);
    ASSERT_EQ(last->size(), 1u);
    EXPECT_EQ(last->front().epoch, Epoch(5));
}

TEST_F(EtcdStoreTest, OnePairTwiceInABatchIsTwoTransactions) {
    ASSERT_EQ(one_.serve(), "");
    std::vector<Commit> twice;
    for (uint64_t epoch = 1; epoch <= 2; ++epoch) {
        twice.push_back(commit_of(record_of("web1", epoch, one_.store_->identity()), 0));
    }
    const auto results = one_.commit(std::move(twice));
    EXPECT_EQ(results[0].kind, Kind::committed);
    EXPECT_EQ(results[1].kind, Kind::conflict);
    EXPECT_EQ(results[1].current->record.epoch, Epoch(1));
}

// Each way of getting no answer, alone and twice in a row: decided once, and told.
TEST_F(EtcdStoreTest, WithoutAnAnswerItIsAskedAgainAndDoneOnce) {
    ASSERT_EQ(one_.serve(), "");
    uint64_t version = 0;
    uint64_t epoch = 0;
    const Mishap kinds[] = {Mishap::answer_lost, Mishap::request_lost, Mishap::garbage,
                            Mishap::done_later, Mishap::done_last};
    for (const Mishap first : kinds) {
        for (const Mishap second : {Mishap::none, Mishap::answer_lost, Mishap::request_lost,
                                    Mishap::not_sent, Mishap::refused}) {
            etcd_.next({first, second});
            const CommitResult result = one_.put("web1", ++epoch, version);
            ASSERT_EQ(result.kind, Kind::committed)
                << static_cast<int>(first) << " " << static_cast<int>(second) << result.error;
            EXPECT_EQ(result.current->record.epoch, Epoch(epoch));
            version = result.current->version;
        }
    }
    expect_sound(one_, 1, epoch);
    EXPECT_EQ(one_.put("web1", ++epoch, version).kind, Kind::committed);
}

TEST_F(EtcdStoreTest, WhatSurelyWasNotWrittenIsAFailureThatPasses) {
    ASSERT_EQ(one_.serve(), "");
    etcd_.next({Mishap::refused});
    const CommitResult refused = one_.put("web1", 1, 0);
    EXPECT_EQ(refused.kind, Kind::failed);
    EXPECT_EQ(refused.error, "database space exceeded");
    etcd_.next({Mishap::not_sent, Mishap::not_sent});  // each of the two members
    EXPECT_EQ(one_.put("web1", 1, 0).kind, Kind::failed);
    EXPECT_EQ(one_.put("web1", 1, 0).kind, Kind::committed);
    expect_sound(one_, 1, 1);
}

TEST_F(EtcdStoreTest, TwoTiebreakersOnOneStoreDecideOnce) {
    ASSERT_EQ(one_.serve(), "");
    EXPECT_TRUE(says(two_.serve(), "admin adopt"));
    ASSERT_TRUE(EtcdStore::adopt(two_.settings_));
    ASSERT_EQ(two_.serve(), "");
    const CommitResult a = one_.put("web1", 1, 0);
    ASSERT_EQ(a.kind, Kind::committed);
    const CommitResult b = two_.put("web1", 7, 0);
    ASSERT_EQ(b.kind, Kind::conflict);
    EXPECT_EQ(*b.current, *a.current);
    // In the middle of a transaction of the one the other writes another pair: both are written.
    etcd_.before_next_write([&] { EXPECT_EQ(two_.put("web2", 1, 0).kind, Kind::committed); });
    EXPECT_EQ(one_.put("web1", 2, a.current->version).kind, Kind::committed);
    expect_sound(one_, 2, 3);
    one_.run_until_told_of(Name::literal("web2"));  // without a commit
}

// The answer is lost, and before it is asked again the other one has written behind it.
TEST_F(EtcdStoreTest, ALostAnswerIsFoundBehindAnothersWrite) {
    ASSERT_EQ(one_.serve(), "");
    ASSERT_TRUE(EtcdStore::adopt(two_.settings_));
    ASSERT_EQ(two_.serve(), "");
    etcd_.next({Mishap::answer_lost});
    etcd_.after_next_write([&] { EXPECT_EQ(two_.put("web2", 1, 0).kind, Kind::committed); });
    const CommitResult a = one_.put("web1", 1, 0);
    ASSERT_EQ(a.kind, Kind::committed) << a.error;
    expect_sound(one_, 2, 2);
    EXPECT_EQ(one_.put("web1", 2, a.current->version).kind, Kind::committed);
}

TEST_F(EtcdStoreTest, AnOldBackupUnderARunningOneIsNoticedAndCondemned) {
    ASSERT_EQ(one_.serve(), "");
    ASSERT_TRUE(EtcdStore::adopt(two_.settings_));
    const CommitResult first = one_.put("web1", 1, 0);
    const FakeEtcd::State backup = etcd_.state();
    ASSERT_EQ(one_.put("web1", 2, first.current->version).kind, Kind::committed);
    etcd_.put_back(backup);
    const CommitResult result = one_.put("web2", 1, 0);
    EXPECT_EQ(result.kind, Kind::doubtful);
    EXPECT_TRUE(says(result.error, "has lost decisions that were given")) << result.error;
    EXPECT_EQ(one_.look("web1", first.current->version).kind, Kind::doubtful);
    one_.close();
    EXPECT_TRUE(says(one_.serve(), "was condemned"));
    // Another machine, whose mark is older than the backup, does not follow it either.
    EXPECT_TRUE(says(two_.serve(), "was condemned"));
    EXPECT_FALSE(EtcdStore::adopt(two_.settings_).has_value());
}

TEST_F(EtcdStoreTest, AnOldBackupIsNoticedAtStart) {
    ASSERT_EQ(one_.serve(), "");
    const auto old_identity = one_.store_->identity();
    const CommitResult first = one_.put("web1", 1, 0);
    const FakeEtcd::State backup = etcd_.state();
    ASSERT_EQ(one_.put("web1", 2, first.current->version).kind, Kind::committed);
    one_.close();
    etcd_.put_back(backup);
    EXPECT_TRUE(says(one_.serve(), "does not have line 2"));
    // Decided anew since: as long as what was lost, and still not the same.
    etcd_.put_back(backup);
    Machine forger(etcd_, directory_ / "forger.mark");
    ASSERT_TRUE(EtcdStore::adopt(forger.settings_));
    ASSERT_EQ(forger.serve(), "");
    for (uint64_t epoch = 2; epoch < 5; ++epoch) {
        ASSERT_EQ(forger.put(fmt::format("web{}", epoch), epoch, 0).kind, Kind::committed);
    }
    forger.close();
    EXPECT_TRUE(says(one_.serve(), "differs up to line 2"));
    one_.close();
    // Put back on purpose: under a new identity, which asks every site to enrol again.
    const auto renewed = EtcdStore::renew_identity(one_.settings_);
    ASSERT_TRUE(renewed.has_value()) << renewed.error().context;
    EXPECT_NE(*renewed, old_identity);
    ASSERT_EQ(one_.serve(), "");
    EXPECT_EQ(one_.store_->identity(), *renewed);
    EXPECT_EQ(one_.loaded_.size(), 4u);
    EXPECT_TRUE(says(forger.serve(), "admin adopt"));
}

TEST_F(EtcdStoreTest, ALostStoreIsNotMadeAnewByItself) {
    ASSERT_EQ(one_.serve(), "");
    ASSERT_EQ(one_.put("web1", 1, 0).kind, Kind::committed);
    one_.close();
    etcd_.put_back({});
    EXPECT_TRUE(says(one_.serve(), "the store is gone"));
    ASSERT_TRUE(EtcdStore::renew_identity(one_.settings_));
    ASSERT_EQ(one_.serve(), "");
    EXPECT_TRUE(one_.loaded_.empty());
}

TEST_F(EtcdStoreTest, ACopyInAnotherClusterIsNotFollowed) {
    ASSERT_EQ(one_.serve(), "");
    ASSERT_EQ(one_.put("web1", 1, 0).kind, Kind::committed);
    one_.close();
    FakeEtcd::State copy = etcd_.state();
    copy.cluster_id = 0xc2;
    etcd_.put_back(copy);
    EXPECT_TRUE(
        says(one_.serve(), "cluster 00000000000000c2 holds a copy of the store of cluster"));
    EXPECT_FALSE(EtcdStore::adopt(two_.settings_).has_value());
}

TEST_F(EtcdStoreTest, ANewIdentityEndsThoseWhoServeTheOld) {
    ASSERT_EQ(one_.serve(), "");
    ASSERT_TRUE(EtcdStore::renew_identity(two_.settings_));
    const CommitResult result = one_.put("web1", 1, 0);
    EXPECT_EQ(result.kind, Kind::doubtful);
    EXPECT_TRUE(says(result.error, "identity was changed"));
    EXPECT_TRUE(etcd_.value_of("/antipode/pair/web1").empty());
}

TEST_F(EtcdStoreTest, DeathBetweenEtcdAndTheMarkIsNothing) {
    ASSERT_EQ(one_.serve(), "");
    const auto before = read_file(one_.settings_.mark, 4096);
    ASSERT_TRUE(before.has_value());
    ASSERT_EQ(one_.put("web1", 1, 0).kind, Kind::committed);
    one_.close();
    ASSERT_TRUE(write_file(one_.settings_.mark, *before, 0600, Existing::replace));
    ASSERT_EQ(one_.serve(), "");
    EXPECT_EQ(one_.loaded_.size(), 1u);
}

// A key that somebody deleted in etcd would let a pair begin anew, with its old epochs.
TEST_F(EtcdStoreTest, ADeletedPairIsNoticed) {
    ASSERT_EQ(one_.serve(), "");
    const CommitResult there = one_.put("web1", 1, 0);
    ASSERT_EQ(there.kind, Kind::committed);
    etcd_.erase("/antipode/pair/web1");
    const CommitResult result = one_.put("web1", 2, there.current->version);
    EXPECT_EQ(result.kind, Kind::doubtful);
    EXPECT_TRUE(says(result.error, "web1: was deleted")) << result.error;
    one_.close();
    EXPECT_TRUE(says(one_.serve(), "was condemned"));
    two_.open(EtcdStore::Use::read);
    EXPECT_GT(two_.store_->verify()->findings.size(), 1u);
}

TEST_F(EtcdStoreTest, ADeletedPairIsNoticedAtStart) {
    ASSERT_EQ(one_.serve(), "");
    ASSERT_EQ(one_.put("web1", 1, 0).kind, Kind::committed);
    ASSERT_EQ(one_.put("web2", 1, 0).kind, Kind::committed);
    one_.close();
    etcd_.erase("/antipode/pair/web1");
    EXPECT_TRUE(says(one_.serve(), "holds 1 pairs, expected 2"));
}

TEST_F(EtcdStoreTest, AnyChangeOfHistoryIsFound) {
    ASSERT_EQ(one_.serve(), "");
    uint64_t version = 0;
    for (uint64_t epoch = 1; epoch <= 4; ++epoch) {
        const CommitResult result = one_.put("web1", epoch, version);
        ASSERT_EQ(result.kind, Kind::committed);
        version = result.current->version;
    }
    const FakeEtcd::State sound = etcd_.state();
    const etcd::Keys keys("/antipode/");
    const auto findings = [&] { return one_.store_->verify()->findings.size(); };
    EXPECT_EQ(findings(), 0u);
    etcd_.erase(keys.history(2));
    EXPECT_GT(findings(), 0u);
    etcd_.put_back(sound);
    std::string bytes = etcd_.value_of(keys.history(3));
    bytes[bytes.size() / 2] ^= 1;
    etcd_.put(keys.history(3), bytes);
    EXPECT_GT(findings(), 0u);
    etcd_.put_back(sound);
    etcd_.erase(keys.history(4));
    EXPECT_GT(findings(), 0u);
    etcd_.put_back(sound);
    etcd_.erase(keys.pair(Name::literal("web1")));
    EXPECT_EQ(findings(), 1u);
    etcd_.put_back(sound);
    etcd_.put(keys.pair(Name::literal("web1")),
              wire::encode_record(record_of("web1", 3, one_.store_->identity())));
    EXPECT_EQ(findings(), 1u);
}

TEST_F(EtcdStoreTest, BackupIsEtcdctls) {
    ASSERT_EQ(one_.serve(), "");
    const auto backup = one_.store_->backup("/tmp/x");
    ASSERT_FALSE(backup.has_value());
    EXPECT_TRUE(says(backup.error().context, "etcdctl snapshot save"));
}

}  // namespace
}  // namespace antipode::tiebreaker
