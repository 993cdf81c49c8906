// LogEntry: one line of a VM's execution log, and the batch in which entries travel.
//
// An entry says what happened at an exit that the guest's own execution does not determine: an
// event, an input that emulation read, or a mark. Entries are in execution order; exit numbers
// never decrease.
//
//   within one exit:  InputRead*  OutputMark*  (TimerTick | BlockDone | FrameReceived | ...)*
//                     during emulation         applied after it, before the guest goes on
//
// The encoding is canonical (equal entries, equal bytes) and compact: a timer tick is one byte.
// Format: docs/PROTOCOL-log.md. Writer and reader are in one file so that they change together.
//
// Pure values; no thread.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "common/base/ids.h"
#include "common/base/result.h"
#include "replicator/vmm/machine.h"

namespace antipode::replay {

// A device clock was read while the exit was emulated.
struct InputRead {
    vmm::InputKind kind = vmm::InputKind::pm_timer;
    uint64_t value = 0;
    bool operator==(const InputRead&) const = default;
};
// Emulation of the exit, or the flush before a wait, made an output. The checksum is the low 32
// bits of XXH3-64 of its bytes: the backup made the same output, or it has diverged.
struct OutputMark {
    uint32_t checksum = 0;
    bool operator==(const OutputMark&) const = default;
};
// The interval timer's period has ended.
struct TimerTick {
    bool operator==(const TimerTick&) const = default;
};
// A disk request has ended. Read data is not in the log: each site reads its own disk.
struct BlockDone {
    uint32_t drive = 0;
    uint64_t number = 0;
    vmm::BlockStatus status = vmm::BlockStatus::ok;
    bool operator==(const BlockDone&) const = default;
};
struct FrameReceived {
    uint32_t interface = 0;
    std::vector<std::byte> bytes;
    bool operator==(const FrameReceived&) const = default;
};
struct ConsoleInput {
    std::vector<std::byte> bytes;
    bool operator==(const ConsoleInput&) const = default;
};
// What the VM looked like at this exit, after the entries before this one.
struct DigestMark {
    uint64_t cpu = 0;
    uint64_t devices = 0;
    uint64_t memory = 0;
    uint64_t disk = 0;  // of what was written to the disks since the last digest
    bool operator==(const DigestMark&) const = default;
};
// A delta: where a stretch of execution cannot be replayed (the guest did not exit in time), the
// state it led to. It takes effect after the exit it names, in place of running on from there:
// first the pages, in as many entries as they need, then the vCPU, which makes the delta complete.
// Only a complete one counts.
struct DeltaPages {
    static constexpr size_t kPagesMax = 64;
    struct Page {
        uint64_t number = 0;
        std::vector<std::byte> bytes;  // one page, or empty: all zero
        bool operator==(const Page&) const = default;
    };
    std::vector<Page> pages;  // by ascending number
    bool operator==(const DeltaPages&) const = default;
};
// A page as it is sent.
DeltaPages::Page page_of(uint64_t number, std::span<const std::byte> bytes);
struct DeltaState {
    static constexpr size_t kCpuBytesMax = 16384;
    std::vector<std::byte> cpu;  // vmm::CpuState
    bool operator==(const DeltaState&) const = default;
};
// A part of a checkpoint (checkpoint mode, docs/PROTOCOL-checkpoint.md): opaque here. The exit
// number is the checkpoint's.
struct CheckpointPart {
    static constexpr size_t kBytesMax = 320 << 10;
    std::vector<std::byte> bytes;
    bool operator==(const CheckpointPart&) const = default;
};
// A stretch by deltas (docs/PROTOCOL-log.md): from its begin to its end the primary logs whole
// deltas, and the backup, which does not execute, becomes what the primary was at each.
//
// Why it is wanted. Never renumber: it is on the wire.
enum class DeltasReason : uint8_t {
    heals = 1,      // the backup was put right again and again
    heal_given_up,  // what differed was too much to be put right, or the backup was lost over it
    busy,           // the guest does not exit, so that most events cost a delta anyway
    backup_slow,    // the backup cannot keep up
};
const char* to_string(DeltasReason reason);
struct StretchBegin {
    DeltasReason reason = DeltasReason::heals;
    bool operator==(const StretchBegin&) const = default;
};
struct StretchEnd {
    enum class Then : uint8_t {
        lockstep = 1,  // it is over
        resumed,       // something is done at this exit for which both must execute; it goes on
    };
    Then then = Then::lockstep;
    bool operator==(const StretchEnd&) const = default;
};
// What belongs to a delta comes before its state, pages as DeltaPages; only the last piece of the
// state makes it whole.
struct StretchOutput {
    static constexpr size_t kBytesMax = 64 << 10;
    vmm::Output::Kind kind = vmm::Output::Kind::console;
    uint32_t device = 0;
    std::vector<std::byte> bytes;
    bool operator==(const StretchOutput&) const = default;
};
// A change of a disk, in the order in which the primary asked for them.
struct StretchWrite {
    static constexpr size_t kBytesMax = 256 << 10;
    uint32_t drive = 0;
    vmm::BlockOperation operation = vmm::BlockOperation::write;  // never a read
    uint64_t offset_bytes = 0;
    uint64_t length_bytes = 0;
    std::vector<std::byte> bytes;  // of a write
    bool operator==(const StretchWrite&) const = default;
};
// A piece of a VmState (state_codec.h).
struct StretchState {
    static constexpr size_t kBytesMax = 256 << 10;
    enum class Piece : uint8_t { not_last = 1, last };
    Piece piece = Piece::last;
    std::vector<std::byte> bytes;
    bool operator==(const StretchState&) const = default;
};
// Nothing but the exit number: the primary has got this far.
struct Passed {
    bool operator==(const Passed&) const = default;
};

// An operator's act on the VM.
struct VmControl {
    enum class Kind : uint8_t {
        pause = 1,  // the guest is not entered until `resume`, and nothing is delivered to it
        resume,
        reset,      // back to the image it was started from
        power_off,  // the VM ends here
        nmi,
        line_break,  // on its console
    };
    Kind kind = Kind::pause;
    bool operator==(const VmControl&) const = default;
};
const char* to_string(VmControl::Kind kind);

struct LogEntry {
    using Body =
        std::variant<InputRead, OutputMark, TimerTick, BlockDone, FrameReceived, ConsoleInput,
                     DigestMark, Passed, DeltaPages, DeltaState, VmControl, CheckpointPart,
                     StretchBegin, StretchEnd, StretchOutput, StretchWrite, StretchState>;
    ExitNumber exit;
    Body body;
    bool operator==(const LogEntry&) const = default;
};

// What a primary sends at once.
struct LogBatch {
    static constexpr size_t kEntriesMax = 4096;
    static constexpr size_t kBytesMax = 1 << 20;

