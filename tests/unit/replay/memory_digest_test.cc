// The digest of the guest's memory, against a hash of all of it. Needs KVM for the dirty log of a
// VM that never runs; without it, skipped.
#include "replicator/replay/memory_digest.h"

#include <gtest/gtest.h>
#include <unistd.h>
#include <xxhash.h>

#include "common/base/random.h"

namespace antipode::replay {
namespace {

constexpr uint64_t kPages = 200;

uint64_t digest_of_all(const vmm::GuestMemory& memory) {
    uint64_t sum = 0;
    for (uint64_t page = 0; page < memory.page_count(); ++page) {
        const auto bytes = memory.page(page);
        sum += XXH3_64bits_withSeed(bytes.data(), bytes.size(), page);
    }
    return sum;
}

class MemoryDigestTest : public testing::Test {
  protected:
    void SetUp() override {
        if (access("/dev/kvm", R_OK | W_OK) != 0) GTEST_SKIP() << "no /dev/kvm";
        auto kvm = vmm::Kvm::open();
        ASSERT_TRUE(kvm) << kvm.error().to_string();
        auto memory = vmm::GuestMemory::allocate(kPages * 4096);
        ASSERT_TRUE(memory);
        memory_.emplace(std::move(*memory));
        auto vm = vmm::Vm::create(*kvm, *memory_);
        ASSERT_TRUE(vm) << vm.error().to_string();
        vm_.emplace(std::move(*vm));
    }
    uint64_t update() {
        const auto digest = digest_.update(*vm_, *memory_);
        EXPECT_TRUE(digest);
        return digest ? *digest : 0;
    }
    std::vector<uint64_t> take_changed() {
        const auto pages = digest_.take_changed(*vm_, *memory_);
        EXPECT_TRUE(pages);
        return pages ? *pages : std::vector<uint64_t>();
    }
    void write(uint64_t page, uint64_t value) {
        ASSERT_TRUE(memory_->store(vmm::GuestPhys(page * 4096 + 8), value));
    }

    std::optional<vmm::GuestMemory> memory_;
    std::optional<vmm::Vm> vm_;
    MemoryDigest digest_;
};

TEST_F(MemoryDigestTest, TheFirstTimeEverythingIsHashed) {
    write(7, 42);
    EXPECT_EQ(update(), digest_of_all(*memory_));
    EXPECT_EQ(digest_.pages_hashed(), kPages);
}

TEST_F(MemoryDigestTest, LaterOnlyWhatChanged) {
    (void)update();
    const auto before = digest_.pages_hashed();
    const auto quiet = update();
    EXPECT_EQ(digest_.pages_hashed(), before);
    write(0, 1);
    write(199, 2);
    EXPECT_NE(update(), quiet);
    EXPECT_EQ(digest_.pages_hashed(), before + 2);
    EXPECT_EQ(update(), digest_of_all(*memory_));
}

TEST_F(MemoryDigestTest, TheSameMemoryIsTheSameDigestHoweverItCameAbout) {
    const auto empty = update();
    for (uint64_t i = 0; i < 50; ++i) write(i, i + 1);
    const auto full = update();
    EXPECT_NE(full, empty);
    for (uint64_t i = 0; i < 50; ++i) write(i, 0);
    EXPECT_EQ(update(), empty);
}

TEST_F(MemoryDigestTest, PagesThatChangePlacesChangeTheDigest) {
    write(3, 111);
    write(4, 222);
    const auto one = update();
    write(3, 222);
    write(4, 111);
    EXPECT_NE(update(), one);
}

TEST_F(MemoryDigestTest, ChangedPagesAreSinceTheLastTimeAnybodyAsked) {
    write(1, 1);
    EXPECT_EQ(take_changed(), (std::vector<uint64_t>{1}));
    EXPECT_TRUE(take_changed().empty());
    write(2, 1);
    write(130, 1);
    write(2, 2);
    EXPECT_EQ(take_changed(), (std::vector<uint64_t>{2, 130}));
    write(5, 1);
    (void)update();  // then the other site is compared: it has page 5
    EXPECT_TRUE(take_changed().empty());
}

TEST_F(MemoryDigestTest, WhatADeltaTookIsStillHashed) {
    (void)update();
    write(9, 9);
    EXPECT_EQ(take_changed(), (std::vector<uint64_t>{9}));
    EXPECT_EQ(update(), digest_of_all(*memory_));
}

TEST_F(MemoryDigestTest, PageHashesNameThePageThatDiffers) {
    (void)update();
    const auto before = digest_.page_hashes();
    write(77, 1);
    (void)update();
    for (uint64_t page = 0; page < kPages; ++page) {
        EXPECT_EQ(digest_.page_hashes()[page] == before[page], page != 77) << page;
    }
}

TEST_F(MemoryDigestTest, RandomWritesNeverMissAPage) {
    Random random(5);
    for (int round = 0; round < 300; ++round) {
        for (uint64_t count = random.below(10); count > 0; --count) {
            write(random.below(kPages), random.next());
        }
        if (random.chance(0.3)) (void)take_changed();
        if (random.chance(0.5)) {
            ASSERT_EQ(update(), digest_of_all(*memory_)) << round;
        }
    }
}

TEST_F(MemoryDigestTest, UnsentPagesAreAllOfThemThenTheChangedOnes) {
    const auto count = [](const std::vector<uint64_t>& bitmap) {
        size_t bits = 0;
        for (const uint64_t word : bitmap) bits += static_cast<size_t>(std::popcount(word));
        return bits;
    };
    auto all = digest_.take_unsent(*vm_, *memory_);
    ASSERT_TRUE(all);
    EXPECT_EQ(count(*all), kPages);
    write(70, 1);
    (void)update();  // digests and deltas go on while a copy is made: nothing of it is lost
    write(71, 1);
    (void)take_changed();
    const auto changed = digest_.take_unsent(*vm_, *memory_);
    ASSERT_TRUE(changed);
    EXPECT_EQ(count(*changed), 2u);
    EXPECT_EQ((*changed)[1], uint64_t{3} << 6);
    digest_.forget_sent();
    all = digest_.take_unsent(*vm_, *memory_);
    ASSERT_TRUE(all);
    EXPECT_EQ(count(*all), kPages);
}

}  // namespace
}  // namespace antipode::replay
