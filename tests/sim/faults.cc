// Everything that goes wrong, drawn from the seed.
#include <algorithm>

#include "tests/sim/simulation.h"

namespace antipode::sim {

using failover::Command;
using failover::CommandKind;
using failover::State;

void Simulation::count(const char* name) {
    ++faults_;
    coverage_.probe(name);
    world_.say("-- fault: {}", name);
}

void Simulation::next_fault() {
    const auto gap = std::chrono::duration<double>(1.0 / profile_.faults_per_second);
    const auto mean = std::chrono::duration_cast<Duration>(gap);
    world_.after(world_.between(mean / 10, mean * 19 / 10), [this] {
        if (healing_) return;
        fault();
        next_fault();
    });
}

void Simulation::fault() {
    if (sites_.size() > 2 && world_.chance(0.35)) return fault_spares();
    switch (world_.random.below(4)) {
        case 0:
            return fault_network();
        case 1:
            return fault_site();
        case 2:
            return fault_tiebreaker();
        default:
            if (profile_.operator_actions || profile_.operator_mistakes) return fault_operator();
            return world_.chance(0.5) ? fault_network() : fault_site();
    }
}

void Simulation::cut_for(PerSite sites, PerSite tiebreaker, Duration duration) {
    for (size_t i = 0; i < kSitesMax; ++i) {
        network_.cut[i] = network_.cut[i] || sites[i];
        network_.t_cut[i] = network_.t_cut[i] || tiebreaker[i];
    }
    network_.cut_changed();
    world_.after(duration, [this, sites, tiebreaker] {
        for (size_t i = 0; i < kSitesMax; ++i) {
            if (sites[i]) network_.cut[i] = false;
            if (tiebreaker[i]) network_.t_cut[i] = false;
        }
        network_.cut_changed();
    });
}

// Clog paths one by one, and unclog them in another order (FoundationDB's most productive fault).
void Simulation::swizzle() {
    count("swizzle");
    std::array<size_t, 4> order{0, 1, 2, 3};
    const auto shuffle = [&] {
        for (size_t i = order.size() - 1; i > 0; --i) {
            std::swap(order[i], order[world_.random.below(i + 1)]);
        }
    };
    const auto set = [this](size_t path, bool cut) {
        if (path < 2) {
            network_.cut[path] = cut;
        } else {
            network_.t_cut[path - 2] = cut;
        }
        network_.cut_changed();
    };
    shuffle();
    Duration when{};
    for (const size_t path : order) {
        when += world_.between(0ms, 700ms);
        world_.after(when, [this, set, path] {
            if (!healing_) set(path, true);
        });
    }
    shuffle();
    for (const size_t path : order) {
        when += world_.between(0ms, 900ms);
        world_.after(when, [set, path] { set(path, false); });
    }
}

// The line works, and is bad.
void Simulation::fault_line(Duration duration) {
    World& w = world_;
    const Duration spike = w.between(20ms, 400ms);
    const size_t site = w.random.below(sites_.size());
    switch (w.random.below(5)) {
        case 0:
            count("delay");
            network_.extra_delay = spike;
            w.after(duration, [this] { network_.extra_delay = {}; });
            return;
        case 1:
            count("loss");
            network_.extra_loss = w.random.unit();
            w.after(duration, [this] { network_.extra_loss = 0; });
            return;
        case 2:
            count("delay in one direction");
            network_.slow_path[site] = spike;
            w.after(duration, [this, site] { network_.slow_path[site] = {}; });
            return;
        case 3:
            count("heartbeats lost, the channel works");
            network_.heartbeats_cut[site] = true;
            w.after(duration, [this, site] { network_.heartbeats_cut[site] = false; });
            return;
        default:
            count("the tiebreaker's answers are lost");
            network_.t_answers_cut[site] = true;
            w.after(duration, [this, site] { network_.t_answers_cut[site] = false; });
    }
}

void Simulation::fault_network() {
    World& w = world_;
    const Duration duration = w.chance(0.5) ? w.between(50ms, 600ms) : w.between(600ms, 5s);
    if (!profile_.partitions || w.chance(0.25)) return fault_line(duration);
    switch (w.random.below(8)) {
        case 0:
            count("cut A to B");
            return cut_for({true, false}, {}, duration);
        case 1:
            count("cut B to A");
            return cut_for({false, true}, {}, duration);
        case 2:
            count("cut both ways");
            return cut_for({true, true}, {}, duration);
        case 3:
            count("A alone");
            return cut_for({true, true}, {true, false}, duration);
        case 4:
            count("B alone");
            return cut_for({true, true}, {false, true}, duration);
        case 5:
            count("everybody alone");
            return cut_for({true, true}, {true, true}, duration);
        case 6:
            return swizzle();
        default:
            count("session reset");
            network_.break_sessions();
    }
}

void Simulation::fault_site() {
    World& w = world_;
    Site& site = *sites_[w.random.below(sites_.size())];
    const uint64_t kind = w.random.below(14);
    if (kind == 10) {
        count("seed fails");
        site.seed_fails();
        site.peer->seed_fails();
    } else if (kind == 11) {
        count("memory lost");
        site.memory_lost();
    } else if (kind == 12 && profile_.slow) {
        count("slow peer");
        site.crawl(w.now() + w.between(500ms, 5s));
    } else if (kind == 13 && profile_.slow) {
        count("slow disk");
        slow_disk(site);
    } else if (kind == 2 && profile_.guest_stops) {
        count("the guest shuts itself down");
        site.guest_stops();
    } else if (kind < 3 && profile_.crashes) {
        count("kill");
        site.kill();
        if (w.chance(0.25)) {
            count("kill of both");
            w.after(w.between(0ms, 400ms), [other = site.peer] { other->kill(); });
        }
    } else if (kind < 5 && profile_.power_losses) {
        count("power loss");
        site.lose_power();
        if (w.chance(0.25)) {
            count("power loss of both");
            w.after(w.between(0ms, 50ms), [other = site.peer] { other->lose_power(); });
        }
    } else if (kind < 7 && profile_.slow) {
        count("stopped and continued");
        site.stop_for(w.chance(0.5) ? w.between(50ms, 500ms) : w.between(500ms, 6s));
    } else if (kind == 7 && profile_.clocks) {
        if (w.chance(0.5)) {
            count("clock drift");
            site.clock_drift(0.5 + w.random.unit());
        } else {
            count("clock jump");
            site.clock_jump(w.between(10ms, 20s));
        }
    } else if (kind == 8 && profile_.write_crashes) {
        count("disk full");
        site.disk_full = true;
        w.after(w.between(100ms, 3s), [to = &site] { to->disk_full = false; });
    } else if (kind == 9 && profile_.crashes) {
        count("vm failed");
        site.input(failover::VmFailed{"injected"});
    } else {
        fault_network();
    }
}

void Simulation::slow_disk(Site& site) {
    const Duration before = std::min<Duration>(site.settings.write_time_max, 500ms);
    site.settings.write_time_max = 2s;
    world_.after(world_.between(500ms, 4s),
                 [to = &site, before] { to->settings.write_time_max = before; });
}

void Simulation::fault_tiebreaker() {
    World& w = world_;
    const Duration duration = w.between(200ms, 4s);
    switch (w.random.below(6)) {
        case 0:
            count("tiebreaker cut from A");
            return cut_for({}, {true, false}, duration);
        case 1:
            count("tiebreaker cut from B");
            return cut_for({}, {false, true}, duration);
        case 2:
        case 3:
            if (!tiebreaker_.alive()) return;
            count("tiebreaker crash");
            tiebreaker_.crash();
            w.after(duration, [this] { tiebreaker_.restart(); });
            return;
        case 4:
            count("tiebreaker slow");
            tiebreaker_.slowness = w.between(10ms, 800ms);
            w.after(duration, [this] { tiebreaker_.slowness = {}; });
            return;
        default:
            if (!profile_.tiebreaker_losses) return tiebreaker_.back_up();
            if (w.chance(0.5)) {
                count("tiebreaker loses its data");
                tiebreaker_.wipe();
            } else {
                count("tiebreaker restored from an old backup");
                tiebreaker_.restore();
            }
            w.after(duration, [this] { tiebreaker_.restart(); });
    }
}

// What a force is there for: everything is out of reach. One site is forced, or by mistake both,
// and the tiebreaker comes back late, perhaps without its data. Meanwhile life goes on.
void Simulation::disaster(Site& site) {
    World& w = world_;
    const bool both = w.chance(0.4);
    count(both ? "force at both sites, everybody alone" : "force, everybody alone");
    checker_.forced();
    const Duration duration = w.between(2s, 8s);
    cut_for({true, true}, {true, true}, duration);
    for (Site* to : {&site, both ? site.peer : nullptr}) {
        if (to == nullptr) continue;
        w.after(w.between(1s, 2s), [to] {
            if (!to->alive()) return;
            to->accept_loss();
            to->input(Command{CommandKind::force, "web1", failover::Loss::accepted});
        });
    }
    if (profile_.tiebreaker_losses && w.chance(0.5)) {
        count("tiebreaker loses its data");
        tiebreaker_.wipe();
        w.after(duration / 2, [this] { tiebreaker_.restart(); });
    }
    const uint64_t then = w.random.below(6);
    w.after(w.between(2s, 4s), [this, to = &site, then] {
        if (!to->alive()) return;
        if (then == 0 && profile_.guest_stops) to->guest_stops();
        if (then == 1) to->input(Command{CommandKind::unprotect, {}});
        if (then == 2) to->input(failover::VmFailed{"injected"});
        if (then == 3) to->input(Command{CommandKind::force, "web1", failover::Loss::accepted});
    });
}

void Simulation::fault_operator() {
    World& w = world_;
    Site& site = *sites_[w.random.below(sites_.size())];
    if (!site.alive()) return;
    if (profile_.operator_mistakes && w.chance(0.1)) return disaster(site);
    if (profile_.operator_mistakes && w.chance(0.1)) {
        count("enrolled again without need");
        checker_.forced();  // it is a force in all but name
        return site.input(Command{CommandKind::enrol_again, "web1"});
    }
    if (profile_.operator_mistakes && w.chance(0.4)) {
        // Force: the core must refuse what it can see to be wrong; what it cannot see, happens.
        const bool both = w.chance(0.3);
        count(both ? "force at both sites" : "force");
        checker_.forced();
        for (Site* to : {&site, both ? site.peer : nullptr}) {
            if (to == nullptr || !to->alive()) continue;
            if (w.chance(0.5)) to->accept_loss();
            to->input(Command{CommandKind::force, w.chance(0.95) ? "web1" : "web2",
                              w.chance(0.5) ? failover::Loss::accepted : failover::Loss::refused});
        }
        return;
    }
    switch (w.random.below(6)) {
        case 0:
        case 1:
            count("switchover");
            for (Site* to : {&site, site.peer}) to->input(Command{CommandKind::switch_over, {}});
            return;
        case 2:
            count("take over");
            for (Site* to : {&site, site.peer}) to->input(Command{CommandKind::take_over, {}});
            return;
        case 3:
            count("unprotect");
            for (Site* to : {&site, site.peer}) to->input(Command{CommandKind::unprotect, {}});
            w.after(w.chance(0.5) ? w.between(100ms, 3s) : w.between(3s, 9s), [this] {
                for (const auto& to : sites_) to->input(Command{CommandKind::protect, {}});
            });
            return;
        case 4:
            count("rejoin by hand");
            return site.input(Command{CommandKind::rejoin, {}});
        default:
            count("reclaim by hand");
            return site.input(Command{CommandKind::reclaim, {}});
    }
}

void Simulation::heal_everything() {
    world_.say("-- everything is healed");
    healing_ = true;
    healed_at_ = world_.now();
    network_.cut = {};
    network_.line_cut = {};
    network_.t_cut = {};
    network_.extra_delay = {};
    network_.extra_loss = 0;
    network_.slow_path = {};
    network_.heartbeats_cut = {};
    network_.t_answers_cut = {};
    network_.settings.stray = 0;
    network_.cut_changed();
    if (!tiebreaker_.alive()) tiebreaker_.restart();
    tiebreaker_.slowness = {};
    for (const auto& site : sites_) {
        site->disk_full = false;
        site->settings.crash_at_write = 0;
        site->settings.kill_at_change = 0;
        site->clock_drift(1);
        site->continue_now();
        if (sites_.size() > 2) site->come_back();
        site->input(Command{CommandKind::protect, {}});
    }
    lost_at_ = world_.now();
    await_protection();
}

}  // namespace antipode::sim
