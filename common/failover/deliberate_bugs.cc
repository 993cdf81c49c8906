#include "common/failover/deliberate_bugs.h"

namespace antipode::failover {

thread_local Bug deliberate_bug = Bug::none;

std::string_view to_string(Bug bug) {
    switch (bug) {
        case Bug::none:
            return "none";
        case Bug::release_while_asking:
            return "release_while_asking";
        case Bug::ack_after_asking:
            return "ack_after_asking";
        case Bug::forget_epoch_check:
            return "forget_epoch_check";
        case Bug::ignore_incarnations:
            return "ignore_incarnations";
        case Bug::pair_before_in_sync:
            return "pair_before_in_sync";
        case Bug::abandon_plainly:
            return "abandon_plainly";
        case Bug::act_before_durable:
            return "act_before_durable";
        case Bug::lease_by_time:
            return "lease_by_time";
        case Bug::live_before_drained:
            return "live_before_drained";
        case Bug::gate_after_seed:
            return "gate_after_seed";
        case Bug::reclaim_any_copy:
            return "reclaim_any_copy";
        case Bug::believe_old_witness:
            return "believe_old_witness";
        case Bug::restored_store_keeps_identity:
            return "restored_store_keeps_identity";
        case Bug::resync_by_survivors_marks:
            return "resync_by_survivors_marks";
        case Bug::third_site_vouches:
            return "third_site_vouches";
        case Bug::turn_while_pairing:
            return "turn_while_pairing";
        case Bug::count:
            break;
    }
    return "?";
}

}  // namespace antipode::failover
