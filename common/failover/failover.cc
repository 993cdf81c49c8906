#include "common/failover/failover.h"

#include <algorithm>

#include "common/base/check.h"
#include "common/failover/deliberate_bugs.h"

namespace antipode::failover {

using wire::AnswerKind;
using wire::PeerMessage;
using wire::PeerMessageKind;
using wire::StoreIdentity;

std::string_view to_string(AlarmCode code) {
    switch (code) {
        case AlarmCode::tiebreaker_unreachable:
            return "tiebreaker_unreachable";
        case AlarmCode::tiebreaker_refused:
            return "tiebreaker_refused";
        case AlarmCode::frozen:
            return "frozen";
        case AlarmCode::operator_needed:
            return "operator_needed";
        case AlarmCode::backup_not_acknowledging:
            return "backup_not_acknowledging";
        case AlarmCode::forced_unconfirmed:
            return "forced_unconfirmed";
        case AlarmCode::configuration:
            return "configuration";
    }
    return "?";
}

Failover::Failover(Config config) : config_(std::move(config)), peer_site_(config_.peer_site) {
    FT_CHECK(!config_.pair.empty(), "no pair");
    FT_CHECK(config_.site != config_.peer_site, "both sites are {}", config_.site);
    if (config_.sites[0].empty()) {
        config_.sites = wire::sorted_sites(config_.site, config_.peer_site);
    }
    FT_CHECK(wire::names_site(config_.sites, config_.site), "{} is no site of the pair",
             config_.site);
    FT_CHECK(wire::names_site(config_.sites, config_.peer_site), "{} is no site of the pair",
             config_.peer_site);
}

Outputs Failover::step(const Input& input, Instant now) {
    now_ = now;
    out_.clear();
    const Event event = classify(input);
    last_event_ = event;
    const Transition cell = transition(state_, event);
    FT_CHECK(cell.treatment != Treatment::forbidden, "{} in state {}: {}", to_string(event),
             wire::to_string(state_), cell.note);
    const bool turns = event == Event::turn_to && bug(Bug::turn_while_pairing);
    if (cell.treatment == Treatment::ignored && !turns) {
        if (event_group(event) == EventGroup::command) {
            refuse(std::get<Command>(input).kind, std::string(cell.note));
        }
        return std::move(out_);
    }
    const State before = state_;
    handle(event, input);
    settle();
    FT_CHECK(state_ == before || cell.next.contains(state_) || any_bug(), "{} led from {} to {}",
             to_string(event), wire::to_string(before), wire::to_string(state_));
    return std::move(out_);
}

Instant Failover::deadline() const {
    Instant next = Instant::max();
    if (tiebreaker_up_ && (store_accepted() || enrol_wanted_) && wanted())
        next = std::min(next, next_ask_);
    if (session_up_) next = std::min(next, next_hello_);
    const bool awaits_ack =
        state_ == State::paired_primary || (state_ == State::pairing && seed_cut_);
    if (awaits_ack && produced_ > acked_) {
        next = std::min(next, ack_progress_ + config_.acknowledge_limit);
    }
    if (state_ == State::switching_primary) next = std::min(next, switch_limit_);
    if (bug(Bug::lease_by_time) && frozen()) next = std::min(next, now_ + config_.hello_interval);
    if (state_ == State::rejoining && join_wanted_) next = std::min(next, next_join_);
    return next;
}

bool Failover::frozen() const {
    return asking() && !tiebreaker_usable();
}

Event Failover::classify(const Input& input) const {
    struct Classifier {
        const Failover& core;
        Event operator()(const Start&) const { return Event::start; }
        Event operator()(const SessionUp&) const { return Event::session_up; }
        Event operator()(const SessionDown&) const { return Event::session_down; }
        Event operator()(const PeerSuspected&) const { return Event::peer_suspected; }
        Event operator()(const PeerTrusted&) const { return Event::peer_trusted; }
        Event operator()(const PeerSays& says) const { return core.classify_message(says.message); }
        Event operator()(const EpochHeard&) const { return Event::epoch_heard; }
        Event operator()(const LogReceived&) const { return Event::log_received; }
        Event operator()(const AckReceived&) const { return Event::ack_received; }
        Event operator()(const TiebreakerUp&) const { return Event::tiebreaker_up; }
        Event operator()(const TiebreakerDown&) const { return Event::tiebreaker_down; }
        Event operator()(const TiebreakerAnswer& told) const {
            return core.classify_answer(told.answer);
        }
        Event operator()(const Persisted&) const { return Event::persisted; }
        Event operator()(const DiskFenced&) const { return Event::disk_fenced; }
        Event operator()(const DiskFlushed&) const { return Event::disk_flushed; }
        Event operator()(const LogDrained&) const { return Event::log_drained; }
        Event operator()(const VmHalted&) const { return Event::vm_halted; }
        Event operator()(const VmPaused&) const { return Event::vm_paused; }
        Event operator()(const SeedReady&) const { return Event::seed_ready; }
        Event operator()(const SeedCut&) const { return Event::seed_cut; }
        Event operator()(const SeedLoaded&) const { return Event::seed_loaded; }
        Event operator()(const SeedFailed&) const { return Event::seed_failed; }
        Event operator()(const MemoryLost&) const { return Event::memory_lost; }
        Event operator()(const LogProduced&) const { return Event::log_produced; }
        Event operator()(const GuestStopped&) const { return Event::guest_stopped; }
        Event operator()(const VmFailed&) const { return Event::vm_failed; }
        Event operator()(const Command& command) const { return event_of(command.kind); }
        Event operator()(const Tick&) const { return Event::tick; }
        Event operator()(const TurnTo&) const { return Event::turn_to; }
    };
    return std::visit(Classifier{*this}, input);
}

Event Failover::classify_message(const PeerMessage& message) const {
    const bool from_peer = message.pair == config_.pair && message.from.site == peer_site_;
    const bool first_hello = message.kind == PeerMessageKind::hello &&
                             message.to == Member{config_.site, Incarnation(0)};
    if (!from_peer || !(message.to == me_ || first_hello)) return Event::stray;
    switch (message.kind) {
        case PeerMessageKind::hello:
            break;
        case PeerMessageKind::begin:
            return Event::begin;
        case PeerMessageKind::join:
            return Event::join;
        case PeerMessageKind::seed_begin:
            return Event::seed_begin;
        case PeerMessageKind::seed_loaded:
            return Event::seed_loaded_said;
        case PeerMessageKind::hand_over:
            return Event::hand_over;
        case PeerMessageKind::take_over:
            return Event::take_over_said;
        case PeerMessageKind::stopped:
            return Event::stopped_said;
    }
    const bool acts = wire::runs_vm(message.state) || message.state == State::going_live ||
                      message.state == State::switching_primary;
    if (acts && message.epoch > epoch_) return Event::hello_fences;
    if (!partner_.site.empty() && message.from != partner_) return Event::hello_replaced;
    return Event::hello;
}

Event Failover::classify_answer(const wire::Answer& answer) const {
    const wire::Request& request = answer.request;
    const bool ours = request.pair == config_.pair && request.me == me_;
    const bool enrols = enrol_wanted_ && request.kind == wire::RequestKind::create;
    const bool known_store = epoch_ == Epoch(0) || durable_.store == StoreIdentity(0) ||
                             answer.store == durable_.store || enrols;
    if (!ours) return Event::stray;
    if (answer.kind == AnswerKind::refused) {
        return answer.reason == wire::RefusalReason::unknown_pair && known_store
                   ? Event::record_none
                   : Event::record_refused;
    }
    const wire::Record& record = answer.record;
    if (!known_store || (record.epoch < epoch_ && !bug(Bug::forget_epoch_check))) {
        return Event::record_refused;
    }
    const bool member = wire::is_member(record, me_);
    // An idle site acts in no epoch, so that it may be told about its own one.
    if (record.epoch == epoch_ && !(idle() && member)) return Event::record_same;
    if (!member) return Event::record_lost;
    if (record.mode == wire::PairMode::solo) return Event::record_granted;
    return record.holder == me_ ? Event::record_paired_primary : Event::record_paired_backup;
}

void Failover::handle(Event event, const Input& input) {
    switch (event_group(event)) {
        case EventGroup::start:
            on_start(std::get<Start>(input));
            break;
        case EventGroup::link:
            on_link(event, input);
            break;
        case EventGroup::hello:
            on_hello(event, std::get<PeerSays>(input).message);
            break;
        case EventGroup::message:
            on_message(event, std::get<PeerSays>(input).message);
            break;
        case EventGroup::epoch:
            if (std::get<EpochHeard>(input).epoch > std::max(epoch_, known_epoch_)) {
                known_epoch_ = std::get<EpochHeard>(input).epoch;
                query_now_ = true;
            }
            break;
        case EventGroup::log:
            on_log(std::get<LogReceived>(input));
            break;
        case EventGroup::ack:
            on_ack(std::get<AckReceived>(input));
            break;
        case EventGroup::tiebreaker:
            on_tiebreaker(event, input);
            break;
        case EventGroup::answer:
            on_answer(event, std::get<TiebreakerAnswer>(input).answer);
            break;
        case EventGroup::local:
            on_local(event, input);
            break;
        case EventGroup::seed:
            on_seed(event, input);
            break;
        case EventGroup::command:
            on_command(event, std::get<Command>(input));
            break;
        case EventGroup::tick:
            on_tick();
            break;
        case EventGroup::stray:
            break;
    }
}

// What follows by itself from where we stand now. One input may lead through several states.
void Failover::settle() {
    constexpr int kStatesMax = 8;
    for (int i = 0;; ++i) {
        FT_CHECK(i < kStatesMax, "no rest in state {}", wire::to_string(state_));
        const State before = state_;
        settle_state();
        if (state_ == before) break;
    }
    settle_gate();
    settle_acknowledgement();
    settle_asking();
    settle_hello();
    settle_alarms();
}

void Failover::settle_state() {
    switch (state_) {
        case State::starting:
        case State::halted:
            return settle_idle();
        case State::paired_primary:
        case State::paired_backup:
        case State::switching_primary:
        case State::switching_backup:
        case State::seeding:
        case State::pairing:
            if (suspected_) return lose_partner("the peer is silent");
            if (peer_ && peer_->from != partner_) return lose_partner("the peer has restarted");
            if (state_ == State::seeding) cut_if_ready();
            return;
        case State::asking_primary:
        case State::asking_backup:
            return try_resume();
        case State::going_live:
            return settle_going_live();
        case State::halting:
            return settle_halting();
        case State::rejoining:
            return settle_rejoining();
        case State::solo:
        case State::unprotected:
        case State::forced:
        case State::stopped:
            return;
    }
}

void Failover::settle_gate() {
    SetGate wanted;
    switch (state_) {
        case State::solo:
        case State::unprotected:
        case State::forced:
        case State::seeding:
            wanted.mode = GateMode::open;
            break;
        case State::pairing:
            if (seed_acked_) wanted = {GateMode::acked, acked_};
            if (!seed_acked_ && bug(Bug::gate_after_seed)) wanted.mode = GateMode::open;
            break;
        case State::paired_primary:
        case State::asking_primary:
        case State::switching_primary:
            if (stored(epoch_)) {
                wanted = {GateMode::acked, acked_};
            } else if (gate_.mode == GateMode::acked) {
                wanted = gate_;
            }
            break;
        case State::going_live:
            if (vm_ == Vm::running && gate_.mode == GateMode::acked) wanted = gate_;
            break;
        case State::starting:
        case State::paired_backup:
        case State::asking_backup:
        case State::rejoining:
        case State::switching_backup:
        case State::halting:
        case State::halted:
        case State::stopped:
            break;
    }
    if (bug(Bug::release_while_asking) && state_ == State::asking_primary) {
        wanted.mode = GateMode::open;
    }
    if (wanted == gate_) return;
    gate_ = wanted;
    emit(gate_);
}

void Failover::settle_acknowledgement() {
    const bool backup = state_ == State::paired_backup || (state_ == State::rejoining && loaded_);
    if (!backup || !stored(epoch_)) return;
    const Acknowledge wanted{epoch_, partner_, log_end_};
    if (acknowledged_.epoch == wanted.epoch && acknowledged_.to == wanted.to &&
        acknowledged_.last == wanted.last) {
        return;
    }
    acknowledged_ = wanted;
    emit(wanted);
}

void Failover::settle_hello() {
    if (!session_up_) return;
    if (!hello_due_ && now_ < next_hello_) return;
    PeerMessage hello = message(PeerMessageKind::hello);
    // Now and then to whoever is there: if a frame of a dead process has told us wrongly who that
    // is, this is how the two find each other again.
    if (!hello_due_) hello.to.incarnation = Incarnation(0);
    hello_due_ = false;
    next_hello_ = now_ + config_.hello_interval;
    emit(Send{hello});
}

void Failover::settle_alarms() {
    if (tiebreaker_up_) {
        clear(AlarmCode::tiebreaker_unreachable);
    } else {
        raise(AlarmCode::tiebreaker_unreachable, "no failover is possible until it answers");
    }
    if (tiebreaker_up_ && !store_accepted()) {
        raise(AlarmCode::tiebreaker_refused,
              "the tiebreaker's store is another one than this pair was enrolled with");
    }
    if (frozen()) {
        raise(AlarmCode::frozen, "the peer and the tiebreaker are both out of reach");
    } else {
        clear(AlarmCode::frozen);
    }
    if (state_ == State::forced) {
        raise(AlarmCode::forced_unconfirmed, "the tiebreaker has not confirmed the force");
    } else {
        clear(AlarmCode::forced_unconfirmed);
    }
}

void Failover::on_tick() {
    if (bug(Bug::lease_by_time) && frozen()) go_live(epoch_.next(), Target::solo, "a lease");
    if (state_ == State::switching_primary && now_ >= switch_limit_) {
        return lose_partner("the switchover took too long");
    }
    const bool awaits_ack =
        state_ == State::paired_primary || (state_ == State::pairing && seed_cut_);
    if (awaits_ack && produced_ > acked_ && now_ >= ack_progress_ + config_.acknowledge_limit) {
        insist_ = true;
        raise(AlarmCode::backup_not_acknowledging, "the backup acknowledges nothing; giving it up");
        lose_partner("the backup does not acknowledge");
    }
}

void Failover::on_persisted(uint64_t number) {
    FT_CHECK(number <= persist_number_, "persisted {} of {}", number, persist_number_);
    persisted_number_ = std::max(persisted_number_, number);
    const StoreIdentity store_told = stored_.store;
    while (!writing_.empty() && writing_.front().first <= number) {
        stored_ = writing_.front().second;
        writing_.erase(writing_.begin());
    }
    if (stored_.store != store_told) hello_due_ = true;  // the peer may be waiting for it
}

void Failover::enter(State next, std::string reason) {
    if (next == state_) return;
    // Who seeds us is gone: a copy that is whole after all would put its VM in place of another.
    if (state_ == State::rejoining && next != State::paired_backup) emit(AbortSeed{attempt_});
    emit(StateChanged{state_, next, epoch_, reason});
    state_ = next;
    reason_ = std::move(reason);
    hello_due_ = true;
    next_ask_ = now_;  // whatever is wanted here is wanted now
    if (!idle()) clear(AlarmCode::operator_needed);
    if (next != State::asking_primary && next != State::asking_backup) insist_ = false;
}

bool Failover::store_accepted() const {
    // Before the first epoch there is nothing that another store could contradict.
    return epoch_ == Epoch(0) || durable_.store == StoreIdentity(0) ||
           tiebreaker_store_ == durable_.store;
}

void Failover::persist() {
    durable_.epoch = epoch_;
    ++persist_number_;
    writing_.emplace_back(persist_number_, durable_);
    emit(Persist{persist_number_, durable_});
    if (bug(Bug::act_before_durable)) stored_ = durable_;
}

void Failover::fence() {
    if (disk_fence_asked_ >= epoch_) return;
    disk_fence_asked_ = epoch_;
    const bool live = state_ == State::going_live;
    emit(FenceDisk{epoch_, live ? FenceDisk::OldCopy::put_back : FenceDisk::OldCopy::stays});
    if (bug(Bug::act_before_durable)) disk_fenced_ = epoch_;
}

void Failover::use_epoch(Epoch epoch, const Member& partner) {
    FT_CHECK(epoch >= epoch_, "epoch would go back from {} to {}", epoch_, epoch);
    if (epoch > epoch_) {
        hello_due_ = true;
        pair_asked_ = false;
    }
    epoch_ = epoch;
    known_epoch_ = std::max(known_epoch_, epoch);
    partner_ = partner;
    if (forcing_ > Epoch(0) && forcing_ < epoch_) {  // nobody can grant it any more
        forcing_ = Epoch(0);
        refuse(CommandKind::force, "a later epoch has come before the force was decided");
    }
    if (used_.epoch == epoch_ && used_.partner == partner_) return;
    used_ = UseEpoch{epoch_, partner_};
    emit(used_);
}

PeerMessage Failover::message(PeerMessageKind kind) const {
    PeerMessage message;
    message.kind = kind;
    message.pair = config_.pair;
    message.epoch = epoch_;
    message.from = me_;
    message.to = peer_ ? peer_->from : Member{peer_site_, Incarnation(0)};
    message.state = state_;
    if (kind != PeerMessageKind::hello) return message;
    message.live_epoch = durable_.live_epoch;
    message.disk = durable_.disk;
    const bool kept = vm_ == Vm::stopped_primary || vm_ == Vm::stopped_follower;
    message.memory = kept ? wire::VmMemory::kept : wire::VmMemory::none;
    message.first_role = config_.first_role;
    // Not before it is durable: whoever pairs with us relies on our next process knowing it, too.
    message.store = stored_.store;
    return message;
}

void Failover::send(PeerMessageKind kind, LogIndex position) {
    PeerMessage said = message(kind);
    said.position = position;
    if (kind == PeerMessageKind::seed_begin || kind == PeerMessageKind::seed_loaded) {
        said.attempt = attempt_;
    }
    emit(Send{said});
}

void Failover::send_begin() {
    PeerMessage begin = message(PeerMessageKind::begin);
    begin.to = partner_;
    begin.previous_epoch = begin_from_;
    begin.store = durable_.store;
    emit(Send{begin});
}

void Failover::raise(AlarmCode code, std::string text) {
    auto& known = alarms_[code];
    if (known == text) return;
    known = text;
    emit(Alarm{code, AlarmState::raised, std::move(text)});
}

void Failover::clear(AlarmCode code) {
    if (alarms_.erase(code) > 0) emit(Alarm{code, AlarmState::cleared, {}});
}

}  // namespace antipode::failover
