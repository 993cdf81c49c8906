// What the failover cores of the two sites say to each other over the logging channel: one flat
// value, no encoding and no I/O. Fields that a kind does not name are zero (so that equal values
// are equal bytes).
//
// Threads: values; none needed.
// INVARIANTS
//   - Every message names the incarnations of both ends. Only a hello may be for whoever is there
//     (incarnation 0): the first of a session, and those of every second.
//   - `epoch` is the sender's epoch when it sent.
// See docs/PROTOCOL-failover.md, "Messages between the sites".
#pragma once

#include <cstdint>
#include <string_view>

#include "common/base/ids.h"
#include "common/wire/arbiter_messages.h"

namespace antipode::wire {

// What a site's failover core is doing.
enum class SiteState : uint8_t {
    starting = 1,       // runs no VM; looks for the record, the peer and its own part
    paired_primary,     // runs the VM; output leaves under the Output Rule
    paired_backup,      // follows the log and acknowledges; may acquire
    asking_primary,     // runs the VM, has lost its backup, releases nothing new until it has won
    asking_backup,      // has lost its primary, acknowledges nothing, does nothing until it has won
    going_live,         // has won; consumes its log, fences its disk, makes the epoch durable
    solo,               // runs the VM alone with the tiebreaker's grant; will seed a backup
    unprotected,        // the same, and wants no backup until told otherwise
    forced,             // runs the VM by an operator's force that the tiebreaker has not confirmed
    seeding,            // solo, and copies the running VM to a new backup; output not held yet
    pairing,            // the copy is cut: under the Output Rule; asks the tiebreaker to pair
    rejoining,          // is being made a backup; may not acquire
    switching_primary,  // has paused the VM and handed it over
    switching_backup,   // has been handed the VM; asks the tiebreaker to swap the roles
    halting,            // lost or fenced: stops the VM, fences the disk, makes the epoch durable
    halted,             // stands; may keep the stopped VM's memory
    stopped,            // the guest was shut down on purpose
};
constexpr size_t kSiteStateCount = 17;
std::string_view to_string(SiteState state);

// The VM's output leaves this site, or may leave it once acknowledged.
constexpr bool runs_vm(SiteState state) {
    switch (state) {
        case SiteState::paired_primary:
        case SiteState::asking_primary:
        case SiteState::solo:
        case SiteState::unprotected:
        case SiteState::forced:
        case SiteState::seeding:
        case SiteState::pairing:
            return true;
        case SiteState::starting:
        case SiteState::paired_backup:
        case SiteState::asking_backup:
        case SiteState::going_live:
        case SiteState::rejoining:
        case SiteState::switching_primary:
        case SiteState::switching_backup:
        case SiteState::halting:
        case SiteState::halted:
        case SiteState::stopped:
            return false;
    }
    return false;
}

// Whether a site's disk holds every write of the epochs up to its live_epoch, whatever loses power.
enum class DiskCopy : uint8_t { incomplete = 1, complete };
// Whether a stopped VM's memory is kept.
enum class VmMemory : uint8_t { none = 1, kept };
// The role that the configuration gives a site for the pair's first start.
enum class FirstRole : uint8_t { primary = 1, backup };

enum class PeerMessageKind : uint8_t {
    hello = 1,  // who I am and how I stand: when a session opens, when it changes, and now and then
    begin,      // primary: you are the backup of `epoch`, which follows previous_epoch
    join,       // I want to be your backup: seed me
    seed_begin,   // solo site: attempt `attempt` to seed you begins
    seed_loaded,  // I have all of attempt `attempt`, up to and including `position`
    hand_over,    // primary: the VM is paused at `position`; take it
    take_over,    // my VM or disk has failed, or an operator asks: acquire now
    stopped,      // the guest was shut down at `position`; stop as well
};
constexpr size_t kPeerMessageKindCount = 8;
std::string_view to_string(PeerMessageKind kind);

struct PeerMessage {
    PeerMessageKind kind = PeerMessageKind::hello;
    Name pair;
    Epoch epoch;
    Member from;
    Member to;
    // hello
    SiteState state = SiteState::starting;
    Epoch live_epoch;  // the highest epoch in which the VM ran at this site; durable
    DiskCopy disk = DiskCopy::incomplete;
    VmMemory memory = VmMemory::none;
    FirstRole first_role = FirstRole::primary;
    StoreIdentity store;  // hello, begin: the tiebreaker's store that the sender is enrolled with
    // begin
    Epoch previous_epoch;
    // seed_begin, seed_loaded
    uint64_t attempt = 0;
    // seed_loaded, hand_over, stopped
    LogIndex position;
    friend bool operator==(const PeerMessage&, const PeerMessage&) = default;
};

}  // namespace antipode::wire
