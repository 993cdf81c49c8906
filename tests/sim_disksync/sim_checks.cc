// What must hold in a SimWorld.
#include <gtest/gtest.h>

#include "tests/sim_disksync/sim_world.h"

namespace antipode::disksync {

using std::chrono::milliseconds;

// Whether a write is on a site's disk: each of its sectors shows it, or something that is not
// older.
bool SimWorld::has(size_t site, const Write& write, const Session& session) {
    for (uint64_t sector = write.first_sector; sector < write.first_sector + write.sectors;
         ++sector) {
        const Stamp stamp = visible(site, write.disk, sector);
        if (stamp == write.stamp) continue;
        // Who wrote what is there? Zeroes have no author: any write of zeroes may have made them.
        bool newer = false;
        for (const auto& [id, other] : session.writes) {
            if (other.stamp != stamp || other.disk != write.disk || sector < other.first_sector ||
                sector >= other.first_sector + other.sectors) {
                continue;
            }
            const bool before = other.answered != 0 && other.answered < write.issued;
            newer |= !before;
        }
        if (!newer) return false;
    }
    return true;
}

// A replica that calls itself whole.
void SimWorld::check_replica(size_t site, SimSite::Crash how) {
    if (!session_ || replica_of_[site] != session_->number) return;
    ++counts_.prefix_checks;
    const Session& session = *session_;
    // The newest write of which anything is to be seen.
    uint64_t newest = 0;
    for (const auto& [id, write] : session.writes) {
        if (write.stamp == 0 || write.issued <= newest) continue;
        for (uint64_t sector = write.first_sector; sector < write.first_sector + write.sectors;
             ++sector) {
            if (visible(site, write.disk, sector) != write.stamp) continue;
            newest = write.issued;
            break;
        }
    }
    uint64_t horizon = newest;
    if (how == SimSite::Crash::power) {
        horizon = 0;
        for (const auto& [id, flush] : session.flushes) {
            if (flush.answered != 0 && flush.answered < newest)
                horizon = std::max(horizon, flush.issued);
        }
    }
    for (const auto& [id, write] : session.writes) {
        if (write.answered == 0) continue;
        const bool promised =
            how == SimSite::Crash::power ? write.promised_durable : write.promised;
        counts_.promised_checks += promised ? 1 : 0;
        if (write.answered >= horizon && !promised) continue;
        ASSERT_TRUE(has(site, write, session))
            << "write " << id << " (sectors " << write.first_sector << "+" << write.sectors
            << ", stamp " << write.stamp << (promised ? ", promised" : "") << ") is not at site "
            << site << "\n"
            << log_;
    }
}

// A primary that died: what a flush covered is there.
void SimWorld::check_local(size_t site, const Session& session) {
    for (const auto& [id, write] : session.writes) {
        if (!write.locally_durable) continue;
        ASSERT_TRUE(has(site, write, session)) << "write " << id << " was flushed and is gone\n"
                                               << log_;
    }
}

// A copy in the middle of a resync goes back to exactly what it was.
void SimWorld::check_undo(size_t site) {
    for (const auto& [index, before] : before_resync_[site]) {
        const Superblock record = sites_[site]->record_on_disk(index);
        if (record.state != DiskState::inconsistent || !record.undo_kept) continue;
        ++counts_.undo_checks;
        ASSERT_EQ(sites_[site]->undone(index), before) << log_;
    }
}

bool SimWorld::settled() {
    if (!sites_[0]->alive() || !sites_[1]->alive()) return false;
    for (const auto& site : sites_) {
        const NodeStatus status = site->node().status();
        if (status.link != LinkState::streaming || !site->node().idle()) return false;
        for (const DiskStatus& disk : status.disks) {
            if (disk.state != DiskState::up_to_date || disk.marked_blocks != 0) return false;
            if (disk.phase != SyncPhase::idle || disk.generations.bases[0] != Generation())
                return false;
        }
    }
    return in_flight_ == 0 || !sites_[primary_]->node().is_primary();
}

void SimWorld::heal() {
    healing_ = true;
    say("healing");
    for (size_t index = 0; index < 2; ++index) {
        if (!sites_[index]->alive() && !restarting_[index]) restart(index);
        input(index, [](Node& node) { EXPECT_TRUE(node.pause_resync(false)); });
    }
    if (!line_.up) connect_later();
    const Instant give_up = clock_.now() + std::chrono::seconds(120);
    while (!settled() && clock_.now() < give_up && !testing::Test::HasFatalFailure()) {
        ASSERT_TRUE(clock_.step());
        for (size_t index = 0; index < 2; ++index) {
            if (!sites_[index]->alive()) continue;
            Node& node = sites_[index]->node();
            if (node.status().link != LinkState::halted || line_.up) continue;
            if (operator_acted_ == line_.life) continue;
            operator_acted_ = line_.life;
            // An operator: one side gives way, and if it is primary, it ends that first.
            if (!loser_) {
                loser_ = random_.below(2);
                // The winner has to be whole.
                if (sites_[1 - *loser_]->alive() &&
                    sites_[1 - *loser_]->node().status().disks[0].state ==
                        DiskState::inconsistent) {
                    loser_ = 1 - *loser_;
                }
                say(fmt::format("site {} is to give way", *loser_));
            }
            input(*loser_, [](Node& each) {
                (void)each.demote();
                (void)each.discard_mine();
            });
            connect_later();
        }
    }
    for (size_t index = 0; index < 2; ++index) {
        if (!sites_[index]->alive()) continue;
        const NodeStatus status = sites_[index]->node().status();
        say(fmt::format("site {}: {} link {} ({}) state {} marked {} phase {} idle {} in flight {}",
                        index, to_string(status.disks[0].role), to_string(status.link),
                        status.reason, to_string(status.disks[0].state),
                        status.disks[0].marked_blocks, static_cast<int>(status.disks[0].phase),
                        sites_[index]->node().idle(), status.changes_in_flight));
    }
    ASSERT_TRUE(settled()) << "not settled\n" << log_;
    ASSERT_TRUE(viewing_.empty()) << viewing_.size() << " reads of a view hang\n" << log_;
    check_equal();
    if (testing::Test::HasFatalFailure()) return;
    // A verify of everything finds nothing.
    const uint64_t before = counts_.verify_differences;
    const size_t sender =
        sites_[0]->node().status().disks[0].direction == SyncDirection::we_send ? 0 : 1;
    for (uint16_t disk = 0; disk < sites_[sender]->disk_count(); ++disk) {
        input(sender, [&](Node& node) {
            const auto begun = node.verify(disk, 0, ~uint64_t{0});
            EXPECT_TRUE(begun.has_value()) << begun.error().context << "\n" << log_;
        });
    }
    const Instant verified = clock_.now() + std::chrono::seconds(60);
    while (!settled() && clock_.now() < verified) ASSERT_TRUE(clock_.step());
    ASSERT_TRUE(settled()) << "the verify does not end\n" << log_;
    ASSERT_EQ(counts_.verify_differences, before) << log_;
}

void SimWorld::check_equal() {
    for (size_t index = 0; index < sites_[0]->disk_count(); ++index) {
        const auto& one = sites_[0]->disk(index).contents();
        const auto& other = sites_[1]->disk(index).contents();
        if (one == other) continue;
        std::string text;
        int shown = 0;
        for (uint64_t sector = 0; sector < size_sectors_ && shown < 10; ++sector) {
            const Stamp a = sites_[0]->disk(index).at(sector);
            const Stamp b = sites_[1]->disk(index).at(sector);
            if (a == b) continue;
            ++shown;
            text += fmt::format("sector {} (block {}): {} and {}\n", sector,
                                sector * kSimSectorBytes / kBlockBytes, a, b);
        }
        FAIL() << "disk " << index << " differs\n" << text << log_;
    }
}

}  // namespace antipode::disksync
