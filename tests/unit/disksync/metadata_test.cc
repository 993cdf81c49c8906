// The superblock's format and the two slots of the metadata file, over a storage that crashes.
#include <gtest/gtest.h>

#include "disksync/core/superblock.h"
#include "disksync/disk_metadata.h"
#include "tests/unit/disksync/crash_storage.h"
#include "tests/unit/disksync/test_disk.h"

namespace antipode::disksync {
namespace {

Superblock example() {
    Superblock superblock;
    superblock.sequence = 5;
    superblock.pair = Name::literal("web1");
    superblock.disk = Name::literal("rootfs");
    superblock.id = DiskId(0x1111);
    superblock.peer_id = DiskId(0x2222);
    superblock.size_bytes = 1 << 20;
    superblock.epoch = Epoch(7);
    superblock.role = DiskRole::primary;
    superblock.state = DiskState::up_to_date;
    superblock.open_for_writing = true;
    superblock.generations.current = Generation(0xaaaa);
    superblock.generations.bases[0] = Generation(0xbbbb);
    superblock.generations.history[0] = Generation(0xcccc);
    superblock.generation_time_seconds = 1'700'000'000;
    return superblock;
}

Superblock identity() {
    Superblock first;
    first.pair = Name::literal("web1");
    first.disk = Name::literal("rootfs");
    first.size_bytes = 1 << 20;
    first.id = DiskId(77);
    return first;
}

TEST(Superblock, EncodingIsFixed) {
    const std::vector<std::byte> bytes = encode(example());
    ASSERT_EQ(bytes.size(), kSuperblockBytes);
    const auto decoded = decode_superblock(bytes);
    ASSERT_OK(decoded);
    EXPECT_EQ(*decoded, example());
    EXPECT_EQ(encode(*decoded), bytes);
    const auto byte = [&](size_t at) { return std::to_integer<int>(bytes[at]); };
    EXPECT_EQ(std::string(reinterpret_cast<const char*>(bytes.data()), 8), "ANTPDISK");
    EXPECT_EQ(byte(16), 1);      // version
    EXPECT_EQ(byte(24), 5);      // sequence
    EXPECT_EQ(byte(32), 'w');    // pair
    EXPECT_EQ(byte(64), 'r');    // disk
    EXPECT_EQ(byte(120), 7);     // epoch
    EXPECT_EQ(byte(128), 0xaa);  // current generation
    EXPECT_EQ(byte(240), 2);     // role
    EXPECT_EQ(byte(241), 1);     // state
    EXPECT_EQ(byte(242), 1);     // open for writing
}

TEST(Superblock, EveryFlippedBitIsFound) {
    const std::vector<std::byte> good = encode(example());
    for (size_t bit = 0; bit < 260 * 8; ++bit) {
        std::vector<std::byte> bad = good;
        bad[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
        EXPECT_ERROR(decode_superblock(bad), Errc::corrupt);
    }
    EXPECT_ERROR(decode_superblock(std::span(good).first(512)), Errc::corrupt);
}

TEST(DiskMetadata, UpdateIsThereOrNot) {
    // Crash at every write and every sync of two updates, with every outcome for what was not
    // synced.
    for (uint64_t seed = 0; seed < 400; ++seed) {
        CrashDisk disk(seed);
        const auto created = DiskMetadata::create(disk.attach(), identity());
        ASSERT_OK(created);
        disk.crash_after(Random(seed).below(6));
        Epoch acknowledged(0);
        Epoch attempted(0);
        for (uint64_t epoch = 1; epoch <= 3; ++epoch) {
            Superblock next = (*created)->superblock();
            next.epoch = attempted = Epoch(epoch);
            if (!(*created)->update(next)) break;
            acknowledged = Epoch(epoch);
        }
        disk.power_cycle();
        const auto opened = DiskMetadata::open(disk.attach());
        ASSERT_OK(opened);
        const Epoch found = (*opened)->superblock().epoch;
        EXPECT_TRUE(found == acknowledged || found == attempted)
            << "seed " << seed << ": " << found.value() << " acknowledged " << acknowledged.value();
        // And it goes on from there.
        Superblock next = (*opened)->superblock();
        next.epoch = Epoch(9);
        ASSERT_OK((*opened)->update(next));
    }
}

TEST(DiskMetadata, RefusesWhatItCannotKnow) {
    CrashDisk disk(1);
    { ASSERT_OK(DiskMetadata::create(disk.attach(), identity())); }
    {
        const auto second = DiskMetadata::open(disk.attach());
        ASSERT_OK(second);
        ASSERT_OK((*second)->update((*second)->superblock()));
    }
    for (uint64_t slot = 0; slot < 2; ++slot) {
        disk.bytes()[slot * kSuperblockBytes + 40] ^= std::byte{1};
    }
    EXPECT_ERROR(DiskMetadata::open(disk.attach()), Errc::corrupt);
    disk.bytes()[kSuperblockBytes + 40] ^= std::byte{1};
    const auto opened = DiskMetadata::open(disk.attach());
    ASSERT_OK(opened);
    EXPECT_EQ((*opened)->superblock().sequence, 1u);
    // Too short, as after a lost create: refused.
    disk.bytes().resize(100);
    EXPECT_ERROR(DiskMetadata::open(disk.attach()), Errc::corrupt);
}

TEST(DiskMetadata, EpochNeverGoesBackAndIdentityStays) {
    CrashDisk disk(1);
    auto metadata = DiskMetadata::create(disk.attach(), identity());
    ASSERT_OK(metadata);
    Superblock next = (*metadata)->superblock();
    next.epoch = Epoch(4);
    next.id = DiskId(1);
    next.pair = Name::literal("other");
    ASSERT_OK((*metadata)->update(next));
    EXPECT_EQ((*metadata)->superblock().id, DiskId(77));
    EXPECT_EQ((*metadata)->superblock().pair, Name::literal("web1"));
    next.epoch = Epoch(3);
    EXPECT_ERROR((*metadata)->update(next), Errc::stale_epoch);
}

TEST(DiskMetadata, FileIsLockedAndPrivate) {
    TemporaryDirectory directory;
    const std::string path = metadata_path_of(directory.file("disk.img"));
    EXPECT_ERROR(open_metadata(path), Errc::not_found);
    const auto pair = Name::literal("web1");
    auto metadata = create_metadata(path, pair, pair, 4096);
    ASSERT_OK(metadata);
    EXPECT_ERROR(open_metadata(path), Errc::busy);
    EXPECT_ERROR(create_metadata(path, pair, pair, 4096), Errc::already_exists);
    metadata->reset();
    EXPECT_OK(open_metadata(path));
}

}  // namespace
}  // namespace antipode::disksync
