// The abstract VM's history: a tree of log entries, one node an entry. Each entry changes the VM's
// state, writes the disk and makes one output, so a node stands for the VM's state after it, for
// the disk's contents after it, and for its output. Replaying an entry gives the same node;
// executing makes a new one: two executions that differ are two branches, and "has everything of"
// is "descends from".
//
// A boot from a disk begins a new tree whose root remembers the node that the disk held.
#pragma once

#include <cstdint>
#include <vector>

#include "common/base/check.h"

namespace antipode::sim {

enum class NodeId : uint32_t { none = 0 };  // none: no VM, or a disk that holds nothing of use

class Lineage {
  public:
    Lineage() : nodes_(1) {}

    NodeId boot(NodeId disk) { return add({NodeId::none, disk, 0}); }
    NodeId execute(NodeId parent) { return add({parent, NodeId::none, index(parent) + 1}); }

    uint64_t index(NodeId node) const { return at(node).index; }
    NodeId parent(NodeId node) const { return at(node).parent; }
    // The entry `index` of the history that leads to `node`; none if that history is shorter or
    // older.
    NodeId entry(NodeId node, uint64_t index) const {
        while (node != NodeId::none && at(node).index > index) node = at(node).parent;
        return node != NodeId::none && at(node).index == index ? node : NodeId::none;
    }
    // Does the history of `node` hold `ancestor`? Boots included, if told so.
    bool has(NodeId node, NodeId ancestor) const {
        if (ancestor == NodeId::none) return true;
        return entry(node, at(ancestor).index) == ancestor;
    }
    bool has_through_boots(NodeId node, NodeId ancestor) const {
        if (ancestor == NodeId::none) return true;
        while (node != NodeId::none) {
            if (has(node, ancestor)) return true;
            while (at(node).parent != NodeId::none) node = at(node).parent;
            node = at(node).disk;
        }
        return false;
    }

  private:
    struct Node {
        NodeId parent = NodeId::none;
        NodeId disk = NodeId::none;
        uint64_t index = 0;
    };
    NodeId add(Node node) {
        nodes_.push_back(node);
        return static_cast<NodeId>(nodes_.size() - 1);
    }
    const Node& at(NodeId node) const {
        FT_CHECK(static_cast<size_t>(node) < nodes_.size(), "no such node");
        return nodes_[static_cast<size_t>(node)];
    }

    std::vector<Node> nodes_;
};

}  // namespace antipode::sim
