// Winning, losing, and what leads there.
#include <algorithm>

#include "common/base/check.h"
#include "common/failover/deliberate_bugs.h"
#include "common/failover/failover.h"

namespace antipode::failover {

using wire::DiskCopy;
using wire::PeerMessageKind;

void Failover::on_start(const Start& start) {
    FT_CHECK(me_.site.empty(), "started twice");
    FT_CHECK(start.me.site == config_.site, "started as {}, configured as {}", start.me.site,
             config_.site);
    me_ = start.me;
    disk_fenced_ = disk_fence_asked_ = start.disk_epoch;
    if (start.stored) {
        durable_ = stored_ = *start.stored;
        // live_epoch was written after the log had been consumed, so only a loss of power can have
        // taken what was written but not flushed.
        const bool ran = durable_.role == DurableRole::primary ||
                         durable_.role == DurableRole::solo || durable_.role == DurableRole::halted;
        if (ran && durable_.disk == DiskCopy::incomplete) {
            if (start.host == Host::same_boot) {
                // The process may have died in the middle of going live.
                emit(FenceDisk{disk_fence_asked_, FenceDisk::OldCopy::put_back});
                flush();
            } else {
                durable_.role =
                    DurableRole::none;  // so that no later process of this boot trusts it
            }
        }
    } else {
        // The stopped image, equal at both sites; a third one has whatever its disk came with.
        durable_.disk = third_site() ? DiskCopy::incomplete : DiskCopy::complete;
    }
    epoch_ = known_epoch_ = std::max(durable_.epoch, start.disk_epoch);
    durable_.epoch = epoch_;
    used_.epoch = epoch_;
    if (!start.stored || durable_ != stored_) persist();
    reason_ = start.stored ? "restarted" : "first start";
    if (bug(Bug::ignore_incarnations) && durable_.role == DurableRole::backup) {
        state_ = State::asking_backup;
    }
}

void Failover::on_local(Event event, const Input& input) {
    switch (event) {
        case Event::persisted:
            return on_persisted(std::get<Persisted>(input).number);
        case Event::disk_fenced:
            disk_fenced_ = std::max(disk_fenced_, std::get<DiskFenced>(input).epoch);
            return;
        case Event::disk_flushed:
            return on_disk_flushed();
        case Event::log_drained:
            drained_ = true;
            return;
        case Event::vm_halted:
            vm_halted_ = true;
            return;
        case Event::vm_paused:
            return on_vm_paused(std::get<VmPaused>(input).last);
        case Event::log_produced: {
            if (produced_ <= acked_) ack_progress_ = now_;
            produced_ = std::max(produced_, std::get<LogProduced>(input).last);
            return;
        }
        case Event::memory_lost:
            // What a seed that was given up had brought goes the same way.
            if (vm_ == Vm::stopped_primary || vm_ == Vm::stopped_follower ||
                (state_ == State::rejoining && !loaded_)) {
                vm_ = Vm::none;
            }
            return;
        case Event::guest_stopped:
            return on_guest_stopped(std::get<GuestStopped>(input).position);
        case Event::vm_failed:
            return on_vm_failed(std::get<VmFailed>(input).reason);
        default:
            FT_CHECK(false, "{} is not local", to_string(event));
    }
}

// The tiebreaker (or an operator) has given us `epoch`. What is left to do depends on what there is
// of the VM here; output leaves, and a standing VM runs, only in now_live().
void Failover::go_live(Epoch epoch, Target target, const std::string& reason) {
    abort_seed();
    begin_from_ = epoch_;
    use_epoch(epoch, target == Target::paired ? partner_ : Member{});
    target_ = target;
    sealed_ = false;
    drained_ = drained_ || !(vm_ == Vm::following || vm_ == Vm::stopped_follower);
    switch (vm_) {
        case Vm::running:
            run_from_.reset();
            break;
        case Vm::paused:
        case Vm::stopped_primary:
            run_from_ = RunFrom::memory;
            break;
        case Vm::following:
        case Vm::stopped_follower:
            run_from_ = RunFrom::log;
            if (!consuming_) emit(ConsumeLog{});
            consuming_ = true;
            vm_ = Vm::following;  // it replays, and whoever halts now has to stop it
            if (bug(Bug::live_before_drained)) drained_ = true;
            break;
        case Vm::none:
            run_from_ = creating_ ? RunFrom::image : RunFrom::disk;
            break;
    }
    enter(State::going_live, reason);
}

void Failover::settle_going_live() {
    if (!drained_) return;
    if (!sealed_) {
        sealed_ = true;
        durable_.live_epoch = epoch_;
        durable_.role = target_ == Target::paired ? DurableRole::primary : DurableRole::solo;
        durable_.divergence = Divergence::none;
        if (run_from_ == RunFrom::log) {
            disk_incomplete();  // until what the replay wrote is flushed
        }
        fence();
        persist();
    }
    const bool durable = stored_.epoch == epoch_ && stored_.live_epoch == epoch_;
    if (durable && disk_fenced_ >= epoch_) now_live();
}

void Failover::now_live() {
    if (run_from_ == RunFrom::image || run_from_ == RunFrom::disk) {
        log_end_ = produced_ = acked_ = LogIndex(0);
    } else if (run_from_ == RunFrom::log) {
        // Everything up to here is held by the partner as well, if there is one: it handed us the
        // VM.
        produced_ = acked_ = log_end_;
    }
    if (run_from_) emit(RunVm{*run_from_, epoch_});
    vm_ = Vm::running;
    consuming_ = drained_ = creating_ = handed_over_ = false;
    forcing_ = Epoch(0);
    reclaim_wanted_ = false;
    ack_progress_ = now_;
    if (target_ == Target::solo && unprotected_wanted_) target_ = Target::unprotected;
    switch (target_) {
        case Target::solo:
            enter(State::solo, "live");
            break;
        case Target::unprotected:
            enter(State::unprotected, "live");
            break;
        case Target::forced:
            enter(State::forced, "live by an operator's force");
            break;
        case Target::paired:
            enter(State::paired_primary, "live");
            send_begin();
            break;
    }
    if (durable_.disk == DiskCopy::incomplete) flush();
}

void Failover::flush() {
    ++flushes_under_way_;
    flush_counts_ = true;
    emit(FlushDisk{});
}

void Failover::disk_incomplete() {
    durable_.disk = DiskCopy::incomplete;
    flush_counts_ = false;
}

void Failover::on_disk_flushed() {
    FT_CHECK(flushes_under_way_ > 0, "flushed, but nobody asked");
    --flushes_under_way_;
    if (flushes_under_way_ > 0 || !flush_counts_ || durable_.disk == DiskCopy::complete) return;
    durable_.disk = DiskCopy::complete;
    persist();
}

// What an operator's force left behind at this site that nobody inherits: it ran alone, and the new
// epoch was not won by a grant that follows from ours.
bool Failover::diverges_at(Epoch epoch) const {
    constexpr unsigned kQuarterBits = 30;  // see wire::forced_epoch
    // No grant follows from a force that nobody has confirmed.
    const bool forced = (epoch.value() >> kQuarterBits) != (epoch_.value() >> kQuarterBits) ||
                        state_ == State::forced;
    return durable_.role == DurableRole::solo && epoch > epoch_ && forced;
}

void Failover::halt(Epoch epoch, const std::string& reason) {
    abort_seed();
    if (diverges_at(epoch)) durable_.divergence = Divergence::diverged;
    use_epoch(std::max(epoch, epoch_), Member{});
    sealed_ = false;
    handed_over_ = pausing_ = false;
    hand_over_position_.reset();
    switch (vm_) {
        case Vm::running:
        case Vm::paused:
            vm_ = Vm::stopped_primary;
            vm_halted_ = false;
            emit(HaltVm{});
            break;
        case Vm::following:
            vm_ = Vm::stopped_follower;
            consuming_ = false;  // it stands; who goes live from it asks again
            vm_halted_ = false;
            emit(HaltVm{});
            break;
        case Vm::none:
        case Vm::stopped_primary:
        case Vm::stopped_follower:
            if (state_ != State::halting) vm_halted_ = true;
            break;
    }
    enter(State::halting, reason);
}

void Failover::settle_halting() {
    if (!vm_halted_) return;
    if (!sealed_) {
        sealed_ = true;
        // A follower's copy stays one: what its replay had not finished will never be on its disk.
        if (durable_.role == DurableRole::primary || durable_.role == DurableRole::solo) {
            durable_.role = DurableRole::halted;
            if (durable_.disk == DiskCopy::incomplete && !flush_counts_) flush();
        }
        fence();
        persist();
    }
    if (!stored(epoch_) || persisted_number() < persist_number_ || disk_fenced_ < epoch_) return;
    if (drop_memory_) {
        drop_memory_ = false;
        vm_ = Vm::none;
        emit(DropMemory{});
    }
    if (!retire_reason_.empty()) {
        enter(State::stopped, retire_reason_);
        emit(Retire{retire_reason_});
        return;
    }
    query_now_ = true;
    enter(State::halted, reason_);
}

// The other half of the pair is gone for us. Whoever may acquire, asks; nothing else changes yet.
void Failover::lose_partner(const std::string& reason) {
    switch (state_) {
        case State::paired_primary:
            return enter(State::asking_primary, reason);
        case State::paired_backup:
            return enter(State::asking_backup, reason);
        case State::switching_primary:
            insist_ = true;
            return enter(State::asking_primary, reason);
        case State::switching_backup:
            return enter(State::asking_backup, reason);
        case State::seeding:
        case State::pairing:
            return abandon_seeding(reason);
        default:
            FT_CHECK(false, "no partner in state {}", wire::to_string(state_));
    }
}

void Failover::become_backup(Epoch epoch, const Member& primary, PrimaryLive live,
                             const std::string& reason) {
    const bool from_seed = state_ == State::rejoining;
    const bool from_memory = vm_ == Vm::paused;
    use_epoch(epoch, primary);
    durable_.role = DurableRole::backup;
    // A VM that was handed over and has not begun there yet: nothing is replayed here so far.
    if (!from_memory || live == PrimaryLive::yes) disk_incomplete();
    durable_.divergence = Divergence::none;
    fence();
    persist();
    if (from_memory) {
        log_end_ = *hand_over_position_;
        emit(FollowVm{FollowFrom::memory, epoch_});
    } else if (vm_ == Vm::none) {
        FT_CHECK(!from_seed, "paired without a seed");
        log_end_ = LogIndex(0);
        emit(FollowVm{FollowFrom::image, epoch_});
    }
    vm_ = Vm::following;
    consuming_ = drained_ = handed_over_ = pausing_ = loaded_ = false;
    hand_over_position_.reset();
    enter(State::paired_backup, reason);
}

// Its log will come, or has: from here on this disk is behind.
void Failover::follow_live_primary() {
    if (state_ != State::paired_backup || durable_.disk == DiskCopy::incomplete) return;
    disk_incomplete();
    persist();
}

// The partner is back, in our epoch, and neither of us has been granted anything.
bool Failover::resumable() const {
    if (insist_ || suspected_ || unprotected_wanted_ || handed_over_ || consuming_) return false;
    if (!usable_session() || peer_->from != partner_ || peer_->epoch != epoch_) return false;
    if (pair_asked_) return false;  // not paired: we gave up a pair request
    if (state_ == State::asking_primary) {
        return peer_->state == State::paired_backup || peer_->state == State::asking_backup;
    }
    return peer_->state == State::paired_primary || peer_->state == State::asking_primary;
}

void Failover::try_resume() {
    if (!resumable()) return;
    const bool may_have_left = acquire_asked_ == epoch_;
    if (may_have_left && same_confirmed_ != epoch_) return;
    ack_progress_ = now_;
    if (state_ == State::asking_primary) {
        enter(State::paired_primary, "the backup is back");
    } else {
        enter(State::paired_backup, "the primary is back");
    }
}

void Failover::on_vm_paused(LogIndex last) {
    if (!pausing_) return;
    pausing_ = false;
    if (state_ != State::paired_primary) {
        // The switchover was overtaken by something else; whoever runs the VM goes on.
        emit(RunVm{RunFrom::memory, epoch_});
        return;
    }
    vm_ = Vm::paused;
    handed_over_ = true;
    hand_over_position_ = last;
    switch_limit_ = now_ + config_.switch_over_limit;
    enter(State::switching_primary, "handing the VM over");
    send(PeerMessageKind::hand_over, last);
}

void Failover::on_guest_stopped(LogIndex position) {
    abort_seed();
    if (usable_session() && vm_ == Vm::running) send(PeerMessageKind::stopped, position);
    vm_ = Vm::none;
    enter(State::stopped, "the guest was shut down");
}

void Failover::on_vm_failed(const std::string& why) {
    retire_reason_ = why;
    if (state_ == State::paired_primary && usable_session()) send(PeerMessageKind::take_over);
    if (state_ == State::rejoining) drop_memory_ = true;
    halt(epoch_, why);
}

}  // namespace antipode::failover
