// Guests with one and two vCPUs, protected by checkpoints: the backup is the primary as it was at a
// checkpoint, to the byte; it goes on from there as the VM; and nothing is let out, or written to a
// disk, that it does not have.
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <random>

#include "common/base/random.h"
#include "tests/replay/checkpoint_pair.h"
#include "tests/replay/guest_options.h"

namespace antipode::checkpoint {
namespace {

using replay::Side;
using std::chrono::milliseconds;
using std::chrono::seconds;

struct Case {
    const char* name;
    const char* guest;  // "linux", or an ELF file of build/*/guests
    uint32_t vcpu_count;
    const char* arguments;
    const char* progress;  // console text that shows that the guest works
    const char* counted;   // what its lines count, "" if nothing
    uint64_t step;         // from line to line; 0: it grows
};

void PrintTo(const Case& value, std::ostream* out) {
    *out << value.name;
}

CheckpointPairOptions options_of(const Case& test) {
    CheckpointPairOptions options;
    options.engine.interval.longest = milliseconds(50);
    options.config = replay::options_for(test.guest, test.arguments).config;
    options.config.mode = vmm::ProtectionMode::checkpoint;
    options.config.vcpu_count = test.vcpu_count;
    if (std::string(test.guest) == "tsc") options.config.tsc = vmm::TscPolicy::live;
    return options;
}

// What all vCPUs of this process have run for.
Duration vcpu_time() {
    Duration total{};
    for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
        std::string name;
        std::ifstream(task.path() / "comm") >> name;
        if (name.rfind("vcpu", 0) != 0) continue;
        int64_t ran_ns = 0;
        std::ifstream(task.path() / "schedstat") >> ran_ns;
        total += Duration(ran_ns);
    }
    return total;
}

class Checkpoints : public testing::TestWithParam<Case> {
  protected:
    void SetUp() override {
        const std::string missing = replay::guest_missing(GetParam().guest);
        if (!missing.empty()) GTEST_SKIP() << missing;
        auto made = CheckpointPair::make(options_of(GetParam()));
        ASSERT_TRUE(made.has_value()) << made.error().to_string();
        pair_ = std::move(*made);
    }

    static bool has(const Side& side, const std::string& text) {
        return side.console.find(text) != std::string::npos;
    }
    // Until the guest has shown progress, and then for a random while, with frames that nobody
    // answers.
    void run_primary() {
        Side& side = pair_->primary;
        ASSERT_TRUE(side.wait_until(
            [&] { return has(side, GetParam().progress) || side.stop_reason; }, seconds(60)))
            << side.console;
        ASSERT_FALSE(side.stop_reason) << side.stop_text << "\n" << side.console;
        Random random(std::random_device{}());
        const std::vector<std::byte> broadcast(60, std::byte{0xff});
        const Instant until = MonotonicClock::now() + milliseconds(random.between(300, 1000));
        while (MonotonicClock::now() < until && !side.stop_reason) {
            (void)pair_->primary_engine->frame_received(0, broadcast);
            (void)side.wait_until([&] { return side.stop_reason.has_value(); }, milliseconds(20));
        }
        ASSERT_FALSE(side.stop_reason) << side.stop_text << "\n" << side.console;
    }

    // What the backup shows is what the primary made, up to a checkpoint, and all that was let out.
    void expect_a_prefix() {
        EXPECT_EQ(pair_->pump_error, "");
        const std::lock_guard lock(pair_->backup.mutex);
        const std::lock_guard other(pair_->primary.mutex);
        const auto& made = pair_->primary.console;
        const auto seen = pair_->backup.console.substr(0, pair_->backup.console_replayed_bytes);
        ASSERT_LE(seen.size(), made.size());
        EXPECT_EQ(seen, made.substr(0, seen.size()));
        EXPECT_GE(pair_->backup.last_replayed.value(), pair_->released.load());
    }

    // Every line that counts goes on from the one before.
    static void expect_counts_go_on(const std::string& console) {
        EXPECT_EQ(console.find("EXIT-FAILURE"), std::string::npos) << console;
        const std::string key = GetParam().counted;
        if (key.empty()) return;
        uint64_t last = 0;
        size_t count = 0;
        for (size_t at = console.find(key); at != std::string::npos;
             at = console.find(key, at + 1)) {
            if (console.find('\n', at) == std::string::npos) break;
            const uint64_t value = std::strtoull(console.c_str() + at + key.size(), nullptr, 10);
            if (GetParam().step != 0 && count > 0) {
                ASSERT_EQ(value, last + GetParam().step) << console;
            }
            ASSERT_GT(value, last) << console;
            last = value;
            ++count;
        }
        EXPECT_GT(count, 1u) << console;
    }

