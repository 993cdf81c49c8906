// ReplayPair: a recording and a replaying VM in one process, joined by a pump that encodes, decodes
// and feeds the log as the channel would. For tests.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "replicator/replay/engine.h"
#include "tests/replay/memory_disk.h"

namespace antipode::replay {

// One side: what the engine calls, collected for the test to look at.
class Side final : public LogPort, public OwnerPort {
  public:
    bool record(Recorded&& step) override;
    bool replayed(ReplayedOutput&& output) override;
    void drained(ExitNumber exit, LogIndex applied) override;
    void live(ExitNumber exit) override;
    void paused(ExitNumber) override {}
    void standing(std::unique_ptr<VmState> state) override;
    void dirty_pages(std::vector<uint64_t> bitmap) override;
    void stopped(StopReason reason, const std::string& text) override;
    void digest_checked(ExitNumber exit, const std::string& text) override;
    void replay_disk_error(const std::string& text) override;
    void heal_wanted(std::unique_ptr<HealRequest> wanted) override;
    void heal_answered(std::unique_ptr<HealAnswer> answered) override;
    void healed(std::unique_ptr<HealResult> result) override;

    // False if `condition` did not come true within the deadline.
    bool wait_until(const std::function<bool()>& condition, Duration deadline);

    std::mutex mutex;
    std::condition_variable changed;
    std::deque<Recorded> log;
    std::string console;
    std::vector<std::vector<std::byte>> frames;
    std::vector<OutputNumber> output_numbers;
    std::optional<StopReason> stop_reason;
    std::string stop_text;
    std::optional<ExitNumber> drained_at;
    bool is_live = false;
    // Of what it had replayed when it went live; by itself it makes more at once.
    size_t console_replayed_bytes = 0;
    OutputNumber last_replayed;
    size_t standing_count = 0;
    std::unique_ptr<VmState> state;  // of the last time it stood
    LogIndex state_at;               // replaying: the entry that was applied last, then
    const Engine* engine = nullptr;
    std::vector<std::vector<uint64_t>> dirty;
    size_t digests_equal = 0;
    std::vector<std::string> digest_errors;
    std::vector<std::string> disk_errors;
    std::unique_ptr<HealRequest> heal_request;
    std::unique_ptr<HealAnswer> heal_answer;
    uint64_t recorded_count = 0;
    uint64_t answered_at = 0;  // recorded_count when heal_answer came
    std::vector<HealResult> heals;
    std::function<void(HealAnswer&)> on_answer;  // on the vCPU thread

  private:
    void note(const vmm::Output& output);
};

struct PairOptions {
    vmm::VmConfig config;
    size_t disk_bytes = 4 << 20;
    uint64_t digest_exits = 500;
    uint64_t kick_seed = 0;    // 0 = no kicks
    uint64_t delta_every = 0;  // EngineOptions::delta_every
    uint64_t disk_seed = 1;
    EngineOptions::Healing healing = EngineOptions::Healing::off;
    Duration stretch_interval = std::chrono::milliseconds(20);  // the longest
};

class ReplayPair {
  public:
    static Result<std::unique_ptr<ReplayPair>> make(const PairOptions& options);
    ~ReplayPair();

    void start();
    // Stops the primary as if it had died: what it logged so far reaches the backup, then the log
    // ends.
    void cut_primary();
    // The same, but only `part` (0 to 1) of the entries that wait for the line reach the backup.
    void cut_primary_at(double part);
    // While it is held nothing reaches the backup.
    void hold_line(bool held) { line_held_ = held; }
    // Captures the primary at an exit while it runs, and puts a new backup in place that begins
    // there.
    Result<void> seed_new_backup();
    // Takes a snapshot of the primary, which goes on as if nothing had been.
    Result<void> snapshot_primary();
    // Takes a snapshot of the backup where it is, puts it through the codec, and puts a new backup
    // in place that goes on from there in the same log.
    Result<void> move_backup();
    // The primary stands at an exit, and the backup comes to the same one: what differs between
    // their memories and registers; empty if nothing does. Both stay there.
    Result<std::string> compare_at_an_exit();
    // After cut_primary: the backup drains its log and becomes the VM.
    bool fail_over();

    Side primary;
    Side backup;
    std::unique_ptr<MemoryDisk> primary_disk;
    std::unique_ptr<MemoryDisk> backup_disk;
    std::unique_ptr<Engine> primary_engine;
    std::unique_ptr<Engine> backup_engine;
    std::atomic<uint64_t> log_bytes{0};
    std::atomic<uint64_t> log_entries{0};
    std::atomic<uint64_t> outputs_sent{0};  // whose marks have reached the backup
    std::string pump_error;
    std::string metrics_text() const { return metrics_.prometheus_text(); }

  private:
    explicit ReplayPair(PairOptions options) : options_(std::move(options)) {}
    Result<VmState> take_snapshot(Engine& engine, Side& side, uint64_t& number);
    Result<std::unique_ptr<Engine>> make_engine(Side& owner, std::unique_ptr<MemoryDisk>& disk,
                                                uint64_t seed);
    void pump();
    bool send(std::vector<LogEntry> entries, LogIndex first);
    bool feed_backup(LogIndex index, const LogEntry& entry);
    void carry_heal();
    void copy_chunks(HealAnswer& answer);

    Registry metrics_;  // of both sides
    const PairOptions options_;
    std::mutex pump_mutex_;  // held while a round of the log is on its way to the backup
    std::thread pump_;
    std::atomic<bool> pump_stop_{false};
    std::atomic<bool> line_held_{false};
    bool truncated_ = false;    // under pump_mutex_: what passed() says is not in the log
    uint64_t taken_count_ = 0;  // of the primary's entries
    std::deque<std::pair<LogIndex, LogEntry>> fed_;  // not applied yet, for the next backup
    std::vector<std::vector<std::byte>> chunks_;     // of the answer under way
    uint64_t moves_ = 2;
    uint64_t next_index_ = 1;  // on the wire: Passed marks of the pump are entries too
};

}  // namespace antipode::replay
