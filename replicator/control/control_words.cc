// The words of control_api.h: one table an enum, so that a new enumerator is added in one place
// here.
#include <algorithm>
#include <array>

#include "common/base/check.h"
#include "replicator/control/control_api.h"

namespace antipode::control {
namespace {

template <typename Enum>
struct Entry {
    Enum value;
    std::string_view text;
};

constexpr auto kStates = std::to_array<Entry<State>>({
    {State::starting, "starting"},
    {State::primary, "primary"},
    {State::backup, "backup"},
    {State::joining, "joining"},
    {State::pairing, "pairing"},
    {State::solo, "solo"},
    {State::asking, "asking"},
    {State::waiting, "waiting"},
    {State::going_live, "going_live"},
    {State::halted, "halted"},
    {State::switching, "switching"},
    {State::stopped, "stopped"},
    {State::failed, "failed"},
});
constexpr auto kRoles = std::to_array<Entry<Role>>({
    {Role::none, "none"},
    {Role::primary, "primary"},
    {Role::backup, "backup"},
});
constexpr auto kProtections = std::to_array<Entry<Protection>>({
    {Protection::protected_, "protected"},
    {Protection::degraded, "degraded"},
    {Protection::unprotected, "unprotected"},
});
constexpr auto kVcpuStates = std::to_array<Entry<VcpuState>>({
    {VcpuState::none, "none"},
    {VcpuState::running, "running"},
    {VcpuState::waiting, "waiting"},
    {VcpuState::paused, "paused"},
    {VcpuState::stopped, "stopped"},
});
constexpr auto kSeverities = std::to_array<Entry<Severity>>({
    {Severity::info, "info"},
    {Severity::warning, "warning"},
    {Severity::error, "error"},
});
constexpr auto kDiskStates = std::to_array<Entry<DiskState>>({
    {DiskState::up_to_date, "up_to_date"},
    {DiskState::syncing, "syncing"},
    {DiskState::inconsistent, "inconsistent"},
    {DiskState::failed, "failed"},
    {DiskState::fenced, "fenced"},
    {DiskState::detached, "detached"},
});
constexpr auto kSelfHelp = std::to_array<Entry<SelfHelp>>({
    {SelfHelp::automatic, "automatic"},
    {SelfHelp::wait, "wait"},
});
constexpr auto kRecordModes = std::to_array<Entry<RecordMode>>({
    {RecordMode::none, "none"},
    {RecordMode::paired, "paired"},
    {RecordMode::solo, "solo"},
});
constexpr auto kOperationStates = std::to_array<Entry<OperationState>>({
    {OperationState::running, "running"},
    {OperationState::succeeded, "succeeded"},
    {OperationState::failed, "failed"},
    {OperationState::cancelled, "cancelled"},
});
constexpr auto kReplayModes = std::to_array<Entry<ReplayMode>>({
    {ReplayMode::lockstep, "lockstep"},
    {ReplayMode::checkpoint, "checkpoint"},
    {ReplayMode::automatic, "auto"},
});
constexpr auto kDrillStates = std::to_array<Entry<DrillState>>({
    {DrillState::starting, "starting"},
    {DrillState::running, "running"},
    {DrillState::ended, "ended"},
    {DrillState::failed, "failed"},
});
constexpr auto kDrillNetworks = std::to_array<Entry<DrillNetwork>>({
    {DrillNetwork::none, "none"},
    {DrillNetwork::isolated, "isolated"},
});
constexpr auto kAccesses = std::to_array<Entry<Access>>({
    {Access::read, "read"},
    {Access::drill, "drill"},
    {Access::operate, "operate"},
    {Access::admin, "admin"},
});
constexpr auto kErrcs = std::to_array<Entry<Errc>>({
    {Errc::invalid_argument, "invalid_argument"},
    {Errc::not_found, "not_found"},
    {Errc::already_exists, "already_exists"},
    {Errc::io, "io"},
    {Errc::no_space, "no_space"},
    {Errc::corrupt, "corrupt"},
    {Errc::protocol, "protocol"},
    {Errc::version, "version"},
    {Errc::unreachable, "unreachable"},
    {Errc::denied, "denied"},
    {Errc::stale_epoch, "stale_epoch"},
    {Errc::limit, "limit"},
    {Errc::busy, "busy"},
    {Errc::closed, "closed"},
    {Errc::unsupported, "unsupported"},
    {Errc::diverged, "diverged"},
});

struct CodeEntry {
    EventCode value;
    std::string_view text;
    Severity severity;
};
constexpr auto kEventCodes = std::to_array<CodeEntry>({
    {EventCode::service_started, "service_started", Severity::info},
    {EventCode::service_stopping, "service_stopping", Severity::info},
    {EventCode::state_changed, "state_changed", Severity::info},
    {EventCode::peer_connected, "peer_connected", Severity::info},
    {EventCode::peer_lost, "peer_lost", Severity::error},
    {EventCode::link_degraded, "link_degraded", Severity::warning},
    {EventCode::link_restored, "link_restored", Severity::info},
    {EventCode::acquire_asked, "acquire_asked", Severity::warning},
    {EventCode::acquire_won, "acquire_won", Severity::warning},
    {EventCode::acquire_denied, "acquire_denied", Severity::error},
    {EventCode::went_live, "went_live", Severity::warning},
    {EventCode::halted, "halted", Severity::error},
    {EventCode::paired, "paired", Severity::info},
    {EventCode::seed_started, "seed_started", Severity::info},
    {EventCode::seed_finished, "seed_finished", Severity::info},
    {EventCode::switchover_started, "switchover_started", Severity::info},
    {EventCode::switchover_finished, "switchover_finished", Severity::info},
    {EventCode::forced, "forced", Severity::error},
    {EventCode::tiebreaker_connected, "tiebreaker_connected", Severity::info},
    {EventCode::tiebreaker_lost, "tiebreaker_lost", Severity::warning},
    {EventCode::tiebreaker_refused, "tiebreaker_refused", Severity::error},
    {EventCode::digest_mismatch, "digest_mismatch", Severity::error},
    {EventCode::digest_healed, "digest_healed", Severity::warning},
    {EventCode::disk_failed, "disk_failed", Severity::error},
    {EventCode::disk_fenced, "disk_fenced", Severity::error},
    {EventCode::disk_sync_started, "disk_sync_started", Severity::info},
    {EventCode::disk_sync_finished, "disk_sync_finished", Severity::info},
    {EventCode::disk_put_back, "disk_put_back", Severity::warning},
    {EventCode::disk_undo_dropped, "disk_undo_dropped", Severity::warning},
    {EventCode::vm_started, "vm_started", Severity::info},
    {EventCode::vm_paused, "vm_paused", Severity::info},
    {EventCode::vm_resumed, "vm_resumed", Severity::info},
    {EventCode::vm_stopped, "vm_stopped", Severity::warning},
    {EventCode::vm_error, "vm_error", Severity::error},
    {EventCode::lag_exceeded, "lag_exceeded", Severity::warning},
    {EventCode::lag_recovered, "lag_recovered", Severity::info},
    {EventCode::operator_action, "operator_action", Severity::info},
    {EventCode::drill_started, "drill_started", Severity::info},
    {EventCode::drill_finished, "drill_finished", Severity::info},
    {EventCode::fault_injected, "fault_injected", Severity::warning},
    {EventCode::fault_ended, "fault_ended", Severity::info},
    {EventCode::certificate_expiring, "certificate_expiring", Severity::warning},
    {EventCode::verify_started, "verify_started", Severity::info},
    {EventCode::verify_finished, "verify_finished", Severity::info},
    {EventCode::disk_mismatch, "disk_mismatch", Severity::error},
    {EventCode::disk_repaired, "disk_repaired", Severity::warning},
    {EventCode::mode_changed, "mode_changed", Severity::warning},
});

constexpr auto kMethods = std::to_array<MethodInfo>({
    {Method::status, "status", Access::read, false, "everything about this pair, now"},
    {Method::events, "events", Access::read, false, "what happened, oldest first"},
    {Method::metrics, "metrics", Access::read, false, "Prometheus text"},
    {Method::history, "history", Access::read, false, "samples of the last minutes"},
    {Method::console, "console", Access::read, false, "what the guest printed"},
    {Method::operation, "operation", Access::read, false, "one operation, by its id"},
    {Method::methods, "methods", Access::read, false, "this list"},
    {Method::drill, "drill", Access::read, false, "the drill that runs, or the last one"},
    {Method::drill_console, "drill_console", Access::read, false,
     "what the copy of a drill printed"},
    {Method::pause, "pause", Access::operate, true, "pause the VM at an exit"},
    {Method::resume, "resume", Access::operate, false, "let a paused VM go on"},
    {Method::switchover, "switchover", Access::operate, true,
     "planned change of roles without loss and without a copy"},
    {Method::failover, "failover", Access::operate, true,
     "ask the tiebreaker for the pair although the primary may be alive"},
    {Method::force, "force", Access::admin, true,
     "go live without the tiebreaker: can break the promise of one VM"},
    {Method::rejoin, "rejoin", Access::operate, true,
     "give this halted site's copy up and come back as a new backup"},
    {Method::reclaim, "reclaim", Access::operate, true,
     "every process of the VM has died: boot it again from this site's disks"},
    {Method::protect, "protect", Access::operate, false, "find the backup and seed it"},
    {Method::unprotect, "unprotect", Access::operate, true, "give the backup up and go solo"},
    {Method::seed, "seed", Access::operate, true,
     "give the backup up and seed it again: memory and disks"},
    {Method::move_backup, "move_backup", Access::operate, true,
     "give the backup up and seed one at another site of the pair"},
    {Method::verify, "verify", Access::operate, false,
     "compare the disks of both sites while the VM runs"},
    {Method::resync, "resync", Access::operate, true,
     "compare the disks of both sites, and write anew what differs at the backup"},
    {Method::resolve, "resolve", Access::admin, true, "settle a split brain", false},
    {Method::shutdown, "shutdown", Access::operate, true, "stop the VM and its pair"},
    {Method::reset, "reset", Access::operate, true, "reset the VM: it boots again from its disk"},
    {Method::nmi, "nmi", Access::operate, true, "send the VM a non-maskable interrupt"},
    {Method::sysrq, "sysrq", Access::operate, true, "send a break and a key to the VM's console"},
    {Method::console_input, "console_input", Access::operate, false, "type into the console"},
    {Method::cancel, "cancel", Access::operate, false, "cancel a running operation"},
    {Method::snapshot, "snapshot", Access::operate, false,
     "write the VM, with memory and disks, to a file at this site"},
    {Method::drill_start, "drill_start", Access::drill, true, "start a drill at the backup"},
    {Method::drill_stop, "drill_stop", Access::drill, false, "end the running drill"},
    {Method::drill_clean, "drill_clean", Access::drill, false,
     "remove the files of a drill that has ended"},
    {Method::drill_input, "drill_input", Access::drill, false,
     "type into the console of the drill's copy"},
    {Method::inject_fault, "inject_fault", Access::drill, true,
     "cut or degrade something, with an automatic end"},
    {Method::reload, "reload", Access::admin, false, "read the pair's settings again", false},
    {Method::enrol, "enrol", Access::admin, true,
     "enrol the pair again, with a tiebreaker that has lost its record"},
    {Method::verify_acknowledge, "verify_acknowledge", Access::operate, false,
     "the differences that a verify has found are known of"},
});

template <typename Enum, typename Table>
std::string_view find_word(const Table& table, Enum value) {
    const auto at = std::find_if(table.begin(), table.end(),
                                 [&](const auto& entry) { return entry.value == value; });
    FT_CHECK(at != table.end(), "no word for enumerator {}", static_cast<int>(value));
    return at->text;
}

template <typename Table>
auto find_value(const Table& table, std::string_view text)
    -> std::optional<decltype(table.front().value)> {
    const auto at = std::find_if(table.begin(), table.end(),
                                 [&](const auto& entry) { return entry.text == text; });
    if (at == table.end()) return std::nullopt;
    return at->value;
}

}  // namespace

#define ANTIPODE_WORDS(Enum, kTable)                             \
    template <>                                                  \
    std::string_view word<Enum>(Enum value) {                    \
        return find_word(kTable, value);                         \
    }                                                            \
    template <>                                                  \
    std::optional<Enum> from_word<Enum>(std::string_view text) { \
        return find_value(kTable, text);                         \
    }
ANTIPODE_WORDS(State, kStates)
ANTIPODE_WORDS(Role, kRoles)
ANTIPODE_WORDS(Protection, kProtections)
ANTIPODE_WORDS(VcpuState, kVcpuStates)
ANTIPODE_WORDS(Severity, kSeverities)
ANTIPODE_WORDS(DiskState, kDiskStates)
ANTIPODE_WORDS(SelfHelp, kSelfHelp)
ANTIPODE_WORDS(RecordMode, kRecordModes)
ANTIPODE_WORDS(OperationState, kOperationStates)
ANTIPODE_WORDS(ReplayMode, kReplayModes)
ANTIPODE_WORDS(DrillState, kDrillStates)
ANTIPODE_WORDS(DrillNetwork, kDrillNetworks)
ANTIPODE_WORDS(Access, kAccesses)
ANTIPODE_WORDS(EventCode, kEventCodes)
ANTIPODE_WORDS(Errc, kErrcs)
#undef ANTIPODE_WORDS

std::span<const MethodInfo> all_methods() {
    return kMethods;
}

const MethodInfo& info(Method method) {
    const auto at = std::find_if(kMethods.begin(), kMethods.end(),
                                 [&](const MethodInfo& entry) { return entry.method == method; });
    FT_CHECK(at != kMethods.end(), "no entry for method {}", static_cast<int>(method));
    return *at;
}

template <>
std::string_view word<Method>(Method value) {
    return info(value).name;
}

template <>
std::optional<Method> from_word<Method>(std::string_view text) {
    const auto at = std::find_if(kMethods.begin(), kMethods.end(),
                                 [&](const MethodInfo& entry) { return entry.name == text; });
    if (at == kMethods.end()) return std::nullopt;
    return at->method;
}

Severity default_severity(EventCode code) {
    const auto at = std::find_if(kEventCodes.begin(), kEventCodes.end(),
                                 [&](const CodeEntry& entry) { return entry.value == code; });
    FT_CHECK(at != kEventCodes.end(), "no entry for event code {}", static_cast<int>(code));
    return at->severity;
}

}  // namespace antipode::control
