// The interval timer (Intel 8254 data sheet, order 231164): what is programmed, and what is read.
#include "replicator/vmm/devices/pit/i8254.h"

#include <gtest/gtest.h>

#include "tests/unit/vmm/fixed_inputs.h"
#include "tests/unit/vmm/saved_state.h"

namespace antipode::vmm {
namespace {

constexpr uint16_t kCommand = 0x43;

class I8254Test : public testing::Test {
  protected:
    void program(uint8_t command, uint16_t count, uint16_t port = 0x40) {
        pit_.write(kCommand, command);
        pit_.write(port, static_cast<uint8_t>(count));
        pit_.write(port, static_cast<uint8_t>(count >> 8));
    }
    uint16_t read_two(uint16_t port = 0x40) {
        const unsigned low = pit_.read(port, inputs_);
        return static_cast<uint16_t>(low | static_cast<unsigned>(pit_.read(port, inputs_)) << 8);
    }

    I8254 pit_;
    FixedInputs inputs_;
};

TEST_F(I8254Test, IsAtRestAtFirst) {
    EXPECT_EQ(pit_.schedule().repeat, I8254::Repeat::none);
    EXPECT_FALSE(pit_.tick());
    EXPECT_EQ(read_two(), 0);
    EXPECT_TRUE(inputs_.reads.empty());
}

TEST_F(I8254Test, ModeTwoIsPeriodic) {
    program(0x34, 11932);
    const auto schedule = pit_.schedule();
    EXPECT_EQ(schedule.repeat, I8254::Repeat::periodic);
    EXPECT_EQ(schedule.period_ticks, 11932u);
    EXPECT_TRUE(pit_.tick());
    EXPECT_TRUE(pit_.tick());
    EXPECT_EQ(pit_.schedule().generation, schedule.generation);
}

TEST_F(I8254Test, ModeThreeIsPeriodic) {
    program(0x36, 4772);
    EXPECT_EQ(pit_.schedule().repeat, I8254::Repeat::periodic);
    EXPECT_EQ(pit_.schedule().period_ticks, 4772u);
}

TEST_F(I8254Test, ModesSixAndSevenAreTwoAndThree) {
    for (const uint8_t mode : std::initializer_list<uint8_t>{6, 7}) {
        program(static_cast<uint8_t>(0x30 | mode << 1), 1000);
        EXPECT_EQ(pit_.schedule().repeat, I8254::Repeat::periodic) << int{mode};
    }
}

TEST_F(I8254Test, ModeZeroTicksOnce) {
    program(0x30, 5000);
    const auto schedule = pit_.schedule();
    EXPECT_EQ(schedule.repeat, I8254::Repeat::once);
    EXPECT_EQ(schedule.period_ticks, 5000u);
    EXPECT_TRUE(pit_.tick());
    EXPECT_FALSE(pit_.tick());
    EXPECT_EQ(pit_.schedule().repeat, I8254::Repeat::none);
    pit_.write(0x40, 0x10);  // a new count starts it again, without a command
    EXPECT_EQ(pit_.schedule().repeat, I8254::Repeat::none);
    pit_.write(0x40, 0x00);
    EXPECT_EQ(pit_.schedule().repeat, I8254::Repeat::once);
    EXPECT_EQ(pit_.schedule().period_ticks, 0x10u);
    EXPECT_NE(pit_.schedule().generation, schedule.generation);
}

TEST_F(I8254Test, ACountOfZeroIs65536) {
    program(0x34, 0);
    EXPECT_EQ(pit_.schedule().period_ticks, 65536u);
    inputs_.values[InputKind::pit_counter] = 0;
    EXPECT_EQ(read_two(), 0);  // 65536 shows as 0
    inputs_.values[InputKind::pit_counter] = 1;
    EXPECT_EQ(read_two(), 0xffff);
}

TEST_F(I8254Test, LowByteOnly) {
    pit_.write(kCommand, 0x14);
    pit_.write(0x40, 200);
    EXPECT_EQ(pit_.schedule().period_ticks, 200u);
    inputs_.values[InputKind::pit_counter] = 50;
    EXPECT_EQ(pit_.read(0x40, inputs_), 150);
    inputs_.values[InputKind::pit_counter] = 51;
    EXPECT_EQ(pit_.read(0x40, inputs_), 149);
}

TEST_F(I8254Test, HighByteOnly) {
    pit_.write(kCommand, 0x24);
    pit_.write(0x40, 0x12);
    EXPECT_EQ(pit_.schedule().period_ticks, 0x1200u);
    inputs_.values[InputKind::pit_counter] = 0x100;
    EXPECT_EQ(pit_.read(0x40, inputs_), 0x11);
}

TEST_F(I8254Test, OneByteOfTwoStartsNothing) {
    pit_.write(kCommand, 0x34);
    pit_.write(0x40, 0x34);
    EXPECT_EQ(pit_.schedule().repeat, I8254::Repeat::none);
    pit_.write(0x40, 0x12);
    EXPECT_EQ(pit_.schedule().period_ticks, 0x1234u);
}

TEST_F(I8254Test, ACommandForgetsTheFirstByte) {
    pit_.write(kCommand, 0x34);
    pit_.write(0x40, 0xff);
    program(0x34, 0x1234);
    EXPECT_EQ(pit_.schedule().period_ticks, 0x1234u);
}

TEST_F(I8254Test, BothBytesOfACountAreFromOneReading) {
    program(0x34, 0x1000);
    inputs_.values[InputKind::pit_counter] = 1;
    pit_.write(kCommand, 0x00);  // latch channel 0
    EXPECT_EQ(pit_.read(0x40, inputs_), 0xff);
    inputs_.values[InputKind::pit_counter] = 0x800;
    EXPECT_EQ(pit_.read(0x40, inputs_), 0x0f);
    EXPECT_EQ(inputs_.reads[InputKind::pit_counter], 1);
    EXPECT_EQ(read_two(), 0x800);
    EXPECT_EQ(inputs_.reads[InputKind::pit_counter], 2);
}

TEST_F(I8254Test, TheCountWrapsAtThePeriod) {
    program(0x34, 1000);
    inputs_.values[InputKind::pit_counter] = 2001;  // the tick was not delivered yet
    EXPECT_EQ(read_two(), 999);
}

TEST_F(I8254Test, ModeThreeCountsInEvenNumbers) {
    program(0x36, 1000);
    inputs_.values[InputKind::pit_counter] = 3;
    EXPECT_EQ(read_two(), 996);
}

TEST_F(I8254Test, ReadBackOfTheStatus) {
    pit_.write(kCommand, 0x34);
    pit_.write(kCommand, 0xe2);                 // status of channel 0
    EXPECT_EQ(pit_.read(0x40, inputs_), 0x74);  // no count yet, two bytes, mode 2
    pit_.write(0x40, 0x00);
    pit_.write(0x40, 0x10);
    pit_.write(kCommand, 0xe2);
    EXPECT_EQ(pit_.read(0x40, inputs_), 0x34);
    EXPECT_EQ(read_two(), 0x1000);  // then counts again
}

TEST_F(I8254Test, ReadBackOfStatusAndCount) {
    program(0x34, 0x1000);
    inputs_.values[InputKind::pit_counter] = 0x10;
    pit_.write(kCommand, 0xc2);
    EXPECT_EQ(pit_.read(0x40, inputs_), 0x34);
    EXPECT_EQ(read_two(), 0xff0);
    pit_.write(kCommand, 0xd2);  // the count alone
    EXPECT_EQ(read_two(), 0xff0);
}

TEST_F(I8254Test, EachProgrammingIsAGeneration) {
    const auto first = pit_.schedule().generation;
    pit_.write(kCommand, 0x34);
    const auto second = pit_.schedule().generation;
    EXPECT_NE(second, first);
    pit_.write(0x40, 1);
    EXPECT_EQ(pit_.schedule().generation, second);
    pit_.write(0x40, 1);
    const auto third = pit_.schedule().generation;
    EXPECT_NE(third, second);
    pit_.write(kCommand, 0x00);  // a latch is none, nor is another channel
    program(0xb6, 100, 0x42);
    EXPECT_EQ(pit_.schedule().generation, third);
    pit_.write(0x40, 1);
    pit_.write(0x40, 1);  // the same count once more starts the period again
    EXPECT_NE(pit_.schedule().generation, third);
}

TEST_F(I8254Test, TheOtherChannelsAreQuietAndReadNoClock) {
    program(0x74, 100, 0x41);
    program(0xb6, 100, 0x42);
    EXPECT_EQ(pit_.schedule().repeat, I8254::Repeat::none);
    EXPECT_EQ(read_two(0x41), 0);
    EXPECT_EQ(read_two(0x42), 0);
    EXPECT_TRUE(inputs_.reads.empty());
    EXPECT_EQ(pit_.read(kCommand, inputs_), 0xff);
}

TEST_F(I8254Test, SystemControlBShowsChannelTwoHighAndKeepsTwoBits) {
    EXPECT_EQ(pit_.read_system_control_b(), 0x20);
    pit_.write_system_control_b(0xff);
    EXPECT_EQ(pit_.read_system_control_b(), 0x23);
}

TEST_F(I8254Test, AFreshStateIsExact) {
    // Channels that were never programmed have no count: their state must survive a snapshot, too.
    EXPECT_EQ(state_trouble(saved(pit_), [] { return I8254(); }), "");
}

TEST_F(I8254Test, StateIsExact) {
    program(0x34, 0x1000);
    inputs_.values[InputKind::pit_counter] = 1;
    EXPECT_EQ(pit_.read(0x40, inputs_), 0xff);
    pit_.write(0x40, 0x55);
    pit_.write(kCommand, 0xe8);
    pit_.write_system_control_b(2);
    const auto bytes = saved(pit_);
    EXPECT_EQ(state_trouble(bytes, [] { return I8254(); }), "");
    I8254 other;
    ASSERT_EQ(load_problem(other, bytes), "");
    for (I8254* each : {&pit_, &other}) {
        EXPECT_EQ(each->read(0x40, inputs_), 0x0f);
        each->write(0x40, 0x01);
        EXPECT_EQ(each->schedule().period_ticks, 0x155u);
    }
    EXPECT_EQ(other.schedule().generation, pit_.schedule().generation);
    EXPECT_EQ(saved(other), saved(pit_));
}

TEST_F(I8254Test, ACountingChannelWithoutACountIsRefused) {
    program(0x34, 1);
    auto bytes = saved(pit_);
    // access, mode, counting, second byte, low byte, then 4 bytes of count
    for (size_t i = 5; i < 9; ++i) bytes[i] = std::byte{0};
    I8254 other;
    EXPECT_EQ(load_problem(other, bytes), "timer: counts from zero");
}

}  // namespace
}  // namespace antipode::vmm
