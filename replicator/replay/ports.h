// What the vCPU thread talks to, as interfaces: the log, the disks, and the owner of the VM.
//
// Every call here is made on the vCPU thread and must not block, allocate without bound, or do I/O.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "common/base/clock.h"
#include "common/base/ids.h"
#include "replicator/replay/heal.h"
#include "replicator/replay/log_entry.h"
#include "replicator/vmm/machine.h"

namespace antipode::replay {

// One step of a recording, in order: a log entry and, for an OutputMark, the output it stands for.
struct Recorded {
    LogEntry entry;
    OutputNumber output_number;  // of `output`; 0 = this entry is no output
    vmm::Output output;
    Instant time;  // when it happened
};

// An output that a replaying VM made; kept until the primary has released it.
struct ReplayedOutput {
    OutputNumber number;
    vmm::Output output;
};

// Why a vCPU thread stopped running the guest.
enum class StopReason : uint8_t {
    stopped = 1,       // asked to
    guest_reset = 2,   // the guest asked for a reset through port 0x64, or a triple fault
    guest_halted = 3,  // HLT with interrupts off: it will never run again
    failed = 4,        // KVM or the host failed; see the text
    diverged = 5,      // replay met an entry that cannot be applied here
    powered_off = 6,   // by an operator
};
const char* to_string(StopReason reason);

class LogPort {
  public:
    virtual ~LogPort() = default;
    // False: no room now, and `step` is untouched; the vCPU waits (the guest is slowed, nothing is
    // dropped) and asks again after Engine::wake().
    virtual bool record(Recorded&& step) = 0;
    virtual bool replayed(ReplayedOutput&& output) = 0;
};

class DiskPort {
  public:
    virtual ~DiskPort() = default;
    // The completion comes back through Engine::block_done(), from any thread, exactly once.
    virtual void submit(vmm::BlockRequest&& request) = 0;
    // One that has failed at the site that replays, and not at the other.
    virtual void submit_again(vmm::BlockRequest&& request) { submit(std::move(request)); }
};

class OwnerPort {
  public:
    virtual ~OwnerPort() = default;
    // The log was closed and everything in it has been applied.
    virtual void drained(ExitNumber exit, LogIndex applied) = 0;
    virtual void live(ExitNumber exit) = 0;
    // pause_at_exit() has taken effect: the VM stands at an exit that the log reaches; what it was
    // asked to capture is here.
    virtual void standing(std::unique_ptr<VmState> state) = 0;
    // The pages written since the last of these, one bit a page.
    virtual void dirty_pages(std::vector<uint64_t> bitmap) = 0;
    // pause() has taken effect: no instruction runs and no request is submitted until resume().
    virtual void paused(ExitNumber exit) = 0;
    virtual void stopped(StopReason reason, const std::string& text) = 0;
    // A digest entry was compared. `text` names what differed; empty when equal.
    virtual void digest_checked(ExitNumber exit, const std::string& text) = 0;
    // A disk request fails here but did not at the primary; it is being retried.
    virtual void replay_disk_error(const std::string& text) = 0;
    // Backup: it stands diverged and needs this, through Engine::heal().
    virtual void heal_wanted(std::unique_ptr<HealRequest> request) = 0;
    // Primary: the answer to Engine::answer_heal(). Everything up to here is in the log. With
    // chunks to read, the VM stands until Engine::heal_answer_taken().
    virtual void heal_answered(std::unique_ptr<HealAnswer> answer) = 0;
    // Backup: it is equal again.
    virtual void healed(std::unique_ptr<HealResult> result) = 0;
};

}  // namespace antipode::replay
