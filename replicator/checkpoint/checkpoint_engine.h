// CheckpointEngine: runs a VM with one or more vCPUs and protects it by checkpoints, copies of all
// that has changed, taken again and again while the guest stands for a moment.
//
//   recording, protected      vCPUs run | stand, state and dirty pages copied aside | run, the copy
//                             is encoded and logged | ...
//   recording, unprotected    vCPUs run; outputs and disk requests leave at once
//   replaying                 nothing runs: whole checkpoints are put into memory and devices
//
// What the guest has sent out or written to disk since the last checkpoint is held until the backup
// has the next one: outputs by the gate (their marks follow the checkpoint in the log), writes
// here, until acknowledged(). So neither disk is ever ahead of what a failover would continue from.
// A request that is with the disk at a checkpoint is part of the devices' state; the backup
// executes it when it has the checkpoint, and answers it to the guest after go_live().
//
// Threads: one per vCPU (VcpuGroup), and the engine's own, which does all else and calls every
// port but DiskPort. Devices and memory are under machine_mutex_ while vCPUs run.
//
// INVARIANTS
//   - Protected: no output mark and no disk write leaves before the checkpoint that covers it.
//   - A backup's memory, devices and pending disk writes are always those of one checkpoint.
//   - Writes are executed in the order of their checkpoints, on both sides with the same bytes.
// On failure (KVM, a log that makes no sense) the VM stops and says why; nothing is guessed.
// Protocol and crash table: docs/PROTOCOL-checkpoint.md.
#pragma once

#include <atomic>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <thread>

#include "common/base/metrics.h"
#include "replicator/checkpoint/assembler.h"
#include "replicator/checkpoint/vcpu_group.h"
#include "replicator/replay/engine_inbox.h"
#include "replicator/replay/in_flight.h"
#include "replicator/replay/interval_controller.h"
#include "replicator/replay/page_table.h"
#include "replicator/replay/vm_engine.h"
#include "replicator/replay/wakeup.h"
#include "replicator/replay/write_queue.h"
#include "replicator/vmm/smp_state.h"

namespace antipode::checkpoint {

struct CheckpointOptions : replay::InFlightOptions {
    // What is copied aside of a checkpoint's pages; for what is more, the guest stands until it is
    // logged.
    uint64_t copy_bytes_max = uint64_t{16} << 20;
    size_t frames_pending_max = 1024;
    size_t log_entries_pending_max = 256;
    enum class Reset : uint8_t { ends, reboots };
    Reset reset = Reset::ends;
};

class CheckpointEngine final : public replay::VmEngine, private vmm::InputSource {
  public:
    CheckpointEngine(std::unique_ptr<vmm::VirtualMachine> vm, CheckpointOptions options,
                     replay::LogPort& log, replay::DiskPort& disk, replay::OwnerPort& owner,
                     Registry& metrics);
    ~CheckpointEngine() override;

    void start_recording(uint64_t guest_clock_ns) override;
    void start_replaying() override;
    bool frame_received(uint32_t interface, std::vector<std::byte> bytes) override;
    bool console_input(std::vector<std::byte> bytes) override;
    bool control(replay::VmControl::Kind kind) override;
    void block_done(uint32_t drive, uint64_t number, vmm::BlockStatus status,
                    std::vector<std::byte> data) override;
    bool feed(LogIndex index, replay::LogEntry entry) override;
    size_t feed_room() const override;
    void close_log() override;
    using VmEngine::go_live;
    void go_live(uint64_t guest_clock_ns, uint64_t seen_ns) override;
    void pause() override;
    void pause_at_exit(Capture capture) override;
    void resume() override;
    void follow() override;
    // At a checkpoint: the next one that is taken, or the last one that was applied.
    uint64_t request_snapshot() override;
    void snapshot_taken(uint64_t number) override;
    Result<void> restore(const replay::VmState& state, LogIndex position) override;
    void request_dirty_pages(Since since) override;
    void set_run_share(double share) override { group_.set_share(share); }
    void set_round_trip(Duration round_trip) override { round_trip_ns_ = round_trip.count(); }
    // A checkpoint's backup does not execute: it cannot diverge.
    void answer_heal(std::unique_ptr<replay::HealRequest>) override {}
    void heal_answer_taken() override {}
    void heal(std::unique_ptr<replay::HealAnswer>, LogIndex) override {}
    void abandon_heal() override {}
    void protect(Protection protection) override;
    void acknowledged(ExitNumber checkpoint) override;
    std::optional<replay::CheckpointStatus> checkpoint_status() const override;
    void stop() override;
    void wake() override { wakeup_.wake(); }
    // Its thread, which stands the vCPUs for each checkpoint: it hangs when one of them does.
    std::optional<uint64_t> turns() const override {
        if (!thread_.joinable()) return std::nullopt;
        return wakeup_.waits();
    }
    void prod() override { wake(); }

