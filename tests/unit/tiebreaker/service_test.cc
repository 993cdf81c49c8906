// The service with a store that does what a test wants: conflicts, failures, doubt.
#include "tiebreaker/service.h"

#include <boost/asio/post.hpp>
#include <map>

#include "tests/unit/tiebreaker/fixture.h"

namespace antipode::tiebreaker {
namespace {

using testing::member;
using testing::request;
using wire::AnswerKind;
using wire::RequestKind;

class FakeStore final : public Store {
  public:
    wire::StoreIdentity identity() const override { return wire::StoreIdentity(77); }
    Result<std::vector<Stored>> load() override {
        std::vector<Stored> out;
        for (const auto& [name, stored] : pairs_) out.push_back(stored);
        return out;
    }
    Result<> start(ChangedHandler changed) override {
        changed_ = std::move(changed);
        return {};
    }
    void commit(Commit commit) override { waiting_.push_back(std::move(commit)); }
    std::chrono::nanoseconds stalled() const override { return {}; }
    void stop() override {}
    Result<std::vector<Decided>> history(const Name&, size_t) override { return history_; }
    Result<Verification> verify() override { return Verification{}; }
    Result<> backup(const std::string&) override { return {}; }

    // Does what waits, the first `count` of it.
    void work(size_t count = 1000) {
        while (count-- > 0 && !waiting_.empty()) {
            Commit commit = std::move(waiting_.front());
            waiting_.erase(waiting_.begin());
            commit.done(apply(commit));
        }
    }
    CommitResult apply(const Commit& commit) {
        if (next_) return *std::exchange(next_, std::nullopt);
        auto found = pairs_.find(commit.pair);
        const uint64_t version = found == pairs_.end() ? 0 : found->second.version;
        std::optional<Stored> current;
        if (found != pairs_.end()) current = found->second;
        if (version != commit.expected_version) {
            return {CommitResult::Kind::conflict, current, {}};
        }
        if (commit.history) history_.push_back(*commit.history);
        if (commit.record) {
            current = Stored{*commit.record, version + 1};
            pairs_[commit.pair] = *current;
        }
        return {CommitResult::Kind::committed, current, {}};
    }

