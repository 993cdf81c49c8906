// Node: one site of one pair. Wires the failover core to the channel, the tiebreaker, the disks,
// the engine and the guest's network, and decides nothing itself: everything that happens becomes
// an Input, every Output is carried out in order (common/failover).
//
// Threads: all of it on the core thread (the io_context's). The engine's vCPU thread comes in
// through VcpuBridge, the channel's ZeroMQ thread through the channel's own queue, blocking disk
// work runs on `disk_work_` and is posted back.
//
// INVARIANTS
//   - Inputs are stepped one at a time; an Output never steps the core from within (inputs_
//   queues).
//   - No output of the guest leaves but through release_outputs(), which asks the gate.
//   - No log entry is acknowledged but by an Acknowledge of the core.
// On an error that leaves the site's durable state in doubt the process dies: the peer takes over.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "common/base/metrics.h"
#include "common/failover/failover.h"
#include "common/failover/fault_detector.h"
#include "common/failover/site_choice.h"
#include "replicator/control/arbiter_client.h"
#include "replicator/control/console_log.h"
#include "replicator/control/control_journal.h"
#include "replicator/control/control_server.h"
#include "replicator/control/disk_set.h"
#include "replicator/control/disk_verifier.h"
#include "replicator/control/drill.h"
#include "replicator/control/durable_file.h"
#include "replicator/control/flush_policy.h"
#include "replicator/control/format_versions.h"
#include "replicator/control/heal_transfer.h"
#include "replicator/control/lag_controller.h"
#include "replicator/control/lag_meter.h"
#include "replicator/control/log_outbox.h"
#include "replicator/control/mode_policy.h"
#include "replicator/control/net_port.h"
#include "replicator/control/node_message.h"
#include "replicator/control/output_gate.h"
#include "replicator/control/pair_config.h"
#include "replicator/control/seed_receiver.h"
#include "replicator/control/seed_sender.h"
#include "replicator/control/seed_undo.h"
#include "replicator/control/snapshot_task.h"
#include "replicator/control/stall_guard.h"
#include "replicator/control/threshold.h"
#include "replicator/control/vcpu_bridge.h"
#include "replicator/control/verify_follower.h"
#include "replicator/control/verify_record.h"
#include "replicator/control/watchdog.h"
#include "replicator/replay/vm_engine.h"
#include "replicator/stream/channel.h"
#include "replicator/stream/heartbeat.h"
#include "replicator/vmm/builder.h"

namespace antipode::control {

struct NodeConfig {
    PairConfig pair;
    vmm::VmConfig vm;
    std::function<void(const Event&)> on_event;  // each, on the core thread; may be empty
};

// Milliseconds since 1970, for people.
int64_t unix_ms();

// Reads and checks a VM's directory (vm.json, pair.toml) without starting anything.
Result<NodeConfig> load_node_config(const std::string& directory);
ArbiterClientSettings arbiter_settings(const PairConfig& pair, const Member& me);
// Opens what the configuration names (keys, kernel, disks) and closes it again.
Result<void> check_files(const NodeConfig& config);

class Node final : public ControlHandler, private stream::ChannelHandler {
  public:
    // Opens everything; an error names what could not be opened, and nothing is left running.
    static Result<std::unique_ptr<Node>> start(boost::asio::io_context& context, NodeConfig config);
    ~Node() override;

    // Stops the VM's thread and everything else; the io_context runs out of work.
    void shutdown(const std::string& reason);
    // 0 = stopped on purpose; 75 = retired, to be started again as a new incarnation; 1 = see
    // failure().
    int exit_code() const { return exit_code_; }
    // Why it ended, if it could not go on.
    const std::optional<Error>& failure() const { return failure_; }
    // What must keep turning for this site to be alive: the loop around the core, the vCPU thread.
    std::vector<Watchdog::Part> watched_parts();
    // Called once, at the end of shutdown().
    void on_shutdown(std::function<void()> hook) { shutdown_hook_ = std::move(hook); }

