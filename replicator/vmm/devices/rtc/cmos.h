// The CMOS real-time clock of a PC (Motorola MC146818A data sheet), ports 0x70 and 0x71: the date
// in BCD, 24-hour form. The time comes through InputSource (logged); alarms and the periodic
// interrupt are not there, and the update-in-progress bit never shows: each register is computed
// from one reading that is taken when the seconds register is read and kept until then.
//
// A pure state machine on the vCPU thread.
#pragma once

#include <array>
#include <cstdint>

#include "replicator/vmm/inputs.h"
#include "replicator/vmm/state_io.h"

namespace antipode::vmm {

class CmosRtc {
  public:
    void write(uint16_t port, uint8_t value);
    uint8_t read(uint16_t port, InputSource& inputs);

    void save(StateWriter& out) const;
    void load(StateReader& in);

  private:
    uint8_t time_register(uint8_t index) const;

    uint8_t index_ = 0;
    uint64_t seconds_since_1970_ = 0;  // the last reading
    std::array<uint8_t, 128> ram_{};
};

}  // namespace antipode::vmm
