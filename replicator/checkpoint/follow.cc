// The backup: whole checkpoints are put in place, their disk writes executed; and going live.
#include <algorithm>

#include "common/base/check.h"
#include "common/base/log.h"
#include "replicator/checkpoint/checkpoint_engine.h"

namespace antipode::checkpoint {
namespace {

// Writes that wait for this site's disk; beyond it the log waits.
constexpr uint64_t kWriteQueueBytesMax = 64 << 20;

}  // namespace

bool CheckpointEngine::feed(LogIndex index, replay::LogEntry entry) {
    return inbox_.push_entry(index, std::move(entry));
}

size_t CheckpointEngine::feed_room() const {
    return inbox_.entries.capacity() - inbox_.entries.count();
}

void CheckpointEngine::close_log() {
    log_closed_ = true;
    wake();
}

void CheckpointEngine::go_live(uint64_t guest_clock_ns, uint64_t seen_ns) {
    const Instant now = MonotonicClock::now();
    // The guest's clock never goes back.
    const uint64_t clock = std::max(guest_clock_ns, seen_ns);
    guest_clock_base_ns_ = now.time_since_epoch().count() - static_cast<int64_t>(clock);
    live_wanted_ = true;
    wake();
}

CheckpointEngine::Step CheckpointEngine::follow_log() {
    take_own_completions();
    writes_.start(MonotonicClock::now());
    const bool copies = snapshot_wanted();
    if (copies && !writes_.pending()) return stand_for_snapshot();
    if (!copies && writes_.waiting_bytes() < kWriteQueueBytesMax) {
        if (auto next = inbox_.entries.pop()) return apply(std::move(*next));
    }
    if (log_closed_.load() && inbox_.entries.empty() && !writes_.pending()) {
        if (!drained_reported_) {
            if (assembler_.discard()) {
                logger("checkpoint").info("half a checkpoint after {} is dropped", number_);
            }
            drained_reported_ = true;
            owner_.drained(ExitNumber(number_), LogIndex(applied_index_));
        } else if (live_wanted_.load()) {
            return become_live();
        }
    }
    wait_for_log();
    return Step::go_on;
}

void CheckpointEngine::wait_for_log() {
    const auto may_apply = [this] {
        return writes_.waiting_bytes() < kWriteQueueBytesMax && !snapshot_wanted();
    };
    wakeup_.wait(writes_.next_retry(), [&] {
        return inbox_.any() || command_waits() || (may_apply() && !inbox_.entries.empty()) ||
               (snapshot_wanted() && !writes_.pending()) ||
               (log_closed_.load() && !writes_.pending() &&
                (!drained_reported_ || live_wanted_.load()));
    });
}

CheckpointEngine::Step CheckpointEngine::apply(replay::IndexedEntry next) {
    using replay::StopReason;
    const replay::LogEntry& entry = next.entry;
    if (const auto* part = std::get_if<replay::CheckpointPart>(&entry.body)) {
        auto whole = assembler_.take(part->bytes);
        if (!whole) return finish(StopReason::diverged, whole.error().to_string());
        if (!*whole) return Step::go_on;
        if (apply_checkpoint(std::move(**whole)) == Step::stop) return Step::stop;
    } else if (const auto* act = std::get_if<replay::VmControl>(&entry.body)) {
        if (act->kind == replay::VmControl::Kind::power_off) {
            return finish(StopReason::powered_off, "it has ended at the primary");
        }
    } else if (!std::holds_alternative<replay::OutputMark>(entry.body) &&
               !std::holds_alternative<replay::Passed>(entry.body)) {
        return finish(StopReason::diverged, "no entry of checkpoint mode: " + describe(entry));
    }
    applied_index_ = next.index.value();
    applied_seen_ = applied_index_;
    return Step::go_on;
}

// Whole and checked: from here on nothing can fail but the devices' own look at it, and then this
// VM never runs.
CheckpointEngine::Step CheckpointEngine::apply_checkpoint(Checkpoint&& whole) {
    using replay::StopReason;
    vmm::StateReader cpu_bytes(whole.end.cpus);
    auto cpus = vmm::SmpState::load(cpu_bytes, group_.vcpus().size());
    if (!cpus) return finish(StopReason::diverged, cpus.error().to_string());
    if (const auto possible = check_tsc(*cpus); !possible) {
        return finish(StopReason::failed, possible.error().to_string());
    }
    if (whole.end.output.value() < output_number_) {
        return finish(StopReason::diverged,
                      fmt::format("checkpoint {} ends with output {}, the one before with {}",
                                  whole.number, whole.end.output, output_number_));
    }
    put_pages(whole);
    vmm::StateReader machine_bytes(whole.machine);
    if (const auto loaded = machine_.load(machine_bytes); !loaded) {
        return finish(StopReason::diverged, loaded.error().to_string());
    }
    state_ = std::move(*cpus);
    state_clock_ns_ = whole.end.guest_clock_ns;
    number_ = whole.number;
    number_seen_ = number_;
    output_number_ = whole.end.output.value();
    for (auto& output : whole.outputs) {
        while (!log_.replayed(std::move(output))) {
            if (stop_wanted_.load()) return finish(StopReason::stopped, "");
            wakeup_.wait(MonotonicClock::now() + kLogWait, [this] { return stop_wanted_.load(); });
        }
    }
    find_writes();
    held_ = whole.end.held;
    held_seen_ = held_;
    return Step::go_on;
}

void CheckpointEngine::put_pages(const Checkpoint& whole) {
    for (const auto& page : whole.pages) {
        const auto target = vm_->memory.mutable_page(page.number);
        if (page.bytes.empty()) {
            std::ranges::fill(target, std::byte{0});
        } else {
            std::ranges::copy(page.bytes, target.begin());
        }
    }
}

// The writes that the guest had asked for by this checkpoint, and not by the one before.
void CheckpointEngine::find_writes() {
    std::set<RequestKey> now;
    for (auto& request : machine_.reissue_block_requests()) {
        if (request.operation == vmm::BlockOperation::read) continue;
        const RequestKey key(request.device, request.number);
        now.insert(key);
        if (known_writes_.contains(key)) continue;
        writes_.add(std::move(request));
    }
    known_writes_ = std::move(now);
}

// A write that fails here did not fail there, or would have been the guest's to see: again, until
// it is done.
void CheckpointEngine::take_own_completions() {
    take_inbox();
    const Instant now = MonotonicClock::now();
    for (; !completions_.empty(); completions_.pop_front()) {
        auto& done = completions_.front();
        const auto text = fmt::format("drive {}: request {} fails here", done.drive, done.number);
        // What is none of these is a read, from when this site was the primary.
        if (writes_.ended(std::move(done), now) == replay::WriteQueue::End::failed) {
            owner_.replay_disk_error(text);
        }
    }
    console_.clear();
    controls_.clear();
}

// The last whole checkpoint becomes the VM.
CheckpointEngine::Step CheckpointEngine::become_live() {
    const uint64_t reached = number_;
    // Whatever is known of the primary's since: no clock goes back behind the checkpoint.
    const Instant now = MonotonicClock::now();
    if (guest_clock_ns(now) < state_clock_ns_) {
        guest_clock_base_ns_ =
            now.time_since_epoch().count() - static_cast<int64_t>(state_clock_ns_);
    }
    if (const auto taken_up = take_up(); !taken_up) {
        return finish(replay::StopReason::failed, taken_up.error().to_string());
    }
    mode_ = Mode::recording;
    number_ = 0;
    number_seen_ = 0;
    known_writes_.clear();
    if (protection_wanted_.load() == Protection::on) begin_protection(Baseline::same);
    owner_.live(ExitNumber(reached));
    return Step::go_on;
}

// What was the primary becomes the backup of the site that has taken its last checkpoint: both
// stand at it, and both count from here. What that one executes of it, is executed here.
CheckpointEngine::Step CheckpointEngine::start_following() {
    submit_acknowledged();
    const std::lock_guard lock(machine_mutex_);
    state_clock_ns_ = guest_clock_ns(MonotonicClock::now());
    auto captured = capture_vcpus();
    if (!captured) return finish(replay::StopReason::failed, captured.error().to_string());
    state_ = std::move(*captured);
    for (auto& held : held_writes_) {
        for (auto& request : held.requests) submit(std::move(request));
    }
    held_writes_.clear();
    new_writes_.clear();
    forget_unacknowledged();
    mode_ = Mode::replaying;
    protected_ = false;
    protects_ = false;
    number_ = 0;
    number_seen_ = 0;
    assembler_.restart_after(0);
    stand_wanted_ = false;
    log_closed_ = false;
    live_wanted_ = false;
    drained_reported_ = false;
    waiting_frames_.clear();
    known_writes_.clear();
    writes_.forget();
    for (auto& request : machine_.reissue_block_requests()) {
        if (request.operation == vmm::BlockOperation::read) continue;
        const RequestKey key(request.device, request.number);
        known_writes_.insert(key);
        writes_.expect(std::move(request));
    }
    machine_.route_lines({});
    return Step::go_on;
}

}  // namespace antipode::checkpoint