    Result<json::value> handle(Method method, const json::object& params) override;

  private:
    using Message = NodeMessage;

    Node(boost::asio::io_context& context, NodeConfig config);
    Result<void> open_local();
    Result<void> open_network();
    Result<void> open_channel();
    std::string shape() const;
    bool understood(std::span<const std::byte> hello);
    std::optional<std::string> shape_trouble(const std::string& peer) const;
    void end_soon(int exit_code, std::string reason);
    Result<void> open_heartbeat();
    // Whom this site is turned to; of a pair with two sites always the other one.
    const Name& peer_site() const { return core_.peer_site(); }
    void consider_turning(Instant now);
    void heartbeat_seen(const stream::HeartbeatEvent& seen);
    void begin();
    void begin_network();

    // node.cc: the loop around the core.
    void feed(failover::Input input);
    void arm_timer();
    void detect_faults();
    void every_second();
    void apply_bulk_schedule();
    uint64_t log_wire_bytes() const;

    // node_outputs.cc: one function an Output.
    void carry_out(const failover::Output& output);
    void run_vm(const failover::RunVm& order);
    void follow_vm(const failover::FollowVm& order);
    void halt_vm();
    void drop_vm();
    void end_engine();
    void persist(const failover::Persist& order);
    void fence_disk(const failover::FenceDisk& order);
    Result<void> open_seed_undo();
    void on_disk_thread(std::function<Result<void>()> work, failover::Input done, std::string what);
    void use_epoch(const failover::UseEpoch& order);
    Result<void> build_vm();
    void make_engine();
    std::unique_ptr<replay::VmEngine> new_engine();
    void open_ports(NetPort::State state);

    // node_log.cc: the log, both ways, and the outputs.
    void wait_for_vcpu();
    void drain_vcpu();
    bool take_item(VcpuBridge::Item item);
    void on_recorded(replay::Recorded step);
    void tell_acknowledged();
    void on_stopped(const VcpuBridge::Stopped& stopped);
    enum class LastWords : uint8_t { acknowledged = 1, given_up };
    void wait_for_last_words();
    void end_guest(LastWords words);
    bool log_has_room() const;
    void schedule_flush(bool now);
    void flush_log();
    bool send_as_log(Message type, Epoch epoch, std::span<const std::byte> bytes);
    void resend_if_stalled();
    void resend_all();
    void ask_to_resend();
    void release_outputs();
    void emit(const vmm::Output& output);
    void receive_batch(Epoch epoch, std::span<const std::byte> payload);
    void accept_log(const failover::AcceptLog& order);
    void feed_backlog();
    void acknowledge(const failover::Acknowledge& order);
    void send_acknowledgement();
    void send_lag_report();
    void control_lag();
    Duration round_trip() const;
    Duration checkpoint_lag(const replay::CheckpointStatus& checkpoints) const;
    Duration execution_lag(Instant now) const;
    void on_session_up(const Member& peer, std::span<const std::byte> hello) override;
    void on_session_down(const std::string& reason) override;
    void on_message(wire::MessageClass message_class, uint8_t type, Epoch epoch,
                    std::span<const std::byte> payload) override;
    void on_writable() override;

    // node_seed.cc: copying the VM to a new backup, and being one.
    void begin_seed(const failover::BeginSeed& order);
    void receive_seed(const failover::ReceiveSeed& order);
    void on_standing(VcpuBridge::Standing standing);
    void seed_loaded(SeedEnd end);
    void start_loaded(const SeedEnd& end);
    void receive_seed_progress(std::span<const std::byte> payload);
    void receive_seed_digests(std::span<const std::byte> payload);
    void tell_seed_ratio();
    void receive_seed_ratio(std::span<const std::byte> payload);
    std::optional<double> seed_ratio() const;
    bool log_needed() const { return partner_ != Member{} && (!seed_out_ || seed_cut_); }

