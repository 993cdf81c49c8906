// A 16550A serial port (National Semiconductor PC16550D data sheet): the guest's console on IRQ 4.
//
// A pure state machine on the vCPU thread. A byte written is transmitted at once and collected in
// take_output(): it is an output under the Output Rule. Input arrives as a logged event, receive().
//
// INVARIANTS: the receive FIFO holds 16 bytes at most, more is refused (receive() says how many
// were taken); interrupt_line() is a function of the state.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "replicator/vmm/state_io.h"

namespace antipode::vmm {

class Uart16550 {
  public:
    static constexpr size_t kFifoBytes = 16;

    void write(unsigned offset, uint8_t value);
    uint8_t read(unsigned offset);
    size_t receive(std::span<const std::byte> data);
    size_t receive_room() const { return break_ ? 0 : kFifoBytes - fifo_count_; }
    // A break on the line. False: there is input that the guest has not read, try again later.
    bool receive_break();
    bool interrupt_line() const;

    bool has_output() const { return !output_.empty(); }
    std::span<const std::byte> output() const { return output_; }
    std::vector<std::byte> take_output() { return std::exchange(output_, {}); }

    void save(StateWriter& out) const;
    void load(StateReader& in);

  private:
    void push(uint8_t value);
    uint8_t interrupt_identity() const;

    uint8_t interrupt_enable_ = 0;
    uint8_t fifo_control_ = 0;
    uint8_t line_control_ = 0;
    uint8_t modem_control_ = 0;
    uint8_t scratch_ = 0;
    uint8_t divisor_low_ = 1;
    uint8_t divisor_high_ = 0;
    bool transmit_empty_pending_ = false;  // THRE interrupt not yet seen through IIR
    std::array<uint8_t, kFifoBytes> fifo_{};
    size_t fifo_count_ = 0;
    bool break_ = false;  // the one byte in the FIFO, a zero, is a break
    std::vector<std::byte> output_;
};

}  // namespace antipode::vmm
