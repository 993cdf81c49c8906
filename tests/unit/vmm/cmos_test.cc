// The real-time clock: dates in BCD from seconds since 1970, one reading for one date.
#include "replicator/vmm/devices/rtc/cmos.h"

#include <gtest/gtest.h>

#include "tests/unit/vmm/fixed_inputs.h"
#include "tests/unit/vmm/saved_state.h"

namespace antipode::vmm {
namespace {

class CmosTest : public testing::Test {
  protected:
    uint8_t read(uint8_t index) {
        rtc_.write(0x70, index);
        return rtc_.read(0x71, inputs_);
    }
    void write(uint8_t index, uint8_t value) {
        rtc_.write(0x70, index);
        rtc_.write(0x71, value);
    }
    // "century year month day weekday hour minute second", as they stand in the registers.
    std::string date_at(uint64_t seconds) {
        inputs_.values[InputKind::wall_clock] = seconds;
        const uint8_t second = read(0);
        std::string text;
        for (const uint8_t index : std::initializer_list<uint8_t>{0x32, 9, 8, 7, 6, 4, 2}) {
            text += fmt::format("{:02x} ", read(index));
        }
        return text + fmt::format("{:02x}", second);
    }

    CmosRtc rtc_;
    FixedInputs inputs_;
};

TEST_F(CmosTest, Dates) {
    EXPECT_EQ(date_at(1), "19 70 01 01 05 00 00 01");  // a Thursday; Sunday is 1
    EXPECT_EQ(date_at(951'782'399), "20 00 02 28 02 23 59 59");
    EXPECT_EQ(date_at(951'782'400), "20 00 02 29 03 00 00 00");  // 2000 is a leap year
    EXPECT_EQ(date_at(1'709'164'800), "20 24 02 29 05 00 00 00");
    EXPECT_EQ(date_at(1'709'251'200), "20 24 03 01 06 00 00 00");
    EXPECT_EQ(date_at(1'677'628'799), "20 23 02 28 03 23 59 59");
    EXPECT_EQ(date_at(1'677'628'800), "20 23 03 01 04 00 00 00");
    EXPECT_EQ(date_at(1'735'689'599), "20 24 12 31 03 23 59 59");
    EXPECT_EQ(date_at(2'147'483'648), "20 38 01 19 03 03 14 08");
    EXPECT_EQ(date_at(4'107'542'399), "21 00 02 28 01 23 59 59");
    EXPECT_EQ(date_at(4'107'542'400), "21 00 03 01 02 00 00 00");  // 2100 is none
}

TEST_F(CmosTest, AnyNumberIsADate) {
    // What a wrong log entry may hold. The bits beyond the calendar are dropped.
    const auto last = date_at(0x7fffffffff);
    EXPECT_EQ(date_at(UINT64_MAX), last);
    EXPECT_EQ(date_at(uint64_t{1} << 39 | 951'782'400), "20 00 02 29 03 00 00 00");
}

TEST_F(CmosTest, TheDateIsOfTheLastReadingOfTheSeconds) {
    EXPECT_EQ(date_at(1'735'689'599), "20 24 12 31 03 23 59 59");
    EXPECT_EQ(inputs_.reads[InputKind::wall_clock], 1);
    inputs_.values[InputKind::wall_clock] = 1'735'689'600;
    EXPECT_EQ(read(9), 0x24);  // still of the old reading: no torn date at the turn of the year
    EXPECT_EQ(read(0), 0x00);
    EXPECT_EQ(read(9), 0x25);
    EXPECT_EQ(inputs_.reads[InputKind::wall_clock], 2);
}

TEST_F(CmosTest, AFirstReadOfAnotherRegisterReadsTheClock) {
    inputs_.values[InputKind::wall_clock] = 951'782'400;
    EXPECT_EQ(read(8), 0x02);
    EXPECT_EQ(read(7), 0x29);
    EXPECT_EQ(inputs_.reads[InputKind::wall_clock], 1);
}

TEST_F(CmosTest, StatusRegisters) {
    EXPECT_EQ(read(10), 0x26);  // no update is ever in progress
    EXPECT_EQ(read(11), 0x02);  // 24 hours, BCD
    EXPECT_EQ(read(12), 0x00);
    EXPECT_EQ(read(13), 0x80);
    write(11, 0xff);
    EXPECT_EQ(read(11), 0x02);
    EXPECT_TRUE(inputs_.reads.empty());
}

TEST_F(CmosTest, AlarmsAreZeroAndTheDateCannotBeSet) {
    write(9, 0x99);
    write(1, 0x30);
    write(0x32, 0x30);
    EXPECT_EQ(date_at(951'782'400), "20 00 02 29 03 00 00 00");
    for (const uint8_t index : std::initializer_list<uint8_t>{1, 3, 5}) EXPECT_EQ(read(index), 0);
}

TEST_F(CmosTest, MemoryKeepsWhatIsWritten) {
    for (const uint8_t index : std::initializer_list<uint8_t>{0x0e, 0x0f, 0x31, 0x33, 0x7f}) {
        EXPECT_EQ(read(index), 0);
        write(index, static_cast<uint8_t>(index ^ 0xff));
    }
    for (const uint8_t index : std::initializer_list<uint8_t>{0x0e, 0x0f, 0x31, 0x33, 0x7f}) {
        EXPECT_EQ(read(index), index ^ 0xff);
        EXPECT_EQ(read(static_cast<uint8_t>(index | 0x80)), index ^ 0xff);  // bit 7 is the NMI's
    }
    EXPECT_EQ(rtc_.read(0x70, inputs_), 0xff);
}

TEST_F(CmosTest, StateIsExact) {
    EXPECT_EQ(state_trouble(saved(rtc_), [] { return CmosRtc(); }), "");
    (void)date_at(951'782'400);
    write(0x40, 0x12);
    const auto bytes = saved(rtc_);
    EXPECT_EQ(state_trouble(bytes, [] { return CmosRtc(); }), "");
    CmosRtc other;
    ASSERT_EQ(load_problem(other, bytes), "");
    inputs_.reads.clear();
    EXPECT_EQ(other.read(0x71, inputs_), 0x12);
    other.write(0x70, 7);
    EXPECT_EQ(other.read(0x71, inputs_), 0x29);
    EXPECT_TRUE(inputs_.reads.empty());
}

}  // namespace
}  // namespace antipode::vmm
