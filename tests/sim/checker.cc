#include "tests/sim/checker.h"

#include <algorithm>

namespace antipode::sim {

namespace {

unsigned number(NodeId node) {
    return static_cast<unsigned>(node);
}

}  // namespace

void Checker::violation(std::string text) {
    if (violation_) return;
    world_.say("VIOLATION: {}", text);
    violation_ = std::move(text);
    world_.stop();
}

void Checker::live(size_t site, Epoch epoch, const Member& member) {
    const auto [found, added] = lives_.emplace(epoch, member);
    if (!added && found->second != member) {
        violation(fmt::format("two VMs were live in epoch {}", epoch));
    }
    live_[site] = Live{epoch, member};
}

void Checker::check_free() {
    if (suspended_ || std::count(free_.begin(), free_.end(), true) < 2) return;
    violation("two sites let output go freely");
}

void Checker::released(size_t site, NodeId node) {
    ++outputs_;
    if (suspended_) {
        seen_ = node;
        return;
    }
    if (lineage.has_through_boots(seen_, node)) return;  // a repetition, however late
    if (lineage.parent(node) != seen_) {
        if (lineage.has(node, seen_)) {
            return violation(fmt::format("{} skips outputs between {} and {}", letter(site),
                                         lineage.index(seen_), lineage.index(node)));
        }
        return violation(fmt::format("{} lets output {} (node {}) go, which contradicts node {}",
                                     letter(site), lineage.index(node), number(node),
                                     number(seen_)));
    }
    seen_ = node;
}

void Checker::goes_live_from(size_t site, NodeId node, const char* from) {
    if (suspended_ || lineage.has(node, seen_)) return;
    violation(fmt::format("{} goes live from its {} at {} (node {}) without output {} (node {})",
                          letter(site), from, lineage.index(node), number(node),
                          lineage.index(seen_), number(seen_)));
}

NodeId Checker::boots_from(size_t site, NodeId disk, bool loss_accepted) {
    ++boots_;
    if (!suspended_ && !loss_accepted && !lineage.has(disk, seen_)) {
        violation(fmt::format("{} boots from a disk at node {} that lacks output {} (node {})",
                              letter(site), number(disk), lineage.index(seen_), number(seen_)));
    }
    const NodeId root = lineage.boot(disk);
    seen_ = root;  // what was in memory is gone by nature; the disk carries on
    return root;
}

void Checker::runs_on_disk(size_t site, NodeId strays) {
    if (strays == NodeId::none) return;
    violation(fmt::format("{}'s disk still holds writes of another history (node {})", letter(site),
                          number(strays)));
}

void Checker::epoch_moved(const std::string& component, Epoch epoch) {
    Epoch& known = epochs_[component];
    if (epoch < known) {
        violation(fmt::format("{} went back from epoch {} to {}", component, known, epoch));
    }
    known = epoch;
}

void Checker::whole(NodeId node) {
    if (!suspended_) return;
    suspended_ = false;
    seen_ = node;
    check_free();
}

}  // namespace antipode::sim
