// Engine: runs one VM on its own thread, recording it or replaying a log into it.
//
//             start(record)                              start(replay)
//                  |                                          |
//              recording  <------ go_live() ------------- replaying
//                  |                                          |
//                  +--------> stopped (guest ended, stop(), failure) <
//
// Recording: at each exit the access is emulated, then pending events are applied and logged with
// the exit's number, then an interrupt is injected if one is pending and the guest takes it.
// Replaying: the same, with the events from the log; the guest is never entered beyond the exit
// that the primary is known to have reached. Injection is a function of the machine and the vCPU,
// and is not logged.
// In a stretch by deltas (stretch.h) the recorder logs whole deltas in place of events, and the
// replaying side does not enter the guest.
//
// Threads: the constructor's thread owns the object; the public verbs may be called from any thread
// unless said otherwise; ports are called on the vCPU thread.
//
// INVARIANTS
//   - Entries of one exit are pushed before passed() shows that exit.
//   - In replay, exit_number() <= the highest exit in the log so far.
//   - A disk completion is applied only when the log says so, and only after this site's disk has
//     finished its own execution of the request.
//
// Failure: a KVM error, or an entry that cannot be applied, stops the VM and is reported; nothing
// is guessed. Source: design.md section 3; Scales et al. 2010, sections 2.1, 3.3 and 3.4.
#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "common/base/clock.h"
#include "common/base/metrics.h"
#include "replicator/replay/change_history.h"
#include "replicator/replay/clock_pacer.h"
#include "replicator/replay/delta_filter.h"
#include "replicator/replay/engine_inbox.h"
#include "replicator/replay/exit_trace.h"
#include "replicator/replay/heal.h"
#include "replicator/replay/log_entry.h"
#include "replicator/replay/memory_digest.h"
#include "replicator/replay/ports.h"
#include "replicator/replay/timer_schedule.h"
#include "replicator/replay/vm_engine.h"
#include "replicator/replay/wakeup.h"
#include "replicator/replay/write_queue.h"
#include "replicator/vmm/builder.h"
#include "replicator/vmm/kick_timer.h"

namespace antipode::replay {

struct EngineOptions {
    // A digest is logged when either is reached; zero = never for that reason. The interval grows
    // where digests would take more than a hundredth of the guest's time.
    Duration digest_interval = std::chrono::seconds(1);
    uint64_t digest_exits = 0;
    // A guest that has not exited for one to two of these, while events wait for it, gets them by a
    // delta. Zero = never.
    Duration kick_deadline = std::chrono::milliseconds(5);
    // Tests: every so many exits and kicks there is a delta, though nothing waits for it. 0 =
    // never.
    uint64_t delta_every = 0;
    // Frames waiting for an exit; more are dropped, as by a network card.
    size_t frames_pending_max = 1024;
    size_t log_entries_pending_max = 1 << 16;
    // What a reset by the guest does: the VM boots again, or it has ended.
    enum class Reset : uint8_t { ends, reboots };
    Reset reset = Reset::ends;
    // A replaying VM that differs: off = it goes on differing, or stops where it cannot follow.
    enum class Healing : uint8_t { off, on };
    Healing healing = Healing::off;
    StretchOptions stretch;
};

// For tests: sees the VM at each counted exit, after events were applied and before injection.
using ExitObserver = std::function<void(ExitNumber, vmm::VirtualMachine&, const vmm::Exit&)>;

class Engine final : public VmEngine, private vmm::InputSource {
  public:
    Engine(std::unique_ptr<vmm::VirtualMachine> vm, EngineOptions options, LogPort& log,
           DiskPort& disk, OwnerPort& owner, Registry& metrics);
    ~Engine() override;

    // Once, after construction. `guest_clock_ns`: what the guest's clock shows now.
    void start_recording(uint64_t guest_clock_ns) override;
    void start_replaying() override;

    // Recording: what happened outside. False = dropped (full, or the guest has no buffer).
    bool frame_received(uint32_t interface,
                        std::vector<std::byte> bytes) override;  // one thread only
    bool console_input(std::vector<std::byte> bytes) override;
    // An operator's act, at the next exit. False = too many wait.
    bool control(VmControl::Kind kind) override;
    // Both: a request of DiskPort::submit has ended.
    void block_done(uint32_t drive, uint64_t number, vmm::BlockStatus status,
                    std::vector<std::byte> data) override;

