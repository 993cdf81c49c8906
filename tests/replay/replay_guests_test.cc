// Each guest is recorded and replayed at once: registers, devices and memory are compared at
// intervals, the outputs and the disks at the end. Then the recording side is cut off at a random
// moment, and the replaying one must go on as the VM.
#include <chrono>
#include <cstdlib>
#include <gtest/gtest.h>
#include <random>
#include <unistd.h>

#include "common/base/random.h"
#include "tests/replay/guest_options.h"

namespace antipode::replay {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

struct Case {
    const char* name;
    const char* guest;  // "linux", or an ELF file of build/*/guests
    const char* arguments;
    const char* progress;  // console text that shows that the guest works
    uint64_t kick_seed;
    uint64_t delta_every = 0;
    bool needs_deltas() const {
        return delta_every != 0 ||
               std::string(arguments).find("antipode.exit=0") != std::string::npos;
    }
};

void PrintTo(const Case& value, std::ostream* out) {
    *out << value.name;
}

PairOptions options_of(const Case& test) {
    PairOptions options = options_for(test.guest, test.arguments);
    options.kick_seed = test.kick_seed;
    options.delta_every = test.delta_every;
    return options;
}

class ReplayGuests : public testing::TestWithParam<Case> {
  protected:
    void SetUp() override {
        const std::string missing = guest_missing(GetParam().guest);
        if (!missing.empty()) GTEST_SKIP() << missing;
        auto made = ReplayPair::make(options_of(GetParam()));
        ASSERT_TRUE(made.has_value()) << made.error().to_string();
        pair_ = std::move(*made);
    }

    static bool has(const Side& side, const std::string& text) {
        return side.console.find(text) != std::string::npos;
    }
    // Until the recording guest has shown progress, and then for a random while.
    void run_primary() {
        Side& side = pair_->primary;
        ASSERT_TRUE(side.wait_until(
            [&] { return has(side, GetParam().progress) || side.stop_reason; }, seconds(60)));
        ASSERT_FALSE(side.stop_reason) << side.stop_text << "\n" << side.console;
        Random random(std::random_device{}());
        const auto extra = milliseconds(random.between(400, 1500));
        // Frames that nobody answers: received, counted, replayed.
        const std::vector<std::byte> broadcast(60, std::byte{0xff});
        const Instant until = MonotonicClock::now() + extra;
        while (MonotonicClock::now() < until && !side.stop_reason) {
            (void)pair_->primary_engine->frame_received(0, broadcast);
            (void)side.wait_until([&] { return side.stop_reason.has_value(); }, milliseconds(20));
        }
    }
    // Registers, devices and memory were compared at every 1000th exit at least.
    void expect_compared(ExitNumber from) {
        const uint64_t exits = pair_->primary_engine->exit_number().value() - from.value();
        EXPECT_GE(pair_->backup.digests_equal, exits / 1000);
    }
    // At an exit, all of the memory.
    void expect_equal_memory() {
        const auto compared = pair_->compare_at_an_exit();
        ASSERT_TRUE(compared.has_value()) << compared.error().to_string();
        EXPECT_EQ(*compared, "");
    }
    void expect_equal_replay() {
        EXPECT_EQ(pair_->pump_error, "");
        for (const auto& error : pair_->backup.digest_errors) ADD_FAILURE() << error;
        EXPECT_GT(pair_->backup.digests_equal, 0u);
        EXPECT_EQ(pair_->backup.console, pair_->primary.console);
        EXPECT_EQ(pair_->backup.frames, pair_->primary.frames);
        for (const auto& error : pair_->backup.disk_errors) ADD_FAILURE() << error;
    }

