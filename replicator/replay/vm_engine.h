// VmEngine: what runs one protected VM, whichever way it is protected: replay::Engine in lockstep,
// checkpoint::CheckpointEngine by checkpoints. The same life, the same log, the same ports.
//
//             start_recording                        start_replaying
//                  |                                      |
//              recording  <------ go_live() --------- replaying
//                  |                                      |
//                  +--------> stopped (guest ended, stop(), failure) <
//
// Threads: the constructor's thread owns the object; the verbs may be called from any thread unless
// said otherwise; ports are called on the engine's own thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "common/base/clock.h"
#include "common/base/ids.h"
#include "replicator/replay/heal.h"
#include "replicator/replay/log_entry.h"
#include "replicator/replay/ports.h"
#include "replicator/replay/stretch.h"
#include "replicator/vmm/builder.h"

namespace antipode::replay {

// For people: how checkpoint mode does.
struct CheckpointStatus {
    uint64_t taken = 0;         // checkpoints of this recorder's life
    uint64_t acknowledged = 0;  // the last one that the backup has
    Duration interval{};        // at which they are taken while something waits
    const char* bound = "";     // what sets it
    uint64_t last_bytes = 0;    // on the line, of the last one
    uint64_t last_pages = 0;
    Duration last_pause{};  // how long the guest stood for it
    Duration oldest_age{};  // since the oldest was taken that the backup is not known to have
};

class VmEngine {
  public:
    virtual ~VmEngine() = default;

    // Once, after construction. `guest_clock_ns`: what the guest's clock shows now.
    virtual void start_recording(uint64_t guest_clock_ns) = 0;
    virtual void start_replaying() = 0;

    // Recording: what happened outside. False = dropped (full, or the guest has no buffer).
    virtual bool frame_received(uint32_t interface,
                                std::vector<std::byte> bytes) = 0;  // one thread only
    virtual bool console_input(std::vector<std::byte> bytes) = 0;
    // An operator's act, at the next exit. False = too many wait.
    virtual bool control(VmControl::Kind kind) = 0;
    // Both: a request of DiskPort::submit has ended.
    virtual void block_done(uint32_t drive, uint64_t number, vmm::BlockStatus status,
                            std::vector<std::byte> data) = 0;

    // Replaying, by one thread only: the next entries of the log, in order. False = no room now.
    virtual bool feed(LogIndex index, LogEntry entry) = 0;
    virtual size_t feed_room() const = 0;
    // No more entries will come; OwnerPort::drained() follows.
    virtual void close_log() = 0;
    // After drained(): become the recorder, with the guest's clock at `guest_clock_ns`.
    // `seen_ns`: what it showed when the log ended.
    virtual void go_live(uint64_t guest_clock_ns, uint64_t seen_ns) = 0;
    void go_live(uint64_t guest_clock_ns) { go_live(guest_clock_ns, guest_clock_ns); }

    // Anywhere, between two instructions.
    virtual void pause() = 0;
    // Recording only: at a point that the log reaches. `capture`: OwnerPort::standing() brings the
    // state with it.
    enum class Capture : uint8_t { no, yes };
    virtual void pause_at_exit(Capture capture) = 0;
    virtual void resume() = 0;
    // After pause_at_exit: replays from here; the log's next entries are those of a new epoch.
    virtual void follow() = 0;
    // OwnerPort::standing() brings the state between two exits, or in a HLT, and the VM stands
    // until snapshot_taken(); what is recorded or replayed is not affected. The number that is
    // returned is in the state. In checkpoint mode it stands at a checkpoint.
    virtual uint64_t request_snapshot() = 0;
    virtual void snapshot_taken(uint64_t number) = 0;
    // Before start_replaying: the VM begins as `state`, with memory already in place.
    virtual Result<void> restore(const VmState& state, LogIndex position) = 0;
    // Recording: OwnerPort::dirty_pages() brings the pages written since the last call, or all.
    enum class Since : uint8_t { last_call, ever };
    virtual void request_dirty_pages(Since since) = 0;
    // Recording: the part of the time, over 0 and at most 1, in which the guest may run.
    virtual void set_run_share(double share) = 0;
    // What an acknowledgement takes on this line at least.
    virtual void set_round_trip(Duration) {}

    // Healing of a backup that has diverged, which is lockstep's alone (replay/heal.h).
    virtual void answer_heal(std::unique_ptr<HealRequest> request) = 0;
    virtual void heal_answer_taken() = 0;
    virtual void heal(std::unique_ptr<HealAnswer> answer, LogIndex position) = 0;
    virtual void abandon_heal() = 0;

    // Whether a backup needs the log. Checkpoint mode takes no checkpoints for nobody; before
    // start_recording() and go_live(), and at any change.
    enum class Protection : uint8_t { off, on };
    virtual void protect(Protection) {}
    // Recording: the backup has acknowledged the checkpoint of this number, or the delta of a
    // stretch at this exit, and all before it.
    virtual void acknowledged(ExitNumber) {}
    virtual std::optional<CheckpointStatus> checkpoint_status() const { return std::nullopt; }
    // Recording, lockstep alone: from the next exit on the log goes by deltas, or by events again.
    virtual void want_deltas(std::optional<DeltasReason>) {}
    virtual std::optional<StretchStatus> stretch_status() const { return std::nullopt; }

    // Stops the VM for good and joins its threads. Not from one of them.
    virtual void stop() = 0;
    virtual void wake() = 0;
    // How often the thread that runs the VM has come by, entering the guest or waiting: it grows
    // with every prod() of one that does not hang. nullopt: it has not been started, or has ended.
    virtual std::optional<uint64_t> turns() const = 0;
    virtual void prod() = 0;

    // Highest exit whose entries are all in the log port.
    virtual ExitNumber passed() const = 0;
    virtual ExitNumber exit_number() const = 0;
    virtual LogIndex applied() const = 0;
    virtual uint64_t guest_clock_ns(Instant now) const = 0;
    // Recording: how long the guest has been halted in all, up to its last wake-up, if that is
    // known.
    virtual Duration halted() const { return {}; }
    // Paused by an operator; at both sites.
    virtual bool held() const = 0;
    virtual bool paused() const = 0;
    // Not while it runs, but for its memory's bytes.
    virtual vmm::VirtualMachine& vm() = 0;
};

}  // namespace antipode::replay
