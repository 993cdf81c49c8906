// The undo log as an overlay: where each byte of the old contents is to be read.
#include "disksync/core/undo_log.h"

#include <gtest/gtest.h>

#include "tests/unit/disksync/crash_storage.h"

namespace antipode::disksync {
namespace {

using From = UndoLog::Piece::From;

wire::SharedBytes bytes_of(size_t count, int value) {
    return wire::SharedBytes::copy_of(std::vector<std::byte>(count, std::byte(value)));
}

class Overlay : public testing::Test {
  protected:
    void append(std::vector<UndoLog::OldBlock> blocks) {
        for (const MetaWrite& write : log_.append(blocks)) {
            ASSERT_TRUE(storage_->write(write.offset_bytes, write.bytes));
        }
    }
    // One letter a piece: Store, Log, Zeroes; and its range.
    std::string at(uint64_t offset, uint64_t length) const {
        std::string text;
        uint64_t next = offset;
        for (const UndoLog::Piece& piece : log_.pieces(offset, length)) {
            EXPECT_EQ(piece.offset_bytes, next);
            next += piece.length_bytes;
            const char letter = piece.from == From::store ? 'S'
                                : piece.from == From::log ? 'L'
                                                          : 'Z';
            text += fmt::format("{}{}+{} ", letter, piece.offset_bytes, piece.length_bytes);
        }
        EXPECT_EQ(next, offset + length);
        return text;
    }

    CrashDisk disk_{1};
    std::unique_ptr<env::Storage> storage_ = disk_.attach();
    UndoLog log_{DiskId(7), Generation(8)};
};

TEST_F(Overlay, WithNothingInItIsTheStore) {
    EXPECT_EQ(at(0, 10 * kBlockBytes), "S0+655360 ");
    EXPECT_EQ(at(100, 1), "S100+1 ");
}

TEST_F(Overlay, HasOldBlocksBetweenThoseOfTheStore) {
    append({{1, bytes_of(kBlockBytes, 1)}, {2, {}}, {4, bytes_of(kBlockBytes, 4)}});
    log_.synced();
    EXPECT_EQ(at(0, 6 * kBlockBytes),
              "S0+65536 L65536+65536 Z131072+65536 S196608+65536 L262144+65536 S327680+65536 ");
    EXPECT_EQ(at(kBlockBytes + 512, 1024), "L66048+1024 ");
    EXPECT_EQ(at(kBlockBytes - 512, 1024), "S65024+512 L65536+512 ");
}

TEST_F(Overlay, HasNothingThatIsNotSyncedYet) {
    append({{1, bytes_of(kBlockBytes, 1)}});
    EXPECT_EQ(at(0, 3 * kBlockBytes), "S0+196608 ");
    log_.synced();
    EXPECT_EQ(at(0, 3 * kBlockBytes), "S0+65536 L65536+65536 S131072+65536 ");
    append({{0, {}}});
    EXPECT_EQ(at(0, 3 * kBlockBytes), "S0+65536 L65536+65536 S131072+65536 ");
}

TEST_F(Overlay, OfADiskThatHasGrownIsZeroBehindItsOldEnd) {
    append({{3, bytes_of(1024, 3)}});
    log_.synced();
    EXPECT_EQ(at(3 * kBlockBytes, kBlockBytes), "L196608+1024 Z197632+64512 ");
    EXPECT_EQ(at(3 * kBlockBytes + 512, 4096), "L197120+512 Z197632+3584 ");
    EXPECT_EQ(at(3 * kBlockBytes + 2048, 512), "Z198656+512 ");
}

TEST_F(Overlay, SaysWhereItsBlocksLieAndWhetherTheyAreWhatWasWritten) {
    append({{1, bytes_of(kBlockBytes, 1)}, {9, bytes_of(kBlockBytes, 9)}});
    log_.synced();
    const auto pieces = log_.pieces(9 * kBlockBytes + 100, 50);
    ASSERT_EQ(pieces.size(), 1u);
    EXPECT_EQ(pieces[0].block, 9u);
    EXPECT_EQ(pieces[0].skip_bytes, 100u);
    std::vector<std::byte> bytes(pieces[0].place.length_bytes);
    ASSERT_TRUE(storage_->read(pieces[0].place.offset_bytes, bytes));
    EXPECT_EQ(bytes[100], std::byte{9});
    EXPECT_TRUE(UndoLog::check("of disk sda", 9, pieces[0].place, bytes));
    bytes[3] = std::byte{0};
    const auto rotten = UndoLog::check("of disk sda", 9, pieces[0].place, bytes);
    ASSERT_FALSE(rotten);
    EXPECT_EQ(rotten.error().code, Errc::corrupt);
    EXPECT_NE(rotten.error().context.find("block 9"), std::string::npos);
}

}  // namespace
}  // namespace antipode::disksync
