// Readers of the last consistent point, at random moments of everything else. What the point is, is
// known from outside: what a disk held when its resync began, or what it holds now if it is whole.
#include <gtest/gtest.h>

#include "tests/sim_disksync/sim_world.h"

namespace antipode::disksync {

namespace {

constexpr uint64_t kViewIds = uint64_t{1} << 62;

}  // namespace

bool SimWorld::is_view(uint64_t id) {
    return (id & kViewIds) != 0;
}

// As of its first sight: whatever happens, what has its number must not change.
const SimWorld::Point* SimWorld::point_of(size_t site) {
    const NodeStatus status = sites_[site]->node().status();
    if (!status.point.number) return nullptr;
    Point& known = points_[site];
    if (known.life == sites_[site]->life() && known.number == *status.point.number) return &known;
    known = {sites_[site]->life(), *status.point.number, {}};
    for (uint16_t disk = 0; disk < sites_[site]->disk_count(); ++disk) {
        const auto before = before_resync_[site].find(disk);
        const bool in_resync = status.disks[disk].state == DiskState::inconsistent;
        EXPECT_TRUE(!in_resync || before != before_resync_[site].end()) << log_;
        const bool kept = in_resync && before != before_resync_[site].end();
        known.contents.push_back(kept ? before->second : sites_[site]->disk(disk).contents());
    }
    return &known;
}

void SimWorld::view_step() {
    const size_t site = random_.below(2);
    if (!sites_[site]->alive() || viewing_.size() > 100) return;
    const Point* point = point_of(site);
    if (point == nullptr) return;
    ViewRead read;
    read.id = kViewIds | next_request_++;
    read.disk = static_cast<uint16_t>(random_.below(sites_[site]->disk_count()));
    read.point = point->number;
    // Where the VM writes, mostly.
    const uint64_t spot = random_.below(10) * (kExtentBytes / kSimSectorBytes);
    const uint64_t sectors = random_.between(1, random_.chance(0.2) ? 1500 : 300);
    const uint64_t first = std::min(spot + random_.below(300), size_sectors_ - sectors);
    read.offset_bytes = first * kSimSectorBytes;
    read.length_bytes = sectors * kSimSectorBytes;
    const bool passed = random_.chance(0.05) && read.point > 1;
    if (passed) --read.point;
    const SimDisk::Sectors& contents = point->contents[read.disk];
    Viewing viewing{site, passed, read.disk, first, {}};
    for (uint64_t at = first; at < first + sectors; ++at) {
        const auto found = contents.find(at);
        viewing.expected.push_back(found == contents.end() ? 0 : found->second);
    }
    viewing_.emplace(read.id, std::move(viewing));
    input(site, [&](Node& node) { node.read_view(std::move(read)); });
}

void SimWorld::view_answer(const NodeAnswer& answer) {
    auto found = viewing_.extract(answer.id);
    ASSERT_FALSE(found.empty()) << "view read " << answer.id << " was answered twice\n" << log_;
    const Viewing& viewing = found.mapped();
    if (!answer.result) {
        ++counts_.views_passed;
        ASSERT_EQ(answer.result.error().code, Errc::closed) << answer.result.error().context << "\n"
                                                            << log_;
        return;
    }
    ASSERT_FALSE(viewing.passed) << "the view of a point that had passed was served\n" << log_;
    ++counts_.view_checks;
    for (size_t at = 0; at < viewing.expected.size(); ++at) {
        const Stamp seen =
            stamp_of(answer.data.span().subspan(at * kSimSectorBytes, kSimSectorBytes));
        ASSERT_EQ(seen, viewing.expected[at])
            << "sector " << viewing.first_sector + at << " of disk " << viewing.disk << " at site "
            << viewing.site << " is not that of the consistent point\n"
            << log_;
    }
}

// What a process that has ended was asked is not answered any more.
void SimWorld::forget_views(size_t site) {
    std::erase_if(viewing_, [&](const auto& entry) { return entry.second.site == site; });
}

// The source is dead in the middle of a resync: the other site goes on from its last point.
bool SimWorld::promote_at_point(size_t site) {
    if (!sites_[site]->alive()) return false;
    bool begun = false;
    input(site, [&](Node& node) { begun = node.promote_at_point().has_value(); });
    if (begun) {
        say(fmt::format("{} goes back to its last point", site));
        wanted_ = site;
    }
    return begun;
}

void SimWorld::check_returned(size_t site, uint16_t disk) {
    const auto before = before_resync_[site].find(disk);
    ASSERT_TRUE(before != before_resync_[site].end()) << log_;
    ++counts_.returns;
    ASSERT_EQ(sites_[site]->disk(disk).contents(), before->second) << log_;
}

}  // namespace antipode::disksync
