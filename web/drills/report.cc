#include "web/drills/report.h"

#include <algorithm>

#include "web/security/secrets.h"

namespace antipode::web {
namespace {

using json::array;
using json::object;
using json::value;

constexpr size_t kOutputBytesMax = 8192;

template <typename T>
value or_null(const std::optional<T>& given) {
    return given ? value(*given) : value(nullptr);
}

value copy_json(const control::DrillStatus& copy) {
    object out;
    out["copied_unix_ms"] = or_null(copy.copied_unix_ms);
    out["epoch"] = copy.epoch.value();
    out["log_index"] = copy.log_index.value();
    out["network"] = control::word(copy.network);
    out["lag_seconds"] = or_null(copy.lag_seconds);
    out["copy_seconds"] = or_null(copy.copy_seconds);
    out["live_seconds"] = or_null(copy.live_seconds);
    out["exits"] = copy.exits;
    out["memory_bytes"] = copy.memory_bytes;
    out["overlay_bytes"] = copy.overlay_bytes;
    out["sent_frames"] = copy.sent_frames;
    out["received_frames"] = copy.received_frames;
    array disks;
    for (const control::DrillDisk& disk : copy.disks) {
        object one;
        one["id"] = disk.id;
        one["size_bytes"] = disk.size_bytes;
        one["sha256"] = disk.sha256.empty() ? value(nullptr) : value(disk.sha256);
        disks.push_back(std::move(one));
    }
    out["disks"] = std::move(disks);
    return out;
}

value check_json(const CheckOutcome& check, const DrillPlan& plan) {
    object out;
    out["asked"] = plan.check_text();
    out["passed"] = check.passed;
    out["seconds"] = check.seconds;
    out["text"] = check.text;
    out["output"] = control::printable(check.output, kOutputBytesMax);
    return out;
}

value measured_json(const DrillReport& report) {
    object out;
    out["rpo_seconds"] = or_null(report.rpo_seconds);
    out["rpo_basis"] = report.rpo_basis;
    out["rto_seconds"] = or_null(report.rto_seconds);
    out["rto_basis"] = report.rto_basis;
    out["service_seconds"] = or_null(report.service_seconds);
    return out;
}

value protection_json(const DrillReport& report) {
    object out;
    out["samples"] = report.samples;
    out["samples_protected"] = report.samples_protected;
    out["digests_checked"] = or_null(report.digests_checked);
    out["digest_mismatches"] = or_null(report.digest_mismatches);
    out["epoch_before"] = report.epoch_before.value();
    out["epoch_after"] = report.epoch_after.value();
    return out;
}

}  // namespace

std::string_view word(Verdict verdict) {
    switch (verdict) {
        case Verdict::passed:
            return "passed";
        case Verdict::failed:
            return "failed";
        case Verdict::stopped:
            return "stopped";
    }
    return {};
}

void DrillReport::find(control::Severity severity, std::string text) {
    findings.push_back({severity, std::move(text)});
}

bool DrillReport::has_errors() const {
    return std::any_of(findings.begin(), findings.end(), [](const DrillFinding& finding) {
        return finding.severity == control::Severity::error;
    });
}

json::object to_json(const DrillReport& report) {
    object out;
    out["format"] = "antipode-drill-report";
    out["version"] = 1;
    out["software"] = ANTIPODE_VERSION;
    out["id"] = report.id;
    out["pair"] = report.plan.pair;
    out["site"] = report.site;
    out["peer_site"] = report.peer_site;
    out["actor"] = report.actor;
    out["plan"] = to_json(report.plan);
    out["started_unix_ms"] = report.started_unix_ms;
    out["ended_unix_ms"] = report.ended_unix_ms;
    out["verdict"] = word(report.verdict);
    array findings;
    for (const DrillFinding& finding : report.findings) {
        object one;
        one["severity"] = control::word(finding.severity);
        one["text"] = finding.text;
        findings.push_back(std::move(one));
    }
    out["findings"] = std::move(findings);
    out["measured"] = measured_json(report);
    out["check"] = report.check ? check_json(*report.check, report.plan) : value(nullptr);
    out["copy"] = report.copy ? copy_json(*report.copy) : value(nullptr);
    out["protection"] = protection_json(report);
    array timeline;
    for (const TimelineEntry& entry : report.timeline) {
        object one;
        one["time_unix_ms"] = entry.time_unix_ms;
        one["source"] = entry.source;
        one["code"] = entry.code;
        one["text"] = entry.text;
        timeline.push_back(std::move(one));
    }
    out["timeline"] = std::move(timeline);
    return out;
}

}  // namespace antipode::web
