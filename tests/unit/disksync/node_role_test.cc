// Promotion with a peer that is there: within the connection, or where the peer cannot, by parting
// from it and meeting it again. What is answered afterwards is at the peer.
#include <gtest/gtest.h>

#include "tests/unit/disksync/node_pair.h"

namespace antipode::disksync {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

NodeConfig in_mode(Mode mode) {
    NodeConfig config;
    config.mode = mode;
    return config;
}

constexpr uint8_t kOldVersion = 2;

class Parting : public testing::TestWithParam<Mode> {};

TEST_P(Parting, WritesWaitForThePeerToComeBack) {
    NodePair pair(in_mode(GetParam()), 1, kOldVersion);
    pair.input(0, [](Node& node) { ASSERT_TRUE(node.promote(Node::Force::no)); });
    ASSERT_TRUE(pair.run_until([&] { return pair.node(0).is_primary(); }));
    bool seen = false;
    const uint64_t id = pair.write(0, 5, 77);
    pair.on_answer = [&](uint64_t answered) {
        seen |= answered == id && pair.node(0).status().link == LinkState::streaming;
    };
    pair.run_for(milliseconds(5));
    EXPECT_FALSE(pair.answered(id));
    EXPECT_GT(pair.node(0).status().waits_for_peer, seconds(2));
    ASSERT_TRUE(pair.run_until([&] { return pair.succeeded(id); }));
    EXPECT_TRUE(seen) << "answered without the peer";
    EXPECT_EQ(pair.node(0).status().waits_for_peer, Duration::zero());
    ASSERT_TRUE(pair.run_until([&] { return pair.disk(1).at(5) == 77; }));
    EXPECT_FALSE(pair.has_event(0, "resync"));
    EXPECT_FALSE(pair.has_event(0, "promotion-wait"));
}

TEST_P(Parting, ButNotForEver) {
    NodePair pair(in_mode(GetParam()), 1, kOldVersion);
    pair.reconnects = false;
    ASSERT_TRUE(pair.promote(0));
    const Instant began = pair.now();
    const uint64_t id = pair.write(0, 5, 77);
    ASSERT_TRUE(pair.run_until([&] { return pair.succeeded(id); }));
    EXPECT_GE(pair.now() - began, milliseconds(2900));
    EXPECT_LT(pair.now() - began, milliseconds(3200));
    EXPECT_TRUE(pair.has_event(0, "promotion-wait"));
    // From here on it is alone, and that is on record.
    EXPECT_FALSE(pair.site(0).record_on_disk(0).generation_shared);
    const uint64_t next = pair.write(0, 6, 78);
    ASSERT_TRUE(pair.run_until([&] { return pair.succeeded(next); }, milliseconds(50)));
    pair.connect();
    ASSERT_TRUE(pair.run_until([&] { return pair.together(); }));
    EXPECT_EQ(pair.disk(1).at(5), 77u);
    EXPECT_EQ(pair.disk(1).at(6), 78u);
}

INSTANTIATE_TEST_SUITE_P(Modes, Parting, testing::Values(Mode::semi_sync, Mode::sync),
                         [](const auto& each) {
                             return each.param == Mode::sync ? std::string("sync")
                                                             : std::string("semi_sync");
                         });

TEST(Promotion, AsyncWritesDoNotWait) {
    NodePair pair(in_mode(Mode::async), 1, kOldVersion);
    pair.reconnects = false;
    ASSERT_TRUE(pair.promote(0));
    const uint64_t id = pair.write(0, 5, 77);
    EXPECT_TRUE(pair.run_until([&] { return pair.succeeded(id); }, milliseconds(20)));
}

TEST(Promotion, WithoutAPeerWritesDoNotWait) {
    NodePair pair(in_mode(Mode::sync));
    pair.reconnects = false;
    pair.cut();
    ASSERT_TRUE(pair.promote(0));
    const uint64_t id = pair.write(0, 5, 77);
    EXPECT_TRUE(pair.run_until([&] { return pair.succeeded(id); }, milliseconds(20)));
}

TEST(Promotion, ThePeerCannotBePromotedBesides) {
    NodePair pair(in_mode(Mode::sync));
    ASSERT_TRUE(pair.promote(0));
    pair.input(1, [](Node& node) {
        const auto promoted = node.promote(Node::Force::no);
        ASSERT_FALSE(promoted);
        EXPECT_EQ(promoted.error().code, Errc::busy);
    });
}

// ---- within the connection

// Before, the site with the higher id sends: a promotion of the other one turns the stream round.
class Turning : public testing::TestWithParam<size_t> {
  protected:
    const size_t site = GetParam();
    const size_t peer = 1 - GetParam();
};

INSTANTIATE_TEST_SUITE_P(Sites, Turning, testing::Values(0, 1), [](const auto& each) {
    return each.param == 0 ? std::string("receiver") : std::string("sender");
});

TEST_P(Turning, WhatIsAnsweredFirstIsAtThePeer) {
    NodePair pair(in_mode(Mode::sync), 2);
    ASSERT_TRUE(pair.promote(site));
    const Epoch epoch = pair.node(site).status().disks[0].epoch;
    for (size_t disk = 0; disk < 2; ++disk) {
        EXPECT_EQ(pair.site(peer).record_on_disk(disk).epoch, epoch)
            << "the peer would still take the old epoch's writes";
    }
    const uint64_t id = pair.write(site, 5, 77);
    bool on_record = false;
    pair.on_answer = [&](uint64_t) {
        on_record = pair.site(site).record_on_disk(0).open_for_writing &&
                    pair.site(site).record_on_disk(1).open_for_writing;
    };
    ASSERT_TRUE(pair.run_until([&] { return pair.succeeded(id); }));
    EXPECT_TRUE(on_record) << "a crash would not have been known as a primary's";
    pair.crash(site, SimSite::Crash::power);
    for (size_t each = 0; each < 2; ++each) {
        EXPECT_FALSE(pair.has_event(each, "link", "disconnected: promoted"));
    }
    EXPECT_EQ(pair.disk(peer).at(5), 77u);
    ASSERT_TRUE(pair.promote(peer));
    const uint64_t next = pair.write(peer, 6, 78);
    ASSERT_TRUE(pair.run_until([&] { return pair.succeeded(next); }));
    pair.restart(site);
    pair.connect();
    ASSERT_TRUE(pair.run_until([&] { return pair.together(); }));
    EXPECT_EQ(pair.disk(site).at(5), 77u);
    EXPECT_EQ(pair.disk(site).at(6), 78u);
}

TEST_P(Turning, ThereAndBackAgain) {
    NodePair pair(in_mode(Mode::sync));
    for (Stamp stamp = 1; stamp <= 6; ++stamp) {
        const size_t primary = stamp % 2 == 0 ? site : peer;
        ASSERT_TRUE(pair.promote(primary)) << stamp;
        const uint64_t id = pair.write(primary, stamp, stamp);
        ASSERT_TRUE(pair.run_until([&] { return pair.succeeded(id); }));
        EXPECT_EQ(pair.disk(1 - primary).at(stamp), stamp);
        pair.input(primary, [](Node& node) { ASSERT_TRUE(node.demote()); });
        ASSERT_TRUE(pair.run_until([&] { return !pair.node(primary).is_primary(); }));
        pair.run_for(milliseconds(1));
    }
    EXPECT_FALSE(pair.has_event(0, "link", "disconnected"));
    EXPECT_FALSE(pair.has_event(1, "link", "disconnected"));
    EXPECT_FALSE(pair.has_event(0, "resync"));
}

TEST_P(Turning, AWriteOfTheOldEpochIsRefused) {
    NodePair pair(in_mode(Mode::sync));
    ASSERT_TRUE(pair.promote(site));
    std::optional<SyncFrame> old;
    pair.tamper = [&](size_t, SyncFrame& frame) {
        if (frame.type == SyncType::write) old = frame;
        return true;
    };
    const uint64_t id = pair.write(site, 5, 77);
    ASSERT_TRUE(pair.run_until([&] { return pair.succeeded(id) && old; }));
    pair.input(site, [](Node& node) { ASSERT_TRUE(node.demote()); });
    ASSERT_TRUE(pair.run_until([&] { return !pair.node(site).is_primary(); }));
    ASSERT_TRUE(pair.promote(site));
    old->sequence += 1;
    old->body = wire::SyncRange{9 * kSimSectorBytes, kSimSectorBytes};
    pair.deliver(site, *old);
    ASSERT_TRUE(pair.run_until([&] { return pair.has_event(peer, "stale-epoch"); }));
    pair.run_for(milliseconds(5));
    EXPECT_EQ(pair.disk(peer).at(9), 0u);
}

TEST_P(Turning, ACrashInTheMiddleIsDecidedRightly) {
    for (int events = 1; events < 60; events += 2) {
        for (const size_t victim : {size_t{0}, size_t{1}}) {
            SCOPED_TRACE(fmt::format("after {} events, of site {}", events, victim));
            NodePair pair(in_mode(Mode::sync));
            pair.input(site, [](Node& node) { ASSERT_TRUE(node.promote(Node::Force::no)); });
            const uint64_t early = pair.write(site, 4, 76);  // refused, or like any other
            for (int event = 0; event < events; ++event) pair.step();
            const uint64_t id = pair.write(site, 5, 77);
            for (int event = 0; event < events % 7; ++event) pair.step();
            const bool power = events % 4 == 1;
            pair.crash(victim, power ? SimSite::Crash::power : SimSite::Crash::kill);
            const bool answered = pair.succeeded(id) || pair.succeeded(early);
            pair.restart(victim);
            ASSERT_TRUE(pair.promote(site));
            const uint64_t last = pair.write(site, 6, 78);
            pair.connect();
            ASSERT_TRUE(pair.run_until([&] { return pair.succeeded(last) && pair.together(); }));
            EXPECT_EQ(pair.disk(0).contents(), pair.disk(1).contents());
            EXPECT_EQ(pair.disk(peer).at(6), 78u);
            EXPECT_TRUE(!answered || power || pair.disk(peer).at(5) == 77 ||
                        pair.disk(peer).at(4) == 76);
            EXPECT_FALSE(pair.has_event(0, "halted"));
            EXPECT_FALSE(pair.has_event(1, "halted"));
        }
    }
}

TEST_P(Turning, APeerThatDoesNotAnswerIsLeft) {
    NodeConfig config = in_mode(Mode::sync);
    config.promotion_wait = milliseconds(100);
    NodePair pair(config);
    pair.reconnects = false;
    pair.tamper = [](size_t, const SyncFrame& frame) { return frame.type != SyncType::turned; };
    const Instant began = pair.now();
    ASSERT_TRUE(pair.promote(site));
    EXPECT_GE(pair.now() - began, milliseconds(95));
    const uint64_t id = pair.write(site, 5, 77);
    ASSERT_TRUE(pair.run_until([&] { return pair.succeeded(id); }, milliseconds(20)));
    EXPECT_FALSE(pair.site(site).record_on_disk(0).generation_shared);
    pair.tamper = nullptr;
    pair.connect();
    ASSERT_TRUE(pair.run_until([&] { return pair.together(); }));
    EXPECT_EQ(pair.disk(peer).at(5), 77u);
}

TEST(Promotion, APeerThatIsBusyIsMetAgain) {
    NodePair pair(in_mode(Mode::sync));
    pair.input(1, [](Node& node) { ASSERT_TRUE(node.verify(0, 0, 200)); });
    ASSERT_TRUE(pair.promote(0));
    EXPECT_TRUE(pair.has_event(0, "link", "does not follow"));
    bool seen = false;
    pair.on_answer = [&](uint64_t) { seen = pair.disk(1).at(5) == 77; };
    const uint64_t id = pair.write(0, 5, 77);
    ASSERT_TRUE(pair.run_until([&] { return pair.succeeded(id); }));
    EXPECT_TRUE(seen) << "answered without the peer";
}

TEST(Promotion, OfBothAtOnceIsForAnOperator) {
    NodePair pair(in_mode(Mode::sync));
    for (size_t site = 0; site < 2; ++site) {
        pair.input(site, [](Node& node) { ASSERT_TRUE(node.promote(Node::Force::no)); });
    }
    ASSERT_TRUE(
        pair.run_until([&] { return pair.has_event(0, "halted") && pair.has_event(1, "halted"); }));
}

TEST(Promotion, IsRefusedWhereAResyncIsAboutToBegin) {
    NodePair pair(in_mode(Mode::sync));
    ASSERT_TRUE(pair.promote(0));
    pair.reconnects = false;
    pair.cut();
    const uint64_t id = pair.write(0, 5, 77);
    ASSERT_TRUE(pair.run_until([&] { return pair.succeeded(id); }));
    pair.input(0, [](Node& node) { ASSERT_TRUE(node.demote()); });
    ASSERT_TRUE(pair.run_until([&] { return !pair.node(0).is_primary(); }));
    pair.connect();
    ASSERT_TRUE(pair.run_until([&] { return pair.has_event(1, "resync"); }));
    // Its record does not say so yet: the undo log comes first.
    ASSERT_EQ(pair.node(1).status().disks[0].state, DiskState::consistent);
    pair.input(1, [](Node& node) {
        const auto promoted = node.promote(Node::Force::yes);
        ASSERT_FALSE(promoted);
        EXPECT_EQ(promoted.error().code, Errc::denied);
    });
    ASSERT_TRUE(pair.run_until([&] { return pair.together(); }));
    EXPECT_EQ(pair.disk(1).at(5), 77u);
}

// Whichever side sends.
TEST(Outdated, EndsWhereBothTurnOutToBeEqual) {
    for (const size_t site : {size_t{0}, size_t{1}}) {
        NodePair pair(in_mode(Mode::sync));
        pair.input(site, [](Node& node) { ASSERT_TRUE(node.outdate()); });
        pair.run_for(milliseconds(5));
        EXPECT_EQ(pair.node(site).status().disks[0].state, DiskState::outdated);
        pair.cut();
        EXPECT_TRUE(pair.run_until([&] { return pair.together(); })) << "site " << site;
        EXPECT_EQ(pair.node(1 - site).status().disks[0].peer_state, DiskState::up_to_date);
    }
}

// A write that is still on its way to the store is not covered by a flush that was asked before.
TEST(Demotion, LeavesNothingThatAPowerFailureTakesAway) {
    for (int writes = 1; writes < 12; ++writes) {
        NodePair pair(in_mode(Mode::async));
        ASSERT_TRUE(pair.promote(0));
        for (Stamp stamp = 1; stamp <= static_cast<Stamp>(writes); ++stamp) {
            pair.write(0, stamp, stamp);
        }
        pair.input(0, [](Node& node) { ASSERT_TRUE(node.demote()); });
        ASSERT_TRUE(pair.run_until([&] { return !pair.node(0).is_primary(); }));
        ASSERT_TRUE(pair.run_until([&] { return pair.node(0).idle(); }));
        const auto contents = pair.disk(0).contents();
        EXPECT_EQ(contents.size(), static_cast<size_t>(writes));
        pair.crash(0, SimSite::Crash::power);
        EXPECT_EQ(pair.disk(0).contents(), contents);
        EXPECT_EQ(pair.disk(1).contents(), contents);
    }
}

TEST(Promotion, AHigherEpochElsewhereEndsIt) {
    NodePair pair(in_mode(Mode::sync));
    pair.input(0, [](Node& node) {
        ASSERT_TRUE(node.promote(Node::Force::no));
        node.fence(Epoch(40));
    });
    pair.run_for(milliseconds(100));
    EXPECT_FALSE(pair.node(0).is_primary());
    EXPECT_TRUE(pair.has_event(0, "role", "not promoted"));
}

TEST(Promotion, DuringAResyncOfThePeerTheStreamStays) {
    NodePair pair(in_mode(Mode::sync));
    ASSERT_TRUE(pair.promote(0));
    pair.reconnects = false;
    pair.cut();
    for (uint64_t block = 0; block < 60; ++block) {
        const uint64_t id = pair.write(0, block * kBlockBytes / kSimSectorBytes, block + 1);
        ASSERT_TRUE(pair.run_until([&] { return pair.succeeded(id); }));
    }
    pair.input(0, [](Node& node) { ASSERT_TRUE(node.demote()); });
    ASSERT_TRUE(pair.run_until([&] { return !pair.node(0).is_primary(); }));
    pair.input(0, [](Node& node) { EXPECT_TRUE(node.pause_resync(true)); });
    pair.connect();
    ASSERT_TRUE(pair.run_until([&] { return pair.node(0).status().link == LinkState::streaming; }));
    ASSERT_TRUE(pair.promote(0));
    EXPECT_FALSE(pair.has_event(0, "link", "disconnected: promoted"));
    const uint64_t id = pair.write(0, 3, 99);
    ASSERT_TRUE(pair.run_until([&] { return pair.succeeded(id); }));
    pair.input(0, [](Node& node) { EXPECT_TRUE(node.pause_resync(false)); });
    ASSERT_TRUE(pair.run_until([&] { return pair.together(); }));
    EXPECT_EQ(pair.disk(0).contents(), pair.disk(1).contents());
}

}  // namespace
}  // namespace antipode::disksync
