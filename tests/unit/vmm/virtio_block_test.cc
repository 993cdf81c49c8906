// The disk: requests however they are cut, and what the guest sees of their ends.
#include "tests/unit/vmm/virtio_block_fixture.h"

namespace antipode::vmm {
namespace {

TEST_F(VirtioBlockTest, SaysWhatItIs) {
    EXPECT_EQ(driver_.read(kRegDeviceId), 2u);
    const uint64_t common = 1u << 1 | 1u << 2 | 1u << 9 | 1u << 28 | uint64_t{1} << 32;
    EXPECT_EQ(driver_.device_features(), common | 1u << 13 | 1u << 14);
    EXPECT_EQ(driver_.read(kRegConfig), kDiskBytes / 512);
    EXPECT_EQ(driver_.read(kRegConfig + 4), 0u);
    const uint32_t segment_bytes_max = driver_.read(kRegConfig + 8);
    const uint32_t segments_max = driver_.read(kRegConfig + 12);
    EXPECT_EQ(driver_.read(kRegConfig + 36), 8192u);
    EXPECT_EQ(driver_.read(kRegConfig + 40), 1u);
    EXPECT_EQ(driver_.read(kRegConfig + 48), 8192u);
    // What a driver may send by the book is never too long for the queue.
    EXPECT_LT(uint64_t{segment_bytes_max} * segments_max, VirtQueue::kChainBytesMax);
    VirtioBlock read_only(0, "cd", kDiskBytes, VirtioBlock::Access::read_only);
    VirtioDriver driver(read_only, memory_);
    EXPECT_EQ(driver.device_features(), common | 1u << 5);
}

TEST_F(VirtioBlockTest, AReadShowsNothingBeforeItsCompletion) {
    const auto requests = send(0, kIn, 3, 1024);
    ASSERT_EQ(requests.size(), 1u);
    EXPECT_EQ(requests[0].number, 1u);
    EXPECT_EQ(requests[0].operation, BlockOperation::read);
    EXPECT_EQ(requests[0].offset_bytes, 3 * 512u);
    EXPECT_EQ(requests[0].length_bytes, 1024u);
    EXPECT_EQ(requests[0].data.size(), 1024u);
    EXPECT_EQ(ring_.used_index(), 0);
    EXPECT_FALSE(device_.interrupt_line());
    EXPECT_EQ(memory_at(data_at(0), 1024), std::vector<std::byte>(1024));
    EXPECT_TRUE(complete(1, BlockStatus::ok, pattern(1024)));
    EXPECT_EQ(memory_at(data_at(0), 1024), pattern(1024));
    EXPECT_EQ(status_of(0), kOk);
    EXPECT_EQ(ring_.used_element(0), (std::pair<uint32_t, uint32_t>(0, 1025)));
    EXPECT_EQ(driver_.take_interrupt(), 1u);
    EXPECT_EQ(device_.in_flight(), 0u);
}

TEST_F(VirtioBlockTest, AWriteIsCopiedAtItsExit) {
    ASSERT_TRUE(memory_.write(GuestPhys(data_at(0)), pattern(512)));
    const auto requests = send(0, kOut, 5, 512);
    ASSERT_EQ(requests.size(), 1u);
    EXPECT_EQ(requests[0].operation, BlockOperation::write);
    ASSERT_TRUE(memory_.write(GuestPhys(data_at(0)), pattern(512, 99)));
    EXPECT_EQ(requests[0].data, pattern(512));
    EXPECT_TRUE(complete(1));
    EXPECT_EQ(status_of(0), kOk);
    EXPECT_EQ(ring_.used_element(0).second, 1u);
}

TEST_F(VirtioBlockTest, AFlushHasNoRange) {
    const auto requests = send(0, kFlush, 0xffffffffffff, 0);
    ASSERT_EQ(requests.size(), 1u);
    EXPECT_EQ(requests[0].operation, BlockOperation::flush);
    EXPECT_EQ(requests[0].offset_bytes, 0u);
    EXPECT_EQ(requests[0].length_bytes, 0u);
    EXPECT_TRUE(complete(1));
    EXPECT_EQ(status_of(0), kOk);
}

TEST_F(VirtioBlockTest, TheNameIsAnsweredAtOnce) {
    EXPECT_TRUE(send(0, kGetId, 0, 20).empty());
    EXPECT_EQ(status_of(0), kOk);
    auto name = std::vector<std::byte>(20);
    std::memcpy(name.data(), "root", 4);
    EXPECT_EQ(memory_at(data_at(0), 20), name);
    EXPECT_EQ(ring_.used_element(0).second, 21u);
    EXPECT_TRUE(send(1, kGetId, 0, 3).empty());  // a short buffer gets what fits
    EXPECT_EQ(memory_at(data_at(1), 3), std::vector<std::byte>(name.begin(), name.begin() + 3));
    EXPECT_EQ(status_of(1), kOk);
}

TEST_F(VirtioBlockTest, AnErrorIsTheGuestsToSeeAndItsBufferStays) {
    send(0, kIn, 0, 512);
    const auto before = pattern(512, 7);
    ASSERT_TRUE(memory_.write(GuestPhys(data_at(0)), before));
    EXPECT_TRUE(complete(1, BlockStatus::io_error, pattern(512)));
    EXPECT_EQ(status_of(0), kIoError);
    EXPECT_EQ(memory_at(data_at(0), 512), before);
}

TEST_F(VirtioBlockTest, RequestsAreNumberedAsTheGuestMadeThemAndEndInAnyOrder) {
    for (uint16_t i = 0; i < 4; ++i) put(i, kIn, 8u * i, 512);
    const auto requests = notify();
    EXPECT_EQ(numbers(requests), (std::vector<uint64_t>{1, 2, 3, 4}));
    for (const uint64_t number : std::initializer_list<uint64_t>{3, 1, 4, 2}) {
        EXPECT_TRUE(complete(number, BlockStatus::ok, pattern(512, static_cast<uint8_t>(number))));
    }
    EXPECT_EQ(ring_.used_element(0).first, 6u);
    EXPECT_EQ(ring_.used_element(3).first, 3u);
    for (uint16_t i = 0; i < 4; ++i) {
        EXPECT_EQ(memory_at(data_at(i), 512), pattern(512, static_cast<uint8_t>(i + 1)));
    }
}

TEST_F(VirtioBlockTest, ACompletionOfNothingDoesNothing) {
    send(0, kIn, 0, 512);
    const auto before = saved(device_);
    EXPECT_FALSE(complete(0));
    EXPECT_FALSE(complete(2));
    EXPECT_EQ(saved(device_), before);
    EXPECT_TRUE(complete(1, BlockStatus::ok, pattern(512)));
    EXPECT_FALSE(complete(1, BlockStatus::ok, pattern(512)));
    EXPECT_EQ(ring_.used_index(), 1);
}

// header | data | status, cut at every place where the specification allows a cut
TEST_F(VirtioBlockTest, AWriteInPiecesOfOddSizes) {
    put_header(0, kOut, 9);
    ASSERT_TRUE(memory_.write(GuestPhys(header_at(0) + 16), pattern(7)));
    ASSERT_TRUE(memory_.write(GuestPhys(data_at(0)), pattern(1017, 50)));
    ring_.chain(0, {{header_at(0), 3, 0, 0},
                    {header_at(0) + 3, 0, 0, 0},
                    {header_at(0) + 3, 13 + 7, 0, 0},  // the rest of the header and seven bytes
                    {data_at(0), 1000, 0, 0},
                    {data_at(0) + 1000, 17, 0, 0},
                    {status_at(0), 1, kWrite, 0}});
    ring_.offer(0);
    const auto requests = notify();
    ASSERT_EQ(requests.size(), 1u);
    EXPECT_EQ(requests[0].offset_bytes, 9 * 512u);
    auto expected = pattern(7);
    const auto rest = pattern(1017, 50);
    expected.insert(expected.end(), rest.begin(), rest.end());
    EXPECT_EQ(requests[0].data, expected);
}

TEST_F(VirtioBlockTest, AReadInPiecesOfOddSizes) {
    put_header(0, kIn, 0);
    const uint64_t at = data_at(0);
    ring_.chain(0, {{header_at(0), 16, 0, 0},
                    {at, 1, kWrite, 0},
                    {at + 1, 510, kWrite, 0},
                    {at + 4096, 2, kWrite, 0},  // one byte of data and the status
                    {at + 8192, 0, kWrite, 0}});
    ring_.offer(0);
    ASSERT_EQ(notify().size(), 1u);
    const auto data = pattern(512);
    EXPECT_TRUE(complete(1, BlockStatus::ok, data));
    EXPECT_EQ(memory_at(at, 511), std::vector<std::byte>(data.begin(), data.end() - 1));
    EXPECT_EQ(memory_at(at + 4096, 1)[0], data.back());
    EXPECT_EQ(memory_at(at + 4097, 1)[0], std::byte{kOk});
    EXPECT_EQ(ring_.used_element(0).second, 513u);
}

TEST_F(VirtioBlockTest, EverythingInOneDescriptorEach) {
    put_header(0, kOut, 1);
    ring_.chain(0, {{header_at(0), 16 + 512, 0, 0}, {data_at(0), 1, kWrite, 0}});
    ring_.offer(0);
    const auto requests = notify();
    ASSERT_EQ(requests.size(), 1u);
    EXPECT_EQ(requests[0].length_bytes, 512u);
    EXPECT_TRUE(complete(1));
    EXPECT_EQ(memory_at(data_at(0), 1)[0], std::byte{kOk});
}

TEST_F(VirtioBlockTest, WithoutHeaderOrStatusTheDeviceStops) {
    const std::vector<std::vector<TestDescriptor>> broken{
        {{header_at(0), 15, 0, 0}, {status_at(0), 1, kWrite, 0}},
        {{header_at(0), 16, 0, 0}},
        {{header_at(0), 16, 0, 0}, {status_at(0), 0, kWrite, 0}},
        {{status_at(0), 1, kWrite, 0}},
        {{header_at(0), 0, 0, 0}},
    };
    for (const auto& parts : broken) {
        ring_.set_available_index(0);
        driver_.initialise({&ring_});
        ring_.chain(0, parts);
        ring_.offer(0);
        EXPECT_TRUE(notify().empty());
        EXPECT_TRUE(device_.needs_reset());
    }
}

TEST_F(VirtioBlockTest, RangesAtTheEndOfTheDisk) {
    const uint64_t end = kDiskBytes / 512;
    EXPECT_EQ(send(0, kIn, end - 1, 512).size(), 1u);
    EXPECT_EQ(send(1, kIn, 0, 1 << 20).size(), 1u);
    struct Case {
        uint64_t sector;
        uint32_t bytes;
    };
    for (const Case each :
         {Case{end - 1, 1024}, Case{end, 512}, Case{end + 1, 512}, Case{UINT64_MAX, 512},
          Case{uint64_t{1} << 55, 512}, Case{UINT64_MAX / 512 + 1, 512}, Case{0, 511}, Case{0, 513},
          Case{0, 1}, Case{0, 0}, Case{end, 0}}) {
        for (const uint32_t type : std::initializer_list<uint32_t>{kIn, kOut}) {
            EXPECT_TRUE(send(2, type, each.sector, each.bytes).empty()) << each.sector;
            EXPECT_EQ(status_of(2), kIoError) << each.sector << " " << each.bytes;
        }
    }
    EXPECT_FALSE(device_.needs_reset());
    EXPECT_EQ(device_.in_flight(), 2u);
}

TEST_F(VirtioBlockTest, TypesThatAreNotKnown) {
    for (const uint32_t type :
         std::initializer_list<uint32_t>{2u, 3u, 5u, 10u, 12u, 14u, 0x80000000u, 0xffffffffu}) {
        EXPECT_TRUE(send(0, type, 0, 512).empty());
        EXPECT_EQ(status_of(0), kUnsupported) << type;
    }
}

TEST_F(VirtioBlockTest, DiscardAndWriteZeroesNameARange) {
    put_range(0, kDiscard, 16, 8);
    put_range(1, kWriteZeroes, 32, 8192);
    put_range(2, kWriteZeroes, kDiskBytes / 512 - 1, 1, 1);  // may unmap
    const auto requests = notify();
    ASSERT_EQ(requests.size(), 3u);
    EXPECT_EQ(requests[0].operation, BlockOperation::discard);
    EXPECT_EQ(requests[0].offset_bytes, 16 * 512u);
    EXPECT_EQ(requests[0].length_bytes, 8 * 512u);
    EXPECT_TRUE(requests[0].data.empty());
    EXPECT_EQ(requests[1].operation, BlockOperation::write_zeroes);
    EXPECT_EQ(requests[1].length_bytes, 8192 * 512u);
    EXPECT_TRUE(complete(1));
    EXPECT_EQ(status_of(0), kOk);
}

TEST_F(VirtioBlockTest, RangesThatAreRefused) {
    const uint64_t end = kDiskBytes / 512;
    struct Case {
        uint64_t sector;
        uint32_t sectors;
        uint32_t flags;
        uint8_t status;
    };
    for (const Case each :
         {Case{0, 8193, 0, kIoError}, Case{0, 0xffffffff, 0, kIoError}, Case{end, 1, 0, kIoError},
          Case{end - 1, 2, 0, kIoError}, Case{UINT64_MAX, 1, 0, kIoError}, Case{0, 0, 0, kIoError},
          Case{0, 1, 2, kUnsupported}, Case{0, 1, 0x80000000, kUnsupported}}) {
        for (const uint32_t type : std::initializer_list<uint32_t>{kDiscard, kWriteZeroes}) {
            put_range(0, type, each.sector, each.sectors, each.flags);
            EXPECT_TRUE(notify().empty());
            EXPECT_EQ(status_of(0), each.status) << each.sector << " " << each.sectors;
        }
    }
    put_range(0, kDiscard, 0, 1, 1);  // a discard has no flag at all
    EXPECT_TRUE(notify().empty());
    EXPECT_EQ(status_of(0), kUnsupported);
    for (const uint32_t bytes :
         std::initializer_list<uint32_t>{0u, 15u, 17u, 32u}) {  // one range a request
        EXPECT_TRUE(send(0, kDiscard, 0, bytes).empty());
        EXPECT_EQ(status_of(0), kIoError) << bytes;
    }
}

TEST_F(VirtioBlockTest, AReadOnlyDiskIsOnlyRead) {
    VirtioBlock disk(1, "cd", kDiskBytes, VirtioBlock::Access::read_only);
    VirtioDriver driver(disk, memory_);
    driver.initialise({&ring_});
    put(0, kOut, 0, 512);
    put_range(1, kDiscard, 0, 8);
    put_range(2, kWriteZeroes, 0, 8);
    put(3, kIn, 0, 512);
    put(4, kFlush, 0, 0);
    driver.notify(0);
    const auto requests = disk.take_requests();
    ASSERT_EQ(requests.size(), 2u);
    EXPECT_EQ(requests[0].operation, BlockOperation::read);
    EXPECT_EQ(requests[0].device, 1u);
    EXPECT_EQ(requests[1].operation, BlockOperation::flush);
    for (uint16_t slot = 0; slot < 3; ++slot) EXPECT_EQ(status_of(slot), kIoError);
}

TEST_F(VirtioBlockTest, ALongListOfTinySegments) {
    constexpr uint64_t kTable = 0x20000;
    put_header(0, kOut, 0);
    const auto data = pattern(254);
    ASSERT_TRUE(memory_.write(GuestPhys(data_at(0)), data));
    ring_.put_descriptor(kTable, 0, {header_at(0), 16, kNext, 1});
    for (uint16_t i = 0; i < 254; ++i) {
        const uint32_t bytes = i == 0 ? 512 - 253 : 1;
        ring_.put_descriptor(kTable, 1u + i,
                             {data_at(0) + i, bytes, kNext, static_cast<uint16_t>(i + 2)});
    }
    ring_.put_descriptor(kTable, 255, {status_at(0), 1, kWrite, 0});
    ring_.set(0, {kTable, 256 * 16, kIndirect, 0});
    ring_.offer(0);
    const auto requests = notify();
    ASSERT_EQ(requests.size(), 1u);
    EXPECT_EQ(requests[0].data.size(), 512u);
    EXPECT_EQ(requests[0].data.back(), data.back());
}

TEST_F(VirtioBlockTest, ABrokenChainLeavesWhatIsInFlightAlone) {
    send(0, kIn, 0, 512);
    ring_.offer(127);  // an empty descriptor: neither header nor status
    EXPECT_TRUE(notify().empty());
    EXPECT_TRUE(device_.needs_reset());
    const auto before = memory_at(0, kRam);
    EXPECT_TRUE(complete(1, BlockStatus::ok, pattern(512)));
    EXPECT_EQ(memory_at(0, kRam), before);  // the guest's memory is not touched any more
    EXPECT_EQ(device_.in_flight(), 0u);
}

TEST_F(VirtioBlockTest, TheGuestMayAskForNoInterrupt) {
    ring_.set_available_flags(1);
    send(0, kFlush, 0, 0);
    EXPECT_TRUE(complete(1));
    EXPECT_FALSE(device_.interrupt_line());
}

TEST(VirtioBlockDeathTest, AReadThatIsNotWholeIsAProgrammersError) {
    auto memory = test_memory(1 << 20);
    GuestRing ring(memory, 0x10000, 8);
    VirtioBlock device(0, "root", 1 << 20, VirtioBlock::Access::read_write);
    VirtioDriver driver(device, memory);
    driver.initialise({&ring});
    ring.chain(0, {{0x20000, 16, 0, 0}, {0x30000, 513, kWrite, 0}});
    ring.offer(0);
    driver.notify(0);
    const auto data = pattern(511);
    EXPECT_DEATH((void)device.complete(memory, 1, BlockStatus::ok, data), "read 511 of 512 bytes");
}

}  // namespace
}  // namespace antipode::vmm
