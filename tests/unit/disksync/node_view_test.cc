// The last consistent point: what readers see of it in a resync, when there is none, and the way
// back to it.
#include <gtest/gtest.h>

#include "tests/unit/disksync/node_pair.h"

namespace antipode::disksync {
namespace {

using std::chrono::milliseconds;

constexpr uint64_t kBlocks = 150;
constexpr uint64_t kBlockSectors = kBlockBytes / kSimSectorBytes;

NodeConfig slow_resync() {
    NodeConfig config;
    config.resync_window_bytes = 8 * kBlockBytes;
    config.durable_bytes = kBlockBytes / 8;
    config.checksum = ChecksumResync::never;
    return config;
}

// Site 0 is primary and has gone on without site 1, whose disks are kept as the point to come.
class Views : public testing::Test {
  protected:
    void begin(const NodeConfig& config = slow_resync(), size_t disks = 1) {
        pair_ = std::make_unique<NodePair>(config, disks);
        pair_->site(1).answered = [this](const NodeAnswer& answer) {
            answers_.insert_or_assign(answer.id, answer);
        };
        pair_->reconnects = false;
        ASSERT_TRUE(pair_->promote(0));
        for (uint16_t disk = 0; disk < disks; ++disk) write(disk, 100, 1000);
        ASSERT_TRUE(pair_->run_until([&] { return pair_->node(1).idle(); }));
        pair_->run_for(milliseconds(20));
        pair_->cut();
        for (uint16_t disk = 0; disk < disks; ++disk) write(disk, kBlocks, 5000);
        for (size_t disk = 0; disk < disks; ++disk) {
            before_.push_back(pair_->site(1).disk(disk).contents());
        }
    }
    // A sector of each of so many blocks.
    void write(uint16_t disk, uint64_t blocks, Stamp first_stamp) {
        for (uint64_t block = 0; block < blocks; ++block) {
            NodeRequest request;
            request.id = 1'000'000 + ++requests_;
            request.disk = disk;
            request.operation = StoreOperation::write;
            request.offset_bytes = block * kBlockBytes + (block % 7) * kSimSectorBytes;
            request.length_bytes = kSimSectorBytes;
            request.data = SharedBytes::make(kSimSectorBytes);
            fill(request.data.writable(), first_stamp + block);
            pair_->input(0, [&](Node& node) { node.request(std::move(request)); });
        }
        ASSERT_TRUE(pair_->run_until([&] {
            const NodeStatus status = pair_->node(0).status();
            return status.changes_in_flight == 0 && status.changes_undurable == 0;
        }));
    }
    PointStatus point() { return pair_->node(1).status().point; }
    uint64_t ask(uint64_t number, uint64_t first_sector, uint64_t sectors, uint16_t disk = 0) {
        const uint64_t id = ++requests_;
        pair_->input(1, [&](Node& node) {
            node.read_view(
                {id, disk, number, first_sector * kSimSectorBytes, sectors * kSimSectorBytes});
        });
        return id;
    }
    const NodeAnswer& answer(uint64_t id) {
        EXPECT_TRUE(pair_->run_until([&] { return answers_.contains(id); })) << id;
        return answers_[id];
    }
    Result<> result(uint64_t id) { return answer(id).result; }
    void expect_old(uint64_t id, uint64_t first_sector, uint16_t disk = 0) {
        const NodeAnswer& got = answer(id);
        ASSERT_TRUE(got.result) << got.result.error().context;
        for (uint64_t at = 0; at < got.data.size() / kSimSectorBytes; ++at) {
            const auto old = before_[disk].find(first_sector + at);
            const Stamp wanted = old == before_[disk].end() ? 0 : old->second;
            ASSERT_EQ(stamp_of(got.data.span().subspan(at * kSimSectorBytes, kSimSectorBytes)),
                      wanted)
                << "sector " << first_sector + at << " of disk " << disk;
        }
    }
    // Every block that was written, old.
    void expect_all_old(uint64_t number, uint16_t disk = 0) {
        constexpr uint64_t kStep = 16 * kBlockSectors;
        std::vector<std::pair<uint64_t, uint64_t>> asked;
        for (uint64_t at = 0; at < kBlocks * kBlockSectors; at += kStep) {
            asked.emplace_back(ask(number, at, kStep, disk), at);
        }
        for (const auto& [id, at] : asked) expect_old(id, at, disk);
    }
    bool arrived(uint64_t blocks) {
        return pair_->run_until([&] {
            const DiskStatus disk = pair_->node(1).status().disks[0];
            return disk.phase == SyncPhase::resync && disk.undo_blocks >= blocks;
        });
    }
    // In the middle of the resync the source dies.
    void break_off() {
        pair_->connect();
        ASSERT_TRUE(arrived(60));
        pair_->crash(0, SimSite::Crash::kill);
        ASSERT_EQ(pair_->node(1).status().disks[0].state, DiskState::inconsistent);
    }

