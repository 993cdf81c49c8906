// Stretches by deltas begin and end at random exits of each guest. Afterwards memory, outputs and
// disks are the primary's; and wherever the log is cut, the backup has all whose marks it has, and
// goes on as the VM.
#include <chrono>
#include <gtest/gtest.h>
#include <random>

#include "common/base/random.h"
#include "tests/replay/guest_options.h"

namespace antipode::replay {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

struct Case {
    const char* name;
    const char* guest;
    const char* arguments;
    const char* progress;  // console text that shows that the guest works
    uint64_t kick_seed = 0;
    EngineOptions::Healing healing = EngineOptions::Healing::off;
};

void PrintTo(const Case& value, std::ostream* out) {
    *out << value.name;
}

class Stretch : public testing::TestWithParam<Case> {
  protected:
    void SetUp() override {
        const std::string missing = guest_missing(GetParam().guest);
        if (!missing.empty()) GTEST_SKIP() << missing;
        make_pair();
    }

    void make_pair() {
        PairOptions options = options_for(GetParam().guest, GetParam().arguments);
        options.kick_seed = GetParam().kick_seed;
        options.healing = GetParam().healing;
        auto made = ReplayPair::make(options);
        ASSERT_TRUE(made.has_value()) << made.error().to_string();
        pair_ = std::move(*made);
        pair_->start();
        Side& side = pair_->primary;
        ASSERT_TRUE(side.wait_until(
            [&] {
                return side.console.find(GetParam().progress) != std::string::npos ||
                       side.stop_reason;
            },
            seconds(60)));
        ASSERT_FALSE(side.stop_reason) << side.stop_text << "\n" << side.console;
    }

    bool heals() const { return GetParam().healing == EngineOptions::Healing::on; }
    bool stopped() const { return pair_->primary.stop_reason || pair_->backup.stop_reason; }
    std::string why() const {
        std::string text = "primary: " + pair_->primary.stop_text +
                           " backup: " + pair_->backup.stop_text + " pump: " + pair_->pump_error;
        for (const auto& error : pair_->backup.digest_errors) text += "\n" + error;
        return text;
    }
    StretchStatus status(const Engine& engine) const { return *engine.stretch_status(); }

    void want(std::optional<DeltasReason> reason) { pair_->primary_engine->want_deltas(reason); }
    bool wait_for_deltas(const Engine& engine, uint64_t more) {
        const uint64_t wanted = status(engine).deltas + more;
        return pair_->backup.wait_until(
                   [&] { return stopped() || status(engine).deltas >= wanted; }, seconds(20)) &&
               !stopped();
    }
    bool wait_for_lockstep() {
        return pair_->backup.wait_until(
                   [&] {
                       return stopped() || (!status(*pair_->primary_engine).now &&
                                            !status(*pair_->backup_engine).meant);
                   },
                   seconds(20)) &&
               !stopped();
    }
    // With frames that nobody answers: received, counted.
    void run(Duration duration) {
        const std::vector<std::byte> broadcast(60, std::byte{0xff});
        const Instant until = MonotonicClock::now() + duration;
        while (MonotonicClock::now() < until && !stopped()) {
            (void)pair_->primary_engine->frame_received(0, broadcast);
            (void)pair_->primary.wait_until([&] { return stopped(); }, milliseconds(7));
        }
    }
    // Begins and ends stretches at random moments.
    void flip(int times) {
        for (int i = 0; i < times && !stopped(); ++i) {
            const auto reason = static_cast<DeltasReason>(random_.between(1, 4));
            want(random_.chance(0.6) ? std::optional(reason) : std::nullopt);
            run(milliseconds(random_.between(1, 60)));
        }
    }

