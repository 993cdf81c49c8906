// The tiebreaker's record, and what a site that acts in no epoch does about it.
//
// A site acts on the record, not on the kind of the answer: epochs only rise, so that a record
// above our epoch is the truth or has been it, and nobody but its members can have moved it since.
#include <algorithm>

#include "common/base/check.h"
#include "common/failover/deliberate_bugs.h"
#include "common/failover/failover.h"

namespace antipode::failover {

using wire::DiskCopy;
using wire::PairMode;
using wire::Record;
using wire::RefusalReason;
using wire::Request;
using wire::RequestKind;
using wire::StoreIdentity;

void Failover::on_tiebreaker(Event event, const Input& input) {
    next_ask_ = now_;
    asked_.reset();
    record_absent_ = false;
    record_fresh_ = record_behind_ = false;
    forcing_ = Epoch(0);  // the operator will see that nothing has come of it
    tiebreaker_up_ = event == Event::tiebreaker_up;
    if (tiebreaker_up_) tiebreaker_store_ = std::get<TiebreakerUp>(input).store;
}

// What a watch tells looks like the answer to a query, but names no epoch.
bool Failover::answers_question(const wire::Answer& answer) const {
    return answer.request.kind == RequestKind::query && answer.request.epoch == epoch_ &&
           epoch_ > Epoch(0);
}

void Failover::on_answer(Event event, const wire::Answer& answer) {
    if (event == Event::record_none) {
        if (answer.request.epoch < epoch_) return;  // of long ago
        record_absent_ = true;
        if (forcing_ != Epoch(0)) {
            forcing_ = Epoch(0);
            refuse(CommandKind::force, "the tiebreaker does not know this pair");
        }
        if (epoch_ > Epoch(0)) {
            raise(AlarmCode::tiebreaker_refused, "the tiebreaker does not know this pair");
        }
        return;
    }
    if (event == Event::record_refused) return on_refused(answer);
    const Record& record = answer.record;
    if (record.mode != PairMode::none) clear(AlarmCode::tiebreaker_refused);
    record_ = record;
    record_fresh_ = true;
    record_absent_ = record_behind_ = false;
    check_sites(record);
    // Told, and nobody speaks of a later epoch: the next change will be told as well. (What else
    // has been asked meanwhile keeps its own time.)
    const bool up_to_date = record.epoch >= known_epoch_ && answers_question(answer);
    const bool asks_on = asking() || !asked_ || asked_->kind != RequestKind::query;
    if (up_to_date && !asks_on) next_ask_ = now_ + config_.told_interval;
    if (enrol_wanted_ && answer.request.kind == RequestKind::create) {
        enrol_wanted_ = false;
        durable_.store = answer.store;
    }
    switch (event) {
        case Event::record_granted:
            return on_granted(record);
        case Event::record_paired_primary:
            return on_paired_primary(record);
        case Event::record_paired_backup:
            return on_paired_backup(record);
        case Event::record_lost:
            return on_lost(record);
        case Event::record_same:
            return on_same(answer);
        default:
            FT_CHECK(false, "{} is not a record", to_string(event));
    }
}

// A site that has its place, and with it its quarter of the forced epochs, from another list than
// the record's could be forced into another one's epoch.
void Failover::check_sites(const Record& record) {
    if (record.mode == PairMode::none) return;  // forgotten: its sites say nothing
    const wire::Sites& ours = config_.sites;
    const bool third_differs = !record.sites[2].empty() && record.sites[2] != ours[2];
    if (record.sites[0] == ours[0] && record.sites[1] == ours[1] && !third_differs) {
        return clear(AlarmCode::configuration);
    }
    raise(
        AlarmCode::configuration,
        fmt::format("the pair's record has the sites {}, {}{}{}, the settings here have {}, {}{}{}",
                    record.sites[0], record.sites[1], record.sites[2].empty() ? "" : ", third ",
                    record.sites[2], ours[0], ours[1], ours[2].empty() ? "" : ", third ", ours[2]));
}

void Failover::on_granted(const Record& record) {
    switch (state_) {
        case State::starting:
        case State::halted:
            if (!vm_usable_here() && forcing_ == Epoch(0)) {
                raise(
                    AlarmCode::operator_needed,
                    "this site holds the pair, but its copy is incomplete: force it or repair it");
                return;
            }
            // Whom a store's record names is enrolled with it. Only a force brings a site here that
            // had no store; what it says as a witness from now on is as of this epoch, and true.
            if (durable_.store == StoreIdentity(0)) durable_.store = record.store;
            return go_live(record.epoch, Target::solo, "the tiebreaker gave us the pair");
        case State::rejoining:
            return leave_rejoining("the tiebreaker gave us the pair");
        case State::going_live:
            use_epoch(record.epoch, Member{});
            target_ = Target::solo;
            sealed_ = false;
            return;
        case State::halting:
        case State::stopped:
            return;
        default:
            return go_live(record.epoch, Target::solo, "won the pair");
    }
}

// The record pairs us as the primary of a later epoch.
void Failover::on_paired_primary(const Record& record) {
    const Member other = wire::other_member(record, me_);
    switch (state_) {
        case State::starting:
            if (vm_ != Vm::none || durable_.live_epoch > Epoch(0)) return;
            creating_ = true;
            partner_ = other;
            return go_live(record.epoch, Target::paired, "the pair was created");
        case State::switching_backup:
        case State::asking_backup:
        case State::paired_backup:
            partner_ = other;
            return go_live(record.epoch, Target::paired, "took the VM over");
        case State::pairing:
        case State::paired_primary:
        case State::asking_primary:
        case State::seeding:
        case State::solo:
        case State::unprotected:
        case State::forced:
            break;
        case State::going_live:
        case State::rejoining:
        case State::switching_primary:
        case State::halting:
        case State::halted:
        case State::stopped:
            return;
    }
    begin_from_ = epoch_;
    use_epoch(record.epoch, other);
    durable_.live_epoch = epoch_;
    durable_.role = DurableRole::primary;
    fence();
    persist();
    if (state_ == State::asking_primary) return;  // given up meanwhile: the next acquire names it
    if (state_ == State::pairing || state_ == State::paired_primary) {
        seed_running_ = false;
        ack_progress_ = now_;
        enter(State::paired_primary, "paired");
        return send_begin();
    }
    insist_ = true;  // a pair request that we had given up was applied: that needs an epoch
    abort_seed();
    enter(State::asking_primary, "paired against our will");
}

// The record pairs us as the backup of a later epoch.
void Failover::on_paired_backup(const Record& record) {
    switch (state_) {
        case State::starting:
            if (vm_ != Vm::none || durable_.live_epoch > Epoch(0)) return;
            return become_backup(record.epoch, record.holder, PrimaryLive::unknown,
                                 "the pair was created");
        case State::rejoining:
            if (!loaded_) return leave_rejoining("paired without a copy");
            return become_backup(record.epoch, record.holder, PrimaryLive::unknown, "paired");
        case State::switching_primary:
            break;
        case State::asking_primary:
            if (!handed_over_) return halt(record.epoch, "the peer is the primary");
            break;
        case State::paired_backup:
        case State::asking_backup:
            use_epoch(record.epoch, record.holder);
            fence();
            return persist();
        case State::halted:
            // A seed that we had left was paired after all. Another incarnation can vouch for this
            // one.
            retire_reason_ = "a member of the pair without a VM";
            return halt(record.epoch, retire_reason_);
        case State::going_live:
        case State::halting:
        case State::stopped:
            return;
        default:
            return halt(record.epoch, "the peer is the primary");
    }
    become_backup(record.epoch, record.holder, PrimaryLive::unknown, "the peer took the VM over");
}

// The record has moved on without us.
void Failover::on_lost(const Record& record) {
    switch (state_) {
        case State::starting:
        case State::halted:
            if (record.epoch == epoch_) return;
            if (diverges_at(record.epoch)) durable_.divergence = Divergence::diverged;
            forcing_ = Epoch(0);
            use_epoch(record.epoch, Member{});
            fence();
            return persist();
        case State::rejoining:
            // Our seeder gave the attempt up by an epoch; it begins another one.
            use_epoch(record.epoch, partner_);
            loaded_ = false;
            join_wanted_ = true;
            fence();
            return persist();
        case State::stopped:
            return;
        default:
            return halt(record.epoch, "denied: the tiebreaker's record has moved on");
    }
}

// The record stands in the epoch in which we act.
void Failover::on_same(const wire::Answer& answer) {
    const Record& record = answer.record;
    const bool holds = record.mode == PairMode::solo && record.holder == me_;
    // What was told without a question may have left before our acquire came.
    if (asking() && answers_question(answer)) same_confirmed_ = epoch_;
    if (state_ == State::forced && holds) {
        return enter(State::solo, "the tiebreaker has confirmed the force");
    }
    // Only an earlier process of this site can have been given the epoch of our force (the other
    // site counts in another quarter): by a force or an enrolment of which it never heard, or it
    // would be durable here. It is dead. The same force goes on in an epoch that can be reported.
    if (state_ == State::forced && record.mode != PairMode::none && !wire::is_member(record, me_)) {
        return go_live(next_forced(epoch_), Target::forced,
                       "the force's epoch is that of an earlier process");
    }
    if (record.mode == PairMode::none && wire::runs_vm(state_)) {
        raise(AlarmCode::tiebreaker_refused,
              "the tiebreaker's administrator has forgotten this pair: enrol it again");
    }
    const bool seeder_dead = state_ == State::rejoining && peer_ && peer_->from != partner_;
    if (seeder_dead && !wire::is_member(record, me_)) leave_rejoining("the seeder was restarted");
}

void Failover::on_refused(const wire::Answer& answer) {
    const bool asked = answer.request.epoch > Epoch(0);  // or it was told without a question
    if (asked && answer.store == tiebreaker_store_ && answer.store == durable_.store) {
        record_behind_ = answer.record.epoch < answer.request.epoch && answer.record.epoch < epoch_;
    }
    if (answer.kind != wire::AnswerKind::refused) {
        // An old answer that comes late is nothing; a record older than what we asked about is.
        if (answer.record.epoch >= answer.request.epoch) return;
        raise(AlarmCode::tiebreaker_refused, "the tiebreaker's record is older than ours");
        return;
    }
    switch (answer.reason) {
        case RefusalReason::peer_connected:
            if (forcing_ != Epoch(0)) {
                refuse(CommandKind::force,
                       "the tiebreaker is in touch with the peer: it is not down");
            }
            forcing_ = Epoch(0);
            return;
        case RefusalReason::wrong_store:
        case RefusalReason::record_too_old:
        case RefusalReason::wrong_site:
        case RefusalReason::malformed:
            raise(AlarmCode::tiebreaker_refused, fmt::format("the tiebreaker refuses to decide: {}",
                                                             wire::to_string(answer.reason)));
            return;
        case RefusalReason::none:
        case RefusalReason::unknown_pair:
            return;
    }
}

// ---- A site that runs nothing ----

void Failover::settle_idle() {
    creating_ = reclaiming_ = false;
    if (me_.site.empty() || persisted_number_ < persist_number_) return;
    const bool joinable = usable_session() && !suspected_ && peer_->epoch >= epoch_ &&
                          peer_->epoch > Epoch(0) &&
                          (peer_->state == State::solo || peer_->state == State::seeding ||
                           peer_->state == State::pairing);
    if (joinable && forcing_ == Epoch(0)) {
        const bool allowed =
            config_.rejoin == Policy::automatic && durable_.divergence == Divergence::none;
        if (allowed || rejoin_wanted_) return enter_rejoining();
        return raise(AlarmCode::operator_needed,
                     durable_.divergence == Divergence::diverged
                         ? "this site ran the VM alone and was overruled by a force: rejoining "
                           "discards what only it has"
                         : "rejoining waits for an operator, as configured");
    }
    if (record_absent_) return consider_create();
    if (record_fresh_ && record_->epoch >= epoch_) consider_reclaim();
}

// The first start of a pair: the tiebreaker has never heard of it, and neither site has ever run
// it.
void Failover::consider_create() {
    if (epoch_ != Epoch(0) || !tiebreaker_usable()) return;
    if (durable_.store != tiebreaker_store_) {
        // Durable before anybody asks: a site that is replaced later must not pass for one that
        // took part.
        durable_.store = tiebreaker_store_;
        return persist();
    }
    if (!usable_session() || third_site()) return;
    if (peer_->first_role == config_.first_role && peer_site_ != config_.sites[2]) {
        return raise(AlarmCode::configuration,
                     "both sites are configured with the same first role");
    }
    clear(AlarmCode::configuration);
    creating_ = config_.first_role == wire::FirstRole::primary && !third_site() &&
                peer_site_ != config_.sites[2] && peer_->state == State::starting &&
                peer_->epoch == Epoch(0) && peer_->store == durable_.store;
    witness_ = peer_->from;
}

bool Failover::vm_usable_here() const {
    return vm_ == Vm::stopped_primary || durable_.disk == DiskCopy::complete ||
           bug(Bug::reclaim_any_copy);
}

// Is what this site has of the VM newer than what the peer has? Both tell of every epoch in which
// the VM ran there, so the later one has what the earlier one had and more.
bool Failover::newest_here() const {
    if (bug(Bug::reclaim_any_copy)) return true;
    if (durable_.live_epoch != peer_->live_epoch) return durable_.live_epoch > peer_->live_epoch;
    if (config_.first_role == peer_->first_role) return me_.site < peer_site_;
    return config_.first_role == wire::FirstRole::primary;
}

// Only who had a part in how the record ended knows what came of it; a third site may be stopped
// for days, hold an old copy and say so in good faith.
bool Failover::may_vouch(const Name& site) const {
    return wire::are_last_sites(*record_, me_.site, site) || bug(Bug::third_site_vouches);
}

// Every process that the record names is dead. The site with the newest copy may take the pair
// over, if the sites of all dead members say so. What they say is stable: a dead process stays
// dead, and an epoch in which the VM never ran at a site will never be one in which it did.
void Failover::consider_reclaim() {
    const Record& record = *record_;
    if (record.mode == PairMode::none || wire::is_member(record, me_)) return;
    if (tiebreaker_usable() && durable_.store == StoreIdentity(0) &&
        durable_.live_epoch > Epoch(0)) {
        raise(AlarmCode::operator_needed,
              "this site was never enrolled with the tiebreaker: it takes over by a force alone");
    }
    if (!tiebreaker_usable() || durable_.store != record.store) return;
    const bool allowed = config_.reclaim == Policy::automatic || reclaim_wanted_;
    const bool ours = record.mode == PairMode::solo && record.holder.site == me_.site;
    if (ours && durable_.live_epoch == record.epoch && vm_usable_here()) {
        witness_ = Member{};
        reclaiming_ = allowed;
    } else if (usable_session() && !wire::is_member(record, peer_->from) && may_vouch(peer_site_)) {
        const bool peer_idle = peer_->state == State::starting || peer_->state == State::halted;
        // Knowing the record, it was alive after the members were; so they are dead, and what it
        // says of epochs in which the VM ran at its site is final. (An old hello of an older
        // process is not that.)
        const bool knows = peer_->epoch >= record.epoch || bug(Bug::believe_old_witness);
        if (!peer_idle || !knows || peer_->store != record.store || !newest_here()) return;
        if (!vm_usable_here()) {
            return raise(AlarmCode::operator_needed,
                         "the newest copy of the VM is here, but may lack acknowledged writes");
        }
        witness_ = peer_->from;
        reclaiming_ = allowed;
    }
    if (reclaiming_ || allowed) return;
    raise(AlarmCode::operator_needed, "booting the VM again waits for an operator, as configured");
}

// ---- Asking ----

std::optional<RequestKind> Failover::wanted() const {
    if (me_.site.empty()) return std::nullopt;
    if (enrol_wanted_) return RequestKind::create;
    if (forcing_ != Epoch(0) && (idle() || asking())) return RequestKind::force;
    switch (state_) {
        case State::starting:
        case State::halted:
            if (creating_) return RequestKind::create;
            return reclaiming_ ? RequestKind::reclaim : RequestKind::query;
        case State::asking_primary:
        case State::asking_backup:
            if (!stored(epoch_)) return std::nullopt;
            // An acquire may be on its way; with the partner back, ask first whether it arrived.
            return resumable() ? RequestKind::query : RequestKind::acquire;
        case State::pairing:
            if (!stored(epoch_)) return std::nullopt;
            return seed_acked_ || (seed_cut_ && bug(Bug::pair_before_in_sync)) ? RequestKind::pair
                                                                               : RequestKind::query;
        case State::switching_backup:
            return drained_ ? RequestKind::switch_over : RequestKind::query;
        case State::forced:
            return RequestKind::report_force;
        case State::paired_primary:
        case State::paired_backup:
        case State::switching_primary:
        case State::solo:
        case State::unprotected:
        case State::seeding:
        case State::rejoining:
            return RequestKind::query;
        case State::going_live:
        case State::halting:
        case State::stopped:
            return std::nullopt;
    }
    return std::nullopt;
}

Request Failover::request(RequestKind kind) const {
    Request request;
    request.kind = kind;
    request.pair = config_.pair;
    request.store = durable_.store;
    request.epoch = epoch_;
    request.me = me_;
    switch (kind) {
        case RequestKind::create:
            if (enrol_wanted_) request.store = tiebreaker_store_;
            request.other = !enrol_wanted_                    ? witness_
                            : state_ == State::paired_primary ? partner_
                                                              : Member{};
            if (request.other.site.empty()) request.other.site = peer_site_;
            if (enrol_wanted_ && !config_.sites[2].empty()) request.sites = config_.sites;
            break;
        case RequestKind::pair:
        case RequestKind::switch_over:
            request.other = partner_;
            break;
        case RequestKind::reclaim:
            request.other = witness_;
            request.epoch = record_->epoch;
            break;
        case RequestKind::force:
            request.epoch = forcing_;
            // Never enrolled, it has no store to be loyal to; an operator's word names this one.
            if (durable_.store == StoreIdentity(0)) request.store = tiebreaker_store_;
            break;
        case RequestKind::query:
        case RequestKind::acquire:
        case RequestKind::report_force:
        case RequestKind::forget:
            break;
    }
    return request;
}

void Failover::settle_asking() {
    if (!tiebreaker_up_ || !(store_accepted() || enrol_wanted_)) return;
    const std::optional<RequestKind> kind = wanted();
    if (!kind) return;
    const bool query = *kind == RequestKind::query;
    const bool again = asked_ && asked_->kind == *kind && asked_->epoch == epoch_;
    if (again && now_ < next_ask_ && !(query && query_now_)) return;
    const Request next = request(*kind);
    if (*kind == RequestKind::acquire) {
        acquire_asked_ = epoch_;
        same_confirmed_ = Epoch(0);
    }
    if (*kind == RequestKind::pair) pair_asked_ = true;
    if (query) query_now_ = false;
    next_ask_ = now_ + (query && !asking() ? config_.query_interval : config_.ask_interval);
    asked_ = next;
    emit(Ask{next});
}

}  // namespace antipode::failover