    // node_operate.cc: what operators do to the VM.
    std::optional<Result<ActionReply>> operate(Method method, const ActionRequest& request);
    Result<ActionReply> control_vm(Method method, const ActionRequest& request);
    Result<ActionReply> type(const ActionRequest& request);

    // node_fault.cc: rehearsed faults, each with an end of its own.
    std::optional<Result<ActionReply>> act_on_fault(Method method, const ActionRequest& request);
    Result<ActionReply> inject_fault(const ActionRequest& request);
    Result<> may_inject(std::string_view fault) const;
    void begin_fault(std::string_view fault);
    void degrade_line();
    void end_fault(const std::string& why);

    // node_drill.cc: a copy of the replaying VM, beside it.
    std::string drill_directory() const;
    Result<std::vector<std::string>> drill_taps(DrillNetwork network) const;
    std::optional<Result<ActionReply>> act_on_drill(Method method, const ActionRequest& request);
    Result<ActionReply> drill_start(const ActionRequest& request);
    void drill_standing(const replay::VmState& state);
    void drill_ended(uint64_t operation, const DrillStatus& status);
    void end_drill(const std::string& why);
    void fail_drill(const std::string& why);
    bool drill_waits() const;  // for the VM to stand

    // node_snapshot.cc: the VM written to a file.
    std::string snapshot_path(const Name& name) const;
    std::optional<Result<ActionReply>> act_on_snapshot(Method method, const ActionRequest& request);
    Result<ActionReply> take_snapshot(const ActionRequest& request);
    void snapshot_standing(std::unique_ptr<replay::VmState> state);
    void snapshot_done(const std::string& path, const Result<SnapshotTask::Figures>& done);
    void end_snapshot(const std::string& why);

    // node_verify.cc: the disks of both sites, compared while the VM runs.
    std::optional<Result<ActionReply>> act_on_verify(Method method, const ActionRequest& request);
    Result<void> may_verify() const;
    Result<std::vector<uint64_t>> verify_sizes(const std::string& disk) const;
    Result<ActionReply> begin_verify(Method method, const ActionRequest& request);
    void verify_step(Instant now);
    void take_verify_figures();
    void verify_ended(OperationState state, const std::string& why);
    void interrupt_verify(const std::string& why);
    void end_verify(const std::string& why);
    void verify_found(const VerifyFound& found);
    bool send_verify(const VerifyMessage& message);
    std::optional<std::string> verify_trouble(const VerifyAsk& ask) const;
    void receive_verify(Epoch epoch, std::span<const std::byte> payload);
    void fill_verify(Status& status) const;

    // node_mode.cc: mode `auto`.
    bool is_automatic() const { return config_.vm.mode == vmm::ProtectionMode::automatic; }
    void mode_step();
    void adopt_mode();
    void tell_mode(const replay::StretchStatus& stretch);
    void stretch_begins(LogIndex entry);
    void stretch_followed(LogIndex applied);
    void forget_stretch_begin();
    void fill_mode(Status& status) const;

    // node_stall.cc: a site that stood still asks before it acts.
    void look_for_stall(Instant now);
    void ask_whether_epoch_stands(Instant now);
    void epoch_acknowledged(LogIndex last);
    void epoch_echoed(const stream::HeartbeatEvent& seen);
    void epoch_proved(Instant asked, std::string_view how);

    // node_switch.cc: a planned change of roles, as people see it.
    Result<ActionReply> switch_over(const ActionRequest& request);
    Result<ActionReply> ask_for_switchover(const ActionRequest& request);
    void wait_for_switchover(Instant until);
    void asked_switch_ended(OperationState state, const std::string& text);
    void receive_switch_wanted(Epoch epoch, std::span<const std::byte> payload);
    void receive_switch_refused(std::span<const std::byte> payload);
    void switch_began();
    void switch_ended(OperationState state, const std::string& text);

