// The guest's RAM: what is refused, where the hole is, and which pages are marked.
#include "replicator/vmm/guest_memory.h"

#include <array>
#include <bit>
#include <gtest/gtest.h>

namespace antipode::vmm {
namespace {

constexpr uint64_t kPage = layout::kPageBytes;
constexpr uint64_t kGiB = uint64_t{1} << 30;

GuestMemory make(uint64_t bytes) {
    auto memory = GuestMemory::allocate(bytes);
    if (!memory) throw std::runtime_error(memory.error().to_string());
    return std::move(*memory);
}

std::vector<uint64_t> take_dirty(GuestMemory& memory) {
    std::vector<uint64_t> pages;
    auto& bitmap = memory.vmm_dirty();
    for (size_t word = 0; word < bitmap.size(); ++word) {
        for (uint64_t bits = bitmap[word]; bits != 0; bits &= bits - 1) {
            pages.push_back(word * 64 + static_cast<unsigned>(std::countr_zero(bits)));
        }
        bitmap[word] = 0;
    }
    return pages;
}

std::vector<std::byte> filled(size_t count, uint8_t value) {
    return std::vector<std::byte>(count, std::byte{value});
}

TEST(GuestMemoryTest, IsZeroAtFirst) {
    const auto memory = make(16 * kPage);
    EXPECT_EQ(memory.page_count(), 16u);
    EXPECT_EQ(memory.low_bytes(), 16 * kPage);
    const auto all = memory.view(GuestPhys(0), 16 * kPage);
    ASSERT_TRUE(all);
    for (const std::byte each : *all) ASSERT_EQ(each, std::byte{0});
}

TEST(GuestMemoryTest, WhatIsOutsideIsRefusedAndNothingIsWritten) {
    auto memory = make(4 * kPage);
    const uint64_t end = 4 * kPage;
    const auto two = filled(2, 0xee);
    EXPECT_FALSE(memory.write(GuestPhys(end - 1), two));
    EXPECT_EQ(memory.load<uint8_t>(GuestPhys(end - 1)), 0);
    EXPECT_TRUE(take_dirty(memory).empty());
    EXPECT_TRUE(memory.write(GuestPhys(end - 2), two));
    for (const uint64_t at : std::initializer_list<uint64_t>{
             end, end + 1, layout::kLowMemoryEnd, layout::kAbove4GiB - 1, layout::kAbove4GiB,
             layout::kAbove4GiB + 1, UINT64_MAX}) {
        EXPECT_FALSE(memory.view(GuestPhys(at), 1)) << at;
        EXPECT_FALSE(memory.view(GuestPhys(at), 0)) << at;
        EXPECT_FALSE(memory.mutable_span(GuestPhys(at), 1)) << at;
        EXPECT_FALSE(memory.load<uint8_t>(GuestPhys(at))) << at;
    }
    for (const uint64_t bytes :
         std::initializer_list<uint64_t>{end + 1, UINT64_MAX, UINT64_MAX - 1, uint64_t{1} << 63}) {
        EXPECT_FALSE(memory.view(GuestPhys(0), bytes)) << bytes;
        EXPECT_FALSE(memory.view(GuestPhys(end - 1), bytes)) << bytes;
    }
    EXPECT_TRUE(memory.view(GuestPhys(0), end));
    EXPECT_TRUE(memory.view(GuestPhys(end - 1), 1));
    EXPECT_TRUE(memory.view(GuestPhys(end - 1), 0));
}

TEST(GuestMemoryTest, ALoadMayNotStraddleTheEnd) {
    auto memory = make(kPage);
    ASSERT_TRUE(memory.store(GuestPhys(kPage - 8), uint64_t{0x1122334455667788}));
    EXPECT_EQ(memory.load<uint64_t>(GuestPhys(kPage - 8)), 0x1122334455667788u);
    EXPECT_EQ(memory.load<uint32_t>(GuestPhys(kPage - 4)), 0x11223344u);
    EXPECT_FALSE(memory.load<uint64_t>(GuestPhys(kPage - 7)));
    EXPECT_FALSE(memory.store(GuestPhys(kPage - 7), uint64_t{1}));
}

// Address space only: nothing of it is touched but a few pages (MAP_NORESERVE).
TEST(GuestMemoryTest, MemoryAbove3GiBLiesAbove4GiB) {
    auto memory = make(5 * kGiB);
    EXPECT_EQ(memory.low_bytes(), 3 * kGiB);
    const auto mark = filled(1, 0x5a);
    EXPECT_TRUE(memory.write(GuestPhys(3 * kGiB - 1), mark));
    EXPECT_FALSE(memory.view(GuestPhys(3 * kGiB - 1), 2));
    EXPECT_FALSE(memory.view(GuestPhys(3 * kGiB), 1));
    EXPECT_FALSE(memory.view(GuestPhys(4 * kGiB - 1), 1));
    EXPECT_FALSE(memory.view(GuestPhys(4 * kGiB - 1), 2));
    EXPECT_TRUE(memory.write(GuestPhys(4 * kGiB), mark));
    EXPECT_TRUE(memory.write(GuestPhys(6 * kGiB - 1), mark));
    EXPECT_FALSE(memory.view(GuestPhys(6 * kGiB - 1), 2));
    EXPECT_FALSE(memory.view(GuestPhys(6 * kGiB), 1));
    EXPECT_FALSE(memory.view(GuestPhys(0), 4 * kGiB));
    const uint64_t first_high = 3 * kGiB / kPage;
    EXPECT_EQ(take_dirty(memory),
              (std::vector<uint64_t>{first_high - 1, first_high, 5 * kGiB / kPage - 1}));
    EXPECT_EQ(memory.page(first_high)[0], std::byte{0x5a});
    EXPECT_EQ(memory.page(first_high - 1)[kPage - 1], std::byte{0x5a});
}

TEST(GuestMemoryTest, Exactly3GiBHasNothingAbove) {
    const auto memory = make(3 * kGiB);
    EXPECT_EQ(memory.low_bytes(), 3 * kGiB);
    EXPECT_TRUE(memory.view(GuestPhys(3 * kGiB - 1), 1));
    EXPECT_FALSE(memory.view(GuestPhys(4 * kGiB), 1));
    EXPECT_FALSE(memory.view(GuestPhys(4 * kGiB), 0));
}

TEST(GuestMemoryTest, EachWayToWriteMarksExactlyItsPages) {
    auto memory = make(200 * kPage);
    EXPECT_TRUE(take_dirty(memory).empty());
    ASSERT_TRUE(memory.write(GuestPhys(3 * kPage - 1), filled(2, 1)));
    EXPECT_EQ(take_dirty(memory), (std::vector<uint64_t>{2, 3}));
    ASSERT_TRUE(memory.store(GuestPhys(63 * kPage), uint32_t{1}));
    EXPECT_EQ(take_dirty(memory), (std::vector<uint64_t>{63}));
    ASSERT_TRUE(memory.mutable_span(GuestPhys(63 * kPage + 4), 2 * kPage));
    EXPECT_EQ(take_dirty(memory), (std::vector<uint64_t>{63, 64, 65}));
    (void)memory.mutable_page(199);
    EXPECT_EQ(take_dirty(memory), (std::vector<uint64_t>{199}));
    ASSERT_TRUE(memory.mutable_span(GuestPhys(5 * kPage), 0));
    ASSERT_TRUE(memory.view(GuestPhys(5 * kPage), kPage));
    (void)memory.page(5);
    EXPECT_TRUE(take_dirty(memory).empty());
    ASSERT_TRUE(memory.mutable_span(GuestPhys(7 * kPage), kPage));  // up to the end, no further
    EXPECT_EQ(take_dirty(memory), (std::vector<uint64_t>{7}));
}

TEST(GuestMemoryTest, MovingKeepsMemoryAndMarks) {
    auto memory = make(4 * kPage);
    ASSERT_TRUE(memory.store(GuestPhys(8), uint64_t{42}));
    auto other = std::move(memory);
    EXPECT_EQ(other.load<uint64_t>(GuestPhys(8)), 42u);
    EXPECT_EQ(take_dirty(other), (std::vector<uint64_t>{0}));
}

TEST(GuestMemoryDeathTest, APageThatIsNotThereIsAProgrammersError) {
    const auto memory = make(4 * kPage);
    EXPECT_DEATH((void)memory.page(4), "page 4 of 4");
}

TEST(GuestMemoryDeathTest, AWildOffsetCrashes) {
    const auto memory = make(4 * kPage);
    const auto* base = static_cast<const volatile std::byte*>(memory.host_base());
    EXPECT_DEATH((void)base[4 * kPage], "");
    EXPECT_DEATH((void)base[-1], "");
}

TEST(GuestMemoryTest, TooMuchIsAnErrorThatSaysHowMuch) {
    const auto memory = GuestMemory::allocate(uint64_t{1} << 60);
    ASSERT_FALSE(memory);
    EXPECT_NE(memory.error().context.find("1152921504606846976 bytes"), std::string::npos);
}

}  // namespace
}  // namespace antipode::vmm