    LogIndex first;                 // index of the first entry; the others follow without a gap
    OutputNumber released;          // outputs up to this one have left the primary
    uint64_t guest_clock_ns = 0;    // the guest's clock when the batch was made
    std::vector<LogEntry> entries;  // 1 to kEntriesMax
    bool operator==(const LogBatch&) const = default;
};

// Versions of the format. Stretches are of the second; a batch without is written as the first.
constexpr uint8_t kLogVersionPlain = 1;
constexpr uint8_t kLogVersionStretches = 2;

std::vector<std::byte> encode(const LogBatch& batch);
// What each entry of the batch takes in encode()'s result; the rest is the batch's header.
std::vector<uint32_t> entry_bytes(const LogBatch& batch);
// Upper bound of what an entry adds to an encoded batch.
size_t encoded_bytes_max(const LogEntry& entry);
// Refuses anything that encode() would not have made; the error names offset and rule.
Result<LogBatch> decode_log_batch(std::span<const std::byte> bytes);

bool is_of_stretch(const LogEntry& entry);
// "exit 17 frame-received interface=0 bytes=98"
std::string describe(const LogEntry& entry);
// "frame-received"
std::string_view kind_of(const LogEntry& entry);

uint32_t output_checksum(std::span<const std::byte> bytes);

}  // namespace antipode::replay