    std::map<Name, Stored> pairs_;
    std::vector<Commit> waiting_;
    std::vector<Decided> history_;
    std::optional<CommitResult> next_;  // in place of the next result
    ChangedHandler changed_;
};

class FakeClient final : public Client {
  public:
    explicit FakeClient(const char* site, std::vector<std::string> pairs = {"*"})
        : identity_{env::PeerRole::site, Name::literal(site), std::move(pairs)}, described_(site) {}
    const env::CertificateIdentity& identity() const override { return identity_; }
    const std::string& described() const override { return described_; }
    void deliver(uint64_t number, wire::ArbiterBody body) override {
        got_.emplace_back(number, std::move(body));
        if (on_deliver_) on_deliver_();
    }
    void push(const wire::ArbiterRecord& record) override {
        pushed_.push_back(record);
        if (on_push_) on_push_();
    }
    const wire::Answer& answer(size_t index) const {
        return std::get<wire::Answer>(got_.at(index).second);
    }
    const wire::ArbiterError& error(size_t index) const {
        return std::get<wire::ArbiterError>(got_.at(index).second);
    }
    env::CertificateIdentity identity_;
    std::string described_;
    std::vector<std::pair<uint64_t, wire::ArbiterBody>> got_;
    std::vector<wire::ArbiterRecord> pushed_;
    std::function<void()> on_deliver_, on_push_;
};

class ServiceTest : public ::testing::Test {
  protected:
    ServiceTest() { EXPECT_TRUE(service_.start().has_value()); }
    void create(const char* pair = "web1") {
        service_.request(a_, 1, request(RequestKind::create, pair, 0, a1_, b1_));
        store_.work();
        ASSERT_EQ(a_->got_.size(), 1u);
        ASSERT_EQ(a_->answer(0).kind, AnswerKind::paired);
        epoch_ = a_->answer(0).record.epoch.value();
        a_->got_.clear();
        store_.history_.clear();
    }
    wire::Request acquire(const Member& me, uint64_t epoch) {
        return request(RequestKind::acquire, "web1", epoch, me, {}, store_.identity());
    }
    const Member a1_ = member("site-a", 1);
    const Member b1_ = member("site-b", 1);
    FakeStore store_;
    Registry registry_;
    std::string fatal_;
    static ServiceLimits limits() {
        ServiceLimits limits;
        limits.pairs_max = 3;
        limits.waiting_per_pair_max = 6;
        limits.watches_per_client_max = 2;
        limits.waiting_per_site_max = 4;
        limits.watches_per_site_max = 2;
        limits.changes_per_second = 0.001;  // none again while a test lasts
        limits.changes_burst = 5;
        return limits;
    }
    Service service_{store_, limits(), registry_, [this](const std::string& why) { fatal_ = why; }};
    std::shared_ptr<FakeClient> a_ = std::make_shared<FakeClient>("site-a");
    std::shared_ptr<FakeClient> b_ = std::make_shared<FakeClient>("site-b");
    uint64_t epoch_ = 0;
};

TEST_F(ServiceTest, NothingIsSaidBeforeItIsDurable) {
    create();
    service_.watch(b_, 5, {Name::literal("web1"), b1_});
    b_->got_.clear();
    service_.request(a_, 2, acquire(a1_, epoch_));
    service_.request(b_, 3, acquire(b1_, epoch_));
    service_.request(b_, 4, request(RequestKind::query, "web1", 0, b1_));
    EXPECT_TRUE(a_->got_.empty() && b_->got_.empty() && b_->pushed_.empty());
    store_.work(1);
    ASSERT_EQ(a_->got_.size(), 1u);
    EXPECT_EQ(a_->answer(0).kind, AnswerKind::granted);
    EXPECT_EQ(b_->pushed_.size(), 1u);
    EXPECT_TRUE(b_->got_.empty()) << "a denial rests on a version, too, and is checked";
    store_.work();
    ASSERT_EQ(b_->got_.size(), 2u);
    EXPECT_EQ(b_->answer(0).kind, AnswerKind::denied);
    EXPECT_EQ(b_->answer(1).record.epoch.value(), epoch_ + 1);
}

TEST_F(ServiceTest, AConflictIsDecidedAnewOnWhatIsThere) {
    create();
    // Another tiebreaker on the same store has granted it to b.
    Stored elsewhere = store_.pairs_.at(Name::literal("web1"));
    const Decision theirs =
        decide(elsewhere.record, acquire(b1_, epoch_), {store_.identity(), PeerPresence::absent});
    store_.pairs_[Name::literal("web1")] = {*theirs.record, elsewhere.version + 1};
    service_.request(a_, 2, acquire(a1_, epoch_));
    store_.work();
    ASSERT_EQ(a_->got_.size(), 1u);
    EXPECT_EQ(a_->answer(0).kind, AnswerKind::denied);
    EXPECT_EQ(a_->answer(0).record.holder, b1_);
}

TEST_F(ServiceTest, WhatAnotherTiebreakerWroteIsPushed) {
    create();
    service_.watch(b_, 5, {Name::literal("web1"), b1_});
    Stored elsewhere = store_.pairs_.at(Name::literal("web1"));
    const Decision theirs =
        decide(elsewhere.record, acquire(a1_, epoch_), {store_.identity(), PeerPresence::absent});
    store_.changed_({*theirs.record, elsewhere.version + 1});
    ASSERT_EQ(b_->pushed_.size(), 1u);
    EXPECT_EQ(b_->pushed_[0].record->epoch.value(), epoch_ + 1);
    store_.changed_(elsewhere);  // late news is no news
    EXPECT_EQ(b_->pushed_.size(), 1u);
}

TEST_F(ServiceTest, AFailedCommitIsAnErrorAndChangesNothing) {
    create();
    store_.next_ = CommitResult{CommitResult::Kind::failed, {}, "disk full"};
    service_.request(a_, 2, acquire(a1_, epoch_));
    store_.work();
    ASSERT_EQ(a_->got_.size(), 1u);
    EXPECT_EQ(a_->error(0).code, Errc::busy);
    EXPECT_NE(a_->error(0).text.find("disk full"), std::string::npos);
    service_.request(b_, 3, acquire(b1_, epoch_));
    store_.work();
    EXPECT_EQ(b_->answer(0).kind, AnswerKind::granted);
    EXPECT_TRUE(fatal_.empty());
}

TEST_F(ServiceTest, InDoubtNothingMoreIsSaid) {
    create();
    store_.next_ = CommitResult{CommitResult::Kind::doubtful, {}, "fsync failed"};
    service_.request(a_, 2, acquire(a1_, epoch_));
    service_.request(b_, 3, acquire(b1_, epoch_));
    store_.work();
    EXPECT_EQ(fatal_, "fsync failed");
    service_.request(b_, 4, acquire(b1_, epoch_));
    store_.work();
    EXPECT_TRUE(a_->got_.empty());
    EXPECT_TRUE(b_->got_.empty());
}

TEST_F(ServiceTest, EndlessConflictsAreAnErrorInTheEnd) {
    create();
    const Stored now = store_.pairs_.at(Name::literal("web1"));
    service_.request(a_, 2, acquire(a1_, epoch_));
    int rounds = 0;
    for (; a_->got_.empty() && rounds < 100; ++rounds) {
        store_.next_ = CommitResult{CommitResult::Kind::conflict, now, {}};
        store_.work(1);
    }
    EXPECT_EQ(a_->error(0).code, Errc::busy);
    EXPECT_LT(rounds, 20);
}

TEST_F(ServiceTest, LimitsHold) {
    create();
    // Requests that wait for one pair.
    for (uint64_t i = 0; i < 6; ++i) {
        service_.request(b_, i + 1, request(RequestKind::query, "web1", 0, b1_));
    }
    ASSERT_EQ(b_->got_.size(), 2u);
    EXPECT_EQ(b_->error(0).code, Errc::busy);
    store_.work();
    EXPECT_EQ(b_->got_.size(), 6u);
    // Pairs.
    for (const char* pair : {"web2", "web3", "web4"}) {
        service_.request(a_, 1, request(RequestKind::create, pair, 0, a1_, b1_));
        store_.work();
    }
    EXPECT_EQ(a_->answer(1).kind, AnswerKind::paired);
    EXPECT_EQ(a_->error(2).code, Errc::limit);
    EXPECT_EQ(service_.pair_count(), 3u);
    // Watches.
    for (const char* pair : {"web1", "web2", "web3"})
        service_.watch(a_, 9, {Name::literal(pair), a1_});
    EXPECT_EQ(a_->error(5).code, Errc::limit);
    EXPECT_EQ(service_.watch_count(), 2u);
    service_.leave(*a_);
    EXPECT_EQ(service_.watch_count(), 0u);
}

// A site that asks without end about its pair does not keep the pair's other site from asking.
TEST_F(ServiceTest, OneSiteCannotKeepTheOtherOut) {
    create();
    for (uint64_t i = 0; i < 20; ++i) {
        service_.request(a_, i + 1, request(RequestKind::query, "web1", 0, a1_));
    }
    EXPECT_EQ(a_->got_.size(), 16u) << "four wait, the others are told that it is busy";
    service_.request(b_, 1, acquire(b1_, epoch_));
    EXPECT_TRUE(b_->got_.empty());
    store_.work();
    ASSERT_EQ(b_->got_.size(), 1u);
    EXPECT_EQ(b_->answer(0).kind, AnswerKind::granted);
    // About a pair that nobody has, all who may ask share.
    std::vector<std::shared_ptr<FakeClient>> strangers;
    for (const char* site : {"site-c", "site-d", "site-e"}) {
        strangers.push_back(std::make_shared<FakeClient>(site));
        for (uint64_t i = 0; i < 4; ++i) {
            service_.request(strangers.back(), i + 1,
                             request(RequestKind::query, "none", 0, member(site, 1)));
        }
    }
    EXPECT_EQ(strangers[0]->got_.size() + strangers[1]->got_.size() + strangers[2]->got_.size(),
              6u);
    store_.work();
}

// What a site has changed without end would fill the store that all pairs decide on.
TEST_F(ServiceTest, APairThatASiteChangesTooOftenIsPutOffAndNotDecided) {
    create();  // one change of site-a's five
    for (uint64_t i = 0; i < 20; ++i) {
        service_.request(a_, i + 2, acquire(a1_, epoch_ + std::min<uint64_t>(i, 4)));
        store_.work();
    }
    EXPECT_EQ(store_.pairs_.at(Name::literal("web1")).record.epoch, Epoch(epoch_ + 4));
    EXPECT_EQ(store_.history_.size(), 4u);
    EXPECT_EQ(a_->answer(3).kind, AnswerKind::granted);
    EXPECT_EQ(a_->error(4).code, Errc::busy);
    EXPECT_NE(a_->error(4).text.find("too often"), std::string::npos);
    // To ask what is decided already, and about another pair, is as before.
    service_.request(a_, 50, acquire(a1_, epoch_ + 3));
    service_.request(a_, 51, request(RequestKind::create, "web2", 0, a1_, b1_));
    store_.work();
    EXPECT_EQ(a_->answer(20).kind, AnswerKind::granted);
    EXPECT_EQ(a_->answer(21).kind, AnswerKind::paired);
    // The other site has a share of its own, and so has the administrator.
    service_.request(
        b_, 1, request(RequestKind::force, "web1", uint64_t{1} << 40, b1_, {}, store_.identity()));
    store_.work();
    EXPECT_EQ(b_->answer(0).kind, AnswerKind::granted);
    service_.forget(Name::literal("web1"), administrator(1000), [](const Result<wire::Answer>&) {});
    store_.work();
    EXPECT_EQ(store_.pairs_.at(Name::literal("web1")).record.mode, wire::PairMode::none);
}

TEST_F(ServiceTest, AnswersComeInTheOrderAskedAlsoWhenSomeArePutOff) {
    create();
    for (uint64_t i = 0; i < 3; ++i) {
        service_.request(a_, i + 2, acquire(a1_, epoch_ + i));
        store_.work();
    }
    a_->got_.clear();
    // The fifth change and what would be a sixth and seventh, all waiting at once.
    for (uint64_t i = 0; i < 3; ++i) service_.request(a_, i + 9, acquire(a1_, epoch_ + 3 + i));
    store_.work();
    ASSERT_EQ(a_->got_.size(), 3u);
    for (size_t i = 0; i < 3; ++i) EXPECT_EQ(a_->got_[i].first, i + 9);
    EXPECT_EQ(a_->answer(0).kind, AnswerKind::granted);
    EXPECT_EQ(a_->error(1).code, Errc::busy);
}

// Whatever process of the peer's site watches, and whether it says which: the site is not down.
TEST_F(ServiceTest, AForceIsRefusedWhileAnyConnectionOfThePeersSiteWatches) {
    create();
    service_.watch(a_, 5, {Name::literal("web1"), Member{}});
    a_->got_.clear();
    const auto force =
        request(RequestKind::force, "web1", uint64_t{1} << 40, b1_, {}, store_.identity());
    service_.request(b_, 1, force);
    store_.work();
    EXPECT_EQ(b_->answer(0).reason, wire::RefusalReason::peer_connected);
    service_.leave(*a_);
    service_.request(b_, 2, force);
    store_.work();
    EXPECT_EQ(b_->answer(1).kind, AnswerKind::granted);
}

// Several requests that wait are put off one after the other, and the rest is served.
TEST_F(ServiceTest, WhatIsPutOffMakesRoomForWhatWaits) {
    create();
    for (uint64_t i = 0; i < 4; ++i) {
        service_.request(a_, i + 2, acquire(a1_, epoch_ + i));
        store_.work();
    }
    a_->got_.clear();
    service_.request(b_, 1, request(RequestKind::query, "web1", 0, b1_));
    for (uint64_t i = 0; i < 3; ++i) service_.request(a_, i + 9, acquire(a1_, epoch_ + 4));
    service_.request(b_, 2, request(RequestKind::query, "web1", 0, b1_));
    store_.work();
    ASSERT_EQ(a_->got_.size(), 3u);
    for (size_t i = 0; i < 3; ++i) EXPECT_EQ(a_->error(i).code, Errc::busy);
    EXPECT_EQ(b_->got_.size(), 2u);
}

// Each change is told to all who watch: a site's many connections do not make that dear.
TEST_F(ServiceTest, ASitesConnectionsThatWatchOnePairAreBounded) {
    create();
    std::vector<std::shared_ptr<FakeClient>> many;
    for (int i = 0; i < 4; ++i) {
        many.push_back(std::make_shared<FakeClient>("site-a"));
        service_.watch(many.back(), 7, {Name::literal("web1"), a1_});
        service_.watch(many.back(), 8, {Name::literal("web1"), a1_});  // the same again
    }
    EXPECT_EQ(service_.watch_count(), 2u);
    EXPECT_EQ(many[3]->error(0).code, Errc::limit);
    service_.watch(b_, 7, {Name::literal("web1"), b1_});
    EXPECT_EQ(service_.watch_count(), 3u);
    service_.leave(*many[0]);
    service_.watch(many[3], 9, {Name::literal("web1"), a1_});
    EXPECT_EQ(service_.watch_count(), 3u);
}

// Denials of ever other requests are listed for a while, then counted.
TEST_F(ServiceTest, DecisionsThatChangeNothingAreNotListedWithoutEnd) {
    create();
    for (uint64_t i = 0; i < 300; ++i) {
        service_.request(b_, i + 1,
                         request(RequestKind::acquire, "web1", epoch_, member("site-b", 100 + i),
                                 {}, store_.identity()));
        store_.work();
    }
    EXPECT_EQ(b_->answer(299).kind, AnswerKind::denied);
    EXPECT_LE(store_.history_.size(), 60u) << "one a second at the most";
}

TEST_F(ServiceTest, UnknownPairsCostNothing) {
    for (int i = 0; i < 1000; ++i) {
        service_.request(a_, 1, request(RequestKind::query, fmt::format("p{}", i).c_str(), 0, a1_));
        store_.work();
    }
    EXPECT_EQ(a_->answer(999).reason, wire::RefusalReason::unknown_pair);
    EXPECT_EQ(service_.remembered_count(), 0u);
    EXPECT_TRUE(store_.history_.empty());
}

TEST_F(ServiceTest, HistoryListsEveryChangeAndCountsWhatRepeats) {
    create();
    service_.request(a_, 2, acquire(a1_, epoch_));
    store_.work();
    ASSERT_EQ(store_.history_.size(), 1u);
    EXPECT_EQ(store_.history_[0].kind, AnswerKind::granted);
    EXPECT_TRUE(store_.history_[0].record.has_value());
    EXPECT_EQ(store_.history_[0].by, "site-a");
    for (int i = 0; i < 50; ++i) {
        service_.request(b_, 3, acquire(b1_, epoch_));
        store_.work();
    }
    ASSERT_EQ(store_.history_.size(), 2u) << "the denial once";
    EXPECT_EQ(store_.history_[1].kind, AnswerKind::denied);
    service_.request(a_, 4, acquire(a1_, epoch_ + 1));
    store_.work();
    ASSERT_EQ(store_.history_.size(), 3u);
    EXPECT_EQ(store_.history_[2].unlisted, 49u);
}

// A client that ends while it is being told something.
TEST_F(ServiceTest, AClientMayLeaveAtAnyCall) {
    create();
    service_.watch(a_, 5, {Name::literal("web1"), a1_});
    service_.watch(b_, 5, {Name::literal("web1"), b1_});
    b_->on_push_ = [&] { service_.leave(*b_); };
    a_->on_deliver_ = [&] { service_.leave(*a_); };
    service_.request(a_, 2, acquire(a1_, epoch_));
    store_.work();
    EXPECT_EQ(service_.watch_count(), 0u);
    EXPECT_EQ(b_->pushed_.size(), 1u);
    service_.request(a_, 2, acquire(a1_, epoch_ + 1));
    store_.work();
    EXPECT_EQ(b_->pushed_.size(), 1u);
}

TEST_F(ServiceTest, TheAdministratorForgetsAndTheEpochStays) {
    create();
    std::optional<Result<wire::Answer>> said;
    service_.forget(Name::literal("web1"), administrator(1000),
                    [&](Result<wire::Answer> answer) { said = answer; });
    store_.work();
    ASSERT_TRUE(said && said->has_value());
    EXPECT_EQ((*said)->record.mode, wire::PairMode::none);
    EXPECT_EQ(store_.history_.back().by, "administrator uid 1000");
    service_.request(a_, 2, acquire(a1_, epoch_));
    store_.work();
    EXPECT_EQ(a_->answer(0).kind, AnswerKind::denied);
    service_.request(a_, 3, request(RequestKind::create, "web1", 0, a1_, b1_));
    store_.work();
    EXPECT_GT(a_->answer(1).record.epoch.value(), epoch_);
}

}  // namespace
}  // namespace antipode::tiebreaker
