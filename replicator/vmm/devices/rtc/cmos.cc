#include "replicator/vmm/devices/rtc/cmos.h"

#include <chrono>

#include "replicator/vmm/layout.h"

namespace antipode::vmm {
namespace {

constexpr uint64_t kSecondsMask = 0x7fffffffff;
constexpr uint8_t kSeconds = 0;
constexpr uint8_t kStatusA = 10;
constexpr uint8_t kStatusB = 11;
constexpr uint8_t kStatusC = 12;
constexpr uint8_t kStatusD = 13;
constexpr uint8_t kCentury = 0x32;
constexpr uint8_t kIndexMax = 0x7f;

uint8_t bcd(unsigned value) {
    return static_cast<uint8_t>((value / 10 % 10) << 4 | value % 10);
}

bool is_time(uint8_t index) {
    return index <= 9 || index == kCentury;
}

}  // namespace

uint8_t CmosRtc::time_register(uint8_t index) const {
    using namespace std::chrono;
    const sys_seconds now{seconds{static_cast<int64_t>(seconds_since_1970_)}};
    const auto day = floor<days>(now);
    const year_month_day date{day};
    const hh_mm_ss<seconds> time{now - day};
    const auto year_number = static_cast<unsigned>(static_cast<int>(date.year()));
    switch (index) {
        case kSeconds:
            return bcd(static_cast<unsigned>(time.seconds().count()));
        case 2:
            return bcd(static_cast<unsigned>(time.minutes().count()));
        case 4:
            return bcd(static_cast<unsigned>(time.hours().count()));
        case 6:
            return bcd(weekday{day}.c_encoding() + 1);
        case 7:
            return bcd(static_cast<unsigned>(date.day()));
        case 8:
            return bcd(static_cast<unsigned>(date.month()));
        case 9:
            return bcd(year_number % 100);
        case kCentury:
            return bcd(year_number / 100);
        default:
            return 0;  // alarm registers
    }
}

void CmosRtc::write(uint16_t port, uint8_t value) {
    if (port == layout::kPortCmosIndex) {
        index_ = value & kIndexMax;
    } else if (!is_time(index_)) {  // the guest cannot set the host's clock
        ram_[index_] = value;
    }
}

uint8_t CmosRtc::read(uint16_t port, InputSource& inputs) {
    if (port == layout::kPortCmosIndex) return 0xff;
    if (is_time(index_)) {
        if (index_ == kSeconds || seconds_since_1970_ == 0) {
            // A wrong log entry must be a date, too: the calendar ends with the year 32767.
            seconds_since_1970_ = inputs.read(InputKind::wall_clock) & kSecondsMask;
        }
        return time_register(index_);
    }
    switch (index_) {
        case kStatusA:
            return 0x26;  // 32768 Hz base, no update in progress
        case kStatusB:
            return 0x02;  // BCD, 24 hours
        case kStatusC:
            return 0x00;
        case kStatusD:
            return 0x80;  // battery is good
        default:
            return ram_[index_];
    }
}

void CmosRtc::save(StateWriter& out) const {
    out.put(index_);
    out.put(seconds_since_1970_);
    out.put_fixed(ram_);
}

void CmosRtc::load(StateReader& in) {
    index_ = in.get_at_most<uint8_t>(kIndexMax, "clock: index is out of range");
    seconds_since_1970_ = in.get_at_most(kSecondsMask, "clock: date is out of range");
    for (uint8_t& value : ram_) in.get(value);
}

}  // namespace antipode::vmm
