// What the node tells about itself, and what it can be asked to do.
#include <algorithm>
#include <chrono>
#include <cmath>

#include "common/base/log.h"
#include "replicator/control/node.h"

namespace antipode::control {
namespace {

using wire::SiteState;

State state_word(SiteState state, bool frozen) {
    if (frozen) return State::waiting;
    switch (state) {
        case SiteState::starting:
            return State::starting;
        case SiteState::paired_primary:
            return State::primary;
        case SiteState::paired_backup:
            return State::backup;
        case SiteState::asking_primary:
        case SiteState::asking_backup:
            return State::asking;
        case SiteState::going_live:
            return State::going_live;
        case SiteState::solo:
        case SiteState::unprotected:
        case SiteState::forced:
        case SiteState::seeding:
            return State::solo;
        case SiteState::pairing:
            return State::pairing;
        case SiteState::rejoining:
            return State::joining;
        case SiteState::switching_primary:
        case SiteState::switching_backup:
            return State::switching;
        case SiteState::halting:
        case SiteState::halted:
            return State::halted;
        case SiteState::stopped:
            return State::stopped;
    }
    return State::failed;
}

Role role_word(SiteState state) {
    if (wire::runs_vm(state) || state == SiteState::switching_primary) return Role::primary;
    if (state == SiteState::paired_backup || state == SiteState::asking_backup ||
        state == SiteState::switching_backup) {
        return Role::backup;
    }
    return Role::none;
}

RecordMode record_word(wire::PairMode mode) {
    switch (mode) {
        case wire::PairMode::none:
            return RecordMode::none;
        case wire::PairMode::paired:
            return RecordMode::paired;
        case wire::PairMode::solo:
            return RecordMode::solo;
    }
    return RecordMode::none;
}

std::optional<double> seconds_of(std::optional<Duration> duration) {
    if (!duration) return std::nullopt;
    return std::chrono::duration<double>(*duration).count();
}

std::optional<double> finite(double value) {
    if (!std::isfinite(value)) return std::nullopt;
    return value;
}

LinkClassStatus class_word(wire::MessageClass c, const stream::ChannelStats& stats) {
    const auto& from = stats.of(c);
    LinkClassStatus out;
    out.name = wire::to_string(c);
    out.sent_bytes = from.payload_bytes_sent;
    out.sent_compressed_bytes = from.body_bytes_sent;
    out.received_bytes = from.payload_bytes_received;
    out.received_compressed_bytes = from.body_bytes_received;
    out.repeated_frames = from.frames_repeated;
    out.waiting_bytes = from.waiting_bytes;
    return out;
}

constexpr Duration kPathSilence = std::chrono::seconds(1);

LinkPathStatus path_word(const std::string& listen, const std::string& peer,
                         const stream::HeartbeatStats& stats, Instant now) {
    LinkPathStatus out;
    out.listen = listen;
    out.peer_address = peer;
    out.rtt_seconds = seconds_of(stats.rtt);
    out.jitter_seconds = seconds_of(stats.jitter);
    out.loss_ratio = stats.loss_ratio;
    if (stats.last_heard) {
        out.heard = now - *stats.last_heard < kPathSilence;
        out.last_heard_seconds = seconds_of(now - *stats.last_heard);
    }
    return out;
}

MemberStatus member_word(const Member& member) {
    return {std::string(member.site.view()), member.incarnation};
}

}  // namespace

Status Node::status() const {
    Status status;
    const SiteState state = core_.state();
    status.pair = config_.pair.pair.view();
    status.site = config_.pair.site.view();
    status.peer_site = peer_site().view();
    if (const auto spare = config_.pair.beside(peer_site())) status.spare_site = spare->site.view();
    status.state = state_word(state, core_.frozen());
    status.reason = core_.reason();
    status.state_since_unix_ms = state_since_unix_ms_;
    status.role = role_word(state);
    status.epoch = core_.epoch();
    status.incarnation = me_.incarnation;
    status.rejoin = config_.pair.rejoin;
    status.reclaim = config_.pair.reclaim;
    status.members.push_back(member_word(me_));
    if (core_.partner() != Member{}) status.members.push_back(member_word(core_.partner()));
    const bool paired = state == SiteState::paired_primary || state == SiteState::paired_backup;
    if (paired && !diverged_ && !replays_badly() && core_.tiebreaker_usable()) {
        status.protection = Protection::protected_;
        status.protection_reason = "the backup acknowledges, and the tiebreaker answers";
    } else if (paired) {
        status.protection = Protection::degraded;
        status.protection_reason =
            diverged_ ? "the backup differs and is being healed: " + digest_trouble_
            : replays_badly()
                ? "the guest does not replay alike: the backup is healed again and again"
            : tiebreaker_ && tiebreaker_->connected()
                ? "the tiebreaker is not the one that knows this pair: a loss would freeze the VM"
                : "the tiebreaker does not answer: a loss would freeze the VM";
    } else {
        status.protection_reason = core_.reason();
    }
    fill_link(status);
    fill_tiebreaker(status);
    fill_execution(status);
    fill_mode(status);
    fill_disks(status);
    fill_verify(status);
    if (drill_) status.drill = drill_->status();
    fill_alerts(status);
    journal_.fill(status);
    status.versions.software = ANTIPODE_VERSION;
    status.versions.protocol = 1;
    if (peer_) status.versions.peer_software = channel_->session().software;
    status.time_unix_ms = unix_ms();
    return status;
}

void Node::fill_link(Status& status) const {
    LinkStatus& link = status.link;
    link.session_up = peer_.has_value();
    link.heartbeat_up = !suspected_;
    const PeerConfig peer = config_.pair.peer(peer_site());
    link.peer_address = peer.channel;
    if (heartbeat_) {
        const auto stats = heartbeat_->stats();
        link.rtt_seconds = seconds_of(stats.rtt);
        link.jitter_seconds = seconds_of(stats.jitter);
        link.loss_ratio = stats.loss_ratio;
        link.clock_offset_seconds = seconds_of(stats.clock_offset);
        const Instant now = MonotonicClock::now();
        if (stats.last_heard) link.last_heard_seconds = seconds_of(now - *stats.last_heard);
        const auto& pair = config_.pair;
        link.paths.push_back(
            path_word(pair.heartbeat_listen, peer.heartbeat, heartbeat_->path_stats(0), now));
        if (!pair.second_heartbeat_listen.empty()) {
            link.paths.push_back(path_word(pair.second_heartbeat_listen, peer.second_heartbeat,
                                           heartbeat_->path_stats(1), now));
        }
    }
    if (channel_) {
        const auto stats = channel_->stats();
        link.sent_bytes = stats.wire_bytes_sent;
        link.received_bytes = stats.wire_bytes_received;
        link.reconnects = stats.reconnects;
        link.sent_bytes_per_second = stats.sent_bytes_per_second;
        link.received_bytes_per_second = stats.received_bytes_per_second;
        link.line_bytes_per_second = stats.line_bytes_per_second;
        if (link.line_bytes_per_second.value_or(0) > 0) {
            link.utilisation_ratio = stats.sent_bytes_per_second / *link.line_bytes_per_second;
        }
        link.bulk_bytes_per_second_max = stats.bulk_cap_bytes_per_second;
        for (const auto c : wire::kMessageClasses) link.classes.push_back(class_word(c, stats));
    }
}

// What the log has cost the line: frames with their headers, compressed; repeats not counted.
uint64_t Node::log_wire_bytes() const {
    if (!channel_) return 0;
    const auto stats = channel_->stats();
    const auto& log = stats.of(wire::MessageClass::log);
    return log.body_bytes_sent + log.frames_sent * wire::kFrameHeaderBytes;
}

void Node::fill_tiebreaker(Status& status) const {
    TiebreakerStatus& out = status.tiebreaker;
    out.address = config_.pair.tiebreaker_address;
    out.reachable = tiebreaker_ && tiebreaker_->connected();
    if (tiebreaker_) {
        out.text = tiebreaker_->last_error();
        const auto not_after = tiebreaker_->certificate_not_after().time_since_epoch();
        out.certificate_not_after_unix_ms = std::chrono::milliseconds(not_after).count();
        out.rtt_seconds = seconds_of(tiebreaker_->round_trip());
        if (const auto heard = tiebreaker_->last_heard()) {
            out.last_answer_seconds = seconds_of(MonotonicClock::now() - *heard);
        }
    }
    if (const auto& record = core_.record()) {
        TiebreakerRecord shown;
        shown.mode = record_word(record->mode);
        shown.epoch = record->epoch;
        shown.holder = record->holder.site.view();
        for (const auto& member : record->members) {
            if (!member.site.empty()) shown.members.push_back(member_word(member));
        }
        out.record = std::move(shown);
    }
}

void Node::fill_execution(Status& status) const {
    const Instant now = MonotonicClock::now();
    status.vm.name = config_.pair.pair.view();
    status.vm.memory_bytes = config_.vm.mem_size_mib << 20;
    status.vm.vcpu_count = config_.vm.vcpu_count;
    if (config_.vm.mode == vmm::ProtectionMode::checkpoint) {
        status.vm.mode = ReplayMode::checkpoint;
    } else if (is_automatic()) {
        status.vm.mode = ReplayMode::automatic;
    }
    status.output.held = gate_.held_count();
    status.output.released = gate_.released().value();
    status.output.delay_p50_seconds = finite(output_delay_.quantile(0.5));
    status.output.delay_p99_seconds = finite(output_delay_.quantile(0.99));
    status.digest.checked = digests_checked_;
    status.digest.mismatches = digest_mismatches_;
    status.digest.healed_pages = healed_pages_;
    status.digest.last_ok_exit = last_ok_exit_;
    status.log_rate.bytes_per_second = log_bytes_rate_;
    status.log_rate.entries_per_second = log_entries_rate_;
    status.log_rate.wire_bytes_per_second = log_wire_bytes_rate_;
    status.execution.exits_per_second = exits_rate_;
    if (!engine_) return;
    status.execution.exits = engine_->exit_number().value();
    if (engine_stopped_) {
        status.vm.vcpu = VcpuState::stopped;
    } else {
        const bool stands = engine_->paused() || engine_->held();
        status.vm.vcpu = stands ? VcpuState::paused : VcpuState::running;
    }
    if (recording_) {
        status.vm.uptime_seconds = static_cast<double>(engine_->guest_clock_ns(now)) / 1e9;
        if (const auto taken = engine_->checkpoint_status()) {
            const auto seconds = [](Duration duration) {
                return std::chrono::duration<double>(duration).count();
            };
            status.checkpoint = CheckpointFigures{
                taken->taken,      taken->acknowledged, seconds(taken->interval),  taken->bound,
                taken->last_bytes, taken->last_pages,   seconds(taken->last_pause)};
        }
        status.execution.log_index = outbox_.last();
        status.execution.acknowledged = outbox_.acknowledged();
        if (partner_ != Member{}) {
            status.execution_lag.seconds =
                std::chrono::duration<double>(execution_lag(now)).count();
            status.execution.throttle_ratio = 1 - lag_controller_.share();
            status.execution_lag.entries = lag_.entries();
            status.execution_lag.bytes = outbox_.unacknowledged_bytes();
        }
    } else {
        status.execution.log_index = engine_->applied();
        status.execution.acknowledged = core_.log_end();
        status.execution_lag.entries = core_.log_end().value() - engine_->applied().value();
        status.execution_lag.bytes = backlog_bytes_;
    }
}

// What can be said of each of this site's disks, beside a store that fails. nullopt: it is whole.
std::optional<Node::DiskWord> Node::disk_word() const {
    switch (core_.state()) {
        case SiteState::rejoining:
            if (!seed_in_ && engine_) return std::nullopt;  // loaded; it waits to be paired
            return DiskWord{DiskState::syncing, fmt::format("is filled from {}", peer_site())};
        case SiteState::halting:
        case SiteState::halted:
            return DiskWord{DiskState::fenced, core_.reason()};
        case SiteState::starting:
            if (core_.durable().disk == wire::DiskCopy::complete) return std::nullopt;
            return DiskWord{DiskState::inconsistent, "may lack acknowledged writes"};
        default:
            return std::nullopt;
    }
}

void Node::fill_disks(Status& status) const {
    const auto word = disk_word();
    for (const auto& drive : disks_->status()) {
        DiskStatus out;
        out.id = drive.id;
        out.path = drive.path;
        out.size_bytes = drive.size_bytes;
        out.epoch = drive.epoch;
        out.state = DiskState::up_to_date;
        if (word) {
            out.state = word->state;
            out.text = word->text;
            if (word->state == DiskState::syncing) out.synced_ratio = seed_ratio();
        }
        if (seed_undo_->counts() && word) {
            out.text +=
                fmt::format("; what it held in epoch {} is kept", seed_undo_->status().back_to);
        }
        if (!drive.error.empty()) {
            out.state = DiskState::failed;
            out.text = drive.error;
        }
        out.read_bytes = drive.read_bytes;
        out.written_bytes = drive.written_bytes;
        status.disks.push_back(std::move(out));
    }
}

void Node::every_second() {
    const auto rate = [](uint64_t now, uint64_t& before) {
        const uint64_t grown = now >= before ? now - before : now;
        before = now;
        return static_cast<double>(grown);
    };
    log_bytes_rate_ = rate(log_bytes_total_.value(), last_log_bytes_);
    log_entries_rate_ = rate(log_entries_total_.value(), last_log_entries_);
    log_wire_bytes_rate_ = rate(log_wire_bytes(), last_log_wire_bytes_);
    apply_bulk_schedule();
    exits_rate_ = rate(engine_ ? engine_->exit_number().value() : 0, last_exits_);
    ask_again_if_stalled();
    mode_step();
    const Status now = status();
    watch_figures(now);
    follow_wishes();
    tell_seed_ratio();
    journal_.add_sample(sample_of(now));
    metrics_.gauge("antipode_epoch", "Epoch of this site")
        .set(static_cast<double>(now.epoch.value()));
    metrics_.gauge("antipode_execution_lag_seconds", "Backup's execution behind the primary's")
        .set(now.execution_lag.seconds.value_or(0));
    metrics_.gauge("antipode_throttle_ratio", "Part of the time taken from the guest")
        .set(now.execution.throttle_ratio.value_or(0));
    metrics_.gauge("antipode_outputs_held", "Outputs that wait for the backup")
        .set(static_cast<double>(now.output.held));
    metrics_.gauge("antipode_protected", "1 if a loss of the primary would lose nothing")
        .set(now.protection == Protection::protected_ ? 1 : 0);
    metrics_
        .gauge("antipode_disk_mismatches_unresolved",
               "Places where the sites' disks differ, neither repaired nor acknowledged")
        .set(static_cast<double>(verify_record_.unresolved()));
    metrics_.gauge("antipode_digest_mismatches", "Digests that differed")
        .set(static_cast<double>(digest_mismatches_));
    second_timer_.expires_after(std::chrono::seconds(1));
    second_timer_.async_wait([this](const boost::system::error_code& error) {
        if (!error && !shut_down_) every_second();
    });
}

Result<json::value> Node::handle(Method method, const json::object& params) {
    if (auto answer = journal_.answer(method, params)) return std::move(*answer);
    switch (method) {
        case Method::status:
            return to_json(status());
        case Method::metrics:
            return json::value(metrics_.prometheus_text());
        case Method::drill:
            return drill_ ? to_json(drill_->status()) : json::value(nullptr);
        case Method::drill_console: {
            FT_TRY(const ConsoleRequest request, parse_console_request(params));
            if (!drill_) return fail(Errc::not_found, "there has been no drill");
            return to_json(drill_->console(request));
        }
        default:
            return act(method, params);
    }
}

// What was asked of the failover core stays asked.
Error Node::cannot_cancel(uint64_t operation) const {
    const Operation* found = journal_.find_operation(operation);
    if (found == nullptr) {
        return {Errc::not_found, fmt::format("there is no operation {}", operation)};
    }
    if (found->state != OperationState::running) {
        return {Errc::busy, fmt::format("operation {} has ended", operation)};
    }
    return {Errc::unsupported, fmt::format("a {} cannot be cancelled", word(found->method))};
}

Result<json::value> Node::act(Method method, const json::object& params) {
    FT_TRY(const ActionRequest request, parse_action_request(params));
    if (info(method).confirmed && !request.check && request.confirm != config_.pair.pair.view()) {
        return fail(Errc::invalid_argument, "confirm: type the pair's name, {}, to do this",
                    config_.pair.pair);
    }
    ActionReply reply;
    if (method == Method::switchover) {
        FT_TRY(reply, switch_over(request));
        return to_json(reply);
    }
    for (const auto act : {&Node::act_on_core, &Node::act_on_snapshot, &Node::act_on_verify,
                           &Node::act_on_drill, &Node::act_on_fault, &Node::operate}) {
        if (auto done = (this->*act)(method, request)) {
            FT_TRY(reply, std::move(*done));
            return to_json(reply);
        }
    }
    if (method == Method::cancel) return fail(cannot_cancel(request.operation));
    return fail(Errc::unsupported, "{}: this version cannot do it", info(method).name);
}

}  // namespace antipode::control
