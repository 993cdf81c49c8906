// Standing at an exit: capturing the VM there, following from there, and beginning from a captured
// state.
#include <algorithm>

#include "common/base/check.h"
#include "common/base/log.h"
#include "replicator/replay/engine.h"
#include "replicator/vmm/cpu_state.h"

namespace antipode::replay {

// The VM stays at this exit: events wait, the guest is not entered. The log says that it got here,
// so a backup can be brought to exactly this point.
Engine::Step Engine::stand() {
    if (stretch_ && end_stretch() == Step::stop) return Step::stop;
    std::unique_ptr<VmState> state;
    if (capture_wanted_.exchange(false)) {
        auto captured = capture();
        if (!captured) return finish(StopReason::failed, captured.error().to_string());
        state = std::move(*captured);
    } else {
        // Whoever takes over from here is to know that it is equal.
        (void)record_digest(MonotonicClock::now());
    }
    append(Passed{});
    passed_.store(exit_, std::memory_order_release);
    owner_.standing(std::move(state));
    paused_seen_ = true;
    const auto leaves = [this] {
        return !stand_wanted_.load() || follow_wanted_.load() || command_to_stop();
    };
    while (!leaves()) {
        if (dirty_wanted_.exchange(false)) report_dirty_pages();
        wakeup_.wait(std::nullopt, [&] { return leaves() || dirty_wanted_.load(); });
    }
    paused_seen_ = false;
    if (follow_wanted_.exchange(false)) start_following();
    return Step::go_on;
}

// The exit's access is completed: a state in the middle of one cannot be restored. That can end in
// a further exit (REP INS), which is then the one we stand at.
Result<void> Engine::come_to_rest() {
    for (;;) {
        const vmm::Exit exit = vcpu_.complete_access();
        if (exit.kind == vmm::Exit::Kind::kicked) return {};
        if (!exit.is_counted()) return fail(Errc::io, "completing an access: {}", exit.detail);
        if (handle_exit(exit) == Step::stop) {
            return fail(Errc::closed, "the guest ended at the exit to stand at");
        }
    }
}

Result<std::unique_ptr<VmState>> Engine::capture() {
    FT_TRY_VOID(come_to_rest());
    block_hash_ = 0;  // whoever follows from here begins with none
    return capture_state();
}

Result<std::unique_ptr<VmState>> Engine::capture_state() {
    auto state = std::make_unique<VmState>();
    FT_TRY(const auto cpu, vmm::capture_cpu(vcpu_));
    state->cpu = vmm::saved(cpu);
    state->machine = vmm::saved(machine_);
    state->exit = ExitNumber(exit_);
    state->output = OutputNumber(output_number_);
    state->in_halt = in_halt_;
    state->held = held_;
    state->time = MonotonicClock::now();
    state->guest_clock_ns = guest_clock_ns(state->time);
    state->digest_number = digest_number_;
    state->disk_hash = block_hash_;
    return state;
}

Result<void> Engine::restore(const VmState& state, LogIndex position) {
    FT_CHECK(!thread_.joinable(), "restored while it runs");
    return take_state(state, position);
}

// Memory is in place. `reissue_` holds what is to be submitted to the disks.
Result<void> Engine::load_state(const VmState& state) {
    vmm::StateReader machine_bytes(state.machine);
    FT_TRY_VOID(machine_.load(machine_bytes));
    vmm::StateReader cpu_bytes(state.cpu);
    FT_TRY(const auto cpu, vmm::CpuState::load(cpu_bytes));
    FT_TRY_VOID(vmm::restore_cpu(vcpu_, cpu));
    exit_ = state.exit.value();
    exit_seen_.store(exit_, std::memory_order_relaxed);
    output_number_ = state.output.value();
    block_hash_ = state.disk_hash;
    in_halt_ = state.in_halt;
    between_exits_ = state.between_exits;
    held_ = state.held;
    held_seen_ = held_;
    at_exit_ = true;
    return {};
}

// The same, where this VM begins or is put right.
Result<void> Engine::take_state(const VmState& state, LogIndex position) {
    FT_TRY_VOID(load_state(state));
    digest_number_ = state.digest_number;
    verified_number_ = digest_number_;
    disk_verified_number_ = digest_number_;
    applied_index_ = position.value();
    applied_seen_.store(applied_index_, std::memory_order_relaxed);
    remember_reissued();
    reissue_ = machine_.reissue_block_requests();
    return {};
}

// Digests count from here, at both sites.
void Engine::forget_comparisons() {
    digest_number_ = 0;
    verified_number_ = 0;
    disk_verified_number_ = 0;
    block_hash_ = 0;
    interval_chunks_.clear();
    delta_filter_.forget();
    history_.forget();
    trace_.forget();
}

// What was the primary becomes the backup of the site that has consumed its log: both stand at the
// same exit, and both count exits from here.
void Engine::start_following() {
    FT_CHECK(!stretch_, "a recorder stands in a stretch");
    stretch_interrupted_ = false;
    mode_ = Mode::replaying;
    exit_ = 0;
    exit_seen_.store(0, std::memory_order_relaxed);
    reached_ = 0;
    stall_exit_.reset();  // exits are counted anew: it is not the one that was seen before
    next_entry_.reset();
    stand_wanted_ = false;
    log_closed_ = false;
    live_wanted_ = false;
    drained_reported_ = false;
    retriable_.clear();
    own_completions_.clear();
    own_outputs_.clear();
    heal_abandoned_ = false;
    forget_comparisons();
    remember_reissued();
    for (auto& completion : completions_) {
        const RequestKey key(completion.drive, completion.number);
        own_completions_.insert_or_assign(key, std::move(completion));
    }
    completions_.clear();
}

// Requests that are with the disk already: the log will say when they end.
void Engine::remember_reissued() {
    for (const auto& request : machine_.reissue_block_requests()) {
        vmm::BlockRequest copy{request.device,       request.number,       request.operation,
                               request.offset_bytes, request.length_bytes, {}};
        retriable_.emplace(RequestKey(request.device, request.number), std::move(copy));
    }
}

void Engine::report_dirty_pages() {
    if (dirty_from_start_.exchange(false)) memory_digest_.forget_sent();
    auto bitmap = memory_digest_.take_unsent(vm_->vm, vm_->memory);
    if (!bitmap) {
        logger("replay").error("dirty pages: {}", bitmap.error().to_string());
        return;
    }
    owner_.dirty_pages(std::move(*bitmap));
}

}  // namespace antipode::replay
