// BandwidthSchedule: how much of the line bulk (resync, seeding) may use, by weekday and hour: of a
// protected VM's channel as well as of replicated disks.
// Text, one rule a line or separated by ';', the last that fits a moment counts:
//
//     always 50MB                  MB, kB, GB a second (powers of ten); 0 or "none": no cap
//     mon-fri 08:00-18:00 5MB
//     sat,sun 22:00-06:00 none     goes on past midnight into the next day
//
// Pure: whoever asks says what day and time it is, at the site's local clock.
// An empty schedule caps nothing.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"

namespace antipode {

class BandwidthSchedule {
  public:
    static constexpr int kMinutesOfDay = 24 * 60;
    static constexpr size_t kRulesMax = 256;

    // `origin` names the setting or file in errors.
    static Result<BandwidthSchedule> parse(std::string_view text, const std::string& origin);

    // Bytes a second, 0: no cap; nothing: no rule covers that moment. weekday: 0 = Monday.
    std::optional<uint64_t> rule_at(int weekday, int minute_of_day) const;
    uint64_t cap_at(int weekday, int minute_of_day) const {
        return rule_at(weekday, minute_of_day).value_or(0);
    }
    bool empty() const { return rules_.empty(); }

  private:
    struct Rule {
        uint8_t weekdays = 0;  // bit 0 = Monday
        int from = 0;
        int until = 0;  // at or before `from`: the next day
        uint64_t bytes_per_second = 0;
        bool covers(int weekday, int minute) const;
    };
    static Result<Rule> parse_rule(std::string_view text, const std::string& where);

    std::vector<Rule> rules_;
};

}  // namespace antipode
