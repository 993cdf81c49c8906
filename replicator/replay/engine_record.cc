// Recording: events are applied at exits and logged.
#include <algorithm>
#include <chrono>

#include "common/base/check.h"
#include "common/base/log.h"
#include "replicator/replay/engine.h"
#include "replicator/replay/host_inputs.h"
#include "replicator/vmm/cpu_state.h"

namespace antipode::replay {
namespace {

constexpr Duration kThrottleSlice = std::chrono::milliseconds(2);
constexpr Duration kThrottleWaitMax = std::chrono::milliseconds(100);
constexpr int kDigestCostRatio = 100;  // a digest takes at most a hundredth of the time
constexpr Duration kDigestIntervalMax = std::chrono::seconds(30);

}  // namespace

void Engine::append(LogEntry::Body body, OutputNumber number, vmm::Output output) {
    if (cut_off_) return;
    Recorded step{LogEntry{ExitNumber(exit_), std::move(body)}, number, std::move(output),
                  MonotonicClock::now()};
    if (log_.record(std::move(step))) return;
    log_waits_total_.add();
    bool pushed = false;
    while (!pushed && !stop_wanted_.load()) {
        wakeup_.wait(std::nullopt, [&] {
            pushed = log_.record(std::move(step));
            return pushed || stop_wanted_.load();
        });
    }
    cut_off_ = !pushed;
}

// What a backup that executes has to be told. In a stretch nobody does.
void Engine::append_event(LogEntry::Body body) {
    if (!stretch_) append(std::move(body));
}

uint64_t Engine::sample(vmm::InputKind kind) {
    const Instant now = MonotonicClock::now();
    switch (kind) {
        case vmm::InputKind::pm_timer:
            return pm_timer_ticks(clock_pacer_.reading(guest_clock_ns(now)));
        case vmm::InputKind::pit_counter:
            return timer_.counter_ticks(now);
        case vmm::InputKind::wall_clock:
            return wall_clock_seconds();
        case vmm::InputKind::entropy:
            return host_entropy();
    }
    return 0;
}

void Engine::set_run_share(double share) {
    run_share_permille_.store(static_cast<uint32_t>(std::clamp(share, 0.001, 1.0) * 1000),
                              std::memory_order_relaxed);
}

// Between two entries of the guest: after each slice that it ran, it waits as long as its share
// asks. A guest that does not exit is brought here by its kick timer.
void Engine::throttle() {
    const uint32_t share = run_share_permille_.load(std::memory_order_relaxed);
    if (share >= 1000) {
        slice_begin_.reset();
        return;
    }
    const Instant now = MonotonicClock::now();
    if (!slice_begin_) slice_begin_ = now;
    const Duration ran = now - *slice_begin_;
    if (ran < kThrottleSlice) return;
    const Instant until = now + std::min<Duration>(ran * (1000 - share) / share, kThrottleWaitMax);
    while (MonotonicClock::now() < until && !command_waits()) {
        wakeup_.wait(until, [this] { return command_waits(); });
    }
    slice_begin_.reset();
}

void Engine::record_outputs() {
    if (!machine_.has_outputs()) return;
    for (auto& output : machine_.take_outputs()) {
        if (stretch_) {
            stretch_->held_bytes += output.bytes.size();
            stretch_->outputs.push_back(std::move(output));
            continue;
        }
        const uint32_t checksum = output_checksum(output.bytes);
        append(OutputMark{checksum}, OutputNumber(++output_number_), std::move(output));
    }
}

void Engine::drain_completions() {
    if (!inbox_.any()) return;
    auto items = inbox_.take();
    for (auto& block : items.blocks) {
        if (mode_ == Mode::recording) {
            completions_.push_back(std::move(block));
        } else if (following_) {
            const auto text =
                fmt::format("drive {}: a write fails here and not at the primary", block.drive);
            const auto end = writes_.ended(std::move(block), MonotonicClock::now());
            if (end == WriteQueue::End::failed) owner_.replay_disk_error(text);
        } else {
            const RequestKey key(block.drive, block.number);
            own_completions_.insert_or_assign(key, std::move(block));
        }
    }
    controls_pending_.insert(controls_pending_.end(), items.controls.begin(), items.controls.end());
    for (auto& text : items.consoles) console_pending_.push_back(std::move(text));
}

// One event at most; true in `applied` if there was one.
Engine::Step Engine::record_one_event(Instant now, bool& applied) {
    applied = true;
    if (!controls_pending_.empty()) return record_control();
    if (held_) {
        applied = false;
        return Step::go_on;
    }
    if (!completions_.empty()) {
        const BlockCompletion done = std::move(completions_.front());
        completions_.pop_front();
        append_event(BlockDone{done.drive, done.number, done.status});
        delta_filter_.forget();
        machine_.complete_block(done.drive, done.number, done.status, done.data);
        submit_block_requests();
        return Step::go_on;
    }
    if (auto frame = inbox_.frames.pop()) {
        if (!machine_.can_receive_frame(frame->interface)) {
            inbox_.drop_frame();
            return Step::go_on;
        }
        machine_.receive_frame(frame->interface, frame->bytes);
        delta_filter_.forget();
        append_event(FrameReceived{frame->interface, std::move(frame->bytes)});
        return Step::go_on;
    }
    if (!console_pending_.empty()) {
        auto text = std::move(console_pending_.front());
        console_pending_.pop_front();
        const size_t taken = machine_.console_input(text);
        if (taken > 0) {
            append_event(
                ConsoleInput{{text.begin(), text.begin() + static_cast<ptrdiff_t>(taken)}});
        }
        if (taken < text.size()) {
            text.erase(text.begin(), text.begin() + static_cast<ptrdiff_t>(taken));
            console_pending_.push_front(std::move(text));
            applied = taken > 0;
        }
        return Step::go_on;
    }
    if (timer_.due(now) && !machine_.timer_pending()) {
        append_event(TimerTick{});
        clock_pacer_.tick(guest_clock_ns(now));
        machine_.timer_tick();
        timer_.delivered(now);
        timer_.follow(machine_.timer_schedule(), now);
        return Step::go_on;
    }
    applied = false;
    return Step::go_on;
}

Engine::Step Engine::record_events() {
    const Instant now = MonotonicClock::now();
    timer_.follow(machine_.timer_schedule(), now);
    drain_completions();
    for (bool applied = true; applied;) {
        const bool tick = completions_.empty() && inbox_.frames.empty() && console_pending_.empty();
        if (record_one_event(now, applied) == Step::stop) return Step::stop;
        if (stretch_ && applied) stretch_->changed = true;
        if (tick) break;  // at most one tick an exit
    }
    if (held_) return wait_while_held();
    if (stretch_change_wanted()) return change_stretch();
    if (const auto due = delta_due(); due && *due <= now) return take_delta();
    if (in_halt_ && !machine_.interrupt_pending()) return wait_in_halt(now);
    if (stand_wanted()) return Step::go_on;  // obey_commands stands at this exit
    if (!stretch_) {
        record_digest_if_due(now);
        passed_.store(exit_, std::memory_order_release);
    }
    return inject();
}

// The exit is not over: more events may be applied to it.
Engine::Step Engine::wait_in_halt(Instant now) {
    auto until = timer_.next();
    if (const auto due = delta_due(); due && (!until || *due < *until)) until = due;
    wakeup_.wait(until, [this] {
        return inbox_.any() || !inbox_.frames.empty() || command_waits() ||
               stretch_change_wanted() ||
               (stretch_ && acknowledged_.load() != acknowledged_handled_);
    });
    halted_ns_.fetch_add((MonotonicClock::now() - now).count(), std::memory_order_relaxed);
    slice_begin_.reset();  // an idle guest has its share
    return Step::go_on;
}

bool Engine::events_wait(Instant now) const {
    return !completions_.empty() || !controls_pending_.empty() || inbox_.any() ||
           !inbox_.frames.empty() || !console_pending_.empty() ||
           (timer_.due(now) && !machine_.timer_pending()) || machine_.interrupt_pending();
}

// The guest was interrupted at no exit. If it has not exited since the last time, and something
// waits for it, this point is made one that the backup can reach: by a delta.
Engine::Step Engine::record_kick() {
    kick_armed_ = false;
    const bool busy = exit_at_kick_ == exit_;
    exit_at_kick_ = exit_;
    if (stop_wanted_.load() || pause_wanted_.load()) return Step::go_on;
    drain_completions();
    if (stretch_) return stretch_kick(busy);
    if (delta_forced()) return record_delta_here(Delta::always);
    // What stands the VM or acts on it must come through, whatever the guest does.
    const bool forced = stand_wanted() || !controls_pending_.empty() || stretch_change_wanted();
    if (!forced) {
        if (!busy || options_.kick_deadline <= Duration::zero()) return Step::go_on;
        if (!events_wait(MonotonicClock::now())) return Step::go_on;
    } else if (!busy) {
        return Step::go_on;  // it exits by itself
    }
    return record_delta_here(forced ? Delta::always : Delta::if_it_delivers);
}

bool Engine::delta_forced() {
    return options_.delta_every != 0 && ++delta_turns_ % options_.delta_every == 0;
}

// What the last exit left to do must be done before the state is whole; that may end in an exit.
Engine::Step Engine::record_delta_here(Delta when) {
    const vmm::Exit exit = vcpu_.complete_access();
    if (exit.is_counted()) return handle_exit(exit);
    if (exit.kind != vmm::Exit::Kind::kicked) return finish(StopReason::failed, exit.detail);
    // With interrupts off nothing could be delivered: let it run on.
    if (when == Delta::if_it_delivers && !vcpu_.can_inject()) return Step::go_on;
    return record_delta();
}

Engine::Step Engine::record_delta() {
    const auto changed = memory_digest_.take_changed(vm_->vm, vm_->memory);
    if (!changed) return finish(StopReason::failed, changed.error().to_string());
    const auto cpu = vmm::capture_cpu(vcpu_);
    if (!cpu) return finish(StopReason::failed, cpu.error().to_string());
    delta_filter_.begin(exit_);
    const uint64_t pages = log_pages(*changed, [this](uint64_t number) {
        return delta_filter_.differs(number, MemoryDigest::hash_page(vm_->memory, number));
    });
    auto state = vmm::saved(*cpu);
    kick_delta_bytes_.fetch_add(pages * vmm::layout::kPageBytes + state.size(),
                                std::memory_order_relaxed);
    append(DeltaState{std::move(state)});
    deltas_total_.add();
    deliveries_by_kick_.fetch_add(1, std::memory_order_relaxed);
    at_exit_ = true;
    in_halt_ = false;
    return Step::go_on;
}

// Of these the ones that the backup does not have. Returns how many.
uint64_t Engine::log_pages(const std::vector<uint64_t>& numbers,
                           const std::function<bool(uint64_t)>& is_new) {
    DeltaPages part;
    uint64_t sent = 0;
    for (const uint64_t number : numbers) {
        if (!is_new(number)) continue;
        ++sent;
        part.pages.push_back(page_of(number, vm_->memory.page(number)));
        if (part.pages.size() == DeltaPages::kPagesMax) append(std::exchange(part, {}));
    }
    if (!part.pages.empty()) append(std::move(part));
    delta_pages_total_.add(sent);
    delta_pages_skipped_total_.add(numbers.size() - sent);
    return sent;
}

void Engine::record_digest_if_due(Instant now) {
    const bool by_time = options_.digest_interval > Duration::zero() && now >= next_digest_time_;
    const bool by_exit = options_.digest_exits > 0 && exit_ >= next_digest_exit_;
    if (by_time || by_exit) (void)record_digest(now);
}

bool Engine::record_digest(Instant now) {
    next_digest_exit_ = exit_ + options_.digest_exits;
    const auto mark = digest();
    const auto changed = memory_digest_.take_marked(vm_->vm, vm_->memory);
    const Duration cost = MonotonicClock::now() - now;
    next_digest_time_ =
        now + std::clamp<Duration>(cost * kDigestCostRatio, options_.digest_interval,
                                   std::max(options_.digest_interval, kDigestIntervalMax));
    if (!mark || !changed) {
        logger("replay").error("digest at exit {}: {}", exit_,
                               (!mark ? mark.error() : changed.error()).to_string());
        return false;
    }
    append(*mark);
    trace_.add_point(ExitNumber(exit_), last_registers_);
    history_.close(++digest_number_, *changed, std::exchange(interval_chunks_, {}));
    block_hash_ = 0;
    return true;
}

}  // namespace antipode::replay
