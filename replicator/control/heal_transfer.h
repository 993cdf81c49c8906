// HealSender and HealReceiver: one heal on its way from the primary to the backup.
//
// Core thread. The sender has the answer's pages in memory and reads its chunks while the VM
// stands; the receiver keeps everything in memory until it is whole: a heal that is cut off half
// way leaves the backup as it was. Both are bounded by HealAnswer's limits.
//
// INVARIANTS
//   - The VM is let go (on_read) as soon as the last chunk has been read, or reading has failed.
//   - Nothing is written to the backup's disks before everything is there and the log has come to
//     the position: from then on the heal takes effect whatever happens (committed()).
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "replicator/control/disk_set.h"
#include "replicator/control/heal_frames.h"
#include "replicator/control/output_gate.h"

namespace antipode::control {

class HealSender {
  public:
    struct Hooks {
        std::function<bool(std::span<const std::byte>)> send;  // false: not now, pump() again
        std::function<void()> on_read;                         // the VM may go on
    };
    HealSender(std::unique_ptr<replay::HealAnswer> answer, LogIndex position,
               const OutputGate& gate, DiskSet& disks, Hooks hooks);
    ~HealSender();

    void pump();
    bool done() const { return done_; }
    uint64_t attempt() const { return end_.attempt; }

  private:
    void read_chunks();
    void chunk_read(replay::DiskChunk chunk, Result<std::vector<std::byte>> bytes);

    HealEnd end_;
    DiskSet& disks_;
    Hooks hooks_;
    std::deque<HealMessage> pieces_;
    size_t reading_ = 0;
    bool read_ = false;
    bool done_ = false;
    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

class HealReceiver {
  public:
    struct Hooks {
        std::function<void(std::unique_ptr<replay::HealAnswer>, LogIndex position)> on_whole;
        std::function<void(const std::string&)> on_failed;
    };
    HealReceiver(uint64_t attempt, DiskSet& disks, Hooks hooks);
    ~HealReceiver() { *alive_ = false; }

    void receive(HealMessage message);
    // The log has come to this entry.
    void log_is_at(LogIndex last);
    bool committed() const { return committed_; }
    uint64_t attempt() const { return attempt_; }
    // What the backup's gate is to hold once the heal has taken effect.
    const HealEnd* end() const { return end_ ? &*end_ : nullptr; }
    uint64_t received_count() const { return piece_count_; }

  private:
    void commit_if_whole();
    void written(Result<void> result);
    void fail(const std::string& text);

    const uint64_t attempt_;
    DiskSet& disks_;
    Hooks hooks_;
    std::vector<replay::DeltaPages::Page> pages_;
    std::vector<HealChunk> chunks_;
    uint64_t piece_count_ = 0;
    std::optional<HealEnd> end_;
    LogIndex log_end_;
    bool committed_ = false;
    bool failed_ = false;
    size_t writing_ = 0;
    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace antipode::control
