// A guest that does everything a driver must not do gets DEVICE_NEEDS_RESET and goes on; the VMM
// does not crash, and the backup sees the same.
#include <chrono>
#include <gtest/gtest.h>
#include <unistd.h>

#include "tests/replay/replay_pair.h"

namespace antipode::replay {
namespace {

using std::chrono::seconds;

TEST(HostileGuest, IsContainedAndReplayedAlike) {
    if (access("/dev/kvm", R_OK | W_OK) != 0) GTEST_SKIP() << "no /dev/kvm";
    PairOptions options;
    options.config.kernel_image_path = GUEST_DIRECTORY "/hostile.elf";
    options.config.mem_size_mib = 32;
    options.config.drives.push_back({"root", "memory", false, true});
    options.config.networks.push_back({"eth0", "memory", {6, 0, 10, 0, 0, 1}});
    auto made = ReplayPair::make(options);
    ASSERT_TRUE(made.has_value()) << made.error().to_string();
    auto& pair = **made;
    pair.start();
    ASSERT_TRUE(
        pair.primary.wait_until([&] { return pair.primary.stop_reason.has_value(); }, seconds(60)))
        << pair.primary.console;
    EXPECT_EQ(*pair.primary.stop_reason, StopReason::guest_reset) << pair.primary.stop_text;
    EXPECT_NE(pair.primary.console.find("EXIT-SUCCESS"), std::string::npos) << pair.primary.console;
    pair.cut_primary();
    pair.backup_engine->close_log();
    ASSERT_TRUE(
        pair.backup.wait_until([&] { return pair.backup.stop_reason.has_value(); }, seconds(60)));
    EXPECT_EQ(*pair.backup.stop_reason, StopReason::guest_reset) << pair.backup.stop_text;
    EXPECT_EQ(pair.backup.console, pair.primary.console);
    for (const auto& error : pair.backup.digest_errors) ADD_FAILURE() << error;
}

}  // namespace
}  // namespace antipode::replay