    // Replaying, by one thread only: the next entries of the log, in order. False = no room now.
    bool feed(LogIndex index, LogEntry entry) override;
    size_t feed_room() const override;
    // No more entries will come; OwnerPort::drained() follows.
    void close_log() override;
    // After drained(): become the recorder, with the guest's clock at `guest_clock_ns`.
    // `seen_ns`: what it showed when the log ended.
    using VmEngine::go_live;
    void go_live(uint64_t guest_clock_ns, uint64_t seen_ns) override;

    // Anywhere, between two instructions.
    void pause() override;
    // Recording only: at an exit, with an entry in the log that says so. `capture`:
    // OwnerPort::standing() brings the state with it.
    void pause_at_exit(Capture capture) override;
    void resume() override;
    // After pause_at_exit: replays from here; the log's next entries are those of a new epoch.
    void follow() override;
    // OwnerPort::standing() brings the state between two exits, or in a HLT, and the VM stands
    // until snapshot_taken(); dirty pages can be asked for meanwhile. What is recorded or replayed
    // is not affected: a backup follows as if nothing had been. The number that is returned is in
    // the state: one of a request that was given up may still come, when the VM has long gone on.
    // A VM that an operator has paused answers when it is resumed.
    uint64_t request_snapshot() override;
    void snapshot_taken(uint64_t number) override;
    // Before start_replaying: the VM begins as `state`, with memory already in place.
    // `position`: the log entry it is of; its disk requests in flight are issued here again.
    Result<void> restore(const VmState& state, LogIndex position) override;
    // Recording: OwnerPort::dirty_pages() brings the pages written since the last call, or all of
    // them.
    void request_dirty_pages(Since since) override;
    // Recording: the part of the time, over 0 and at most 1, in which the guest may run.
    void set_run_share(double share) override;
    // Recording: answers a backup that has diverged: OwnerPort::heal_answered() follows, at an
    // exit. A later request takes the place of one that has not been answered yet.
    void answer_heal(std::unique_ptr<HealRequest> request) override;
    // The answer's chunks have been read: the VM may go on.
    void heal_answer_taken() override;
    // Replaying, after heal_wanted(): the answer, whose chunks are on this site's disks already; it
    // takes effect behind entry `position`, which has been or will be fed.
    void heal(std::unique_ptr<HealAnswer> answer, LogIndex position) override;
    // There will be no heal, now or later in this log: go on as well as can be.
    void abandon_heal() override;
    // Stretches by deltas (stretch.h).
    void want_deltas(std::optional<DeltasReason> reason) override;
    std::optional<StretchStatus> stretch_status() const override;
    void acknowledged(ExitNumber delta) override;
    void set_round_trip(Duration round_trip) override { round_trip_ns_ = round_trip.count(); }
    // Stops the vCPU for good and joins the thread. Not from the vCPU thread.
    void stop() override;
    void wake() override { wakeup_.wake(); }
    std::optional<uint64_t> turns() const override;
    void prod() override;

    // Highest exit whose entries are all in the log port.
    ExitNumber passed() const override {
        return ExitNumber(passed_.load(std::memory_order_acquire));
    }
    ExitNumber exit_number() const override {
        return ExitNumber(exit_seen_.load(std::memory_order_relaxed));
    }
    LogIndex applied() const override {
        return LogIndex(applied_seen_.load(std::memory_order_relaxed));
    }
    uint64_t guest_clock_ns(Instant now) const override;
    Duration halted() const override {
        return Duration(halted_ns_.load(std::memory_order_relaxed));
    }
    // Paused by an operator; at both sites.
    bool held() const override { return held_seen_.load(std::memory_order_relaxed); }
    bool paused() const override { return paused_seen_.load(std::memory_order_relaxed); }

    // Before start: called on the vCPU thread.
    void observe_exits(ExitObserver observer) { observer_ = std::move(observer); }
    // Before start: every n-th run is cut short by a kick at a random moment (tests).
    void kick_randomly(uint64_t seed) { kick_seed_ = seed; }
    // Not while it runs.
    vmm::VirtualMachine& vm() override { return *vm_; }