    ExitNumber passed() const override { return ExitNumber(number_seen_.load()); }
    ExitNumber exit_number() const override { return ExitNumber(number_seen_.load()); }
    LogIndex applied() const override { return LogIndex(applied_seen_.load()); }
    uint64_t guest_clock_ns(Instant now) const override;
    bool held() const override { return held_seen_.load(); }
    bool paused() const override { return paused_seen_.load(); }
    vmm::VirtualMachine& vm() override { return *vm_; }

  private:
    // How long one of its threads sleeps, at most, when there is nothing to do.
    static constexpr Duration kLogWait = std::chrono::milliseconds(2);

    enum class Mode : uint8_t { recording, replaying };
    enum class Step : uint8_t { go_on, stop };
    // Whether the vCPUs run on when a checkpoint has been copied.
    enum class Then : uint8_t { run, stand };
    using RequestKey = std::pair<uint32_t, uint64_t>;
    struct HeldWrites {
        uint64_t checkpoint;
        std::vector<vmm::BlockRequest> requests;
    };
    // A checkpoint, copied aside.
    struct Copy {
        uint64_t page_count = 0;            // written since the last one
        std::vector<uint64_t> pages;        // those of them that are copied
        std::vector<std::byte> page_bytes;  // of each, in turn
        std::vector<vmm::Output> outputs;
        std::vector<std::byte> machine;
        std::vector<std::byte> cpus;
        bool halted_for_good = false;
        uint64_t guest_clock_ns = 0;
    };

    // checkpoint_engine.cc: the thread, its commands, the vCPUs' exits.
    void start(Mode mode);
    void main();
    Step obey_commands();
    bool command_waits() const;
    Step stand();
    bool snapshot_wanted() const;
    Step stand_for_snapshot();
    Result<vmm::SmpState> capture_vcpus();
    Result<vmm::SmpState> capture_cpus();
    Result<void> check_tsc(const vmm::SmpState& state) const;
    Result<std::unique_ptr<replay::VmState>> capture_state();
    Result<void> take_up();
    void report_dirty_pages();
    Result<void> collect_dirty();
    Step finish(replay::StopReason reason, const std::string& text);
    VcpuGroup::After service(size_t vcpu, const vmm::Exit& exit);
    uint64_t read(vmm::InputKind kind) override;
    void make_stand();
    void let_run();
    void route_lines();

    // record.cc: the guest runs here.
    Step record();
    void wait_for_work();
    void take_inbox();
    void apply_inputs();
    void apply_frames();
    void apply_console();
    Step apply_controls();
    Step apply_control(replay::VmControl::Kind kind);
    void apply_protection();
    // What the backup has in memory when protection begins.
    enum class Baseline : uint8_t { nothing, same, being_sent };
    void begin_protection(Baseline baseline);
    void end_protection();
    Step end_guest(replay::StopReason reason, const std::string& text);
    Step announce_end(replay::StopReason reason, const std::string& text);
    Step reset();
    Step drain_outputs();
    Step push(replay::LogEntry::Body body, OutputNumber number = {}, vmm::Output output = {});
    Step push_output(vmm::Output output, OutputNumber number);
    void submit(vmm::BlockRequest&& request);
    void take_requests();
    void submit_acknowledged();
    void forget_unacknowledged();

    // take.cc: one checkpoint.
    bool may_take() const;
    Instant due() const;
    Step take_checkpoint(Then then);
    Result<void> copy_aside();
    uint64_t dirty_count();
    Step copy_pages();
    void hold_writes();
    Step log_copy();
    Step log_pages();
    Step log_page(uint64_t number, std::span<const std::byte> bytes);
    Step log_outputs(uint64_t first_number);
    Step log_part(decltype(Part::body) body);

    // follow.cc: the backup.
    Step follow_log();
    void wait_for_log();
    Step apply(replay::IndexedEntry next);
    Step apply_checkpoint(Checkpoint&& whole);
    void put_pages(const Checkpoint& whole);
    void find_writes();
    void take_own_completions();
    Step become_live();
    Step start_following();

    std::unique_ptr<vmm::VirtualMachine> vm_;
    vmm::Machine& machine_;
    const CheckpointOptions options_;
    replay::LogPort& log_;
    replay::DiskPort& disk_;
    replay::OwnerPort& owner_;
    VcpuGroup group_;
    std::thread thread_;
    replay::Wakeup wakeup_;

