// What a measured line means, in words and as JSON.
#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>

#include "replicator/control/link_test.h"

namespace antipode::control {
namespace {

namespace json = boost::json;

// What VMware reports for the log of real applications is 1.5 to 18 Mbit/s; a quiet guest's timer
// and digests stay below the first figure.
constexpr double kQuietNeed = 20e3 / 8;
constexpr double kOfficeNeed = 2e6 / 8;
constexpr double kBusyNeed = 20e6 / 8;
constexpr double kLossBad = 0.02;
constexpr Duration kLongWay = std::chrono::milliseconds(200);
constexpr Duration kQueueMuch = std::chrono::milliseconds(5);
constexpr double kGibibyte = 1 << 30;

double ms(Duration duration) {
    return std::chrono::duration<double, std::milli>(duration).count();
}

std::string rate_text(double bytes_per_second) {
    return fmt::format("{:.3g} MB/s ({:.3g} Mbit/s)", bytes_per_second / 1e6,
                       bytes_per_second * 8 / 1e6);
}

std::string time_text(double seconds) {
    if (seconds < 120) return fmt::format("{:.0f} s", seconds);
    if (seconds < 7200) return fmt::format("{:.0f} min", seconds / 60);
    return fmt::format("{:.1f} h", seconds / 3600);
}

std::string lockstep_text(double rate) {
    if (rate >= kBusyNeed) return "lockstep: yes, for busy VMs too (up to 20 Mbit/s of log)";
    if (rate >= kOfficeNeed) {
        return "lockstep: for VMs with moderate load (up to 2 Mbit/s of log); a busy one would be "
               "slowed to what the line carries";
    }
    if (rate >= kQuietNeed) return "lockstep: for a quiet VM only; the line carries little";
    return "lockstep: no, the line carries too little even for a quiet VM";
}

template <typename T>
json::value number_or_null(const std::optional<T>& value, double factor) {
    if (!value) return nullptr;
    if constexpr (std::is_same_v<T, Duration>) {
        return std::chrono::duration<double>(*value).count() * factor;
    } else {
        return static_cast<double>(*value) * factor;
    }
}

}  // namespace

std::vector<std::string> judge(const LinkReport& report) {
    std::vector<std::string> lines;
    for (size_t i = 0; i < report.paths.size(); ++i) {
        const auto& path = report.paths[i];
        if (!path.rtt) {
            lines.push_back(
                fmt::format("PROBLEM: no heartbeat comes through on path {} ({}, peer "
                            "{}): is UDP let through both ways?",
                            i + 1, path.listen, path.peer));
        } else if (path.loss.value_or(0) > kLossBad) {
            lines.push_back(fmt::format("warning: path {} loses {:.1f} % of the heartbeats", i + 1,
                                        *path.loss * 100));
        }
    }
    if (report.reconnects > 0) {
        lines.push_back(fmt::format("warning: the connection broke {} times", report.reconnects));
    }
    if (report.quiet_p50 > kLongWay) {
        lines.push_back(
            "warning: each answer of the VM waits for a round trip of more than 200 ms");
    }
    const Duration queue = report.loaded_p50 - report.quiet_p50;
    if (queue > kQueueMuch) {
        lines.push_back(
            fmt::format("warning: beside a resync a log entry is {:.1f} ms later; cap "
                        "it with channel.bulk_schedule",
                        ms(queue)));
    }
    const double rate = std::min(report.out_bytes_per_second, report.in_bytes_per_second);
    lines.push_back(lockstep_text(rate));
    lines.push_back(fmt::format(
        "checkpoint mode: up to {:.0f} changed pages a second that do not compress", rate / 4096));
    lines.push_back(
        fmt::format("an answer of the VM leaves {:.1f} ms later than without protection "
                    "(p99 {:.1f} ms)",
                    ms(report.quiet_p50), ms(report.quiet_p99)));
    lines.push_back(
        fmt::format("a lost site is suspected after {:.0f} ms of silence", ms(report.detection)));
    if (rate > 0) {
        lines.push_back(fmt::format("seeding 1 GiB of memory takes {}, a full sync of 100 GiB {}",
                                    time_text(kGibibyte / rate),
                                    time_text(100 * kGibibyte / rate)));
    }
    return lines;
}

std::string to_text(const LinkReport& report) {
    std::string text =
        fmt::format("{} - {} ({})\n", report.site, report.peer_site, report.peer_software);
    for (size_t i = 0; i < report.paths.size(); ++i) {
        const auto& path = report.paths[i];
        if (!path.rtt) continue;
        text += fmt::format(
            "  heartbeats, path {}: round trip {:.2f} ms, jitter {:.2f} ms, loss "
            "{:.2f} %\n",
            i + 1, ms(*path.rtt), ms(path.jitter.value_or(Duration::zero())),
            path.loss.value_or(0) * 100);
    }
    text += fmt::format("  channel, quiet:       round trip p50 {:.2f} ms, p99 {:.2f} ms\n",
                        ms(report.quiet_p50), ms(report.quiet_p99));
    text += fmt::format("  channel, beside bulk: round trip p50 {:.2f} ms, p99 {:.2f} ms\n",
                        ms(report.loaded_p50), ms(report.loaded_p99));
    text += fmt::format("  {} -> {}: {}\n", report.site, report.peer_site,
                        rate_text(report.out_bytes_per_second));
    text += fmt::format("  {} -> {}: {}\n", report.peer_site, report.site,
                        rate_text(report.in_bytes_per_second));
    for (const auto& line : judge(report)) text += line + "\n";
    return text;
}

std::string to_json_text(const LinkReport& report) {
    json::object out;
    out["site"] = report.site;
    out["peer_site"] = report.peer_site;
    json::array paths;
    for (const auto& path : report.paths) {
        json::object o;
        o["listen"] = path.listen;
        o["peer"] = path.peer;
        o["rtt_ms"] = number_or_null(path.rtt, 1e3);
        o["jitter_ms"] = number_or_null(path.jitter, 1e3);
        o["loss_ratio"] = number_or_null(path.loss, 1);
        o["clock_offset_ms"] = number_or_null(path.clock_offset, 1e3);
        paths.push_back(std::move(o));
    }
    out["paths"] = std::move(paths);
    out["quiet_p50_ms"] = ms(report.quiet_p50);
    out["quiet_p99_ms"] = ms(report.quiet_p99);
    out["loaded_p50_ms"] = ms(report.loaded_p50);
    out["loaded_p99_ms"] = ms(report.loaded_p99);
    out["out_bytes_per_second"] = report.out_bytes_per_second;
    out["in_bytes_per_second"] = report.in_bytes_per_second;
    out["detection_ms"] = ms(report.detection);
    out["reconnects"] = report.reconnects;
    json::array verdict;
    for (const auto& line : judge(report)) verdict.emplace_back(line);
    out["verdict"] = std::move(verdict);
    return json::serialize(out);
}

}  // namespace antipode::control
