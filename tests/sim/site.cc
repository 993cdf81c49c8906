#include "tests/sim/site.h"

#include <algorithm>

namespace antipode::sim {

using failover::Failover;
using failover::Input;
using failover::State;

Site::Site(World& world, Network& network, Checker& checker, Coverage& coverage, size_t index,
           failover::Config config, NodeId image)
    : world_(world),
      network_(network),
      checker_(checker),
      coverage_(coverage),
      index_(index),
      config_(std::move(config)),
      disk_(image),
      disk_durable_(image),
      image_(image) {}

Instant Site::local_now() const {
    const auto time = static_cast<double>(world_.now().time_since_epoch().count());
    return Instant(Duration(static_cast<Duration::rep>(time * clock_rate_)) + clock_offset_);
}

std::string Site::describe() const {
    if (!process_) return fmt::format("{}:dead", letter(index_));
    const Failover& core = process_->core;
    return fmt::format(
        "{}:{} e{} vm{}/{}{} released{} acked{} live{}{} ({})", letter(index_),
        wire::to_string(core.state()), core.epoch(), checker_.lineage.index(process_->vm),
        static_cast<unsigned>(process_->vm), process_->runs ? " runs" : "", process_->released,
        core.acknowledged(), core.durable().live_epoch,
        core.durable().disk == wire::DiskCopy::complete ? "+disk" : "", core.reason());
}

// ---- Life and death ----

void Site::start() {
    if (process_) return;
    if (world_.now() < down_until_) {
        world_.at(down_until_, [this] { start(); });
        return;
    }
    ++life_;
    ++restarts;
    stopped_until_ = world_.now();
    stood_still_ = false;
    waiting_.clear();
    process_ = std::make_unique<Process>(config_, settings.answer_limit, local_now());
    peer = named(config_.peer_site);
    process_->me = {config_.site, Incarnation(world_.random.next() | 1)};
    world_.say("{}  starts as #{} with epoch {} live {} fence {}", letter(index_),
               process_->me.incarnation, stored_ ? stored_->epoch : Epoch(0),
               stored_ ? stored_->live_epoch : Epoch(0), fence_);
    const auto host = boot_ == stored_boot_ ? failover::Host::same_boot : failover::Host::rebooted;
    step(failover::Start{process_->me, stored_, fence_, host});
    if (process_) beat();
}

void Site::die() {
    world_.note(1, index_);
    ++life_;
    process_.reset();
    // What was being written may be there or not; never half of it: two copies, checksums.
    for (const Write& write : writes_) {
        if (world_.chance(0.5)) {
            write.apply();
        } else {
            ++lost_writes;
        }
    }
    writes_.clear();
    checker_.not_live(index_);
    checker_.output_free(index_, false);
    network_.process_died(index_);
    world_.after(world_.between(200ms, 2s), [this] { start(); });
}

void Site::kill() {
    if (!process_) return;
    world_.say("{}  KILLED", letter(index_));
    die();
}

void Site::lose_power() {
    world_.say("{}  LOSES POWER", letter(index_));
    if (process_) die();
    ++boot_;
    if (disk_ == disk_durable_ || !world_.chance(settings.lose_at_power)) return;
    ++lost_writes;
    const Lineage& lineage = checker_.lineage;
    if (disk_ != NodeId::none && disk_durable_ != NodeId::none &&
        lineage.has(disk_, disk_durable_)) {
        const uint64_t low = lineage.index(disk_durable_);
        disk_ = lineage.entry(disk_, world_.random.between(low, lineage.index(disk_)));
    } else {
        disk_ = disk_durable_;
    }
    disk_durable_ = disk_;
}

void Site::stop_for(Duration duration) {
    if (!process_) return;
    stood_still_ = true;
    stopped_until_ = std::max(stopped_until_, world_.now() + duration);
    world_.at(stopped_until_, [this] { wake(); });
}

void Site::crawl(Instant until) {
    if (!process_ || world_.now() >= until) return;
    const Duration stops = world_.between(20ms, 120ms);
    stop_for(stops);
    world_.after(stops + world_.between(1ms, 60ms), [this, until] { crawl(until); });
}

void Site::keep_down(Duration duration) {
    down_until_ = world_.now() + duration;
    if (process_) die();
}

void Site::come_back() {
    down_until_ = std::min(down_until_, world_.now());
    start();
}

void Site::clock_drift(double rate) {
    clock_offset_ = local_now() - Instant{} -
                    Duration(static_cast<Duration::rep>(
                        static_cast<double>(world_.now().time_since_epoch().count()) * rate));
    clock_rate_ = rate;
}

// ---- Running ----

void Site::guarded(uint64_t life, Task task) {
    if (life != life_ || !process_) return;
    if (stopped() || !waiting_.empty()) {
        waiting_.push_back({life, std::move(task)});
        return;
    }
    task();
}

// Continues the process: everything that has come meanwhile, in order.
void Site::wake() {
    if (stopped()) return;
    if (std::exchange(stood_still_, false) && process_) run_before_hearing();
    while (!waiting_.empty()) {
        Waiting next = std::move(waiting_.front());
        waiting_.pop_front();
        if (next.life == life_ && process_) next.task();
    }
}

// The guest goes on where it was, and its writes with it; what they make is told to the core behind
// what waits for it already. Nothing leaves: frames and outputs are the core's.
void Site::run_before_hearing() {
    if (!process_->runs || !world_.chance(settings.runs_on_waking)) return;
    coverage_.probe("a guest runs before its site hears what it missed");
    const Failover* other = peer->core();
    if (other != nullptr && wire::runs_vm(other->state()) &&
        other->epoch() > process_->core.epoch()) {
        coverage_.probe("a site that has lost writes its disk before it hears of it");
    }
    for (uint64_t entries = world_.random.between(1, 3); entries > 0; --entries) {
        process_->vm = checker_.lineage.execute(process_->vm);
        write_disk(process_->vm, true);
    }
    waiting_.push_back(
        {life_, [this] {
             if (!process_->runs) return;
             send_log();
             release();
             step(failover::LogProduced{LogIndex(checker_.lineage.index(process_->vm))});
         }});
}

void Site::later(Duration delay, Task task) {
    world_.after(delay, [this, life = life_, task = std::move(task)]() mutable {
        guarded(life, std::move(task));
    });
}

void Site::input(const Input& input) {
    guarded(life_, [this, input] { step(input); });
}

void Site::step(const Input& input) {
    FT_CHECK(!in_step_, "a step within a step");
    in_step_ = true;
    const State before = process_->core.state();
    const failover::Outputs outputs = process_->core.step(input, local_now());
    const State after = process_->core.state();
    const failover::Event event = process_->core.last_event();
    coverage_.transition(before, event, after);
    world_.note((index_ << 8) | static_cast<uint64_t>(event), static_cast<uint64_t>(after),
                outputs.size());
    for (const failover::Output& output : outputs) {
        std::visit([this](const auto& value) { out(value); }, output);
        if (!process_) break;  // it died of this one
    }
    in_step_ = false;
    if (!process_) return;
    observe();
    arm_timer();
}

void Site::observe() {
    const Failover& core = process_->core;
    if (wire::runs_vm(core.state())) {
        checker_.live(index_, core.epoch(), process_->me);
    } else {
        checker_.not_live(index_);
    }
    const bool free = process_->gate.mode == failover::GateMode::open;
    checker_.output_free(index_, free);
}

void Site::arm_timer() {
    const Instant deadline = process_->core.deadline();
    if (deadline == Instant::max()) return;
    const Duration wait = std::max(deadline - local_now(), Duration(0));
    const Instant due =
        world_.now() +
        Duration(static_cast<Duration::rep>(static_cast<double>(wait.count()) / clock_rate_)) + 1us;
    if (process_->timer_armed && process_->timer <= due) return;
    process_->timer_armed = true;
    process_->timer = due;
    const uint64_t number = ++process_->timer_number;
    later(due - world_.now(), [this, number] {
        if (number != process_->timer_number) return;
        process_->timer_armed = false;
        if (local_now() >= process_->core.deadline()) {
            step(failover::Tick{});
        } else {
            arm_timer();
        }
    });
}

// ---- Heartbeats ----

void Site::beat() {
    consider_turning();
    if (!process_) return;
    check_detector();
    if (!process_) return;
    const uint64_t number = ++process_->heartbeats_sent;
    const Member from = process_->me;
    const Epoch epoch = process_->core.epoch();
    network_.datagram(index_, peer->index_,
                      [to = peer, from, number, epoch] { to->heartbeat(from, number, epoch); });
    const auto interval = static_cast<double>(settings.heartbeat_interval.count()) / clock_rate_;
    later(Duration(static_cast<Duration::rep>(interval)), [this] { beat(); });
}

void Site::heartbeat(const Member& from, uint64_t number, Epoch epoch) {
    guarded(life_, [this, from, number, epoch] {
        Process& process = *process_;
        if (from.site != process.core.peer_site()) return;
        if (process.heartbeat_from != from) {
            process.detector.peer_restarted(local_now());
            process.heartbeat_from = from;
        }
        process.detector.heartbeat(number, local_now());
        if (epoch > process.core.epoch()) step(failover::EpochHeard{from, epoch});
    });
}

Site* Site::named(const Name& name) const {
    const auto found = std::find_if(all->begin(), all->end(),
                                    [&](const auto& site) { return site->config_.site == name; });
    FT_CHECK(found != all->end(), "no site {}", name);
    return found->get();
}

// As the product's shell does: the line to the one is closed, one to the other opened, and of that
// one nothing is known yet.
void Site::consider_turning() {
    Process& process = *process_;
    const std::optional<Name> chosen = process.choice.next(process.core, local_now());
    if (!chosen) return;
    network_.leave_session(index_);
    peer = named(*chosen);
    process.detector = failover::FaultDetector({}, local_now());
    process.suspicion = failover::Suspicion::none;
    process.heartbeat_from = {};
    coverage_.probe("a site turns to another one");
    world_.say("{}  turns to {}", letter(index_), letter(peer->index_));
    step(failover::TurnTo{*chosen});
}

void Site::move_backup(const Name& to) {
    if (!process_ || stopped()) return;
    process_->choice.prefer(to);
    input(failover::Command{failover::CommandKind::unprotect, {}});
    world_.after(world_.between(200ms, 3s), [this] {
        input(failover::Command{failover::CommandKind::protect, {}});
    });
}

void Site::check_detector() {
    Process& process = *process_;
    const failover::Suspicion now = process.detector.check(local_now());
    if (now == process.suspicion) return;
    process.suspicion = now;
    if (now == failover::Suspicion::suspected) {
        world_.say("{}  suspects its peer", letter(index_));
        step(failover::PeerSuspected{});
    } else {
        step(failover::PeerTrusted{});
    }
}

// ---- The VM ----

void Site::client_request() {
    if (!process_ || !process_->runs || stopped()) return;
    process_->vm = checker_.lineage.execute(process_->vm);
    write_disk(process_->vm, true);
    send_log();
    release();
    step(failover::LogProduced{LogIndex(checker_.lineage.index(process_->vm))});
}

void Site::write_disk(NodeId node, bool durable) {
    const Failover& core = process_->core;
    if (fence_ > process_->use.epoch && fence_ > core.epoch()) {
        checker_.violation(fmt::format("{} writes its disk, which is fenced at {}, in epoch {}",
                                       letter(index_), fence_, core.epoch()));
    }
    if (core.state() == State::halted) {
        checker_.violation(fmt::format("{} writes its disk while halted", letter(index_)));
    }
    disk_ = node;
    if (durable) disk_durable_ = node;
}

// Lets go what the gate allows, in order.
void Site::release() {
    Process& process = *process_;
    const Lineage& lineage = checker_.lineage;
    const uint64_t have = lineage.index(process.vm);
    uint64_t allowed = 0;
    if (process.gate.mode == failover::GateMode::open) allowed = have;
    if (process.gate.mode == failover::GateMode::acked) {
        allowed = std::min(have, process.gate.up_to.value());
    }
    if (allowed <= process.released) return;
    std::vector<NodeId> leaving;
    NodeId node = lineage.entry(process.vm, allowed);
    for (uint64_t i = allowed; i > process.released; --i) {
        leaving.push_back(node);
        node = lineage.parent(node);
    }
    process.released = allowed;
    if (process.gate.mode == failover::GateMode::acked) check_output_rule(leaving.front());
    for (auto next = leaving.rbegin(); next != leaving.rend(); ++next) {
        checker_.released(index_, *next);
    }
}

// Rule 4: the partner's present process, if it lives, holds what leaves.
void Site::check_output_rule(NodeId node) {
    if (checker_.suspended() || !peer->process_) return;
    const Process& other = *peer->process_;
    if (other.me != process_->use.partner) return;
    switch (other.core.state()) {
        case State::paired_backup:
        case State::asking_backup:
        case State::switching_backup:
            break;
        default:
            return;
    }
    if (checker_.lineage.has(other.log_tail, node)) return;
    checker_.violation(fmt::format("{} lets output {} go, which its partner at {} does not hold",
                                   letter(index_), checker_.lineage.index(node),
                                   checker_.lineage.index(other.log_tail)));
}

void Site::apply() {
    Process& process = *process_;
    if (!process.following || process.applying) return;
    if (process.vm == process.log_tail) {
        if (process.consuming) {
            process.consuming = false;
            later(50us, [this] {
                step(failover::LogDrained{LogIndex(checker_.lineage.index(process_->vm))});
            });
        }
        return;
    }
    process.applying = true;
    later(world_.between(100us, settings.apply_time_max), [this] {
        process_->applying = false;
        if (!process_->following) return;
        process_->vm = process_->log_tail;
        write_disk(process_->vm, false);
        apply();
    });
}

}  // namespace antipode::sim
