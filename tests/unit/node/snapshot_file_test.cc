#include "replicator/control/snapshot_file.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <iterator>
#include <unistd.h>

#include "common/base/random.h"
#include "replicator/control/seed_frames.h"
#include "replicator/replay/state_codec.h"

namespace antipode::control {
namespace {

using Bytes = std::vector<std::byte>;

Bytes bytes_of(size_t count, uint8_t value) {
    return Bytes(count, static_cast<std::byte>(value));
}

SnapshotShape a_shape() {
    SnapshotShape shape;
    shape.memory_bytes = 32 << 20;
    shape.has_entropy = true;
    shape.drives = {{"root", 65536, false}, {"cd", 512, true}};
    shape.networks = {{"eth0", {6, 0, 10, 0, 0, 1}}};
    shape.pair = "shop";
    shape.site = "a";
    shape.epoch = 7;
    shape.created_unix_ms = 1700000000123;
    shape.software = "0.1.0";
    return shape;
}

std::string hex(std::span<const std::byte> bytes) {
    std::string text;
    for (const std::byte each : bytes) text += fmt::format("{:02x}", static_cast<unsigned>(each));
    return text;
}

class SnapshotFile : public testing::Test {
  protected:
    SnapshotFile() {
        std::string pattern = testing::TempDir() + "snapshot.XXXXXX";
        folder_ = ::mkdtemp(pattern.data());
        path_ = folder_ + "/s.snapshot";
    }
    ~SnapshotFile() override { std::filesystem::remove_all(folder_); }

    void write(const std::vector<Bytes>& pieces, const SnapshotShape& shape = a_shape()) {
        auto writer = SnapshotWriter::create(path_, shape);
        ASSERT_TRUE(writer.has_value()) << writer.error().to_string();
        for (const auto& piece : pieces) ASSERT_TRUE(writer->add(piece).has_value());
        const auto finished = writer->finish();
        ASSERT_TRUE(finished.has_value()) << finished.error().to_string();
    }
    Bytes file() const {
        std::ifstream in(path_, std::ios::binary);
        const std::string text((std::istreambuf_iterator<char>(in)),
                               std::istreambuf_iterator<char>());
        const auto raw = std::as_bytes(std::span(text));
        return {raw.begin(), raw.end()};
    }

