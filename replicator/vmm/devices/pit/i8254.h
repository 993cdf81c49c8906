// The 8254 programmable interval timer of a PC (Intel 8254 data sheet, order 231164), channel 0
// only: the tick on IRQ 0. Channels 1 and 2 accept programming and read as zero; port 0x61 says
// that channel 2's output is high, so that a guest that calibrates against it gives up at once.
//
// A pure state machine on the vCPU thread. It does not know the time: when recording, the clock's
// owner (replay/timer_schedule) reads schedule() to learn when ticks are due and calls tick(),
// which is a logged event. A counter read is a logged input.
//
// INVARIANT: schedule().generation changes with each programming that restarts the count.
#pragma once

#include <array>
#include <cstdint>

#include "replicator/vmm/inputs.h"
#include "replicator/vmm/state_io.h"

namespace antipode::vmm {

class I8254 {
  public:
    enum class Repeat : uint8_t { none, periodic, once };
    struct Schedule {
        Repeat repeat = Repeat::none;
        uint32_t period_ticks = 0;  // of 1.193182 MHz
        uint32_t generation = 0;
    };

    Schedule schedule() const;
    // A period has ended: true if IRQ 0 shall rise.
    bool tick();

    void write(uint16_t port, uint8_t value);
    uint8_t read(uint16_t port, InputSource& inputs);
    uint8_t read_system_control_b() const { return static_cast<uint8_t>(0x20 | speaker_bits_); }
    void write_system_control_b(uint8_t value) { speaker_bits_ = value & 0x03; }

    void save(StateWriter& out) const;
    void load(StateReader& in);

  private:
    enum class Access : uint8_t { latch = 0, low = 1, high = 2, low_then_high = 3 };
    struct Channel {
        Access access = Access::low_then_high;
        uint8_t mode = 3;
        bool counting = false;
        bool second_byte = false;  // the next write is the high byte
        uint8_t low_byte = 0;
        uint32_t reload = 0;  // 1..65536 once counting
        bool latched = false;
        bool read_second = false;
        uint16_t latch = 0;
        bool status_latched = false;
    };
    void command(uint8_t value);
    void latch_count(Channel& channel, bool is_channel0, InputSource& inputs);
    static void write_count(Channel& channel, uint8_t value, bool& restarted);

    std::array<Channel, 3> channels_;
    uint32_t generation_ = 0;
    uint8_t speaker_bits_ = 0;
};

}  // namespace antipode::vmm
