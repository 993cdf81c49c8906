// CheckpointPart: a piece of a checkpoint as it travels, the content of a replay::CheckpointPart
// log entry.
//
//   PagesPart*  OutputsPart*  MachinePart+  EndPart
//
// Pages come first and the vCPUs last: the end makes the checkpoint complete. Every part names its
// checkpoint, carries a checksum of its content and is compressed by itself, so that each can be
// checked and unpacked as it arrives and none needs more memory than its own.
//
// Format, versions and limits: docs/PROTOCOL-checkpoint.md. Writer and reader are in one file so
// that they change together. Pure; no thread.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <variant>
#include <vector>

#include "common/base/result.h"
#include "replicator/replay/log_entry.h"
#include "replicator/replay/ports.h"

extern "C" {
struct ZSTD_CCtx_s;
struct ZSTD_DCtx_s;
}

namespace antipode::checkpoint {

// By ascending number over the whole checkpoint. A page without bytes is all zero.
using PagesPart = replay::DeltaPages;

// Outputs of the guest's since the checkpoint before, in order: what the backup re-sends if the
// primary dies before it has released them.
struct OutputsPart {
    std::vector<replay::ReplayedOutput> outputs;  // at least one
};

// The devices' state, or the next piece of it.
struct MachinePart {
    std::vector<std::byte> bytes;  // at least one
};

struct EndPart {
    uint64_t part_count = 0;  // of this checkpoint, before this one
    uint64_t guest_clock_ns = 0;
    OutputNumber output;          // the last one made
    bool held = false;            // paused by an operator
    std::vector<std::byte> cpus;  // vmm::SmpState
};

struct Part {
    // What a part holds, unpacked.
    static constexpr size_t kContentBytesMax = 272 << 10;
    static constexpr size_t kMachineBytesMax = 256 << 10;

    uint64_t checkpoint = 0;  // its number, from 1
    std::variant<PagesPart, OutputsPart, MachinePart, EndPart> body;
};

// Whether an encoded part is the last of its checkpoint.
bool is_end(std::span<const std::byte> bytes);

// How many bytes this output takes in an OutputsPart.
size_t content_bytes(const replay::ReplayedOutput& output);

// Keeps its compressor, and memory, from part to part. One thread at a time.
class PartEncoder {
  public:
    PartEncoder();
    ~PartEncoder();
    PartEncoder(const PartEncoder&) = delete;
    PartEncoder& operator=(const PartEncoder&) = delete;

    std::vector<std::byte> encode(const Part& part);

  private:
    struct Free {
        void operator()(ZSTD_CCtx_s* context) const;
    };
    std::unique_ptr<ZSTD_CCtx_s, Free> context_;
    std::vector<std::byte> packed_;
};

class PartDecoder {
  public:
    PartDecoder();
    ~PartDecoder();
    PartDecoder(const PartDecoder&) = delete;
    PartDecoder& operator=(const PartDecoder&) = delete;

    // Refuses what an encoder could not have made; the error names the rule.
    Result<Part> decode(std::span<const std::byte> bytes);

  private:
    struct Free {
        void operator()(ZSTD_DCtx_s* context) const;
    };
    Result<std::span<const std::byte>> unpack(std::span<const std::byte> payload,
                                              uint32_t content_bytes);

    std::unique_ptr<ZSTD_DCtx_s, Free> context_;
    std::vector<std::byte> content_;
};

}  // namespace antipode::checkpoint
