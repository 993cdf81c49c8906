// The Output Rule: what leaves, when, and in which order.
#include "replicator/control/output_gate.h"

#include <gtest/gtest.h>

#include "common/base/random.h"

namespace antipode::control {
namespace {

using Mode = OutputGate::Mode;

HeldOutput output(uint64_t number, uint64_t needs, size_t bytes = 10) {
    HeldOutput made;
    made.number = OutputNumber(number);
    made.needs = LogIndex(needs);
    made.output.bytes.resize(bytes, static_cast<std::byte>(number));
    return made;
}

std::vector<uint64_t> numbers(const std::vector<HeldOutput>& outputs) {
    std::vector<uint64_t> all;
    for (const auto& each : outputs) all.push_back(each.number.value());
    return all;
}

class OutputGateTest : public testing::Test {
  protected:
    std::vector<uint64_t> take() { return numbers(gate_.take()); }

    OutputGate gate_;
};

using Numbers = std::vector<uint64_t>;

TEST_F(OutputGateTest, IsFrozenAtFirst) {
    EXPECT_EQ(gate_.mode(), Mode::frozen);
    gate_.hold(output(1, 0));
    gate_.acknowledge(LogIndex(100));
    EXPECT_EQ(take(), Numbers{});
    EXPECT_EQ(gate_.held_count(), 1u);
    EXPECT_EQ(gate_.held_bytes(), 10u);
}

TEST_F(OutputGateTest, GatedLetsOutWhatIsAcknowledged) {
    gate_.set_mode(Mode::gated);
    gate_.hold(output(1, 5));
    gate_.hold(output(2, 7));
    EXPECT_EQ(take(), Numbers{});
    gate_.acknowledge(LogIndex(4));
    EXPECT_EQ(take(), Numbers{});
    gate_.acknowledge(LogIndex(5));
    EXPECT_EQ(take(), Numbers{1});
    EXPECT_EQ(take(), Numbers{});
    EXPECT_EQ(gate_.released(), OutputNumber(1));
    gate_.acknowledge(LogIndex(9));
    EXPECT_EQ(take(), Numbers{2});
    EXPECT_EQ(gate_.held_bytes(), 0u);
}

TEST_F(OutputGateTest, WhatIsBehindAnEntryWaitsWhateverIsAcknowledged) {
    gate_.set_mode(Mode::gated);
    for (const uint64_t each : {1, 2, 3}) gate_.hold(output(each, 10 * each));
    gate_.hold_behind(LogIndex(20));
    gate_.acknowledge(LogIndex(100));
    EXPECT_EQ(take(), (Numbers{1, 2}));
    gate_.hold_behind(std::nullopt);
    EXPECT_EQ(take(), Numbers{3});
    gate_.hold(output(4, 40));
    gate_.hold_behind(LogIndex(20));
    EXPECT_EQ(take(), Numbers{});
    gate_.set_mode(Mode::open);
    EXPECT_EQ(take(), Numbers{4}) << "alone, nobody is waited for";
}

TEST_F(OutputGateTest, AnOlderAcknowledgementTakesNothingBack) {
    gate_.set_mode(Mode::gated);
    gate_.acknowledge(LogIndex(9));
    gate_.acknowledge(LogIndex(3));
    gate_.hold(output(1, 9));
    EXPECT_EQ(take(), Numbers{1});
}

TEST_F(OutputGateTest, OpenLetsOutEverythingInOrder) {
    gate_.set_mode(Mode::open);
    gate_.hold(output(1, 50));
    gate_.hold(output(2, 60));
    EXPECT_EQ(take(), (Numbers{1, 2}));
}

TEST_F(OutputGateTest, FreezingStopsWhatWasAcknowledged) {
    gate_.set_mode(Mode::gated);
    gate_.hold(output(1, 1));
    gate_.acknowledge(LogIndex(1));
    gate_.set_mode(Mode::frozen);
    EXPECT_EQ(take(), Numbers{});
    gate_.set_mode(Mode::gated);
    EXPECT_EQ(take(), Numbers{1});
}

TEST_F(OutputGateTest, ForgettingTheLogForgetsItsAcknowledgements) {
    gate_.set_mode(Mode::gated);
    gate_.acknowledge(LogIndex(100));
    gate_.hold(output(1, 200));
    gate_.forget_log();
    EXPECT_EQ(take(), Numbers{1});  // depends on nothing any more
    gate_.hold(output(2, 50));
    EXPECT_EQ(take(), Numbers{});  // 100 was of the old stream
    gate_.acknowledge(LogIndex(50));
    EXPECT_EQ(take(), Numbers{2});
}

TEST_F(OutputGateTest, ABackupKeepsWhatThePrimaryHasNotReleased) {
    for (uint64_t number = 1; number <= 5; ++number) gate_.hold(output(number, 0));
    EXPECT_EQ(numbers(gate_.released_elsewhere(OutputNumber(2))), (Numbers{1, 2}));
    EXPECT_EQ(gate_.held_count(), 3u);
    EXPECT_EQ(gate_.held_bytes(), 30u);
    EXPECT_TRUE(gate_.released_elsewhere(OutputNumber(1)).empty());  // an old batch
    EXPECT_EQ(gate_.released(), OutputNumber(2));
    gate_.set_mode(Mode::open);  // it goes live
    EXPECT_EQ(take(), (Numbers{3, 4, 5}));
}

TEST_F(OutputGateTest, ABackupThatIsBehindThePrimarysReleases) {
    EXPECT_TRUE(gate_.released_elsewhere(OutputNumber(3)).empty());
    for (uint64_t number = 1; number <= 4; ++number) gate_.hold(output(number, 0));
    EXPECT_EQ(gate_.held_count(), 1u);
    gate_.set_mode(Mode::open);
    EXPECT_EQ(take(), Numbers{4});
}

TEST_F(OutputGateTest, BeginningInTheMiddle) {
    gate_.set_mode(Mode::open);
    gate_.hold(output(1, 1));
    gate_.begin_after(OutputNumber(40));
    EXPECT_EQ(gate_.mode(), Mode::frozen);
    EXPECT_EQ(gate_.held_count(), 0u);
    EXPECT_EQ(gate_.held_bytes(), 0u);
    gate_.hold(output(40, 0));
    gate_.hold(output(41, 0));
    gate_.set_mode(Mode::open);
    EXPECT_EQ(take(), Numbers{41});
}

TEST_F(OutputGateTest, OutputsComeInOrder) {
    gate_.hold(output(5, 1));
    EXPECT_DEATH(gate_.hold(output(5, 2)), "output 5 after 5");
    EXPECT_DEATH(gate_.hold(output(4, 2)), "output 4 after 5");
}

// Any order of events: nothing leaves while frozen, nothing gated leaves unacknowledged, and what
// leaves leaves once, in order, without a gap.
TEST(OutputGatePropertyTest, TheRuleHoldsUnderAnyOrderOfEvents) {
    for (uint64_t seed = 1; seed <= 200; ++seed) {
        Random random(seed);
        OutputGate gate;
        uint64_t made = 0;
        uint64_t index = 0;
        uint64_t acknowledged = 0;
        uint64_t left = 0;
        std::vector<uint64_t> needs{0};
        uint64_t bytes = 0;
        for (int step = 0; step < 500; ++step) {
            switch (random.below(5)) {
                case 0:
                case 1: {
                    index += random.between(1, 4);
                    needs.push_back(index);
                    const size_t size = random.below(20);
                    gate.hold(output(++made, index, size));
                    bytes += size;
                    break;
                }
                case 2:
                    acknowledged = std::max(acknowledged, random.below(index + 1));
                    gate.acknowledge(LogIndex(acknowledged));
                    break;
                case 3:
                    gate.set_mode(static_cast<Mode>(random.below(3)));
                    break;
                default:
                    break;
            }
            for (const auto& each : gate.take()) {
                ASSERT_NE(gate.mode(), Mode::frozen);
                ASSERT_EQ(each.number.value(), left + 1);
                left = each.number.value();
                bytes -= each.output.bytes.size();
                if (gate.mode() == Mode::gated) {
                    ASSERT_LE(needs[left], acknowledged);
                }
            }
            ASSERT_EQ(gate.released().value(), left);
            ASSERT_EQ(gate.held_count(), made - left);
            ASSERT_EQ(gate.held_bytes(), bytes);
            // Nothing stays behind that could have left.
            if (gate.mode() == Mode::open) {
                ASSERT_EQ(left, made);
            }
            if (gate.mode() == Mode::gated && left < made) {
                ASSERT_GT(needs[left + 1], acknowledged);
            }
        }
    }
}

// Two gates, as at the two sites: whenever the primary dies, what it has released and what the
// backup would send make all outputs, each at least once.
TEST(OutputGatePropertyTest, NoOutputIsLostWhenThePrimaryDies) {
    for (uint64_t seed = 1; seed <= 300; ++seed) {
        Random random(seed);
        OutputGate primary;
        OutputGate backup;
        primary.set_mode(Mode::gated);
        uint64_t recorded = 0;       // entries; each third is an output
        uint64_t sent = 0;           // entries that have left the primary
        uint64_t replayed = 0;       // entries the backup has applied
        uint64_t announced = 0;      // released(), as of the last batch
        std::vector<uint64_t> seen;  // by the world
        const auto release = [&] {
            for (const auto& each : primary.take()) {
                ASSERT_LE(each.number.value() * 3, sent);  // the backup has its entry
                seen.push_back(each.number.value());
            }
        };
        for (uint64_t step = random.below(400); step > 0; --step) {
            switch (random.below(4)) {
                case 0:
                    if (++recorded % 3 == 0) primary.hold(output(recorded / 3, recorded));
                    break;
                case 1:
                    sent = random.between(sent, recorded);
                    announced = primary.released().value();
                    break;
                case 2:
                    for (; replayed < sent && random.chance(0.7); ++replayed) {
                        const uint64_t next = replayed + 1;
                        if (next % 3 == 0) backup.hold(output(next / 3, 0));
                    }
                    (void)backup.released_elsewhere(OutputNumber(announced));
                    break;
                default:
                    primary.acknowledge(LogIndex(sent));  // received, not yet replayed
                    release();
                    break;
            }
        }
        // The primary is gone. The backup consumes its log to the end and goes live.
        for (; replayed < sent; ++replayed) {
            const uint64_t next = replayed + 1;
            if (next % 3 == 0) backup.hold(output(next / 3, 0));
        }
        backup.set_mode(Mode::open);
        for (const auto& each : backup.take()) seen.push_back(each.number.value());
        std::sort(seen.begin(), seen.end());
        seen.erase(std::unique(seen.begin(), seen.end()), seen.end());
        ASSERT_EQ(seen.size(), sent / 3) << seed;
    }
}

}  // namespace
}  // namespace antipode::control
