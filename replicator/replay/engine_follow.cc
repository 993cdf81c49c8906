// Following a stretch by deltas: the guest is not entered; whole deltas are put in place, and what
// they write to the disks is written here.
#include <algorithm>

#include "common/base/check.h"
#include "common/base/log.h"
#include "replicator/replay/engine.h"
#include "replicator/replay/state_codec.h"

namespace antipode::replay {
namespace {

// Beside the numbers of the guest's own requests.
constexpr uint64_t kStretchWriteNumbers = uint64_t{1} << 63;
constexpr size_t kStateBytesMax = kMachineBytesMax + VmState::kCpuBytesMax + 256;

}  // namespace

// This VM stands where the primary stood, its last access done. What it has asked its disks for
// ends before anything that a delta writes.
Engine::Step Engine::begin_following(DeltasReason reason) {
    if (!digest_equal_) {
        // The deltas are of a VM that this one is not: put over it they would make a third.
        if (options_.healing == EngineOptions::Healing::off) {
            return diverged("a stretch by deltas begins, and this VM differs");
        }
        skip_log_ = true;
        own_outputs_.clear();
        return Step::go_on;
    }
    const vmm::Exit exit = vcpu_.complete_access();
    if (exit.kind != vmm::Exit::Kind::kicked) {
        const Step step = begin_heal(
            Trouble::stuck,
            fmt::format("another exit ({}) before a stretch by deltas", to_string(exit.kind)));
        if (healing_) healing_->stretch = reason;
        return step;
    }
    drain_completions();
    following_.emplace();
    for (auto& [key, request] : retriable_) {
        const auto own = own_completions_.find(key);
        if (own == own_completions_.end()) {
            writes_.expect(std::move(request));
        } else if (own->second.status != vmm::BlockStatus::ok &&
                   request.operation != vmm::BlockOperation::read) {
            request.data = std::move(own->second.data);
            writes_.add(std::move(request));
        }
    }
    retriable_.clear();
    own_completions_.clear();
    note_stretch(reason);
    return Step::go_on;
}

Engine::Step Engine::follow_entry(const LogEntry& entry) {
    const LogEntry::Body& body = entry.body;
    FollowedStretch& delta = *following_;
    if (const auto* pages = std::get_if<DeltaPages>(&body)) return collect_delta(*pages);
    if (const auto* piece = std::get_if<StretchState>(&body)) return follow_state(*piece);
    if (const auto* end = std::get_if<StretchEnd>(&body)) return end_following(entry.exit, *end);
    if (const auto* write = std::get_if<StretchWrite>(&body)) {
        if (write->drive >= machine_.drive_count() ||
            write->offset_bytes + write->length_bytes > machine_.drive_bytes(write->drive)) {
            return diverged("a write beyond the disks: " + describe(entry));
        }
        delta.held_bytes += write->bytes.size();
        delta.writes.push_back(*write);
    } else if (const auto* output = std::get_if<StretchOutput>(&body)) {
        delta.held_bytes += output->bytes.size();
        delta.outputs.push_back({output->kind, output->device, output->bytes});
    } else if (const auto* act = std::get_if<VmControl>(&body)) {
        if (act->kind == VmControl::Kind::power_off) {
            return finish(StopReason::powered_off, "it has ended at the primary");
        }
        return diverged("no entry of a stretch by deltas: " + describe(entry));
    } else if (!std::holds_alternative<OutputMark>(body) && !std::holds_alternative<Passed>(body)) {
        return diverged("no entry of a stretch by deltas: " + describe(entry));
    }
    if (delta.held_bytes > FollowedStretch::kHeldBytesMax) {
        return diverged("a delta has more outputs and disk writes than are allowed");
    }
    return Step::go_on;
}

Engine::Step Engine::follow_state(const StretchState& piece) {
    auto& bytes = following_->state;
    if (bytes.size() + piece.bytes.size() > kStateBytesMax) {
        return diverged("the state of a delta is longer than allowed");
    }
    bytes.insert(bytes.end(), piece.bytes.begin(), piece.bytes.end());
    if (piece.piece != StretchState::Piece::last) return Step::go_on;
    vmm::StateReader reader(bytes);
    const VmState state = get_state(reader);
    if (!reader.ok() || !reader.at_end()) {
        return diverged("the state of a delta " + std::string(reader.problem()));
    }
    if (state.output.value() != output_number_ + following_->outputs.size()) {
        return diverged(
            fmt::format("a delta with {} outputs ends with output {}, the one before "
                        "with {}",
                        following_->outputs.size(), state.output, output_number_));
    }
    return follow_delta(state);
}

// Whole and checked. From here on nothing can fail but the devices' and KVM's own look at it, and
// then this VM never runs.
Engine::Step Engine::follow_delta(const VmState& state) {
    FollowedStretch delta = std::move(*following_);
    following_.emplace();
    following_->followed = true;
    uint64_t number = output_number_;
    for (const auto& page : delta_pages_) put_page(page);
    const uint64_t pages = delta_pages_.size();
    delta_pages_.clear();
    if (const auto loaded = load_state(state); !loaded) {
        return diverged(loaded.error().to_string());
    }
    reached_ = std::max(reached_, exit_);
    for (auto& output : delta.outputs) {
        keep_output({OutputNumber(++number), std::move(output)});
    }
    queue_writes(std::move(delta.writes));
    deltas_total_.add();
    const std::lock_guard lock(stretch_mutex_);
    ++stretch_status_.deltas;
    stretch_status_.last_pages = pages;
    stretch_status_.last_bytes =
        delta.held_bytes + delta.state.size() + pages * vmm::layout::kPageBytes;
    stretch_status_.delta_bytes += stretch_status_.last_bytes;
    return Step::go_on;
}

void Engine::queue_writes(std::vector<StretchWrite> writes) {
    for (auto& each : writes) {
        writes_.add({each.drive, kStretchWriteNumbers + ++stretch_write_number_, each.operation,
                     each.offset_bytes, each.length_bytes, std::move(each.bytes)});
    }
}

// Nothing more of the log is applied before it is done.
Engine::Step Engine::execute_writes() {
    drain_completions();
    writes_.start(MonotonicClock::now());
    if (!writes_.pending()) return Step::go_on;
    wakeup_.wait(writes_.next_retry(), [this] { return inbox_.any() || command_waits(); });
    return Step::go_on;
}

Engine::Step Engine::end_following(ExitNumber exit, const StretchEnd& end) {
    if (!following_->followed || !following_->state.empty() || !following_->writes.empty() ||
        !following_->outputs.empty() || !delta_pages_.empty()) {
        return diverged("a stretch by deltas ends without a whole one");
    }
    following_.reset();
    exit_ = exit.value();
    exit_seen_.store(exit_, std::memory_order_relaxed);
    settle_requests();
    note_stretch_end(end.then);
    return Step::go_on;
}

// Requests that are with the primary's disk, in the state that this VM executes on from. What they
// write has been written here already, with the bytes that the log brought; what they read has not.
void Engine::settle_requests() {
    FT_CHECK(!writes_.pending(), "writes of a stretch are pending at its end");
    retriable_.clear();
    own_completions_.clear();
    remember_reissued();
    for (auto& request : machine_.reissue_block_requests()) {
        if (request.operation == vmm::BlockOperation::read) {
            disk_.submit_again(std::move(request));
            continue;
        }
        const RequestKey key(request.device, request.number);
        own_completions_.insert_or_assign(
            key, BlockCompletion{request.device, request.number, vmm::BlockStatus::ok, {}});
    }
}

// A heal leads over this entry: whether it ends in a stretch.
void Engine::note_skipped(const LogEntry& entry) {
    if (const auto* begin = std::get_if<StretchBegin>(&entry.body)) {
        healing_->stretch = begin->reason;
    } else if (std::holds_alternative<StretchEnd>(entry.body)) {
        healing_->stretch.reset();
    }
}

}  // namespace antipode::replay
