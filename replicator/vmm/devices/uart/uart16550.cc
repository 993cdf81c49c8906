#include "replicator/vmm/devices/uart/uart16550.h"

#include <algorithm>

namespace antipode::vmm {
namespace {

constexpr uint8_t kEnableReceive = 0x01;
constexpr uint8_t kEnableTransmit = 0x02;
constexpr uint8_t kIdentityNone = 0x01;
constexpr uint8_t kIdentityTransmit = 0x02;
constexpr uint8_t kIdentityReceive = 0x04;
constexpr uint8_t kFifoEnable = 0x01;
constexpr uint8_t kDivisorLatch = 0x80;
constexpr uint8_t kModemLoop = 0x10;
constexpr uint8_t kModemOut2 = 0x08;
constexpr uint8_t kEnableLineStatus = 0x04;
constexpr uint8_t kIdentityLineStatus = 0x06;
constexpr uint8_t kLineDataReady = 0x01;
constexpr uint8_t kLineBreak = 0x10;
constexpr uint8_t kSavedBreak = 0x80;  // in the byte that holds the FIFO's count
constexpr uint8_t kLineTransmitEmpty = 0x60;
constexpr size_t kOutputBytesMax = 1 << 20;
constexpr uint8_t kModemStatusIdle = 0xb0;  // carrier, data set ready, clear to send

}  // namespace

void Uart16550::push(uint8_t value) {
    if (fifo_count_ < kFifoBytes) fifo_[fifo_count_++] = value;
}

size_t Uart16550::receive(std::span<const std::byte> data) {
    const size_t taken = std::min(data.size(), receive_room());
    for (const std::byte value : data.first(taken)) push(static_cast<uint8_t>(value));
    return taken;
}

bool Uart16550::receive_break() {
    if (fifo_count_ > 0) return false;
    push(0);
    break_ = true;
    return true;
}

void Uart16550::write(unsigned offset, uint8_t value) {
    const bool divisor = (line_control_ & kDivisorLatch) != 0;
    switch (offset) {
        case 0:
            if (divisor) {
                divisor_low_ = value;
            } else if ((modem_control_ & kModemLoop) != 0) {
                push(value);
            } else {
                output_.push_back(static_cast<std::byte>(value));
                transmit_empty_pending_ = true;
            }
            break;
        case 1:
            if (divisor) {
                divisor_high_ = value;
            } else {
                if ((value & ~interrupt_enable_ & kEnableTransmit) != 0) {
                    transmit_empty_pending_ = true;
                }
                interrupt_enable_ = value & 0x0f;
            }
            break;
        case 2:
            fifo_control_ = value & 0xc9;
            if ((value & 0x02) != 0) {
                fifo_count_ = 0;
                break_ = false;
            }
            break;
        case 3:
            line_control_ = value;
            break;
        case 4:
            modem_control_ = value & 0x1f;
            break;
        case 7:
            scratch_ = value;
            break;
        default:
            break;
    }
}

uint8_t Uart16550::interrupt_identity() const {
    if ((interrupt_enable_ & kEnableLineStatus) != 0 && break_) return kIdentityLineStatus;
    if ((interrupt_enable_ & kEnableReceive) != 0 && fifo_count_ > 0) return kIdentityReceive;
    if ((interrupt_enable_ & kEnableTransmit) != 0 && transmit_empty_pending_) {
        return kIdentityTransmit;
    }
    return kIdentityNone;
}

bool Uart16550::interrupt_line() const {
    return (modem_control_ & kModemOut2) != 0 && interrupt_identity() != kIdentityNone;
}

uint8_t Uart16550::read(unsigned offset) {
    const bool divisor = (line_control_ & kDivisorLatch) != 0;
    switch (offset) {
        case 0: {
            if (divisor) return divisor_low_;
            if (fifo_count_ == 0) return 0;
            const uint8_t value = fifo_[0];
            std::copy(fifo_.begin() + 1, fifo_.end(), fifo_.begin());
            --fifo_count_;
            break_ = false;
            return value;
        }
        case 1:
            return divisor ? divisor_high_ : interrupt_enable_;
        case 2: {
            const uint8_t identity = interrupt_identity();
            if (identity == kIdentityTransmit) transmit_empty_pending_ = false;
            return static_cast<uint8_t>(identity | ((fifo_control_ & kFifoEnable) ? 0xc0 : 0));
        }
        case 3:
            return line_control_;
        case 4:
            return modem_control_;
        case 5:
            return static_cast<uint8_t>(kLineTransmitEmpty |
                                        (fifo_count_ > 0 ? kLineDataReady : 0) |
                                        (break_ ? kLineBreak : 0));
        case 6: {
            if ((modem_control_ & kModemLoop) == 0) return kModemStatusIdle;
            const uint8_t m = modem_control_;  // DTR -> DSR, RTS -> CTS, OUT1 -> RI, OUT2 -> DCD
            return static_cast<uint8_t>((m & 0x01) << 5 | (m & 0x02) << 3 | (m & 0x0c) << 4);
        }
        default:
            return scratch_;
    }
}

void Uart16550::save(StateWriter& out) const {
    for (const uint8_t value : {interrupt_enable_, fifo_control_, line_control_, modem_control_,
                                scratch_, divisor_low_, divisor_high_}) {
        out.put(value);
    }
    out.put<uint8_t>(transmit_empty_pending_ ? 1 : 0);
    out.put<uint8_t>(static_cast<uint8_t>(fifo_count_ | (break_ ? kSavedBreak : 0u)));
    for (size_t i = 0; i < kFifoBytes; ++i) out.put<uint8_t>(i < fifo_count_ ? fifo_[i] : 0);
    out.put_bytes(output_);
}

void Uart16550::load(StateReader& in) {
    for (uint8_t* value : {&interrupt_enable_, &fifo_control_, &line_control_, &modem_control_,
                           &scratch_, &divisor_low_, &divisor_high_}) {
        in.get(*value);
    }
    transmit_empty_pending_ = in.get_flag();
    const auto count = in.get<uint8_t>();
    break_ = (count & kSavedBreak) != 0;
    fifo_count_ = count & ~kSavedBreak;
    if (fifo_count_ > kFifoBytes) {
        in.reject("serial port: more input than it can hold");
        fifo_count_ = 0;
    }
    if (break_ && fifo_count_ != 1) in.reject("serial port: a break is one byte");
    for (size_t i = 0; i < kFifoBytes; ++i) {
        in.get(fifo_[i]);
        if (i >= fifo_count_ && fifo_[i] != 0) in.reject("serial port: bytes behind its input");
    }
    output_ = in.get_bytes(kOutputBytesMax);
}

}  // namespace antipode::vmm
