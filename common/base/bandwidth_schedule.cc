#include "common/base/bandwidth_schedule.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

namespace antipode {
namespace {

constexpr std::array<std::string_view, 7> kDays{"mon", "tue", "wed", "thu", "fri", "sat", "sun"};
constexpr double kCapMax = 1e12;

std::string_view trimmed(std::string_view text) {
    while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
    while (!text.empty() && (text.back() == ' ' || text.back() == '\t' || text.back() == '\r')) {
        text.remove_suffix(1);
    }
    return text;
}

// The next word; `text` goes on behind it.
std::string_view next_word(std::string_view& text) {
    text = trimmed(text);
    const size_t end = std::min(text.find_first_of(" \t"), text.size());
    const std::string_view word = text.substr(0, end);
    text.remove_prefix(end);
    return word;
}

Result<int> parse_day(std::string_view text, const std::string& where) {
    const auto found = std::find(kDays.begin(), kDays.end(), text);
    if (found == kDays.end()) {
        return fail(Errc::invalid_argument, "{}: '{}' is no day, expected mon to sun", where, text);
    }
    return static_cast<int>(found - kDays.begin());
}

// "mon-fri,sun"
Result<uint8_t> parse_days(std::string_view text, const std::string& where) {
    uint8_t days = 0;
    while (!text.empty()) {
        const size_t comma = std::min(text.find(','), text.size());
        const std::string_view item = text.substr(0, comma);
        text.remove_prefix(std::min(comma + 1, text.size()));
        const size_t dash = item.find('-');
        FT_TRY(const int first, parse_day(item.substr(0, dash), where));
        int last = first;
        if (dash != std::string_view::npos) {
            FT_TRY(last, parse_day(item.substr(dash + 1), where));
        }
        for (int day = first;; day = (day + 1) % 7) {
            days = static_cast<uint8_t>(days | 1u << day);
            if (day == last) break;
        }
    }
    return days;
}

Result<int> parse_time(std::string_view text, const std::string& where) {
    int hour = -1;
    int minute = -1;
    const char* end = text.data() + text.size();
    const auto hours = std::from_chars(text.data(), end, hour);
    if (hours.ec == std::errc() && hours.ptr != end && *hours.ptr == ':') {
        const auto minutes = std::from_chars(hours.ptr + 1, end, minute);
        if (minutes.ec != std::errc() || minutes.ptr != end || minutes.ptr != hours.ptr + 3) {
            minute = -1;
        }
    }
    const bool midnight = hour == 24 && minute == 0;
    if (!midnight && (hour < 0 || hour > 23 || minute < 0 || minute > 59)) {
        return fail(Errc::invalid_argument, "{}: '{}' is no time, expected 00:00 to 24:00", where,
                    text);
    }
    return hour * 60 + minute;
}

Result<uint64_t> parse_rate(std::string_view text, const std::string& where) {
    if (text == "none") return uint64_t{0};
    double value = 0;
    const char* end = text.data() + text.size();
    const auto parsed = std::from_chars(text.data(), end, value);
    const std::string_view unit(parsed.ptr, static_cast<size_t>(end - parsed.ptr));
    double factor = 0;
    if (unit == "B" || unit.empty()) factor = 1;
    if (unit == "kB") factor = 1e3;
    if (unit == "MB") factor = 1e6;
    if (unit == "GB") factor = 1e9;
    const double rate = value * factor;
    const bool good = parsed.ec == std::errc() && std::isfinite(rate) && factor != 0 &&
                      (value == 0 || rate >= 1) && value >= 0 && rate <= kCapMax;
    if (!good) {
        return fail(Errc::invalid_argument,
                    "{}: '{}' is no rate, expected for example 500kB, 20MB or none", where, text);
    }
    return static_cast<uint64_t>(rate);
}

}  // namespace

Result<BandwidthSchedule::Rule> BandwidthSchedule::parse_rule(std::string_view text,
                                                              const std::string& where) {
    Rule rule;
    const std::string_view days = next_word(text);
    if (days == "always") {
        rule.weekdays = 0x7f;
        rule.until = kMinutesOfDay;
    } else {
        FT_TRY(rule.weekdays, parse_days(days, where));
        const std::string_view times = next_word(text);
        const size_t dash = times.find('-');
        if (dash == std::string_view::npos) {
            return fail(Errc::invalid_argument,
                        "{}: '{}' is no span of time, expected for example 08:00-18:00", where,
                        times);
        }
        FT_TRY(rule.from, parse_time(times.substr(0, dash), where));
        FT_TRY(rule.until, parse_time(times.substr(dash + 1), where));
        if (rule.from == kMinutesOfDay || rule.from == rule.until) {
            return fail(Errc::invalid_argument, "{}: '{}' is an empty span of time", where, times);
        }
    }
    FT_TRY(rule.bytes_per_second, parse_rate(next_word(text), where));
    if (!trimmed(text).empty()) {
        return fail(Errc::invalid_argument, "{}: '{}' behind the rate", where, trimmed(text));
    }
    return rule;
}

Result<BandwidthSchedule> BandwidthSchedule::parse(std::string_view text,
                                                   const std::string& origin) {
    BandwidthSchedule schedule;
    size_t number = 0;
    while (!text.empty()) {
        const size_t end = std::min(text.find_first_of("\n;"), text.size());
        const std::string_view line = trimmed(text.substr(0, end));
        text.remove_prefix(std::min(end + 1, text.size()));
        ++number;
        if (line.empty() || line.front() == '#') continue;
        if (schedule.rules_.size() == kRulesMax) {
            return fail(Errc::limit, "{}: more than {} rules", origin, kRulesMax);
        }
        FT_TRY(const Rule rule, parse_rule(line, fmt::format("{}: rule {}", origin, number)));
        schedule.rules_.push_back(rule);
    }
    return schedule;
}

bool BandwidthSchedule::Rule::covers(int weekday, int minute) const {
    const auto on = [this](int day) { return (weekdays >> day & 1) != 0; };
    if (from < until) return on(weekday) && minute >= from && minute < until;
    return (on(weekday) && minute >= from) || (on((weekday + 6) % 7) && minute < until);
}

std::optional<uint64_t> BandwidthSchedule::rule_at(int weekday, int minute_of_day) const {
    std::optional<uint64_t> cap;
    for (const Rule& rule : rules_) {
        if (rule.covers(weekday, minute_of_day)) cap = rule.bytes_per_second;
    }
    return cap;
}

}  // namespace antipode
