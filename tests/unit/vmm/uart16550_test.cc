// The serial port (National Semiconductor PC16550D data sheet), and what Linux's 8250 driver asks
// of one before it believes in it.
#include "replicator/vmm/devices/uart/uart16550.h"

#include <gtest/gtest.h>
#include <string_view>

#include "tests/unit/vmm/saved_state.h"

namespace antipode::vmm {
namespace {

enum Offset : unsigned {
    kData,
    kInterruptEnable,
    kInterruptIdentity,
    kLineControl,
    kModemControl,
    kLineStatus,
    kModemStatus,
    kScratch
};
constexpr unsigned kFifoControl = kInterruptIdentity;

std::vector<std::byte> bytes_of(std::string_view text) {
    std::vector<std::byte> bytes;
    for (const char each : text) bytes.push_back(static_cast<std::byte>(each));
    return bytes;
}

class Uart16550Test : public testing::Test {
  protected:
    void enable_interrupts(uint8_t which) {
        uart_.write(kModemControl, 0x0b);
        uart_.write(kInterruptEnable, which);
    }
    std::string output() {
        std::string text;
        for (const auto each : uart_.take_output()) text.push_back(static_cast<char>(each));
        return text;
    }

    Uart16550 uart_;
};

// drivers/tty/serial/8250: the sequence of its autoconfiguration, and what it concludes from each
// answer.
TEST_F(Uart16550Test, LinuxFindsA16550A) {
    uart_.write(kInterruptEnable, 0x00);
    EXPECT_EQ(uart_.read(kInterruptEnable) & 0x0f, 0x00);
    uart_.write(kInterruptEnable, 0x0f);
    EXPECT_EQ(uart_.read(kInterruptEnable) & 0x0f, 0x0f);
    uart_.write(kInterruptEnable, 0x00);
    uart_.write(kModemControl, 0x1a);  // loopback, OUT2, RTS
    EXPECT_EQ(uart_.read(kModemStatus) & 0xf0, 0x90);
    uart_.write(kModemControl, 0x00);
    uart_.write(kLineControl, 0xbf);
    EXPECT_NE(uart_.read(kInterruptIdentity), 0);  // 0 would be an extended feature register
    uart_.write(kLineControl, 0x00);
    uart_.write(kFifoControl, 0x01);
    EXPECT_EQ(uart_.read(kInterruptIdentity) >> 6, 3);
    uart_.write(kFifoControl, 0x00);
    EXPECT_EQ(uart_.read(kInterruptIdentity) >> 6, 0);
    uart_.write(kInterruptEnable, 0x40);  // an XScale would keep this bit
    EXPECT_EQ(uart_.read(kInterruptEnable), 0x00);
    for (const uint8_t pattern : std::initializer_list<uint8_t>{0x5a, 0xa5}) {
        uart_.write(kScratch, pattern);
        EXPECT_EQ(uart_.read(kScratch), pattern);
    }
}

// Its test for a chip that does not say again that the transmitter is empty when it is asked to.
TEST_F(Uart16550Test, TheTransmitterSaysAgainThatItIsEmpty) {
    enable_interrupts(0x02);
    EXPECT_EQ(uart_.read(kInterruptIdentity) & 0x0f, 0x02);
    EXPECT_EQ(uart_.read(kInterruptIdentity) & 0x0f, 0x01);
    uart_.write(kInterruptEnable, 0x00);
    uart_.write(kInterruptEnable, 0x02);
    EXPECT_EQ(uart_.read(kInterruptIdentity) & 0x0f, 0x02);
}

TEST_F(Uart16550Test, WhatIsWrittenIsOutput) {
    EXPECT_FALSE(uart_.has_output());
    for (const char each : std::string_view("hello\n")) {
        EXPECT_EQ(uart_.read(kLineStatus) & 0x60, 0x60);
        uart_.write(kData, static_cast<uint8_t>(each));
    }
    EXPECT_TRUE(uart_.has_output());
    EXPECT_EQ(output(), "hello\n");
    EXPECT_FALSE(uart_.has_output());
}

TEST_F(Uart16550Test, TheTransmitInterruptComesAfterEachWriteAndGoesWhenSeen) {
    EXPECT_FALSE(uart_.interrupt_line());
    enable_interrupts(0x02);
    EXPECT_TRUE(uart_.interrupt_line());
    EXPECT_EQ(uart_.read(kInterruptIdentity), 0x02);
    EXPECT_FALSE(uart_.interrupt_line());
    uart_.write(kData, 'x');
    EXPECT_TRUE(uart_.interrupt_line());
    uart_.write(kInterruptEnable, 0x02);  // on already: no news
    EXPECT_EQ(uart_.read(kInterruptIdentity), 0x02);
    EXPECT_FALSE(uart_.interrupt_line());
    uart_.write(kInterruptEnable, 0x02);
    EXPECT_FALSE(uart_.interrupt_line());
}

TEST_F(Uart16550Test, NoInterruptWithoutOut2) {
    uart_.write(kInterruptEnable, 0x03);
    EXPECT_FALSE(uart_.interrupt_line());
    EXPECT_EQ(uart_.read(kInterruptIdentity), 0x02);  // a poller sees it all the same
    (void)uart_.receive(bytes_of("a"));
    EXPECT_FALSE(uart_.interrupt_line());
    uart_.write(kModemControl, 0x08);
    EXPECT_TRUE(uart_.interrupt_line());
}

TEST_F(Uart16550Test, InputComesInOrder) {
    EXPECT_EQ(uart_.read(kLineStatus) & 0x01, 0);
    EXPECT_EQ(uart_.receive(bytes_of("abc")), 3u);
    for (const char each : std::string_view("abc")) {
        EXPECT_EQ(uart_.read(kLineStatus) & 0x01, 1);
        EXPECT_EQ(uart_.read(kData), each);
    }
    EXPECT_EQ(uart_.read(kLineStatus) & 0x01, 0);
    EXPECT_EQ(uart_.read(kData), 0);
}

TEST_F(Uart16550Test, TheReceiveInterruptStaysUntilAllIsRead) {
    enable_interrupts(0x01);
    EXPECT_FALSE(uart_.interrupt_line());
    (void)uart_.receive(bytes_of("ab"));
    EXPECT_EQ(uart_.read(kInterruptIdentity), 0x04);
    (void)uart_.read(kData);
    EXPECT_TRUE(uart_.interrupt_line());
    (void)uart_.read(kData);
    EXPECT_FALSE(uart_.interrupt_line());
}

TEST_F(Uart16550Test, ReceivingComesBeforeTransmitting) {
    enable_interrupts(0x03);
    (void)uart_.receive(bytes_of("a"));
    EXPECT_EQ(uart_.read(kInterruptIdentity), 0x04);
    (void)uart_.read(kData);
    EXPECT_EQ(uart_.read(kInterruptIdentity), 0x02);
    EXPECT_EQ(uart_.read(kInterruptIdentity), 0x01);
}

TEST_F(Uart16550Test, InputBeyondSixteenBytesIsRefused) {
    EXPECT_EQ(uart_.receive(bytes_of("0123456789abcdefXYZ")), 16u);
    EXPECT_EQ(uart_.receive_room(), 0u);
    EXPECT_EQ(uart_.receive(bytes_of("Q")), 0u);
    EXPECT_EQ(uart_.read(kData), '0');
    EXPECT_EQ(uart_.receive(bytes_of("QR")), 1u);
    std::string rest;
    while ((uart_.read(kLineStatus) & 1) != 0) rest.push_back(static_cast<char>(uart_.read(kData)));
    EXPECT_EQ(rest, "123456789abcdefQ");
}

TEST_F(Uart16550Test, FifoResetForgetsInput) {
    (void)uart_.receive(bytes_of("abc"));
    uart_.write(kFifoControl, 0x03);
    EXPECT_EQ(uart_.read(kLineStatus) & 0x01, 0);
    EXPECT_EQ(uart_.receive_room(), Uart16550::kFifoBytes);
}

TEST_F(Uart16550Test, LoopbackIsNoOutput) {
    uart_.write(kModemControl, 0x10);
    uart_.write(kData, 'x');
    EXPECT_FALSE(uart_.has_output());
    EXPECT_EQ(uart_.read(kLineStatus) & 0x01, 1);
    EXPECT_EQ(uart_.read(kData), 'x');
    for (int i = 0; i < 20; ++i) uart_.write(kData, static_cast<uint8_t>('a' + i));
    int count = 0;
    for (; (uart_.read(kLineStatus) & 1) != 0; ++count) EXPECT_EQ(uart_.read(kData), 'a' + count);
    EXPECT_EQ(count, 16);
}

TEST_F(Uart16550Test, LoopbackWiresTheModemLines) {
    for (uint8_t lines = 0; lines < 16; ++lines) {
        uart_.write(kModemControl, static_cast<uint8_t>(0x10 | lines));
        const uint8_t seen = uart_.read(kModemStatus);
        EXPECT_EQ(seen >> 5 & 1, lines >> 0 & 1);  // DTR, DSR
        EXPECT_EQ(seen >> 4 & 1, lines >> 1 & 1);  // RTS, CTS
        EXPECT_EQ(seen >> 6 & 1, lines >> 2 & 1);  // OUT1, RI
        EXPECT_EQ(seen >> 7 & 1, lines >> 3 & 1);  // OUT2, DCD
    }
    uart_.write(kModemControl, 0x00);
    EXPECT_EQ(uart_.read(kModemStatus), 0xb0);
}

TEST_F(Uart16550Test, TheDivisorLatchHidesDataAndInterruptEnable) {
    uart_.write(kInterruptEnable, 0x01);
    uart_.write(kLineControl, 0x83);
    uart_.write(kData, 0x34);
    uart_.write(kInterruptEnable, 0x12);
    EXPECT_EQ(uart_.read(kData), 0x34);
    EXPECT_EQ(uart_.read(kInterruptEnable), 0x12);
    EXPECT_FALSE(uart_.has_output());
    uart_.write(kLineControl, 0x03);
    EXPECT_EQ(uart_.read(kInterruptEnable), 0x01);
    EXPECT_EQ(uart_.read(kLineControl), 0x03);
}

TEST_F(Uart16550Test, StatusRegistersIgnoreWrites) {
    uart_.write(kLineStatus, 0xff);
    uart_.write(kModemStatus, 0xff);
    EXPECT_EQ(uart_.read(kLineStatus), 0x60);
    EXPECT_EQ(uart_.read(kModemStatus), 0xb0);
}

TEST_F(Uart16550Test, AFreshStateIsExact) {
    EXPECT_EQ(state_trouble(saved(uart_), [] { return Uart16550(); }), "");
}

TEST_F(Uart16550Test, StateIsExact) {
    enable_interrupts(0x03);
    uart_.write(kFifoControl, 0xc1);
    uart_.write(kScratch, 0x77);
    (void)uart_.receive(bytes_of("abcd"));
    (void)uart_.read(kData);  // leaves a stale byte behind the last
    uart_.write(kData, '>');
    uart_.write(kData, ' ');
    const auto bytes = saved(uart_);
    EXPECT_EQ(state_trouble(bytes, [] { return Uart16550(); }), "");
    Uart16550 other;
    ASSERT_EQ(load_problem(other, bytes), "");
    EXPECT_TRUE(other.interrupt_line());
    EXPECT_EQ(other.read(kData), 'b');
    EXPECT_EQ(other.output().size(), 2u);
}

TEST_F(Uart16550Test, HiddenBytesAreNotPartOfTheState) {
    Uart16550 other;
    (void)uart_.receive(bytes_of("x"));
    (void)uart_.read(kData);
    EXPECT_EQ(saved(uart_), saved(other));
}

// What Linux takes for SysRq: a zero byte with the break bit in the line status.
TEST_F(Uart16550Test, ABreakIsAByteOfItsOwn) {
    enable_interrupts(0x05);
    ASSERT_TRUE(uart_.receive_break());
    EXPECT_TRUE(uart_.interrupt_line());
    EXPECT_EQ(uart_.read(kInterruptIdentity) & 0x0f, 0x06);
    EXPECT_EQ(uart_.read(kLineStatus) & 0x11, 0x11);
    EXPECT_EQ(uart_.receive(bytes_of("h")), 0u) << "the key waits until the break has been read";
    EXPECT_EQ(uart_.read(kData), 0);
    EXPECT_EQ(uart_.read(kLineStatus) & 0x11, 0);
    EXPECT_EQ(uart_.receive(bytes_of("h")), 1u);
    EXPECT_FALSE(uart_.receive_break()) << "there is input that nobody has read";
}

}  // namespace
}  // namespace antipode::vmm
