// A careful operator: looks at both sites every second, and acts only where a site waits for one.
#include "tests/sim/simulation.h"

namespace antipode::sim {

using failover::AlarmCode;
using failover::Command;
using failover::CommandKind;
using failover::Loss;
using failover::State;

bool Simulation::someone_runs() const {
    for (const auto& site : sites_) {
        if (wire::runs_vm(site->state()) || site->state() == State::going_live) return true;
    }
    return false;
}

void Simulation::operate() {
    world_.after(1s, [this] { operate(); });
    for (const auto& site : sites_) {
        if (!site->alive() || site->state() != State::stopped) continue;
        coverage_.probe("an operator starts a VM that was shut down");
        site->kill();
    }
    if (!healing_) return;
    if (someone_runs()) {
        idle_since_ = Instant::max();
    } else if (idle_since_ == Instant::max()) {
        idle_since_ = world_.now();
    }
    help_with_lost_tiebreaker();
    if (sites_.size() > 2) help_left_behind();
    for (const auto& site : sites_) {
        const failover::Failover* core = site->core();
        if (core == nullptr) continue;
        const bool diverged =
            core->durable().divergence == failover::Divergence::diverged && someone_runs();
        const bool idle = core->state() == State::halted || core->state() == State::starting;
        if (core->state() == State::unprotected) site->input(Command{CommandKind::protect, {}});
        const failover::Failover* other = site->peer->core();
        const bool overruled =
            other != nullptr && core->epoch() < other->epoch() && !wire::runs_vm(other->state()) &&
            (core->state() == State::solo || core->state() == State::unprotected);
        if (overruled) {
            coverage_.probe("an operator overrules a forced site that has stopped");
            operator_helped_ = true;
            checker_.forced();
            site->input(Command{CommandKind::force, "web1"});
        }
        if (diverged && idle) {
            coverage_.probe("an operator lets a diverged site rejoin");
            operator_helped_ = true;
            site->input(Command{CommandKind::rejoin, {}});
        }
    }
    for (size_t i = 0; i < sites_.size(); ++i) help_as_configured(i);
    if (idle_since_ != Instant::max() && world_.now() > idle_since_ + 12s) help_idle_pair();
}

// A site whose policy is to wait for a person gets its word. Nothing was lost, and nothing is.
void Simulation::help_as_configured(size_t index) {
    Site& site = *sites_[index];
    const failover::Failover* core = site.core();
    if (core == nullptr || core->alarms().count(AlarmCode::operator_needed) == 0) return;
    const bool idle = core->state() == State::halted || core->state() == State::starting;
    if (!idle || core->durable().divergence == failover::Divergence::diverged) return;
    if (someone_runs()) {
        if (profile_.rejoin[index] == failover::Policy::automatic) return;
        coverage_.probe("an operator lets a site rejoin whose policy is to wait");
        site.input(Command{CommandKind::rejoin, {}});
    } else if (profile_.reclaim[index] == failover::Policy::operator_decides) {
        coverage_.probe("an operator lets a site boot the VM whose policy is to wait");
        site.input(Command{CommandKind::reclaim, {}});
    }
}

// The tiebreaker has another store: the site that runs the VM is enrolled again.
void Simulation::help_with_lost_tiebreaker() {
    for (const auto& site : sites_) {
        const failover::Failover* core = site->core();
        if (core == nullptr || core->alarms().count(AlarmCode::tiebreaker_refused) == 0) continue;
        if (!wire::runs_vm(core->state()) || core->peer_suspected()) continue;
        coverage_.probe("an operator enrols the pair again");
        operator_helped_ = true;
        checker_.forced();  // it is a force in all but name
        site->input(Command{CommandKind::enrol_again, "web1"});
    }
}

// Nobody runs the VM and nobody will by itself: the operator takes the copy that is the newest,
// after making sure that the other site is down.
void Simulation::help_idle_pair() {
    Site* best = nullptr;
    for (const auto& site : sites_) {
        if (!site->alive()) continue;
        const auto rank = [](const Site& of) {
            return std::pair(of.core()->durable().live_epoch, of.core()->epoch());
        };
        if (best == nullptr || rank(*site) > rank(*best)) best = site.get();
    }
    if (best == nullptr) return;
    coverage_.probe("an operator forces the newest copy");
    operator_helped_ = true;
    checker_.forced();
    for (const auto& site : sites_) {
        if (site.get() != best) site->keep_down(sites_.size() > 2 ? 12s : 3s);
    }
    // A site of three that has no record goes round, and does not know at once whether the next one
    // answers: its operator tries again.
    const size_t tries = sites_.size() > 2 ? 6 : 1;
    for (size_t i = 0; i < tries; ++i) {
        world_.after(2500ms + i * 1300ms, [this, best] {
            const bool runs = wire::runs_vm(best->state());
            if (!best->alive() || (runs && sites_.size() > 2)) return;
            best->accept_loss();
            best->input(Command{CommandKind::force, "web1", Loss::accepted});
            idle_since_ = Instant::max();
        });
    }
    idle_since_ = world_.now();
}

}  // namespace antipode::sim
