#include "common/wire/failover_messages.h"

namespace antipode::wire {

std::string_view to_string(SiteState state) {
    switch (state) {
        case SiteState::starting:
            return "starting";
        case SiteState::paired_primary:
            return "paired_primary";
        case SiteState::paired_backup:
            return "paired_backup";
        case SiteState::asking_primary:
            return "asking_primary";
        case SiteState::asking_backup:
            return "asking_backup";
        case SiteState::going_live:
            return "going_live";
        case SiteState::solo:
            return "solo";
        case SiteState::unprotected:
            return "unprotected";
        case SiteState::forced:
            return "forced";
        case SiteState::seeding:
            return "seeding";
        case SiteState::pairing:
            return "pairing";
        case SiteState::rejoining:
            return "rejoining";
        case SiteState::switching_primary:
            return "switching_primary";
        case SiteState::switching_backup:
            return "switching_backup";
        case SiteState::halting:
            return "halting";
        case SiteState::halted:
            return "halted";
        case SiteState::stopped:
            return "stopped";
    }
    return "?";
}

std::string_view to_string(PeerMessageKind kind) {
    switch (kind) {
        case PeerMessageKind::hello:
            return "hello";
        case PeerMessageKind::begin:
            return "begin";
        case PeerMessageKind::join:
            return "join";
        case PeerMessageKind::seed_begin:
            return "seed_begin";
        case PeerMessageKind::seed_loaded:
            return "seed_loaded";
        case PeerMessageKind::hand_over:
            return "hand_over";
        case PeerMessageKind::take_over:
            return "take_over";
        case PeerMessageKind::stopped:
            return "stopped";
    }
    return "?";
}

}  // namespace antipode::wire
