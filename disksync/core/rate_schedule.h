// RateSchedule: what a resync may send at which time of the week.
//
// An entry is a line of words: "mon-fri 08:00-18:00 10000000": days (one, a range, or "daily"),
// from and until (local time, may go past midnight), bytes a second. The first entry that covers a
// moment counts.
//
// Pure values; any thread. On failure Errc::invalid_argument names the entry and what is wrong.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"

namespace antipode::disksync {

class RateSchedule {
  public:
    static constexpr size_t kEntriesMax = 64;

    Result<> add(const std::string& text);
    bool empty() const { return entries_.empty(); }
    // `weekday`: 0 = Sunday, as in struct tm; `minute`: of the day. Nothing: no entry covers it.
    std::optional<uint64_t> at(int weekday, int minute) const;

  private:
    struct Entry {
        uint8_t days = 0;  // bit 0 = Sunday
        int from_minute = 0;
        int until_minute = 0;  // exclusive; not after from_minute: of the next day
        uint64_t bytes_per_second = 0;
    };
    std::vector<Entry> entries_;
};

}  // namespace antipode::disksync