    // node_heal.cc: making a backup equal again, and being made so.
    void on_heal_wanted(VcpuBridge::HealWanted wanted);
    void on_heal_answered(VcpuBridge::HealAnswered answered);
    void on_healed(VcpuBridge::Healed healed);
    void receive_heal(Epoch epoch, std::span<const std::byte> payload);
    void ask_for_heal();
    void ask_again_if_stalled();
    bool send_heal(wire::MessageClass message_class, std::span<const std::byte> bytes);
    void settle_heal();
    void consume_log();
    void refuse_hand_over();
    void forget_heal();
    void count_heal(uint64_t page_count, const std::string& text);
    bool replays_badly() const;
    void write_report(const replay::HealResult& result);

    // node_events.cc: what is said to people as it happens, and as long as it holds.
    void announce_state(const failover::StateChanged& change);
    void tell_of_state(const failover::StateChanged& change);
    void raise_alarm(const failover::Alarm& alarm);
    void disk_work_done(const failover::Input& done);
    void watch_figures(const Status& now);
    void fill_alerts(Status& status) const;
    void event(EventCode code, std::string_view text, std::optional<Severity> severity = {});

    // node_status.cc
    Status status() const;
    void fill_link(Status& status) const;
    void fill_tiebreaker(Status& status) const;
    void fill_execution(Status& status) const;
    struct DiskWord {
        DiskState state;
        std::string text;
    };
    std::optional<DiskWord> disk_word() const;
    void fill_disks(Status& status) const;
    Result<json::value> act(Method method, const json::object& params);
    Error cannot_cancel(uint64_t operation) const;

    // node_command.cc: what operators ask of the failover core, and how it ends.
    struct Wish {
        Method method;
        Method step;  // what is being waited for: a seed is an unprotect, then a protect
        uint64_t operation = 0;
        Epoch epoch;      // in which it was asked for
        Instant until{};  // nothing decided by then: it has failed
        Name to;          // move_backup
    };
    struct WishEnd {
        OperationState state;
        std::string text;
    };
    std::optional<Result<ActionReply>> act_on_core(Method method, const ActionRequest& request);
    Result<Name> move_target(const ActionRequest& request) const;
    ActionReply foresee(Method method, const failover::Command& command) const;
    Result<ActionReply> command(Method method, failover::Command order,
                                const ActionRequest& request);
    void command_refused(const failover::CommandRefused& refusal);
    std::optional<WishEnd> end_of(const Wish& wish) const;
    void follow_wishes();
    void end_wish(Method method, OperationState state, const std::string& text);

    boost::asio::io_context& context_;
    const NodeConfig config_;
    const Member me_;
    Registry metrics_;
    ControlJournal journal_;
    boost::asio::thread_pool disk_work_{1};

    // The core and its queue.
    failover::Failover core_;
    failover::SiteChoice site_choice_;
    failover::FaultDetector detector_;
    std::deque<failover::Input> inputs_;
    bool stepping_ = false;
    bool suspected_ = false;
    boost::asio::steady_timer core_timer_;
    boost::asio::steady_timer detector_timer_;
    boost::asio::steady_timer second_timer_;
    uint64_t turns_ = 0;  // of detect_faults()
    StallGuard stall_guard_;
    LogIndex stall_log_end_;  // of what may have been sent before the newest gap
    Instant stall_next_question_{};
    bool shut_down_ = false;
    int exit_code_ = 0;
    std::function<void()> shutdown_hook_;
    std::optional<Error> failure_;
    std::vector<std::string> refusals_;  // of the command that is being stepped
    bool commanding_ = false;
    std::vector<Wish> wishes_;

