// The vCPU thread, its commands, and what recording and replaying share.
#include "replicator/replay/engine.h"

#include <pthread.h>
#include <xxhash.h>

#include "common/base/check.h"
#include "common/base/log.h"
#include "common/base/random.h"

namespace antipode::replay {
namespace {

constexpr uint64_t kRandomKickMicrosecondsMax = 300;
// Replaying: how often a guest that does not exit is looked at.
constexpr Duration kStallLook = std::chrono::milliseconds(100);

}  // namespace

const char* to_string(StopReason reason) {
    switch (reason) {
        case StopReason::stopped:
            return "stopped";
        case StopReason::guest_reset:
            return "guest-reset";
        case StopReason::guest_halted:
            return "guest-halted";
        case StopReason::failed:
            return "failed";
        case StopReason::diverged:
            return "diverged";
        case StopReason::powered_off:
            return "powered-off";
    }
    return "unknown";
}

Engine::Engine(std::unique_ptr<vmm::VirtualMachine> vm, EngineOptions options, LogPort& log,
               DiskPort& disk, OwnerPort& owner, Registry& metrics)
    : vm_(std::move(vm)),
      machine_(*vm_->machine),
      vcpu_(vm_->vcpu),
      options_(options),
      log_(log),
      disk_(disk),
      owner_(owner),
      history_(vm_->memory.page_count()),
      writes_(disk),
      inbox_(wakeup_, options.frames_pending_max, options.log_entries_pending_max, metrics),
      exits_total_(metrics.counter("antipode_exits_total", "Counted guest exits")),
      injections_total_(metrics.counter("antipode_interrupts_total", "Interrupts injected")),
      kicks_total_(metrics.counter("antipode_kicks_total", "Uncounted returns from the guest")),
      ticks_dropped_total_(
          metrics.counter("antipode_timer_ticks_dropped_total",
                          "Timer ticks dropped because the guest was too far behind")),
      log_waits_total_(metrics.counter("antipode_log_waits_total",
                                       "Times the guest waited for room in the log")),
      deltas_total_(metrics.counter("antipode_deltas_total",
                                    "Stretches of execution sent as state instead of replayed")),
      delta_pages_total_(metrics.counter("antipode_delta_pages_total", "Pages sent in deltas")),
      delta_pages_skipped_total_(
          metrics.counter("antipode_delta_pages_skipped_total",
                          "Pages written before a delta that the backup had already")),
      resets_total_(metrics.counter("antipode_resets_total", "Times the VM was reset")),
      stretches_total_(
          metrics.counter("antipode_stretches_total", "Times the log began to go by deltas")),
      heals_total_(
          metrics.counter("antipode_heals_total", "Times a backup that differed was made equal")),
      healed_pages_total_(metrics.counter("antipode_healed_pages_total", "Pages put right")) {}

Engine::~Engine() {
    stop();
}

void Engine::start_recording(uint64_t guest_clock_ns) {
    guest_clock_base_ns_ =
        MonotonicClock::now().time_since_epoch().count() - static_cast<int64_t>(guest_clock_ns);
    clock_pacer_.start(guest_clock_ns);
    start(Mode::recording);
}

void Engine::start_replaying() {
    // Where the VM begins is a place like an exit: the primary may have been kicked before its
    // first one, and a delta of there comes before anything is run here.
    if (exit_ == 0) at_exit_ = true;
    start(Mode::replaying);
}

void Engine::start(Mode mode) {
    FT_CHECK(!thread_.joinable(), "engine started twice");
    mode_ = mode;
    // What is in memory before the start is the same at both sites.
    accept_verified();
    thread_ = std::thread([this] { main(); });
    if (kick_seed_ != 0) kicker_ = std::thread([this] { kicker(); });
}

void Engine::stop() {
    stop_wanted_ = true;
    if (!thread_.joinable()) return;
    vcpu_.kick();
    wake();
    // The kicker ends when the vCPU thread has; it must not signal a thread that is joined already.
    if (kicker_.joinable()) kicker_.join();
    thread_.join();
}

void Engine::pause() {
    pause_wanted_ = true;
    vcpu_.kick();
    wake();
}

void Engine::resume() {
    pause_wanted_ = false;
    stand_wanted_ = false;
    wake();
}

void Engine::pause_at_exit(Capture capture) {
    capture_wanted_ = capture == Capture::yes;
    stand_wanted_ = true;
    vcpu_.kick();
    wake();
}

void Engine::follow() {
    follow_wanted_ = true;
    wake();
}

void Engine::request_dirty_pages(Since since) {
    if (since == Since::ever) dirty_from_start_ = true;
    dirty_wanted_ = true;
    vcpu_.kick();
    wake();
}

std::optional<uint64_t> Engine::turns() const {
    if (!thread_.joinable() || finished_.load()) return std::nullopt;
    return turns_.load(std::memory_order_relaxed) + wakeup_.waits();
}

void Engine::prod() {
    vcpu_.kick();
    wake();
}

void Engine::kicker() {
    Random random(kick_seed_);
    while (!finished_.load()) {
        std::this_thread::sleep_for(
            std::chrono::microseconds(random.between(1, kRandomKickMicrosecondsMax)));
        vcpu_.kick();
    }
}

void Engine::main() {
    pthread_setname_np(pthread_self(), "vcpu0");
    vcpu_.attach_thread();
    if (const auto made = kick_timer_.create(); !made) {
        logger("replay").warn("no kick timer, a busy guest gets its events late: {}",
                              made.error().to_string());
    }
    for (auto& request : std::exchange(reissue_, {})) disk_.submit(std::move(request));
    while (obey_commands() == Step::go_on && step() == Step::go_on) {
        turns_.store(turns_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    }
    finished_ = true;
    vcpu_.detach_thread();
}

bool Engine::command_waits() const {
    return stop_wanted_.load() || pause_wanted_.load() || dirty_wanted_.load() || stand_wanted() ||
           snapshot_here();
}

Engine::Step Engine::obey_commands() {
    while (pause_wanted_.load() && !stop_wanted_.load()) {
        if (!paused_seen_.exchange(true)) owner_.paused(ExitNumber(exit_));
        wakeup_.wait(std::nullopt, [this] { return stop_wanted_.load() || !pause_wanted_.load(); });
    }
    paused_seen_ = false;
    if (stop_wanted_.load()) return finish(StopReason::stopped, "");
    if (dirty_wanted_.exchange(false)) report_dirty_pages();
    if (heal_asked_.load() && mode_ == Mode::recording && at_exit_) {
        if (stand_for_heal() == Step::stop) return Step::stop;
    }
    if (stand_wanted_.load() && mode_ == Mode::recording && at_exit_) return stand();
    if (snapshot_here()) return take_snapshot_here();
    return Step::go_on;
}

Engine::Step Engine::finish(StopReason reason, std::string text) {
    finished_early_ = true;
    owner_.stopped(reason, text);
    return Step::stop;
}

Engine::Step Engine::step() {
    if (at_exit_) {
        const Step result = mode_ == Mode::recording ? record_events() : replay_events();
        if (result == Step::stop || at_exit_) return result;
    }
    return run_guest();
}

Engine::Step Engine::run_guest() {
    if (mode_ == Mode::recording) {
        throttle();
        if (stretch_) {
            stretch_->changed = true;
        } else if (std::exchange(delta_turn_exit_, exit_) != exit_ && delta_forced()) {
            return record_delta_here(Delta::always);
        }
    }
    const Duration look = mode_ == Mode::recording ? options_.kick_deadline : kStallLook;
    if (!kick_armed_ && look > Duration::zero()) {
        kick_timer_.arm(look);
        kick_armed_ = true;
    }
    // For a snapshot the last exit's access is completed first; that may end in a further exit.
    const bool snapshot = snapshot_now();
    const vmm::Exit exit = snapshot ? vcpu_.complete_access() : vcpu_.run();
    if (exit.is_counted()) return handle_exit(exit);
    ran_since_exit_ = true;
    ++kicks_since_exit_;
    switch (exit.kind) {
        case vmm::Exit::Kind::shutdown:
            ++exit_;  // counted like one that we asked for: both sides come by here
            exit_seen_.store(exit_, std::memory_order_relaxed);
            return guest_reset("triple fault");
        case vmm::Exit::Kind::failure:
            return guest_ended(StopReason::failed, exit.detail);
        default:
            if (snapshot) return take_snapshot();
            kicks_total_.add();
            return mode_ == Mode::recording ? record_kick() : replay_kick();
    }
}

Engine::Step Engine::handle_exit(const vmm::Exit& exit) {
    ++exit_;
    exit_seen_.store(exit_, std::memory_order_relaxed);
    exits_total_.add();
    trace_.add(ExitNumber(exit_), exit);
    in_halt_ = exit.kind == vmm::Exit::Kind::halt;
    machine_.emulate(exit, *this, vcpu_);
    at_exit_ = true;
    if (!input_error_.empty()) {
        const Step step = begin_heal(Trouble::stuck, std::exchange(input_error_, {}));
        if (step == Step::stop) return step;
    }
    if (mode_ == Mode::recording) {
        record_outputs();
    } else {
        replay_outputs();
    }
    submit_block_requests();
    const bool reset = machine_.condition() == vmm::Machine::Condition::reset_requested;
    const bool dead = in_halt_ && vcpu_.shared().if_flag == 0;
    if (observer_) observer_(ExitNumber(exit_), *vm_, exit);
    if (!reset && !dead) return Step::go_on;
    if (reset) return guest_reset("the guest asked for a reset");
    if (mode_ == Mode::recording) {
        append(Passed{});
        passed_.store(exit_, std::memory_order_release);
    }
    return guest_ended(StopReason::guest_halted, "HLT with interrupts off");
}

// The guest will not run again. In replay that may be a divergence: then the log goes on.
Engine::Step Engine::guest_ended(StopReason reason, const std::string& text) {
    if (stretch_ && reason != StopReason::failed && announce_end() == Step::stop) return Step::stop;
    if (mode_ == Mode::recording || options_.healing == EngineOptions::Healing::off) {
        return finish(reason, text);
    }
    ended_reason_ = reason;
    if (healing_) {
        healing_->trouble = Trouble::ended;
        return Step::go_on;
    }
    ended_text_ = text;
    ended_ = true;
    at_exit_ = true;
    return Step::go_on;
}

// The last act at an exit, the same on both sides: a function of machine and vCPU alone.
Engine::Step Engine::inject() {
    at_exit_ = false;
    ran_since_exit_ = false;
    kicks_since_exit_ = 0;
    if (std::exchange(between_exits_, false)) return Step::go_on;
    if (!machine_.interrupt_pending() || !vcpu_.can_inject()) return Step::go_on;
    const auto injected = vcpu_.inject(machine_.acknowledge_interrupt());
    if (!injected) return finish(StopReason::failed, injected.error().to_string());
    injections_total_.add();
    return Step::go_on;
}

void Engine::submit_block_requests() {
    for (auto& request : machine_.take_block_requests()) {
        note_block_request(request);
        if (stretch_) collect_write(request);
        if (mode_ == Mode::replaying) {
            vmm::BlockRequest copy{request.device,       request.number,       request.operation,
                                   request.offset_bytes, request.length_bytes, {}};
            retriable_.emplace(RequestKey(request.device, request.number), std::move(copy));
        }
        disk_.submit(std::move(request));
    }
}

uint64_t Engine::read(vmm::InputKind kind) {
    if (mode_ == Mode::replaying) return replay_input(kind);
    const uint64_t value = sample(kind);
    append_event(InputRead{kind, value});
    return value;
}

uint64_t Engine::guest_clock_ns(Instant now) const {
    return static_cast<uint64_t>(now.time_since_epoch().count() - guest_clock_base_ns_.load());
}

// Registers by value, without what the processor stores nondeterministically (x87 instruction and
// data pointers).
Result<DigestMark> Engine::digest() {
    FT_TRY(const kvm_regs regs, vcpu_.regs());
    FT_TRY(const kvm_sregs sregs, vcpu_.sregs());
    kvm_fpu fpu{};
    FT_TRY_VOID(vmm::kvm_ioctl(vcpu_.fd(), KVM_GET_FPU, &fpu, "KVM_GET_FPU"));
    fpu.last_opcode = 0;
    fpu.last_ip = 0;
    fpu.last_dp = 0;
    DigestMark mark;
    mark.cpu = XXH3_64bits(&regs, sizeof regs) * 3 + XXH3_64bits(&sregs, sizeof sregs) * 5 +
               XXH3_64bits(&fpu, sizeof fpu);
    last_registers_ = register_values(regs, sregs);
    mark.disk = block_hash_;
    const auto state = vmm::saved(machine_);
    mark.devices = XXH3_64bits(state.data(), state.size());
    FT_TRY(mark.memory, memory_digest_.update(vm_->vm, vm_->memory));
    return mark;
}

bool Engine::frame_received(uint32_t interface, std::vector<std::byte> bytes) {
    return inbox_.push_frame(interface, std::move(bytes));
}

bool Engine::console_input(std::vector<std::byte> bytes) {
    return inbox_.push_console(std::move(bytes));
}

void Engine::block_done(uint32_t drive, uint64_t number, vmm::BlockStatus status,
                        std::vector<std::byte> data) {
    inbox_.push_block({drive, number, status, std::move(data)});
}

}  // namespace antipode::replay
