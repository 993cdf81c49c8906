#include "replicator/replay/probe.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <fmt/format.h>
#include <fstream>
#include <sys/utsname.h>

#include "replicator/replay/bare_guest.h"
#include "replicator/replay/position.h"
#include "replicator/replay/smp_trial.h"
#include "replicator/vmm/cpuid_policy.h"

namespace antipode::replay {
namespace {

using Ability = HostReport::Ability;

constexpr uint64_t kStepsMax = 1'000'000;

struct KnownCapability {
    unsigned long number;
    const char* name;
    bool needed;
};
constexpr std::array kCapabilities{
    KnownCapability{KVM_CAP_USER_MEMORY, "USER_MEMORY", true},
    KnownCapability{KVM_CAP_IMMEDIATE_EXIT, "IMMEDIATE_EXIT", true},
    KnownCapability{KVM_CAP_X86_USER_SPACE_MSR, "X86_USER_SPACE_MSR", true},
    KnownCapability{KVM_CAP_X86_MSR_FILTER, "X86_MSR_FILTER", true},
    KnownCapability{KVM_CAP_SYNC_REGS, "SYNC_REGS", false},
    KnownCapability{KVM_CAP_SET_GUEST_DEBUG, "SET_GUEST_DEBUG", false},
    KnownCapability{KVM_CAP_DIRTY_LOG_RING, "DIRTY_LOG_RING", false},
    KnownCapability{KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, "MANUAL_DIRTY_LOG_PROTECT2", false},
    KnownCapability{KVM_CAP_IRQCHIP, "IRQCHIP", false},
    KnownCapability{KVM_CAP_PIT2, "PIT2", false},
    KnownCapability{KVM_CAP_PIT_STATE2, "PIT_STATE2", false},
    KnownCapability{KVM_CAP_SPLIT_IRQCHIP, "SPLIT_IRQCHIP", false},
    KnownCapability{KVM_CAP_MP_STATE, "MP_STATE", false},
    KnownCapability{KVM_CAP_NR_VCPUS, "NR_VCPUS", false},
    KnownCapability{KVM_CAP_MAX_VCPUS, "MAX_VCPUS", false},
    KnownCapability{KVM_CAP_TSC_CONTROL, "TSC_CONTROL", false},
    KnownCapability{KVM_CAP_GET_TSC_KHZ, "GET_TSC_KHZ", false},
};

struct KnownBit {
    uint32_t leaf;
    const char* bit;
    const char* name;
    bool harmful;
};
constexpr std::array kBits{
    KnownBit{1, "edx.4", "TSC", true},       KnownBit{1, "ecx.30", "RDRAND", true},
    KnownBit{7, "ebx.18", "RDSEED", true},   KnownBit{0x80000001, "edx.27", "RDTSCP", true},
    KnownBit{7, "ecx.22", "RDPID", true},    KnownBit{1, "ecx.24", "TSC deadline", true},
    KnownBit{1, "ecx.26", "XSAVE", false},   KnownBit{1, "ecx.28", "AVX", false},
    KnownBit{1, "ecx.23", "POPCNT", false},  KnownBit{1, "ecx.27", "OSXSAVE", false},
    KnownBit{1, "ecx.12", "FMA", false},     KnownBit{1, "ecx.29", "F16C", false},
    KnownBit{7, "ebx.0", "FSGSBASE", false}, KnownBit{7, "ebx.7", "SMEP", false},
    KnownBit{7, "ebx.20", "SMAP", false},    KnownBit{7, "ebx.9", "ERMS", false},
};

std::string first_line_with(const char* path, std::string_view prefix) {
    std::ifstream file(path);
    std::string line;
    while (std::getline(file, line)) {
        const auto colon = line.find(": ");
        if (line.rfind(prefix, 0) == 0 && colon != std::string::npos) return line.substr(colon + 2);
    }
    return "unknown";
}

void describe_host(HostReport& report) {
    utsname names{};
    report.kernel = uname(&names) == 0 ? names.release : "unknown";
    report.processor = first_line_with("/proc/cpuinfo", "model name");
    report.back_end = "unknown";
    for (const char* module : {"kvm_intel", "kvm_amd", "kvm_pvm"}) {
        std::error_code error;
        if (std::filesystem::exists(fmt::format("/sys/module/{}", module), error)) {
            report.back_end = module;
        }
    }
}

// Runs the CPUID guest over one leaf: eax, ebx, ecx, edx as it sees them.
Result<std::array<uint32_t, 4>> guest_cpuid(vmm::VirtualMachine& vm, uint32_t leaf) {
    const std::array<uint32_t, 2> questions{leaf, 0};
    std::array<uint32_t, 4> answers{};
    size_t asked = 0;
    for (size_t answered = 0; answered < answers.size();) {
        const vmm::Exit exit = vm.vcpu.run();
        if (exit.kind == vmm::Exit::Kind::port_in && exit.address == kCpuidPortIn &&
            asked < questions.size()) {
            std::memcpy(exit.data.data(), &questions[asked++], sizeof(uint32_t));
        } else if (exit.kind == vmm::Exit::Kind::port_out && exit.address == kCpuidPortOut) {
            std::memcpy(&answers[answered++], exit.data.data(), sizeof(uint32_t));
        } else if (exit.kind != vmm::Exit::Kind::kicked) {
            return fail(Errc::unsupported, "CPUID guest: {} {}", to_string(exit.kind), exit.detail);
        }
    }
    return answers;
}

void note_shown_bits(uint32_t leaf, const char* name, uint32_t shown, HostReport& report) {
    for (unsigned bit = 0; bit < 32; ++bit) {
        if ((shown >> bit & 1) == 0) continue;
        HostReport::ShownBit found{leaf, fmt::format("{}.{}", name, bit), "", false};
        for (const KnownBit& known : kBits) {
            if (known.leaf != leaf || known.bit != found.bit) continue;
            found.name = known.name;
            found.harmful = known.harmful;
        }
        report.shown_bits.push_back(std::move(found));
    }
}

Result<void> probe_cpuid(const vmm::Kvm& kvm, HostReport& report) {
    FT_TRY(const auto supported, kvm.supported_cpuid());
    const auto policy = vmm::lockstep_cpuid(supported);
    FT_TRY(auto vm, build_bare_guest(kvm, cpuid_guest()));
    for (const uint32_t leaf : {1u, 7u, 0x80000001u}) {
        FT_TRY(const auto seen, guest_cpuid(*vm, leaf));
        const auto wanted = std::find_if(policy.begin(), policy.end(), [leaf](const auto& each) {
            return each.function == leaf && each.index == 0;
        });
        if (wanted == policy.end()) continue;
        // Leaf 1 EBX names the processor, and is no set of features.
        if (leaf != 1) note_shown_bits(leaf, "ebx", seen[1] & ~wanted->ebx, report);
        note_shown_bits(leaf, "ecx", seen[2] & ~wanted->ecx, report);
        note_shown_bits(leaf, "edx", seen[3] & ~wanted->edx, report);
    }
    return {};
}

Ability judge_live_tsc(const vmm::Kvm& kvm) {
    const auto terms = vmm::examine_tsc(kvm);
    if (!terms) return {false, terms.error().to_string()};
    if (terms->source == vmm::TscSource::hosts) {
        return {false, fmt::format("guests see the host's counter, whatever is set ({} kHz): it "
                                   "goes on only at a site on the same machine",
                                   terms->khz)};
    }
    const bool scaled = terms->scaling == vmm::TscScaling::yes;
    return {true,
            fmt::format("in checkpoint mode, each VM has its own, at {} kHz: the other site's "
                        "host {}",
                        terms->khz,
                        scaled ? "runs at that, or scales the TSC as this one does"
                               : "must run at that, for this one does not scale the TSC")};
}

void judge_tsc(const vmm::Kvm& kvm, HostReport& report) {
    const bool shown = std::any_of(report.shown_bits.begin(), report.shown_bits.end(),
                                   [](const auto& each) { return each.name == "TSC"; });
    report.tsc_hidden = {true,
                         shown ? "by agreement: CPUID shows the TSC all the same, so the guest's "
                                 "kernel must be told not to use it"
                               : "CPUID hides it, and the guest's kernel must not use it"};
    const bool scaling = kvm.capability(KVM_CAP_TSC_CONTROL) > 0;
    report.tsc_frozen = {false, scaling ? "the host can scale the TSC, but no run on such a host "
                                          "has shown that it stands still between exits"
                                        : "needs TSC scaling (KVM_CAP_TSC_CONTROL), which this "
                                          "host lacks"};
    report.tsc_live = judge_live_tsc(kvm);
}

// Instructions counted from the torture guest's start to its first result.
Result<uint64_t> step_torture(const vmm::Kvm& kvm) {
    FT_TRY(auto vm, build_bare_guest(kvm, torture_guest()));
    const auto counter = vmm::make_single_step_counter(vm->vcpu, 0, 1);
    FT_TRY_VOID(counter->start());
    for (;;) {
        FT_TRY(const vmm::Exit exit, counter->run_until(kStepsMax));
        if (exit.kind == vmm::Exit::Kind::port_out) return counter->count();
        if (!exit.is_counted() && exit.kind != vmm::Exit::Kind::kicked) {
            return fail(Errc::unsupported, "stepping: {} {}", to_string(exit.kind), exit.detail);
        }
    }
}

Ability probe_single_step(const vmm::Kvm& kvm) {
    const auto count = step_torture(kvm);
    if (!count) return {false, count.error().to_string()};
    if (*count == 0) return {false, "the guest is not stepped"};
    if (*count < kTortureRing3Steps) {
        return {false,
                fmt::format("in ring 0 only ({} steps): ring 3 runs through uncounted", *count)};
    }
    return {true, fmt::format("in both rings ({} steps)", *count)};
}

Ability probe_pmu(const vmm::Kvm& kvm) {
    auto vm = build_bare_guest(kvm, loop_guest());
    if (!vm) return {false, vm.error().to_string()};
    auto counter = vmm::make_perf_counter((*vm)->vcpu);
    if (!counter) return {false, counter.error().context};
    if (const auto started = (*counter)->start(); !started) {
        return {false, started.error().to_string()};
    }
    // To the guest's end, twice over: the same guest must have the same number of branches.
    const vmm::Exit exit = (*vm)->vcpu.run();
    const auto count = (*counter)->count();
    if (!count) return {false, count.error().to_string()};
    if (*count == 0) return {false, "the counter stands still while a guest runs"};
    return {true, fmt::format("{} branches counted up to a {}; never run in production on such a "
                              "host yet",
                              *count, to_string(exit.kind))};
}

Ability probe_smp(const vmm::Kvm& kvm) {
    const auto trial = run_smp_trial(kvm);
    if (!trial) return {false, trial.error().to_string()};
    return {true,
            fmt::format("2 vCPUs stopped ({:.0f} us), captured ({:.0f} us), restored elsewhere "
                        "({:.0f} us) and gone on; KVM recommends at most {}",
                        trial->stop_us, trial->capture_us, trial->restore_us,
                        kvm.capability(KVM_CAP_NR_VCPUS))};
}

void judge(HostReport& report) {
    const auto& torture = report.torture;
    if (!torture) {
        report.dirty_log = {false, "not tried"};
        report.lockstep = {false, "the torture guest did not run: " + report.torture_error};
    } else {
        report.dirty_log = {torture->dirty_missed == 0 && torture->dirty_pages > 0,
                            fmt::format("{} pages marked, {} changed unmarked",
                                        torture->dirty_pages, torture->dirty_missed)};
        if (!torture->difference.empty()) {
            report.lockstep = {false, "replay differs: " + torture->difference};
        } else if (!report.dirty_log.possible) {
            report.lockstep = {false, "the dirty log is not reliable"};
        } else {
            report.lockstep = {true, fmt::format("{} replays of {} exits were equal", torture->runs,
                                                 torture->exits)};
        }
    }
    const bool whole = report.smp.possible && report.dirty_log.possible;
    report.checkpoint = {whole, whole ? "vCPUs, interrupt controller and dirty log can be saved"
                                      : "needs SMP, in-kernel interrupt controller and dirty log"};
}

}  // namespace

HostReport probe_host(const ProbeOptions& options) {
    HostReport report;
    describe_host(report);
    const auto kvm = vmm::Kvm::open();
    if (!kvm) {
        report.error = kvm.error().to_string();
        return report;
    }
    for (const KnownCapability& each : kCapabilities) {
        report.capabilities.push_back({each.name, kvm->capability(each.number), each.needed});
    }
    vmm::install_kick_handler();
    if (const auto done = probe_cpuid(*kvm, report); !done) {
        report.torture_error = done.error().to_string();
    }
    judge_tsc(*kvm, report);
    report.single_step = probe_single_step(*kvm);
    report.pmu = probe_pmu(*kvm);
    report.smp = probe_smp(*kvm);
    auto torture = run_torture(*kvm, options.torture_runs, options.seed);
    if (torture) {
        report.torture = std::move(*torture);
    } else {
        report.torture_error = torture.error().to_string();
    }
    judge(report);
    return report;
}

}  // namespace antipode::replay
