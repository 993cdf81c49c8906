// What a campaign has been through: cells of the transition table, probes, faults. Merged over
// seeds.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>

#include "common/failover/transition_table.h"

namespace antipode::sim {

class Coverage {
  public:
    void transition(failover::State from, failover::Event event, failover::State to) {
        ++cells_[static_cast<size_t>(from) - 1][static_cast<size_t>(event)]
                [static_cast<size_t>(to) - 1];
    }
    // A fault, or a rare branch of the simulation: one of the names listed in coverage.cc.
    void probe(const char* name);

    using Cells =
        std::array<std::array<std::array<uint32_t, failover::kStateCount>, failover::kEventCount>,
                   failover::kStateCount>;
    const Cells& cells() const { return cells_; }
    const std::map<std::string, uint64_t>& probes() const { return probes_; }
    // Three sites are simulated: what only they can show is to be seen as well.
    void expect_spares();
    size_t probes_seen() const;

    // Handled cells: seen, and all there are.
    std::pair<size_t, size_t> handled() const;
    size_t states_seen() const;
    void print_unseen() const;

    Coverage();

  private:
    Cells cells_{};
    std::map<std::string, uint64_t> probes_;
};

}  // namespace antipode::sim
