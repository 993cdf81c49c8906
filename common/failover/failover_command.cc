// What operators ask for.
#include <algorithm>

#include "common/base/check.h"
#include "common/failover/failover.h"

namespace antipode::failover {

void Failover::refuse(CommandKind kind, std::string reason) {
    emit(CommandRefused{kind, std::move(reason)});
}

void Failover::on_command(Event event, const Command& command) {
    switch (event) {
        case Event::force:
            return on_force(command);
        case Event::take_over:
            lose_partner("an operator asks for a failover");
            insist_ = true;
            return;
        case Event::switch_over:
            return on_switch_over();
        case Event::unprotect:
            unprotected_wanted_ = true;
            if (state_ == State::solo) return enter(State::unprotected, "an operator's wish");
            insist_ = true;
            return lose_partner("an operator gives the backup up");
        case Event::protect:
            unprotected_wanted_ = false;
            if (state_ == State::unprotected) enter(State::solo, "an operator's wish");
            return;
        case Event::rejoin:
            rejoin_wanted_ = true;
            return;
        case Event::reclaim:
            reclaim_wanted_ = true;
            return;
        case Event::enrol_again:
            return on_enrol_again(command);
        default:
            FT_CHECK(false, "{} is not a command", to_string(event));
    }
}

Epoch Failover::next_forced(Epoch highest) const {
    return wire::forced_epoch(highest, config_.sites, config_.site);
}

void Failover::on_force(const Command& command) {
    if (command.confirmation != config_.pair.view()) {
        return refuse(command.kind, "the confirmation is not the pair's name");
    }
    // A frozen primary computes, but lets nothing go: it can be forced as a frozen backup can.
    const bool runs = wire::runs_vm(state_) && !asking();
    if (runs && known_epoch_ <= epoch_) {
        return refuse(command.kind, "this site runs the VM, and no later epoch is known");
    }
    if (runs && usable_session() && wire::runs_vm(peer_->state)) {
        return refuse(command.kind, "the peer runs the VM");
    }
    if (!runs && (session_up_ || !suspected_)) {
        return refuse(command.kind, "the peer can be reached");
    }
    if (record_ && !config_.sites[2].empty() && alarms_.count(AlarmCode::configuration) > 0) {
        return refuse(command.kind, "the sites in the settings here are not those of the record");
    }
    // Who ran the VM was it, whatever a loss of power has made of its role since.
    const bool was_backup =
        durable_.live_epoch > Epoch(0) ||
        (durable_.role != DurableRole::none && durable_.role != DurableRole::joining);
    const bool named = record_ && wire::names_site(record_->sites, config_.site);
    if (third_site() && !was_backup && !named) {
        // The tiebreaker would not know it, and its disk is nobody's.
        return refuse(command.kind, "this third site has never been the backup");
    }
    const bool memory = vm_ != Vm::none;
    if (!memory && durable_.disk != wire::DiskCopy::complete && command.loss != Loss::accepted) {
        return refuse(command.kind, "this site's copy may lack acknowledged writes");
    }
    Epoch highest = std::max(epoch_, known_epoch_);
    if (record_) highest = std::max(highest, record_->epoch);
    const Epoch forced = next_forced(highest);
    if (runs) {
        // The peer was forced and has stopped since; ours goes on, above it. It will have to
        // rejoin.
        return go_live(forced, Target::forced, "overrules the peer's force");
    }
    const bool decides = tiebreaker_usable() && !(record_absent_ && epoch_ > Epoch(0));
    if (decides) {
        forcing_ = forced;
        next_ask_ = now_;
        return;
    }
    go_live(forced, Target::forced, "an operator's force");
}

void Failover::on_enrol_again(const Command& command) {
    if (command.confirmation != config_.pair.view()) {
        return refuse(command.kind, "the confirmation is not the pair's name");
    }
    if (!tiebreaker_up_) return refuse(command.kind, "the tiebreaker cannot be reached");
    const bool forgotten = record_ && record_->mode == wire::PairMode::none;
    if (tiebreaker_store_ == durable_.store && !record_absent_ && !record_behind_ && !forgotten) {
        return refuse(command.kind, "the tiebreaker's store knows this pair");
    }
    enrol_wanted_ = true;
    next_ask_ = now_;
}

void Failover::on_switch_over() {
    const bool ready = usable_session() && !suspected_ && peer_->from == partner_ &&
                       peer_->state == State::paired_backup && peer_->epoch == epoch_;
    if (!ready) return refuse(CommandKind::switch_over, "the backup is not in step");
    if (!tiebreaker_usable()) {
        return refuse(CommandKind::switch_over, "the tiebreaker cannot be reached");
    }
    if (pausing_) return refuse(CommandKind::switch_over, "a switchover is under way");
    pausing_ = true;
    emit(PauseVm{});
}

}  // namespace antipode::failover
