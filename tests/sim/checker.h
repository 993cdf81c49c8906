// What must never happen, judged from outside: the checker sees what leaves a site, what a site's
// disk is made to hold and what its VM starts from. It knows nothing of the core's reasons.
//
//   1. never two VMs live in one epoch, and without an operator's force never two live at once
//   2. outputs are never contradicted and never skipped: each is the next one, or a repetition
//   3. what has left is in the memory of whoever goes live, or on the disk of whoever boots
//   4. while paired, what leaves is held by the partner's present process
//   5. epochs never go back: tiebreaker, site, disk
//   6. a fenced disk is not written by a lower epoch
//   7. protection comes back by itself (the campaign asks at the end)
//   8. a disk that a VM runs on, or a backup keeps, holds nothing that another history wrote: what
//      a site wrote that had lost, knowing it or not, is overwritten before the disk counts again
//
// After an operator's force the rules about data (2, 3, 4 and the second half of 1) are suspended
// until the pair is protected again: force is the one act that may break them. Rule 1's first half
// never is.
#pragma once

#include <array>
#include <map>
#include <optional>
#include <string>

#include "common/failover/failover.h"
#include "tests/sim/lineage.h"
#include "tests/sim/world.h"

namespace antipode::sim {

constexpr size_t kSitesMax = 3;

constexpr char letter(size_t site) {
    return static_cast<char>('A' + site);
}

class Checker {
  public:
    explicit Checker(World& world) : world_(world) {}

    Lineage lineage;

    void start_from(NodeId image) { seen_ = image; }
    void violation(std::string text);
    const std::optional<std::string>& first_violation() const { return violation_; }

    // The site's VM is live (runs, and output leaves or will) in `epoch`.
    void live(size_t site, Epoch epoch, const Member& member);
    void not_live(size_t site) { live_[site].reset(); }
    void output_free(size_t site, bool free) {
        free_[site] = free;
        check_free();
    }
    void released(size_t site, NodeId node);
    void goes_live_from(size_t site, NodeId node, const char* from);
    // A VM boots from what its disk holds; returns the root of the new history.
    NodeId boots_from(size_t site, NodeId disk, bool loss_accepted);
    // `strays`: the writes of another history that are left on its disk, if any.
    void runs_on_disk(size_t site, NodeId strays);
    void epoch_moved(const std::string& component, Epoch epoch);
    void tiebreaker_lost_data() { epochs_.erase("tiebreaker"); }

    void forced() { suspended_ = true; }
    bool suspended() const { return suspended_; }
    // The pair is whole again, with this VM: all rules hold from here.
    void whole(NodeId node);
    // The last output that has left.
    NodeId seen() const { return seen_; }
    uint64_t outputs() const { return outputs_; }
    uint64_t boots() const { return boots_; }

  private:
    struct Live {
        Epoch epoch;
        Member member;
    };
    void check_free();

    World& world_;
    std::optional<std::string> violation_;
    std::map<Epoch, Member> lives_;
    std::array<std::optional<Live>, kSitesMax> live_;
    std::array<bool, kSitesMax> free_{};
    std::map<std::string, Epoch> epochs_;
    NodeId seen_ = NodeId::none;
    uint64_t outputs_ = 0;
    uint64_t boots_ = 0;
    bool suspended_ = false;
};

}  // namespace antipode::sim
