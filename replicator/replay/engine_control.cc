// What an operator does to the VM, and what a reset is: the same acts at the same exit on both
// sides.
#include <set>

#include "common/base/log.h"
#include "replicator/replay/engine.h"

namespace antipode::replay {

bool Engine::control(VmControl::Kind kind) {
    if (!inbox_.push_control(kind)) return false;
    vcpu_.kick();
    return true;
}

// Logged first: an act that ends the VM must be known to the other side as well.
Engine::Step Engine::record_control() {
    if (stretch_ && end_stretch() == Step::stop) return Step::stop;
    const auto kind = controls_pending_.front();
    controls_pending_.pop_front();
    if (kind == VmControl::Kind::line_break && !machine_.console_break()) {
        return Step::go_on;  // nobody reads this console: what was typed before is still there
    }
    append(VmControl{kind});
    if (kind == VmControl::Kind::line_break) return Step::go_on;
    if (kind == VmControl::Kind::power_off) passed_.store(exit_, std::memory_order_release);
    return apply_control(kind);
}

Engine::Step Engine::apply_control(VmControl::Kind kind) {
    switch (kind) {
        case VmControl::Kind::pause:
        case VmControl::Kind::resume:
            held_ = kind == VmControl::Kind::pause;
            held_seen_ = held_;
            return Step::go_on;
        case VmControl::Kind::reset:
            held_ = false;
            held_seen_ = false;
            return reboot();
        case VmControl::Kind::power_off:
            return finish(StopReason::powered_off, "an operator has cut its power");
        case VmControl::Kind::nmi: {
            const auto injected = vcpu_.inject_nmi();
            if (!injected) return finish(StopReason::failed, injected.error().to_string());
            in_halt_ = false;  // it wakes the guest
            return Step::go_on;
        }
        case VmControl::Kind::line_break:
            (void)machine_.console_break();
            return Step::go_on;
    }
    return Step::go_on;
}

// Recording: the VM stands at this exit; what happens outside waits, except for more such acts.
Engine::Step Engine::wait_while_held() {
    if (stand_wanted()) return Step::go_on;
    // The backup is to see it standing where this one stands.
    passed_.store(exit_, std::memory_order_release);
    wakeup_.wait(std::nullopt, [this] { return inbox_.any() || command_waits(); });
    return Step::go_on;
}

// Port 0x64 or a triple fault: a function of the guest's execution, so the log need not say it.
Engine::Step Engine::guest_reset(const std::string& text) {
    if (options_.reset == EngineOptions::Reset::reboots && vm_->boot) return reboot();
    if (mode_ == Mode::recording) {
        append(Passed{});
        passed_.store(exit_, std::memory_order_release);
    }
    return guest_ended(StopReason::guest_reset, text);
}

Engine::Step Engine::reboot() {
    submit_block_requests();
    if (wait_for_disks() == Step::stop) return Step::stop;
    for (;;) {
        const vmm::Exit exit = vcpu_.complete_access();
        if (!exit.is_counted()) break;  // what a string instruction had left to do is void
    }
    const auto restored = vm_->boot->restore(vm_->memory, machine_, vcpu_);
    if (!restored) return finish(StopReason::failed, restored.error().to_string());
    delta_filter_.forget();
    resets_total_.add();
    logger("replay").info("reset at exit {}", exit_);
    at_exit_ = true;
    in_halt_ = false;
    return Step::go_on;
}

// A site that halts holds its disks: what is waited for may come when it goes on, or never. The VM
// stands meanwhile, and whoever wants it to is told so.
void Engine::wait_for_completion() {
    if (!pause_wanted_.load()) {
        paused_seen_ = false;
    } else if (!paused_seen_.exchange(true)) {
        owner_.paused(ExitNumber(exit_));
    }
    wakeup_.wait(std::nullopt, [this] {
        return inbox_.any() || stop_wanted_.load() || pause_wanted_.load() != paused_seen_.load();
    });
}

// Requests that the guest will not hear of any more still change the disk: they end before the
// machine that made them is gone, so that their numbers can be given again.
Engine::Step Engine::wait_for_disks() {
    std::set<RequestKey> waited;
    for (const auto& request : machine_.reissue_block_requests()) {
        waited.emplace(request.device, request.number);
    }
    for (;;) {
        drain_completions();
        for (const auto& done : completions_) waited.erase(RequestKey(done.drive, done.number));
        for (const auto& [key, done] : own_completions_) waited.erase(key);
        if (waited.empty()) break;
        wait_for_completion();
        if (stop_wanted_.load()) return finish(StopReason::stopped, "");
    }
    completions_.clear();
    own_completions_.clear();
    retriable_.clear();
    return Step::go_on;
}

uint64_t Engine::request_snapshot() {
    const uint64_t number = ++snapshots_;
    snapshot_wanted_ = number;
    vcpu_.kick();
    wake();
    return number;
}

void Engine::snapshot_taken(uint64_t number) {
    snapshot_wanted_.compare_exchange_strong(number, 0);  // unless another has been asked for
    wake();
}

// Between two exits: the last one's access is complete, its events and its interrupt are in.
Engine::Step Engine::take_snapshot() {
    const uint64_t number = snapshot_wanted_.load();
    if (number == 0) return Step::go_on;  // given up meanwhile
    if (stretch_) {
        // What the guest has made by here is in the log then, and with the outputs that are held.
        if (const auto logged = log_delta(); !logged) {
            return finish(StopReason::failed, logged.error().to_string());
        }
    }
    auto state = capture_state();
    if (!state) return finish(StopReason::failed, state.error().to_string());
    (*state)->between_exits = !at_exit_ || between_exits_;
    if (!at_exit_) (*state)->in_halt = false;  // whatever it waited for has come
    (*state)->snapshot = number;
    snapshot_given_ = number;
    owner_.standing(std::move(*state));
    const auto goes_on = [&] { return snapshot_wanted_.load() != number || command_to_stop(); };
    while (!goes_on()) {
        if (dirty_wanted_.exchange(false)) report_dirty_pages();
        wakeup_.wait(std::nullopt, [&] { return goes_on() || dirty_wanted_.load(); });
    }
    return Step::go_on;
}

// A guest that waits in a HLT may come to no other exit for long. A HLT leaves nothing to complete;
// where KVM thinks otherwise, the snapshot waits for the next exit.
Engine::Step Engine::take_snapshot_here() {
    const vmm::Exit exit = vcpu_.complete_access();
    if (exit.is_counted()) return handle_exit(exit);
    return take_snapshot();
}

}  // namespace antipode::replay
