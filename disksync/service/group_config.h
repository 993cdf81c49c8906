// GroupConfig: what one site is told about a group of replicated disks, a TOML file;
// packaging/examples/disk/group.toml explains each key.
//
// Values; any thread. Every error names the file, the line, the key, what is wrong and what is
// allowed; a key that is not known is an error. Relative paths are relative to the file.
#pragma once

#include <string>
#include <vector>

#include "common/base/bandwidth_schedule.h"
#include "common/env/posix/tls.h"
#include "disksync/core/node_types.h"
#include "disksync/service/compression.h"

namespace antipode::disksync {

struct DiskPaths {
    Name name;
    std::string store;     // a path or an NBD URI
    std::string metadata;  // default: <store>.antipode
    std::string undo;      // default: <metadata>.undo
};

struct LinkAddress {
    std::string host;
    std::string port;
};

struct GroupConfig {
    std::string path;
    NodeConfig node;
    std::vector<DiskPaths> disks;  // in the order of their names
    env::TlsFiles tls;
    Name peer;                   // the site that the peer's certificate has to name
    bool listens = false;        // else it dials
    LinkAddress address;         // to listen on, or to dial
    std::string control_socket;  // default: /run/antipode/disks/<group>.sock
    std::string journal;         // events, one JSON line each; default: beside the first metadata
    Compression compression = Compression::automatic;
    BandwidthSchedule schedule;  // of node.resync_rate_max
    bool promote_on_open =
        true;                    // a client makes this site primary, if the peer is known not to be
    uint32_t store_threads = 4;  // for each disk
    Duration store_reconnect =
        std::chrono::seconds(30);  // an NBD server that stays away for longer has failed
};

Result<GroupConfig> load_group_config(const std::string& path);

}  // namespace antipode::disksync
