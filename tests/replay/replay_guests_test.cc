// Each guest is recorded and replayed at once: registers, devices and memory are compared at
// intervals, the outputs and the disks at the end.
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <gtest/gtest.h>
#include <unistd.h>

#include "tests/replay/replay_pair.h"

namespace antipode::replay {
namespace {

using std::chrono::seconds;

PairOptions linux_options() {
    PairOptions options;
    const char* directory = std::getenv("ANTIPODE_LINUX_GUEST");
    const std::string base = directory == nullptr ? "/nonexistent" : directory;
    options.config.kernel_image_path = base + "/vmlinux";
    options.config.initrd_path = base + "/initramfs.cpio";
    options.config.boot_args =
        "console=ttyS0 nolapic noxsave notsc clearcpuid=smap,popcnt,rdrand,rdseed,rdtscp "
        "lpj=20000 rodata=off quiet pmtmr=0x608";
    options.config.mem_size_mib = 32;
    options.config.drives.push_back({"root", "memory", false, true});
    options.config.networks.push_back({"eth0", "memory", {6, 0, 10, 0, 0, 1}});
    return options;
}

class ReplayGuests : public testing::Test {
  protected:
    void SetUp() override {
        if (access("/dev/kvm", R_OK | W_OK) != 0) GTEST_SKIP() << "no /dev/kvm";
    }
};

TEST_F(ReplayGuests, LinuxBoots) {
    if (std::getenv("ANTIPODE_LINUX_GUEST") == nullptr) GTEST_SKIP() << "no Linux guest";
    auto made = ReplayPair::make(linux_options());
    ASSERT_TRUE(made.has_value()) << made.error().to_string();
    auto& pair = **made;
    pair.start();
    const auto has = [&](Side& side, const char* text) {
        return side.console.find(text) != std::string::npos;
    };
    const bool booted = pair.primary.wait_until(
        [&] { return has(pair.primary, "ready") || pair.primary.stop_reason; }, seconds(30));
    pair.cut_primary();
    std::fprintf(stderr, "%s\n", pair.primary.console.c_str());
    std::fprintf(stderr, "exits %lu entries %lu log bytes %lu\n",
                 pair.primary_engine->exit_number().value(), pair.log_entries.load(),
                 pair.log_bytes.load());
    std::fprintf(stderr, "%s\n", pair.metrics_text().c_str());
    EXPECT_TRUE(booted) << pair.primary.stop_text;
    EXPECT_TRUE(pair.fail_over()) << pair.backup.stop_text;
    EXPECT_EQ(pair.backup.console, pair.primary.console);
    for (const auto& error : pair.backup.digest_errors) ADD_FAILURE() << error;
    EXPECT_GT(pair.backup.digests_equal, 0u);
}

}  // namespace
}  // namespace antipode::replay
