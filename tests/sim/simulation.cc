#include "tests/sim/simulation.h"

#include "common/failover/deliberate_bugs.h"

namespace antipode::sim {

using failover::State;

namespace {

// Protection must be back this long after the last fault, at the latest.
constexpr Duration kRecoveryLimit = 40s;
constexpr Duration kProtectedFor = 700ms;

}  // namespace

Simulation::Simulation(uint64_t seed, Mix mix, Coverage& coverage, Verbose verbose)
    : world_(seed),
      profile_(Profile::draw(world_, mix)),
      checker_(world_),
      coverage_(coverage),
      network_(world_),
      tiebreaker_(world_, network_, checker_),
      image_(checker_.lineage.boot(NodeId::none)) {
    world_.verbose = verbose == Verbose::yes;
    checker_.start_from(image_);
    network_.settings = profile_.network;
    tiebreaker_.keeps_identity_on_restore =
        failover::bug(failover::Bug::restored_store_keeps_identity);
    world_.say("-- mix {}", to_string(profile_.mix));
    const Name names[2] = {Name::literal("site-a"), Name::literal("site-b")};
    for (size_t i = 0; i < 2; ++i) {
        failover::Config config;
        config.pair = Name::literal("web1");
        config.site = names[i];
        config.peer_site = names[1 - i];
        config.first_role = i == 0 ? wire::FirstRole::primary : wire::FirstRole::backup;
        config.rejoin = profile_.rejoin[i];
        config.reclaim = profile_.reclaim[i];
        sites_[i] =
            std::make_unique<Site>(world_, network_, checker_, coverage_, i, config, image_);
        Site::Settings& settings = sites_[i]->settings;
        settings.crash_at_write = profile_.write_crashes ? profile_.crash_at_write : 0;
        const bool kills = profile_.crashes && world_.chance(0.3);
        settings.kill_at_change = kills ? profile_.kill_at_change : 0;
        if (world_.chance(0.15)) settings.write_time_max = profile_.slow_write_max;
        if (world_.chance(0.25)) settings.apply_time_max = 1500ms;
        if (profile_.slow && world_.chance(0.5)) settings.pause_time_max = 800ms;
        settings.undo_overlay = world_.chance(0.5) ? 1 : 0;
        settings.runs_on_waking = world_.chance(0.5) ? 1 : 0;
        settings.seed_time_max = world_.between(50ms, 1500ms);
    }
    wire_up();
}

void Simulation::wire_up() {
    for (size_t i = 0; i < 2; ++i) {
        Site* site = sites_[i].get();
        site->peer = sites_[1 - i].get();
        site->to_tiebreaker = [this, i](const wire::Request& request) {
            network_.request(i, [this, i, request] { tiebreaker_.receive(i, request); });
        };
        network_.sites[i] = {[site] { return site->alive(); }, [site] { site->session_opened(); },
                             [site] { site->input(failover::SessionDown{}); }};
        network_.t_sites[i] = {[site] { return site->alive(); }, [this, i] { reach_tiebreaker(i); },
                               [site] { site->input(failover::TiebreakerDown{}); }};
    }
    network_.tiebreaker = {[this] { return tiebreaker_.alive(); }, [] {}, [] {}};
    tiebreaker_.deliver = [this](size_t site, const wire::Answer& answer) {
        network_.answer(site, [to = sites_[site].get(), answer] {
            to->input(failover::TiebreakerAnswer{answer});
        });
    };
}

void Simulation::reach_tiebreaker(size_t index) {
    Site* site = sites_[index].get();
    site->input(failover::TiebreakerUp{tiebreaker_.store()});
    if (!site->alive()) return;
    // A watch ends with its connection: none of a dead process turns up again.
    network_.request(index, [this, index, site, me = site->core()->me()] {
        const bool lives = site->alive() && site->core()->me() == me;
        if (lives && network_.tiebreaker_up(index)) tiebreaker_.watch(index, me);
    });
}

SimulationResult Simulation::run() {
    return run_script([this] { next_fault(); });
}

SimulationResult Simulation::run_script(const std::function<void()>& script) {
    network_.start();
    for (const auto& site : sites_) {
        world_.after(world_.between(0ms, 300ms), [to = site.get()] { to->start(); });
    }
    client();
    operate();
    script();
    world_.at(Instant(profile_.chaos), [this] { heal_everything(); });
    world_.run_until(Instant(profile_.chaos + kRecoveryLimit + 1s));
    SimulationResult result;
    if (!checker_.first_violation() && !done_) {
        checker_.violation(
            fmt::format("protection did not come back: {} | {} | T {} e{}", sites_[0]->describe(),
                        sites_[1]->describe(),
                        tiebreaker_.record() ? to_string(tiebreaker_.record()->mode) : "nothing",
                        tiebreaker_.record() ? tiebreaker_.record()->epoch : Epoch(0)));
    }
    result.violation = checker_.first_violation();
    result.trace_hash = world_.trace_hash();
    result.steps = world_.steps();
    result.faults = faults_;
    result.outputs = checker_.outputs();
    result.boots = checker_.boots();
    result.decisions = tiebreaker_.decisions();
    result.operator_helped = operator_helped_;
    result.virtual_time = world_.now() - Instant{};
    result.recovery = world_.now() - healed_at_;
    return result;
}

void Simulation::client() {
    const Duration mean = profile_.client_interval;
    world_.after(world_.between(mean / 2, mean * 3 / 2), [this] {
        // Clients find the VM wherever it answers; a site that runs it although it should not gets
        // requests as well, and what it makes of them must not leave.
        for (const auto& site : sites_) site->client_request();
        client();
    });
}

bool Simulation::protected_now() const {
    const Site* primary = nullptr;
    const Site* backup = nullptr;
    for (const auto& site : sites_) {
        if (site->state() == State::paired_primary) primary = site.get();
        if (site->state() == State::paired_backup) backup = site.get();
    }
    if (primary == nullptr || backup == nullptr) return false;
    const auto& record = tiebreaker_.record();
    return primary->core()->epoch() == backup->core()->epoch() && record &&
           record->epoch == primary->core()->epoch() && record->mode == wire::PairMode::paired &&
           primary->core()->tiebreaker_usable() && backup->core()->tiebreaker_usable();
}

// Looks every now and then; protection counts once it has lasted, and output flowed.
void Simulation::await_protection() {
    if (done_) return;
    world_.after(100ms, [this] { await_protection(); });
    if (!protected_now()) {
        protected_since_ = Instant::max();
        return;
    }
    if (protected_since_ == Instant::max()) {
        protected_since_ = world_.now();
        outputs_when_protected_ = checker_.outputs();
        return;
    }
    if (world_.now() < protected_since_ + kProtectedFor) return;
    const size_t primary = sites_[0]->state() == State::paired_primary ? 0 : 1;
    if (checker_.suspended()) {
        checker_.whole(sites_[primary]->released_node());
        protected_since_ = Instant::max();
        return;
    }
    if (checker_.outputs() == outputs_when_protected_) return;
    for (size_t i = 0; i < 2; ++i) checker_.runs_on_disk(i, sites_[i]->disk_strays());
    if (!checker_.lineage.has(sites_[1 - primary]->log_tail(), checker_.seen())) {
        return checker_.violation("protected, but the backup lacks what has left");
    }
    if (operator_helped_ && !profile_.excused()) {
        return checker_.violation("an operator was needed although nothing was lost");
    }
    done_ = true;
    world_.stop();
}

}  // namespace antipode::sim
