// The directories of the VMs of this site, /etc/antipode/vms/NAME: the VM's definition, and once it
// is paired the site's view of the pair with its keys.
//
// A pairing is prepared in NAME/.pairing and put in place file by file, pair.toml last: the
// replicator's unit starts nothing without it, so that what a crash left is either no pairing or a
// whole one. What the directory of a preparation holds is of no use to anybody once it is over, and
// is removed by the next one.
//
// Who may what: the folder above belongs to root and the group `antipode-keys`, with set-group-ID
// and the sticky bit. This page and the replicators are in that group: both read, the page adds,
// and neither takes away or changes what is another's: a VM's definition that root wrote stays
// root's. (That the replicator adds nothing is for its unit, whose /etc is read-only.)
//
// Threads: any; every function is a process of its own on files.
// INVARIANTS: secrets are never world-readable; a pair.toml that is there is never overwritten.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "common/base/name.h"

namespace antipode::web {

// What pair.toml says beside its keys.
struct PairPlan {
    Name pair;
    Name site;
    Name peer_site;
    std::string role = "primary";  // or "backup"
    std::string own_address;       // of the line: an IP address
    std::string peer_address;
    uint16_t channel_port = 7100;
    uint16_t heartbeat_port = 7101;
    uint16_t peer_channel_port = 7100;
    uint16_t peer_heartbeat_port = 7101;
    std::string tiebreaker;   // HOST:PORT
    std::string credentials;  // directory of ca.pem, site.pem, site.key
};
std::string pair_toml(const PairPlan& plan);

class VmFiles {
  public:
    VmFiles(std::string directory, std::string replicator)
        : directory_(std::move(directory)), replicator_(std::move(replicator)) {}

    struct Vm {
        std::string name;
        bool paired = false;  // has a pair.toml
    };
    // The example is none.
    Result<std::vector<Vm>> list() const;
    std::string path(std::string_view vm, std::string_view file = "") const;
    bool is_paired(std::string_view vm) const;
    Result<std::string> definition(std::string_view vm) const;  // vm.json's text
    // Ports that no pair.toml here names, from 7100: the channel's; the heartbeats' is the next.
    uint16_t free_ports() const;

    // For root: the folder and the definition of a VM, with the rights above. Without a file it
    // sets the rights of what is there.
    Result<> add(const Name& vm, const std::string& definition_file) const;
    // Makes NAME/.pairing with new keys (by `antipode-replicator keygen`); gives the public one.
    // Takes some 50 ms.
    Result<std::string> begin(std::string_view vm) const;
    // Text files into the preparation.
    Result<> prepare(std::string_view vm, std::string_view file, std::string_view text) const;
    Result<std::string> prepared(std::string_view vm, std::string_view file) const;
    // Makes a preparation under one name that of another.
    Result<> adopt(std::string_view from, std::string_view vm) const;
    Result<> finish(std::string_view vm) const;   // into place; repeatable
    Result<> replace(std::string_view vm) const;  // into place, over what is there: new keys
    void abandon(std::string_view vm) const;
    // Takes pair.toml and the keys away; the VM's definition and its disks stay.
    Result<> unpair(std::string_view vm) const;

  private:
    Result<> move_in(std::string_view vm, const std::string& file) const;

    const std::string directory_;
    const std::string replicator_;
};

}  // namespace antipode::web
