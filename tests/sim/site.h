// One site in the simulation: the machine (small durable state, disk) and, while it lives, the
// process: the real failover core and fault detector with a shell around them that does for the
// abstract VM what replicator/control does for a real one.
//
// A site's process may be killed (what it wrote stays), lose power (what it did not flush may go),
// be stopped and continued, run with a clock that drifts or jumps, crash inside a durable write,
// meet a full disk. INVARIANT: a task scheduled by one life of the process never runs in another
// one; a stopped process runs nothing, and everything in order once it continues.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <string>

#include "common/failover/failover.h"
#include "common/failover/fault_detector.h"
#include "common/failover/site_choice.h"
#include "tests/sim/checker.h"
#include "tests/sim/coverage.h"
#include "tests/sim/network.h"

namespace antipode::sim {

class Site {
  public:
    struct Settings {
        Duration write_time_max = 3ms;  // of the small durable state
        Duration apply_time_max = 4ms;  // of a batch of log entries at the backup
        Duration seed_time_max = 600ms;
        Duration heartbeat_interval = 25ms;
        Duration pause_time_max = 3ms;  // a guest that seldom exits stands late
        double kill_at_change = 0;      // chance that a change of state is soon followed by a kill
        double crash_at_write = 0;      // chance that a durable write is a process's last
        double lose_at_power = 0.5;     // chance that an unflushed write is gone
        double undo_overlay = 0.5;      // chance that a resync keeps the old contents
        // Chance that a process that was stopped runs its guest, and lets it write, before its core
        // hears of anything that happened meanwhile: they are threads of their own.
        double runs_on_waking = 0;
        Duration answer_limit = 3s;  // of SiteChoice
    };

    Site(World& world, Network& network, Checker& checker, Coverage& coverage, size_t index,
         failover::Config config, NodeId image);

    Settings settings;
    const std::vector<std::unique_ptr<Site>>* all = nullptr;
    Site* peer = nullptr;  // to which it is turned
    std::function<void(const wire::Request&)> to_tiebreaker;

    // ---- The machine ----
    void start();
    void kill();  // kill -9
    void lose_power();
    bool alive() const { return process_ != nullptr; }
    void stop_for(Duration duration);  // SIGSTOP ... SIGCONT
    bool stopped() const { return world_.now() < stopped_until_; }
    void continue_now() {
        stopped_until_ = std::min(stopped_until_, world_.now());
        wake();
    }
    void keep_down(Duration duration);  // dead, and not started again before
    void come_back();                   // after that
    void clock_drift(double rate);
    void clock_jump(Duration by) { clock_offset_ += by; }
    bool disk_full = false;

    // ---- The process ----
    void input(const failover::Input& input);  // from outside: waits while it is stopped
    void session_opened();
    void heartbeat(const Member& from, uint64_t number, Epoch epoch);
    // Answers to the next commands accept a loss of data (an operator has read the warning).
    void accept_loss() { process_->loss_accepted = true; }
    const failover::Failover* core() const { return process_ ? &process_->core : nullptr; }
    failover::State state() const {
        return process_ ? process_->core.state() : failover::State::stopped;
    }
    bool vm_runs() const { return process_ && process_->runs; }
    NodeId vm() const { return process_ ? process_->vm : NodeId::none; }
    NodeId log_tail() const { return process_ ? process_->log_tail : NodeId::none; }
    NodeId disk() const { return disk_; }
    // Writes of another history that the last resync left on the disk.
    NodeId disk_strays() const { return disk_strays_; }
    NodeId released_node() const {
        return process_ ? checker_.lineage.entry(process_->vm, process_->released) : NodeId::none;
    }
    // A client's request reaches the VM: one log entry.
    void client_request();
    void guest_stops();  // it shuts itself down
    void seed_fails();   // whichever side of one this is
    void memory_lost();  // of a stopped VM
    // Runs only now and then for a while, as on a host that has too much to do.
    void crawl(Instant until);
    void move_backup(const Name& to);  // an operator wants it there
    size_t index() const { return index_; }
    const Name& name() const { return config_.site; }
    std::string describe() const;

    uint64_t restarts = 0;
    uint64_t crashes_at_write = 0;
    uint64_t torn_writes = 0;
    uint64_t lost_writes = 0;
    uint64_t refused_by_full_disk = 0;
    uint64_t seeds_done = 0;

