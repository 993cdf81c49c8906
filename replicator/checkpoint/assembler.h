// Assembler: puts parts together into whole checkpoints. Nothing of a checkpoint is given out
// before its last part is here and all of it is known to be good: that is what makes applying it
// atomic.
//
// One thread (the backup's). INVARIANTS
//   - Checkpoints come out in ascending number, each once.
//   - Memory is bounded by the VM's: a page comes once in a checkpoint, none beyond the last.
// On failure (a part that does not belong where it came) the log cannot be followed any more: the
// caller stops. discard() drops what is half there, when the log ends in the middle of one.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "replicator/checkpoint/checkpoint_part.h"

namespace antipode::checkpoint {

struct Checkpoint {
    uint64_t number = 0;
    std::vector<replay::DeltaPages::Page> pages;  // by ascending number
    std::vector<replay::ReplayedOutput> outputs;  // by ascending number
    std::vector<std::byte> machine;
    EndPart end;
};

class Assembler {
  public:
    static constexpr size_t kOutputBytesMax = 64 << 20;
    static constexpr size_t kMachineBytesMax = 64 << 20;

    // `page_count`: of the VM's memory.
    explicit Assembler(uint64_t page_count) : page_count_(page_count) {}

    // The checkpoint that this part makes whole, if it does.
    Result<std::optional<Checkpoint>> take(std::span<const std::byte> part);
    // True if a checkpoint was half there.
    bool discard();
    // Another primary counts from here.
    void restart_after(uint64_t number);
    uint64_t last_number() const { return last_number_; }

  private:
    enum class Stage : uint8_t { pages, outputs, machine };
    Result<void> add(PagesPart&& body);
    Result<void> add(OutputsPart&& body);
    Result<void> add(MachinePart&& body);
    Result<void> add(EndPart&& body);
    Result<void> enter(Stage stage);

    const uint64_t page_count_;
    PartDecoder decoder_;
    uint64_t last_number_ = 0;  // of the last whole one
    Checkpoint current_;        // number 0: none has begun
    Stage stage_ = Stage::pages;
    uint64_t part_count_ = 0;
    size_t output_bytes_ = 0;
};

}  // namespace antipode::checkpoint
