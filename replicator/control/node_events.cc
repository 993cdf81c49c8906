// What the node says to people by itself: events as things happen, and alerts as long as they hold.
#include "common/base/expiry.h"
#include "common/base/log.h"
#include "replicator/control/node.h"

namespace antipode::control {
namespace {

using wire::SiteState;

bool is_asking(SiteState state) {
    return state == SiteState::asking_primary || state == SiteState::asking_backup;
}

bool is_paired(SiteState state) {
    return state == SiteState::paired_primary || state == SiteState::paired_backup;
}

}  // namespace

void Node::event(EventCode code, std::string_view text, std::optional<Severity> severity) {
    const uint64_t sequence = journal_.add_event(unix_ms(), code, text, severity);
    if (!config_.on_event) return;
    EventsRequest newest;
    newest.after = sequence - 1;
    newest.limit = 1;
    for (const Event& each : journal_.events(newest).events) config_.on_event(each);
}

void Node::announce_state(const failover::StateChanged& change) {
    const auto text = fmt::format("{} -> {} epoch={} reason={}", wire::to_string(change.from),
                                  wire::to_string(change.to), change.epoch, change.reason);
    logger("failover").info("{}", text);
    event(EventCode::state_changed, text);
    tell_of_state(change);
    state_since_unix_ms_ = unix_ms();
    if (change.to == SiteState::paired_primary) {
        if (seed_out_) verify_record_.all_equal(unix_ms());  // the new backup's disks are new
        seed_out_.reset();  // the new backup has all of it; from here on it is healed
        seed_cut_ = false;
    }
    // What came while it asked was dropped.
    if (change.from == SiteState::asking_backup && change.to == SiteState::paired_backup) {
        ask_to_resend();
    }
    if (change.to == SiteState::going_live && hand_over_refused_) consume_log();
    if (change.to == SiteState::halting) {
        switch_ended(OperationState::failed, "this site halts: " + change.reason);
    }
    follow_wishes();
}

// The turns that somebody may wait for, under codes of their own: a hook moves an address, an
// administrator is called.
void Node::tell_of_state(const failover::StateChanged& change) {
    const auto text = fmt::format("epoch {}: {}", change.epoch, change.reason);
    const auto& record = core_.record();
    const bool granted = record && record->epoch == change.epoch && record->holder == me_;
    if (is_asking(change.to)) {
        event(EventCode::acquire_asked, text);
    } else if (is_asking(change.from) && change.to == SiteState::going_live && granted) {
        event(EventCode::acquire_won, text);
    } else if (is_asking(change.from) && change.to == SiteState::halting) {
        event(EventCode::acquire_denied, text);
    } else if (is_paired(change.to) && !is_asking(change.from)) {
        event(EventCode::paired, fmt::format("with {}, {}", peer_site(), text));
    }
    // A new backup whose seeding comes to nothing had no VM that could stand.
    if (change.to == SiteState::halting) halts_from_ = change.from;
    if (change.from == SiteState::halting && halts_from_ != SiteState::rejoining) {
        event(EventCode::halted, text);
    }
}

void Node::raise_alarm(const failover::Alarm& alarm) {
    const bool raised = alarm.state == failover::AlarmState::raised;
    const auto text = fmt::format("{} {}: {}", failover::to_string(alarm.code),
                                  raised ? "raised" : "cleared", alarm.text);
    if (raised) {
        logger("failover").warn("{}", text);
        alarms_since_.try_emplace(alarm.code, unix_ms());
    } else {
        logger("failover").info("{}", text);
        alarms_since_.erase(alarm.code);
    }
    if (raised && alarm.code == failover::AlarmCode::tiebreaker_refused) {
        return event(EventCode::tiebreaker_refused, alarm.text);
    }
    event(EventCode::state_changed, text, raised ? Severity::warning : Severity::info);
}

// Told where the disks are fenced against this site, not where it fences the other.
void Node::disk_work_done(const failover::Input& done) {
    const auto* fenced = std::get_if<failover::DiskFenced>(&done);
    if (fenced != nullptr && core_.state() == SiteState::halting && disks_->drive_count() > 0) {
        event(EventCode::disk_fenced,
              fmt::format("no write of before epoch {} is let through", fenced->epoch));
    }
    feed(done);
}

// What lasts is said once when it begins, and once when it ends.
void Node::watch_figures(const Status& now) {
    const auto seconds = now.execution_lag.seconds;
    const auto lag = lag_watch_.sample(is_paired(core_.state()) ? seconds.value_or(0) : 0);
    if (lag == Threshold::Change::began) {
        lag_since_unix_ms_ = unix_ms();
        event(EventCode::lag_exceeded,
              fmt::format("the backup's execution is {:.2f} s behind", seconds.value_or(0)));
    } else if (lag == Threshold::Change::ended) {
        event(EventCode::lag_recovered, fmt::format("{:.2f} s", seconds.value_or(0)));
    }
    // Without a session it is lost, and that has an event of its own.
    if (peer_) {
        const double loss = suspected_ ? 1 : now.link.loss_ratio.value_or(0);
        const auto link = link_watch_.sample(loss);
        if (link == Threshold::Change::began) {
            link_since_unix_ms_ = unix_ms();
            event(EventCode::link_degraded,
                  fmt::format("{:.0f} % of the heartbeats are lost", loss * 100));
        } else if (link == Threshold::Change::ended) {
            event(EventCode::link_restored,
                  fmt::format("{:.0f} % of the heartbeats are lost", loss * 100));
        }
    }
    const bool differs = diverged_ || replays_badly();
    if (!differs) differs_since_unix_ms_.reset();
    if (differs && !differs_since_unix_ms_) differs_since_unix_ms_ = unix_ms();
}

void Node::fill_alerts(Status& status) const {
    for (const auto& [code, text] : core_.alarms()) {
        const auto since = alarms_since_.find(code);
        const EventCode shown =
            code == failover::AlarmCode::tiebreaker_unreachable ? EventCode::tiebreaker_lost
            : code == failover::AlarmCode::tiebreaker_refused   ? EventCode::tiebreaker_refused
                                                                : EventCode::state_changed;
        status.alerts.push_back({shown, Severity::warning,
                                 fmt::format("{}: {}", failover::to_string(code), text),
                                 since == alarms_since_.end() ? unix_ms() : since->second});
    }
    if (tiebreaker_) {
        const auto not_after = tiebreaker_->certificate_not_after();
        const auto now = std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
        if (expires_soon(not_after, now)) {
            const std::chrono::milliseconds since = (not_after - kExpiryWarning).time_since_epoch();
            status.alerts.push_back(
                {EventCode::certificate_expiring, Severity::warning,
                 fmt::format("the certificate for the tiebreaker, or its authority's, {}{}",
                             expiry_text(not_after, now),
                             not_after > now ? ": antipode-ca renew" : ""),
                 since.count()});
        }
    }
    if (fault_) {
        status.alerts.push_back({EventCode::fault_injected, Severity::warning,
                                 fmt::format("a rehearsal: {}", fault_->name),
                                 fault_->since_unix_ms});
    }
    if (lag_watch_.exceeded()) {
        status.alerts.push_back({EventCode::lag_exceeded, Severity::warning,
                                 "the backup's execution is far behind the primary's",
                                 lag_since_unix_ms_});
    }
    if (link_watch_.exceeded() && peer_) {
        status.alerts.push_back({EventCode::link_degraded, Severity::warning,
                                 "the line to the other site loses much of what is sent",
                                 link_since_unix_ms_});
    }
    if (const uint64_t count = verify_record_.unresolved(); count > 0) {
        status.alerts.push_back(
            {EventCode::disk_mismatch, Severity::error,
             fmt::format("the disks of the two sites differ at {} places of 64 KiB: resync writes "
                         "the backup's anew",
                         count),
             verify_since_unix_ms_});
    }
    if (diverged_ || replays_badly()) {
        status.alerts.push_back({EventCode::digest_mismatch, Severity::error,
                                 fmt::format("{} of {} digests differ: {}", digest_mismatches_,
                                             digests_checked_, digest_trouble_),
                                 differs_since_unix_ms_.value_or(unix_ms())});
    }
}

}  // namespace antipode::control