  private:
    struct Process {
        Process(const failover::Config& config, Duration answer_limit, Instant now)
            : core(config), choice(config, answer_limit), detector({}, now) {}
        failover::Failover core;
        failover::SiteChoice choice;
        failover::FaultDetector detector;
        Member me;
        uint64_t heartbeats_sent = 0;
        failover::Suspicion suspicion = failover::Suspicion::none;
        Member heartbeat_from;
        Instant timer{};
        bool timer_armed = false;
        uint64_t timer_number = 0;
        // The VM.
        NodeId vm = NodeId::none;        // executed or applied up to here
        NodeId log_tail = NodeId::none;  // backup: kept up to here
        bool runs = false;
        uint64_t pauses_wanted = 0;
        bool following = false;  // applies the log as it comes
        bool applying = false;
        bool consuming = false;
        uint64_t released = 0;  // outputs up to here have left, here or, as told, at the primary
        failover::SetGate gate;
        failover::UseEpoch use;
        // The log stream.
        uint64_t sent = 0;  // log entries sent in this session
        uint64_t acked = 0;
        bool resend_armed = false;
        // Seeding.
        uint64_t attempt = 0;
        bool seeding = false;
        NodeId cut = NodeId::none;
        uint64_t cut_attempt = 0;
        uint64_t receiving = 0;
        bool loss_accepted = false;
    };

    struct LogFrame {  // log entries first..index(last), or the seed of attempt `first`
        Epoch epoch;
        Member from;
        Member to;
        uint64_t first = 0;
        NodeId last = NodeId::none;
        uint64_t released = 0;  // the sender's outputs have left up to here
    };

    Instant local_now() const;
    void later(Duration delay, Task task);  // of this life; waits while stopped
    void guarded(uint64_t life, Task task);
    void wake();
    void run_before_hearing();
    void step(const failover::Input& input);
    void arm_timer();
    void beat();
    void check_detector();
    void consider_turning();
    Site* named(const Name& name) const;
    void die();

    // site_outputs.cc
    void out(const failover::Send& send);
    void out(const failover::Ask& ask);
    void out(const failover::SetGate& gate);
    void out(const failover::UseEpoch& use);
    void out(const failover::AcceptLog& accept);
    void out(const failover::Acknowledge& acknowledge);
    void out(const failover::Persist& persist);
    void out(const failover::FenceDisk& fence);
    void out(const failover::FlushDisk& flush);
    void out(const failover::RunVm& run);
    void out(const failover::FollowVm& follow);
    void out(const failover::ConsumeLog& consume);
    void out(const failover::PauseVm& pause);
    void out(const failover::HaltVm& halt);
    void out(const failover::DropMemory& drop);
    void out(const failover::BeginSeed& begin);
    void out(const failover::CutSeed& cut);
    void out(const failover::AbortSeed& abort);
    void out(const failover::ReceiveSeed& receive);
    void out(const failover::StateChanged& changed);
    void out(const failover::Alarm& alarm);
    void out(const failover::CommandRefused& refused);
    void out(const failover::Retire& retire);

    bool dies_in_write(const Task& write);
    void write_then(Instant& due, Task write, failover::Input done);
    void write_disk(NodeId node, bool durable);
    void release();
    bool behind_partner() const;
    void send_log();
    void arm_resend();
    bool streams() const;
    void receive_log(const LogFrame& frame);
    void apply();
    void send_seed();
    void receive_seed(const LogFrame& seed);
    void resync_disk();
    void heard_frame();
    void observe();
    void check_output_rule(NodeId node);

    World& world_;
    Network& network_;
    Checker& checker_;
    Coverage& coverage_;
    size_t index_;
    failover::Config config_;

    // Durable.
    std::optional<failover::Durable> stored_;
    Epoch fence_;
    NodeId disk_;          // what a read returns
    NodeId disk_durable_;  // what survives a loss of power for sure
    NodeId disk_before_seed_ = NodeId::none;
    NodeId disk_strays_ = NodeId::none;
    uint64_t boot_ = 1;
    uint64_t stored_boot_ = 0;  // in which stored_ was written

    std::unique_ptr<Process> process_;
    uint64_t life_ = 0;
    Instant stopped_until_{};
    bool stood_still_ = false;
    struct Waiting {
        uint64_t life;
        Task task;
    };
    std::deque<Waiting> waiting_;  // came while the process was stopped
    double clock_rate_ = 1;
    Duration clock_offset_{};
    Instant down_until_{};
    NodeId image_;
    struct Write {
        uint64_t number;
        Task apply;
    };
    std::vector<Write> writes_;  // durable ones, under way
    uint64_t writes_begun_ = 0;
    Instant persist_due_{};
    Instant fence_due_{};
    Instant flush_due_{};
    LogFrame offered_;  // the log frame that is being judged
    bool in_step_ = false;
};

}  // namespace antipode::sim
