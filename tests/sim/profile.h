// What a seed does: how often faults come, which kinds it knows, and how the network and the
// machines are. Drawn at the seed's start, so that seeds differ in kind (swarm testing): a fault
// that every seed had would hide what only its absence shows.
//
// A mix leans the draw towards one kind of trouble. A campaign takes them all in turn (swarm);
// the hunt for a deliberate bug takes the one in which such a bug shows, and the campaign shows
// that the core without the bug is clean in the same mix.
#pragma once

#include <array>
#include <optional>
#include <string_view>

#include "common/failover/failover.h"
#include "tests/sim/network.h"
#include "tests/sim/world.h"

namespace antipode::sim {

enum class Mix : uint8_t {
    swarm = 0,   // each seed draws one of those below; half of them `usual`
    usual,       // everything now and then
    far,         // sites far apart, a tiebreaker near both
    strays,      // frames of dead processes turn up again, while processes die and come back
    power,       // hosts lose power, processes die in durable writes, disks are slow and full
    tiebreaker,  // the tiebreaker loses its data or is restored from an old backup
    operators,   // people do much, and some of it is wrong
    spares,      // a third site, which is no part of the swarm: two-site runs stay what they were
    count,
};
std::string_view to_string(Mix mix);
std::optional<Mix> mix_of(std::string_view name);

struct Profile {
    Mix mix = Mix::usual;
    Duration chaos = 12s;
    double faults_per_second = 1.5;
    bool power_losses = false;
    bool write_crashes = false;
    bool tiebreaker_losses = false;
    bool guest_stops = false;
    bool operator_actions = false;
    bool operator_mistakes = false;
    bool clocks = false;
    bool slow = false;
    bool partitions = true;
    bool crashes = true;
    double crash_at_write = 0;
    double kill_at_change = 0.05;  // of a site of which processes die so
    Duration slow_write_max = 250ms;
    Duration client_interval = 20ms;
    // Of each site: whether it comes back, and boots the VM again, by itself or waits for a person.
    std::array<failover::Policy, kSitesMax> rejoin{
        failover::Policy::automatic, failover::Policy::automatic, failover::Policy::automatic};
    std::array<failover::Policy, kSitesMax> reclaim = rejoin;
    size_t site_count = 2;
    NetworkSettings network;

    // An operator may be needed in such a seed.
    bool excused() const {
        return power_losses || write_crashes || tiebreaker_losses || operator_mistakes;
    }
    static Profile draw(World& world, Mix mix);
};

}  // namespace antipode::sim