    // Local.
    std::optional<DurableFile> durable_;
    std::string boot_id_;
    std::unique_ptr<DiskSet> disks_;
    std::optional<vmm::Kvm> kvm_;
    uint64_t boot_digest_ = 0;                    // of the stopped image both sites start from
    std::optional<vmm::TscTerms> tsc_;            // of a VM whose TSC is live
    std::unique_ptr<vmm::VirtualMachine> built_;  // from the image, not running yet
    VcpuBridge bridge_;
    boost::asio::posix::stream_descriptor bridge_event_;
    std::unique_ptr<replay::VmEngine> engine_;
    bool recording_ = false;
    bool engine_stopped_ = false;
    bool guest_ended_ = false;  // a replaying VM has stopped by itself
    bool consuming_ =
        false;  // the backup takes no more entries; the log is closed once all are fed
    ConsoleLog console_log_;
    std::vector<std::unique_ptr<NetPort>> ports_;

    // Remote.
    std::unique_ptr<stream::Channel> channel_;
    std::unique_ptr<stream::Heartbeat> heartbeat_;
    uint32_t channels_opened_ = 0;
    uint64_t heartbeats_sent_ = 0;  // to the sites before: who is turned to again knows them
    std::unique_ptr<ArbiterClient> tiebreaker_;
    std::unique_ptr<ControlServer> control_;
    std::optional<Member> peer_;  // of the channel's session
    FormatVersions peer_formats_;
    std::optional<Member> heartbeat_from_;
    Epoch epoch_;
    Member partner_;

    // Primary.
    LogOutbox outbox_;
    OutputGate gate_;
    boost::asio::steady_timer flush_timer_;
    std::optional<Instant> flush_armed_;  // when flush_timer_ ends
    FlushPolicy flush_policy_;
    bool channel_full_ = false;
    LogIndex last_produced_;
    // The last entries of checkpoints, or of deltas of a stretch, that are not acknowledged.
    std::deque<std::pair<LogIndex, ExitNumber>> checkpoint_ends_;
    Instant next_resend_request_{};
    uint64_t log_handed_bytes_ = 0;  // to the channel, as class log
    uint64_t resend_mark_ = 0;       // of them, when all was last sent again
    LogIndex stall_position_;
    Instant stall_since_{};
    LagMeter lag_;
    LagController lag_controller_;
    Instant next_lag_step_{};

    // Backup.
    std::optional<replay::LogBatch> offered_;
    std::deque<std::pair<LogIndex, replay::LogEntry>> backlog_;
    uint64_t backlog_bytes_ = 0;
    LogIndex received_;
    std::optional<failover::Acknowledge> owed_acknowledgement_;
    bool resend_owed_ = false;  // a request that nobody was there to hear
    boost::asio::steady_timer backlog_timer_;
    bool backlog_timer_armed_ = false;
    uint64_t log_clock_ns_ = 0;             // the guest's clock when the newest batch was made
    std::optional<Duration> clock_offset_;  // primary's guest clock minus our monotonic clock
    Instant next_lag_report_{};
    LogIndex lag_reported_;

    // Seeding.
    std::unique_ptr<SeedSender> seed_out_;
    bool seed_cut_ = false;
    std::unique_ptr<SeedReceiver> seed_in_;
    std::unique_ptr<SeedUndo> seed_undo_;
    failover::Durable persisted_;                                        // as it was last asked for
    std::optional<double> seed_in_ratio_;                                // as the sender told
    std::deque<std::pair<Epoch, std::vector<std::byte>>> held_batches_;  // until the seed is loaded
    uint64_t held_batch_bytes_ = 0;

    std::unique_ptr<Drill> drill_;            // the one that runs, or the last one
    uint64_t drill_snapshot_ = 0;             // what it waits for
    std::unique_ptr<SnapshotTask> snapshot_;  // to a file: the one under way, or the last one
    uint64_t snapshot_operation_ = 0;

