// The probe: what this host can do for a protected VM, found out by doing it.
//
// Behind `antipode-replicator probe`. Opens /dev/kvm, asks for capabilities, boots tiny guests that
// read CPUID, single-step and torture replay, and sums it up in a verdict. Touches no VM that runs
// here; takes a second or two. Any thread that runs no vCPU.
//
// INVARIANT: what could not be tried is reported as such, never as good.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "replicator/replay/torture.h"

namespace antipode::replay {

struct HostReport {
    struct Capability {
        std::string name;
        int value = 0;
        bool needed = false;
    };
    // A CPUID bit that was to be hidden and that a guest in ring 0 sees all the same.
    struct ShownBit {
        uint32_t leaf = 0;
        std::string bit;  // "ecx.30"
        std::string name;
        bool harmful = false;  // time or chance: a guest that uses it diverges
    };
    struct Ability {
        bool possible = false;
        std::string text;
    };

    std::string kernel;     // uname -r
    std::string processor;  // of /proc/cpuinfo
    std::string back_end;   // kvm_intel, kvm_amd, kvm_pvm, or unknown
    std::string error;      // KVM cannot be used at all: nothing below was tried
    std::vector<Capability> capabilities;
    std::vector<ShownBit> shown_bits;
    Ability tsc_hidden;
    Ability tsc_frozen;
    Ability tsc_live;
    Ability pmu;          // exact positions at full speed
    Ability single_step;  // in both rings
    Ability dirty_log;
    Ability smp;  // two vCPUs on an in-kernel interrupt controller, saved and restored
    std::optional<TortureResult> torture;
    std::string torture_error;
    Ability lockstep;
    Ability checkpoint;
};

struct ProbeOptions {
    uint64_t torture_runs = 5;
    uint64_t seed = 1;
};

HostReport probe_host(const ProbeOptions& options);

// 0 = lockstep and checkpoint, 10 = lockstep only, 11 = checkpoint only, 1 = neither.
int exit_code(const HostReport& report);
std::string to_text(const HostReport& report);
std::string to_json(const HostReport& report);

}  // namespace antipode::replay
