#include "tests/sim/simulation.h"

#include "common/failover/deliberate_bugs.h"

namespace antipode::sim {

using failover::State;

namespace {

constexpr Duration kProtectedFor = 700ms;

const std::array<Name, kSitesMax> kNames{Name::literal("site-a"), Name::literal("site-b"),
                                         Name::literal("another-site")};

std::vector<Name> names_of(size_t site_count) {
    return {kNames.begin(), kNames.begin() + static_cast<ptrdiff_t>(site_count)};
}

}  // namespace

Simulation::Simulation(uint64_t seed, Mix mix, Coverage& coverage, Verbose verbose)
    : world_(seed),
      profile_(Profile::draw(world_, mix)),
      checker_(world_),
      coverage_(coverage),
      network_(world_, profile_.site_count),
      tiebreaker_(world_, network_, checker_, names_of(profile_.site_count)),
      image_(checker_.lineage.boot(NodeId::none)) {
    world_.verbose = verbose == Verbose::yes;
    checker_.start_from(image_);
    network_.settings = profile_.network;
    tiebreaker_.keeps_identity_on_restore =
        failover::bug(failover::Bug::restored_store_keeps_identity);
    world_.say("-- mix {}", to_string(profile_.mix));
    if (profile_.site_count > 2) coverage_.expect_spares();
    for (size_t i = 0; i < profile_.site_count; ++i) {
        failover::Config config;
        config.pair = Name::literal("web1");
        config.site = kNames[i];
        config.peer_site = kNames[i == 0 ? 1 : 0];
        if (profile_.site_count > 2) config.sites = kNames;
        config.first_role = i == 0 ? wire::FirstRole::primary : wire::FirstRole::backup;
        config.rejoin = profile_.rejoin[i];
        config.reclaim = profile_.reclaim[i];
        sites_.push_back(std::make_unique<Site>(world_, network_, checker_, coverage_, i, config,
                                                i < 2 ? image_ : NodeId::none));
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
        if (profile_.site_count > 2) {
            settings.answer_limit =
                world_.chance(0.5) ? world_.between(3s, 8s) : world_.between(12s, 16s);
        }
    }
    wire_up();
}

void Simulation::wire_up() {
    for (size_t i = 0; i < sites_.size(); ++i) {
        Site* site = sites_[i].get();
        site->all = &sites_;
        site->peer = sites_[i == 0 ? 1 : 0].get();
        site->to_tiebreaker = [this, i](const wire::Request& request) {
            network_.request(i, [this, i, request] { tiebreaker_.receive(i, request); });
        };
        network_.sites[i] = {[site] { return site->alive(); }, [site] { site->session_opened(); },
                             [site] { site->input(failover::SessionDown{}); },
                             [site] { return site->peer->index(); }};
        network_.t_sites[i] = {[site] { return site->alive(); },
                               [this, i] { reach_tiebreaker(i); },
                               [site] { site->input(failover::TiebreakerDown{}); },
                               {}};
    }
    network_.tiebreaker = {[this] { return tiebreaker_.alive(); }, [] {}, [] {}, {}};
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
    // Each site that is lost for ever, and the faults before, are followed by such a time.
    world_.run_until(Instant(profile_.chaos + (kRecoveryLimit + 1s) * (sites_.size() > 2 ? 4 : 1)));
    SimulationResult result;
    if (!checker_.first_violation() && !done_) {
        std::string sites;
        for (const auto& site : sites_) sites += site->describe() + " | ";
        checker_.violation(
            fmt::format("protection did not come back: {}T {} e{}", sites,
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

std::optional<Simulation::Roles> Simulation::protected_now() const {
    const auto& record = tiebreaker_.record();
    if (!record || record->mode != wire::PairMode::paired) return std::nullopt;
    Roles roles;
    for (const auto& site : sites_) {
        const failover::Failover* core = site->core();
        if (core == nullptr || core->epoch() != record->epoch || !core->tiebreaker_usable())
            continue;
        if (core->state() == State::paired_primary) roles.primary = site.get();
        if (core->state() == State::paired_backup) roles.backup = site.get();
    }
    if (roles.primary == nullptr || roles.backup == nullptr) return std::nullopt;
    return roles;
}

// Looks every now and then; protection counts once it has lasted, and output flowed.
void Simulation::await_protection() {
    if (done_) return;
    world_.after(100ms, [this] { await_protection(); });
    if (sites_.size() > 2) await_recovery();
    const std::optional<Roles> roles = protected_now();
    if (!roles) {
        protected_since_ = Instant::max();
        return;
    }
    if (protected_since_ == Instant::max()) {
        protected_since_ = world_.now();
        outputs_when_protected_ = checker_.outputs();
        return;
    }
    if (world_.now() < protected_since_ + kProtectedFor) return;
    if (checker_.suspended() && runs_elsewhere(*roles)) return;
    if (checker_.suspended()) {
        checker_.whole(roles->primary->released_node());
        protected_since_ = Instant::max();
        return;
    }
    if (checker_.outputs() == outputs_when_protected_) return;
    protection_is_back(*roles);
}

void Simulation::protection_is_back(const Roles& roles) {
    for (const auto& site : sites_) checker_.runs_on_disk(site->index(), site->disk_strays());
    if (!checker_.lineage.has(roles.backup->log_tail(), checker_.seen())) {
        return checker_.violation("protected, but the backup lacks what has left");
    }
    if (operator_helped_ && !profile_.excused()) {
        return checker_.violation("an operator was needed although nothing was lost");
    }
    if (lost_count_ + 1 < sites_.size() && sites_.size() > 2) return lose_site_for_ever();
    done_ = true;
    world_.stop();
}

}  // namespace antipode::sim
