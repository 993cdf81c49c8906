// Seeding a new backup, from both sides.
//
//     solo ---- join ----> seeding (copy while the VM runs, output open)
//                             | SeedReady and the tiebreaker answers
//                             v
//                          pairing (gate closed, cut) -- seed_loaded --> gate acked, asks `pair`
//                          --> paired
//
// Until `pair` has been asked an attempt is given up without ceremony, since nobody can win by it.
// Once it may have left, giving up needs an epoch: asking_primary, under the Output Rule until it
// is answered.
#include <algorithm>
#include <utility>

#include "common/base/check.h"
#include "common/failover/deliberate_bugs.h"
#include "common/failover/failover.h"

namespace antipode::failover {

using wire::DiskCopy;
using wire::PeerMessage;
using wire::PeerMessageKind;

void Failover::on_seed(Event event, const Input& input) {
    switch (event) {
        case Event::seed_ready:
            if (std::get<SeedReady>(input).attempt == attempt_) seed_ready_ = true;
            return;
        case Event::seed_cut: {
            const auto& cut = std::get<SeedCut>(input);
            if (cut.attempt != attempt_ || !seed_running_) return;
            FT_CHECK(cut.position > acked_, "the cut {} is not behind entry {}", cut.position,
                     acked_);
            seed_cut_ = true;
            cut_position_ = cut.position;
            produced_ = std::max(produced_, cut.position);
            ack_progress_ = now_;
            return;
        }
        case Event::seed_loaded: {
            const auto& loaded = std::get<SeedLoaded>(input);
            if (loaded.attempt != attempt_ || join_wanted_) {
                // Given up meanwhile. But it stands where the memory of before was.
                vm_ = Vm::none;
                emit(DropMemory{});
                return;
            }
            loaded_ = true;
            loaded_position_ = log_end_ = loaded.position;
            acknowledged_ = {};
            vm_ = Vm::following;
            emit(FollowVm{FollowFrom::seed, epoch_});
            if (session_up_) send(PeerMessageKind::seed_loaded, loaded_position_);
            return;
        }
        case Event::seed_failed: {
            const auto& failed = std::get<SeedFailed>(input);
            if (failed.attempt != attempt_) return;
            if (state_ == State::rejoining) {
                loaded_ = false;
                join_wanted_ = true;
                next_join_ = now_ + config_.seed_retry_interval;
                return;
            }
            if (seed_running_) abandon_seeding(failed.reason);
            return;
        }
        default:
            FT_CHECK(false, "{} is not of a seed", to_string(event));
    }
}

void Failover::on_join(const PeerMessage& join) {
    if (!peer_ || join.from != peer_->from) return;
    if (state_ == State::seeding && join.from == partner_) {
        abandon_seeding("the new backup starts over");
        seed_not_before_ = now_;
    }
    if (state_ == State::pairing && join.from == partner_) {
        return abandon_seeding("the new backup starts over");
    }
    if (state_ != State::solo || now_ < seed_not_before_ || suspected_) return;
    // A copy is worth nothing while a loss of power could still take what it was made from.
    if (stored_.disk != DiskCopy::complete || stored_.live_epoch != epoch_) return;
    begin_seeding(join.from);
}

void Failover::begin_seeding(const Member& to) {
    use_epoch(epoch_, to);
    ++attempt_;
    seed_running_ = true;
    seed_ready_ = seed_cut_ = seed_acked_ = false;
    pair_asked_ = false;
    enter(State::seeding, "a new backup has come");
    send(PeerMessageKind::seed_begin);
    emit(BeginSeed{attempt_, to});
}

void Failover::cut_if_ready() {
    if (!seed_ready_ || !tiebreaker_usable() || !stored(epoch_)) return;
    enter(State::pairing, "the copy is nearly complete");
    settle_gate();  // before the cut: what has left is in the copy
    emit(CutSeed{attempt_});
}

void Failover::on_seed_loaded_said(const PeerMessage& loaded) {
    if (!from_partner(loaded) || loaded.attempt != attempt_) return;
    if (state_ == State::paired_primary) {  // it has not heard yet
        if (loaded.epoch < epoch_) send_begin();
        return;
    }
    if (loaded.epoch != epoch_ || !seed_cut_ || loaded.position != cut_position_) return;
    if (seed_acked_) return;
    seed_acked_ = true;
    acked_ = std::max(acked_, cut_position_);
    ack_progress_ = now_;
}

void Failover::abort_seed() {
    if (std::exchange(seed_running_, false)) emit(AbortSeed{attempt_});
}

void Failover::abandon_seeding(const std::string& reason) {
    abort_seed();
    seed_not_before_ = now_ + config_.seed_retry_interval;
    if (state_ == State::pairing && pair_asked_ && !bug(Bug::abandon_plainly)) {
        insist_ = true;
        return enter(State::asking_primary, reason);
    }
    use_epoch(epoch_, Member{});
    enter(State::solo, reason);
}

void Failover::enter_rejoining() {
    use_epoch(std::max(epoch_, peer_->epoch), peer_->from);
    durable_.role = DurableRole::joining;
    disk_incomplete();
    durable_.divergence = Divergence::none;
    if (peer_->store != wire::StoreIdentity(0)) durable_.store = peer_->store;
    rejoin_wanted_ = false;
    loaded_ = consuming_ = drained_ = false;
    join_wanted_ = true;
    next_join_ = now_;
    fence();
    persist();
    enter(State::rejoining, "the peer runs the VM");
}

void Failover::settle_rejoining() {
    const bool replaced = peer_ && peer_->from != partner_;
    const bool idle_there = peer_ && !replaced && peer_->epoch <= epoch_ &&
                            (peer_->state == State::halted || peer_->state == State::stopped);
    if (!loaded_ && (suspected_ || replaced || idle_there)) {
        return leave_rejoining("the peer that was to seed us is gone");
    }
    if (!join_wanted_ || !usable_session() || replaced) return;
    if (!stored(epoch_) || persisted_number_ < persist_number_ || now_ < next_join_) return;
    next_join_ = now_ + config_.seed_retry_interval;
    send(PeerMessageKind::join);
}

// Nobody will make us a backup in this way any more. What was loaded is of no use.
void Failover::leave_rejoining(const std::string& reason) {
    drop_memory_ = loaded_;
    loaded_ = false;
    halt(epoch_, reason);
}

}  // namespace antipode::failover