    void expect_backup_goes_on() { expect_goes_on(pair_->backup, *pair_->backup_engine); }
    static void expect_goes_on(Side& side, CheckpointEngine& engine) {
        size_t before = 0;
        {
            const std::lock_guard lock(side.mutex);
            before = side.console.size();
        }
        // Some lines more; Linux says nothing by itself, but serves its devices.
        const std::vector<std::byte> broadcast(60, std::byte{0xff});
        if (GetParam().counted[0] != '\0') {
            EXPECT_TRUE(side.wait_until(
                [&] { return side.console.size() > before + 200 || side.stop_reason; },
                seconds(30)));
        }
        EXPECT_TRUE(engine.frame_received(0, broadcast));
        const std::lock_guard lock(side.mutex);
        EXPECT_FALSE(side.stop_reason) << side.stop_text << "\n" << side.console;
        expect_counts_go_on(side.console);
    }

    // While both stand.
    uint64_t differing_pages() const {
        const auto& own = pair_->primary_engine->vm().memory;
        const auto& other = pair_->backup_engine->vm().memory;
        uint64_t count = 0;
        for (uint64_t page = 0; page < own.page_count(); ++page) {
            if (!std::ranges::equal(own.page(page), other.page(page))) ++count;
        }
        return count;
    }

    void expect_disks_become_equal() {
        EXPECT_TRUE(pair_->primary.wait_until(
            [&] { return pair_->primary_disk->contents() == pair_->backup_disk->contents(); },
            seconds(20)));
    }

    // The end of many tests: the primary is lost, and nothing that it had let out is missing.
    void expect_the_backup_takes_over(CheckpointPair::Cut cut) {
        ASSERT_TRUE(pair_->cut_primary(cut));
        ASSERT_TRUE(pair_->fail_over()) << pair_->backup.stop_text;
        expect_a_prefix();
        expect_backup_goes_on();
    }

