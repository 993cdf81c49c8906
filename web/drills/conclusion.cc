// How a drill went: its measures, its timeline and its verdict; see run.h.
#include <algorithm>
#include <charconv>

#include "common/base/log.h"
#include "web/drills/run.h"

namespace antipode::web {
namespace {

using control::EventCode;
using control::Severity;

constexpr int64_t kTimelineMax = 500;
constexpr std::string_view kPauseField = "pause_ms=";

std::optional<double> pause_of(std::string_view text) {
    const size_t at = text.find(kPauseField);
    if (at == std::string_view::npos) return std::nullopt;
    const std::string number(text.substr(at + kPauseField.size()));
    const double milliseconds = std::strtod(number.c_str(), nullptr);
    return milliseconds / 1000;
}

}  // namespace

std::vector<StoredEvent> DrillRun::events_since(int64_t since_unix_ms) const {
    EventFilter filter;
    filter.pair = plan_.pair;
    filter.limit = kTimelineMax;
    auto found = drills_.events_.find(filter);
    if (!found) {
        logger("web").error("drill: {}", found.error().to_string());
        return {};
    }
    std::erase_if(*found, [&](const StoredEvent& stored) {
        return stored.event.event.time_unix_ms < since_unix_ms;
    });
    std::reverse(found->begin(), found->end());
    return std::move(*found);
}

// How long the guest stood, as the site that handed over said.
std::optional<double> DrillRun::pause_seconds(int64_t since_unix_ms) const {
    std::optional<double> out;
    for (const StoredEvent& stored : events_since(since_unix_ms)) {
        if (stored.event.event.code != EventCode::switchover_finished) continue;
        if (const auto pause = pause_of(stored.event.event.text)) out = pause;
    }
    return out;
}

void DrillRun::collect_events() {
    for (const StoredEvent& stored : events_since(report_.started_unix_ms)) {
        const control::Event& event = stored.event.event;
        report_.timeline.push_back({event.time_unix_ms, stored.event.site,
                                    std::string(control::word(event.code)), event.text});
    }
    std::stable_sort(report_.timeline.begin(), report_.timeline.end(),
                     [](const TimelineEntry& a, const TimelineEntry& b) {
                         return a.time_unix_ms < b.time_unix_ms;
                     });
}

// From the fault until the VM's output went on: where nobody went live, nobody had to.
void DrillRun::measure_fault() {
    report_.rpo_seconds = 0;
    report_.rpo_basis =
        "the pair was protected when the fault came: nothing left the VM that the "
        "backup had not";
    // A backup that has won goes on when it has consumed its log; a primary at once.
    std::optional<int64_t> went_on;
    for (const EventCode wanted : {EventCode::went_live, EventCode::acquire_won}) {
        if (went_on) break;
        for (const StoredEvent& stored : events_since(fault_unix_ms_)) {
            if (stored.event.event.code != wanted) continue;
            const int64_t at = stored.event.event.time_unix_ms;
            went_on = std::min(went_on.value_or(at), at);
        }
    }
    if (went_on) {
        report_.rto_seconds = static_cast<double>(*went_on - fault_unix_ms_) / 1000;
        report_.rto_basis = "from the fault until a site had the pair to itself and went on";
    } else if (report_.epoch_after == report_.epoch_before) {
        report_.rto_seconds = 0;
        report_.rto_basis = "the VM never changed hands";
    } else {
        report_.rto_basis = "the site that went on is not on this host; its page has the event";
    }
}

void DrillRun::judge_protection() {
    uint64_t checked = 0;
    uint64_t mismatches = 0;
    for (const View* view : drills_.fleet_.views(plan_.pair)) {
        if (!view->status) continue;
        report_.epoch_after = std::max(report_.epoch_after, view->status->epoch);
        const auto before = digests_before_[view->id];
        const control::DigestStatus& now = view->status->digest;
        // A process that was replaced counts from 0.
        const bool same = now.checked >= before.first;
        checked += now.checked - (same ? before.first : 0);
        mismatches += now.mismatches - (same ? std::min(before.second, now.mismatches) : 0);
    }
    report_.digests_checked = checked;
    report_.digest_mismatches = mismatches;
    if (mismatches > 0) {
        report_.find(Severity::error, fmt::format("{} digests of replay differed", mismatches));
    }
    if (plan_.kind != DrillKind::isolated) return;
    if (report_.samples_protected != report_.samples) {
        report_.find(Severity::error,
                     fmt::format("the pair was not protected in {} of {} samples",
                                 report_.samples - report_.samples_protected, report_.samples));
    }
    if (report_.epoch_after != report_.epoch_before) {
        report_.find(Severity::error, "the pair's epoch changed: a failover came in between");
    }
}

void DrillRun::conclude(const Result<>& done) {
    if (!done) report_.find(Severity::error, done.error().context);
    judge_protection();
    if (plan_.kind == DrillKind::fault && fault_unix_ms_ != 0 && done) measure_fault();
    collect_events();
    report_.ended_unix_ms = unix_ms_now();
    report_.verdict = report_.has_errors() ? Verdict::failed : Verdict::passed;
    if (stopping_ || drills_.stopped_) report_.verdict = Verdict::stopped;
    entry_.ended_unix_ms = report_.ended_unix_ms;
    entry_.verdict = report_.verdict;
    entry_.rpo_seconds = report_.rpo_seconds;
    entry_.rto_seconds = report_.rto_seconds;
    const auto error =
        std::find_if(report_.findings.begin(), report_.findings.end(),
                     [](const auto& each) { return each.severity == Severity::error; });
    entry_.step =
        error != report_.findings.end() ? error->text : std::string(word(report_.verdict));
}

}  // namespace antipode::web
