// The report of a drill: what happened when, what was measured, and what follows from it. The same
// facts as JSON, which is what is signed, and as an HTML page that prints well.
//
// Threads: values; pure functions.
// INVARIANTS: a number that was not measured is absent, never 0; `verdict` is passed only when no
// finding is an error. Texts of guests and commands are printable and bounded.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "replicator/control/control_api.h"
#include "web/drills/plan.h"

namespace antipode::web {

struct TimelineEntry {
    int64_t time_unix_ms = 0;
    std::string source;  // "drill", or the site that said so
    std::string code;    // of the event, or of the drill's step
    std::string text;
};

struct DrillFinding {
    control::Severity severity = control::Severity::info;
    std::string text;
};

enum class Verdict { passed = 1, failed, stopped };
std::string_view word(Verdict verdict);

struct CheckOutcome {
    bool passed = false;
    double seconds = 0;  // from when the copy ran
    std::string text;
    std::string output;  // what the command wrote, or the console showed
};

struct DrillReport {
    std::string id;
    DrillPlan plan;
    std::string site;  // where the drill was run from
    std::string peer_site;
    std::string actor;
    int64_t started_unix_ms = 0;
    int64_t ended_unix_ms = 0;
    Verdict verdict = Verdict::failed;
    std::vector<DrillFinding> findings;
    // What was not visible outside and would have been done again, as time; and from the loss until
    // the VM went on.
    std::optional<double> rpo_seconds;
    std::string rpo_basis;
    std::optional<double> rto_seconds;
    std::string rto_basis;
    std::optional<double> service_seconds;  // until the check passed
    std::optional<CheckOutcome> check;
    std::optional<control::DrillStatus> copy;
    uint64_t samples = 0;  // of the pair's protection while the drill ran
    uint64_t samples_protected = 0;
    std::optional<uint64_t> digests_checked;  // of replay, meanwhile
    std::optional<uint64_t> digest_mismatches;
    Epoch epoch_before;
    Epoch epoch_after;
    std::vector<TimelineEntry> timeline;

    void find(control::Severity severity, std::string text);
    bool has_errors() const;
};

json::object to_json(const DrillReport& report);
// `document` is the report's JSON as it was signed; `signer` says by whom.
std::string report_html(const json::object& report, std::string_view signer,
                        std::string_view sha256);
// "'sha256-...'" of the page's one style sheet, for its Content-Security-Policy.
const std::string& report_style_source();

}  // namespace antipode::web
