// Drills at this site, as the backup: a copy of the VM is made at an exit, in checkpoint mode at
// the last checkpoint, and runs beside it.
#include <algorithm>
#include <filesystem>

#include "common/base/log.h"
#include "replicator/control/node.h"

namespace antipode::control {
namespace {

constexpr double kDurationSeconds = 600;
constexpr double kDurationSecondsMax = 86'400;

// The bridge a network device belongs to; empty: none, or no such device.
std::string bridge_of(const std::string& device) {
    std::error_code error;
    const auto link = std::filesystem::read_symlink("/sys/class/net/" + device + "/master", error);
    return error ? "" : link.filename().string();
}

}  // namespace

std::string Node::drill_directory() const {
    return config_.pair.state_directory + "/drill";
}

// A drill's copy has the VM's own addresses: it must not meet the VM.
Result<std::vector<std::string>> Node::drill_taps(DrillNetwork network) const {
    if (network == DrillNetwork::none) return std::vector<std::string>{};
    const auto& taps = config_.pair.drill_taps;
    if (taps.size() < config_.vm.networks.size()) {
        return fail(Errc::invalid_argument,
                    "options: network: [drill] taps of pair.toml names {} of {} interfaces",
                    taps.size(), config_.vm.networks.size());
    }
    for (const auto& tap : taps) {
        for (const auto& network_of_vm : config_.vm.networks) {
            const auto& own = network_of_vm.host_dev_name;
            const std::string bridge = bridge_of(tap);
            if (tap == own || (!bridge.empty() && bridge == bridge_of(own))) {
                return fail(Errc::denied,
                            "options: network: {} is not isolated: it shares {} with the VM's {}",
                            tap, tap == own ? "its name" : "bridge " + bridge, own);
            }
        }
    }
    return std::vector<std::string>(
        taps.begin(), taps.begin() + static_cast<ptrdiff_t>(config_.vm.networks.size()));
}

Result<ActionReply> Node::drill_start(const ActionRequest& request) {
    FT_TRY(const DrillOptions options, parse_drill_options(request.options));
    const double seconds = request.duration_seconds.value_or(kDurationSeconds);
    if (!(seconds >= 1 && seconds <= kDurationSecondsMax)) {
        return fail(Errc::invalid_argument, "duration_seconds: is {}, not 1 to {}", seconds,
                    kDurationSecondsMax);
    }
    FT_TRY(auto taps, drill_taps(options.network));
    if (core_.state() != wire::SiteState::paired_backup || !engine_ || engine_stopped_) {
        return fail(Errc::busy, "{} is not a backup in step: it is {}", config_.pair.site,
                    wire::to_string(core_.state()));
    }
    if (diverged_) {
        return fail(Errc::busy, "the VM of {} differs from the primary's and is being put right",
                    config_.pair.site);
    }
    if (drill_ && !drill_->over()) return fail(Errc::busy, "a drill runs");
    if (snapshot_ && !snapshot_->over()) return fail(Errc::busy, "a snapshot is being taken");
    ActionReply reply;
    reply.consequence =
        fmt::format("a copy of the VM runs at {} for at most {} s; the backup goes on",
                    config_.pair.site, seconds);
    if (request.check) return reply;
    FT_TRY(const uint64_t operation, journal_.begin_operation(unix_ms(), Method::drill_start,
                                                              request.actor, "waits for an exit"));
    const auto duration =
        std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds));
    Drill::Settings settings;
    settings.directory = drill_directory();
    settings.config = &config_.vm;
    settings.drive_bytes = disks_->sizes();
    settings.duration = duration;
    settings.unix_ms = unix_ms;
    settings.on_ended = [this, operation](const DrillStatus& status) {
        drill_ended(operation, status);
    };
    DrillStatus& status = settings.status;
    status.id = operation;
    status.network = options.network;
    status.actor = request.actor;
    status.taps = std::move(taps);
    status.started_unix_ms = unix_ms();
    status.ends_unix_ms = status.started_unix_ms + static_cast<int64_t>(seconds * 1000);
    status.overlay_bytes_max = options.overlay_bytes_max;
    drill_.reset();
    auto drill = Drill::prepare(context_, std::move(settings));
    if (!drill) {
        journal_.end_operation(unix_ms(), operation, OperationState::failed,
                               drill.error().to_string());
        return antipode::fail(std::move(drill).error());
    }
    drill_ = std::move(*drill);
    event(EventCode::drill_started, fmt::format("asked by {}", request.actor));
    drill_snapshot_ = engine_->request_snapshot();
    reply.operation = operation;
    return reply;
}