    // Comparing disks.
    std::unique_ptr<DiskVerifier> verifier_;           // primary
    std::unique_ptr<VerifyFollower> verify_follower_;  // backup
    std::optional<Result<void>> verify_over_;          // how verifier_ has ended
    bool verify_whole_ = false;                        // all disks, not one of them
    VerifyStatus verify_status_;
    VerifyRecord verify_record_;
    uint64_t verify_events_ = 0;
    int64_t verify_since_unix_ms_ = 0;
    // A seed or a heal brought this backup here: what was asked before within the exit is not
    // known.
    std::optional<uint64_t> verify_base_exit_;

    // A fault that is being rehearsed.
    struct Fault {
        uint64_t operation = 0;
        std::string name;
        int64_t since_unix_ms = 0;
    };
    std::optional<Fault> fault_;
    boost::asio::steady_timer fault_timer_;    // its end
    boost::asio::steady_timer degrade_timer_;  // the next pulse
    bool pulse_ = false;

    // A switchover that this site began as the primary.
    std::optional<uint64_t> switch_operation_;
    std::optional<Instant> switch_stood_;  // the guest has stood since
    // One that this site asked for as the backup.
    std::optional<uint64_t> switch_asked_;
    boost::asio::steady_timer switch_timer_;
    boost::asio::steady_timer last_words_timer_;
    std::optional<LogIndex> last_words_;  // of a guest that has ended, until they have left

    // Healing.
    std::unique_ptr<HealSender> heal_out_;
    std::unique_ptr<HealReceiver> heal_in_;
    std::unique_ptr<replay::HealRequest> heal_request_;  // while this backup waits for an answer
    uint64_t heal_attempt_ = 0;
    uint64_t heal_progress_ = 0;
    Instant heal_asked_{};
    bool hand_over_refused_ = false;  // the log is not consumed before the primary is lost
    bool diverged_ = false;           // from when a difference was noticed until it is healed
    std::deque<Instant> heal_times_;
    uint64_t heals_ = 0;           // in all
    uint64_t heals_given_up_ = 0;  // primary: what differed was too much, or its backup was lost
    uint64_t healed_pages_ = 0;
    uint64_t report_count_ = 0;

    // Mode `auto`.
    ModePolicy mode_policy_;
    std::optional<LogIndex> stretch_begin_;  // primary: the backup is not known to be past it
    std::optional<replay::DeltasReason> mode_told_;
    int64_t mode_since_unix_ms_ = 0;

    // For people.
    wire::SiteState halts_from_ = wire::SiteState::starting;  // where the last halt began
    std::map<failover::AlarmCode, int64_t> alarms_since_;
    Threshold lag_watch_{1.0, 0.5};     // seconds; the alert rule AntipodeLagHigh begins there too
    Threshold link_watch_{0.05, 0.02};  // of the heartbeats that are lost
    int64_t lag_since_unix_ms_ = 0;
    int64_t link_since_unix_ms_ = 0;
    std::optional<int64_t> differs_since_unix_ms_;
    std::string digest_trouble_;
    uint64_t digests_checked_ = 0;
    uint64_t digest_mismatches_ = 0;
    std::optional<uint64_t> last_ok_exit_;
    Counter& log_bytes_total_;
    Counter& log_repeated_bytes_total_;
    Counter& log_entries_total_;
    Counter& batches_dropped_total_;
    Counter& stale_epoch_messages_total_;
    Counter& stalls_total_;
    Counter& verify_bytes_total_;
    Counter& verify_mismatches_total_;
    Counter& verify_repaired_total_;
    Histogram& output_delay_;
    Instant started_;
    int64_t state_since_unix_ms_ = 0;
    uint64_t last_log_bytes_ = 0;
    uint64_t last_log_wire_bytes_ = 0;
    std::optional<double> log_wire_bytes_rate_;
    std::optional<uint64_t> bulk_cap_;  // in force, by the schedule
    uint64_t last_log_entries_ = 0;
    uint64_t last_exits_ = 0;
    std::optional<double> log_bytes_rate_;
    std::optional<double> log_entries_rate_;
    std::optional<double> exits_rate_;
};

}  // namespace antipode::control