    std::string folder_;
    std::string path_;
};

// All of it, or the error that it stops with.
Result<std::vector<Bytes>> read_all(const Bytes& file, const SnapshotShape& shape = a_shape()) {
    auto reader = SnapshotReader::create(
        "s", [&file](uint64_t offset, std::span<std::byte> into) -> Result<size_t> {
            const size_t at = std::min<uint64_t>(offset, file.size());
            const size_t count = std::min(into.size(), file.size() - at);
            std::copy_n(file.begin() + static_cast<ptrdiff_t>(at), count, into.begin());
            return count;
        });
    if (!reader) return fail(std::move(reader).error());
    if (!(reader->shape() == shape)) return fail(Errc::protocol, "another shape");
    std::vector<Bytes> pieces;
    for (;;) {
        FT_TRY(auto piece, reader->next());
        if (!piece) return pieces;
        pieces.push_back(std::move(*piece));
    }
}

TEST_F(SnapshotFile, ComesBackWhetherItPacksOrNot) {
    Random random(5);
    std::vector<Bytes> pieces{bytes_of(200000, 3), {}, bytes_of(1, 9)};
    Bytes chance(70000);
    for (auto& each : chance) each = static_cast<std::byte>(random.below(256));
    pieces.push_back(chance);
    write(pieces);
    const auto back = read_all(file());
    ASSERT_TRUE(back.has_value()) << back.error().to_string();
    EXPECT_EQ(*back, pieces);
    EXPECT_LT(file().size(), 80000u);
    EXPECT_FALSE(std::filesystem::exists(path_ + ".partial"));
    EXPECT_EQ(std::filesystem::status(path_).permissions(),
              std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
}

// Version 1, byte for byte: what was written by an older program must stay readable.
TEST_F(SnapshotFile, TheFormatIsThis) {
    write({bytes_of(3, 0xab)});
    const std::string golden =
        "414e5449504f444520534e415053484f54000000000000000100000040000000"
        "000000000000000000000000000000000000000000000000c615d37015688aa4"
        "01000000650000006500000000000000000000000000000009c1c6cba9c80389"
        "0000000200000000010200000004000000726f6f740000010000000000000200"
        "0000636400020000000000000101000000040000006574683006000a00000104"
        "00000073686f70010000006107000000000000007b68e5cf8b01000005000000"
        "302e312e30020000000300000003000000000000000100000000000000ba3f8d"
        "29f9983587ababab030000001000000010000000000000000200000000000000"
        "c9de24fee91a557a02000000000000006800000000000000";
    EXPECT_EQ(hex(file()), golden);
}

// Version 2: the number of vCPUs, at the end of the shape.
TEST_F(SnapshotFile, TheFormatInCheckpointModeIsThis) {
    SnapshotShape shape = a_shape();
    shape.checkpoint_vcpus = 2;
    write({bytes_of(3, 0xab)}, shape);
    const auto bytes = file();
    const std::string text = hex(bytes);
    EXPECT_EQ(text.substr(48, 16), "0200000040000000");
    EXPECT_NE(text.find("05000000302e312e3002000000"), std::string::npos) << text;
    const auto back = read_all(bytes, shape);
    ASSERT_TRUE(back.has_value()) << back.error().to_string();
    EXPECT_EQ(back->size(), 1u);
}

TEST_F(SnapshotFile, CutOffAnywhereSaysWhere) {
    write({bytes_of(40, 1), bytes_of(3000, 2)});
    const auto whole = file();
    for (size_t size = 0; size < whole.size(); ++size) {
        const auto back = read_all({whole.begin(), whole.begin() + static_cast<ptrdiff_t>(size)});
        ASSERT_FALSE(back.has_value()) << size;
        EXPECT_EQ(back.error().code, Errc::corrupt);
        const std::string text = back.error().to_string();
        if (size >= 24) {
            EXPECT_NE(text.find(fmt::format("cut off at offset {}", size)), std::string::npos)
                << size << ": " << text;
        }
    }
}

TEST_F(SnapshotFile, AnyChangedByteIsRefusedAtItsOffset) {
    write({bytes_of(40, 1), bytes_of(3000, 2)});
    const auto whole = file();
    for (size_t at = 0; at < whole.size(); ++at) {
        auto broken = whole;
        broken[at] ^= std::byte{0x10};
        const auto back = read_all(broken);
        ASSERT_FALSE(back.has_value()) << at;
        EXPECT_NE(back.error().to_string().find("offset "), std::string::npos)
            << back.error().to_string();
    }
}

TEST_F(SnapshotFile, AnotherVersionIsSaidToBeOne) {
    write({});
    auto other = file();
    other[24] = std::byte{3};
    const auto back = read_all(other);
    ASSERT_FALSE(back.has_value());
    EXPECT_EQ(back.error().code, Errc::version);
    EXPECT_NE(back.error().to_string().find("offset 24: version is 3, this program reads 1 and 2"),
              std::string::npos)
        << back.error().to_string();
}

TEST_F(SnapshotFile, WhatIsBehindTheEndIsRefused) {
    write({bytes_of(40, 1)});
    auto longer = file();
    longer.push_back(std::byte{0});
    const auto back = read_all(longer);
    ASSERT_FALSE(back.has_value());
    EXPECT_NE(back.error().to_string().find("behind the end"), std::string::npos);
}

TEST_F(SnapshotFile, RecordsInAnotherOrderAreRefused) {
    write({bytes_of(1, 1), bytes_of(1, 2)});  // neither packs
    auto swapped = file();
    const auto last = swapped.end() - (kSnapshotRecordHeaderBytes + 16);
    const ptrdiff_t record = kSnapshotRecordHeaderBytes + 1;
    std::swap_ranges(last - 2 * record, last - record, last - record);
    const auto back = read_all(swapped);
    ASSERT_FALSE(back.has_value());
    EXPECT_NE(back.error().to_string().find("says that it is number 2"), std::string::npos)
        << back.error().to_string();
}

TEST_F(SnapshotFile, OneThatIsNotFinishedLeavesNothing) {
    {
        auto writer = SnapshotWriter::create(path_, a_shape());
        ASSERT_TRUE(writer.has_value());
        ASSERT_TRUE(writer->add(bytes_of(10, 1)).has_value());
        EXPECT_TRUE(std::filesystem::exists(path_ + ".partial"));
    }
    EXPECT_TRUE(std::filesystem::is_empty(folder_));
}

TEST(SnapshotShape, SaysWhatOfTheDefinitionDiffers) {
    vmm::VmConfig config;
    config.mem_size_mib = 32;
    config.has_entropy = true;
    config.drives = {{"root", "x", false, true}, {"cd", "y", true, false}};
    config.networks = {{"eth0", "tap0", {6, 0, 10, 0, 0, 1}}};
    EXPECT_TRUE(check_shape(a_shape(), config).has_value());
    const auto refused = [&](auto change, const char* word) {
        auto other = config;
        change(other);
        const auto checked = check_shape(a_shape(), other);
        ASSERT_FALSE(checked.has_value()) << word;
        EXPECT_NE(checked.error().to_string().find(word), std::string::npos)
            << checked.error().to_string();
    };
    refused([](auto& c) { c.mem_size_mib = 64; }, "mem_size_mib is 64, the snapshot's is 32");
    const auto checkpoints = vmm::ProtectionMode::checkpoint;
    refused([&](auto& c) { c.mode = checkpoints; },
            "mode is checkpoint, the snapshot's is lockstep");
    refused([](auto& c) { c.has_entropy = false; }, "entropy");
    refused([](auto& c) { c.drives.pop_back(); }, "number of drives");
    refused([](auto& c) { c.networks.clear(); }, "network-interfaces");
    refused([](auto& c) { c.drives[0].drive_id = "data"; }, "drives[0].drive_id");
    refused([](auto& c) { c.drives[1].is_read_only = false; }, "is_read_only of cd");
    refused([](auto& c) { c.networks[0].guest_mac[5] = 2; }, "guest_mac");
    config.mode = checkpoints;
    config.vcpu_count = 4;
    SnapshotShape shape = a_shape();
    shape.checkpoint_vcpus = 4;
    EXPECT_TRUE(check_shape(shape, config).has_value());
    shape.checkpoint_vcpus = 2;
    EXPECT_NE(check_shape(shape, config).error().to_string().find("vcpu_count is 4"),
              std::string::npos);
}

// ---- What is in the pieces ----

replay::VmState a_state() {
    replay::VmState state;
    state.exit = ExitNumber(0x0102030405060708);
    state.output = OutputNumber(9);
    state.in_halt = true;
    state.held = true;
    state.between_exits = true;
    state.guest_clock_ns = 10;
    state.digest_number = 11;
    state.disk_hash = 12;
    state.cpu = bytes_of(2, 0xcc);
    state.machine = bytes_of(3, 0xdd);
    return state;
}

// Version 1 of the state, version 2 of the pieces: the bytes that older programs wrote.
TEST(StateCodec, TheFormatIsThis) {
    vmm::StateWriter out;
    replay::put_state(out, a_state());
    EXPECT_EQ(hex(out.bytes()),
              "01"                                                // version
              "08070605040302010900000000000000"                  // exit, output
              "07"                                                // flags
              "0a000000000000000b000000000000000c00000000000000"  // clock, digest, disk
              "02000000cccc03000000dddddd");                      // cpu, machine
    vmm::StateWriter held;
    replay::put_held(held, {{OutputNumber(5), {vmm::Output::Kind::frame, 1, bytes_of(2, 0xee)}}});
    EXPECT_EQ(hex(held.bytes()),
              "01000000"
              "0500000000000000"
              "02"
              "01000000"
              "02000000eeee");
    vmm::StateWriter pages;
    replay::put_pages(pages, {{3, {}}});
    EXPECT_EQ(hex(pages.bytes()),
              "01000000"
              "0300000000000000"
              "00000000");

    SeedEnd end;
    end.attempt = 1;
    end.piece_count = 2;
    end.position = LogIndex(3);
    end.released = OutputNumber(4);
    const auto bytes = encode(end);
    EXPECT_EQ(hex(std::span(bytes).first(38)),
              "0203"
              "0100000000000000"
              "0200000000000000"
              "0300000000000000"
              "0400000000000000"
              "00000000");
}

TEST(StateCodec, ComesBackAndRefusesWhatWasNotWritten) {
    vmm::StateWriter out;
    replay::put_state(out, a_state());
    const Bytes good(out.bytes().begin(), out.bytes().end());
    vmm::StateReader in(good);
    const auto back = replay::get_state(in);
    ASSERT_TRUE(in.ok() && in.at_end());
    vmm::StateWriter again;
    replay::put_state(again, back);
    EXPECT_TRUE(std::ranges::equal(again.bytes(), out.bytes()));
    EXPECT_TRUE(back.between_exits);

    const auto refuses = [](Bytes bytes) {
        vmm::StateReader reader(bytes);
        (void)replay::get_state(reader);
        return !reader.ok();
    };
    for (size_t size = 0; size < good.size(); ++size) {
        EXPECT_TRUE(refuses({good.begin(), good.begin() + static_cast<ptrdiff_t>(size)})) << size;
    }
    auto version = good;
    version[0] = std::byte{2};
    EXPECT_TRUE(refuses(version));
    auto flags = good;
    flags[17] = std::byte{8};
    EXPECT_TRUE(refuses(flags));
}

}  // namespace
}  // namespace antipode::control
