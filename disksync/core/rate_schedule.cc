#include "disksync/core/rate_schedule.h"

#include <algorithm>
#include <array>
#include <charconv>

namespace antipode::disksync {

namespace {

constexpr std::array<std::string_view, 7> kDays{"sun", "mon", "tue", "wed", "thu", "fri", "sat"};
constexpr int kDayMinutes = 24 * 60;

std::optional<uint64_t> number_of(std::string_view text) {
    uint64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
    return value;
}

std::optional<int> day_of(std::string_view text) {
    const auto found = std::find(kDays.begin(), kDays.end(), text);
    if (found == kDays.end()) return std::nullopt;
    return static_cast<int>(found - kDays.begin());
}

std::optional<uint8_t> days_of(std::string_view text) {
    if (text == "daily") return uint8_t{0x7f};
    const size_t dash = text.find('-');
    const auto first = day_of(text.substr(0, dash));
    const auto last = dash == std::string_view::npos ? first : day_of(text.substr(dash + 1));
    if (!first || !last) return std::nullopt;
    unsigned days = 0;
    for (int day = *first;; day = (day + 1) % 7) {
        days |= 1u << day;
        if (day == *last) return static_cast<uint8_t>(days);
    }
}

// "08:30"; "24:00" is the end of a day.
std::optional<int> minute_of(std::string_view text) {
    if (text.size() != 5 || text[2] != ':') return std::nullopt;
    const auto hours = number_of(text.substr(0, 2));
    const auto minutes = number_of(text.substr(3));
    if (!hours || !minutes || *minutes > 59) return std::nullopt;
    const auto minute = static_cast<int>(*hours * 60 + *minutes);
    return minute <= kDayMinutes ? std::optional(minute) : std::nullopt;
}

}  // namespace

Result<> RateSchedule::add(const std::string& text) {
    const auto wrong = [&](const char* what) {
        return fail(Errc::invalid_argument,
                    "\"{}\": {}; expected for instance \"mon-fri 08:00-18:00 10000000\"", text,
                    what);
    };
    if (entries_.size() >= kEntriesMax) return wrong("too many entries");
    const std::string_view all = text;
    const size_t first = all.find(' ');
    const size_t second = first == std::string_view::npos ? first : all.find(' ', first + 1);
    if (second == std::string_view::npos) return wrong("not three words");
    const auto days = days_of(all.substr(0, first));
    if (!days) return wrong("the days are none");
    const std::string_view hours = all.substr(first + 1, second - first - 1);
    const size_t dash = hours.find('-');
    if (dash == std::string_view::npos) return wrong("the hours are none");
    const auto from = minute_of(hours.substr(0, dash));
    const auto until = minute_of(hours.substr(dash + 1));
    if (!from || !until || *from == kDayMinutes || *from == *until) {
        return wrong("the hours are none");
    }
    const auto rate = number_of(all.substr(second + 1));
    if (!rate) return wrong("the bytes a second are no whole number");
    entries_.push_back({*days, *from, *until, *rate});
    return {};
}

std::optional<uint64_t> RateSchedule::at(int weekday, int minute) const {
    const auto on = [](const Entry& entry, int day) {
        return (entry.days >> ((day + 7) % 7) & 1) != 0;
    };
    for (const Entry& entry : entries_) {
        const bool past_midnight = entry.until_minute <= entry.from_minute;
        const bool covers =
            past_midnight
                ? (minute >= entry.from_minute && on(entry, weekday)) ||
                      (minute < entry.until_minute && on(entry, weekday - 1))
                : minute >= entry.from_minute && minute < entry.until_minute && on(entry, weekday);
        if (covers) return entry.bytes_per_second;
    }
    return std::nullopt;
}

}  // namespace antipode::disksync
