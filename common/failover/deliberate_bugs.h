// Mistakes that the simulator must find (tests/sim). In the product bug() is a constant `no` and
// nothing of this is compiled in; the simulator's second build (ANTIPODE_DELIBERATE_BUGS) chooses
// one at run time.
#pragma once

#include <cstdint>
#include <string_view>

namespace antipode::failover {

enum class Bug : uint8_t {
    none = 0,
    release_while_asking,  // a primary that has lost its backup lets output go at once
    ack_after_asking,      // a backup acknowledges entries that it no longer keeps
    forget_epoch_check,    // an old record from the tiebreaker is acted upon
    ignore_incarnations,   // a restarted backup takes itself, and is taken, for the one before
    pair_before_in_sync,   // the tiebreaker is asked to pair before the seed is loaded
    abandon_plainly,       // a pair request is given up without an epoch
    act_before_durable,    // the state is acted upon before it is on disk
    lease_by_time,         // a site that cannot reach the tiebreaker goes live after a while
    live_before_drained,   // a winner goes live without consuming its log
    gate_after_seed,       // output is held only once the seed is loaded, not from its cut on
    reclaim_any_copy,      // a restarted site boots the VM although its copy is not the newest
    believe_old_witness,   // a witness that does not know the record vouches for its members' death
    restored_store_keeps_identity,  // the tiebreaker's, not the core's
    resync_by_survivors_marks,      // the disks': what only the loser wrote is not overwritten
    third_site_vouches,             // a site that had no part in how the record ended is a witness
    turn_while_pairing,             // a site turns to another one while a pair request is open
    count,
};

#ifdef ANTIPODE_DELIBERATE_BUGS
extern thread_local Bug deliberate_bug;
std::string_view to_string(Bug bug);
inline bool bug(Bug which) {
    return deliberate_bug == which;
}
inline bool any_bug() {
    return deliberate_bug != Bug::none;
}
#else
constexpr bool bug(Bug) {
    return false;
}
constexpr bool any_bug() {
    return false;
}
#endif

}  // namespace antipode::failover
