// What is with the disk: overlaps, bounds, resets in the middle, and the state that goes to another
// site.
#include <algorithm>
#include <set>

#include "common/base/random.h"
#include "tests/unit/vmm/virtio_block_fixture.h"

namespace antipode::vmm {
namespace {

class VirtioBlockFlightTest : public VirtioBlockTest {
  protected:
    // The driver's view after a reset: an empty ring at the same place.
    void restart_driver() {
        ring_.set_available_index(0);
        memory_.store(GuestPhys(ring_.used() + 2), uint16_t{0});
        driver_.initialise({&ring_});
    }
};

TEST_F(VirtioBlockFlightTest, ALaterRequestForTheSameBytesWaits) {
    put(0, kOut, 0, 4096);
    put(1, kIn, 7, 512);   // the last sector of the write
    put(2, kIn, 8, 512);   // the one behind it
    put(3, kOut, 7, 512);  // overlaps with both the write and the read
    EXPECT_EQ(numbers(notify()), (std::vector<uint64_t>{1, 3}));
    EXPECT_TRUE(complete(3, BlockStatus::ok, pattern(512)));
    EXPECT_TRUE(device_.take_requests().empty());
    EXPECT_TRUE(complete(1));
    EXPECT_EQ(numbers(device_.take_requests()), (std::vector<uint64_t>{2}));
    EXPECT_TRUE(complete(2, BlockStatus::ok, pattern(512)));
    EXPECT_EQ(numbers(device_.take_requests()), (std::vector<uint64_t>{4}));
}

TEST_F(VirtioBlockFlightTest, ReadsOfTheSameBytesDoNotWait) {
    for (uint16_t i = 0; i < 4; ++i) put(i, kIn, 0, 4096);
    EXPECT_EQ(notify().size(), 4u);
}

TEST_F(VirtioBlockFlightTest, DiscardsAndZeroesAreWrites) {
    put_range(0, kDiscard, 0, 8);
    put_range(1, kWriteZeroes, 7, 8);
    put(2, kIn, 14, 512);
    EXPECT_EQ(numbers(notify()), (std::vector<uint64_t>{1}));
    complete(1);
    EXPECT_EQ(numbers(device_.take_requests()), (std::vector<uint64_t>{2}));
    complete(2);
    EXPECT_EQ(numbers(device_.take_requests()), (std::vector<uint64_t>{3}));
}

TEST_F(VirtioBlockFlightTest, AFlushWaitsForNothing) {
    put(0, kOut, 0, 512);
    put(1, kFlush, 0, 0);
    put(2, kFlush, 0, 0);
    EXPECT_EQ(notify().size(), 3u);
}

TEST_F(VirtioBlockFlightTest, DataOfAWriteThatWaitedIsOfTheTimeItStarts) {
    // Both sites start it at the same completion event, so both take the same bytes.
    put(0, kOut, 0, 512);
    put(1, kOut, 0, 512);
    ASSERT_TRUE(memory_.write(GuestPhys(data_at(1)), pattern(512, 1)));
    EXPECT_EQ(notify().size(), 1u);
    ASSERT_TRUE(memory_.write(GuestPhys(data_at(1)), pattern(512, 2)));
    complete(1);
    const auto requests = device_.take_requests();
    ASSERT_EQ(requests.size(), 1u);
    EXPECT_EQ(requests[0].data, pattern(512, 2));
}

// Random requests and completions: what is with the disk never overlaps, and nothing is forgotten.
TEST_F(VirtioBlockFlightTest, NothingThatOverlapsIsEverWithTheDisk) {
    Random random(20250101);
    std::vector<BlockRequest> with_disk;
    std::set<uint64_t> seen;
    const auto writes = [](const BlockRequest& each) {
        return each.operation != BlockOperation::read && each.operation != BlockOperation::flush;
    };
    const auto take = [&] {
        for (auto& each : device_.take_requests()) {
            EXPECT_TRUE(seen.insert(each.number).second);
            EXPECT_LE(each.offset_bytes + each.length_bytes, kDiskBytes);
            for (const auto& other : with_disk) {
                const bool overlap = each.offset_bytes < other.offset_bytes + other.length_bytes &&
                                     other.offset_bytes < each.offset_bytes + each.length_bytes;
                EXPECT_FALSE(overlap && (writes(each) || writes(other)));
            }
            with_disk.push_back(std::move(each));
        }
    };
    std::vector<uint16_t> free;
    for (uint16_t slot = 0; slot < 32; ++slot) free.push_back(slot);
    uint16_t used = 0;
    uint64_t made = 0;
    for (int step = 0; step < 20000; ++step) {
        if (!free.empty() && random.chance(0.55)) {
            const uint16_t slot = free.back();
            free.pop_back();
            const uint64_t sector = random.below(64);
            const auto sectors = static_cast<uint32_t>(random.between(1, 16));
            switch (random.below(4)) {
                case 0:
                    put(slot, kIn, sector, sectors * 512);
                    break;
                case 1:
                    put(slot, kOut, sector, sectors * 512);
                    break;
                case 2:
                    put_range(slot, kDiscard, sector, sectors);
                    break;
                default:
                    put_range(slot, kWriteZeroes, sector, sectors);
                    break;
            }
            ++made;
            driver_.notify(0);
        } else if (!with_disk.empty()) {
            const size_t index = random.below(with_disk.size());
            const BlockRequest done = std::move(with_disk[index]);
            with_disk.erase(with_disk.begin() + static_cast<ptrdiff_t>(index));
            EXPECT_TRUE(complete(done.number, BlockStatus::ok, done.data));
        }
        take();
        for (; used != ring_.used_index(); ++used) {
            const auto slot = static_cast<uint16_t>(ring_.used_element(used).first / 3);
            EXPECT_EQ(status_of(slot), kOk);
            free.push_back(slot);
        }
        ASSERT_FALSE(HasFailure()) << step;
    }
    while (!with_disk.empty()) {
        EXPECT_TRUE(complete(with_disk.back().number, BlockStatus::ok, with_disk.back().data));
        with_disk.pop_back();
        take();
    }
    EXPECT_EQ(device_.in_flight(), 0u);
    EXPECT_EQ(seen.size(), made);
    EXPECT_FALSE(device_.needs_reset());
}

TEST_F(VirtioBlockFlightTest, BytesInFlightAreBounded) {
    uint64_t bytes = 0;
    std::vector<BlockRequest> all;
    for (uint16_t i = 0; i < 40; ++i) put(i, kIn, 0, 1 << 20);
    for (auto& each : notify()) {
        bytes += each.length_bytes;
        all.push_back(std::move(each));
    }
    EXPECT_EQ(bytes, VirtioBlock::kBytesInFlightMax);
    EXPECT_TRUE(notify().empty());  // asking again does not help
    // Each end lets one more in, without a notification.
    complete(all[0].number, BlockStatus::ok, all[0].data);
    EXPECT_EQ(device_.take_requests().size(), 1u);
}

TEST_F(VirtioBlockFlightTest, ResetAbandonsAndTheGuestGetsNoAnswer) {
    send(0, kIn, 0, 512);
    driver_.write(kRegStatus, 0);
    EXPECT_EQ(device_.in_flight(), 1u);
    restart_driver();
    const auto before = memory_at(0, kRam);
    EXPECT_TRUE(complete(1, BlockStatus::ok, pattern(512)));
    EXPECT_EQ(memory_at(0, kRam), before);
    EXPECT_FALSE(device_.interrupt_line());
    EXPECT_EQ(device_.in_flight(), 0u);
    EXPECT_FALSE(complete(1, BlockStatus::ok, pattern(512)));
}

TEST_F(VirtioBlockFlightTest, WhatOverlapsWithSomethingAbandonedWaits) {
    ASSERT_TRUE(memory_.write(GuestPhys(data_at(0)), pattern(512, 1)));
    send(0, kOut, 0, 512);
    restart_driver();
    ASSERT_TRUE(memory_.write(GuestPhys(data_at(1)), pattern(512, 2)));
    // The old write is still on its way: if the new one overtook it, the disk would keep old data.
    EXPECT_TRUE(send(1, kOut, 0, 512).empty());
    EXPECT_TRUE(complete(1));
    const auto requests = device_.take_requests();
    EXPECT_EQ(numbers(requests), (std::vector<uint64_t>{2}));
    EXPECT_EQ(requests[0].data, pattern(512, 2));
    EXPECT_TRUE(complete(2));
    EXPECT_EQ(status_of(1), kOk);
}

TEST_F(VirtioBlockFlightTest, WhatWaitedIsForgottenByAReset) {
    put(0, kOut, 0, 512);
    put(1, kOut, 0, 512);
    EXPECT_EQ(notify().size(), 1u);
    restart_driver();
    EXPECT_TRUE(complete(1));
    EXPECT_TRUE(device_.take_requests().empty());
    EXPECT_EQ(device_.in_flight(), 0u);
}

// A guest that resets in a loop must not fill the host with its abandoned requests.
TEST_F(VirtioBlockFlightTest, ResetsDoNotLiftTheBounds) {
    uint64_t bytes = 0;
    size_t count = 0;
    for (int round = 0; round < 200; ++round) {
        restart_driver();
        for (uint16_t i = 0; i < 20; ++i) put(i, kIn, 0, 1 << 20);
        for (const auto& each : notify()) bytes += each.length_bytes;
    }
    EXPECT_EQ(bytes, VirtioBlock::kBytesInFlightMax);
    driver_.write(kRegStatus, 0);
    for (uint64_t number = 1; device_.in_flight() > 0; ++number) {
        ASSERT_TRUE(complete(number, BlockStatus::io_error));
    }
    for (int round = 0; round < 200; ++round) {
        restart_driver();
        for (uint16_t i = 0; i < 40; ++i) put(i, kFlush, 0, 0);
        count += notify().size();
    }
    EXPECT_EQ(count, VirtioBlock::kRequestsInFlightMax);
}

TEST_F(VirtioBlockFlightTest, StateIsExact) {
    EXPECT_EQ(state_trouble(saved(make_device()), make_device, memory_), "");
    put(0, kOut, 0, 512);
    put(1, kIn, 0, 512);
    put(2, kFlush, 0, 0);
    put_range(3, kDiscard, 64, 8);
    notify();
    EXPECT_EQ(state_trouble(saved(device_), make_device, memory_), "");
    restart_driver();
    put(0, kOut, 0, 512);
    notify();
    EXPECT_EQ(state_trouble(saved(device_), make_device, memory_), "");
}

// A new backup starts with a copy of memory and state, and issues again what was with the disk.
TEST_F(VirtioBlockFlightTest, ANewSiteIssuesAgainWhatWasWithTheDisk) {
    ASSERT_TRUE(memory_.write(GuestPhys(data_at(0)), pattern(512, 5)));
    put(0, kOut, 0, 512);
    put(1, kIn, 0, 512);  // waits
    put(2, kIn, 100, 1024);
    put_range(3, kWriteZeroes, 200, 8);
    const auto originals = notify();
    ASSERT_EQ(numbers(originals), (std::vector<uint64_t>{1, 3, 4}));
    auto other_memory = test_memory(kRam);
    ASSERT_TRUE(other_memory.write(GuestPhys(0), memory_at(0, kRam)));
    auto other = make_device();
    ASSERT_EQ(load_problem(other, saved(device_), other_memory), "");
    EXPECT_TRUE(other.take_requests().empty());
    const auto again = other.reissue(other_memory);
    ASSERT_EQ(again.size(), originals.size());
    for (size_t i = 0; i < again.size(); ++i) {
        EXPECT_EQ(again[i].number, originals[i].number);
        EXPECT_EQ(again[i].operation, originals[i].operation);
        EXPECT_EQ(again[i].offset_bytes, originals[i].offset_bytes);
        EXPECT_EQ(again[i].length_bytes, originals[i].length_bytes);
        EXPECT_EQ(again[i].data, originals[i].data);
    }
    // From here the same completions make the same machines.
    for (const uint64_t number : std::initializer_list<uint64_t>{3, 1, 4, 2}) {
        const auto data = number == 3 ? pattern(1024) : pattern(512);
        EXPECT_TRUE(complete(number, BlockStatus::ok, data));
        EXPECT_TRUE(other.complete(other_memory, number, BlockStatus::ok, data));
        EXPECT_EQ(numbers(other.take_requests()), numbers(device_.take_requests()));
    }
    EXPECT_EQ(saved(other), saved(device_));
    const auto copy = other_memory.view(GuestPhys(0), kRam);
    EXPECT_TRUE(std::ranges::equal(*copy, memory_at(0, kRam)));
}

TEST_F(VirtioBlockFlightTest, AbandonedWritesAreIssuedAgainWithTheirOwnData) {
    ASSERT_TRUE(memory_.write(GuestPhys(data_at(0)), pattern(512, 5)));
    put(0, kOut, 0, 512);
    put(1, kIn, 8, 512);
    EXPECT_EQ(notify().size(), 2u);
    restart_driver();
    ASSERT_TRUE(memory_.write(GuestPhys(data_at(0)), pattern(512, 6)));  // its buffer is reused
    auto other = make_device();
    ASSERT_EQ(load_problem(other, saved(device_), memory_), "");
    const auto again = other.reissue(memory_);
    ASSERT_EQ(again.size(), 2u);
    EXPECT_EQ(again[0].data, pattern(512, 5));
    EXPECT_EQ(again[1].data.size(), 512u);
    EXPECT_EQ(saved(other), saved(device_));
}

TEST_F(VirtioBlockFlightTest, AStateWithMoreRequestsThanChainsIsRefused) {
    send(0, kFlush, 0, 0);
    auto bytes = saved(device_);
    // size, three addresses, ready, next available, next used: then outstanding
    const size_t outstanding = 2 + 3 * 8 + 1 + 2 + 2;
    ASSERT_EQ(bytes[outstanding], std::byte{1});
    bytes[outstanding] = std::byte{0};
    auto other = make_device();
    EXPECT_EQ(load_problem(other, bytes, memory_), "disk: more requests than the guest made");
}

TEST_F(VirtioBlockFlightTest, AStateWhoseNumbersRunOutIsRefused) {
    auto bytes = saved(device_);
    // next_number and the count of requests are the last 10 bytes
    bytes[bytes.size() - 3] = std::byte{0xff};
    auto other = make_device();
    EXPECT_EQ(load_problem(other, bytes, memory_), "disk: request numbers run out");
    std::fill(bytes.end() - 10, bytes.end() - 2, std::byte{0});
    EXPECT_EQ(load_problem(other, bytes, memory_), "disk: request number is out of order");
}

TEST_F(VirtioBlockFlightTest, AStateOfALargerDiskIsRefused) {
    send(0, kIn, kDiskBytes / 512 - 1, 512);
    VirtioBlock smaller(0, "root", kDiskBytes - 512, VirtioBlock::Access::read_write);
    EXPECT_EQ(load_problem(smaller, saved(device_), memory_),
              "disk: a request that no guest can have made");
}

}  // namespace
}  // namespace antipode::vmm
