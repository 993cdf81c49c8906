// The interrupt controllers, register by register (Intel 8259A data sheet, order 231468).
#include "replicator/vmm/devices/pic/i8259.h"

#include <gtest/gtest.h>

#include "tests/unit/vmm/saved_state.h"

namespace antipode::vmm {
namespace {

constexpr uint16_t kCommand = 0x20;
constexpr uint16_t kData = 0x21;
constexpr uint16_t kCommand2 = 0xa0;
constexpr uint16_t kData2 = 0xa1;
constexpr uint16_t kElcr = 0x4d0;
constexpr uint16_t kElcr2 = 0x4d1;
constexpr uint8_t kEoi = 0x20;

class I8259Test : public testing::Test {
  protected:
    // As Linux and every BIOS do it: edge triggered, cascaded, ICW4 follows.
    void initialise(uint8_t icw4 = 0x01) {
        pic_.write(kCommand, 0x11);
        pic_.write(kData, 0x30);
        pic_.write(kData, 0x04);
        pic_.write(kData, icw4);
        pic_.write(kCommand2, 0x11);
        pic_.write(kData2, 0x38);
        pic_.write(kData2, 0x02);
        pic_.write(kData2, icw4);
    }
    void raise(uint8_t irq) { pic_.set_line(irq, true); }
    void lower(uint8_t irq) { pic_.set_line(irq, false); }
    void pulse(uint8_t irq) {
        raise(irq);
        lower(irq);
        raise(irq);
    }
    uint8_t isr(uint16_t port) {
        pic_.write(port, 0x0b);
        return pic_.read(port);
    }
    uint8_t irr(uint16_t port) {
        pic_.write(port, 0x0a);
        return pic_.read(port);
    }
    // The vector that the CPU gets, or -1 if nothing is pending.
    int take() { return pic_.interrupt_pending() ? pic_.acknowledge() : -1; }

