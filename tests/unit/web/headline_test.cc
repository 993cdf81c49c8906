#include "web/headline.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace antipode::web {
namespace {

using control::State;
using testing::HasSubstr;

View view_of(const std::string& site, const std::string& peer, State state) {
    View view;
    view.id = site + "/web1";
    view.reachable = true;
    view.status.emplace();
    view.status->pair = "web1";
    view.status->site = site;
    view.status->peer_site = peer;
    view.status->state = state;
    view.status->reason = "because";
    view.status->protection = control::Protection::protected_;
    view.status->protection_reason = "all is well";
    view.status->link.session_up = true;
    return view;
}

TEST(Headline, APairIsAsGoodAsItsProtection) {
    View primary = view_of("a", "b", State::primary);
    Headline headline = judge({&primary});
    EXPECT_EQ(headline.word, "protected");
    EXPECT_EQ(headline.mood, Mood::good);
    EXPECT_EQ(headline.reason, "all is well");
    primary.status->protection = control::Protection::unprotected;
    headline = judge({&primary});
    EXPECT_EQ(headline.word, "unprotected");
    EXPECT_EQ(headline.mood, Mood::bad);
}

TEST(Headline, ThePeerIsInferredAndSaysSo) {
    View primary = view_of("a", "b", State::primary);
    Headline headline = judge({&primary});
    ASSERT_EQ(headline.sites.size(), 2u);
    EXPECT_TRUE(headline.sites[0].seen);
    EXPECT_TRUE(headline.sites[0].holds_vm);
    EXPECT_EQ(headline.sites[1].word, "backup");
    EXPECT_FALSE(headline.sites[1].seen);
    EXPECT_EQ(headline.sites[1].reason, "as a sees it");
    primary.status->link.session_up = false;
    headline = judge({&primary});
    EXPECT_EQ(headline.sites[1].word, "unknown");
    EXPECT_EQ(headline.sites[1].reason, "not reachable from a");
    View solo = view_of("a", "b", State::solo);
    EXPECT_EQ(judge({&solo}).sites[1].word, "unknown");
}

TEST(Headline, AThirdSiteIsASpareAndIdleAsItShouldBe) {
    View primary = view_of("a", "b", State::primary);
    primary.status->spare_site = "c";
    Headline headline = judge({&primary});
    ASSERT_EQ(headline.sites.size(), 3u);
    EXPECT_EQ(headline.sites[2].site, "c");
    EXPECT_EQ(headline.sites[2].reason, "a spare; not seen from a");
    EXPECT_EQ(headline.mood, Mood::good);

    View spare = view_of("c", "a", State::halted);
    spare.status->spare_site = "b";
    EXPECT_EQ(judge({&spare}).mood, Mood::bad) << "nobody knows";
    control::TiebreakerRecord record;
    record.holder = "a";
    record.members = {{"a", Incarnation(1)}, {"b", Incarnation(2)}};
    spare.status->tiebreaker.record = record;
    headline = judge({&spare});
    EXPECT_EQ(headline.mood, Mood::unknown);
    EXPECT_EQ(headline.reason, "a spare: the VM is at a");
    EXPECT_THAT(judge({&primary, &spare}).sites, testing::SizeIs(3));
}

TEST(Headline, TheSiteWithTheVmSpeaksForThePair) {
    View halted = view_of("a", "b", State::halted);
    View solo = view_of("b", "a", State::solo);
    const Headline headline = judge({&halted, &solo});
    EXPECT_EQ(headline.word, "solo");
    EXPECT_EQ(headline.leader, "b/web1");
    EXPECT_EQ(headline.mood, Mood::warning);
    ASSERT_EQ(headline.sites.size(), 2u);
    EXPECT_EQ(headline.sites[0].word, "halted");
    EXPECT_EQ(headline.sites[0].mood, Mood::bad);
}

// A primary that died is remembered as primary; the survivor's word must count, not the memory.
TEST(Headline, AMemoryNeverOutweighsAnAnswer) {
    View dead = view_of("a", "b", State::primary);
    dead.reachable = false;
    dead.error = "connection refused";
    View alive = view_of("b", "a", State::waiting);
    const Headline headline = judge({&dead, &alive});
    EXPECT_EQ(headline.word, "waiting");
    EXPECT_EQ(headline.mood, Mood::bad);
    EXPECT_EQ(headline.sites[0].word, "unknown");
    EXPECT_FALSE(headline.sites[0].holds_vm);
    EXPECT_THAT(headline.sites[0].reason, HasSubstr("was primary"));
}

TEST(Headline, NothingKnownIsUnknownNotGood) {
    View dead = view_of("a", "b", State::primary);
    dead.reachable = false;
    dead.error = "connection refused";
    Headline headline = judge({&dead});
    EXPECT_EQ(headline.word, "unknown");
    EXPECT_EQ(headline.mood, Mood::bad);
    EXPECT_EQ(headline.reason, "connection refused");
    View fresh;
    fresh.id = "web1";
    headline = judge({&fresh});
    EXPECT_EQ(headline.word, "unknown");
    EXPECT_EQ(headline.mood, Mood::unknown);
}

TEST(Headline, EveryStateHasAMoodAndAtMostOneSiteHoldsTheVm) {
    for (int i = 1; i <= static_cast<int>(State::failed); ++i) {
        const auto state = static_cast<State>(i);
        View view = view_of("a", "b", state);
        const Headline headline = judge({&view});
        EXPECT_NE(headline.mood, Mood::unknown) << control::word(state);
        EXPECT_FALSE(headline.word.empty());
        int holders = 0;
        for (const SiteSummary& site : headline.sites) holders += site.holds_vm ? 1 : 0;
        EXPECT_LE(holders, 1) << control::word(state);
    }
}

}  // namespace
}  // namespace antipode::web
