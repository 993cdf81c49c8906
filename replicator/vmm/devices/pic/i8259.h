// The pair of 8259A interrupt controllers of a PC (Intel 8259A data sheet, order 231468).
//
// A pure state machine on the vCPU thread: guest accesses and line levels in, an interrupt request
// to the CPU out. No in-kernel irqchip is used in lockstep, so that every interrupt passes through
// here and is delivered at an exit.
//
// INVARIANT: interrupt_pending() implies that acknowledge() returns a vector of a line that asked
// for it (or, as on the real part, the spurious vector 7 of a chip whose request went away).
#pragma once

#include <array>
#include <cstdint>

#include "replicator/vmm/state_io.h"

namespace antipode::vmm {

class I8259Pair {
  public:
    // irq 0..15. An edge-triggered line (the reset state) requests on a rise; a level one while
    // high.
    void set_line(uint8_t irq, bool high);
    bool interrupt_pending() const;
    // Has this line a request that is not yet in service?
    bool line_requested(uint8_t irq) const { return (chips_[irq >> 3].irr >> (irq & 7) & 1) != 0; }
    // The CPU's acknowledge cycle: the vector, and the request moves into service.
    uint8_t acknowledge();

    void write(uint16_t port, uint8_t value);
    uint8_t read(uint16_t port);

    void save(StateWriter& out) const;
    void load(StateReader& in);

  private:
    enum class InitStep : uint8_t { none, icw2, icw3, icw4 };
    struct Chip {
        uint8_t irr = 0;         // requests
        uint8_t isr = 0;         // in service
        uint8_t imr = 0;         // masked
        uint8_t lines = 0;       // levels as they are now
        uint8_t edge_level = 0;  // 1 = level triggered (ELCR)
        uint8_t vector_base = 0;
        uint8_t lowest_priority = 7;
        InitStep init = InitStep::none;
        bool needs_icw4 = false;
        bool auto_eoi = false;
        bool rotate_on_auto_eoi = false;
        bool read_isr = false;
        bool poll = false;
        bool special_mask = false;

        int highest(uint8_t requests) const;  // line number, or -1
        uint8_t serving() const;              // lines in service that hold others back
        int request() const;                  // line to serve now, or -1
        void take(int line);
        void end_of_interrupt(int line);
        void command(uint8_t value);
        void initialise(uint8_t value);
        void data(uint8_t value);
    };
    void cascade();
    Chip& chip_at(uint16_t port) { return chips_[port >= 0xa0 ? 1 : 0]; }

    std::array<Chip, 2> chips_;
};

}  // namespace antipode::vmm