    std::unique_ptr<CheckpointPair> pair_;
};

TEST_P(Checkpoints, TheBackupGoesOnFromTheLastOne) {
    pair_->start();
    run_primary();
    expect_the_backup_takes_over(CheckpointPair::Cut::at_the_end);
}

TEST_P(Checkpoints, HalfACheckpointIsNone) {
    pair_->start();
    run_primary();
    expect_the_backup_takes_over(CheckpointPair::Cut::in_a_checkpoint);
}

TEST_P(Checkpoints, TheBackupIsEqualToTheByte) {
    pair_->start();
    run_primary();
    ASSERT_TRUE(pair_->stand_still());
    expect_disks_become_equal();
    auto& own = pair_->primary_engine->vm();
    auto& other = pair_->backup_engine->vm();
    EXPECT_EQ(differing_pages(), 0u);
    EXPECT_EQ(vmm::saved(*own.machine), vmm::saved(*other.machine));
    EXPECT_EQ(pair_->primary_engine->exit_number(), pair_->backup_engine->exit_number());
    // And both go on.
    ASSERT_TRUE(pair_->primary_engine->control(replay::VmControl::Kind::resume));
    run_primary();
    expect_the_backup_takes_over(CheckpointPair::Cut::at_the_end);
}

// What does not fit into the copy is logged while the guest stands.
TEST_P(Checkpoints, ASmallCopyIsNoSmallerCheckpoint) {
    auto options = options_of(GetParam());
    constexpr uint64_t kPages = 3;
    options.engine.copy_bytes_max = kPages * vmm::layout::kPageBytes;
    auto made = CheckpointPair::make(options);
    ASSERT_TRUE(made.has_value()) << made.error().to_string();
    pair_ = std::move(*made);
    pair_->start();
    run_primary();
    ASSERT_TRUE(pair_->stand_still());
    EXPECT_EQ(differing_pages(), 0u);
    ASSERT_TRUE(pair_->primary_engine->control(replay::VmControl::Kind::resume));
    run_primary();
    expect_the_backup_takes_over(CheckpointPair::Cut::at_the_end);
}

TEST_P(Checkpoints, ASlowedGuestIsProtectedAllTheSame) {
    pair_->start();
    run_primary();
    pair_->primary_engine->set_run_share(0.1);
    run_primary();
    ASSERT_TRUE(pair_->stand_still());
    EXPECT_EQ(differing_pages(), 0u);
    ASSERT_TRUE(pair_->primary_engine->control(replay::VmControl::Kind::resume));
    pair_->primary_engine->set_run_share(1);
    run_primary();
    expect_the_backup_takes_over(CheckpointPair::Cut::at_the_end);
}

// However long it takes: a machine that is slow takes longer, and runs it no more.
TEST(RunShare, IsThatPartOfTheTime) {
    const std::string missing = replay::guest_missing("compute");
    if (!missing.empty()) GTEST_SKIP() << missing;
    auto made =
        CheckpointPair::make(options_of({"compute", "compute", 1, "antipode.every=5", "", "", 0}));
    ASSERT_TRUE(made.has_value()) << made.error().to_string();
    CheckpointPair& pair = **made;
    constexpr double kShare = 0.2;
    pair.primary_engine->set_run_share(kShare);
    pair.start();
    const auto lines = [&] { return std::ranges::count(pair.primary.console, '\n'); };
    ASSERT_TRUE(pair.primary.wait_until([&] { return lines() >= 3; }, seconds(60)));
    const Duration ran_before = vcpu_time();
    const Instant began = MonotonicClock::now();
    ASSERT_TRUE(pair.primary.wait_until(
        [&] { return vcpu_time() - ran_before >= milliseconds(100); }, seconds(60)));
    const Duration ran = vcpu_time() - ran_before;
    const Duration took = MonotonicClock::now() - began;
    // Beside its turns: what it is over the last one, and this look at it.
    EXPECT_LT(ran, took * 2 / 5);
}

TEST_P(Checkpoints, NeitherDiskIsAheadOfWhatIsAcknowledged) {
    pair_->start();
    run_primary();
    // A long line: what is on its way does not count as a queue.
    pair_->primary_engine->set_round_trip(seconds(60));
    pair_->hold_line(true);
    // The primary goes on until it may take no more checkpoints.
    const auto full = [&] {
        const auto status = pair_->primary_engine->checkpoint_status();
        return status->taken >= status->acknowledged + CheckpointOptions{}.in_flight_max;
    };
    ASSERT_TRUE(pair_->primary.wait_until(full, seconds(20)));
    const uint64_t released = pair_->released;
    expect_disks_become_equal();
    EXPECT_EQ(pair_->released, released);
    EXPECT_TRUE(full());
    pair_->hold_line(false);
    EXPECT_TRUE(pair_->primary.wait_until([&] { return !full(); }, seconds(20)));
    run_primary();
    ASSERT_TRUE(pair_->stand_still());
    expect_disks_become_equal();
}

TEST_P(Checkpoints, ALineThatTakesNoMoreIsNotGivenMore) {
    pair_->start();
    run_primary();
    ASSERT_TRUE(pair_->stand_still());
    pair_->hold_line(true);
    ASSERT_TRUE(pair_->primary_engine->control(replay::VmControl::Kind::resume));
    const auto status = [&] { return *pair_->primary_engine->checkpoint_status(); };
    const Duration waits = options_of(GetParam()).engine.interval.longest * 4;
    ASSERT_TRUE(
        pair_->primary.wait_until([&] { return status().oldest_age > waits; }, seconds(20)));
    const uint64_t taken = status().taken;
    ASSERT_TRUE(
        pair_->primary.wait_until([&] { return status().oldest_age > waits * 2; }, seconds(20)));
    EXPECT_EQ(status().taken, taken);
    pair_->hold_line(false);
    EXPECT_TRUE(pair_->primary.wait_until([&] { return status().taken > taken; }, seconds(20)));
    ASSERT_TRUE(pair_->stand_still());
    EXPECT_EQ(differing_pages(), 0u);
}

TEST_P(Checkpoints, ANewBackupBeginsInTheMiddle) {
    pair_->start();
    run_primary();
    const auto seeded = pair_->seed_new_backup();
    ASSERT_TRUE(seeded.has_value()) << seeded.error().to_string();
    run_primary();
    expect_the_backup_takes_over(CheckpointPair::Cut::at_the_end);
}

// At any moment, in the middle of an access as well.
TEST_P(Checkpoints, KicksChangeNothing) {
    pair_->start();
    std::atomic<bool> over{false};
    std::thread kicker([&] {
        Random random(std::random_device{}());
        const auto vcpus = pair_->primary_engine->vm().vcpus();
        while (!over) {
            vcpus[random.below(vcpus.size())]->kick();
            std::this_thread::sleep_for(std::chrono::microseconds(random.between(20, 2000)));
        }
    });
    const auto protect = [&] {
        run_primary();
        ASSERT_TRUE(pair_->stand_still());
        EXPECT_EQ(differing_pages(), 0u);
        ASSERT_TRUE(pair_->primary_engine->control(replay::VmControl::Kind::resume));
        run_primary();
        const auto copied = pair_->start_copy(CheckpointPair::Of::primary);
        ASSERT_TRUE(copied.has_value()) << copied.error().to_string();
        expect_goes_on(pair_->copy, *pair_->copy_engine);
    };
    protect();
    over = true;
    kicker.join();
    ASSERT_FALSE(HasFatalFailure());
    expect_the_backup_takes_over(CheckpointPair::Cut::in_a_checkpoint);
}

// And whoever is copied does not notice.
TEST_P(Checkpoints, ACopyOfEitherSiteGoesOnByItself) {
    using Of = CheckpointPair::Of;
    pair_->start();
    for (const Of of : {Of::primary, Of::backup, Of::primary, Of::backup}) {
        run_primary();
        const auto copied = pair_->start_copy(of);
        ASSERT_TRUE(copied.has_value()) << copied.error().to_string();
        expect_goes_on(pair_->copy, *pair_->copy_engine);
    }
    ASSERT_TRUE(pair_->stand_still());
    EXPECT_EQ(differing_pages(), 0u);
    expect_disks_become_equal();
    ASSERT_TRUE(pair_->primary_engine->control(replay::VmControl::Kind::resume));
    run_primary();
    expect_the_backup_takes_over(CheckpointPair::Cut::at_the_end);
}

// Of a VM that nobody protects, twice.
TEST_P(Checkpoints, AVmThatIsAloneIsCopiedToo) {
    pair_->start();
    run_primary();
    ASSERT_TRUE(pair_->cut_primary(CheckpointPair::Cut::at_the_end));
    ASSERT_TRUE(pair_->fail_over()) << pair_->backup.stop_text;
    for (int round = 0; round < 2; ++round) {
        const auto copied = pair_->start_copy(CheckpointPair::Of::backup);
        ASSERT_TRUE(copied.has_value()) << copied.error().to_string();
        expect_goes_on(pair_->copy, *pair_->copy_engine);
        expect_backup_goes_on();
    }
}

TEST_P(Checkpoints, AResetBootsAgainAtBothSites) {
    if (replay::is_linux(GetParam().guest)) GTEST_SKIP() << "boots for too long";
    auto options = options_of(GetParam());
    options.engine.reset = CheckpointOptions::Reset::reboots;
    auto made = CheckpointPair::make(options);
    ASSERT_TRUE(made.has_value()) << made.error().to_string();
    pair_ = std::move(*made);
    pair_->start();
    run_primary();
    size_t before = 0;
    {
        const std::lock_guard lock(pair_->primary.mutex);
        before = pair_->primary.console.size();
    }
    ASSERT_TRUE(pair_->primary_engine->control(replay::VmControl::Kind::reset));
    const auto boots_again = [&] {
        return pair_->backup.console.find(": ready", before) != std::string::npos ||
               pair_->backup.stop_reason;
    };
    ASSERT_TRUE(pair_->backup.wait_until(boots_again, seconds(60))) << pair_->backup.console;
    ASSERT_FALSE(pair_->backup.stop_reason) << pair_->backup.stop_text;
    ASSERT_TRUE(pair_->stand_still());
    expect_disks_become_equal();
}

// HLT with interrupts off: in the kernel's hands nobody would notice.
TEST(EndOfTheGuest, IsTheEndAtBothSites) {
    const std::string missing = replay::guest_missing("counter");
    if (!missing.empty()) GTEST_SKIP() << missing;
    auto made = CheckpointPair::make(options_of(
        {"counter", "counter", 1, "antipode.hz=100 antipode.count=50 antipode.halt=1", "", "", 0}));
    ASSERT_TRUE(made.has_value()) << made.error().to_string();
    CheckpointPair& pair = **made;
    pair.start();
    ASSERT_TRUE(
        pair.primary.wait_until([&] { return pair.primary.stop_reason.has_value(); }, seconds(60)));
    EXPECT_EQ(*pair.primary.stop_reason, replay::StopReason::guest_halted);
    ASSERT_TRUE(
        pair.backup.wait_until([&] { return pair.backup.stop_reason.has_value(); }, seconds(60)));
    EXPECT_EQ(*pair.backup.stop_reason, replay::StopReason::powered_off) << pair.backup.stop_text;
    EXPECT_NE(pair.primary.console.find("EXIT-SUCCESS"), std::string::npos);
    EXPECT_EQ(pair.backup.console, pair.primary.console);
}

// What a failover adds to the counter is what it adds to the clock that is read by exits.
TEST(LiveTsc, GoesOnWithTheClock) {
    const std::string missing = replay::guest_missing("tsc");
    if (!missing.empty()) GTEST_SKIP() << missing;
    auto made = CheckpointPair::make(options_of({"tsc", "tsc", 1, "antipode.every=5", "", "", 0}));
    ASSERT_TRUE(made.has_value()) << made.error().to_string();
    CheckpointPair& pair = **made;
    const uint32_t khz = pair.primary_engine->vm().tsc->khz;
    pair.start();
    const auto has_line = [](const Side& side, const char* text) {
        const size_t at = side.console.find(text);
        return at != std::string::npos && side.console.find('\n', at) != std::string::npos;
    };
    ASSERT_TRUE(
        pair.primary.wait_until([&] { return has_line(pair.primary, "line=8 "); }, seconds(60)));
    ASSERT_TRUE(pair.cut_primary(CheckpointPair::Cut::at_the_end));
    ASSERT_TRUE(pair.fail_over()) << pair.backup.stop_text;
    ASSERT_TRUE(
        pair.backup.wait_until([&] { return has_line(pair.backup, "line=20 "); }, seconds(60)));
    const auto value = [&](const char* line, const char* key) {
        const std::lock_guard lock(pair.backup.mutex);
        const size_t at = pair.backup.console.find(key, pair.backup.console.find(line));
        return std::strtoull(pair.backup.console.c_str() + at + std::strlen(key), nullptr, 10);
    };
    const auto ticks = value("line=20 ", " tsc=") - value("line=2 ", " tsc=");
    const auto clock_ms = value("line=20 ", "clock_ms=") - value("line=2 ", "clock_ms=");
    EXPECT_GT(clock_ms, 500u);
    EXPECT_NEAR(static_cast<double>(ticks) / khz, static_cast<double>(clock_ms), 200)
        << pair.backup.console;
}

constexpr Case kCases[] = {
    {"counter", "counter", 1, "antipode.hz=100 antipode.every=5", "counter: ticks=", "ticks=", 0},
    {"disk", "disk_writer", 1, "antipode.blocks=16", "disk_writer: round=3 ",
     "disk_writer: round=", 1},
    {"disk_overlap", "disk_writer", 1, "antipode.blocks=16 antipode.overlap=1",
     "disk_writer: round=3 ", "disk_writer: round=", 1},
    {"compute", "compute", 1, "antipode.every=50", "compute: units=", "units=", 0},
    {"two_vcpus", "smp_counter", 2, "antipode.every=5", "smp_counter: line=3 ", "line=", 1},
    {"tsc", "tsc", 1, "antipode.every=5", "tsc: line=3 ", "line=", 1},
    {"tsc_of_two", "tsc", 2, "antipode.every=5 antipode.smp=1", "tsc: line=3 ", "line=", 1},
    {"linux", "linux", 1, "", "antipode-guest: ready", "", 0},
};
INSTANTIATE_TEST_SUITE_P(Guests, Checkpoints, testing::ValuesIn(kCases),
                         [](const auto& each) { return std::string(each.param.name); });

}  // namespace
}  // namespace antipode::checkpoint
