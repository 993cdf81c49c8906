// What the other site says.
#include <algorithm>

#include "common/base/check.h"
#include "common/failover/deliberate_bugs.h"
#include "common/failover/failover.h"

namespace antipode::failover {

using wire::PeerMessage;
using wire::PeerMessageKind;

bool Failover::may_turn() const {
    if (bug(Bug::turn_while_pairing) && state_ == State::pairing) return true;
    // A create may be on its way as long as nobody has seen what has become of it.
    if (idle() && !third_site() && epoch_ == Epoch(0) && !record_) return false;
    return !creating_ && transition(state_, Event::turn_to).treatment == Treatment::handled;
}

void Failover::on_turn_to(const Name& site) {
    FT_CHECK(site != config_.site && wire::names_site(config_.sites, site),
             "{} is no other site of the pair", site);
    if (!may_turn() || site == peer_site_) return;
    if (state_ == State::pairing) {  // the deliberate bug
        abort_seed();
        use_epoch(epoch_, Member{});
        enter(State::solo, "turns away");
    }
    peer_site_ = site;
    session_up_ = suspected_ = false;  // nothing is known of it
    peer_.reset();
    hello_due_ = true;
    query_now_ = true;
}

void Failover::on_link(Event event, const Input& input) {
    switch (event) {
        case Event::turn_to:
            return on_turn_to(std::get<TurnTo>(input).site);
        case Event::session_up:
            session_up_ = true;
            peer_.reset();
            hello_due_ = true;
            if (state_ == State::rejoining && !loaded_) join_wanted_ = true;
            return;
        case Event::session_down:
            session_up_ = false;
            peer_.reset();
            // The copy travels in the session; the cut and what follows is resent by the stream.
            if (state_ == State::seeding) lose_partner("the session broke during the copy");
            return;
        case Event::peer_suspected:
            suspected_ = true;
            query_now_ = true;
            return;
        case Event::peer_trusted:
            suspected_ = false;
            return;
        default:
            FT_CHECK(false, "{} is not of the link", to_string(event));
    }
}

void Failover::on_hello(Event event, const PeerMessage& hello) {
    const bool news = !peer_ || peer_->from != hello.from;
    peer_ = hello;
    if (news) hello_due_ = true;  // so that it learns our incarnation
    if (hello.epoch > known_epoch_) {
        known_epoch_ = hello.epoch;
        query_now_ = true;
    }
    if (event == Event::hello_fences) return on_hello_fences(hello);
    if (event == Event::hello) return on_plain_hello(hello);
    // Its process was restarted: what we shared with the one before is over. settle_state() acts on
    // it.
    query_now_ = true;
}

// It acts in an epoch above ours: ours is over.
void Failover::on_hello_fences(const PeerMessage& hello) {
    const bool begins = hello.from == partner_ &&
                        (hello.state == State::paired_primary || hello.state == State::going_live);
    switch (state_) {
        case State::starting:
        case State::halted:
        case State::stopped:
            return;
        case State::rejoining:
            // Paired, and its `begin` is on the way; or it gave us up and stands alone again.
            if (begins && loaded_) return;
            use_epoch(hello.epoch, hello.from);
            loaded_ = false;
            join_wanted_ = true;
            fence();
            return persist();
        case State::switching_primary:
        case State::asking_primary:
            if (begins && handed_over_) return;  // it has taken over; `begin` follows
            return halt(hello.epoch, "the peer runs the VM in a later epoch");
        case State::paired_backup:
            if (begins && hello.state == State::paired_primary) return;  // enrolled again
            return halt(hello.epoch, "the primary went on without us");
        case State::paired_primary:
        case State::asking_backup:
        case State::going_live:
        case State::solo:
        case State::unprotected:
        case State::forced:
        case State::seeding:
        case State::pairing:
        case State::switching_backup:
        case State::halting:
            return halt(hello.epoch, "the peer runs the VM in a later epoch");
    }
}

void Failover::on_plain_hello(const PeerMessage& hello) {
    if (hello.from != partner_ || hello.epoch > epoch_) return;
    const State theirs = hello.state;
    const bool gone = theirs == State::starting || theirs == State::halting ||
                      theirs == State::halted || theirs == State::stopped;
    if (state_ == State::paired_primary) {
        if (hello.epoch < epoch_) {
            if (theirs == State::halting || theirs == State::halted) {
                return lose_partner("the backup has halted");
            }
            return send_begin();  // it has not heard yet
        }
        if (gone) return lose_partner("the backup has halted");
    }
    if (hello.epoch == epoch_ && wire::runs_vm(theirs)) follow_live_primary();
    if (state_ == State::paired_backup && hello.epoch == epoch_ && gone) {
        return lose_partner("the primary has halted");
    }
    const bool seeds = state_ == State::seeding || state_ == State::pairing;
    if (seeds && (theirs == State::halting || theirs == State::halted)) {
        return abandon_seeding("the new backup has halted");
    }
    if (state_ == State::rejoining && theirs == State::solo && !join_wanted_) {
        loaded_ = false;  // it has given the attempt up
        join_wanted_ = true;
    }
    if (state_ == State::switching_primary && theirs == State::paired_backup) {
        return send(PeerMessageKind::hand_over, *hand_over_position_);  // it was lost
    }
    const bool asks = theirs == State::asking_primary || theirs == State::asking_backup;
    if (asks) query_now_ = true;
}

void Failover::on_message(Event event, const PeerMessage& message) {
    switch (event) {
        case Event::begin:
            return on_begin(message);
        case Event::join:
            return on_join(message);
        case Event::seed_begin:
            if (message.epoch < epoch_ || message.from != partner_) return;
            if (message.epoch > epoch_) {
                use_epoch(message.epoch, message.from);
                fence();
                persist();
            }
            attempt_ = message.attempt;
            loaded_ = false;
            join_wanted_ = false;
            emit(ReceiveSeed{attempt_, message.from});
            return;
        case Event::seed_loaded_said:
            return on_seed_loaded_said(message);
        case Event::hand_over:
            return on_hand_over(message);
        case Event::take_over_said:
            if (!from_partner(message) || message.epoch != epoch_) return;
            lose_partner("the primary gives the VM up");
            insist_ = true;
            return;
        case Event::stopped_said:
            if (!from_partner(message) || message.epoch != epoch_) return;
            emit(ConsumeLog{});
            vm_ = Vm::none;
            return enter(State::stopped, "the guest was shut down");
        default:
            FT_CHECK(false, "{} is not a message", to_string(event));
    }
}

// We are the backup of an epoch that follows the one we stand in.
void Failover::on_begin(const PeerMessage& begin) {
    if (begin.previous_epoch != epoch_ || begin.epoch <= epoch_) return;
    switch (state_) {
        case State::starting:
            if (epoch_ != Epoch(0) || config_.first_role != wire::FirstRole::backup) return;
            break;
        case State::rejoining:
            if (!from_partner(begin) || !loaded_) return;
            break;
        case State::paired_backup:
        case State::switching_primary:
            if (!from_partner(begin)) return;
            break;
        case State::asking_primary:
            if (!from_partner(begin) || !handed_over_) return;
            break;
        default:
            return;
    }
    durable_.store = begin.store;
    if (state_ == State::paired_backup) {  // enrolled again: only the epoch moves
        use_epoch(begin.epoch, begin.from);
        fence();
        return persist();
    }
    become_backup(begin.epoch, begin.from, PrimaryLive::yes, "the primary begins");
}

void Failover::on_hand_over(const PeerMessage& hand_over) {
    if (!from_partner(hand_over) || hand_over.epoch != epoch_) return;
    hand_over_position_ = hand_over.position;
    if (log_end_ == hand_over.position) start_switching_backup();
}

void Failover::start_switching_backup() {
    hand_over_position_.reset();
    consuming_ = true;
    emit(ConsumeLog{});
    enter(State::switching_backup, "the primary hands the VM over");
}

void Failover::on_log(const LogReceived& log) {
    const bool theirs = log.epoch == epoch_ && log.from == partner_ && log.to == me_;
    if (!theirs || log.last < log.first) return;
    if (state_ == State::asking_backup) {
        if (bug(Bug::ack_after_asking)) emit(Acknowledge{epoch_, partner_, log.last});
        return;
    }
    if (state_ == State::rejoining && !loaded_) return;
    if (log.last <= log_end_) {  // it was sent again: our acknowledgement was lost
        acknowledged_ = {};
        return;
    }
    if (log.first > log_end_.next()) return;  // a gap: it will be sent again
    follow_live_primary();
    emit(AcceptLog{log_end_.next(), log.last});
    log_end_ = log.last;
    if (hand_over_position_ == log_end_ && state_ == State::paired_backup) start_switching_backup();
}

void Failover::on_ack(const AckReceived& ack) {
    const bool theirs = ack.epoch == epoch_ && ack.from == partner_ && ack.to == me_;
    if (!theirs || ack.last <= acked_) return;
    // Before the seed is loaded, what was acknowledged is of an attempt that led nowhere.
    if (state_ == State::pairing && !seed_acked_) return;
    acked_ = ack.last;
    produced_ = std::max(produced_, acked_);
    ack_progress_ = now_;
    clear(AlarmCode::backup_not_acknowledging);
}

}  // namespace antipode::failover