    I8259Pair pic_;
};

TEST_F(I8259Test, NothingIsPendingAtFirst) {
    EXPECT_FALSE(pic_.interrupt_pending());
    initialise();
    EXPECT_FALSE(pic_.interrupt_pending());
    EXPECT_EQ(pic_.read(kData), 0);
}

TEST_F(I8259Test, InitialisationSetsTheVectorsAndClearsTheMask) {
    pic_.write(kData, 0xff);
    initialise();
    EXPECT_EQ(pic_.read(kData), 0);
    raise(3);
    EXPECT_EQ(take(), 0x33);
    raise(10);
    EXPECT_EQ(take(), 0x3a);  // the cascade, line 2, is above line 3
}

TEST_F(I8259Test, TheLowThreeBitsOfTheVectorBaseAreIgnored) {
    pic_.write(kCommand, 0x11);
    pic_.write(kData, 0x37);
    pic_.write(kData, 0x04);
    pic_.write(kData, 0x01);
    raise(1);
    EXPECT_EQ(take(), 0x31);
}

TEST_F(I8259Test, WithoutIcw4TheThirdByteEndsTheSequence) {
    pic_.write(kCommand, 0x10);
    pic_.write(kData, 0x40);
    pic_.write(kData, 0x04);
    pic_.write(kData, 0xfd);  // the mask by now
    EXPECT_EQ(pic_.read(kData), 0xfd);
    raise(1);
    EXPECT_EQ(take(), 0x41);
}

TEST_F(I8259Test, AChipInTheMiddleOfItsInitialisationAsksForNothing) {
    initialise();
    raise(0);
    pic_.write(kCommand, 0x11);
    raise(1);
    EXPECT_FALSE(pic_.interrupt_pending());
    pic_.write(kData, 0x50);
    EXPECT_FALSE(pic_.interrupt_pending());
    pic_.write(kData, 0x04);
    EXPECT_FALSE(pic_.interrupt_pending());
    pic_.write(kData, 0x01);
    EXPECT_EQ(take(), 0x51);  // line 0 rose before: its edge was forgotten by ICW1
}

TEST_F(I8259Test, LowerLinesComeFirst) {
    initialise();
    for (const uint8_t irq : std::initializer_list<uint8_t>{7, 3, 0, 5}) raise(irq);
    EXPECT_EQ(take(), 0x30);
    EXPECT_EQ(take(), -1);  // 0 is in service and above all others
    pic_.write(kCommand, kEoi);
    EXPECT_EQ(take(), 0x33);
    pic_.write(kCommand, kEoi);
    EXPECT_EQ(take(), 0x35);
    pic_.write(kCommand, kEoi);
    EXPECT_EQ(take(), 0x37);
}

TEST_F(I8259Test, AHigherLineInterruptsALowerOneInService) {
    initialise();
    raise(5);
    EXPECT_EQ(take(), 0x35);
    raise(1);
    EXPECT_EQ(take(), 0x31);
    EXPECT_EQ(isr(kCommand), 0x22);
    pic_.write(kCommand, kEoi);
    EXPECT_EQ(isr(kCommand), 0x20);
    pic_.write(kCommand, kEoi);
    EXPECT_EQ(isr(kCommand), 0);
}

TEST_F(I8259Test, TheSecondaryAsksThroughLineTwo) {
    initialise();
    raise(3);
    raise(14);
    EXPECT_EQ(take(), 0x3e);  // 14 is line 6 of the secondary; the cascade is above line 3
    EXPECT_EQ(isr(kCommand), 0x04);
    EXPECT_EQ(isr(kCommand2), 0x40);
    EXPECT_EQ(take(), -1);
    pic_.write(kCommand2, kEoi);
    EXPECT_EQ(take(), -1);  // the primary still serves the cascade
    pic_.write(kCommand, kEoi);
    EXPECT_EQ(take(), 0x33);
}

TEST_F(I8259Test, ASecondRequestOfTheSecondaryFollowsTheFirst) {
    initialise();
    raise(10);
    raise(12);
    EXPECT_EQ(take(), 0x3a);
    pic_.write(kCommand2, kEoi);
    pic_.write(kCommand, kEoi);
    EXPECT_EQ(take(), 0x3c);
    pic_.write(kCommand2, kEoi);
    pic_.write(kCommand, kEoi);
    EXPECT_EQ(take(), -1);
}

TEST_F(I8259Test, ARequestThatWaitsForTheSecondaryComesWhenOnlyThePrimaryWasServed) {
    initialise();
    raise(10);
    EXPECT_EQ(take(), 0x3a);
    raise(12);  // below 10, which is in service at the secondary
    pic_.write(kCommand, kEoi);
    EXPECT_EQ(take(), -1);
    pic_.write(kCommand2, kEoi);
    EXPECT_EQ(take(), 0x3c);
}

TEST_F(I8259Test, AMaskedLineWaitsUntilItIsUnmasked) {
    initialise();
    pic_.write(kData, 0x08);
    raise(3);
    EXPECT_EQ(take(), -1);
    EXPECT_EQ(irr(kCommand), 0x08);
    EXPECT_TRUE(pic_.line_requested(3));
    pic_.write(kData, 0x00);
    EXPECT_EQ(take(), 0x33);
    EXPECT_FALSE(pic_.line_requested(3));
}

TEST_F(I8259Test, AMaskedCascadeHidesTheSecondary) {
    initialise();
    pic_.write(kData, 0x04);
    raise(9);
    EXPECT_EQ(take(), -1);
    pic_.write(kData, 0x00);
    EXPECT_EQ(take(), 0x39);
}

TEST_F(I8259Test, AnEdgeAsksOnce) {
    initialise();
    raise(4);
    EXPECT_EQ(take(), 0x34);
    pic_.write(kCommand, kEoi);
    EXPECT_EQ(take(), -1);  // still high, no new edge
    pulse(4);
    EXPECT_EQ(take(), 0x34);
}

TEST_F(I8259Test, ALevelAsksAsLongAsItIsHigh) {
    initialise();
    pic_.write(kElcr, 0x20);
    raise(5);
    EXPECT_EQ(take(), 0x35);
    EXPECT_EQ(take(), -1);
    pic_.write(kCommand, kEoi);
    EXPECT_EQ(take(), 0x35);
    lower(5);
    pic_.write(kCommand, kEoi);
    EXPECT_EQ(take(), -1);
}

TEST_F(I8259Test, ALevelOfTheSecondaryAsksAgain) {
    initialise();
    pic_.write(kElcr2, 0x04);
    raise(10);
    EXPECT_EQ(take(), 0x3a);
    pic_.write(kCommand2, kEoi);
    pic_.write(kCommand, kEoi);
    EXPECT_EQ(take(), 0x3a);
    lower(10);
    pic_.write(kCommand2, kEoi);
    pic_.write(kCommand, kEoi);
    EXPECT_EQ(take(), -1);
}

TEST_F(I8259Test, TheLinesOfAPcThatAreEdgesStayEdges) {
    pic_.write(kElcr, 0xff);
    pic_.write(kElcr2, 0xff);
    EXPECT_EQ(pic_.read(kElcr), 0xf8);
    EXPECT_EQ(pic_.read(kElcr2), 0xde);
}

TEST_F(I8259Test, ALineThatIsHighWhenItBecomesALevelAsks) {
    initialise();
    raise(5);
    EXPECT_EQ(take(), 0x35);
    pic_.write(kCommand, kEoi);
    pic_.write(kElcr, 0x20);
    EXPECT_EQ(take(), 0x35);
}

TEST_F(I8259Test, InitialisationKeepsEdgeOrLevel) {
    pic_.write(kElcr, 0x20);
    raise(5);
    raise(6);
    initialise();
    EXPECT_EQ(pic_.read(kElcr), 0x20);
    EXPECT_EQ(take(), 0x35);
    pic_.write(kCommand, kEoi);
    lower(5);
    EXPECT_EQ(take(), -1);  // the edge of 6 was before the initialisation
}

TEST_F(I8259Test, ARequestThatGoesAwayIsNoRequest) {
    initialise();
    raise(3);
    lower(3);
    EXPECT_EQ(take(), -1);
    EXPECT_EQ(irr(kCommand), 0);
}

TEST_F(I8259Test, AnAcknowledgeOfNothingIsSpurious) {
    initialise();
    EXPECT_EQ(pic_.acknowledge(), 0x37);
    EXPECT_EQ(isr(kCommand), 0);  // a spurious interrupt has no bit in service: Linux looks at that
}

TEST_F(I8259Test, ARealSevenHasItsBit) {
    initialise();
    raise(7);
    EXPECT_EQ(take(), 0x37);
    EXPECT_EQ(isr(kCommand), 0x80);
}

TEST_F(I8259Test, ASpecificEndNamesItsLine) {
    initialise();
    raise(5);
    EXPECT_EQ(take(), 0x35);
    raise(1);
    EXPECT_EQ(take(), 0x31);
    pic_.write(kCommand, 0x60 | 5);
    EXPECT_EQ(isr(kCommand), 0x02);
    pic_.write(kCommand, 0x60 | 1);
    EXPECT_EQ(isr(kCommand), 0);
}

TEST_F(I8259Test, AnEndOfNothingDoesNothing) {
    initialise();
    pic_.write(kCommand, kEoi);
    pic_.write(kCommand, 0x63);
    pic_.write(kCommand, 0xa0);
    raise(0);
    EXPECT_EQ(take(), 0x30);
}

TEST_F(I8259Test, RotationOnEndMakesTheServedLineTheLowest) {
    initialise();
    raise(3);
    EXPECT_EQ(take(), 0x33);
    pic_.write(kCommand, 0xa0);
    raise(5);
    pulse(3);
    EXPECT_EQ(take(), 0x35);  // 4, 5, 6, 7, 0, 1, 2, 3
}

TEST_F(I8259Test, RotationOnASpecificEnd) {
    initialise();
    raise(3);
    EXPECT_EQ(take(), 0x33);
    pic_.write(kCommand, 0xe0 | 3);
    EXPECT_EQ(isr(kCommand), 0);
    raise(0);
    raise(4);
    EXPECT_EQ(take(), 0x34);
}

TEST_F(I8259Test, SettingThePriorityEndsNothing) {
    initialise();
    raise(6);
    EXPECT_EQ(take(), 0x36);
    pic_.write(kCommand, 0xc0 | 5);  // 5 is the lowest, 6 the highest
    EXPECT_EQ(isr(kCommand), 0x40);
    raise(0);
    EXPECT_EQ(take(), -1);
    pic_.write(kCommand, kEoi);
    EXPECT_EQ(take(), 0x30);
}

TEST_F(I8259Test, AutomaticEndLeavesNothingInService) {
    initialise(0x03);
    raise(0);
    EXPECT_EQ(take(), 0x30);
    EXPECT_EQ(isr(kCommand), 0);
    raise(14);
    EXPECT_EQ(take(), 0x3e);
    EXPECT_EQ(isr(kCommand2), 0);
    pulse(0);
    EXPECT_EQ(take(), 0x30);
}

TEST_F(I8259Test, RotationOnAutomaticEnd) {
    initialise(0x03);
    pic_.write(kCommand, 0x80);
    raise(1);
    raise(3);
    EXPECT_EQ(take(), 0x31);
    pulse(1);
    EXPECT_EQ(take(), 0x33);
    EXPECT_EQ(take(), 0x31);
    pic_.write(kCommand, 0x00);  // no longer: 1 stays the lowest
    pulse(3);
    EXPECT_EQ(take(), 0x33);
    pulse(1);
    pulse(3);
    EXPECT_EQ(take(), 0x33);
}

TEST_F(I8259Test, SpecialMaskLetsLowerLinesThrough) {
    initialise();
    raise(1);
    EXPECT_EQ(take(), 0x31);
    raise(5);
    EXPECT_EQ(take(), -1);
    pic_.write(kData, 0x02);
    pic_.write(kCommand, 0x68);
    EXPECT_EQ(take(), 0x35);
    pic_.write(kCommand, kEoi);  // does not end line 1: it is masked
    EXPECT_EQ(isr(kCommand), 0x02);
    pic_.write(kCommand, 0x48);  // back to normal
    pic_.write(kData, 0x00);
    pulse(5);
    EXPECT_EQ(take(), -1);
    pic_.write(kCommand, kEoi);
    EXPECT_EQ(take(), 0x35);
}

TEST_F(I8259Test, Ocw3ChoosesWhatIsRead) {
    initialise();
    raise(2 + 8);
    EXPECT_EQ(pic_.read(kCommand2), 0x04);  // IRR is the default
    EXPECT_EQ(take(), 0x3a);
    EXPECT_EQ(pic_.read(kCommand2), 0x00);
    pic_.write(kCommand2, 0x0b);
    EXPECT_EQ(pic_.read(kCommand2), 0x04);
    EXPECT_EQ(pic_.read(kCommand2), 0x04);  // it stays chosen
    pic_.write(kCommand2, 0x08);            // neither: no change
    EXPECT_EQ(pic_.read(kCommand2), 0x04);
    pic_.write(kCommand2, 0x0a);
    EXPECT_EQ(pic_.read(kCommand2), 0x00);
}

TEST_F(I8259Test, PollIsAnAcknowledge) {
    initialise();
    raise(5);
    pic_.write(kCommand, 0x0c);
    EXPECT_EQ(pic_.read(kCommand), 0x85);
    EXPECT_EQ(isr(kCommand), 0x20);
    EXPECT_EQ(take(), -1);
    pic_.write(kCommand, 0x0c);
    EXPECT_EQ(pic_.read(kData), 0x00);  // by either port; nothing waits
    EXPECT_EQ(pic_.read(kData), 0x00);  // and this is the mask again
    pic_.write(kData, 0x80);
    EXPECT_EQ(pic_.read(kData), 0x80);
}

TEST_F(I8259Test, PollOfTheSecondaryTakesItsRequestFromThePrimary) {
    initialise();
    raise(8);
    EXPECT_TRUE(pic_.interrupt_pending());
    pic_.write(kCommand2, 0x0c);
    EXPECT_EQ(pic_.read(kCommand2), 0x80);
    EXPECT_FALSE(pic_.interrupt_pending());
}

TEST_F(I8259Test, StateIsExact) {
    initialise();
    pic_.write(kElcr, 0x20);
    pic_.write(kData, 0x40);
    pic_.write(kCommand, 0x68);
    pic_.write(kCommand2, 0x80);
    raise(5);
    raise(14);
    EXPECT_EQ(take(), 0x3e);
    pic_.write(kCommand2, 0x0b);
    pic_.write(kCommand, 0x11);  // stays in the middle of it
    pic_.write(kData, 0x30);
    const auto bytes = saved(pic_);
    EXPECT_EQ(bytes.size(), 28u);
    EXPECT_EQ(state_trouble(bytes, [] { return I8259Pair(); }), "");
    I8259Pair other;
    ASSERT_EQ(load_problem(other, bytes), "");
    for (I8259Pair* each : {&pic_, &other}) {
        each->write(kData, 0x04);
        each->write(kData, 0x01);
        EXPECT_TRUE(each->interrupt_pending());
        EXPECT_EQ(each->acknowledge(), 0x35);
        EXPECT_EQ(each->read(kCommand2), 0x40);
    }
    EXPECT_EQ(saved(other), saved(pic_));
}

}  // namespace
}  // namespace antipode::vmm