  private:
    enum class Mode : uint8_t { recording, replaying };
    enum class Step : uint8_t { go_on, stop };
    enum class Trouble : uint8_t {
        differs,  // a digest differs; the log can still be followed
        stuck,    // the log cannot be followed any more
        ended,    // the guest has ended here, and not at the primary
    };
    struct Healing {
        // clang takes no default member initializers for std::optional before the class is whole.
        Healing() {}  // NOLINT(modernize-use-equals-default)
        Trouble trouble = Trouble::differs;
        std::string text;
        bool asked = false;
        uint64_t skipped = 0;
        std::optional<DeltasReason> stretch;  // in which what was skipped ends
        uint64_t position = 0;
        std::unique_ptr<HealAnswer> answer;
    };
    using RequestKey = std::pair<uint32_t, uint64_t>;

    // engine.cc: the thread, its commands, what both modes share.
    void start(Mode mode);
    void main();
    void kicker();
    Step obey_commands();
    bool stand_wanted() const {
        return (stand_wanted_.load() || heal_asked_.load()) && mode_ == Mode::recording;
    }
    Step stand();
    Result<void> come_to_rest();
    Result<std::unique_ptr<VmState>> capture();
    void forget_comparisons();
    Result<void> load_state(const VmState& state);
    Result<void> take_state(const VmState& state, LogIndex position);
    Result<std::unique_ptr<VmState>> capture_state();
    void start_following();
    void report_dirty_pages();
    void remember_reissued();
    bool command_to_stop() const { return stop_wanted_.load() || pause_wanted_.load(); }
    bool command_waits() const;
    Step step();
    Step run_guest();
    Step handle_exit(const vmm::Exit& exit);
    Step inject();
    Step finish(StopReason reason, std::string text);
    Step guest_ended(StopReason reason, const std::string& text);
    void submit_block_requests();
    Result<DigestMark> digest();
    uint64_t read(vmm::InputKind kind) override;

    // engine_record.cc
    Step record_events();
    Step record_one_event(Instant now, bool& applied);
    void record_outputs();
    void append(LogEntry::Body body, OutputNumber number = {}, vmm::Output output = {});
    uint64_t sample(vmm::InputKind kind);
    void append_event(LogEntry::Body body);
    void record_digest_if_due(Instant now);
    bool record_digest(Instant now);
    void drain_completions();
    bool events_wait(Instant now) const;
    void throttle();
    Step record_kick();
    bool delta_forced();
    enum class Delta : uint8_t { if_it_delivers, always };
    Step record_delta_here(Delta when);
    Step record_delta();
    uint64_t log_pages(const std::vector<uint64_t>& numbers,
                       const std::function<bool(uint64_t)>& is_new);
    Step wait_in_halt(Instant now);

    // engine_stretch.cc: what people are told, then recording.
    void note_stretch(DeltasReason reason);
    void note_stretch_end(StretchEnd::Then then);
    bool stretch_change_wanted() const;
    Step change_stretch();
    Step begin_stretch(DeltasReason reason);
    Step end_stretch();
    bool may_take_delta(Instant now);
    std::optional<Instant> delta_due();
    Step take_delta();
    Result<void> log_delta();
    Step stretch_kick(bool busy);
    void collect_write(const vmm::BlockRequest& request);
    Step announce_end();

    // engine_follow.cc: replaying a stretch.
    Step begin_following(DeltasReason reason);
    Step follow_entry(const LogEntry& entry);
    Step follow_state(const StretchState& piece);
    Step follow_delta(const VmState& state);
    void queue_writes(std::vector<StretchWrite> writes);
    Step end_following(ExitNumber exit, const StretchEnd& end);
    Step execute_writes();
    void settle_requests();
    void note_skipped(const LogEntry& entry);

    // engine_control.cc
    bool snapshot_wanted() const {
        const uint64_t wanted = snapshot_wanted_.load();
        return wanted != 0 && wanted != snapshot_given_;
    }
    // A snapshot is best taken just behind an exit. A guest that makes none is caught at a kick.
    bool snapshot_now() const {
        return snapshot_wanted() && !held_ && (!ran_since_exit_ || kicks_since_exit_ >= 3);
    }
    // At an exit that leaves nothing to complete: a HLT, or where this VM was restored.
    bool snapshot_here() const {
        if (!at_exit_ || held_ || healing_ || !snapshot_wanted()) return false;
        return following_ ? !writes_.pending() : in_halt_ || between_exits_;
    }
    Step take_snapshot();
    Step take_snapshot_here();
    Step record_control();
    Step apply_control(VmControl::Kind kind);
    Step wait_while_held();
    Step guest_reset(const std::string& text);
    Step reboot();
    Step wait_for_disks();
    void wait_for_completion();

