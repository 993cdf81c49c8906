// What only three sites can do: lines that are cut while others work, sites that stay away for long
// or for ever, and backups that are moved.
#include <algorithm>

#include "tests/sim/simulation.h"

namespace antipode::sim {

using failover::AlarmCode;
using failover::State;

void Simulation::cut_line_for(std::vector<std::pair<size_t, size_t>> lines, Duration duration) {
    for (const auto& [from, to] : lines) network_.line_cut[from][to] = true;
    network_.cut_changed();
    world_.after(duration, [this, lines = std::move(lines)] {
        for (const auto& [from, to] : lines) network_.line_cut[from][to] = false;
        network_.cut_changed();
    });
}

void Simulation::fault_spares() {
    World& w = world_;
    const size_t one = w.random.below(3);
    const size_t other = (one + w.random.between(1, 2)) % 3;
    const size_t third = 3 - one - other;
    // Long enough at times that the next site is taken.
    const Duration duration = w.chance(0.4) ? w.between(100ms, 2s) : w.between(2s, 20s);
    switch (w.random.below(7)) {
        case 0:
        case 1:
            count("one line cut, the others work");
            return cut_line_for({{one, other}, {other, one}}, duration);
        case 2:
            count("one line cut in one direction");
            return cut_line_for({{one, other}}, duration);
        case 3:
            count("one of three sites alone");
            cut_line_for({{one, other}, {other, one}, {one, third}, {third, one}}, duration);
            if (w.chance(0.5)) {
                PerSite alone{};
                alone[one] = true;
                cut_for({}, alone, duration);
            }
            return;
        case 4: {
            count("the tiebreaker cut from one of three");
            PerSite apart{};
            apart[one] = true;
            return cut_for({}, apart, duration);
        }
        case 5:
            if (!profile_.crashes) return;
            count("a site stays away for long");
            return sites_[one]->keep_down(duration);
        default:
            if (!profile_.operator_actions) return;
            count("the backup is moved");
            for (const auto& site : sites_) site->move_backup(sites_[one]->name());
    }
}

// Whoever is lost, the other two go on, and with each other.
void Simulation::lose_site_for_ever() {
    const std::optional<Roles> roles = protected_now();
    Site* lost = nullptr;
    for (const auto& site : sites_) {
        if (site.get() != roles->primary && site.get() != roles->backup) lost = site.get();
    }
    const bool spare_lives = lost_count_ == 0;
    if (!spare_lives || world_.chance(0.9)) {
        lost = world_.chance(0.5) ? roles->primary : roles->backup;
    }
    ++lost_count_;
    lost_at_ = world_.now();
    protected_since_ = Instant::max();
    outputs_when_protected_ = checker_.outputs();
    coverage_.probe(lost == roles->primary  ? "the primary is lost for ever"
                    : lost == roles->backup ? "the backup is lost for ever"
                                            : "the spare is lost for ever");
    world_.say("-- {} is lost for ever", letter(lost->index()));
    lost->keep_down(std::chrono::hours(24));
}

bool Simulation::goes_on_alone() const {
    for (const auto& site : sites_) {
        if (site->state() == State::solo) return checker_.outputs() > outputs_when_protected_ + 3;
    }
    return false;
}

// By a force that nobody has overruled yet.
bool Simulation::runs_elsewhere(const Roles& roles) const {
    return std::any_of(sites_.begin(), sites_.end(), [&](const auto& site) {
        return site.get() != roles.primary && wire::runs_vm(site->state());
    });
}

// A site that follows a store which is no more, and whose peer has turned to another one, hears
// from nobody that it was overruled: an operator starts its replicator again.
void Simulation::help_left_behind() {
    for (const auto& site : sites_) {
        const failover::Failover* core = site->core();
        if (core == nullptr || core->alarms().count(AlarmCode::tiebreaker_refused) == 0) continue;
        const State state = core->state();
        const bool bound = state == State::forced || state == State::asking_primary ||
                           state == State::asking_backup;
        const bool overruled = std::any_of(sites_.begin(), sites_.end(), [&](const auto& other) {
            const failover::Failover* runs = other->core();
            return wire::runs_vm(other->state()) && runs->tiebreaker_usable() &&
                   (runs->epoch() > core->epoch() || runs->state() == State::paired_primary);
        });
        if (!bound || !overruled) continue;
        coverage_.probe("an operator starts a site again that was left behind");
        operator_helped_ = true;
        site->kill();
    }
}

void Simulation::await_recovery() {
    if (lost_count_ == 2 && goes_on_alone()) {
        coverage_.probe("the last of three sites goes on");
        done_ = true;
        return world_.stop();
    }
    // An operator's way out of faults takes its time.
    const Duration helped = operator_helped_ && lost_count_ == 0 ? 20s : 0s;
    if (world_.now() < lost_at_ + kRecoveryLimit + helped) return;
    std::string sites;
    for (const auto& site : sites_) sites += site->describe() + " | ";
    checker_.violation(
        fmt::format("{} of three sites lost, and it does not go on: {}", lost_count_, sites));
}

}  // namespace antipode::sim
