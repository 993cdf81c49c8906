#include "tests/unit/web/fake_pair.h"

#include <algorithm>
#include <cmath>

namespace antipode::web::test {

using control::EventCode;
using control::Method;
using control::State;
using control::Status;

namespace {

// Done when it is answered.
bool is_short(Method method) {
    switch (method) {
        case Method::shutdown:
        case Method::reset:
        case Method::nmi:
        case Method::sysrq:
        case Method::console_input:
        case Method::cancel:
            return true;
        default:
            return false;
    }
}

}  // namespace

class FakePair::Handler : public control::ControlHandler {
  public:
    Handler(FakePair& pair, size_t site) : pair_(pair), site_(site) {}

    Result<control::json::value> handle(Method method,
                                        const control::json::object& params) override {
        if (method == Method::status) {
            ++pair_.statuses_asked;
            return control::to_json(pair_.status(site_));
        }
        if (method == Method::metrics) {
            const std::string text = fmt::format(
                "# HELP antipode_vm_exits_total Guest exits.\n# TYPE antipode_vm_exits_total "
                "counter\n"
                "antipode_vm_exits_total{{kind=\"pio\"}} {0}\n"
                "# HELP antipode_heartbeats_received_total Heartbeats that count\n"
                "# TYPE antipode_heartbeats_received_total counter\n"
                "antipode_heartbeats_received_total{{path=\"0\"}} {0}\n",
                pair_.exits_);
            return control::json::value(text);
        }
        if (auto answer = pair_.sides_[site_].journal.answer(method, params)) {
            return std::move(*answer);
        }
        if (method == Method::drill) {
            return pair_.drill_ ? control::to_json(*pair_.drill_) : control::json::value(nullptr);
        }
        if (method == Method::drill_console) {
            control::ConsoleReply reply;
            reply.text = pair_.drill_console_;
            reply.end = reply.text.size();
            return control::to_json(reply);
        }
        FT_TRY(const auto request, control::parse_action_request(params));
        return pair_.act(site_, method, request);
    }

