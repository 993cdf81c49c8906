// SeedReceiver: takes a seed apart at the new backup: pages into the VM's memory, chunks onto the
// disks, and at the end the state, from which the engine begins to follow.
//
// Core thread. Chunk writes are asynchronous; the seed is loaded when the last of them is done and
// the disks are flushed. The sender's questions are answered from the disks (disk_digester.h).
//
// INVARIANTS
//   - Nothing of another attempt is applied.
//   - on_loaded() is called at most once, when every piece is in place.
// On failure on_failed() is called once; what was copied so far is of no use, and the disks are
// inconsistent.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "replicator/control/disk_digester.h"
#include "replicator/control/disk_set.h"
#include "replicator/control/seed_frames.h"
#include "replicator/vmm/builder.h"

namespace antipode::control {

class SeedReceiver {
  public:
    struct Hooks {
        std::function<void(uint64_t bytes)> progress;  // taken so far, to be told to the sender
        std::function<void(SeedDigests answer)>
            answer;  // to the sender; none: a file, no questions
        std::function<void(SeedEnd end)> on_loaded;
        std::function<void(const std::string&)> on_failed;
        // Calls `saved` when what is to be written to this chunk may be; in the order of the calls.
        // None: at once.
        std::function<void(const DriveChunk& chunk, std::function<void(Result<void>)> saved)>
            save_before;
    };

    SeedReceiver(uint64_t attempt, vmm::VirtualMachine& vm, DiskSet& disks, Hooks hooks);
    ~SeedReceiver() { *alive_ = false; }

    void receive(std::span<const std::byte> bytes);
    uint64_t attempt() const { return attempt_; }
    size_t writing() const { return writing_; }  // chunks that are not on the disks yet

  private:
    void take(SeedPages piece);
    void take(SeedChunk piece, size_t bytes);
    void write(SeedChunk piece, size_t bytes);
    void take(SeedEnd piece);
    void take(const SeedAsk& piece);
    void taken(uint64_t bytes);
    void finish_if_complete();
    void fail(const std::string& text);

    const uint64_t attempt_;
    vmm::VirtualMachine& vm_;
    DiskSet& disks_;
    Hooks hooks_;
    DiskDigester digester_;
    uint64_t piece_count_ = 0;
    uint64_t taken_bytes_ = 0;
    uint64_t reported_bytes_ = 0;
    size_t writing_ = 0;
    bool failed_ = false;
    bool loaded_ = false;
    std::optional<SeedEnd> end_;
    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace antipode::control