    // engine_replay.cc
    Step replay_events();
    bool fetch_entry();
    Step apply(const IndexedEntry& next);
    Step apply_block_done(const BlockDone& done);
    Step apply_output(ExitNumber exit, const OutputMark& mark);
    Step apply_digest(ExitNumber exit, const DigestMark& mark);
    Step one_output_too_many();
    Step collect_delta(const DeltaPages& part);
    Step apply_delta(const DeltaState& state);
    void replay_outputs();
    void keep_output(ReplayedOutput made);
    void wait_for_log();
    uint64_t replay_input(vmm::InputKind kind);
    Step become_live();
    Step diverged(const std::string& text);

    // engine_heal.cc
    void note_block_request(const vmm::BlockRequest& request);
    Step begin_heal(Trouble trouble, const std::string& text);
    void request_heal();
    Step heal_step();
    Step replay_kick();
    Step give_up_heal();
    Step apply_heal();
    Result<void> drop_access();
    void compare_pages(const HealAnswer& answer, HealResult& result);
    void put_page(const DeltaPages::Page& page);
    void accept_verified();
    Step stand_for_heal();
    Result<void> make_answer(const HealRequest& request, HealAnswer& answer);

    std::unique_ptr<vmm::VirtualMachine> vm_;
    vmm::Machine& machine_;
    vmm::Vcpu& vcpu_;
    const EngineOptions options_;
    LogPort& log_;
    DiskPort& disk_;
    OwnerPort& owner_;
    ExitObserver observer_;
    uint64_t kick_seed_ = 0;

    // The vCPU thread's own.
    Mode mode_ = Mode::recording;
    uint64_t exit_ = 0;           // number of the last counted exit
    bool at_exit_ = false;        // an exit is being serviced: events may be applied
    bool in_halt_ = false;        // that exit is a HLT: the guest needs an interrupt to go on
    bool between_exits_ = false;  // restored: what happens at that exit has happened
    uint64_t snapshot_given_ = 0;
    uint64_t delta_turns_ = 0;  // exits and kicks, for delta_every
    uint64_t delta_turn_exit_ = 0;
    bool ran_since_exit_ = false;
    uint32_t kicks_since_exit_ = 0;
    uint64_t output_number_ = 0;
    TimerSchedule timer_;
    ClockPacer clock_pacer_;
    uint64_t clock_seen_ns_ = 0;  // by go_live(), for become_live()
    MemoryDigest memory_digest_;
    Instant next_digest_time_{};
    uint64_t next_digest_exit_ = 0;
    std::optional<Instant> slice_begin_;  // throttled: since when the guest has been running
    vmm::KickTimer kick_timer_;
    bool kick_armed_ = false;
    uint64_t exit_at_kick_ = 0;
    DeltaFilter delta_filter_;
    std::deque<BlockCompletion> completions_;                // recording: not applied yet
    std::map<RequestKey, BlockCompletion> own_completions_;  // replaying: waiting for their entry
    std::map<RequestKey, vmm::BlockRequest> retriable_;      // replaying: to retry on an error
    std::vector<vmm::BlockRequest> reissue_;                 // of a restored VM, at its start
    std::optional<IndexedEntry> next_entry_;                 // replaying: fetched, not applied
    uint64_t reached_ = 0;  // replaying: the primary has reached this exit
    uint64_t applied_index_ = 0;
    bool drained_reported_ = false;
    std::deque<uint32_t> own_outputs_;           // replaying: checksums not yet met by their mark
    std::vector<DeltaPages::Page> delta_pages_;  // replaying: of a delta that is not complete yet
    std::deque<VmControl::Kind> controls_pending_;  // recording: not applied yet
    bool held_ = false;                             // paused by an operator
    bool cut_off_ = false;  // recording: an entry found no room before the end; none comes after it
    std::string input_error_;                // set by read() when the log does not fit
    std::array<uint64_t, 4> last_inputs_{};  // replaying: by kind, what was read last

