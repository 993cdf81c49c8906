// What a site and the tiebreaker say to each other: value types, no encoding and no I/O.
//
// A request names the store that the site has been enrolled with, the epoch that the site stands
// in, and the incarnations it speaks for. Every answer carries the whole record of the pair as it
// stands after the decision: a site acts on the record, and the kind says only how its own request
// fared. Requests are idempotent: a request whose answer was lost is simply sent again.
//
// Threads: values; none needed.
// INVARIANTS
//   - Epochs of a pair only rise; an answer's record is never older than the decision it reports.
//   - Record::holder is the member at whose site the VM runs: the solo site, or the primary of a
//   paired
//     record. It has permission to run there; whether it did, only that site's durable state can
//     tell.
//   - mode solo: members[0] == holder and members[1] is nobody. mode paired: holder is one of
//   members.
// See docs/PROTOCOL-failover.md, "The tiebreaker's record".
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "common/base/ids.h"

namespace antipode::wire {

// Made at random when a tiebreaker's store is created, and again when it is restored; 0 = not known
// yet.
using StoreIdentity = Strong<uint64_t, struct StoreIdentityTag>;

// A pair's sites: the two of its first start, sorted by name, and a third one (a spare) or nobody.
// The third one stands last whatever its name, so that it changes no other site's place, nor its
// quarter of the forced epochs.
using Sites = std::array<Name, 3>;

enum class PairMode : uint8_t {
    none = 1,  // enrolled once and forgotten: the epoch is kept, so that it never goes back
    paired,    // either member may acquire
    solo,      // only the holder may acquire or pair
};

struct Record {
    Name pair;
    StoreIdentity store;  // the identity under which this record was last enrolled
    Epoch epoch;
    PairMode mode = PairMode::none;
    Member holder;
    std::array<Member, 2> members;
    Sites sites;
    // Of three sites, solo: the other site of the newest epoch that had two members. The newest
    // copy of the VM is at the holder's site or there. Else empty.
    Name former;
    friend bool operator==(const Record&, const Record&) = default;
};

enum class RequestKind : uint8_t {
    query = 1,  // what is the record?
    create,   // epoch 0: first start, me = primary; above 0: enrol again with a store that lost us
    acquire,  // I go on alone: solo(epoch + 1, me)
    pair,     // `other` has everything: paired(epoch + 1, {me, other})
    switch_over,   // I take over from `other` with its consent: paired(epoch + 1), holder = me
    reclaim,       // the members are dead; `me` has the newest data and `other` (if named) vouches
    force,         // an operator wants solo(epoch, me), and asks first
    report_force,  // an operator has made solo(epoch, me) while the tiebreaker was out of reach
    forget,        // the tiebreaker's administrator removes the pair; never sent by a site
};

struct Request {
    RequestKind kind = RequestKind::query;
    Name pair;
    StoreIdentity store;  // 0 only in create with epoch 0, query and forget
    Epoch epoch;          // the epoch of the record to be replaced; for force the epoch to be
    Member me;
    Member other;   // create: always named; with incarnation 0 (epoch above 0 only) nobody is there
    Sites sites{};  // create of a pair with three sites, epoch above 0: all of them; else empty
    friend bool operator==(const Request&, const Request&) = default;
};

enum class AnswerKind : uint8_t {
    record = 1,  // to a query
    granted,     // solo, holder = me
    paired,      // paired, and me is a member
    denied,      // for ever, for this epoch and this incarnation
    refused,     // not decided; `reason` says why, and asking again may help once that has changed
};

enum class RefusalReason : uint8_t {
    none = 1,
    unknown_pair,    // no record; create comes first
    wrong_store,     // the site was enrolled with another store, or the record was: enrol again
    record_too_old,  // the site stands in a later epoch than the record: this store has lost
                     // decisions
    peer_connected,  // force: the other site is in touch with the tiebreaker, hence not down
    wrong_site,      // a name in the request is not a site of this pair
    malformed,       // the request contradicts itself
};

struct Answer {
    AnswerKind kind = AnswerKind::refused;
    RefusalReason reason = RefusalReason::none;
    Request request;      // what is being answered
    Record record;        // as it stands now; empty for unknown_pair
    StoreIdentity store;  // of the store that answers
    friend bool operator==(const Answer&, const Answer&) = default;
};

bool is_member(const Record& record, const Member& member);
// The member that is not `one`, which is one.
Member other_member(const Record& record, const Member& one);
// The site that was the holder's partner when the pair last had one; of a pair with two sites that
// is solo, empty: it is the other one.
Name last_partner(const Record& record);
bool names_site(const Sites& sites, const Name& site);
// Nobody knows more of how `record` ended than the sites of its dead members; of a lone holder,
// whose grant may have died with it, those of the epoch before. Are these two of them?
bool are_last_sites(const Record& record, const Name& one, const Name& other);
// The epoch of an operator's force from `epoch`: above every grant that the tiebreaker can have
// made without us, and never the one that the other site would choose. A force begins a new block
// of 2^32 epochs; the first of `sites` takes its second quarter, the next its third, a third site
// the last one.
Epoch forced_epoch(Epoch epoch, const Sites& sites, const Name& me);
Sites sorted_sites(const Name& a, const Name& b);

std::string_view to_string(PairMode mode);
std::string_view to_string(RequestKind kind);
std::string_view to_string(AnswerKind kind);
std::string_view to_string(RefusalReason reason);

}  // namespace antipode::wire
