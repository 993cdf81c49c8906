// What the probe found, for people and for programs.
#include <boost/json.hpp>
#include <fmt/format.h>

#include "replicator/replay/probe.h"

namespace antipode::replay {
namespace {

namespace json = boost::json;

constexpr int kExitBoth = 0;
constexpr int kExitNeither = 1;
constexpr int kExitLockstepOnly = 10;
constexpr int kExitCheckpointOnly = 11;

std::string line(const char* name, const HostReport::Ability& ability) {
    return fmt::format("  {:<22} {:<4} {}\n", name, ability.possible ? "yes" : "no", ability.text);
}

json::object object(const HostReport::Ability& ability) {
    return {{"possible", ability.possible}, {"text", ability.text}};
}

std::string bits_text(const HostReport& report) {
    if (report.shown_bits.empty()) return "  every bit that was to be hidden is hidden\n";
    std::string harmful;
    std::string harmless;
    for (const auto& each : report.shown_bits) {
        auto& list = each.harmful ? harmful : harmless;
        list += fmt::format(" {:#x}.{}", each.leaf, each.bit);
        if (!each.name.empty()) list += fmt::format("={}", each.name);
    }
    std::string text;
    if (!harmful.empty()) {
        text +=
            fmt::format("  time or chance, the guest must be told to leave it alone:{}\n", harmful);
    }
    if (!harmless.empty())
        text += fmt::format("  same CPU model needed at both sites:{}\n", harmless);
    return text;
}

std::string torture_text(const HostReport& report) {
    if (!report.torture) return fmt::format("  did not run: {}\n", report.torture_error);
    const TortureResult& torture = *report.torture;
    return fmt::format(
        "  {} exits ({:.1f} us each, with what the guest does before it), {} interrupts\n"
        "  {} replays with {} kicks, digest {:016x}: {}\n",
        torture.exits, torture.exit_us, torture.interrupts, torture.runs, torture.kicks,
        torture.digest, torture.difference.empty() ? "all equal" : torture.difference);
}

json::value torture_json(const HostReport& report) {
    if (!report.torture) return json::object{{"error", report.torture_error}};
    const TortureResult& torture = *report.torture;
    return json::object{
        {"exits", torture.exits},           {"exit_us", torture.exit_us},
        {"interrupts", torture.interrupts}, {"replays", torture.runs},
        {"kicks", torture.kicks},           {"digest", fmt::format("{:016x}", torture.digest)},
        {"difference", torture.difference}};
}

}  // namespace

int exit_code(const HostReport& report) {
    if (report.lockstep.possible) {
        return report.checkpoint.possible ? kExitBoth : kExitLockstepOnly;
    }
    return report.checkpoint.possible ? kExitCheckpointOnly : kExitNeither;
}

std::string to_text(const HostReport& report) {
    std::string text = fmt::format("host: {}, kernel {}, KVM back end {}\n", report.processor,
                                   report.kernel, report.back_end);
    if (!report.error.empty()) {
        return text + fmt::format("verdict: no protected VM can run here: {}\n", report.error);
    }
    text += "capabilities:\n ";
    for (const auto& each : report.capabilities)
        text += fmt::format(" {}={}", each.name, each.value);
    text += "\nCPUID bits that did not stick:\n" + bits_text(report);
    text += "TSC policies:\n";
    text += line("hidden", report.tsc_hidden) + line("frozen", report.tsc_frozen) +
            line("live", report.tsc_live);
    text += "abilities:\n";
    text += line("PMU (exact positions)", report.pmu) + line("single step", report.single_step) +
            line("dirty log", report.dirty_log) + line("SMP state", report.smp);
    text += "torture:\n" + torture_text(report);
    text +=
        "verdict:\n" + line("lockstep", report.lockstep) + line("checkpoint", report.checkpoint);
    return text;
}

std::string to_json(const HostReport& report) {
    json::object whole{{"processor", report.processor},
                       {"kernel", report.kernel},
                       {"back_end", report.back_end},
                       {"error", report.error}};
    json::object capabilities;
    for (const auto& each : report.capabilities) capabilities[each.name] = each.value;
    json::array bits;
    for (const auto& each : report.shown_bits) {
        bits.push_back(json::object{{"leaf", fmt::format("{:#x}", each.leaf)},
                                    {"bit", each.bit},
                                    {"name", each.name},
                                    {"harmful", each.harmful}});
    }
    whole["capabilities"] = std::move(capabilities);
    whole["cpuid_shown"] = std::move(bits);
    whole["tsc"] = json::object{{"hidden", object(report.tsc_hidden)},
                                {"frozen", object(report.tsc_frozen)},
                                {"live", object(report.tsc_live)}};
    whole["pmu"] = object(report.pmu);
    whole["single_step"] = object(report.single_step);
    whole["dirty_log"] = object(report.dirty_log);
    whole["smp"] = object(report.smp);
    whole["torture"] = torture_json(report);
    whole["lockstep"] = object(report.lockstep);
    whole["checkpoint"] = object(report.checkpoint);
    return json::serialize(whole) + "\n";
}

}  // namespace antipode::replay
