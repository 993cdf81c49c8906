// Replaying: events come from the log, and nothing happens before the log says so.
#include <algorithm>
#include <chrono>

#include "common/base/check.h"
#include "common/base/log.h"
#include "replicator/replay/engine.h"
#include "replicator/vmm/cpu_state.h"

namespace antipode::replay {
namespace {

constexpr Duration kDiskRetryDelay = std::chrono::milliseconds(100);

}  // namespace

bool Engine::feed(LogIndex index, LogEntry entry) {
    return inbox_.push_entry(index, std::move(entry));
}

size_t Engine::feed_room() const {
    return inbox_.entries.capacity() - inbox_.entries.count();
}

void Engine::close_log() {
    log_closed_ = true;
    wake();
}

void Engine::go_live(uint64_t guest_clock_ns, uint64_t seen_ns) {
    clock_seen_ns_ =
        std::min(seen_ns, guest_clock_ns);  // read by the vCPU thread after the store below
    guest_clock_base_ns_ =
        MonotonicClock::now().time_since_epoch().count() - static_cast<int64_t>(guest_clock_ns);
    // Exits are counted anew; whoever asks from here on must not see those of the time before.
    passed_.store(0, std::memory_order_release);
    acknowledged_ = 0;
    live_wanted_ = true;
    wake();
}

bool Engine::fetch_entry() {
    if (next_entry_) return true;
    next_entry_ = inbox_.entries.pop();
    if (!next_entry_) return false;
    reached_ = std::max(reached_, next_entry_->entry.exit.value());
    return true;
}

void Engine::wait_for_log() {
    if (log_closed_.load() && inbox_.entries.empty()) {
        if (!drained_reported_) {
            drained_reported_ = true;
            owner_.drained(ExitNumber(exit_), LogIndex(applied_index_));
        }
        wakeup_.wait(std::nullopt, [this] { return live_wanted_.load() || command_waits(); });
        return;
    }
    wakeup_.wait(std::nullopt, [this] {
        return !inbox_.entries.empty() || log_closed_.load() || command_waits();
    });
}

Engine::Step Engine::diverged(const std::string& text) {
    if (stop_wanted_.load()) return finish(StopReason::stopped, "");
    return finish(StopReason::diverged, fmt::format("exit {}: {}", exit_, text));
}

Engine::Step Engine::replay_events() {
    for (;;) {
        if (healing_) return heal_step();
        if (following_ && writes_.pending()) return execute_writes();
        if (!fetch_entry()) break;
        if (command_waits()) return Step::go_on;
        if (skip_log_) {
            applied_index_ = next_entry_->index.value();
            applied_seen_.store(applied_index_, std::memory_order_relaxed);
            next_entry_.reset();
            continue;
        }
        const uint64_t exit = next_entry_->entry.exit.value();
        if (exit > exit_ && !following_) {
            if (ended_) {
                ended_ = false;
                return begin_heal(Trouble::ended, "the guest has ended here: " + ended_text_);
            }
            if (in_halt_ && !machine_.interrupt_pending()) {
                return begin_heal(Trouble::stuck,
                                  "the primary left HLT and nothing has woken this VM");
            }
            if (!own_outputs_.empty()) {
                if (one_output_too_many() == Step::stop) return Step::stop;
                continue;
            }
            return inject();
        }
        if (exit < exit_) {
            return begin_heal(Trouble::stuck, "the log has an entry for an earlier exit: " +
                                                  describe(next_entry_->entry));
        }
        const IndexedEntry next = std::move(*next_entry_);
        next_entry_.reset();
        if ((following_ ? follow_entry(next.entry) : apply(next)) == Step::stop) return Step::stop;
        applied_index_ = next.index.value();
        applied_seen_.store(applied_index_, std::memory_order_relaxed);
    }
    if (ended_ && log_closed_.load() && inbox_.entries.empty())
        return finish(ended_reason_, ended_text_);
    if (live_wanted_.load() && log_closed_.load()) return become_live();
    wait_for_log();
    return Step::go_on;
}

Engine::Step Engine::one_output_too_many() {
    const std::string text = "an output that the primary did not make";
    owner_.digest_checked(ExitNumber(exit_), text);
    own_outputs_.clear();
    return begin_heal(Trouble::differs, text);
}

Engine::Step Engine::apply(const IndexedEntry& next) {
    const LogEntry::Body& body = next.entry.body;
    if (const auto* mark = std::get_if<OutputMark>(&body)) {
        return apply_output(next.entry.exit, *mark);
    } else if (std::holds_alternative<TimerTick>(body)) {
        machine_.timer_tick();
    } else if (const auto* done = std::get_if<BlockDone>(&body)) {
        return apply_block_done(*done);
    } else if (const auto* frame = std::get_if<FrameReceived>(&body)) {
        if (frame->interface >= machine_.interface_count()) {
            return begin_heal(Trouble::stuck,
                              fmt::format("interface {} does not exist", frame->interface));
        }
        machine_.receive_frame(frame->interface, frame->bytes);
    } else if (const auto* input = std::get_if<ConsoleInput>(&body)) {
        (void)machine_.console_input(input->bytes);
    } else if (const auto* act = std::get_if<VmControl>(&body)) {
        return apply_control(act->kind);
    } else if (const auto* digest_mark = std::get_if<DigestMark>(&body)) {
        return apply_digest(next.entry.exit, *digest_mark);
    } else if (const auto* pages = std::get_if<DeltaPages>(&body)) {
        return collect_delta(*pages);
    } else if (const auto* state = std::get_if<DeltaState>(&body)) {
        return apply_delta(*state);
    } else if (const auto* begin = std::get_if<StretchBegin>(&body)) {
        return begin_following(begin->reason);
    } else if (const auto* end = std::get_if<StretchEnd>(&body);
               end != nullptr && end->then == StretchEnd::Then::lockstep) {
        note_stretch_end(end->then);  // an interrupted one is not gone on with
    } else if (is_of_stretch(next.entry)) {
        return begin_heal(Trouble::stuck, "an entry of a stretch outside of one");
    } else if (std::holds_alternative<InputRead>(body)) {
        return begin_heal(Trouble::stuck, "the primary read a clock here, this VM did not");
    }
    return Step::go_on;
}

Engine::Step Engine::apply_output(ExitNumber exit, const OutputMark& mark) {
    std::string text = "the primary made an output that is missing here";
    if (!own_outputs_.empty()) {
        const uint32_t own = own_outputs_.front();
        own_outputs_.pop_front();
        if (own == mark.checksum) return Step::go_on;
        text =
            fmt::format("output checksum is {:08x}, the primary's is {:08x}", own, mark.checksum);
    }
    owner_.digest_checked(exit, text);
    return begin_heal(Trouble::differs, text);
}

Engine::Step Engine::apply_digest(ExitNumber exit, const DigestMark& mark) {
    const auto own = digest();
    if (!own) return finish(StopReason::failed, own.error().to_string());
    ++digest_number_;
    block_hash_ = 0;
    std::string text;
    if (own->disk != mark.disk) text += "disk writes ";
    if (own->cpu != mark.cpu) text += "registers ";
    if (own->devices != mark.devices) text += "devices ";
    if (own->memory != mark.memory) text += "memory ";
    if (!text.empty()) text += "differ from the primary's";
    owner_.digest_checked(exit, text);
    if (text.empty()) {
        accept_verified();
        digest_equal_ = own_outputs_.empty();
        return own_outputs_.empty() ? Step::go_on : one_output_too_many();
    }
    if (own->disk == mark.disk && disk_verified_number_ + 1 == digest_number_) {
        disk_verified_number_ = digest_number_;
        interval_chunks_.clear();
    }
    return begin_heal(Trouble::differs, text);
}

Engine::Step Engine::collect_delta(const DeltaPages& part) {
    for (const auto& page : part.pages) {
        if (page.number >= vm_->memory.page_count()) {
            return diverged(
                fmt::format("delta names page {} of {}", page.number, vm_->memory.page_count()));
        }
        delta_pages_.push_back(page);
    }
    if (delta_pages_.size() > vm_->memory.page_count()) {
        return diverged("delta has more pages than there is memory");
    }
    return Step::go_on;
}

Engine::Step Engine::apply_delta(const DeltaState& state) {
    vmm::StateReader reader(state.cpu);
    const auto cpu = vmm::CpuState::load(reader);
    if (!cpu) return diverged(cpu.error().to_string());
    // The primary left the exit before it was interrupted: so does this machine. The vCPU's part of
    // the injection is overwritten below, the interrupt controller's stays.
    if (inject() == Step::stop) return Step::stop;
    const vmm::Exit exit = vcpu_.complete_access();
    if (exit.kind != vmm::Exit::Kind::kicked) {
        return begin_heal(Trouble::stuck,
                          fmt::format("another exit ({}) before the delta", to_string(exit.kind)));
    }
    for (const auto& page : delta_pages_) put_page(page);
    delta_pages_.clear();
    const auto restored = vmm::restore_cpu(vcpu_, *cpu);
    if (!restored) return finish(StopReason::failed, restored.error().to_string());
    deltas_total_.add();
    at_exit_ = true;
    in_halt_ = false;
    return Step::go_on;
}

Engine::Step Engine::apply_block_done(const BlockDone& done) {
    const RequestKey key(done.drive, done.number);
    const auto request = retriable_.find(key);
    if (request == retriable_.end()) {
        return begin_heal(Trouble::stuck,
                          fmt::format("drive {} has no request {}", done.drive, done.number));
    }
    for (;;) {
        drain_completions();
        const auto own = own_completions_.find(key);
        if (own == own_completions_.end()) {
            if (command_waits() && stop_wanted_.load()) return finish(StopReason::stopped, "");
            wait_for_completion();
            continue;
        }
        if (own->second.status == vmm::BlockStatus::ok || done.status != vmm::BlockStatus::ok) {
            machine_.complete_block(done.drive, done.number, done.status, own->second.data);
            own_completions_.erase(own);
            retriable_.erase(request);
            submit_block_requests();
            return Step::go_on;
        }
        owner_.replay_disk_error(fmt::format(
            "drive {}: request {} at byte {}, {} bytes, failed here "
            "and not at the primary",
            done.drive, done.number, request->second.offset_bytes, request->second.length_bytes));
        vmm::BlockRequest again = request->second;
        again.data = std::move(own->second.data);
        again.data.resize(again.operation == vmm::BlockOperation::read ||
                                  again.operation == vmm::BlockOperation::write
                              ? again.length_bytes
                              : 0);
        own_completions_.erase(own);
        wakeup_.wait(MonotonicClock::now() + kDiskRetryDelay,
                     [this] { return stop_wanted_.load(); });
        disk_.submit_again(std::move(again));
    }
}

void Engine::replay_outputs() {
    if (!machine_.has_outputs()) return;
    for (auto& output : machine_.take_outputs()) {
        own_outputs_.push_back(output_checksum(output.bytes));
        keep_output({OutputNumber(++output_number_), std::move(output)});
    }
}

// For whoever lets it go when the primary is known to have, or is not there any more.
void Engine::keep_output(ReplayedOutput made) {
    bool pushed = log_.replayed(std::move(made));
    while (!pushed && !stop_wanted_.load()) {
        wakeup_.wait(std::nullopt, [&] {
            pushed = log_.replayed(std::move(made));
            return pushed || stop_wanted_.load();
        });
    }
}

// Called in the middle of emulation. The entry may still be on its way: the primary is known to
// have reached this exit, not to have finished it.
uint64_t Engine::replay_input(vmm::InputKind kind) {
    for (;;) {
        if (fetch_entry()) {
            const auto* input = std::get_if<InputRead>(&next_entry_->entry.body);
            if (next_entry_->entry.exit.value() != exit_ || input == nullptr ||
                input->kind != kind) {
                // Until it is healed, or goes on without: a clock that does not run backwards,
                // and chance that nobody else has.
                if (!healing_ && !skip_log_) {
                    input_error_ =
                        fmt::format("this VM reads clock {}, the log has: {}",
                                    static_cast<int>(kind), describe(next_entry_->entry));
                }
                if (kind == vmm::InputKind::entropy) return sample(kind);
                return last_inputs_[static_cast<size_t>(kind)];
            }
            const uint64_t value = input->value;
            last_inputs_[static_cast<size_t>(kind)] = value;
            applied_index_ = next_entry_->index.value();
            applied_seen_.store(applied_index_, std::memory_order_relaxed);
            next_entry_.reset();
            return value;
        }
        if (live_wanted_.load() && log_closed_.load()) {
            (void)become_live();
            return read(kind);
        }
        if (stop_wanted_.load()) {
            input_error_ = "stopped";
            return 0;
        }
        wait_for_log();
    }
}

// The log ends here: from this exit on, this VM is the VM. Requests that are with the disk simply
// complete into the recorder; there is nothing to re-issue, because this site has executed them
// itself.
Engine::Step Engine::become_live() {
    FT_CHECK(mode_ == Mode::replaying, "went live twice");
    mode_ = Mode::recording;
    if (following_) {
        following_.reset();
        settle_requests();
    }
    stretch_interrupted_ = false;
    note_stretch_end(StretchEnd::Then::lockstep);
    for (auto& [key, completion] : own_completions_) {
        completions_.push_back(std::move(completion));
    }
    own_completions_.clear();
    retriable_.clear();
    own_outputs_.clear();
    delta_pages_.clear();
    skip_log_ = false;
    heal_abandoned_ = false;
    forget_comparisons();
    exit_ = 0;
    next_digest_exit_ = options_.digest_exits;
    exit_seen_.store(0, std::memory_order_relaxed);
    passed_.store(0, std::memory_order_release);
    timer_.follow(machine_.timer_schedule(), MonotonicClock::now());
    clock_pacer_.start(clock_seen_ns_);
    owner_.live(ExitNumber(reached_));
    return Step::go_on;
}

}  // namespace antipode::replay
