#include "tests/system/wan_link/direction.h"

#include <algorithm>
#include <charconv>
#include <cmath>

namespace antipode::wan {
namespace {

Result<double> number(std::string_view field, std::string_view value, double low, double high) {
    double parsed = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), parsed);
    if (error != std::errc() || end != value.data() + value.size()) {
        return fail(Errc::invalid_argument, "{} is '{}', not a number", field, value);
    }
    if (!(parsed >= low && parsed <= high)) {
        return fail(Errc::invalid_argument, "{} is {}, not in {} to {}", field, value, low, high);
    }
    return parsed;
}

Duration milliseconds(double count) {
    return std::chrono::duration_cast<Duration>(std::chrono::duration<double, std::milli>(count));
}

}  // namespace

Result<> set_field(Settings& settings, std::string_view field, std::string_view value) {
    struct Time {
        std::string_view name;
        Duration Settings::*member;
    };
    static constexpr Time kTimes[] = {
        {"delay_ms", &Settings::delay},           {"jitter_ms", &Settings::jitter},
        {"queue_ms", &Settings::queue},           {"stall_ms", &Settings::stall},
        {"reorder_ms", &Settings::reorder_delay},
    };
    struct Share {
        std::string_view name;
        double Settings::*member;
    };
    static constexpr Share kShares[] = {
        {"loss", &Settings::loss},
        {"duplicate", &Settings::duplicate},
        {"reorder", &Settings::reorder},
    };
    for (const auto& time : kTimes) {
        if (field != time.name) continue;
        FT_TRY(const double count, number(field, value, 0, 60'000));
        settings.*time.member = milliseconds(count);
        return {};
    }
    for (const auto& share : kShares) {
        if (field != share.name) continue;
        FT_TRY(settings.*share.member, number(field, value, 0, 1));
        return {};
    }
    if (field == "rate_mbytes") {
        FT_TRY(const double megabytes, number(field, value, 0, 100'000));
        settings.rate_bytes_per_second = megabytes * 1e6;
        return {};
    }
    if (field == "tail_drop") {
        FT_TRY(const double on, number(field, value, 0, 1));
        settings.tail_drop = on != 0;
        return {};
    }
    return fail(Errc::invalid_argument, "there is no setting '{}'", field);
}

size_t Direction::piece_bytes_max() const {
    if (settings_.rate_bytes_per_second <= 0) return kPieceBytesMax;
    const auto bytes = static_cast<size_t>(settings_.rate_bytes_per_second / 1000);
    return std::clamp(bytes, kSegmentBytes, kPieceBytesMax);
}

Duration Direction::transmission(size_t bytes) const {
    if (settings_.rate_bytes_per_second <= 0) return {};
    const double seconds = static_cast<double>(bytes) / settings_.rate_bytes_per_second;
    return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds));
}

Instant Direction::transmitted(Instant now, size_t bytes) {
    line_free_ = std::max(line_free_, now) + transmission(bytes);
    return line_free_;
}

Duration Direction::travel() {
    if (settings_.jitter <= Duration::zero()) return settings_.delay;
    const double part = random_.unit() * 2 - 1;
    const auto jitter =
        static_cast<Duration::rep>(static_cast<double>(settings_.jitter.count()) * part);
    return std::max(settings_.delay + Duration(jitter), Duration::zero());
}

Instant Direction::stream(Instant now, size_t bytes, Instant floor, Duration round_trip) {
    Instant arrival = transmitted(now, bytes) + travel();
    if (settings_.loss > 0) {
        const auto segments = static_cast<double>((bytes + kSegmentBytes - 1) / kSegmentBytes);
        if (random_.chance(1 - std::pow(1 - settings_.loss, segments))) {
            arrival += settings_.stall > Duration::zero() ? settings_.stall : round_trip;
            ++stats_.stalls;
        }
    }
    stats_.stream_bytes += bytes;
    return std::max(arrival, floor);
}

Direction::Arrivals Direction::datagram(Instant now, size_t bytes, Instant floor) {
    Arrivals arrivals;
    ++stats_.datagrams;
    if (cut_ != Cut::none) {
        ++stats_.datagrams_cut;
        return arrivals;
    }
    // As full as a stream fills it, it still takes a datagram: a stream is held back here, where a
    // real one would lose a segment and yield. With tail_drop it does not: the worst of lines.
    const Duration room = settings_.tail_drop ? Duration::zero() : transmission(piece_bytes_max());
    if (room_at() - room > now) {
        ++stats_.datagrams_overflow;
        return arrivals;
    }
    if (random_.chance(settings_.loss)) {
        ++stats_.datagrams_lost;
        return arrivals;
    }
    stats_.datagram_bytes += bytes;
    arrivals.at[0] = transmitted(now, bytes) + travel();
    arrivals.count = 1;
    if (random_.chance(settings_.reorder)) {
        arrivals.at[0] += settings_.reorder_delay;
        arrivals.in_order = false;
        ++stats_.datagrams_reordered;
    } else {
        arrivals.at[0] = std::max(arrivals.at[0], floor);
    }
    if (random_.chance(settings_.duplicate)) {
        arrivals.at[1] = arrivals.at[0] + travel() / 10 + std::chrono::microseconds(100);
        arrivals.count = 2;
        ++stats_.datagrams_duplicated;
    }
    return arrivals;
}

void Direction::buffered(size_t bytes) {
    stats_.buffered_bytes += bytes;
    stats_.buffered_bytes_peak = std::max(stats_.buffered_bytes_peak, stats_.buffered_bytes);
}

void Direction::delivered(Instant planned, Instant now) {
    const Duration lateness = std::max(now - planned, Duration::zero());
    stats_.lateness_max = std::max(stats_.lateness_max, lateness);
    stats_.lateness_sum += lateness;
    ++stats_.deliveries;
}

}  // namespace antipode::wan