    // The engine thread's own.
    Mode mode_ = Mode::recording;
    bool standing_ = true;  // the vCPUs are
    bool protected_ = false;
    bool held_ = false;            // paused by an operator
    uint64_t number_ = 0;          // of the last checkpoint
    uint64_t output_number_ = 0;   // of the last output
    vmm::SmpState boot_state_;     // what a reset goes back to
    vmm::SmpState state_;          // replaying: the vCPUs of the last whole checkpoint
    uint64_t state_clock_ns_ = 0;  // and the guest's clock there
    bool restored_ = false;        // state_ is where it begins
    uint64_t snapshot_given_ = 0;
    Instant last_taken_{};
    replay::IntervalController interval_;
    replay::PageTable table_;
    PartEncoder encoder_;
    Copy copy_;
    PagesPart pages_part_;     // not full yet
    uint64_t part_count_ = 0;  // of the checkpoint that is being logged
    uint64_t part_bytes_ = 0;
    std::vector<uint64_t> dirty_;       // not sent yet
    std::vector<uint64_t> unreported_;  // to whoever asks for dirty pages
    std::vector<uint64_t> fresh_;
    std::deque<replay::PendingFrame> waiting_frames_;  // the guest has no buffer for the first
    std::deque<replay::VmControl::Kind> controls_;
    Assembler assembler_;
    uint64_t applied_index_ = 0;
    bool drained_reported_ = false;
    bool resetting_ = false;  // stands until the disks have ended what was begun
    uint64_t acknowledged_handled_ = 0;
    replay::InFlight unacknowledged_;
    uint64_t with_disk_ = 0;  // recording: submitted, not completed to the guest
    // Replaying: the writes of the checkpoints, executed here.
    std::set<RequestKey> known_writes_;  // in flight in the last checkpoint
    replay::WriteQueue writes_;
    std::deque<replay::BlockCompletion> completions_;

    // Under machine_mutex_, as are the machine and writes to guest memory.
    std::mutex machine_mutex_;
    std::vector<RequestKey> new_writes_;  // since the last checkpoint
    std::deque<HeldWrites> held_writes_;  // by checkpoint
    std::vector<vmm::Output> made_;       // by the guest, not taken yet
    size_t made_bytes_ = 0;
    std::atomic<bool> something_waits_{false};
    std::atomic<bool> crowded_{false};         // a vCPU stands because of made_bytes_
    std::atomic<bool> frames_blocked_{false};  // the guest has no buffer for the next frame
    std::atomic<bool> reset_asked_{false};
    std::atomic<bool> protects_{false};  // protected_, for the vCPUs
    std::string vcpu_failure_;
    std::atomic<bool> vcpu_failed_{false};

    // Commands and what comes from outside.
    std::atomic<bool> stop_wanted_{false};
    std::atomic<bool> pause_wanted_{false};
    std::atomic<bool> stand_wanted_{false};
    std::atomic<bool> capture_wanted_{false};
    std::atomic<bool> follow_wanted_{false};
    std::atomic<bool> live_wanted_{false};
    std::atomic<bool> log_closed_{false};
    std::atomic<bool> dirty_wanted_{false};
    std::atomic<bool> dirty_from_start_{false};
    std::atomic<uint64_t> snapshot_wanted_{0};  // its number; 0: none
    uint64_t snapshots_ = 0;                    // the owner's
    std::atomic<Protection> protection_wanted_{Protection::off};
    std::atomic<uint64_t> acknowledged_{0};
    std::atomic<int64_t> round_trip_ns_{0};
    std::atomic<int64_t> guest_clock_base_ns_{0};
    replay::EngineInbox inbox_;
    std::deque<std::vector<std::byte>> console_;

    // Looked at from outside.
    std::atomic<uint64_t> number_seen_{0};
    std::atomic<uint64_t> applied_seen_{0};
    std::atomic<bool> held_seen_{false};
    std::atomic<bool> paused_seen_{false};
    mutable std::mutex status_mutex_;
    replay::CheckpointStatus status_;
    std::deque<std::pair<uint64_t, Instant>> on_the_way_;  // checkpoints, and when they were taken

    Counter& exits_total_;
    Counter& checkpoints_total_;
    Counter& pages_total_;
    Counter& pages_unchanged_total_;
    Counter& bytes_total_;
    Histogram& pause_seconds_;
};

}  // namespace antipode::checkpoint
