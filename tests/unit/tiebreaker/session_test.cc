// What sites and the tiebreaker say to each other, over real connections.
#include "tests/unit/tiebreaker/fixture.h"

namespace antipode::tiebreaker::testing {
namespace {

using wire::AnswerKind;
using wire::PairMode;
using wire::RefusalReason;
using wire::RequestKind;

class SessionTest : public ::testing::Test {
  protected:
    SessionTest() {
        certificates_.tiebreaker("tb");
        for (const char* name : {"site-a", "site-b", "site-c"}) certificates_.site(name);
        daemon_.emplace(test_config(directory_, certificates_));
    }
    std::unique_ptr<RawClient> connect(const char* site) {
        contexts_.push_back(raw_context(certificates_.files(site)));
        auto client = std::make_unique<RawClient>(daemon_->port(), contexts_.back().get());
        client->hello(site);
        return client;
    }
    wire::StoreIdentity store() { return daemon_->daemon().identity(); }
    wire::Answer create(RawClient& client) {
        return client.ask(request(RequestKind::create, "web1", 0, a1_, b1_));
    }
    const Member a1_ = member("site-a", 1);
    const Member b1_ = member("site-b", 1);
    TempDirectory directory_;
    Certificates certificates_{directory_};
    std::optional<RunningDaemon> daemon_;
    std::vector<SslContextPointer> contexts_;
};

TEST_F(SessionTest, TheFirstOfAPairWinsAndTheOtherIsDeniedForEver) {
    auto a = connect("site-a");
    auto b = connect("site-b");
    const auto created = create(*a);
    ASSERT_EQ(created.kind, AnswerKind::paired);
    EXPECT_EQ(created.store, store());
    const Epoch epoch = created.record.epoch;
    auto acquire_b = request(RequestKind::acquire, "web1", epoch.value(), b1_, {}, store());
    auto acquire_a = request(RequestKind::acquire, "web1", epoch.value(), a1_, {}, store());
    const auto won = b->ask(acquire_b);
    EXPECT_EQ(won.kind, AnswerKind::granted);
    EXPECT_EQ(won.record.epoch, epoch.next());
    EXPECT_EQ(won.record.holder, b1_);
    for (int i = 0; i < 3; ++i) {
        EXPECT_EQ(a->ask(acquire_a).kind, AnswerKind::denied);
        EXPECT_EQ(b->ask(acquire_b).kind, AnswerKind::granted) << "asked again, the same answer";
    }
}

TEST_F(SessionTest, AnswersOutliveTheDaemon) {
    Epoch epoch;
    const wire::StoreIdentity before = store();
    {
        auto a = connect("site-a");
        epoch = create(*a).record.epoch;
        EXPECT_EQ(
            a->ask(request(RequestKind::acquire, "web1", epoch.value(), a1_, {}, before)).kind,
            AnswerKind::granted);
    }
    daemon_.reset();
    daemon_.emplace(test_config(directory_, certificates_));
    EXPECT_EQ(store(), before);
    auto b = connect("site-b");
    const auto late = b->ask(request(RequestKind::acquire, "web1", epoch.value(), b1_, {}, before));
    EXPECT_EQ(late.kind, AnswerKind::denied);
    EXPECT_EQ(late.record.holder, a1_);
}

TEST_F(SessionTest, AWatcherIsToldOfEveryChangeAndNothingElse) {
    auto a = connect("site-a");
    auto b = connect("site-b");
    b->send(9, wire::ArbiterWatch{Name::literal("web1"), b1_});
    EXPECT_FALSE(b->expect<wire::ArbiterRecord>(9).record.has_value());
    const Epoch epoch = create(*a).record.epoch;
    EXPECT_EQ(b->expect<wire::ArbiterRecord>(0).record->epoch, epoch);
    // What changes nothing is not pushed: the next push is that of the grant.
    (void)create(*a);
    (void)a->ask(request(RequestKind::query, "web1", 0, a1_));
    (void)a->ask(request(RequestKind::acquire, "web1", epoch.value(), a1_, {}, store()));
    const auto pushed = b->expect<wire::ArbiterRecord>(0);
    EXPECT_EQ(pushed.record->mode, PairMode::solo);
    EXPECT_EQ(pushed.record->epoch, epoch.next());
    b->send(10, wire::ArbiterPing{});
    (void)b->expect<wire::ArbiterPong>(10);
}

TEST_F(SessionTest, ForceIsRefusedWhileThePeerIsInTouch) {
    auto a = connect("site-a");
    const Epoch epoch = create(*a).record.epoch;
    auto b = connect("site-b");
    b->send(1, wire::ArbiterWatch{Name::literal("web1"), b1_});
    (void)b->expect<wire::ArbiterRecord>(1);
    const auto sites = wire::sorted_sites(a1_.site, b1_.site);
    const auto forced = wire::forced_epoch(epoch, sites, a1_.site);
    const auto force = request(RequestKind::force, "web1", forced.value(), a1_, {}, store());
    const auto refused = a->ask(force);
    EXPECT_EQ(refused.kind, AnswerKind::refused);
    EXPECT_EQ(refused.reason, RefusalReason::peer_connected);
    b.reset();
    // The daemon notices in its own time that the connection is gone.
    wire::Answer answer;
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    do {
        answer = a->ask(force);
    } while (answer.kind == AnswerKind::refused && std::chrono::steady_clock::now() < deadline);
    EXPECT_EQ(answer.kind, AnswerKind::granted);
    EXPECT_EQ(answer.record.epoch, forced);
}

TEST_F(SessionTest, ASiteSpeaksForItselfOnly) {
    auto a = connect("site-a");
    (void)create(*a);
    auto c = connect("site-c");
    const auto denied = [&](RawClient& client, const wire::Request& asked, std::string_view says) {
        client.send(50, asked);
        const auto error = client.expect<wire::ArbiterError>(50);
        EXPECT_EQ(error.code, Errc::denied);
        EXPECT_NE(error.text.find(says), std::string::npos) << error.text;
    };
    denied(*c, request(RequestKind::acquire, "web1", 1, member("site-c", 1), {}, store()),
           "belongs to other sites");
    denied(*c, request(RequestKind::acquire, "web1", 1, a1_, {}, store()), "speaks for itself");
    denied(*a, request(RequestKind::acquire, "web1", 1, b1_, {}, store()), "speaks for itself");
    denied(*a, request(RequestKind::forget, "web1", 0, a1_), "only the administrator");
    // A spare that the record does not name yet: its certificate covers the pair, so it may look.
    EXPECT_EQ(c->ask(request(RequestKind::query, "web1", 0, member("site-c", 1))).kind,
              wire::AnswerKind::record);
    c->send(51, wire::ArbiterWatch{Name::literal("web1"), member("site-c", 1)});
    EXPECT_TRUE(c->expect<wire::ArbiterRecord>(51).record.has_value());
}

// A site may do what it likes to its own pair, and nothing to the tiebreaker that serves others.
TEST_F(SessionTest, AnEpochOutOfAllRangeHurtsNobody) {
    auto a = connect("site-a");
    (void)create(*a);
    for (const uint64_t epoch : {uint64_t{0xffffffff} << 32, ~uint64_t{0}}) {
        for (const RequestKind kind :
             {RequestKind::report_force, RequestKind::acquire, RequestKind::create}) {
            for (const char* pair : {"web1", "web2"}) {
                const auto answer = a->ask(request(kind, pair, epoch, a1_, b1_, store()));
                EXPECT_EQ(answer.reason, wire::RefusalReason::malformed);
            }
        }
    }
    auto b = connect("site-b");
    const auto answer = b->ask(request(RequestKind::query, "web1", 0, b1_));
    EXPECT_EQ(answer.record.epoch, Epoch(1));
}

TEST_F(SessionTest, ACertificateForSomePairsIsGoodForThoseOnly) {
    certificates_.site("site-d", {"db-*"});
    certificates_.site("site-e", {});
    auto d = connect("site-d");
    const Member d1 = member("site-d", 1);
    const Member e1 = member("site-e", 1);
    EXPECT_EQ(d->ask(request(RequestKind::create, "db-1", 0, d1, e1)).kind, AnswerKind::paired);
    d->send(60, request(RequestKind::create, "web2", 0, d1, e1));
    EXPECT_NE(d->expect<wire::ArbiterError>(60).text.find("does not cover"), std::string::npos);
    // Without pairs= a site may ask about what names it, and enrol nothing.
    auto e = connect("site-e");
    EXPECT_EQ(e->ask(request(RequestKind::query, "db-1", 0, e1)).kind, AnswerKind::record);
    e->send(61, request(RequestKind::create, "db-2", 0, e1, d1));
    EXPECT_NE(e->expect<wire::ArbiterError>(61).text.find("enrol no pairs"), std::string::npos);
}

TEST_F(SessionTest, AnswersOfOnePairComeInTheOrderAsked) {
    auto a = connect("site-a");
    Epoch epoch = create(*a).record.epoch;
    std::string many;
    for (uint64_t i = 0; i < 8; ++i) {
        wire::encode(
            {i + 1, {}, request(RequestKind::acquire, "web1", epoch.value() + i, a1_, {}, store())},
            many);
    }
    a->send(many);
    for (uint64_t i = 0; i < 8; ++i) {
        const auto answer = a->expect<wire::Answer>(i + 1);
        EXPECT_EQ(answer.kind, AnswerKind::granted);
        EXPECT_EQ(answer.record.epoch.value(), epoch.value() + i + 1);
    }
}

}  // namespace
}  // namespace antipode::tiebreaker::testing
