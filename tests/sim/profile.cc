#include "tests/sim/profile.h"

#include <array>

namespace antipode::sim {

namespace {

constexpr std::array<std::string_view, static_cast<size_t>(Mix::count)> kNames{
    "swarm", "usual", "far", "strays", "power", "tiebreaker", "operators", "spares"};

void lean(Profile& profile, World& w) {
    switch (profile.mix) {
        case Mix::swarm:
        case Mix::usual:
        case Mix::count:
            return;
        case Mix::far:
            profile.network.latency = w.between(60ms, 200ms);
            profile.network.tiebreaker_latency = w.between(500us, 4ms);
            return;
        case Mix::strays:
            profile.crashes = true;
            profile.kill_at_change = 0.15;
            profile.faults_per_second = 1 + 3 * w.random.unit();
            profile.network.stray = 0.02 + 0.2 * w.random.unit();
            profile.network.latency = w.between(30ms, 150ms);
            profile.network.tiebreaker_latency = w.between(500us, 4ms);
            return;
        case Mix::power:
            profile.power_losses = profile.write_crashes = true;
            profile.crash_at_write = 0.06;
            profile.slow_write_max = 500ms;
            profile.slow = true;
            return;
        case Mix::tiebreaker:
            profile.tiebreaker_losses = true;
            return;
        case Mix::operators:
            profile.operator_actions = true;
            profile.operator_mistakes = w.chance(0.5);
            profile.guest_stops = w.chance(0.5);
            profile.faults_per_second = 1 + 3 * w.random.unit();
            return;
        case Mix::spares:
            profile.site_count = 3;
            profile.chaos = w.between(8s, 40s);
            profile.faults_per_second = 0.2 + 1.5 * w.random.unit();
            profile.operator_actions = w.chance(0.5);
            return;
    }
}

}  // namespace

std::string_view to_string(Mix mix) {
    return mix < Mix::count ? kNames[static_cast<size_t>(mix)] : "?";
}

std::optional<Mix> mix_of(std::string_view name) {
    for (size_t i = 0; i < kNames.size(); ++i) {
        if (kNames[i] == name) return static_cast<Mix>(i);
    }
    return std::nullopt;
}

Profile Profile::draw(World& w, Mix mix) {
    constexpr auto kKinds = static_cast<uint64_t>(Mix::spares) - 2;
    Profile profile;
    profile.mix = mix;
    if (mix == Mix::swarm) {
        const uint64_t kind = w.random.below(2 * kKinds);
        profile.mix = kind < kKinds ? static_cast<Mix>(kind + 2) : Mix::usual;
    }
    profile.chaos = w.between(3s, 15s);
    profile.faults_per_second = 0.3 + 2.5 * w.random.unit();
    profile.partitions = w.chance(0.8);
    profile.crashes = w.chance(0.8);
    const bool strays = w.chance(0.3);
    profile.power_losses = w.chance(0.3);
    profile.write_crashes = w.chance(0.3);
    profile.crash_at_write = 0.03;
    profile.tiebreaker_losses = w.chance(0.12);
    profile.guest_stops = w.chance(0.1);
    profile.operator_actions = w.chance(0.4);
    profile.operator_mistakes = w.chance(0.1);
    profile.clocks = w.chance(0.3);
    profile.slow = w.chance(0.4);
    NetworkSettings& network = profile.network;
    network.latency = w.between(500us, 60ms);
    network.jitter = w.between(0ms, 15ms);
    network.tiebreaker_latency = w.between(1ms, 60ms);
    network.loss = 0.02 * w.random.unit();
    network.duplication = w.chance(0.5) ? 0.01 : 0;
    network.break_after = w.between(200ms, 3s);
    network.stray = strays ? 0.01 : 0;
    profile.client_interval = w.between(8ms, 60ms);
    const bool waits = w.chance(0.3);
    for (size_t i = 0; i < 2 && waits; ++i) {
        if (w.chance(0.5)) profile.rejoin[i] = failover::Policy::operator_decides;
        if (w.chance(0.5)) profile.reclaim[i] = failover::Policy::operator_decides;
    }
    lean(profile, w);
    return profile;
}

}  // namespace antipode::sim