  private:
    FakePair& pair_;
    const size_t site_;
};

FakePair::FakePair(std::string name, std::string site_a, std::string site_b, uint64_t seed,
                   std::function<int64_t()> now_unix_ms)
    : name_(std::move(name)), now_(std::move(now_unix_ms)), random_(seed) {
    sides_[0].name = std::move(site_a);
    sides_[1].name = std::move(site_b);
    for (size_t site = 0; site < 2; ++site) {
        sides_[site].incarnation = Incarnation(random_.next());
        handlers_[site] = std::make_unique<Handler>(*this, site);
        event(site, EventCode::service_started, "replicator 0.1.0 started");
        event(site, EventCode::tiebreaker_connected, "10.0.0.3:7200 answers in 21 ms");
        event(site, EventCode::peer_connected, "logging channel to " + sides_[1 - site].name);
    }
    event(0, EventCode::paired, "paired(7) with " + sides_[1].name);
    event(1, EventCode::paired, "paired(7) with " + sides_[0].name);
    set_state(0, State::primary, "paired; output leaves under the Output Rule");
    set_state(1, State::backup, "paired; replays and acknowledges");
    for (Side& side : sides_) {
        side.since = now_() - 8'040'000;
        side.journal.add_console(
            "[    0.000000] Linux version 6.1.0 (antipode guest)\n"
            "[    0.412113] virtio_blk virtio0: [vda] 2097152 512-byte logical blocks\n"
            "[    0.488022] virtio_net virtio1 eth0: link up\n"
            "init: echo server on tcp/7 and udp/7\n");
    }
}

void FakePair::set_state(size_t site, State state, std::string reason) {
    Side& side = sides_[site];
    if (side.state != State::starting && side.state != state) {
        event(site, EventCode::state_changed,
              fmt::format("{} -> {}: {}", control::word(side.state), control::word(state), reason));
    }
    side.state = state;
    side.reason = std::move(reason);
    side.since = now_();
}

void FakePair::event(size_t site, EventCode code, std::string text) {
    if (sides_[site].alive) sides_[site].journal.add_event(now_(), code, text);
}

void FakePair::tick() {
    const bool paired = sides_[0].alive && sides_[1].alive && link_up_ && record_holder_.empty();
    load_ = std::clamp(load_ + (random_.unit() - 0.5) * 0.08, 0.05, 1.0);
    if (random_.chance(0.02)) load_ = std::min(1.0, load_ + 0.35);
    rtt_ = 0.0498 + 0.0012 * random_.unit() + (random_.chance(0.03) ? 0.004 : 0);
    lag_ = rtt_ / 2 + 0.0012 + 0.006 * load_ * random_.unit();
    loss_ = random_.chance(0.15) ? 0.01 * random_.unit() : 0;
    if (!paused_) {
        const double exits = 900 + 5200 * load_;
        exits_ += static_cast<uint64_t>(exits);
        uptime_ += 1;
        log_index_ += static_cast<uint64_t>(exits / 6);
        released_ += static_cast<uint64_t>(120 * load_);
        written_bytes_ += static_cast<uint64_t>(420'000 * load_);
        if (paired) sent_bytes_ += static_cast<uint64_t>(2400 + 9000 * load_);
        if (paired) ++digests_;
    }
    if (sync_ratio_ >= 0) {
        sync_ratio_ = std::min(1.0, sync_ratio_ + 0.1);
        if (sync_ratio_ >= 1) {
            sync_ratio_ = -1;
            record_holder_.clear();
            ++epoch_;
            set_state(sync_target_, State::backup, "seeded; replays and acknowledges");
            set_state(1 - sync_target_, State::primary,
                      "paired again; output under the Output Rule");
            event(1 - sync_target_, EventCode::seed_finished, "the new backup is in step");
        }
    }
    finish_operations();
    tick_drill();
    for (size_t site = 0; site < 2; ++site) {
        sides_[site].journal.add_sample(control::sample_of(make_status(site)));
    }
}

void FakePair::run_for(int seconds) {
    for (int i = seconds; i > 0; --i) {
        shift_ms_ = -int64_t{i} * 1000;
        tick();
    }
    shift_ms_ = 0;
}

void FakePair::kill(size_t site) {
    const size_t other = 1 - site;
    sides_[site].alive = false;
    link_up_ = false;
    event(other, EventCode::peer_lost, sides_[site].name + ": no log and no heartbeat for 300 ms");
    if (!tiebreaker_up_) {
        set_state(other, State::waiting, "the peer is lost and the tiebreaker does not answer");
        return;
    }
    event(other, EventCode::acquire_asked, fmt::format("asked for epoch {}", epoch_ + 1));
    ++epoch_;
    record_holder_ = sides_[other].name;
    event(other, EventCode::acquire_won, fmt::format("solo({}, {})", epoch_, record_holder_));
    if (primary_ == site) {
        event(other, EventCode::went_live, "log consumed, 3 outputs sent again, address announced");
    }
    primary_ = other;
    set_state(other, State::solo,
              fmt::format("{} was lost; this site won epoch {}", sides_[site].name, epoch_));
}

void FakePair::cut_link() {
    link_up_ = false;
    const size_t loser = 1 - primary_;
    event(primary_, EventCode::peer_lost, "no acknowledgement and no heartbeat for 300 ms");
    event(loser, EventCode::peer_lost, "no log and no heartbeat for 300 ms");
    ++epoch_;
    record_holder_ = sides_[primary_].name;
    set_state(primary_, State::solo, fmt::format("the link is cut; won epoch {}", epoch_));
    set_state(loser, State::halted,
              fmt::format("the tiebreaker gave epoch {} to {}", epoch_, record_holder_));
    event(loser, EventCode::acquire_denied, "the other site was first");
    event(loser, EventCode::disk_fenced, fmt::format("epoch {} is on the disk", epoch_));
}

// As after a failover that an operator asked for: both live, and the one that lost stands.
void FakePair::take_over(size_t site) {
    event(site, EventCode::acquire_asked, fmt::format("asked for epoch {}", epoch_ + 1));
    ++epoch_;
    record_holder_ = sides_[site].name;
    primary_ = site;
    event(site, EventCode::acquire_won, fmt::format("solo({}, {})", epoch_, record_holder_));
    event(site, EventCode::went_live, "log consumed, address announced");
    set_state(site, State::solo, fmt::format("won epoch {}", epoch_));
    set_state(1 - site, State::halted,
              fmt::format("the tiebreaker gave epoch {} to {}", epoch_, record_holder_));
    event(1 - site, EventCode::halted, "the VM stands, its output is off");
}

void FakePair::heal_link() {
    link_up_ = true;
    for (size_t site = 0; site < 2; ++site) {
        event(site, EventCode::peer_connected, "logging channel is back");
    }
}

void FakePair::lose_tiebreaker() {
    tiebreaker_up_ = false;
    for (size_t site = 0; site < 2; ++site) {
        event(site, EventCode::tiebreaker_lost, "10.0.0.3:7200: connection refused");
        sides_[site].alerts.push_back(
            {EventCode::tiebreaker_lost, control::Severity::warning,
             "The tiebreaker does not answer: neither site could take over "
             "now.",
             now_()});
    }
}

void FakePair::find_tiebreaker() {
    tiebreaker_up_ = true;
    for (size_t site = 0; site < 2; ++site) {
        event(site, EventCode::tiebreaker_connected, "10.0.0.3:7200 answers again");
        sides_[site].alerts.clear();
    }
}

void FakePair::lose_everything(size_t frozen_site) {
    lose_tiebreaker();
    kill(1 - frozen_site);
}

void FakePair::diverge() {
    ++mismatches_;
    event(1 - primary_, EventCode::digest_mismatch, "2 pages differ at exit 48 211 000");
    event(1 - primary_, EventCode::digest_healed, "2 pages fetched and put right");
}

void FakePair::begin_sync(size_t target) {
    link_up_ = true;
    sides_[target].alive = true;
    sides_[target].incarnation = Incarnation(random_.next());
    sync_target_ = target;
    sync_ratio_ = 0.31;
    event(1 - target, EventCode::seed_started, "seeding " + sides_[target].name);
    set_state(target, State::joining, "memory and disks are being copied");
    set_state(1 - target, State::pairing, "seeding a new backup; output under the Output Rule");
}

void FakePair::switch_roles() {
    primary_ = 1 - primary_;
    ++epoch_;
    set_state(primary_, State::primary, "took over by switchover");
    set_state(1 - primary_, State::backup, "handed over by switchover");
    event(primary_, EventCode::switchover_finished, "guest pause 71 ms");
}

Status FakePair::status(size_t site) const {
    Status status = make_status(site);
    sides_[site].journal.fill(status);
    return status;
}

Status FakePair::make_status(size_t site) const {
    const Side& side = sides_[site];
    Status status;
    status.time_unix_ms = now_() + shift_ms_;
    status.pair = name_;
    status.site = side.name;
    status.peer_site = sides_[1 - site].name;
    status.state = side.state;
    status.reason = side.reason;
    status.state_since_unix_ms = side.since;
    status.role = site == primary_ ? control::Role::primary : control::Role::backup;
    const bool paired = side.state == State::primary || side.state == State::backup;
    status.protection =
        paired ? (tiebreaker_up_ ? control::Protection::protected_ : control::Protection::degraded)
               : control::Protection::unprotected;
    status.protection_reason = !paired          ? "there is no backup"
                               : tiebreaker_up_ ? "The backup is in step and every digest is equal."
                                                : "In step, but the tiebreaker does not answer.";
    status.epoch = Epoch(epoch_);
    status.incarnation = side.incarnation;
    if (record_holder_.empty()) {
        for (const Side& member : sides_) {
            status.members.push_back({member.name, member.incarnation});
        }
    }
    if (paired) status.execution_lag = {lag_, uint64_t(lag_ * 900), uint64_t(lag_ * 9000)};
    fill_link(status);
    status.output.held = paired ? uint64_t(3 * load_) : 0;
    status.output.released = released_;
    if (paired) {
        status.output.delay_p50_seconds = rtt_ + 0.0003;
        status.output.delay_p99_seconds = rtt_ + 0.0016 + 0.002 * load_;
    }
    status.execution.exits = exits_;
    status.execution.exits_per_second = paused_ ? 0 : 900 + 5200 * load_;
    status.execution.throttle_ratio = load_ > 0.9 ? 0.08 : 0.0;
    status.execution.log_index = LogIndex(log_index_);
    status.execution.acknowledged = LogIndex(log_index_ - 14);
    status.digest = {digests_, mismatches_, mismatches_ * 2, exits_ - 1200};
    fill_disks(status, site);
    fill_tiebreaker(status, site);
    const bool runs = site == primary_ && side.state != State::halted;
    status.vm = {name_,
                 paused_                       ? control::VcpuState::paused
                 : side.state == State::halted ? control::VcpuState::stopped
                 : runs                        ? control::VcpuState::running
                                               : control::VcpuState::waiting,
                 control::ReplayMode::lockstep,
                 uptime_,
                 uint64_t{512} << 20,
                 1,
                 ""};
    if (checkpoints_) fill_checkpoints(status, site);
    status.alerts = side.alerts;
    status.versions = {"0.1.0", control::kApiVersion, 1, "0.1.0"};
    return status;
}

void FakePair::fill_checkpoints(Status& status, size_t site) const {
    status.digest = {};
    status.vm.mode = control::ReplayMode::checkpoint;
    if (site != primary_) return;
    status.checkpoint =
        control::CheckpointFigures{digests_, digests_ - 1, 0.025, "pause", 48'000, 31, 0.0016};
}

void FakePair::fill_link(Status& status) const {
    status.link.session_up = link_up_;
    status.link.heartbeat_up = link_up_;
    status.link.peer_address = "tcp://10.0.0.2:7100";
    status.link.sent_bytes = sent_bytes_;
    status.link.received_bytes = sent_bytes_ / 9;
    status.link.reconnects = 1;
    if (!link_up_) return;
    status.link.rtt_seconds = rtt_;
    status.link.jitter_seconds = 0.0004 + std::abs(rtt_ - 0.0502) / 3;
    status.link.loss_ratio = loss_;
    status.link.last_heard_seconds = 0.02;
    status.link.paths.push_back(
        {"10.0.0.1:7101", "10.0.0.2:7101", true, rtt_, 0.0004, loss_, 0.02});
    status.link.paths.push_back({"10.9.0.1:7101", "10.9.0.2:7101", true, 0.061, 0.0007, 0.0, 0.01});
    status.log_rate = {2400 + 9000 * load_, 900 + 3100 * load_, 150 + 870 * load_};
}

void FakePair::fill_tiebreaker(Status& status, size_t site) const {
    auto& tiebreaker = status.tiebreaker;
    tiebreaker.certificate_not_after_unix_ms = 2'000'000'000'000;
    tiebreaker.reachable = tiebreaker_up_;
    tiebreaker.address = "10.0.0.3:7200";
    tiebreaker.text = tiebreaker_up_ ? "" : "10.0.0.3:7200: connection refused";
    tiebreaker.last_answer_seconds = tiebreaker_up_ ? 0.8 : 74.0;
    if (tiebreaker_up_) tiebreaker.rtt_seconds = 0.021 + 0.002 * double(site);
    control::TiebreakerRecord record;
    record.mode = record_holder_.empty() ? control::RecordMode::paired : control::RecordMode::solo;
    record.epoch = Epoch(epoch_);
    record.holder = record_holder_;
    record.members = status.members;
    tiebreaker.record = record;
}

void FakePair::fill_disks(Status& status, size_t site) const {
    control::DiskStatus root;
    root.id = "root";
    root.path = "/dev/vg0/" + name_ + "-root";
    root.size_bytes = uint64_t{32} << 30;
    root.epoch = Epoch(epoch_);
    root.state = control::DiskState::up_to_date;
    root.read_bytes = written_bytes_ / 3;
    root.written_bytes = written_bytes_;
    control::DiskStatus data;
    data.id = "data";
    data.path = "nbd+unix:///data";
    data.size_bytes = uint64_t{200} << 30;
    data.epoch = Epoch(epoch_);
    data.state = control::DiskState::up_to_date;
    data.read_bytes = written_bytes_;
    data.written_bytes = written_bytes_ * 4;
    if (sides_[site].state == State::halted) {
        root.state = data.state = control::DiskState::fenced;
        root.text = "a higher epoch is on the disk";
    }
    if (sync_ratio_ >= 0 && site == sync_target_) {
        data.state = control::DiskState::syncing;
        data.synced_ratio = sync_ratio_;
        data.dirty_bytes = uint64_t((1 - sync_ratio_) * 6e9);
    }
    status.disks = {root, data};
}

Result<control::json::value> FakePair::act(size_t site, Method method,
                                           const control::ActionRequest& request) {
    requests.push_back(request);
    methods.push_back(method);
    if (!control::info(method).implemented) {
        return fail(Errc::unsupported, "{}: this version cannot do it", control::word(method));
    }
    Side& side = sides_[site];
    control::ActionReply reply;
    const auto refuse = [&](std::string text) {
        reply.allowed = false;
        reply.findings.push_back({control::Severity::error, std::move(text)});
    };
    switch (method) {
        case Method::switchover:
            if (side.state != State::primary) refuse("this site is not the primary of a pair");
            reply.consequence = "The VM pauses for about 80 ms and goes on at the other site.";
            break;
        case Method::failover:
            if (side.state != State::backup) refuse("this site is not the backup of a pair");
            reply.findings.push_back(
                {control::Severity::warning, "the primary is alive; a switchover is gentler"});
            reply.consequence = "This site asks the tiebreaker; the primary halts if it wins.";
            break;
        case Method::force:
            if (side.state != State::waiting) refuse("this site is not frozen");
            if (!request.peer_is_down) refuse("confirm that the other site is down");
            if (copy_lacks_ && !request.accept_loss) {
                refuse("this site's copy may lack acknowledged writes");
            }
            reply.consequence = "The VM goes live here without the tiebreaker's consent.";
            break;
        case Method::rejoin:
            if (side.state != State::halted) refuse("this site is not halted");
            reply.consequence = "The stopped copy here is given up and filled again.";
            break;
        case Method::reclaim:
            if (side.state != State::starting) refuse("this site is not starting");
            reply.consequence = "The VM boots here again from its disks.";
            break;
        case Method::protect:
            if (side.state != State::solo) refuse("this site is not unprotected");
            reply.consequence = "A backup is looked for, and seeded while the VM runs.";
            break;
        case Method::unprotect:
        case Method::seed:
            if (side.state != State::primary) refuse("this site is not the primary of a pair");
            reply.consequence = std::string(control::info(method).summary);
            break;
        default:
            reply.consequence = std::string(control::info(method).summary);
            break;
    }
    if (control::info(method).confirmed && !request.check && request.confirm != name_) {
        return fail(Errc::invalid_argument, "confirm: type the pair's name, {}", name_);
    }
    if (method == Method::drill_start || method == Method::drill_stop ||
        method == Method::drill_clean || method == Method::drill_input) {
        return act_on_drill(site, method, request);
    }
    if (request.check) return control::to_json(reply);
    if (!reply.allowed) return fail(Errc::busy, "{}", reply.findings.back().text);
    return begin(site, method, request, reply.consequence);
}

// The copy of a drill runs from the second tick on, and its disk has been read by the third.
void FakePair::tick_drill() {
    if (!drill_) return;
    if (drill_->state == control::DrillState::starting) {
        drill_->state = control::DrillState::running;
        drill_->vcpu = control::VcpuState::running;
        drill_->copied_unix_ms = now_();
        drill_->epoch = Epoch(epoch_);
        drill_->log_index = LogIndex(log_index_);
        drill_->lag_seconds = lag_;
        drill_->copy_seconds = 0.0004;
        drill_->live_seconds = 0.031;
        drill_console_ = "login: ";
    } else if (drill_->state == control::DrillState::running) {
        drill_->exits += 500;
        drill_->disks[0].sha256 = std::string(64, 'a');
        if (drill_typed_) drill_console_ += "ready\n";
    }
}

Result<control::json::value> FakePair::act_on_drill(size_t site, Method method,
                                                    const control::ActionRequest& request) {
    control::ActionReply reply;
    const bool runs = drill_ && (drill_->state == control::DrillState::starting ||
                                 drill_->state == control::DrillState::running);
    reply.consequence = std::string(control::info(method).summary);
    if (method == Method::drill_start) {
        if (sides_[site].state != State::backup) return fail(Errc::busy, "not a backup in step");
        if (runs) return fail(Errc::busy, "a drill runs");
        if (request.check) return control::to_json(reply);
        FT_TRY(reply.operation,
               sides_[site].journal.begin_operation(now_(), method, request.actor, "waits"));
        running_.push_back({site, *reply.operation, method, 3});
        drill_ = control::DrillStatus{};
        drill_->id = *reply.operation;
        drill_->disks = {{"root", uint64_t{32} << 30, ""}};
        drill_typed_ = false;
        event(site, EventCode::drill_started, "asked by " + request.actor);
    } else if (!runs && method != Method::drill_clean) {
        return fail(Errc::busy, "no drill runs");
    } else if (method == Method::drill_stop) {
        drill_->state = control::DrillState::ended;
        event(site, EventCode::drill_finished, "ended by " + request.actor);
    } else if (method == Method::drill_input) {
        drill_typed_ = true;
    }
    return control::to_json(reply);
}

Result<control::json::value> FakePair::begin(size_t site, Method method,
                                             const control::ActionRequest& request,
                                             std::string consequence) {
    control::ActionReply reply;
    reply.consequence = std::move(consequence);
    event(site, EventCode::operator_action,
          fmt::format("{} by {}", control::word(method), request.actor));
    if (method == Method::pause || method == Method::resume) {
        paused_ = method == Method::pause;
        event(site, paused_ ? EventCode::vm_paused : EventCode::vm_resumed, "by the operator");
        return control::to_json(reply);
    }
    if (method == Method::console_input) sides_[site].journal.add_console(request.text);
    if (is_short(method)) return control::to_json(reply);
    FT_TRY(const uint64_t id,
           sides_[site].journal.begin_operation(now_(), method, request.actor, "started"));
    running_.push_back({site, id, method, 2});
    reply.operation = id;
    return control::to_json(reply);
}

void FakePair::finish_operations() {
    for (Running& run : running_) {
        if (--run.ticks > 0) {
            sides_[run.site].journal.progress(run.id, 0.5, "half way");
            continue;
        }
        switch (run.method) {
            case Method::switchover:
                switch_roles();
                break;
            case Method::failover:
            case Method::reclaim:
                take_over(run.site);
                break;
            case Method::rejoin:
                begin_sync(run.site);
                break;
            case Method::protect:
            case Method::seed:
                begin_sync(1 - run.site);
                break;
            case Method::unprotect:
                record_holder_ = sides_[run.site].name;
                set_state(1 - run.site, State::halted, "given up by the other site");
                set_state(run.site, State::solo, "an operator's wish");
                break;
            case Method::force:
                primary_ = run.site;
                set_state(run.site, State::solo, "forced by an operator");
                break;
            default:
                break;
        }
        sides_[run.site].journal.end_operation(now_(), run.id, control::OperationState::succeeded,
                                               "done");
    }
    std::erase_if(running_, [](const Running& run) { return run.ticks <= 0; });
}

}  // namespace antipode::web::test
