#include "tests/sim/tiebreaker.h"

#include "common/failover/deliberate_bugs.h"

namespace antipode::sim {

Tiebreaker::Tiebreaker(World& world, Network& network, Checker& checker, std::vector<Name> sites)
    : sites_(std::move(sites)),
      world_(world),
      network_(network),
      checker_(checker),
      store_(world.random.next() | 1) {}

void Tiebreaker::receive(size_t from, const wire::Request& request) {
    constexpr size_t kJobsMax = 64;
    if (jobs_.size() < kJobsMax) jobs_.push_back({from, request});
    if (!busy_) work();
}

// A deliberate bug: a site is taken for the member of its name, whatever process of it asks.
Member Tiebreaker::namesake(const Member& me) const {
    if (!record_) return me;
    for (const Member& member : record_->members) {
        if (member.site == me.site) return member;
    }
    return me;
}

void Tiebreaker::mistake(wire::Answer& answer, const Member& me) const {
    answer.request.me = me;
    for (Member* member :
         {&answer.record.holder, &answer.record.members[0], &answer.record.members[1]}) {
        if (member->site == me.site) *member = me;
    }
}

tiebreaker::PeerPresence Tiebreaker::presence(const wire::Request& request) const {
    for (size_t site = 0; record_ && site < sites_.size(); ++site) {
        const bool counts = tiebreaker::forbids_force(*record_, request.me.site, sites_[site]);
        if (counts && network_.tiebreaker_up(site)) return tiebreaker::PeerPresence::connected;
    }
    return tiebreaker::PeerPresence::absent;
}

tiebreaker::Decision Tiebreaker::decide(wire::Request request) const {
    const wire::Request original = request;
    if (failover::bug(failover::Bug::ignore_incarnations)) request.me = namesake(request.me);
    // A deliberate bug: whoever vouches is believed.
    const bool believes = failover::bug(failover::Bug::third_site_vouches) && record_ &&
                          request.kind == wire::RequestKind::reclaim &&
                          request.epoch == record_->epoch && !request.other.site.empty();
    if (believes) {
        request.kind = wire::RequestKind::force;
        request.epoch = request.epoch.next();
        request.other = {};
    }
    const auto present = believes ? tiebreaker::PeerPresence::absent : presence(request);
    tiebreaker::Decision decision = tiebreaker::decide(record_, request, {store_, present});
    if (believes) decision.answer.request = original;
    return decision;
}

void Tiebreaker::work() {
    if (jobs_.empty() || !alive_) {
        busy_ = false;
        return;
    }
    busy_ = true;
    const Job job = jobs_.front();  // stays there until it is done
    tiebreaker::Decision decision = decide(job.request);
    if (failover::bug(failover::Bug::ignore_incarnations)) mistake(decision.answer, job.request.me);
    const bool writes = decision.changed == tiebreaker::Changed::yes;
    const Duration takes = (writes ? world_.between(500us, 5ms) : 20us) + slowness;
    world_.after(takes, [this, life = life_, job, decision, writes] {
        if (life != life_) return;
        if (writes) {
            before_last_ = std::exchange(record_, decision.record);
            ++decisions_;
            checker_.epoch_moved("tiebreaker", record_->epoch);
            world_.note(7, record_->epoch.value(), static_cast<uint64_t>(record_->mode));
            world_.say("T  {} of {}#{} at {} -> {} {}", to_string(job.request.kind),
                       job.request.me.site, job.request.me.incarnation, job.request.epoch,
                       to_string(record_->mode), record_->epoch);
        }
        jobs_.pop_front();
        if (writes) push_others(job.from);  // who asked is answered
        deliver(job.from, decision.answer);
        work();
    });
}

void Tiebreaker::watch(size_t from, const Member& me) {
    watchers_[from] = me;
    push(from);
}

void Tiebreaker::push_others(size_t but) {
    for (size_t site = 0; site < sites_.size(); ++site) {
        if (site != but) push(site);
    }
}

void Tiebreaker::push(size_t site) {
    if (watchers_[site].incarnation == Incarnation(0)) return;
    wire::Answer told;
    told.request.kind = wire::RequestKind::query;
    told.request.me = watchers_[site];
    told.store = store_;
    if (record_) {
        const bool enrolled = record_->store == store_;
        told.request.pair = record_->pair;
        told.kind = enrolled ? wire::AnswerKind::record : wire::AnswerKind::refused;
        told.reason = enrolled ? wire::RefusalReason::none : wire::RefusalReason::wrong_store;
        told.record = *record_;
    } else {
        told.request.pair = Name::literal("web1");
        told.reason = wire::RefusalReason::unknown_pair;
    }
    deliver(site, told);
}

void Tiebreaker::crash() {
    alive_ = false;
    watchers_ = {};
    busy_ = false;
    ++life_;
    // What was being decided may have reached the disk without being answered.
    if (!jobs_.empty() && world_.chance(0.5)) {
        const auto decision = tiebreaker::decide(record_, jobs_.front().request,
                                                 {store_, tiebreaker::PeerPresence::connected});
        if (decision.changed == tiebreaker::Changed::yes) {
            record_ = decision.record;
            checker_.epoch_moved("tiebreaker", record_->epoch);
        }
    }
    jobs_.clear();
    network_.tiebreaker_died();
}

void Tiebreaker::wipe() {
    crash();
    record_.reset();
    store_ = wire::StoreIdentity(world_.random.next() | 1);
    checker_.tiebreaker_lost_data();
}

void Tiebreaker::restore() {
    crash();
    record_ = world_.chance(0.5) ? before_last_ : backup_;
    if (!keeps_identity_on_restore) store_ = wire::StoreIdentity(world_.random.next() | 1);
    checker_.tiebreaker_lost_data();
}

}  // namespace antipode::sim