// The replaying VM stands between two exits, or at a checkpoint. From here on the overlays keep
// what its writes change.
void Node::drill_standing(const replay::VmState& state) {
    // One of a drill that has ended meanwhile: its end has set the VM going again.
    if (!engine_ || state.snapshot != drill_snapshot_) return;
    if (!drill_waits()) return engine_->snapshot_taken(drill_snapshot_);
    const Instant began = MonotonicClock::now();
    disks_->set_overlays(drill_->overlays());
    const Duration clock =
        clock_offset_ ? *clock_offset_ + began.time_since_epoch() : Duration::zero();
    const LogIndex position = engine_->applied();
    const auto forked = drill_->fork_copy(
        engine_->vm(), state, position, static_cast<uint64_t>(std::max<int64_t>(0, clock.count())));
    engine_->snapshot_taken(drill_snapshot_);
    DrillStatus& notes = drill_->notes();
    notes.copied_unix_ms = unix_ms();
    notes.epoch = epoch_;
    notes.log_index = position;
    if (clock_offset_) {
        const auto behind = clock - Duration(static_cast<int64_t>(log_clock_ns_));
        notes.lag_seconds = std::max(0.0, std::chrono::duration<double>(behind).count());
    }
    notes.copy_seconds = std::chrono::duration<double>(MonotonicClock::now() - began).count();
    if (!forked) drill_->end(DrillState::failed, forked.error().to_string());
}

void Node::drill_ended(uint64_t operation, const DrillStatus& status) {
    if (disks_) disks_->set_overlays({});
    if (engine_) engine_->snapshot_taken(drill_snapshot_);
    const bool good = status.state == DrillState::ended;
    journal_.end_operation(unix_ms(), operation,
                           good ? OperationState::succeeded : OperationState::failed, status.text);
    event(EventCode::drill_finished, status.text, good ? Severity::info : Severity::warning);
}

void Node::end_drill(const std::string& why) {
    if (drill_) drill_->end(DrillState::ended, why);
}

void Node::fail_drill(const std::string& why) {
    if (drill_) drill_->end(DrillState::failed, why);
}

bool Node::drill_waits() const {
    return drill_ && !drill_->over() && !drill_->notes().copied_unix_ms;
}

std::optional<Result<ActionReply>> Node::act_on_drill(Method method, const ActionRequest& request) {
    using Answer = Result<ActionReply>;
    if (method == Method::drill_start) return drill_start(request);
    const bool cancels = method == Method::cancel && drill_ && !drill_->over() &&
                         request.operation == drill_->notes().id;
    const bool runs = drill_ && !drill_->over();
    ActionReply reply;
    if (method == Method::drill_stop || cancels) {
        if (!runs) return Answer(fail(Errc::busy, "no drill runs"));
        reply.consequence = "the drill's copy ends; its files stay until drill_clean";
        if (!request.check) drill_->end(DrillState::ended, "ended by " + request.actor);
        return Answer(std::move(reply));
    }
    if (method == Method::drill_clean) {
        if (runs) return Answer(fail(Errc::busy, "a drill runs: end it first"));
        reply.consequence = "the files of the last drill are removed";
        if (!request.check) Drill::clean(drill_directory());
        return Answer(std::move(reply));
    }
    if (method == Method::drill_input) {
        if (!runs) return Answer(fail(Errc::busy, "no drill runs"));
        reply.consequence = fmt::format("{} bytes go to the copy's console", request.text.size());
        if (!request.check) {
            if (auto typed = drill_->type(request.text); !typed) {
                return Answer(antipode::fail(std::move(typed).error()));
            }
        }
        return Answer(std::move(reply));
    }
    return std::nullopt;
}

}  // namespace antipode::control
