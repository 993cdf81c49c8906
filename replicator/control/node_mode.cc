// Mode `auto`: what the policy is told, what the engine is asked for, and what people hear of it.
#include "common/base/log.h"
#include "replicator/control/node.h"

namespace antipode::control {
namespace {

std::string reason_text(replay::DeltasReason reason) {
    using replay::DeltasReason;
    switch (reason) {
        case DeltasReason::heals:
            return fmt::format(
                "the backup was put right more than {} times in {} s", ModePolicy::kHealsMax,
                std::chrono::round<std::chrono::seconds>(ModePolicy::kHealWindow).count());
        case DeltasReason::heal_given_up:
            return "what differed at the backup could not be put right";
        case DeltasReason::busy:
            return "the guest does not exit, and its events cost more as deltas of their own";
        case DeltasReason::backup_slow:
            return "the backup cannot keep up with the guest's execution";
    }
    return "unknown";
}

}  // namespace

// While no backup needs the log there is nothing to go by deltas for; what the policy thinks is
// kept for the next one.
void Node::mode_step() {
    if (!is_automatic() || !engine_) return;
    auto stretch = engine_->stretch_status();
    if (!stretch) return;
    if (recording_) {
        if (core_.state() == wire::SiteState::paired_primary && log_needed()) {
            const ModeFigures figures{heals_, heals_given_up_, stretch->deliveries_by_kick,
                                      stretch->kick_delta_bytes, lag_controller_.share()};
            engine_->want_deltas(mode_policy_.step(figures, MonotonicClock::now()));
        } else {
            engine_->want_deltas(std::nullopt);
        }
    }
    tell_mode(*stretch);
}

void Node::tell_mode(const replay::StretchStatus& stretch) {
    metrics_.gauge("antipode_by_deltas", "1 while a VM of mode auto goes by deltas")
        .set(stretch.now ? 1 : 0);
    const auto mode = recording_ ? mode_policy_.mode() : stretch.meant;
    if (mode == mode_told_) return;
    mode_told_ = mode;
    mode_since_unix_ms_ = unix_ms();
    heal_times_.clear();  // what they were of is over
    const std::string text =
        mode ? "by deltas: " + reason_text(*mode) : "by events: lockstep again";
    logger("replay").info("mode auto: {}", text);
    event(EventCode::mode_changed, text, mode ? Severity::warning : Severity::info);
}

// Before this site records. The mode that the log was in goes on.
void Node::adopt_mode() {
    if (!is_automatic()) return;
    const auto stretch = engine_ ? engine_->stretch_status() : std::nullopt;
    mode_policy_.adopt(stretch ? stretch->meant : std::nullopt, MonotonicClock::now());
}

// A backup that differs where a stretch begins has to be put right before it can follow; what it
// holds of the stretch until then is of no use to it. So an output of the stretch leaves only when
// the backup is past its begin.
void Node::stretch_begins(LogIndex entry) {
    interrupt_verify("the VM goes by deltas");
    stretch_begin_ = entry;
    gate_.hold_behind(entry);
}

void Node::stretch_followed(LogIndex applied) {
    if (!stretch_begin_ || applied < *stretch_begin_) return;
    forget_stretch_begin();
    release_outputs();
}

void Node::forget_stretch_begin() {
    stretch_begin_.reset();
    gate_.hold_behind(std::nullopt);
}

void Node::fill_mode(Status& status) const {
    if (!is_automatic() || !engine_) return;
    const auto stretch = engine_->stretch_status();
    if (!stretch) return;
    AutoFigures& figures = status.automatic.emplace();
    figures.by_deltas = mode_told_.has_value();
    if (mode_told_) figures.reason = reason_text(*mode_told_);
    if (mode_since_unix_ms_ != 0) figures.since_unix_ms = mode_since_unix_ms_;
    figures.deltas = stretch->deltas;
    figures.last_bytes = stretch->last_bytes;
    figures.last_pages = stretch->last_pages;
    if (recording_) {
        using Seconds = std::chrono::duration<double>;
        figures.last_pause_seconds = Seconds(stretch->last_pause).count();
        if (mode_told_) figures.lockstep_after_seconds = Seconds(mode_policy_.wait()).count();
    }
    if (status.protection == Protection::protected_ && mode_told_) {
        status.protection_reason += "; it goes by deltas, for " + figures.reason;
    }
}

}  // namespace antipode::control