    std::unique_ptr<NodePair> pair_;
    std::map<uint64_t, NodeAnswer> answers_;
    std::vector<SimDisk::Sectors> before_;
    uint64_t requests_ = 0;
};

TEST_F(Views, ShowTheOldContentsAllThroughAResync) {
    begin();
    const PointStatus apart = point();
    ASSERT_TRUE(apart.number) << apart.reason;
    expect_all_old(*apart.number);
    pair_->connect();
    uint64_t looked = 0;
    std::vector<std::pair<uint64_t, uint64_t>> asked;
    Random random(3);
    while (!pair_->together()) {
        pair_->step();
        const PointStatus now = point();
        if (!now.number || asked.size() > 3000) continue;
        ASSERT_EQ(*now.number, *apart.number) << "the point is the same";
        const uint64_t sectors = random.between(1, 300);
        const uint64_t first = random.below(kBlocks * kBlockSectors - sectors);
        asked.emplace_back(ask(*now.number, first, sectors), first);
        ++looked;
    }
    EXPECT_GT(looked, 200u);
    uint64_t passed = 0;
    for (const auto& [id, first] : asked) {
        if (!result(id) && result(id).error().code == Errc::closed) {
            ++passed;
            continue;
        }
        expect_old(id, first);
        if (HasFatalFailure()) return;
    }
    EXPECT_LT(passed, looked / 2);
    EXPECT_NE(pair_->disk(1).contents(), before_[0]);
}

TEST_F(Views, EndWithTheResyncAndAreNotOfTwoPoints) {
    begin();
    const uint64_t number = *point().number;
    pair_->connect();
    ASSERT_TRUE(pair_->run_until([&] { return pair_->together(); }));
    const auto passed = result(ask(number, 0, 8));
    ASSERT_FALSE(passed);
    EXPECT_EQ(passed.error().code, Errc::closed);
    EXPECT_NE(passed.error().context.find("disk0"), std::string::npos) << passed.error().context;
    EXPECT_NE(passed.error().context.find("open it anew"), std::string::npos);
    EXPECT_FALSE(point().number);
    EXPECT_NE(point().reason.find("follows the peer"), std::string::npos) << point().reason;
    // Apart again: another point, and the old number is not its.
    pair_->cut();
    before_[0] = pair_->disk(1).contents();
    ASSERT_TRUE(pair_->run_until([&] { return point().number.has_value(); }));
    EXPECT_NE(*point().number, number);
    EXPECT_FALSE(result(ask(number, 0, 8)));
    expect_all_old(*point().number);
}

TEST_F(Views, OfAResyncThatBrokeOffOutliveACrash) {
    begin();
    break_off();
    const uint64_t number = *point().number;
    expect_all_old(number);
    pair_->crash(1, SimSite::Crash::power);
    pair_->restart(1);
    ASSERT_TRUE(point().number) << point().reason;
    expect_all_old(*point().number);
}

TEST_F(Views, OfAllDisksOfAGroupAreOfOnePoint) {
    begin(slow_resync(), 2);
    pair_->connect();
    struct Asked {
        uint64_t id;
        uint64_t first_sector;
        uint16_t disk;
    };
    std::vector<Asked> asked;
    uint64_t seen = 0;
    while (!pair_->together()) {
        pair_->step();
        if (!point().number) continue;
        for (const DiskStatus& disk : pair_->node(1).status().disks) {
            ASSERT_NE(disk.state, DiskState::up_to_date) << "one has ended, the other has not";
        }
        if (++seen % 10 != 0) continue;
        const auto disk = static_cast<uint16_t>(seen / 10 % 2);
        const uint64_t first = seen / 20 * 7 % (kBlocks - 3) * kBlockSectors;
        asked.push_back({ask(*point().number, first, 2 * kBlockSectors, disk), first, disk});
    }
    EXPECT_GT(asked.size(), 20u);
    for (const Asked& each : asked) {
        if (result(each.id) || result(each.id).error().code != Errc::closed) {
            expect_old(each.id, each.first_sector, each.disk);
        }
    }
}

// The connection breaks off between the ends of two disks: the older log leads too far back.
TEST_F(Views, ThereIsNoneWhereTheDisksOfAGroupWouldGoBackToDifferentPoints) {
    begin(slow_resync(), 2);
    pair_->connect();
    uint64_t adopted = 0;
    pair_->tamper = [&](size_t from, SyncFrame& frame) {
        if (from == 0 && frame.type == SyncType::end && ++adopted == 2) return false;
        return adopted < 2;
    };
    ASSERT_TRUE(pair_->run_until([&] { return adopted == 2; }));
    pair_->run_for(milliseconds(50));
    pair_->tamper = nullptr;
    pair_->cut();
    pair_->run_for(milliseconds(20));
    EXPECT_FALSE(point().number);
    EXPECT_NE(point().reason.find("different points"), std::string::npos) << point().reason;
    write(0, kBlocks, 9000);
    write(1, kBlocks, 9000);
    pair_->connect();
    ASSERT_TRUE(pair_->run_until([&] { return pair_->has_event(1, "undo", "has gone beyond"); }));
    while (!pair_->together()) {
        pair_->step();
        ASSERT_FALSE(point().number);
    }
}

TEST_F(Views, AreRefusedWithTheReason) {
    begin();
    const auto no_disk = result(ask(*point().number, 0, 1, 3));
    EXPECT_EQ(no_disk.error().code, Errc::invalid_argument);
    const uint64_t end = NodePair::kSize / kSimSectorBytes;
    for (const auto& [first, sectors] :
         std::vector<std::pair<uint64_t, uint64_t>>{{end, 1}, {end - 1, 2}, {0, 0}, {0, 3000}}) {
        const auto refused = result(ask(*point().number, first, sectors));
        ASSERT_FALSE(refused) << first;
        EXPECT_EQ(refused.error().code, Errc::invalid_argument);
    }
    EXPECT_FALSE(pair_->node(0).status().point.number);
    EXPECT_NE(pair_->node(0).status().point.reason.find("primary"), std::string::npos);
    pair_->input(1, [](Node& node) { ASSERT_TRUE(node.invalidate()); });
    EXPECT_NE(point().reason.find("first full sync"), std::string::npos) << point().reason;
    pair_->connect();
    while (!pair_->together()) {
        pair_->step();
        ASSERT_FALSE(point().number);
    }
}

TEST_F(Views, NeedAnUndoLogInAResync) {
    NodeConfig config = slow_resync();
    config.keep_undo = false;
    begin(config);
    const uint64_t number = *point().number;
    pair_->connect();
    ASSERT_TRUE(pair_->run_until(
        [&] { return pair_->node(1).status().disks[0].state == DiskState::inconsistent; }));
    EXPECT_NE(point().reason.find("is not kept"), std::string::npos) << point().reason;
    EXPECT_EQ(result(ask(number, 0, 8)).error().code, Errc::closed);
}

TEST_F(Views, TellOfAStoreThatCannotBeRead) {
    begin();
    const uint64_t number = *point().number;
    pair_->disk(1).fail_next(StoreOperation::read, Errc::io);
    const auto failed = result(ask(number, 0, 8));
    ASSERT_FALSE(failed);
    EXPECT_EQ(failed.error().code, Errc::io);
    EXPECT_EQ(failed.error().context.find("disk disk0: "), 0u) << failed.error().context;
    expect_all_old(number);
    EXPECT_EQ(pair_->node(1).status().disks[0].state, DiskState::consistent);
}

TEST_F(Views, AskedForInGreatNumbersWaitForTheirTurn) {
    begin();
    break_off();
    std::vector<uint64_t> asked;
    for (uint64_t count = 0; count < 2000; ++count) {
        asked.push_back(ask(*point().number, count % 100 * kBlockSectors, 1));
    }
    for (size_t index = 0; index < asked.size(); ++index) {
        expect_old(asked[index], index % 100 * kBlockSectors);
    }
}

// ---- back to the point

TEST_F(Views, ACopyGoesOnFromItsLastPointWhenTheSourceIsLost) {
    begin();
    break_off();
    const uint64_t number = *point().number;
    pair_->input(1, [](Node& node) { ASSERT_TRUE(node.promote_at_point()); });
    EXPECT_TRUE(pair_->node(1).is_returning());
    EXPECT_EQ(pair_->node(1).status().disks[0].phase, SyncPhase::undo);
    const uint64_t during = ask(number, 0, 16 * kBlockSectors);
    ASSERT_TRUE(pair_->run_until([&] { return pair_->node(1).is_primary(); }));
    expect_old(during, 0);
    EXPECT_FALSE(pair_->node(1).is_returning());
    EXPECT_EQ(pair_->disk(1).contents(), before_[0]);
    EXPECT_EQ(result(ask(number, 0, 8)).error().code, Errc::closed);
    // What was put back is marked: the source has taken its marks of it away.
    EXPECT_GE(pair_->node(1).status().disks[0].marked_blocks, 60u);
    EXPECT_TRUE(pair_->run_until([&] { return pair_->node(1).idle(); }));
    EXPECT_FALSE(pair_->site(1).record_on_disk(0).undo_kept);
}

TEST_F(Views, TheWayBackCanBeTakenAgainAfterACrash) {
    for (const uint64_t steps : {2u, 10u, 40u, 100u, 200u, 300u}) {
        before_.clear();
        begin();
        break_off();
        pair_->input(1, [](Node& node) { ASSERT_TRUE(node.promote_at_point()); });
        for (uint64_t step = 0; step < steps; ++step) pair_->step();
        pair_->crash(1, SimSite::Crash::power);
        pair_->restart(1);
        ASSERT_TRUE(point().number) << point().reason;
        expect_all_old(*point().number);
        pair_->input(1, [](Node& node) { ASSERT_TRUE(node.promote_at_point()); });
        ASSERT_TRUE(pair_->run_until([&] { return pair_->node(1).is_primary(); }));
        EXPECT_EQ(pair_->disk(1).contents(), before_[0]);
    }
}

TEST_F(Views, TheWayBackIsRefusedWhereItMakesNoSense) {
    begin();
    pair_->input(0,
                 [](Node& node) { EXPECT_EQ(node.promote_at_point().error().code, Errc::denied); });
    pair_->connect();
    ASSERT_TRUE(arrived(60));
    pair_->input(1, [](Node& node) {
        const auto refused = node.promote_at_point();
        ASSERT_FALSE(refused);
        EXPECT_NE(refused.error().context.find("disconnect"), std::string::npos);
    });
    pair_->cut();
    pair_->input(1, [](Node& node) {
        node.fence(Epoch(9));
        const auto stale = node.promote_at_point(Epoch(8));
        ASSERT_FALSE(stale);
        EXPECT_EQ(stale.error().code, Errc::stale_epoch);
        ASSERT_TRUE(node.promote_at_point());
        EXPECT_EQ(node.promote_at_point().error().code, Errc::busy);
        EXPECT_EQ(node.invalidate().error().code, Errc::busy);
    });
    // The source is back before that is done: it is met as what this copy is then.
    pair_->connect();
    ASSERT_TRUE(pair_->run_until([&] { return pair_->node(1).is_primary(); }));
    EXPECT_EQ(pair_->disk(1).contents(), before_[0]);
}

TEST_F(Views, TheWayBackThatAStoreRefusesCanBeTakenAgain) {
    begin();
    break_off();
    ASSERT_TRUE(pair_->run_until([&] { return pair_->node(1).idle(); }));
    pair_->disk(1).fail_next(StoreOperation::write, Errc::io);
    pair_->input(1, [](Node& node) { ASSERT_TRUE(node.promote_at_point()); });
    ASSERT_TRUE(pair_->run_until([&] { return !pair_->node(1).is_returning(); }));
    EXPECT_NE(pair_->node(1).why_not_returned().find("disk disk0"), std::string::npos);
    EXPECT_FALSE(pair_->node(1).is_primary());
    EXPECT_EQ(pair_->node(1).status().disks[0].state, DiskState::inconsistent);
    expect_all_old(*point().number);
    pair_->input(1, [](Node& node) { ASSERT_TRUE(node.promote_at_point()); });
    ASSERT_TRUE(pair_->run_until([&] { return pair_->node(1).is_primary(); }));
    EXPECT_EQ(pair_->disk(1).contents(), before_[0]);
}

}  // namespace
}  // namespace antipode::disksync
