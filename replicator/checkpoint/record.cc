// The guest runs here: what comes from outside goes in, what it makes goes out.
#include <algorithm>

#include "common/base/check.h"
#include "common/base/log.h"
#include "replicator/checkpoint/checkpoint_engine.h"

namespace antipode::checkpoint {
namespace {

// Unprotected: how long an unfinished console line waits.
constexpr Duration kConsoleFlush = std::chrono::milliseconds(20);

}  // namespace

CheckpointEngine::Step CheckpointEngine::record() {
    apply_protection();
    if (vcpu_failed_.load()) {
        make_stand();
        const std::lock_guard lock(machine_mutex_);
        return finish(replay::StopReason::failed, vcpu_failure_);
    }
    apply_inputs();
    if (apply_controls() == Step::stop) return Step::stop;
    submit_acknowledged();
    if (reset_asked_.load() && !resetting_) {
        make_stand();
        if (options_.reset == CheckpointOptions::Reset::ends || !vm_->boot) {
            return end_guest(replay::StopReason::guest_reset, "the guest asked for a reset");
        }
        resetting_ = true;
    }
    if (resetting_) {
        if (reset() == Step::stop) return Step::stop;
    } else if (!protected_) {
        if (drain_outputs() == Step::stop) return Step::stop;
    } else if (may_take() && MonotonicClock::now() >= due()) {
        if (take_checkpoint(Then::run) == Step::stop) return Step::stop;
    }
    wait_for_work();
    return Step::go_on;
}

void CheckpointEngine::wait_for_work() {
    const Instant now = MonotonicClock::now();
    Instant until = now + options_.interval.longest;
    if (!protected_) {
        until = now + kConsoleFlush;
    } else if (may_take()) {
        until = due();
    }
    const bool waits = something_waits_.load();
    wakeup_.wait(until, [&] {
        return inbox_.any() || !inbox_.frames.empty() || command_waits() || vcpu_failed_.load() ||
               (reset_asked_.load() && !resetting_) || something_waits_.load() != waits ||
               (waits && !protected_) || acknowledged_.load() != acknowledged_handled_ ||
               (protection_wanted_.load() == Protection::on) != protected_;
    });
}

void CheckpointEngine::take_inbox() {
    if (!inbox_.any()) return;
    auto items = inbox_.take();
    for (auto& each : items.blocks) completions_.push_back(std::move(each));
    for (auto& each : items.consoles) console_.push_back(std::move(each));
    for (const auto kind : items.controls) controls_.push_back(kind);
}

// What outside has to tell the guest. Only while it may run: one that stands sees nothing change.
void CheckpointEngine::apply_inputs() {
    take_inbox();
    for (auto frame = inbox_.frames.pop(); frame; frame = inbox_.frames.pop()) {
        if (waiting_frames_.size() >= options_.frames_pending_max) {
            inbox_.drop_frame();
            continue;
        }
        waiting_frames_.push_back(std::move(*frame));
    }
    if (standing_ && !resetting_) return;
    const std::lock_guard lock(machine_mutex_);
    for (; !completions_.empty(); completions_.pop_front()) {
        const auto& done = completions_.front();
        if (with_disk_ > 0) --with_disk_;
        machine_.complete_block(done.drive, done.number, done.status, done.data);
    }
    take_requests();  // one that waited for another may go now
    if (resetting_) return;
    apply_frames();
    apply_console();
}

void CheckpointEngine::apply_frames() {
    frames_blocked_ = true;  // before the look, so that a buffer that comes after it is noticed
    while (!waiting_frames_.empty()) {
        const replay::PendingFrame& next = waiting_frames_.front();
        if (next.interface < machine_.interface_count()) {
            if (!machine_.can_receive_frame(next.interface)) return;
            machine_.receive_frame(next.interface, next.bytes);
        }
        waiting_frames_.pop_front();
    }
    frames_blocked_ = false;
}

void CheckpointEngine::apply_console() {
    while (!console_.empty()) {
        auto& bytes = console_.front();
        const size_t taken = machine_.console_input(bytes);
        if (taken < bytes.size()) {
            bytes.erase(bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(taken));
            return;
        }
        console_.pop_front();
    }
}

CheckpointEngine::Step CheckpointEngine::apply_controls() {
    while (!controls_.empty() && !resetting_) {
        const auto kind = controls_.front();
        controls_.pop_front();
        if (apply_control(kind) == Step::stop) return Step::stop;
    }
    return Step::go_on;
}

CheckpointEngine::Step CheckpointEngine::apply_control(replay::VmControl::Kind kind) {
    using Kind = replay::VmControl::Kind;
    switch (kind) {
        case Kind::pause:
        case Kind::resume:
            make_stand();
            held_ = kind == Kind::pause;
            held_seen_ = held_;
            // The backup's VM stands as this one does.
            return protected_ ? take_checkpoint(Then::run) : Step::go_on;
        case Kind::reset:
            make_stand();
            held_ = false;
            held_seen_ = false;
            reset_asked_ = true;
            return Step::go_on;
        case Kind::power_off:
            make_stand();
            return end_guest(replay::StopReason::powered_off, "an operator has cut its power");
        case Kind::nmi: {
            make_stand();
            const auto injected = group_.vcpus().front()->inject_nmi();
            if (!injected) {
                return finish(replay::StopReason::failed, injected.error().to_string());
            }
            return Step::go_on;
        }
        case Kind::line_break: {
            const std::lock_guard lock(machine_mutex_);
            (void)machine_.console_break();
            return Step::go_on;
        }
    }
    return Step::go_on;
}

void CheckpointEngine::apply_protection() {
    const bool wanted = protection_wanted_.load() == Protection::on;
    if (wanted == protected_) return;
    make_stand();
    if (wanted) {
        begin_protection(Baseline::nothing);
    } else {
        end_protection();
    }
    let_run();
}

// The vCPUs stand. What the backup has already is not to be sent.
void CheckpointEngine::begin_protection(Baseline baseline) {
    const std::lock_guard lock(machine_mutex_);
    protected_ = true;
    protects_ = true;
    const auto collected = collect_dirty();
    FT_CHECK(collected.has_value(), "{}", collected.error().to_string());
    std::ranges::fill(dirty_, baseline == Baseline::nothing ? ~uint64_t{0} : 0);
    table_.forget();
    forget_unacknowledged();
    acknowledged_ = number_;
    acknowledged_handled_ = number_;
    last_taken_ = MonotonicClock::now();
}

// The vCPUs stand. Nobody has to have anything any more: what was held goes.
void CheckpointEngine::end_protection() {
    const std::lock_guard lock(machine_mutex_);
    protected_ = false;
    protects_ = false;
    forget_unacknowledged();
    for (auto& held : held_writes_) {
        for (auto& request : held.requests) submit(std::move(request));
    }
    held_writes_.clear();
    if (new_writes_.empty()) return;
    for (auto& request : machine_.reissue_block_requests()) {
        const RequestKey key(request.device, request.number);
        if (std::ranges::count(new_writes_, key) > 0) submit(std::move(request));
    }
    new_writes_.clear();
}

// The log says how it ended, behind everything that the guest has made.
CheckpointEngine::Step CheckpointEngine::end_guest(replay::StopReason reason,
                                                   const std::string& text) {
    const Step left = protected_ ? take_checkpoint(Then::stand) : drain_outputs();
    if (left == Step::stop) return Step::stop;
    return announce_end(reason, text);
}

CheckpointEngine::Step CheckpointEngine::announce_end(replay::StopReason reason,
                                                      const std::string& text) {
    if (push(replay::VmControl{replay::VmControl::Kind::power_off}) == Step::stop) {
        return Step::stop;
    }
    return finish(reason, text);
}

// What the guest has asked the disks for, and cannot hear of any more, still ends first: then the
// numbers can be given again. Writes that no checkpoint covers are on neither disk and never come
// there, as on any machine that is reset.
CheckpointEngine::Step CheckpointEngine::reset() {
    {
        const std::lock_guard lock(machine_mutex_);
        new_writes_.clear();
        if (!held_writes_.empty() || with_disk_ > 0) return Step::go_on;
        const auto restored = vm_->boot->restore(vm_->memory, machine_, *group_.vcpus().front());
        if (!restored) return finish(replay::StopReason::failed, restored.error().to_string());
        const auto booted = vmm::restore_smp(vm_->vm, group_.vcpus(), boot_state_);
        if (!booted) return finish(replay::StopReason::failed, booted.error().to_string());
        machine_.repeat_lines();
        reset_asked_ = false;
        resetting_ = false;
        logger("checkpoint").info("reset after checkpoint {}", number_);
    }
    // At once, so that the backup knows that the numbers of requests begin again.
    if (protected_) return take_checkpoint(Then::run);
    let_run();
    return Step::go_on;
}

// ---- Outputs and requests ----

CheckpointEngine::Step CheckpointEngine::drain_outputs() {
    std::vector<vmm::Output> outputs;
    {
        const std::lock_guard lock(machine_mutex_);
        machine_.flush_console();
        outputs = std::move(made_);
        made_.clear();
        for (auto& output : machine_.take_outputs()) outputs.push_back(std::move(output));
        made_bytes_ = 0;
        something_waits_ = false;
    }
    if (!outputs.empty()) ++number_;  // entries are in the order of these
    for (auto& output : outputs) {
        if (push_output(std::move(output), OutputNumber(++output_number_)) == Step::stop) {
            return Step::stop;
        }
    }
    number_seen_ = number_;
    if (crowded_.exchange(false) && !standing_) {
        make_stand();  // it may not stand yet
        let_run();
    }
    return Step::go_on;
}

CheckpointEngine::Step CheckpointEngine::push_output(vmm::Output output, OutputNumber number) {
    const uint32_t checksum = replay::output_checksum(output.bytes);
    return push(replay::OutputMark{checksum}, number, std::move(output));
}

// The guest's own inputs do not wait with it.
CheckpointEngine::Step CheckpointEngine::push(replay::LogEntry::Body body, OutputNumber number,
                                              vmm::Output output) {
    replay::Recorded step{replay::LogEntry{ExitNumber(number_), std::move(body)}, number,
                          std::move(output), MonotonicClock::now()};
    while (!log_.record(std::move(step))) {
        if (stop_wanted_.load()) return finish(replay::StopReason::stopped, "");
        apply_inputs();
        wakeup_.wait(MonotonicClock::now() + kLogWait, [this] { return stop_wanted_.load(); });
    }
    return Step::go_on;
}

// Under machine_mutex_, as are the next two.
void CheckpointEngine::submit(vmm::BlockRequest&& request) {
    ++with_disk_;
    disk_.submit(std::move(request));
}

void CheckpointEngine::take_requests() {
    for (auto& request : machine_.take_block_requests()) {
        if (protects_.load() && request.operation != vmm::BlockOperation::read) {
            // Its bytes are taken again at the checkpoint, where the backup takes them too.
            new_writes_.emplace_back(request.device, request.number);
        } else {
            submit(std::move(request));
        }
    }
}

void CheckpointEngine::forget_unacknowledged() {
    unacknowledged_.forget();
    const std::lock_guard lock(status_mutex_);
    on_the_way_.clear();
}

void CheckpointEngine::submit_acknowledged() {
    const uint64_t acknowledged = acknowledged_.load();
    acknowledged_handled_ = acknowledged;
    unacknowledged_.acknowledged(acknowledged);
    const std::lock_guard lock(machine_mutex_);
    while (!held_writes_.empty() && held_writes_.front().checkpoint <= acknowledged) {
        for (auto& request : held_writes_.front().requests) submit(std::move(request));
        held_writes_.pop_front();
    }
}

}  // namespace antipode::checkpoint