    // Comparing and healing: the vCPU thread's own.
    uint64_t digest_number_ = 0;         // digests logged, or met in the log
    uint64_t verified_number_ = 0;       // replaying: the last that was equal
    uint64_t disk_verified_number_ = 0;  // the same for disk writes alone
    uint64_t block_hash_ = 0;            // of the disk writes since the last digest
    ChunkSet interval_chunks_;           // recording: since the last digest; replaying: since the
                                         // last whose disk writes were equal
    ChangeHistory history_;              // recording
    ExitTrace trace_;
    std::array<uint64_t, Evidence::kRegisters> last_registers_{};  // at the last digest
    std::optional<Healing> healing_;
    uint64_t heal_attempt_ = 0;
    std::optional<uint64_t> stall_exit_;  // replaying: seen at the last kick
    Duration stall_since_{};              // CPU time of this thread when it was first seen
    bool skip_log_ = false;               // replaying: what is left of the log cannot be followed
    bool ended_ = false;  // replaying: the guest has ended here; the log says whether rightly
    StopReason ended_reason_ = StopReason::failed;
    std::string ended_text_;
    bool finished_early_ = false;

    // Stretches by deltas: the vCPU thread's own.
    std::unique_ptr<RecordedStretch> stretch_;
    std::optional<FollowedStretch> following_;
    WriteQueue writes_;                  // replaying: of whole deltas
    uint64_t stretch_write_number_ = 0;  // of the last of them
    bool digest_equal_ = false;          // replaying: the last digest was, or a heal since
    bool stretch_interrupted_ = false;   // recording: as the log has it
    uint64_t acknowledged_handled_ = 0;

    // Between threads.
    Wakeup wakeup_;
    EngineInbox inbox_;
    std::atomic<uint64_t> snapshot_wanted_{0};  // its number; 0: none
    uint64_t snapshots_ = 0;                    // the owner's
    std::atomic<bool> held_seen_{false};
    std::deque<std::vector<std::byte>> console_pending_;
    std::mutex heal_mutex_;  // of the three below
    std::unique_ptr<HealAnswer> heal_inbox_;
    uint64_t heal_position_ = 0;
    std::unique_ptr<HealRequest> heal_request_;
    std::atomic<bool> heal_here_{false};
    std::atomic<bool> heal_abandoned_{false};
    std::atomic<bool> heal_asked_{false};
    std::atomic<bool> heal_taken_{false};
    std::atomic<uint32_t> run_share_permille_{1000};
    std::atomic<bool> stop_wanted_{false};
    std::atomic<bool> pause_wanted_{false};
    std::atomic<bool> stand_wanted_{false};
    std::atomic<bool> capture_wanted_{false};
    std::atomic<bool> follow_wanted_{false};
    std::atomic<bool> dirty_wanted_{false};
    std::atomic<bool> dirty_from_start_{false};
    std::atomic<bool> log_closed_{false};
    std::atomic<bool> live_wanted_{false};
    std::atomic<int64_t> guest_clock_base_ns_{0};  // guest clock = monotonic clock - base
    std::atomic<uint64_t> passed_{0};
    std::atomic<uint64_t> exit_seen_{0};
    std::atomic<uint64_t> applied_seen_{0};
    std::atomic<bool> paused_seen_{false};
    std::atomic<int64_t> halted_ns_{0};
    std::atomic<uint64_t> turns_{0};
    std::atomic<uint8_t> deltas_wanted_{0};  // a DeltasReason; 0: none
    std::atomic<uint64_t> acknowledged_{0};
    std::atomic<int64_t> round_trip_ns_{0};
    mutable std::mutex stretch_mutex_;
    StretchStatus stretch_status_;
    std::atomic<uint64_t> deliveries_by_kick_{0};
    std::atomic<uint64_t> kick_delta_bytes_{0};

    Counter& exits_total_;
    Counter& injections_total_;
    Counter& kicks_total_;
    Counter& ticks_dropped_total_;
    Counter& log_waits_total_;
    Counter& deltas_total_;
    Counter& delta_pages_total_;
    Counter& delta_pages_skipped_total_;
    Counter& resets_total_;
    Counter& stretches_total_;
    Counter& heals_total_;
    Counter& healed_pages_total_;

    std::thread thread_;
    std::thread kicker_;
    std::atomic<bool> finished_{false};
};

}  // namespace antipode::replay
