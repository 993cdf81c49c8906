// CheckpointPair: a VM that is protected by checkpoints and its backup, in one process, joined by a
// pump that encodes, decodes, feeds and acknowledges the log as the channel would. For tests.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "replicator/checkpoint/checkpoint_engine.h"
#include "tests/replay/memory_disk.h"
#include "tests/replay/replay_pair.h"

namespace antipode::checkpoint {

struct CheckpointPairOptions {
    vmm::VmConfig config;
    size_t disk_bytes = 4 << 20;
    CheckpointOptions engine;
};

class CheckpointPair {
  public:
    static Result<std::unique_ptr<CheckpointPair>> make(const CheckpointPairOptions& options);
    ~CheckpointPair();

    void start();
    // The primary dies; all that it has logged reaches the backup, or all but the last part of a
    // checkpoint and what is behind it.
    enum class Cut : uint8_t { at_the_end, in_a_checkpoint };
    bool cut_primary(Cut cut);
    // The backup consumes what it has and becomes the VM.
    bool fail_over();
    // Both stand at one checkpoint.
    bool stand_still();
    // The pump takes nothing and acknowledges nothing while it is held.
    void hold_line(bool held) { line_held_ = held; }
    // Captures the primary and puts a new backup in place that begins there.
    Result<void> seed_new_backup();
    // Copies the VM of either while it goes on, as a snapshot is taken, and lets the copy run.
    enum class Of : uint8_t { primary, backup };
    Result<void> start_copy(Of of);

    replay::Side primary;
    replay::Side backup;
    replay::Side copy;
    std::unique_ptr<replay::MemoryDisk> primary_disk;
    std::unique_ptr<replay::MemoryDisk> backup_disk;
    std::unique_ptr<replay::MemoryDisk> copy_disk;
    std::unique_ptr<CheckpointEngine> primary_engine;
    std::unique_ptr<CheckpointEngine> backup_engine;
    std::unique_ptr<CheckpointEngine> copy_engine;
    std::string pump_error;
    std::atomic<uint64_t> log_bytes{0};
    // Outputs that the gate would have let out.
    std::atomic<uint64_t> released{0};

  private:
    explicit CheckpointPair(CheckpointPairOptions options) : options_(std::move(options)) {}
    Result<std::unique_ptr<CheckpointEngine>> make_engine(replay::Side& owner,
                                                          std::unique_ptr<replay::MemoryDisk>& disk,
                                                          uint64_t seed);
    void stop_copy();
    static Result<std::vector<uint64_t>> dirty_pages(CheckpointEngine& engine, replay::Side& side,
                                                     replay::VmEngine::Since since);
    void pump();
    bool carry_one();
    bool end_is_next();
    bool feed(const replay::LogEntry& entry);

    Registry metrics_;
    const CheckpointPairOptions options_;
    std::mutex pump_mutex_;
    std::thread pump_;
    std::atomic<bool> pump_stop_{false};
    std::atomic<bool> line_held_{false};
    uint64_t next_index_ = 1;
};

}  // namespace antipode::checkpoint