    void expect_equal_sides() {
        const auto compared = pair_->compare_at_an_exit();
        ASSERT_TRUE(compared.has_value()) << compared.error().to_string() << why();
        EXPECT_EQ(*compared, "");
        const auto idle = [&] { return pair_->primary_disk->idle() && pair_->backup_disk->idle(); };
        ASSERT_TRUE(pair_->backup.wait_until(idle, seconds(20)));
        EXPECT_TRUE(pair_->primary_disk->contents() == pair_->backup_disk->contents())
            << "the disks differ";
        const std::scoped_lock lock(pair_->primary.mutex, pair_->backup.mutex);
        for (const auto& error : pair_->backup.disk_errors) ADD_FAILURE() << error;
        if (heals()) return;  // what it was led over by a heal it has not made
        EXPECT_EQ(pair_->backup.console, pair_->primary.console);
        EXPECT_EQ(pair_->backup.frames, pair_->primary.frames);
        EXPECT_EQ(pair_->backup.output_numbers, pair_->primary.output_numbers);
        for (const auto& error : pair_->backup.digest_errors) ADD_FAILURE() << error;
        EXPECT_GT(pair_->backup.digests_equal, 0u);
    }
    void expect_survivor_works() {
        const std::vector<std::byte> broadcast(60, std::byte{0xff});
        const auto before = pair_->backup_engine->exit_number();
        const Instant until = MonotonicClock::now() + seconds(20);
        while (MonotonicClock::now() < until && !pair_->backup.stop_reason &&
               pair_->backup_engine->exit_number().value() < before.value() + 20) {
            (void)pair_->backup_engine->frame_received(0, broadcast);
            (void)pair_->backup.wait_until([&] { return pair_->backup.stop_reason.has_value(); },
                                           milliseconds(5));
        }
        EXPECT_FALSE(pair_->backup.stop_reason.has_value()) << pair_->backup.stop_text;
        EXPECT_GE(pair_->backup_engine->exit_number().value(), before.value() + 20);
        const std::lock_guard lock(pair_->backup.mutex);
        EXPECT_EQ(pair_->backup.console.find("EXIT-FAILURE"), std::string::npos)
            << pair_->backup.console;
    }
    // Of what the backup had when it went live: all whose marks it had been sent, and nothing that
    // the primary did not make.
    void expect_outputs_of_the_primary() {
        if (heals()) return;
        const std::scoped_lock lock(pair_->primary.mutex, pair_->backup.mutex);
        EXPECT_GE(pair_->backup.last_replayed.value(), pair_->outputs_sent);
        const std::string_view replayed =
            std::string_view(pair_->backup.console).substr(0, pair_->backup.console_replayed_bytes);
        const std::string_view made = pair_->primary.console;
        const size_t common = std::min(replayed.size(), made.size());
        EXPECT_EQ(replayed.substr(0, common), made.substr(0, common));
    }

