// What the core wants done, done for the abstract VM.
#include <algorithm>

#include "common/failover/deliberate_bugs.h"
#include "tests/sim/site.h"

namespace antipode::sim {

using failover::State;

void Site::out(const failover::Send& send) {
    network_.send(index_, [to = peer, said = send.message] {
        to->heard_frame();
        to->input(failover::PeerSays{said});
    });
}

void Site::out(const failover::Ask& ask) {
    to_tiebreaker(ask.request);
}

void Site::out(const failover::SetGate& gate) {
    process_->gate = gate;
    checker_.output_free(index_, gate.mode == failover::GateMode::open);
    release();
}

void Site::out(const failover::UseEpoch& use) {
    if (use.partner != process_->use.partner) process_->sent = process_->acked = 0;
    process_->use = use;
}

// ---- Durable ----

// A durable write is when processes like to die: before it, in it, or after it but untold.
bool Site::dies_in_write(const Task& write) {
    if (disk_full) {
        ++refused_by_full_disk;
        coverage_.probe("disk full");
        world_.say("{}  cannot write: disk full", letter(index_));
        die();
        return true;
    }
    if (!world_.chance(settings.crash_at_write)) return false;
    ++crashes_at_write;
    switch (world_.random.below(3)) {
        case 0:
            coverage_.probe("crash before a durable write");
            break;
        case 1:
            ++torn_writes;
            coverage_.probe("crash within a durable write: the old copy stands");
            break;
        default:
            coverage_.probe("crash after a durable write, before it is known");
            for (const Write& earlier : writes_) earlier.apply();
            writes_.clear();
            write();
    }
    world_.say("{}  CRASHES AT A DURABLE WRITE", letter(index_));
    const bool power = world_.chance(0.3);
    die();
    if (power) lose_power();
    return true;
}

// Writes of one kind end in the order in which they were begun; of different kinds, in any.
void Site::write_then(Instant& due, Task write, failover::Input done) {
    if (dies_in_write(write)) return;
    const uint64_t number = ++writes_begun_;
    writes_.push_back({number, std::move(write)});
    due = std::max(due, world_.now() + world_.between(100us, settings.write_time_max));
    later(due - world_.now(), [this, number, done = std::move(done)] {
        const auto ended = std::find_if(writes_.begin(), writes_.end(),
                                        [&](const Write& entry) { return entry.number == number; });
        ended->apply();
        writes_.erase(ended);
        step(done);
    });
}

void Site::out(const failover::Persist& persist) {
    write_then(
        persist_due_,
        [this, state = persist.state, boot = boot_] {
            stored_ = state;
            stored_boot_ = boot;
            checker_.epoch_moved(fmt::format("{}'s state", letter(index_)), state.epoch);
        },
        failover::Persisted{persist.number});
}

void Site::out(const failover::FenceDisk& fence) {
    write_then(
        fence_due_,
        [this, epoch = fence.epoch] {
            fence_ = epoch;
            checker_.epoch_moved(fmt::format("{}'s disk", letter(index_)), epoch);
        },
        failover::DiskFenced{fence.epoch});
}

void Site::out(const failover::FlushDisk&) {
    const Task flush = [this, node = disk_] {
        if (!checker_.lineage.has(disk_durable_, node)) disk_durable_ = node;
    };
    write_then(flush_due_, flush, failover::DiskFlushed{});
}

// ---- The log ----

bool Site::streams() const {
    switch (process_->core.state()) {
        case State::paired_primary:
        case State::asking_primary:
        case State::switching_primary:
            return true;
        case State::pairing:
            return process_->cut != NodeId::none;
        default:
            return false;
    }
}

void Site::send_log() {
    Process& process = *process_;
    const uint64_t have = checker_.lineage.index(process.vm);
    if (!streams() || process.use.partner.site.empty() || !network_.session_up(index_)) return;
    arm_resend();
    if (have <= process.sent) return;
    const LogFrame frame{process.use.epoch, process.me, process.use.partner,
                         process.sent + 1,  process.vm, process.released};
    process.sent = have;
    network_.send(index_, [to = peer, frame] {
        to->heard_frame();
        to->guarded(to->life_, [to, frame] { to->receive_log(frame); });
    });
}

void Site::arm_resend() {
    if (process_->resend_armed) return;
    process_->resend_armed = true;
    later(300ms, [this] {
        process_->resend_armed = false;
        const uint64_t acked = process_->core.acknowledged().value();
        const bool stalled = acked == process_->acked;
        process_->acked = acked;
        if (!streams() || checker_.lineage.index(process_->vm) <= acked) return;
        if (stalled) process_->sent = std::max(acked, checker_.lineage.index(process_->cut));
        send_log();
        arm_resend();
    });
}

void Site::receive_log(const LogFrame& frame) {
    offered_ = frame;
    step(failover::LogReceived{frame.epoch, frame.from, frame.to, LogIndex(frame.first),
                               LogIndex(checker_.lineage.index(frame.last))});
}

void Site::out(const failover::AcceptLog& accept) {
    Process& process = *process_;
    const Lineage& lineage = checker_.lineage;
    const NodeId last = lineage.entry(offered_.last, accept.last.value());
    if (!lineage.has(last, process.log_tail)) {
        return checker_.violation("a log is continued by another history");
    }
    process.log_tail = last;
    process.released = std::max(process.released, offered_.released);
    apply();
}

void Site::out(const failover::Acknowledge& acknowledge) {
    const failover::AckReceived ack{acknowledge.epoch, process_->me, acknowledge.to,
                                    acknowledge.last};
    network_.send(index_, [to = peer, ack] {
        to->heard_frame();
        to->input(ack);
    });
}

// ---- The VM ----

// A primary of a pair lets nothing go without its partner, who may have won meanwhile.
bool Site::behind_partner() const {
    const State state = process_->core.state();
    return state == State::paired_primary || state == State::asking_primary;
}

void Site::out(const failover::RunVm& run) {
    Process& process = *process_;
    checker_.runs_on_disk(index_, disk_strays_);
    switch (run.from) {
        case failover::RunFrom::image:
            process.vm = image_;
            process.released = 0;
            break;
        case failover::RunFrom::log:
            coverage_.probe("goes live from its log");
            if (!behind_partner()) checker_.goes_live_from(index_, process.vm, "log");
            break;
        case failover::RunFrom::memory:
            coverage_.probe("goes live from its memory");
            if (!behind_partner()) checker_.goes_live_from(index_, process.vm, "memory");
            break;
        case failover::RunFrom::disk: {
            coverage_.probe("boots from its disk");
            const bool flushed = disk_ == disk_durable_;
            process.vm = checker_.boots_from(index_, disk_, process.loss_accepted);
            disk_ = process.vm;
            if (flushed) disk_durable_ = disk_;
            process.released = 0;
            break;
        }
    }
    process.following = process.consuming = false;
    process.cut = NodeId::none;
    process.log_tail = process.vm;
    process.sent = process.acked = checker_.lineage.index(process.vm);
    process.runs = true;
    ++process.pauses_wanted;
    world_.say("{}  RUNS the VM from node {} in epoch {}", letter(index_),
               static_cast<unsigned>(process.vm), run.epoch);
    release();
}

void Site::out(const failover::FollowVm& follow) {
    Process& process = *process_;
    process.runs = false;
    process.following = true;
    process.applying = process.consuming = false;
    if (follow.from == failover::FollowFrom::image) process.vm = image_;
    process.log_tail = process.vm;
}

void Site::out(const failover::ConsumeLog&) {
    process_->following = true;
    process_->consuming = true;
    apply();
}

// Whatever lets the VM go on takes the wish back (Engine::resume), also one that is not met yet.
void Site::out(const failover::PauseVm&) {
    const uint64_t wish = ++process_->pauses_wanted;
    later(world_.between(100us, settings.pause_time_max), [this, wish] {
        if (process_->pauses_wanted != wish) return;
        process_->runs = false;
        world_.say("{}  the VM stands at {}", letter(index_), checker_.lineage.index(process_->vm));
        send_log();
        step(failover::VmPaused{LogIndex(checker_.lineage.index(process_->vm))});
    });
}

void Site::out(const failover::HaltVm&) {
    process_->runs = false;
    process_->following = false;
    later(world_.between(50us, 2ms), [this] { step(failover::VmHalted{}); });
}

void Site::out(const failover::DropMemory&) {
    process_->vm = process_->log_tail = NodeId::none;
}

// ---- Seeding ----

void Site::out(const failover::BeginSeed& begin) {
    process_->seeding = true;
    process_->attempt = begin.attempt;
    process_->cut = NodeId::none;
    later(world_.between(20ms, settings.seed_time_max), [this, attempt = begin.attempt] {
        if (process_->seeding) step(failover::SeedReady{attempt});
    });
}

void Site::out(const failover::CutSeed& cut) {
    Process& process = *process_;
    process.vm = process.cut = checker_.lineage.execute(process.vm);
    process.cut_attempt = cut.attempt;
    write_disk(process.vm, true);
    process.sent = process.acked = checker_.lineage.index(process.cut);
    release();
    later(world_.between(500us, 20ms), [this, attempt = cut.attempt, at = process.cut] {
        if (process_->cut != at) return;
        send_seed();
        step(failover::SeedCut{attempt, LogIndex(checker_.lineage.index(at))});
    });
}

void Site::send_seed() {
    Process& process = *process_;
    if (process.core.state() != State::pairing || process.cut == NodeId::none) return;
    const LogFrame seed{process.use.epoch,   process.me,  process.use.partner,
                        process.cut_attempt, process.cut, process.released};
    network_.send(index_, [to = peer, seed] {
        to->heard_frame();
        to->guarded(to->life_, [to, seed] { to->receive_seed(seed); });
    });
}

void Site::receive_seed(const LogFrame& seed) {
    const bool wanted = seed.to == process_->me && seed.from == process_->use.partner &&
                        seed.first == process_->receiving && seed.epoch == process_->core.epoch();
    if (!wanted) return;
    process_->receiving = 0;
    later(world_.between(1ms, 30ms), [this, seed] {
        Process& process = *process_;
        if (process.core.state() != State::rejoining || process.receiving != 0) return;
        process.vm = process.log_tail = seed.last;
        process.released = seed.released;
        process.following = false;
        disk_ = seed.last;
        resync_disk();
        ++seeds_done;
        step(failover::SeedLoaded{seed.first, LogIndex(checker_.lineage.index(seed.last))});
    });
}

// A seed compares all blocks of all disks and brings what differs (DiskCopy), so whatever this site
// wrote is gone. With the deliberate mistake it brings what the survivor has written since the two
// parted.
void Site::resync_disk() {
    const NodeId before = std::exchange(disk_before_seed_, NodeId::none);
    if (!failover::bug(failover::Bug::resync_by_survivors_marks)) {
        disk_strays_ = NodeId::none;
    } else if (!checker_.lineage.has_through_boots(disk_, before)) {
        disk_strays_ = before;
    }
}

void Site::out(const failover::AbortSeed&) {
    process_->seeding = false;
    process_->receiving = 0;
    process_->cut = NodeId::none;
}

void Site::out(const failover::ReceiveSeed& receive) {
    process_->receiving = receive.attempt;
    if (disk_ != NodeId::none) disk_before_seed_ = disk_;
    if (world_.chance(settings.undo_overlay)) return;
    coverage_.probe("a resync overwrites the old copy");
    disk_ = disk_durable_ = NodeId::none;
    later(10us, [this] { step(failover::MemoryLost{}); });
}

// ---- For people ----

void Site::out(const failover::StateChanged& changed) {
    if (world_.chance(settings.kill_at_change)) {
        coverage_.probe("kill soon after a change of state");
        world_.after(world_.between(0ms, 80ms), [this] {
            if (settings.kill_at_change > 0) kill();
        });
    }
    world_.say("{}  {} -> {} e{}: {}", letter(index_), wire::to_string(changed.from),
               wire::to_string(changed.to), changed.epoch, changed.reason);
}

void Site::out(const failover::Alarm& alarm) {
    world_.say("{}  alarm {} {}: {}", letter(index_), failover::to_string(alarm.code),
               alarm.state == failover::AlarmState::raised ? "raised" : "cleared", alarm.text);
}

void Site::out(const failover::CommandRefused& refused) {
    coverage_.probe("a command is refused");
    world_.say("{}  refuses a command: {}", letter(index_), refused.reason);
}

void Site::out(const failover::Retire& retire) {
    coverage_.probe("a process retires");
    world_.say("{}  retires: {}", letter(index_), retire.reason);
    die();
}

void Site::guest_stops() {
    if (!process_ || !process_->runs || stopped()) return;
    process_->runs = false;
    step(failover::GuestStopped{LogIndex(checker_.lineage.index(process_->vm))});
}

void Site::seed_fails() {
    if (!process_ || stopped()) return;
    if (process_->seeding) {
        coverage_.probe("the copying of a seed fails");
        process_->seeding = false;
        step(failover::SeedFailed{process_->attempt, "injected"});
    } else if (process_->receiving != 0) {
        coverage_.probe("the receiving of a seed fails");
        const uint64_t attempt = std::exchange(process_->receiving, 0);
        step(failover::SeedFailed{attempt, "injected"});
    }
}

void Site::memory_lost() {
    if (!process_ || stopped() || process_->core.state() != State::halted) return;
    if (process_->vm == NodeId::none) return;
    coverage_.probe("the memory of a stopped VM is lost");
    process_->vm = process_->log_tail = NodeId::none;
    step(failover::MemoryLost{});
}

// ---- From the network ----

void Site::heard_frame() {
    if (process_ && !stopped()) process_->detector.heard(local_now());
}

void Site::session_opened() {
    guarded(life_, [this] {
        step(failover::SessionUp{});
        if (!process_) return;
        process_->sent =
            std::max(process_->core.acknowledged().value(), checker_.lineage.index(process_->cut));
        send_seed();
        send_log();
    });
}

}  // namespace antipode::sim
