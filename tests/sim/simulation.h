// One seed: two sites, a tiebreaker, clients, operators, faults for a while, then quiet, in which
// protection must come back.
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
    void cut_for(std::array<bool, 2> sites, std::array<bool, 2> tiebreaker, Duration duration);
    void swizzle();
    void heal_everything();
    void count(const char* name);

    // operators.cc: what a careful operator does when a site says that it needs one.
    void operate();
    bool someone_runs() const;
    void help_idle_pair();
    void help_as_configured(size_t index);
    void help_with_lost_tiebreaker();
    bool protected_now() const;
    void await_protection();
    void client();

    World world_;
    Profile profile_;
    Checker checker_;
    Coverage& coverage_;
    Network network_;
    Tiebreaker tiebreaker_;
    NodeId image_;
    std::array<std::unique_ptr<Site>, 2> sites_;
    bool healing_ = false;
    bool done_ = false;
    Instant healed_at_{};
    Instant protected_since_ = Instant::max();
    uint64_t outputs_when_protected_ = 0;
    Instant idle_since_ = Instant::max();
    uint64_t faults_ = 0;
    uint64_t cut_number_ = 0;
    bool operator_helped_ = false;
};

}  // namespace antipode::sim