    Random random_{std::random_device{}()};
    std::unique_ptr<ReplayPair> pair_;
};

TEST_P(Stretch, BeginsAndEndsAnywhereAndBothSidesAreEqual) {
    for (int round = 0; round < 3; ++round) {
        flip(15);
        ASSERT_FALSE(stopped()) << why();
        want(DeltasReason::heals);
        ASSERT_TRUE(wait_for_deltas(*pair_->backup_engine, 3)) << why();
        if (!heals()) want(std::nullopt);
        expect_equal_sides();
        pair_->primary_engine->resume();
    }
    want(std::nullopt);
    ASSERT_TRUE(wait_for_lockstep()) << why();
    EXPECT_EQ(pair_->pump_error, "");
}

TEST_P(Stretch, CutAtAnyEntryTheBackupGoesOn) {
    constexpr int kCuts = 5;
    for (int cut = 0; cut < kCuts; ++cut) {
        if (cut > 0) make_pair();
        flip(6);
        if (cut % 2 == 0) {
            want(DeltasReason::busy);
            ASSERT_TRUE(wait_for_deltas(*pair_->backup_engine, 2)) << why();
        }
        ASSERT_FALSE(stopped()) << why();
        pair_->hold_line(true);
        flip(cut % 2 == 0 ? 1 : 4);
        pair_->cut_primary_at(random_.unit());
        if (heals()) pair_->backup_engine->abandon_heal();
        ASSERT_TRUE(pair_->fail_over()) << why();
        expect_outputs_of_the_primary();
        EXPECT_FALSE(status(*pair_->backup_engine).now);
        expect_survivor_works();
        EXPECT_EQ(pair_->pump_error, "");
    }
}

TEST_P(Stretch, AnOperatorActsAndTakesSnapshotsInOne) {
    want(DeltasReason::backup_slow);
    ASSERT_TRUE(wait_for_deltas(*pair_->backup_engine, 1)) << why();
    for (int i = 0; i < 4; ++i) {
        const auto taken = pair_->snapshot_primary();
        ASSERT_TRUE(taken.has_value()) << taken.error().to_string() << why();
        run(milliseconds(random_.between(1, 40)));
    }
    ASSERT_TRUE(pair_->primary_engine->control(VmControl::Kind::pause));
    ASSERT_TRUE(pair_->backup.wait_until(
        [&] {
            return stopped() || (pair_->primary_engine->held() && pair_->backup_engine->held());
        },
        seconds(20)));
    ASSERT_FALSE(stopped()) << why();
    EXPECT_EQ(status(*pair_->backup_engine).meant, DeltasReason::backup_slow);
    ASSERT_TRUE(pair_->primary_engine->control(VmControl::Kind::resume));
    ASSERT_TRUE(wait_for_deltas(*pair_->backup_engine, 2)) << why();
    EXPECT_FALSE(pair_->backup_engine->held());
    ASSERT_TRUE(pair_->primary_engine->control(VmControl::Kind::reset));
    ASSERT_TRUE(wait_for_deltas(*pair_->backup_engine, 2)) << why();
    expect_equal_sides();
    pair_->primary_engine->resume();
    ASSERT_TRUE(pair_->primary_engine->control(VmControl::Kind::power_off));
    ASSERT_TRUE(pair_->backup.wait_until(
        [&] { return pair_->primary.stop_reason && pair_->backup.stop_reason; }, seconds(20)));
    EXPECT_EQ(pair_->backup.stop_reason, StopReason::powered_off) << why();
}

// The backup's copy is of its last delta, with all that this has written to its disk.
TEST_P(Stretch, ASnapshotOfTheBackupInOne) {
    want(DeltasReason::busy);
    ASSERT_TRUE(wait_for_deltas(*pair_->backup_engine, 2)) << why();
    for (int i = 0; i < 4; ++i) {
        {
            const std::lock_guard lock(pair_->backup.mutex);
            pair_->backup.state.reset();
        }
        const uint64_t number = pair_->backup_engine->request_snapshot();
        ASSERT_TRUE(pair_->backup.wait_until(
            [&] { return stopped() || pair_->backup.state != nullptr; }, seconds(20)));
        ASSERT_FALSE(stopped()) << why();
        EXPECT_EQ(pair_->backup.state->exit, pair_->backup_engine->exit_number());
        pair_->backup_engine->snapshot_taken(number);
        ASSERT_TRUE(wait_for_deltas(*pair_->backup_engine, 1)) << why();
    }
    expect_equal_sides();
}

constexpr Case kCases[] = {
    {"counter", "counter", "antipode.hz=100 antipode.every=10", "ticks="},
    {"counter_kicked", "counter", "antipode.hz=100 antipode.every=10", "ticks=", 7},
    {"compute", "compute", "antipode.every=20 antipode.pages=32", "units="},
    {"compute_kicked", "compute", "antipode.every=20 antipode.pages=32", "units=", 11},
    {"compute_without_exits", "compute", "antipode.every=50 antipode.exit=0 antipode.pages=32",
     "units="},
    {"disk_writer", "disk_writer", "", "disk_writer: round"},
    {"disk_writer_kicked", "disk_writer", "antipode.overlap=1", "disk_writer: round", 13},
    {"entropy", "entropy", "", "entropy: reads="},
    {"udp_echo", "udp_echo", "antipode.clock_hz=50", "udp_echo:"},
    {"linux", "linux", "", "ready"},
    // It differs again and again, and is put right: also in a stretch that has just begun.
    {"diverge", "diverge", "antipode.every=20 antipode.branch=1", "units=", 0,
     EngineOptions::Healing::on},
    {"diverge_shown", "diverge", "antipode.every=20 antipode.print=1", "units=", 0,
     EngineOptions::Healing::on},
};

INSTANTIATE_TEST_SUITE_P(All, Stretch, testing::ValuesIn(kCases),
                         [](const auto& each) { return std::string(each.param.name); });

// A guest that cannot be replayed is followed all the same, without a heal.
TEST(StretchOfAGuestThatDiverges, NeedsNoHeals) {
    const std::string missing = guest_missing("diverge");
    if (!missing.empty()) GTEST_SKIP() << missing;
    PairOptions options = options_for("diverge", "antipode.every=20 antipode.branch=1");
    options.healing = EngineOptions::Healing::on;
    auto made = ReplayPair::make(options);
    ASSERT_TRUE(made.has_value()) << made.error().to_string();
    ReplayPair& pair = **made;
    pair.start();
    const auto heals = [&] {
        const std::lock_guard lock(pair.backup.mutex);
        return pair.backup.heals.size();
    };
    const auto deltas = [&] { return pair.backup_engine->stretch_status()->deltas; };
    ASSERT_TRUE(pair.backup.wait_until([&] { return pair.backup.heals.size() >= 2; }, seconds(30)));
    pair.primary_engine->want_deltas(DeltasReason::heals);
    ASSERT_TRUE(pair.backup.wait_until([&] { return deltas() >= 3; }, seconds(30)))
        << pair.backup.stop_text;
    const size_t before = heals();
    const uint64_t seen = deltas();
    ASSERT_TRUE(pair.backup.wait_until([&] { return deltas() >= seen + 30; }, seconds(30)))
        << pair.backup.stop_text;
    EXPECT_EQ(heals(), before);
    pair.primary_engine->want_deltas(std::nullopt);
    ASSERT_TRUE(
        pair.backup.wait_until([&] { return pair.backup.heals.size() > before; }, seconds(30)))
        << "it executes again, and differs";
    EXPECT_EQ(pair.pump_error, "");
}

}  // namespace
}  // namespace antipode::replay
