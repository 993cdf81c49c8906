// Healing: how a backup that has diverged becomes equal again, at an exit, while the VM runs.
//
//   backup                                             primary
//   stands where it noticed; HealRequest: the pages
//   and disk chunks it may have wrong          ----->
//                                                      stands at its next exit, copies the pages
//                                                      that differ and what it has written since,
//                                                      goes on
//                                              <-----  HealAnswer, and the chunks' contents
//   drops the log up to that exit, takes the
//   state over, compares digests, goes on
//
// Which pages may differ is known: those that either side has written since the last digest that
// was equal. So a heal costs what was written in that time, and ends in exactly the primary's state
// however the two came apart.
//
// Values only; which thread uses them is said at Engine.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "common/base/clock.h"
#include "common/base/ids.h"
#include "replicator/replay/change_history.h"
#include "replicator/replay/log_entry.h"

namespace antipode::replay {

// Everything a VM is at an exit, but for its memory: what another site needs to follow from there.
struct VmState {
    static constexpr size_t kCpuBytesMax = 272 << 10;
    std::vector<std::byte> cpu;      // vmm::CpuState; in checkpoint mode vmm::SmpState
    std::vector<std::byte> machine;  // vmm::Machine
    ExitNumber exit;
    OutputNumber output;  // the last one made
    bool in_halt = false;
    uint64_t guest_clock_ns = 0;
    bool held = false;  // paused by an operator
    // Taken after what happens at `exit`, interrupt included: the guest goes on at once.
    bool between_exits = false;
    uint64_t digest_number = 0;  // digests logged so far in this recorder's life
    uint64_t disk_hash = 0;      // of the disk writes since the last of them
    // Of this process, and do not travel: the Engine::request_snapshot() it answers, and since when
    // the VM stands for it.
    uint64_t snapshot = 0;
    Instant time{};
};

// One line of evidence: what an exit was.
struct ExitRecord {
    ExitNumber exit;
    vmm::Exit::Kind kind = vmm::Exit::Kind::kicked;
    uint8_t size = 0;
    uint32_t count = 0;
    uint64_t address = 0;
    uint64_t data = 0;  // its first eight bytes
    bool operator==(const ExitRecord&) const = default;
};

// For people: what one side looked like at the exit where the two were compared.
struct Evidence {
    static constexpr size_t kExitsMax = 64;
    // rax rbx rcx rdx rsi rdi rsp rbp r8-r15 rip rflags cr0 cr2 cr3 cr4 efer; zero where not known
    static constexpr size_t kRegisters = 23;
    static const std::array<const char*, kRegisters> kRegisterNames;

    ExitNumber exit;  // where `registers` were read
    std::array<uint64_t, kRegisters> registers{};
    std::vector<ExitRecord> exits;  // up to there, oldest first
    bool operator==(const Evidence&) const = default;
};

struct PageHash {
    uint64_t number = 0;
    uint64_t hash = 0;
    bool operator==(const PageHash&) const = default;
};

// What a backup that stands diverged asks for.
struct HealRequest {
    static constexpr size_t kPagesMax = 1 << 16;

    uint64_t attempt = 0;
    uint64_t verified = 0;          // number of the last digest that was equal
    uint64_t disk_verified = 0;     // the same for what was written to the disks
    ExitNumber exit;                // where it stands
    std::vector<PageHash> pages;    // written since `verified`, by number
    std::vector<DiskChunk> chunks;  // written since `disk_verified`
    bool operator==(const HealRequest&) const = default;
};

// What the primary answers. Empty `refused`: it is whole.
struct HealAnswer {
    static constexpr size_t kPagesMax = 1 << 14;
    static constexpr size_t kChunksMax = 1 << 10;

    uint64_t attempt = 0;
    std::string refused;  // why this cannot be healed: the backup must be seeded anew
    VmState state;
    DigestMark digest;                    // of `state` and the memory there
    std::vector<DeltaPages::Page> pages;  // that differ, or that only the primary has written
    std::vector<DiskChunk> chunks;        // whose contents are to be read while the VM stands
    Evidence evidence;                    // at HealRequest::exit, as far as it is remembered
};

// What a heal did, for counters and the report.
struct HealResult {
    uint64_t attempt = 0;
    std::string trouble;  // what differed
    uint64_t page_count = 0;
    uint64_t entries_skipped = 0;  // of the log, between where it stood and where it went on
    ExitNumber from;
    ExitNumber to;
    Evidence own;
    Evidence primary;
    struct PageDifference {
        uint64_t number = 0;
        uint32_t first_byte = 0;
        uint32_t byte_count = 0;  // that differ
    };
    static constexpr size_t kDifferencesMax = 64;
    std::vector<PageDifference> differences;  // the first of them
};

}  // namespace antipode::replay
