// The arbiter: what the tiebreaker decides, as a pure function of one pair's record and one
// request.
//
// The daemon looks up the record, calls decide(), makes the new record durable if it changed, and
// only then sends the answer. It has checked before that the request's `me.site` is the site that
// the peer's certificate names and that the certificate covers the pair.
//
// Threads: pure; any thread, one decision a pair at a time (read, decide, write is one
// transaction). INVARIANTS (tests/unit/failover/arbiter_test.cc, tests/sim, tests/model)
//   - The epoch never goes down, and goes up whenever mode, holder or members change, forget
//   excepted.
//   - From paired(e), acquire(e) of a member is granted to the first who asks and denied to the
//   other.
//   - The first two of a pair's sites never change; a third one is added by the holder's `pair` and
//   stays.
//   - Whoever is not a member by site *and* incarnation is granted nothing but what reclaim and an
//     operator's force allow.
//   - decide() on its own result and the same request changes nothing and answers the same.
// On a request that cannot be decided the record is untouched and the answer is `refused` with a
// reason.
#pragma once

#include <optional>

#include "common/wire/arbiter_messages.h"

namespace antipode::tiebreaker {

enum class PeerPresence : uint8_t {
    absent = 1,  // no authenticated session of a site that forbids_force() is open for this pair
    connected,
};

// What the daemon knows and a record does not.
struct Context {
    wire::StoreIdentity store;  // this store's identity now; a restore has changed it
    PeerPresence peer = PeerPresence::absent;
};

enum class Changed : uint8_t { no = 1, yes };

struct Decision {
    std::optional<wire::Record> record;  // what is to be stored; as it was if nothing changed
    wire::Answer answer;
    Changed changed = Changed::no;
};

Decision decide(const std::optional<wire::Record>& record, const wire::Request& request,
                const Context& context);

// Whether a force of `me` has to wait while `site` is connected: the other site of a pair of two;
// of three, the one of the other member, for nobody else can run the VM, or any if there is none.
bool forbids_force(const wire::Record& record, const Name& me, const Name& site);

// The broken rule, for a record that was read from a store; nullptr if it is sound.
const char* invalid(const wire::Record& record);

}  // namespace antipode::tiebreaker
