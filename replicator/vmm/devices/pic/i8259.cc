#include "replicator/vmm/devices/pic/i8259.h"

#include "replicator/vmm/layout.h"

namespace antipode::vmm {
namespace {

constexpr int kCascadeLine = 2;
constexpr uint8_t kCascadeMask = 1 << kCascadeLine;

uint8_t bit(int line) {
    return static_cast<uint8_t>(1u << line);
}

}  // namespace

int I8259Pair::Chip::highest(uint8_t requests) const {
    for (int i = 1; i <= 8; ++i) {
        const int line = (lowest_priority + i) & 7;
        if ((requests & bit(line)) != 0) return line;
    }
    return -1;
}

// Bits of a masked line in service do not count in the special mask mode.
uint8_t I8259Pair::Chip::serving() const {
    return special_mask ? static_cast<uint8_t>(isr & ~imr) : isr;
}

int I8259Pair::Chip::request() const {
    if (init != InitStep::none) return -1;  // its vectors are not known yet
    const int wanted = highest(static_cast<uint8_t>(irr & ~imr));
    if (wanted < 0) return -1;
    const int blocking = highest(serving());
    if (blocking < 0) return wanted;
    const int wanted_rank = (wanted - lowest_priority - 1) & 7;
    const int serving_rank = (blocking - lowest_priority - 1) & 7;
    return wanted_rank < serving_rank ? wanted : -1;
}

void I8259Pair::Chip::take(int line) {
    if ((edge_level & bit(line)) == 0) irr = static_cast<uint8_t>(irr & ~bit(line));
    if (auto_eoi) {
        if (rotate_on_auto_eoi) lowest_priority = static_cast<uint8_t>(line);
    } else {
        isr = static_cast<uint8_t>(isr | bit(line));
    }
}

void I8259Pair::Chip::end_of_interrupt(int line) {
    if (line >= 0) isr = static_cast<uint8_t>(isr & ~bit(line));
}

void I8259Pair::Chip::initialise(uint8_t value) {
    const uint8_t keep_lines = lines;
    const uint8_t keep_edge_level = edge_level;
    *this = Chip{};
    lines = keep_lines;
    edge_level = keep_edge_level;
    irr = static_cast<uint8_t>(lines & edge_level);
    needs_icw4 = (value & 0x01) != 0;
    init = InitStep::icw2;
}

void I8259Pair::Chip::command(uint8_t value) {
    if ((value & 0x10) != 0) return initialise(value);
    if ((value & 0x08) != 0) {  // OCW3
        if ((value & 0x04) != 0) poll = true;
        if ((value & 0x02) != 0) read_isr = (value & 0x01) != 0;
        if ((value & 0x40) != 0) special_mask = (value & 0x20) != 0;
        return;
    }
    const int named = value & 7;
    switch (value >> 5) {  // OCW2
        case 0:
            rotate_on_auto_eoi = false;
            break;
        case 1:
            end_of_interrupt(highest(serving()));
            break;
        case 3:
            end_of_interrupt(named);
            break;
        case 4:
            rotate_on_auto_eoi = true;
            break;
        case 5:
            if (const int line = highest(serving()); line >= 0) {
                end_of_interrupt(line);
                lowest_priority = static_cast<uint8_t>(line);
            }
            break;
        case 6:
            lowest_priority = static_cast<uint8_t>(named);
            break;
        case 7:
            end_of_interrupt(named);
            lowest_priority = static_cast<uint8_t>(named);
            break;
        default:
            break;  // 2: no operation
    }
}

void I8259Pair::Chip::data(uint8_t value) {
    switch (init) {
        case InitStep::none:
            imr = value;
            break;
        case InitStep::icw2:
            vector_base = value & 0xf8;
            init = InitStep::icw3;
            break;
        case InitStep::icw3:  // the wiring of a PC is fixed
            init = needs_icw4 ? InitStep::icw4 : InitStep::none;
            break;
        case InitStep::icw4:
            auto_eoi = (value & 0x02) != 0;
            init = InitStep::none;
            break;
    }
}

void I8259Pair::cascade() {
    Chip& primary = chips_[0];
    const bool high = chips_[1].request() >= 0;
    const bool was_high = (primary.lines & kCascadeMask) != 0;
    if (high) {
        primary.lines |= kCascadeMask;
        if (!was_high) primary.irr |= kCascadeMask;
    } else {
        primary.lines = static_cast<uint8_t>(primary.lines & ~kCascadeMask);
        primary.irr = static_cast<uint8_t>(primary.irr & ~kCascadeMask);
    }
}

void I8259Pair::set_line(uint8_t irq, bool high) {
    Chip& chip = chips_[irq >> 3];
    const uint8_t mask = bit(irq & 7);
    const bool was_high = (chip.lines & mask) != 0;
    if (high) {
        chip.lines |= mask;
        if (!was_high || (chip.edge_level & mask) != 0) chip.irr |= mask;
    } else {
        chip.lines = static_cast<uint8_t>(chip.lines & ~mask);
        // A request whose line falls before it is acknowledged is gone, for both kinds.
        chip.irr = static_cast<uint8_t>(chip.irr & ~mask);
    }
    cascade();
}

bool I8259Pair::interrupt_pending() const {
    return chips_[0].request() >= 0;
}

uint8_t I8259Pair::acknowledge() {
    const int line = chips_[0].request();
    if (line < 0) return static_cast<uint8_t>(chips_[0].vector_base + 7);
    chips_[0].take(line);
    if (line != kCascadeLine) return static_cast<uint8_t>(chips_[0].vector_base + line);
    const int second = chips_[1].request();
    uint8_t vector = static_cast<uint8_t>(chips_[1].vector_base + 7);
    if (second >= 0) {
        chips_[1].take(second);
        vector = static_cast<uint8_t>(chips_[1].vector_base + second);
    }
    // The secondary may have a further request for the primary once this one is in service.
    chips_[0].lines = static_cast<uint8_t>(chips_[0].lines & ~kCascadeMask);
    cascade();
    return vector;
}

void I8259Pair::write(uint16_t port, uint8_t value) {
    if (port >= layout::kPortPicEdgeLevel) {
        // IRQ 0, 1, 2, 8 and 13 are edge triggered on a PC, whatever is written.
        Chip& chip = chips_[port & 1];
        chip.edge_level = static_cast<uint8_t>(value & ((port & 1) == 0 ? 0xf8 : 0xde));
        chip.irr = static_cast<uint8_t>(chip.irr | (chip.lines & chip.edge_level));
    } else if ((port & 1) == 0) {
        chip_at(port).command(value);
    } else {
        chip_at(port).data(value);
    }
    // An end of interrupt at the secondary can free a request that waits there.
    chips_[0].lines = static_cast<uint8_t>(chips_[0].lines & ~kCascadeMask);
    cascade();
}

uint8_t I8259Pair::read(uint16_t port) {
    if (port >= layout::kPortPicEdgeLevel) return chips_[port & 1].edge_level;
    Chip& chip = chip_at(port);
    if (chip.poll) {
        chip.poll = false;
        const int line = chip.request();
        if (line < 0) return 0;
        chip.take(line);
        cascade();
        return static_cast<uint8_t>(0x80 | line);
    }
    if ((port & 1) != 0) return chip.imr;
    return chip.read_isr ? chip.isr : chip.irr;
}

void I8259Pair::save(StateWriter& out) const {
    for (const Chip& chip : chips_) {
        for (const uint8_t value : {chip.irr, chip.isr, chip.imr, chip.lines, chip.edge_level,
                                    chip.vector_base, chip.lowest_priority}) {
            out.put(value);
        }
        out.put(chip.init);
        for (const bool flag : {chip.needs_icw4, chip.auto_eoi, chip.rotate_on_auto_eoi,
                                chip.read_isr, chip.poll, chip.special_mask}) {
            out.put<uint8_t>(flag ? 1 : 0);
        }
    }
}

void I8259Pair::load(StateReader& in) {
    for (Chip& chip : chips_) {
        for (uint8_t* value : {&chip.irr, &chip.isr, &chip.imr, &chip.lines, &chip.edge_level,
                               &chip.vector_base, &chip.lowest_priority}) {
            in.get(*value);
        }
        if (chip.lowest_priority > 7) in.reject("interrupt controller: priority is out of range");
        chip.init = in.get_at_most(InitStep::icw4, "interrupt controller: unknown step");
        for (bool* flag : {&chip.needs_icw4, &chip.auto_eoi, &chip.rotate_on_auto_eoi,
                           &chip.read_isr, &chip.poll, &chip.special_mask}) {
            *flag = in.get_flag();
        }
    }
}

}  // namespace antipode::vmm
