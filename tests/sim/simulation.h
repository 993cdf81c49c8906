// One seed: two sites or three, a tiebreaker, clients, operators, faults for a while, then quiet,
// in which protection must come back.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <string>

#include "tests/sim/checker.h"
#include "tests/sim/coverage.h"
#include "tests/sim/network.h"
#include "tests/sim/profile.h"
#include "tests/sim/site.h"
#include "tests/sim/tiebreaker.h"

namespace antipode::sim {

// Protection must be back this long after the last fault, at the latest; where two of three sites
// are lost for ever, the VM.
constexpr Duration kRecoveryLimit = 40s;

struct SimulationResult {
    std::optional<std::string> violation;
    uint64_t trace_hash = 0;
    uint64_t steps = 0;
    uint64_t faults = 0;
    uint64_t outputs = 0;
    uint64_t boots = 0;
    uint64_t decisions = 0;
    bool operator_helped = false;
    Duration virtual_time{};
    Duration recovery{};  // from the end of the faults to full protection
};

enum class Verbose : uint8_t { no = 1, yes };

class Simulation {
  public:
    Simulation(uint64_t seed, Mix mix, Coverage& coverage, Verbose verbose);
    SimulationResult run();
    // As run(), with faults that `script` schedules instead of those that the seed would bring.
    SimulationResult run_script(const std::function<void()>& script);
    World& world() { return world_; }
    Site& site(size_t index) { return *sites_[index]; }
    Tiebreaker& tiebreaker() { return tiebreaker_; }
    Network& network() { return network_; }
    Checker& checker() { return checker_; }

  private:
    void wire_up();
    void reach_tiebreaker(size_t index);

    // faults.cc
    void next_fault();
    void fault();
    void fault_network();
    void fault_line(Duration duration);
    void slow_disk(Site& site);
    void fault_site();
    void fault_tiebreaker();
    void disaster(Site& site);
    void fault_operator();
    using PerSite = std::array<bool, kSitesMax>;
    void cut_for(PerSite sites, PerSite tiebreaker, Duration duration);
    void swizzle();
    void heal_everything();
    void count(const char* name);

    struct Roles {
        Site* primary = nullptr;
        Site* backup = nullptr;
    };
    // spares.cc: what only three sites can do.
    void fault_spares();
    void cut_line_for(std::vector<std::pair<size_t, size_t>> lines, Duration duration);
    void lose_site_for_ever();
    bool goes_on_alone() const;
    bool runs_elsewhere(const Roles& roles) const;
    void help_left_behind();
    void await_recovery();

    // operators.cc: what a careful operator does when a site says that it needs one.
    void operate();
    bool someone_runs() const;
    void help_idle_pair();
    void help_as_configured(size_t index);
    void help_with_lost_tiebreaker();
    std::optional<Roles> protected_now() const;
    void await_protection();
    void protection_is_back(const Roles& roles);
    void client();

    World world_;
    Profile profile_;
    Checker checker_;
    Coverage& coverage_;
    Network network_;
    Tiebreaker tiebreaker_;
    NodeId image_;
    std::vector<std::unique_ptr<Site>> sites_;
    bool healing_ = false;
    bool done_ = false;
    Instant healed_at_{};
    Instant protected_since_ = Instant::max();
    uint64_t outputs_when_protected_ = 0;
    Instant idle_since_ = Instant::max();
    uint64_t faults_ = 0;
    uint64_t cut_number_ = 0;
    bool operator_helped_ = false;
    // Of three sites: how many are dead for ever, and since when the pair has to do without the
    // last.
    size_t lost_count_ = 0;
    Instant lost_at_{};
};

}  // namespace antipode::sim
