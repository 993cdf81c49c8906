// What a reset goes back to: the VM as it was before its first instruction, whatever has become of
// its memory, and of the files, since.
#include "replicator/vmm/boot_snapshot.h"

#include <algorithm>
#include <gtest/gtest.h>
#include <unistd.h>

#include "replicator/vmm/builder.h"
#include "tests/replay/guest_options.h"

namespace antipode::vmm {
namespace {

class BootSnapshotTest : public testing::Test {
  protected:
    void SetUp() override {
        const std::string missing = replay::guest_missing("counter");
        if (!missing.empty()) GTEST_SKIP() << missing;
        auto kvm = Kvm::open();
        ASSERT_TRUE(kvm) << kvm.error().to_string();
        auto vm = build_vm(*kvm, replay::options_for("counter", "").config, {4 << 20});
        ASSERT_TRUE(vm) << vm.error().to_string();
        vm_ = std::move(*vm);
        const auto all = memory();
        before_.assign(all.begin(), all.end());
    }
    std::span<const std::byte> memory() const {
        return {vm_->memory.host_base(), vm_->memory.size_bytes()};
    }
    void scribble() {
        for (uint64_t page = 0; page < vm_->memory.page_count(); page += 3) {
            std::ranges::fill(vm_->memory.mutable_page(page), std::byte{0x5a});
        }
    }
    Result<void> restore() { return vm_->boot->restore(vm_->memory, *vm_->machine, vm_->vcpu); }

    std::unique_ptr<VirtualMachine> vm_;
    std::vector<std::byte> before_;
};

TEST_F(BootSnapshotTest, EveryByteComesBack) {
    for (int round = 0; round < 2; ++round) {
        scribble();
        ASSERT_FALSE(std::ranges::equal(memory(), before_));
        const auto restored = restore();
        ASSERT_TRUE(restored) << restored.error().to_string();
        EXPECT_TRUE(std::ranges::equal(memory(), before_));
    }
}

TEST_F(BootSnapshotTest, TouchesOnlyWhatDiffers) {
    auto& touched = vm_->memory.vmm_dirty();
    std::ranges::fill(touched, 0);
    (void)vm_->memory.mutable_page(700);
    ASSERT_TRUE(restore());
    EXPECT_EQ(touched[700 / 64], uint64_t{1} << (700 % 64));
    touched[700 / 64] = 0;
    EXPECT_TRUE(std::ranges::all_of(touched, [](uint64_t word) { return word == 0; }));
}

TEST_F(BootSnapshotTest, HoldsOnlyPagesThatAreNotZero) {
    uint64_t pages = 0;
    for (uint64_t page = 0; page < vm_->memory.page_count(); ++page) {
        const auto bytes = vm_->memory.page(page);
        pages += std::ranges::any_of(bytes, [](std::byte b) { return b != std::byte{}; }) ? 1 : 0;
    }
    EXPECT_EQ(vm_->boot->bytes(), pages * layout::kPageBytes);
}

TEST_F(BootSnapshotTest, AnotherByteInItsFileIsRefused) {
    const auto at = static_cast<off_t>(vm_->boot->bytes() / 2);
    std::byte byte{};
    ASSERT_EQ(pread(vm_->boot->fd(), &byte, 1, at), 1);
    byte ^= std::byte{1};
    ASSERT_EQ(pwrite(vm_->boot->fd(), &byte, 1, at), 1);
    const auto restored = restore();
    ASSERT_FALSE(restored);
    EXPECT_EQ(restored.error().code, Errc::corrupt);
    EXPECT_NE(restored.error().context.find("is not what was loaded"), std::string::npos);
}

TEST_F(BootSnapshotTest, AFileThatEndsIsRefused) {
    ASSERT_EQ(ftruncate(vm_->boot->fd(), static_cast<off_t>(vm_->boot->bytes() - 1)), 0);
    const auto restored = restore();
    ASSERT_FALSE(restored);
    EXPECT_EQ(restored.error().code, Errc::corrupt);
}

TEST_F(BootSnapshotTest, ADirectoryThatIsNotThereIsNamed) {
    const auto taken =
        BootSnapshot::take(vm_->memory, *vm_->machine, vm_->vcpu, "/nonexistent/directory");
    ASSERT_FALSE(taken);
    EXPECT_NE(taken.error().context.find("/nonexistent/directory"), std::string::npos);
}

}  // namespace
}  // namespace antipode::vmm
