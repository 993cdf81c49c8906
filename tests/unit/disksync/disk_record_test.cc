// Bitmap, activity log and their order on disk, with a crash at every operation.
#include "disksync/core/disk_record.h"

#include <gtest/gtest.h>
#include <set>

#include "disksync/disk_metadata.h"
#include "tests/unit/disksync/crash_storage.h"
#include "tests/unit/disksync/test_disk.h"

namespace antipode::disksync {
namespace {

constexpr uint64_t kExtentBlocks = kExtentBytes / kBlockBytes;

TEST(DirtyBitmap, AgainstASet) {
    Random random(3);
    DirtyBitmap bitmap(70'001);
    std::set<uint64_t> model;
    for (int count = 0; count < 3000; ++count) {
        const uint64_t first = random.below(70'001);
        const uint64_t length = std::min(random.between(1, 200), 70'001 - first);
        const bool sets = random.chance(0.6);
        sets ? bitmap.set({first, length}) : bitmap.clear({first, length});
        for (uint64_t block = first; block < first + length; ++block) {
            sets ? (void)model.insert(block) : (void)model.erase(block);
        }
        ASSERT_EQ(bitmap.count(), model.size());
        const uint64_t from = random.below(70'001);
        const auto expected = model.lower_bound(from);
        const auto found = bitmap.next_set(from);
        ASSERT_EQ(found.has_value(), expected != model.end());
        ASSERT_EQ(found.value_or(0), found ? *expected : 0);
    }
    DirtyBitmap other(70'001);
    for (uint64_t first = 0; first < 70'001; first += 1000) {
        const BlockRange range{first, std::min<uint64_t>(1000, 70'001 - first)};
        ASSERT_OK(other.merge(range, bitmap.bits(range)));
    }
    EXPECT_EQ(other.count(), bitmap.count());
    std::vector<std::byte> beyond(1, std::byte{0x80});
    EXPECT_ERROR(other.merge({69'996, 5}, beyond), Errc::corrupt);
    EXPECT_ERROR(other.merge({0, 9}, beyond), Errc::corrupt);
}

TEST(DirtyBitmap, PagesAndTheirTornCopies) {
    DirtyBitmap bitmap(DirtyBitmap::kBlocksPerPage + 100);
    ASSERT_EQ(bitmap.page_count(), 2u);
    bitmap.set({DirtyBitmap::kBlocksPerPage - 3, 6});
    EXPECT_TRUE(bitmap.page_changed(0));
    EXPECT_TRUE(bitmap.page_changed(1));
    std::array<std::vector<std::byte>, 2> slots;
    auto bytes = bitmap.encode_page(1);
    slots[bitmap.page_slot(1)] = bytes;
    EXPECT_FALSE(bitmap.page_stale(1));
    bitmap.clear({DirtyBitmap::kBlocksPerPage, 1});
    EXPECT_FALSE(bitmap.page_changed(1));
    EXPECT_TRUE(bitmap.page_stale(1));
    bytes = bitmap.encode_page(1);
    const unsigned newer = bitmap.page_slot(1);
    slots[newer] = bytes;
    DirtyBitmap loaded(bitmap.block_count());
    EXPECT_TRUE(loaded.decode_page(1, slots[0], slots[1]));
    EXPECT_EQ(loaded.count(), 2u);
    slots[newer][100] ^= std::byte{1};
    EXPECT_TRUE(loaded.decode_page(1, slots[0], slots[1]));
    EXPECT_EQ(loaded.count(), 3u);  // the older copy
    slots[1 - newer][2000] ^= std::byte{1};
    EXPECT_FALSE(loaded.decode_page(1, slots[0], slots[1]));
    EXPECT_EQ(loaded.count(), 100u);  // the worst
}

TEST(ActivityLog, HoldsReleasesAndMakesRoom) {
    ActivityLog log(2);
    EXPECT_EQ(log.want(1, 1), ActivityLog::Answer::wait);
    EXPECT_EQ(log.want(2, 1), ActivityLog::Answer::wait);
    ASSERT_TRUE(log.wants_to_write());
    log.begin();
    EXPECT_FALSE(log.is_durable(1, 2));
    log.done();
    EXPECT_TRUE(log.is_durable(1, 2));
    EXPECT_EQ(log.want(1, 1), ActivityLog::Answer::ready);
    EXPECT_EQ(log.want(3, 1), ActivityLog::Answer::full);
    log.release(1, 1);
    EXPECT_EQ(log.want(3, 1), ActivityLog::Answer::full);
    log.release(1, 1);
    EXPECT_FALSE(log.wants_to_write());
    EXPECT_EQ(log.want(3, 1), ActivityLog::Answer::wait);
    EXPECT_EQ(log.leaving_uncovered(), (std::vector<uint64_t>{1}));
    // Wanted again before it has left: it has to come back as new.
    log.release(2, 1);
    EXPECT_EQ(log.want(1, 1), ActivityLog::Answer::wait);
    EXPECT_EQ(log.leaving_uncovered(), (std::vector<uint64_t>{2}));
    log.cover_leaving();
    const auto block = log.begin();
    log.done();
    ActivityLog loaded;
    const auto extents = loaded.decode(block, {});
    ASSERT_OK(extents);
    EXPECT_EQ(*extents, (std::vector<uint64_t>{1, 3}));
    EXPECT_ERROR(loaded.decode({}, {}), Errc::corrupt);
    // A range is held as a whole or not at all.
    EXPECT_EQ(log.want(3, 2), ActivityLog::Answer::full);
    log.release(1, 1);
    log.release(3, 1);
}

// A primary that writes, alone or with its peer, on a machine that dies at a random operation; then
// what the record says must contain every block in which the two copies could differ.
class Primary {
  public:
    Primary(uint64_t seed, CrashDisk& disk) : random_(seed), disk_(disk), storage_(disk.attach()) {}

    bool start() {
        auto loaded = DiskRecord::load(*storage_, 8);
        EXPECT_TRUE(loaded.has_value()) << loaded.error().to_string();
        record_.emplace(std::move(*loaded));
        // What an earlier life left marked stays marked: nobody has resynchronised it.
        const DirtyBitmap& bitmap = record_->bitmap();
        for (auto at = bitmap.next_set(0); at; at = bitmap.next_set(*at + 1))
            may_differ_.insert(*at);
        Superblock next = record_->superblock();
        next.role = DiskRole::primary;
        next.open_for_writing = true;
        record_->change(next);
        return write_all();
    }
    // False: the machine is dead.
    bool step() {
        switch (random_.below(8)) {
            case 0:
                alone_ = !alone_;
                if (alone_) {
                    for (const Write& write : writes_) mark(write);
                }
                return true;
            case 1:
            case 2:
                // The peer has it, or it is marked: the log may forget it.
                if (!writes_.empty()) end(random_.below(writes_.size()));
                return true;
            case 3:
                return write_all();
            case 4:
                if (random_.chance(0.2)) record_->write_bitmap();
                return write_one_plan();
            case 5:
                if (random_.chance(0.1)) {
                    record_->bitmap().clear({0, 64});
                    std::erase_if(may_differ_,
                                  [&](uint64_t block) { return block < 64 && !in_flight(block); });
                }
                return true;
            default:
                begin();
                return true;
        }
    }
    const std::set<uint64_t>& may_differ() const { return may_differ_; }

  private:
    struct Write {
        uint64_t first_block;
        uint64_t count;
        bool submitted = false;
        uint64_t first_extent() const { return first_block / kExtentBlocks; }
        uint64_t extents() const {
            return (first_block + count - 1) / kExtentBlocks - first_extent() + 1;
        }
    };
    bool in_flight(uint64_t block) const {
        return std::any_of(writes_.begin(), writes_.end(), [&](const Write& write) {
            return write.submitted && block >= write.first_block &&
                   block < write.first_block + write.count;
        });
    }
    void mark(const Write& write) { record_->bitmap().set({write.first_block, write.count}); }
    void begin() {
        const uint64_t blocks = record_->bitmap().block_count();
        Write write{random_.below(blocks), 1};
        write.count = std::min(random_.between(1, 70), blocks - write.first_block);
        if (record_->log().want(write.first_extent(), write.extents()) ==
            ActivityLog::Answer::full) {
            return;
        }
        writes_.push_back(write);
        submit_ready();
    }
    // What the log holds durably goes to the disk, and from now on the copies may differ there.
    void submit_ready() {
        for (Write& write : writes_) {
            if (write.submitted) continue;
            if (!record_->log().is_durable(write.first_extent(), write.extents())) continue;
            write.submitted = true;
            if (alone_) mark(write);
            for (uint64_t block = 0; block < write.count; ++block) {
                may_differ_.insert(write.first_block + block);
            }
        }
    }
    void end(size_t index) {
        const Write write = writes_[index];
        if (!write.submitted) return;
        writes_.erase(writes_.begin() + static_cast<ptrdiff_t>(index));
        record_->log().release(write.first_extent(), write.extents());
        for (uint64_t block = write.first_block; block < write.first_block + write.count; ++block) {
            if (!record_->bitmap().is_set(block) && !in_flight(block)) may_differ_.erase(block);
        }
    }
    bool write_one_plan() {
        const auto plan = record_->next_plan();
        if (!plan) return true;
        if (!execute(*storage_, *plan)) return false;
        record_->done();
        submit_ready();
        return true;
    }
    bool write_all() {
        while (!record_->idle()) {
            if (!write_one_plan()) return false;
        }
        return true;
    }

    Random random_;
    CrashDisk& disk_;
    std::unique_ptr<env::Storage> storage_;
    std::optional<DiskRecord> record_;
    std::vector<Write> writes_;
    bool alone_ = false;
    std::set<uint64_t> may_differ_;
};

TEST(DiskRecord, NoBlockIsForgottenInACrash) {
    uint64_t crashes = 0;
    uint64_t operations = 0;
    for (uint64_t seed = 1; seed <= 1000; ++seed) {
        SCOPED_TRACE(seed);
        CrashDisk disk(seed);
        Random random(seed * 77);
        Superblock first;
        first.pair = first.disk = Name::literal("web1");
        first.id = DiskId(1);
        // Two pages of bitmap, and many more extents than the log holds.
        first.size_bytes = (DirtyBitmap::kBlocksPerPage + 2000) * kBlockBytes;
        {
            auto created = DiskMetadata::create(disk.attach(), first);
            ASSERT_OK(created);
        }
        for (int life = 0; life < 3; ++life) {
            disk.crash_after(random.below(60));
            Primary primary(seed + static_cast<uint64_t>(life), disk);
            bool alive = primary.start();
            for (int step = 0; step < 200 && alive; ++step) alive = primary.step();
            crashes += alive ? 0 : 1;
            operations += disk.operations();
            disk.power_cycle();
            auto storage = disk.attach();
            auto loaded = DiskRecord::load(*storage, 8);
            ASSERT_OK(loaded);
            std::set<uint64_t> missing;
            for (const uint64_t block : primary.may_differ()) {
                if (!loaded->bitmap().is_set(block)) missing.insert(block);
            }
            ASSERT_TRUE(missing.empty())
                << missing.size() << " blocks are not marked, the first is " << *missing.begin();
        }
    }
    EXPECT_GT(crashes, 1000u);
}

TEST(DiskRecord, WhatCannotBeReadIsTakenForTheWorst) {
    CrashDisk disk(1);
    Superblock first;
    first.pair = first.disk = Name::literal("web1");
    first.id = DiskId(1);
    first.size_bytes = 100 * kBlockBytes;
    first.role = DiskRole::primary;
    first.open_for_writing = true;
    {
        auto created = DiskMetadata::create(disk.attach(), first);
        ASSERT_OK(created);
    }
    {
        auto storage = disk.attach();
        auto loaded = DiskRecord::load(*storage);
        ASSERT_OK(loaded);
        EXPECT_EQ(loaded->bitmap().count(), 0u);
        EXPECT_TRUE(loaded->crashed_primary());
    }
    for (size_t at = DiskRecord::kBitmapOffset; at < disk.bytes().size(); at += 512) {
        disk.bytes()[at + 60] ^= std::byte{1};
    }
    {
        auto storage = disk.attach();
        auto loaded = DiskRecord::load(*storage);
        ASSERT_OK(loaded);
        EXPECT_EQ(loaded->bitmap().count(), 100u);
        ASSERT_FALSE(loaded->findings().empty());
        EXPECT_NE(loaded->findings().back().text.find("bitmap page 0"), std::string::npos);
    }
}

TEST(DiskRecord, GrowsWithTheDisk) {
    CrashDisk disk(1);
    Superblock first;
    first.pair = first.disk = Name::literal("web1");
    first.id = DiskId(1);
    first.size_bytes = 100 * kBlockBytes;
    auto metadata = DiskMetadata::create(disk.attach(), first);
    ASSERT_OK(metadata);
    (*metadata)->record().grow((DirtyBitmap::kBlocksPerPage + 5) * kBlockBytes);
    first.size_bytes = (DirtyBitmap::kBlocksPerPage + 5) * kBlockBytes;
    ASSERT_OK((*metadata)->update(first, DiskRecord::Order::after_bitmap));
    auto storage = disk.attach();
    auto loaded = DiskRecord::load(*storage);
    ASSERT_OK(loaded);
    EXPECT_EQ(loaded->bitmap().block_count(), DirtyBitmap::kBlocksPerPage + 5);
    EXPECT_EQ(loaded->bitmap().count(), DirtyBitmap::kBlocksPerPage - 95);
    EXPECT_TRUE(loaded->findings().empty());
}

}  // namespace
}  // namespace antipode::disksync
