// The engine's thread, its commands, and the vCPUs' exits.
#include "replicator/checkpoint/checkpoint_engine.h"

#include <algorithm>
#include <pthread.h>

#include "common/base/check.h"
#include "common/base/log.h"
#include "replicator/replay/host_inputs.h"

namespace antipode::checkpoint {
namespace {

// What the guest may have sent out that is neither logged nor in a checkpoint.
constexpr size_t kMadeBytesMax = 8 << 20;

}  // namespace

CheckpointEngine::CheckpointEngine(std::unique_ptr<vmm::VirtualMachine> vm,
                                   CheckpointOptions options, replay::LogPort& log,
                                   replay::DiskPort& disk, replay::OwnerPort& owner,
                                   Registry& metrics)
    : vm_(std::move(vm)),
      machine_(*vm_->machine),
      options_(options),
      log_(log),
      disk_(disk),
      owner_(owner),
      group_(vm_->vcpus(),
             [this](size_t vcpu, const vmm::Exit& exit) { return service(vcpu, exit); }),
      interval_(options.interval),
      table_(vm_->memory.page_count()),
      assembler_(vm_->memory.page_count()),
      unacknowledged_(options),
      writes_(disk),
      inbox_(wakeup_, options.frames_pending_max, options.log_entries_pending_max, metrics),
      exits_total_(metrics.counter("antipode_exits_total", "Counted guest exits")),
      checkpoints_total_(metrics.counter("antipode_checkpoints_total", "Checkpoints taken")),
      pages_total_(metrics.counter("antipode_checkpoint_pages_total", "Pages sent in checkpoints")),
      pages_unchanged_total_(
          metrics.counter("antipode_checkpoint_pages_unchanged_total",
                          "Pages that were written and held what the backup has")),
      bytes_total_(metrics.counter("antipode_checkpoint_bytes_total", "Bytes of checkpoints")),
      pause_seconds_(metrics.histogram("antipode_checkpoint_pause_seconds",
                                       "How long the guest stood for a checkpoint",
                                       delay_bounds_seconds())) {
    auto captured = capture_vcpus();
    if (captured) {
        boot_state_ = std::move(*captured);
        state_ = boot_state_;
    } else {
        vcpu_failure_ = captured.error().to_string();
        vcpu_failed_ = true;
    }
}

CheckpointEngine::~CheckpointEngine() {
    stop();
}

void CheckpointEngine::start_recording(uint64_t guest_clock_ns) {
    guest_clock_base_ns_ =
        MonotonicClock::now().time_since_epoch().count() - static_cast<int64_t>(guest_clock_ns);
    start(Mode::recording);
}

void CheckpointEngine::start_replaying() {
    start(Mode::replaying);
}

void CheckpointEngine::start(Mode mode) {
    FT_CHECK(!thread_.joinable(), "engine started twice");
    mode_ = mode;
    thread_ = std::thread([this] { main(); });
}

void CheckpointEngine::stop() {
    stop_wanted_ = true;
    if (!thread_.joinable()) return;
    wake();
    thread_.join();
}

void CheckpointEngine::pause() {
    pause_wanted_ = true;
    wake();
}

void CheckpointEngine::resume() {
    pause_wanted_ = false;
    stand_wanted_ = false;
    wake();
}

void CheckpointEngine::pause_at_exit(Capture capture) {
    capture_wanted_ = capture == Capture::yes;
    stand_wanted_ = true;
    wake();
}

void CheckpointEngine::follow() {
    follow_wanted_ = true;
    wake();
}

void CheckpointEngine::request_dirty_pages(Since since) {
    if (since == Since::ever) dirty_from_start_ = true;
    dirty_wanted_ = true;
    wake();
}

uint64_t CheckpointEngine::request_snapshot() {
    const uint64_t number = ++snapshots_;
    snapshot_wanted_ = number;
    wake();
    return number;
}

void CheckpointEngine::snapshot_taken(uint64_t number) {
    snapshot_wanted_.compare_exchange_strong(number, 0);  // unless another has been asked for
    wake();
}

void CheckpointEngine::protect(Protection protection) {
    protection_wanted_ = protection;
    wake();
}

void CheckpointEngine::acknowledged(ExitNumber checkpoint) {
    acknowledged_ = checkpoint.value();
    {
        const std::lock_guard lock(status_mutex_);
        while (!on_the_way_.empty() && on_the_way_.front().first <= checkpoint.value()) {
            on_the_way_.pop_front();
        }
    }
    wake();
}

std::optional<replay::CheckpointStatus> CheckpointEngine::checkpoint_status() const {
    const std::lock_guard lock(status_mutex_);
    auto status = status_;
    status.acknowledged = acknowledged_.load();
    if (!on_the_way_.empty())
        status.oldest_age = MonotonicClock::now() - on_the_way_.front().second;
    return status;
}

uint64_t CheckpointEngine::guest_clock_ns(Instant now) const {
    return static_cast<uint64_t>(now.time_since_epoch().count() - guest_clock_base_ns_.load());
}

bool CheckpointEngine::frame_received(uint32_t interface, std::vector<std::byte> bytes) {
    return inbox_.push_frame(interface, std::move(bytes));
}

bool CheckpointEngine::console_input(std::vector<std::byte> bytes) {
    return inbox_.push_console(std::move(bytes));
}

bool CheckpointEngine::control(replay::VmControl::Kind kind) {
    return inbox_.push_control(kind);
}

void CheckpointEngine::block_done(uint32_t drive, uint64_t number, vmm::BlockStatus status,
                                  std::vector<std::byte> data) {
    inbox_.push_block({drive, number, status, std::move(data)});
}

void CheckpointEngine::main() {
    pthread_setname_np(pthread_self(), "checkpoints");
    if (vcpu_failed_) {
        (void)finish(replay::StopReason::failed, vcpu_failure_);
        return;
    }
    if (mode_ == Mode::recording) {
        route_lines();
        if (restored_) {
            if (const auto taken_up = take_up(); !taken_up) {
                (void)finish(replay::StopReason::failed, taken_up.error().to_string());
                return;
            }
        }
        // Both sites have built the same image.
        if (protection_wanted_.load() == Protection::on) begin_protection(Baseline::same);
    } else {
        find_writes();
    }
    group_.start();
    for (;;) {
        if (obey_commands() == Step::stop) break;
        if ((mode_ == Mode::recording ? record() : follow_log()) == Step::stop) break;
    }
    group_.stop();
}

void CheckpointEngine::make_stand() {
    if (standing_) return;
    group_.pause();
    standing_ = true;
}

void CheckpointEngine::let_run() {
    if (!standing_ || held_ || resetting_ || mode_ != Mode::recording) return;
    standing_ = false;
    group_.resume();
}

// The kernel's controllers take the lines from here.
void CheckpointEngine::route_lines() {
    machine_.route_lines([this](uint8_t number, bool level) {
        kvm_irq_level line{};
        line.irq = number;
        line.level = level ? 1 : 0;
        const auto set = vmm::kvm_ioctl(vm_->vm.fd(), KVM_IRQ_LINE, &line, "KVM_IRQ_LINE");
        FT_CHECK(set.has_value(), "{}", set.error().to_string());
    });
}

CheckpointEngine::Step CheckpointEngine::finish(replay::StopReason reason,
                                                const std::string& text) {
    make_stand();
    owner_.stopped(reason, text);
    return Step::stop;
}

bool CheckpointEngine::command_waits() const {
    return stop_wanted_.load() || pause_wanted_.load() || dirty_wanted_.load() ||
           (mode_ == Mode::recording &&
            ((stand_wanted_.load() && !resetting_) || snapshot_wanted()));
}

// A VM that is held or being reset is not what somebody wants a copy of: it waits. So does one at
// the backup whose disk lacks writes that the guest takes for done.
bool CheckpointEngine::snapshot_wanted() const {
    const uint64_t wanted = snapshot_wanted_.load();
    return wanted != 0 && wanted != snapshot_given_ && !held_ && !resetting_ &&
           !reset_asked_.load();
}

CheckpointEngine::Step CheckpointEngine::obey_commands() {
    while (pause_wanted_.load() && !stop_wanted_.load()) {
        make_stand();
        if (!paused_seen_.exchange(true)) owner_.paused(ExitNumber(number_));
        wakeup_.wait(std::nullopt, [this] { return stop_wanted_.load() || !pause_wanted_.load(); });
    }
    paused_seen_ = false;
    if (stop_wanted_.load()) return finish(replay::StopReason::stopped, "");
    if (dirty_wanted_.exchange(false)) report_dirty_pages();
    if (mode_ == Mode::replaying) return Step::go_on;
    // A VM that is being reset stands when it has booted.
    if (stand_wanted_.load() && !resetting_) return stand();
    if (snapshot_wanted()) return stand_for_snapshot();
    let_run();
    return Step::go_on;
}

// For a hand-over or the cut of a seed. What was made before belongs to what came before: it is in
// a last checkpoint, or has left.
CheckpointEngine::Step CheckpointEngine::stand() {
    make_stand();
    std::unique_ptr<replay::VmState> state;
    if (capture_wanted_.exchange(false)) {
        end_protection();
        if (drain_outputs() == Step::stop) return Step::stop;
        auto captured = capture_state();
        if (!captured) return finish(replay::StopReason::failed, captured.error().to_string());
        state = std::move(*captured);
        protection_wanted_ = Protection::on;
        begin_protection(Baseline::being_sent);  // asked for while it stands here
    } else if (protected_ && take_checkpoint(Then::stand) == Step::stop) {
        return Step::stop;
    }
    owner_.standing(std::move(state));
    paused_seen_ = true;
    const auto leaves = [this] {
        return !stand_wanted_.load() || follow_wanted_.load() || stop_wanted_.load() ||
               pause_wanted_.load();
    };
    while (!leaves()) {
        if (dirty_wanted_.exchange(false)) report_dirty_pages();
        wakeup_.wait(std::nullopt, [&] { return leaves() || dirty_wanted_.load(); });
    }
    paused_seen_ = false;
    return follow_wanted_.exchange(false) ? start_following() : Step::go_on;
}

// Recording: behind a checkpoint, so that what the guest has made by now is in the log, or has
// left. Replaying: at the last one. Whoever follows the log does not notice.
CheckpointEngine::Step CheckpointEngine::stand_for_snapshot() {
    const uint64_t number = snapshot_wanted_.load();
    if (number == 0) return Step::go_on;  // given up meanwhile
    make_stand();
    if (mode_ == Mode::recording) {
        const Step logged = protected_ ? take_checkpoint(Then::stand) : drain_outputs();
        if (logged == Step::stop) return Step::stop;
    }
    auto state = capture_state();
    if (!state) return finish(replay::StopReason::failed, state.error().to_string());
    (*state)->snapshot = number;
    snapshot_given_ = number;
    owner_.standing(std::move(*state));
    const auto leaves = [&] {
        return snapshot_wanted_.load() != number || stop_wanted_.load() || pause_wanted_.load();
    };
    while (!leaves()) {
        if (dirty_wanted_.exchange(false)) report_dirty_pages();
        wakeup_.wait(std::nullopt, [&] { return leaves() || dirty_wanted_.load(); });
    }
    return Step::go_on;
}

// The TSC first, right after the caller has read the guest's clock: the two go on together.
Result<vmm::SmpState> CheckpointEngine::capture_vcpus() {
    std::optional<vmm::TscState> tsc;
    if (vm_->tsc) {
        FT_TRY(tsc, vmm::capture_tsc(group_.vcpus()));
    }
    FT_TRY(auto state, vmm::capture_smp(vm_->vm, group_.vcpus()));
    state.tsc = std::move(tsc);
    return state;
}

// A backup's are in no vCPU before it goes live.
Result<vmm::SmpState> CheckpointEngine::capture_cpus() {
    if (mode_ == Mode::replaying) return state_;
    return capture_vcpus();
}

// Whether a VM that stood there can go on here.
Result<void> CheckpointEngine::check_tsc(const vmm::SmpState& state) const {
    if (state.tsc.has_value() != vm_->tsc.has_value()) {
        return fail(Errc::invalid_argument,
                    "vCPUs' state: {} a TSC that goes on, and machine-config.tsc of this VM is {}",
                    state.tsc ? "has" : "does not have", vm_->tsc ? "live" : "hidden");
    }
    if (!state.tsc) return {};
    return vmm::check_tsc(*vm_->tsc, *state.tsc);
}

Result<std::unique_ptr<replay::VmState>> CheckpointEngine::capture_state() {
    const std::lock_guard lock(machine_mutex_);
    auto state = std::make_unique<replay::VmState>();
    state->time = MonotonicClock::now();
    FT_TRY(const auto cpus, capture_cpus());
    state->cpu = vmm::saved(cpus);
    state->machine = vmm::saved(machine_);
    state->exit = ExitNumber(number_);
    state->output = OutputNumber(output_number_);
    state->held = held_;
    state->guest_clock_ns =
        mode_ == Mode::recording ? guest_clock_ns(state->time) : state_clock_ns_;
    return state;
}

// `state_` and the devices become the VM. Requests that were in flight are issued again: reads were
// not executed, or not to the end, and writes do no harm twice.
Result<void> CheckpointEngine::take_up() {
    const std::lock_guard lock(machine_mutex_);
    FT_TRY_VOID(vmm::restore_smp(vm_->vm, group_.vcpus(), state_));
    if (state_.tsc) {
        const Duration since(
            static_cast<int64_t>(guest_clock_ns(MonotonicClock::now()) - state_clock_ns_));
        FT_TRY_VOID(vmm::continue_tsc(*vm_->tsc, group_.vcpus(), *state_.tsc, since));
    }
    route_lines();
    machine_.repeat_lines();
    reset_asked_ = machine_.condition() == vmm::Machine::Condition::reset_requested;
    with_disk_ = 0;
    for (auto& request : machine_.reissue_block_requests()) submit(std::move(request));
    return {};
}

Result<void> CheckpointEngine::restore(const replay::VmState& state, LogIndex position) {
    FT_CHECK(!thread_.joinable(), "restored while it runs");
    vmm::StateReader cpu_bytes(state.cpu);
    FT_TRY(state_, vmm::SmpState::load(cpu_bytes, group_.vcpus().size()));
    FT_TRY_VOID(check_tsc(state_));
    vmm::StateReader machine_bytes(state.machine);
    FT_TRY_VOID(machine_.load(machine_bytes));
    number_ = state.exit.value();
    number_seen_ = number_;
    assembler_.restart_after(number_);
    output_number_ = state.output.value();
    held_ = state.held;
    held_seen_ = held_;
    state_clock_ns_ = state.guest_clock_ns;
    restored_ = true;
    applied_index_ = position.value();
    applied_seen_ = applied_index_;
    return {};
}

Result<void> CheckpointEngine::collect_dirty() {
    auto& own = vm_->memory.vmm_dirty();
    fresh_.assign(own.begin(), own.end());
    std::fill(own.begin(), own.end(), 0);
    FT_TRY_VOID(vm_->vm.collect_dirty(fresh_));
    dirty_.resize(fresh_.size());
    unreported_.resize(fresh_.size());
    for (size_t i = 0; i < fresh_.size(); ++i) {
        dirty_[i] |= fresh_[i];
        unreported_[i] |= fresh_[i];
    }
    return {};
}

void CheckpointEngine::report_dirty_pages() {
    const std::lock_guard lock(machine_mutex_);
    if (const auto collected = collect_dirty(); !collected) {
        logger("checkpoint").error("dirty pages: {}", collected.error().to_string());
        return;
    }
    if (dirty_from_start_.exchange(false)) std::ranges::fill(unreported_, ~uint64_t{0});
    owner_.dirty_pages(unreported_);
    std::ranges::fill(unreported_, 0);
}

// ---- On the vCPUs' threads ----

VcpuGroup::After CheckpointEngine::service(size_t vcpu, const vmm::Exit& exit) {
    exits_total_.add();
    if (exit.kind == vmm::Exit::Kind::failure) {
        const std::lock_guard lock(machine_mutex_);
        vcpu_failure_ = fmt::format("vCPU {}: {}", vcpu, exit.detail);
        vcpu_failed_ = true;
        wake();
        return VcpuGroup::After::stand;
    }
    if (exit.kind == vmm::Exit::Kind::shutdown) {
        reset_asked_ = true;
        wake();
        return VcpuGroup::After::stand;
    }
    bool tell = frames_blocked_.load();
    bool stands = false;
    {
        const std::lock_guard lock(machine_mutex_);
        machine_.emulate(exit, *this);
        take_requests();
        for (auto& output : machine_.take_outputs()) {
            made_bytes_ += output.bytes.size();
            made_.push_back(std::move(output));
        }
        const bool waits = !made_.empty() || !new_writes_.empty();
        if (waits && !something_waits_.exchange(true)) tell = true;
        if (made_bytes_ > kMadeBytesMax) {
            crowded_ = true;
            stands = true;
        }
        if (machine_.condition() == vmm::Machine::Condition::reset_requested) {
            reset_asked_ = true;
            stands = true;
        }
    }
    if (tell || stands) wake();
    return stands ? VcpuGroup::After::stand : VcpuGroup::After::go_on;
}

// Under machine_mutex_, while an exit is emulated.
uint64_t CheckpointEngine::read(vmm::InputKind kind) {
    switch (kind) {
        case vmm::InputKind::pm_timer:
            return replay::pm_timer_ticks(guest_clock_ns(MonotonicClock::now()));
        case vmm::InputKind::wall_clock:
            return replay::wall_clock_seconds();
        case vmm::InputKind::entropy:
            return replay::host_entropy();
        case vmm::InputKind::pit_counter:
            return 0;  // the interval timer is in the kernel
    }
    return 0;
}

}  // namespace antipode::checkpoint