    std::unique_ptr<ReplayPair> pair_;
};

TEST_P(ReplayGuests, ReplaysAlikeAndGoesOnAsTheVm) {
    pair_->start();
    run_primary();
    pair_->cut_primary();
    ASSERT_TRUE(pair_->fail_over()) << pair_->backup.stop_text;
    expect_compared(ExitNumber());
    // The backup may have made outputs at exits that the log's end did not reach; never fewer.
    {
        const std::lock_guard lock(pair_->backup.mutex);
        ASSERT_GE(pair_->backup.console.size(), pair_->primary.console.size());
        pair_->backup.console.resize(pair_->primary.console.size());
        expect_equal_replay();
    }
    if (GetParam().needs_deltas()) {
        EXPECT_EQ(pair_->metrics_text().find("\nantipode_deltas_total 0\n"), std::string::npos)
            << pair_->metrics_text();
    }
    // The survivor works: it gets interrupts and exits go on.
    const std::vector<std::byte> broadcast(60, std::byte{0xff});
    const auto exits_before = pair_->backup_engine->exit_number();
    (void)pair_->backup_engine->frame_received(0, broadcast);
    EXPECT_TRUE(pair_->backup.wait_until(
        [&] {
            return pair_->backup_engine->exit_number() > exits_before ||
                   pair_->backup.stop_reason.has_value();
        },
        seconds(20)));
    EXPECT_FALSE(pair_->backup.stop_reason.has_value()) << pair_->backup.stop_text;
}

TEST_P(ReplayGuests, ANewBackupBeginsInTheMiddle) {
    pair_->start();
    run_primary();
    const auto seeded = pair_->seed_new_backup();
    ASSERT_TRUE(seeded.has_value()) << seeded.error().to_string();
    const ExitNumber seeded_at = pair_->primary.state->exit;
    run_primary();
    expect_equal_memory();
    expect_compared(seeded_at);
    pair_->cut_primary();
    ASSERT_TRUE(pair_->fail_over()) << pair_->backup.stop_text;
    const std::lock_guard lock(pair_->backup.mutex);
    ASSERT_GE(pair_->backup.console.size(), pair_->primary.console.size());
    pair_->backup.console.resize(pair_->primary.console.size());
    expect_equal_replay();
}

TEST_P(ReplayGuests, GoesOnFromSnapshotsInOtherVms) {
    constexpr int kSnapshots = 8;
    Random random(std::random_device{}());
    pair_->start();
    run_primary();
    for (int i = 0; i < kSnapshots; ++i) {
        const auto wait = milliseconds(random.between(1, 150));
        (void)pair_->primary.wait_until([&] { return pair_->primary.stop_reason.has_value(); },
                                        wait);
        const auto taken = pair_->snapshot_primary();
        ASSERT_TRUE(taken.has_value()) << taken.error().to_string();
        const auto moved = pair_->move_backup();
        ASSERT_TRUE(moved.has_value()) << moved.error().to_string();
    }
    run_primary();
    expect_equal_memory();
    pair_->cut_primary();
    ASSERT_TRUE(pair_->fail_over()) << pair_->backup.stop_text;
    expect_compared(ExitNumber());
    const std::lock_guard lock(pair_->backup.mutex);
    ASSERT_GE(pair_->backup.console.size(), pair_->primary.console.size());
    pair_->backup.console.resize(pair_->primary.console.size());
    expect_equal_replay();
}

// Every guest plain, kicked at random moments, with deltas that nothing needs, and both; each of
// the tests above takes snapshots or seeds of it besides. What differs is the subject of heal_test.
constexpr Case kCases[] = {
    {"counter", "counter", "antipode.hz=100", "ticks=", 0},
    {"counter_kicked", "counter", "antipode.hz=100", "ticks=", 7},
    {"counter_deltas", "counter", "antipode.hz=100", "ticks=", 0, 3},
    {"counter_kicked_deltas", "counter", "antipode.hz=100", "ticks=", 23, 5},
    {"compute", "compute", "antipode.every=100", "units=", 0},
    {"compute_kicked", "compute", "antipode.every=100", "units=", 11},
    // Its deltas are made for each kick, of all the pages that it walks over.
    {"compute_deltas", "compute", "antipode.every=20 antipode.pages=32", "units=", 0, 7},
    {"compute_kicked_deltas", "compute", "antipode.every=20 antipode.pages=32", "units=", 29, 7},
    {"compute_without_exits", "compute", "antipode.every=100 antipode.exit=0 antipode.pages=32",
     "units=", 0},
    {"compute_without_exits_kicked", "compute",
     "antipode.every=50 antipode.exit=0 antipode.pages=32", "units=", 31, 3},
    {"disk_writer", "disk_writer", "", "disk_writer:", 0},
    {"disk_writer_kicked", "disk_writer", "", "disk_writer:", 13},
    {"disk_writer_deltas", "disk_writer", "", "disk_writer:", 0, 11},
    {"disk_writer_kicked_deltas", "disk_writer", "", "disk_writer:", 37, 11},
    {"entropy", "entropy", "", "entropy: reads=", 0},
    {"entropy_kicked", "entropy", "", "entropy: reads=", 19},
    {"entropy_deltas", "entropy", "", "entropy: reads=", 0, 5},
    {"entropy_kicked_deltas", "entropy", "", "entropy: reads=", 41, 5},
    {"udp_echo", "udp_echo", "", "udp_echo:", 0},
    {"udp_echo_kicked", "udp_echo", "", "udp_echo:", 43},
    {"udp_echo_deltas", "udp_echo", "", "udp_echo:", 0, 3},
    {"udp_echo_kicked_deltas", "udp_echo", "", "udp_echo:", 47, 3},
    {"linux", "linux", "", "ready", 0},
    {"linux_kicked", "linux", "", "ready", 17},
    {"linux_deltas", "linux", "", "ready", 0, 50},
    {"linux_kicked_deltas", "linux", "", "ready", 53, 50},
};

INSTANTIATE_TEST_SUITE_P(All, ReplayGuests, testing::ValuesIn(kCases),
                         [](const auto& each) { return std::string(each.param.name); });

}  // namespace
}  // namespace antipode::replay
