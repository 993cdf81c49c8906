// A site that halts holds its disks, so that nothing is written any more: what the VM waits for
// does not come. It stands all the same, and the site hears that it does.
#include <gtest/gtest.h>

#include "tests/replay/guest_options.h"

namespace antipode::replay {
namespace {

using std::chrono::seconds;

TEST(HeldDisk, ABackupThatWaitsForItsDiskStandsWhenItIsToldTo) {
    const std::string missing = guest_missing("disk_writer");
    if (!missing.empty()) GTEST_SKIP() << missing;
    auto made = ReplayPair::make(options_for("disk_writer", ""));
    ASSERT_TRUE(made.has_value()) << made.error().to_string();
    ReplayPair& pair = **made;
    pair.start();
    const auto has_recorded = [&](uint64_t count) {
        return pair.primary.wait_until(
            [&] { return pair.primary.recorded_count >= count || pair.primary.stop_reason; },
            seconds(60));
    };
    ASSERT_TRUE(has_recorded(1000));
    for (int round = 0; round < 3; ++round) {
        pair.backup_disk->hold(true);
        // More than the requests that it can have in flight: it waits for one of them.
        ASSERT_TRUE(has_recorded(pair.primary.recorded_count + 2000));
        ASSERT_FALSE(pair.primary.stop_reason) << pair.primary.stop_text;
        pair.backup_engine->pause();
        EXPECT_TRUE(
            pair.backup.wait_until([&] { return pair.backup_engine->paused(); }, seconds(20)));
        pair.backup_engine->resume();
        pair.backup_disk->hold(false);
    }
    const auto compared = pair.compare_at_an_exit();
    ASSERT_TRUE(compared.has_value()) << compared.error().to_string();
    EXPECT_EQ(*compared, "");
}

}  // namespace
}  // namespace antipode::replay
