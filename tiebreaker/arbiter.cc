#include "tiebreaker/arbiter.h"

#include <algorithm>

namespace antipode::tiebreaker {

namespace {

using wire::Answer;
using wire::AnswerKind;
using wire::is_member;
using wire::names_site;
using wire::PairMode;
using wire::Record;
using wire::RefusalReason;
using wire::Request;
using wire::RequestKind;

bool needs_other(const Request& request) {
    switch (request.kind) {
        case RequestKind::pair:
        case RequestKind::switch_over:
        case RequestKind::create:
            return true;
        case RequestKind::query:
        case RequestKind::acquire:
        case RequestKind::reclaim:
        case RequestKind::force:
        case RequestKind::report_force:
        case RequestKind::forget:
            return false;
    }
    return false;
}

// Enrolling again alone: the other site is named, since epochs depend on the names, but no process
// of it.
bool absent_other_allowed(const Request& request) {
    return request.kind == RequestKind::create && request.epoch > Epoch(0);
}

// Grants count up by one and forces by a block of 2^32, so no site gets far by itself; a number
// that is made up may not use up those that the pair has left. Above kEpochMax the epochs that
// follow from it (the next one, a forced block) might not fit. One request takes a pair at most a
// thousand forces further, and, where there is no record to count from, to the place of a million.
constexpr Epoch kEpochMax{uint64_t{1} << 62};
constexpr uint64_t kForceReach = uint64_t{1} << (32 + 10);
constexpr Epoch kEnrolMax{uint64_t{1} << (32 + 20)};

bool out_of_reach(const std::optional<Record>& record, Epoch epoch) {
    if (!record) return epoch > kEnrolMax;
    return epoch > record->epoch && epoch.value() - record->epoch.value() > kForceReach;
}

// Of a create that names all three sites.
bool bad_sites(const Request& request) {
    const wire::Sites& sites = request.sites;
    const bool three =
        sites[0] < sites[1] && !sites[2].empty() && sites[2] != sites[0] && sites[2] != sites[1];
    return !three || !absent_other_allowed(request) || !names_site(sites, request.me.site) ||
           !names_site(sites, request.other.site);
}

bool malformed(const Request& request) {
    if (request.pair.empty() || request.epoch > kEpochMax) return true;
    if (request.kind == RequestKind::query || request.kind == RequestKind::forget) return false;
    if (request.me.site.empty() || request.me.incarnation == Incarnation(0)) return true;
    if (request.other.site.empty()) {
        return needs_other(request);
    }
    if (request.other.site == request.me.site) return true;
    if (request.other.incarnation == Incarnation(0) && !absent_other_allowed(request)) return true;
    return !request.sites[0].empty() && bad_sites(request);
}

bool of_pair(const Record& record, const Name& site) {
    return names_site(record.sites, site);
}

// The holder's word adds a third site, with the first request that pairs with it. It is never taken
// away: its quarter of the forced epochs is its own from then on.
bool may_add(const Record& record, const Request& request) {
    return request.kind == RequestKind::pair && record.mode == PairMode::solo &&
           record.sites[2].empty() && record.holder == request.me &&
           !of_pair(record, request.other.site);
}

// The two of the first start are the same, and so is the third one, where both know of one.
bool same_sites(const Record& record, const wire::Sites& sites) {
    return record.sites[0] == sites[0] && record.sites[1] == sites[1] &&
           (record.sites[2].empty() || record.sites[2] == sites[2]);
}

Answer refuse(const std::optional<Record>& record, const Request& request, const Context& context,
              RefusalReason reason) {
    return {AnswerKind::refused, reason, request, record.value_or(Record{}), context.store};
}

// How `me` stands in the record: the answer to every request that does not move the epoch.
AnswerKind standing(const Record& record, const Member& me) {
    if (!is_member(record, me)) return AnswerKind::denied;
    return record.mode == PairMode::solo ? AnswerKind::granted : AnswerKind::paired;
}

// The other site that knows how `record` ended, if `me` goes on alone.
Name former_of(const Record& record, const Name& me) {
    if (record.sites[2].empty()) return {};
    return record.holder.site == me ? wire::last_partner(record) : record.holder.site;
}

Record solo(const Record& record, Epoch epoch, const Member& holder) {
    Record next = record;
    next.former = former_of(record, holder.site);
    next.epoch = epoch;
    next.mode = PairMode::solo;
    next.holder = holder;
    next.members = {holder, Member{}};
    return next;
}

Record paired(const Record& record, Epoch epoch, const Member& holder, const Member& other) {
    Record next = record;
    next.epoch = epoch;
    next.mode = PairMode::paired;
    next.holder = holder;
    next.former = {};
    if (!of_pair(record, other.site)) next.sites[2] = other.site;
    next.members = holder.site < other.site ? std::array<Member, 2>{holder, other}
                                            : std::array<Member, 2>{other, holder};
    return next;
}

// The first enrolment (epoch 0), or a new one with a store that lost or never had this pair's
// record.
Record created(const std::optional<Record>& record, const Request& request,
               const Context& context) {
    const Epoch stored = record ? record->epoch : Epoch(0);
    Record next = record.value_or(Record{});
    next.pair = request.pair;
    next.store = context.store;
    const bool known = record && record->mode != PairMode::none &&
                       of_pair(*record, request.me.site) && of_pair(*record, request.other.site);
    if (!request.sites[0].empty()) {
        next.sites = request.sites;
    } else if (!known) {
        next.sites = wire::sorted_sites(request.me.site, request.other.site);
    }
    const Epoch epoch =
        request.epoch == Epoch(0)
            ? stored.next()
            : wire::forced_epoch(std::max(stored, request.epoch), next.sites, request.me.site);
    if (request.other.incarnation != Incarnation(0)) {
        return paired(next, epoch, request.me, request.other);
    }
    next = solo(next, epoch, request.me);
    next.former = next.sites[2].empty() ? Name() : request.other.site;
    return next;
}

// A restarted process vouches that the process before it at its site is dead. So the record may be
// taken over when every member in it belongs to a site that speaks here with another incarnation.
bool members_are_dead(const Record& record, const Request& request) {
    const bool vouched = !request.other.site.empty();
    if (vouched && !wire::are_last_sites(record, request.me.site, request.other.site)) return false;
    return std::all_of(record.members.begin(), record.members.end(), [&](const Member& member) {
        if (member.site.empty()) return true;
        const auto replaces = [&](const Member& witness) {
            return witness.site == member.site && witness.incarnation != member.incarnation;
        };
        return replaces(request.me) || replaces(request.other);
    });
}

// The record that the request leads to, or nullopt if it moves nothing.
std::optional<Record> moved(const Record& record, const Request& request) {
    const bool current = record.epoch == request.epoch;
    switch (request.kind) {
        case RequestKind::acquire:
            if (!current || !is_member(record, request.me)) return std::nullopt;
            return solo(record, record.epoch.next(), request.me);
        case RequestKind::pair:
            if (!current || record.mode != PairMode::solo || record.holder != request.me) {
                return std::nullopt;
            }
            return paired(record, record.epoch.next(), request.me, request.other);
        case RequestKind::switch_over:
            if (!current || record.mode != PairMode::paired || !is_member(record, request.me) ||
                record.holder != request.other) {
                return std::nullopt;
            }
            return paired(record, record.epoch.next(), request.me, request.other);
        case RequestKind::reclaim:
            if (!current || record.mode == PairMode::none || !members_are_dead(record, request)) {
                return std::nullopt;
            }
            return solo(record, record.epoch.next(), request.me);
        case RequestKind::force:
        case RequestKind::report_force:
            if (record.epoch >= request.epoch) return std::nullopt;
            return solo(record, request.epoch, request.me);
        case RequestKind::query:
        case RequestKind::create:
        case RequestKind::forget:
            return std::nullopt;
    }
    return std::nullopt;
}

// Why the request cannot be decided on this record; none if it can.
RefusalReason objection(const Record& record, const Request& request, const Context& context) {
    if (request.store != context.store) return RefusalReason::wrong_store;
    if (!of_pair(record, request.me.site)) return RefusalReason::wrong_site;
    if (!request.other.site.empty() && !of_pair(record, request.other.site) &&
        !may_add(record, request)) {
        return RefusalReason::wrong_site;
    }
    const bool force =
        request.kind == RequestKind::force || request.kind == RequestKind::report_force;
    if (!force && record.epoch < request.epoch) return RefusalReason::record_too_old;
    if (force && out_of_reach(record, request.epoch)) return RefusalReason::malformed;
    if (request.kind == RequestKind::force && context.peer == PeerPresence::connected &&
        record.epoch < request.epoch) {
        return RefusalReason::peer_connected;
    }
    return RefusalReason::none;
}

// A first start makes a record where there is none, or a forgotten one. A confirmed enrolment also
// replaces one of another identity of this store, and one of this store that the site has left
// behind. The last is how two forces end after the store was lost, if the overruled site had been
// enrolled first: the site that runs the VM cannot reach the record in another way. It asks so by
// an operator's typed word alone, and gets a forced epoch, above its own and above everything that
// this store has granted.
bool create_replaces(const std::optional<Record>& record, const Request& request,
                     const Context& context) {
    if (!record) return true;
    if (record->store != context.store) return request.epoch != Epoch(0);
    return record->mode == PairMode::none || record->epoch < request.epoch;
}

RefusalReason objection_to_create(const std::optional<Record>& record, const Request& request,
                                  const Context& context) {
    const bool again = request.epoch != Epoch(0);
    const bool any_store = !again && request.store == wire::StoreIdentity(0);
    if (!any_store && request.store != context.store) return RefusalReason::wrong_store;
    if (!again && record && record->store != context.store) return RefusalReason::wrong_store;
    if (again && out_of_reach(record, request.epoch)) return RefusalReason::malformed;
    const bool known = record && record->store == context.store && record->mode != PairMode::none;
    if (!known) return RefusalReason::none;
    const bool ours = request.sites[0].empty() ? of_pair(*record, request.me.site) &&
                                                     of_pair(*record, request.other.site)
                                               : same_sites(*record, request.sites);
    return ours ? RefusalReason::none : RefusalReason::wrong_site;
}

Decision decide_create(const std::optional<Record>& record, const Request& request,
                       const Context& context) {
    const RefusalReason reason = objection_to_create(record, request, context);
    if (reason != RefusalReason::none) {
        return {record, refuse(record, request, context, reason), Changed::no};
    }
    const bool moves = create_replaces(record, request, context);
    Record next = moves ? created(record, request, context) : *record;
    Answer answer{standing(next, request.me), RefusalReason::none, request, next, context.store};
    return {std::move(next), std::move(answer), moves ? Changed::yes : Changed::no};
}

}  // namespace

Decision decide(const std::optional<Record>& record, const Request& request,
                const Context& context) {
    if (malformed(request)) {
        return {record, refuse(record, request, context, RefusalReason::malformed), Changed::no};
    }
    if (request.kind == RequestKind::create) return decide_create(record, request, context);
    if (!record) {
        return {record, refuse(record, request, context, RefusalReason::unknown_pair), Changed::no};
    }
    if (request.kind == RequestKind::forget) {
        Record next = solo(*record, record->epoch, Member{});
        next.mode = PairMode::none;
        Answer answer{AnswerKind::record, RefusalReason::none, request, next, context.store};
        const Changed changed = next == *record ? Changed::no : Changed::yes;
        return {std::move(next), std::move(answer), changed};
    }
    if (record->store != context.store) {
        return {record, refuse(record, request, context, RefusalReason::wrong_store), Changed::no};
    }
    if (request.kind == RequestKind::query) {
        return {record,
                {AnswerKind::record, RefusalReason::none, request, *record, context.store},
                Changed::no};
    }
    const RefusalReason reason = objection(*record, request, context);
    if (reason != RefusalReason::none) {
        return {record, refuse(record, request, context, reason), Changed::no};
    }
    std::optional<Record> next = moved(*record, request);
    const Changed changed = next ? Changed::yes : Changed::no;
    if (!next) next = record;
    Answer answer{standing(*next, request.me), RefusalReason::none, request, *next, context.store};
    return {std::move(next), std::move(answer), changed};
}

bool forbids_force(const Record& record, const Name& me, const Name& site) {
    if (site == me || !of_pair(record, site)) return false;
    if (record.sites[2].empty()) return true;
    bool others = false;
    for (const Member& member : record.members) {
        if (member.site == site) return true;
        others = others || (!member.site.empty() && member.site != me);
    }
    return !others;
}

const char* invalid(const Record& record) {
    if (record.pair.empty()) return "pair has no name";
    if (record.sites[0].empty() || record.sites[1].empty()) return "a site has no name";
    if (!(record.sites[0] < record.sites[1])) return "sites are not two in order";
    const Name& third = record.sites[2];
    if (third == record.sites[0] || third == record.sites[1]) return "the third site is no other";
    if (!record.former.empty()) {
        if (third.empty()) return "a former site without a third one";
        if (!of_pair(record, record.former)) return "the former site is no site of the pair";
    }
    if (record.mode == PairMode::none) return nullptr;
    if (record.epoch == Epoch(0)) return "epoch is 0";
    if (!is_member(record, record.holder)) return "holder is not a member";
    if (!of_pair(record, record.holder.site)) return "holder is at no site of the pair";
    if (record.mode == PairMode::paired && !record.former.empty())
        return "paired, with a former site";
    if (record.mode == PairMode::solo) {
        if (record.former == record.holder.site) return "the former site is the holder's";
        if (record.members[1] != Member{}) return "solo with two members";
        return record.members[0] == record.holder ? nullptr
                                                  : "solo, but the member is not the holder";
    }
    if (record.members[0].site == record.members[1].site) return "paired with one site";
    for (const Member& member : record.members) {
        if (!of_pair(record, member.site)) return "a member is at no site of the pair";
        if (member.incarnation == Incarnation(0)) return "a member has no incarnation";
    }
    return nullptr;
}

}  // namespace antipode::tiebreaker
