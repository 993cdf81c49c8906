// PairConfig: what a site knows about its pair, a TOML file beside the VM's definition.
//
//   [pair]        name, site, peer_site, role = "primary" | "backup" (first start only) | "spare",
//                 state_directory; rejoin = "automatic" | "wait": whether a halted or restarted
//                 site becomes the backup by itself, or waits for an operator; reclaim, the same:
//                 whether a VM whose processes all died is booted again by itself;
//                 seed_undo_max_mib: how much is kept at most of what a seed overwrites (0: none;
//                 without it, all)
//   [next_site]   the pair's third site, seen from here: site; channel, heartbeat, second_heartbeat
//                 (addresses, as `peer` below), channel_key, heartbeat_key; spare_after_s = 60: how
//                 long this site, alone with the VM, waits for a backup at one of them (optional)
//   [channel]     listen, peer = "tcp://ADDRESS:PORT", own_key, peer_key;
//                 bulk_schedule = "" (common/base/bandwidth_schedule.h), capture = FILE,
//                 capture_mib = 1024
//   [heartbeat]   listen, peer = "ADDRESS:PORT", key, interval_ms = 20;
//                 second_listen, second_peer: another path
//   [tiebreaker]  address = "HOST:PORT", ca, certificate, key, crl (optional: the authority's
//                 list of revoked certificates)
//   [control]     socket
//   [replay]      digest_interval_ms = 1000, log_buffer_mib = 64 (the whole section is optional)
//   [checkpoint]  output_delay_ms = 100, bandwidth_mib = 0 (MiB a second; 0: all there is):
//                 of VMs in checkpoint mode (optional)
//   [drill]       taps = ["drill0", ...]: the isolated network of drills (optional)
//
// Paths are relative to the file. An unknown section or key is an error with its line.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/bandwidth_schedule.h"
#include "common/base/clock.h"
#include "common/base/ids.h"
#include "common/base/result.h"
#include "common/wire/arbiter_messages.h"
#include "replicator/control/control_api.h"

namespace antipode::control {

// How another site of the pair is reached, and known.
struct PeerConfig {
    Name site;
    std::string channel;
    std::string channel_key;
    std::string heartbeat;
    std::string second_heartbeat;  // may be empty
    std::string heartbeat_key;
};

struct PairConfig {
    // spare: the third of three sites, which has no part in the first start.
    enum class FirstRole : uint8_t { primary = 1, backup = 2, spare = 3 };

    Name pair;
    Name site;
    Name peer_site;
    FirstRole first_role = FirstRole::primary;
    SelfHelp rejoin = SelfHelp::automatic;
    SelfHelp reclaim = SelfHelp::automatic;
    std::string state_directory;
    uint64_t seed_undo_bytes_max = uint64_t{1} << 60;

    std::optional<PeerConfig> next_site;  // beside `peer_site`, of a pair with three sites
    std::chrono::milliseconds spare_after = std::chrono::seconds(60);

    std::string channel_listen;
    std::string channel_peer;
    std::string channel_own_key;
    std::string channel_peer_key;
    BandwidthSchedule bulk_schedule;
    bool long_window = false;  // resync and seeding remember 16 MiB instead of half of one
    std::string capture_path;  // empty: nothing is captured
    uint64_t capture_bytes_max = uint64_t{1} << 30;

    std::string heartbeat_listen;
    std::string heartbeat_peer;
    std::string second_heartbeat_listen;  // both or neither
    std::string second_heartbeat_peer;
    std::string heartbeat_key;
    Duration heartbeat_interval = std::chrono::milliseconds(20);

    std::string tiebreaker_address;
    std::string tiebreaker_ca;
    std::string tiebreaker_crl;  // may be empty
    std::string tiebreaker_certificate;
    std::string tiebreaker_key;

    std::string control_socket;

    std::vector<std::string> drill_taps;  // an isolated network's, one an interface of the VM

    Duration digest_interval = std::chrono::seconds(1);
    uint64_t log_buffer_bytes = uint64_t{64} << 20;

    Duration checkpoint_output_delay = std::chrono::milliseconds(100);
    uint64_t checkpoint_bandwidth = 0;  // bytes a second

    // A VM of mode `auto` that goes by deltas tries lockstep again after this.
    std::chrono::milliseconds lockstep_after = std::chrono::minutes(10);

    // `peer_site`, or that of next_site.
    PeerConfig peer(const Name& which) const;
    // Of three sites: the other one of those two.
    std::optional<PeerConfig> beside(const Name& which) const;
    // As in the pair's record; empty if there are two.
    wire::Sites sites() const;
};

// `origin` is the file's name, for messages and for relative paths.
Result<PairConfig> parse_pair_config(std::string_view toml, const std::string& origin);
Result<PairConfig> load_pair_config(const std::string& path);

struct HostPort {
    std::string host;
    uint16_t port = 0;
};
// "10.0.0.1:7101" or "[::1]:7101"; `where` names the setting in the error.
Result<HostPort> parse_host_port(std::string_view text, const std::string& where);

}  // namespace antipode::control
