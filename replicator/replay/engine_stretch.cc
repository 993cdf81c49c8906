// Recording a stretch by deltas: nothing that happens is logged; at intervals all that has changed
// is, and only then do outputs get their place in the log.
#include <algorithm>

#include "common/base/check.h"
#include "replicator/replay/engine.h"
#include "replicator/replay/state_codec.h"
#include "replicator/vmm/cpu_state.h"

namespace antipode::replay {

void Engine::want_deltas(std::optional<DeltasReason> reason) {
    const uint8_t wanted = reason ? static_cast<uint8_t>(*reason) : 0;
    if (deltas_wanted_.exchange(wanted) == wanted) return;
    vcpu_.kick();
    wake();
}

void Engine::acknowledged(ExitNumber delta) {
    acknowledged_ = delta.value();
    wake();
}

std::optional<StretchStatus> Engine::stretch_status() const {
    const std::lock_guard lock(stretch_mutex_);
    StretchStatus status = stretch_status_;
    status.deliveries_by_kick = deliveries_by_kick_.load(std::memory_order_relaxed);
    status.kick_delta_bytes = kick_delta_bytes_.load(std::memory_order_relaxed);
    return status;
}

void Engine::note_stretch(DeltasReason reason) {
    stretches_total_.add();
    const std::lock_guard lock(stretch_mutex_);
    stretch_status_.now = reason;
    stretch_status_.meant = reason;
}

void Engine::note_stretch_end(StretchEnd::Then then) {
    const std::lock_guard lock(stretch_mutex_);
    stretch_status_.now.reset();
    if (then == StretchEnd::Then::lockstep) stretch_status_.meant.reset();
}

// A stretch that was interrupted is not gone on with where it is not wanted any more: the log is to
// say so, too.
bool Engine::stretch_change_wanted() const {
    if (mode_ != Mode::recording || held_) return false;
    const bool wanted = deltas_wanted_.load() != 0;
    return wanted != (stretch_ != nullptr) || (!wanted && stretch_interrupted_);
}

Engine::Step Engine::change_stretch() {
    const uint8_t wanted = deltas_wanted_.load();
    if (stretch_) return end_stretch();
    if (wanted != 0) return begin_stretch(static_cast<DeltasReason>(wanted));
    if (!std::exchange(stretch_interrupted_, false)) return Step::go_on;
    append(StretchEnd{StretchEnd::Then::lockstep});
    note_stretch_end(StretchEnd::Then::lockstep);
    return Step::go_on;
}

// The digest comes first: a backup that differs is to say so here, where it can be put right. The
// deltas bring only what this site writes from now on. Then the exit's access is completed, at both
// sites; where that ends in a further exit, the stretch begins at that one.
Engine::Step Engine::begin_stretch(DeltasReason reason) {
    const Instant now = MonotonicClock::now();
    if (!record_digest(now)) return finish(StopReason::failed, "no digest of this VM can be made");
    const vmm::Exit exit = vcpu_.complete_access();
    if (exit.is_counted()) return handle_exit(exit);
    if (exit.kind != vmm::Exit::Kind::kicked) return finish(StopReason::failed, exit.detail);
    append(StretchBegin{reason});
    passed_.store(exit_, std::memory_order_release);
    stretch_ = std::make_unique<RecordedStretch>(options_.stretch, vm_->memory.page_count());
    stretch_->last_taken = now;
    note_stretch(reason);
    return Step::go_on;
}

// The backup executes again from this delta; the digest says whether it is equal. The end has an
// exit number of its own: what is asked of the disks within it is counted alike at both sites.
Engine::Step Engine::end_stretch() {
    if (take_delta() == Step::stop) return Step::stop;
    stretch_interrupted_ = deltas_wanted_.load() != 0;
    const auto then = stretch_interrupted_ ? StretchEnd::Then::resumed : StretchEnd::Then::lockstep;
    exit_seen_.store(++exit_, std::memory_order_relaxed);
    append(StretchEnd{then});
    stretch_.reset();
    delta_filter_.forget();
    (void)record_digest(MonotonicClock::now());
    passed_.store(exit_, std::memory_order_release);
    note_stretch_end(then);
    return Step::go_on;
}

bool Engine::may_take_delta(Instant now) {
    acknowledged_handled_ = acknowledged_.load();
    stretch_->unacknowledged.acknowledged(acknowledged_handled_);
    return stretch_->unacknowledged.takes_more(stretch_->interval, Duration(round_trip_ns_.load()),
                                               now);
}

// Nothing: not before the guest has done something, or the backup has acknowledged more.
std::optional<Instant> Engine::delta_due() {
    if (!stretch_) return std::nullopt;
    const bool may_take = may_take_delta(MonotonicClock::now());
    if (!stretch_->changed) return std::nullopt;
    if (stretch_->held_bytes >= options_.stretch.held_bytes_max) return stretch_->last_taken;
    if (!may_take) return std::nullopt;
    using Waiting = IntervalController::Waiting;
    const bool waits = !stretch_->outputs.empty();
    return stretch_->interval.due(stretch_->last_taken,
                                  waits ? Waiting::something : Waiting::nothing);
}

// At an exit.
Engine::Step Engine::take_delta() {
    if (const auto rests = come_to_rest(); !rests) {
        return finished_early_ ? Step::stop : finish(StopReason::failed, rests.error().to_string());
    }
    const auto logged = log_delta();
    return logged ? Step::go_on : finish(StopReason::failed, logged.error().to_string());
}

// The vCPU is at rest, at an exit or between two. A delta counts as an exit, so that each has a
// number of its own. Only its last piece makes it whole; the outputs' marks come behind that, so
// that an output is acknowledged after all that it depends on.
Result<void> Engine::log_delta() {
    RecordedStretch& stretch = *stretch_;
    const Instant begin = MonotonicClock::now();
    if (!at_exit_) in_halt_ = false;  // whatever it waited for has come
    exit_seen_.store(++exit_, std::memory_order_relaxed);
    uint64_t bytes = stretch.held_bytes;
    for (auto& write : std::exchange(stretch.writes, {})) append(std::move(write));
    FT_TRY(const auto changed, memory_digest_.take_changed(vm_->vm, vm_->memory));
    const uint64_t pages = log_pages(changed, [&](uint64_t number) {
        return stretch.table.changed(number, vm_->memory.page(number));
    });
    bytes += pages * vmm::layout::kPageBytes;
    auto outputs = std::exchange(stretch.outputs, {});
    uint64_t number = output_number_;
    output_number_ += outputs.size();
    for (const auto& output : outputs)
        append(StretchOutput{output.kind, output.device, output.bytes});
    FT_TRY(const auto state, capture_state());
    vmm::StateWriter out;
    put_state(out, *state);
    std::span<const std::byte> rest(out.bytes());
    bytes += rest.size();
    while (!rest.empty()) {
        const auto piece = rest.first(std::min(rest.size(), StretchState::kBytesMax));
        rest = rest.subspan(piece.size());
        append(
            StretchState{rest.empty() ? StretchState::Piece::last : StretchState::Piece::not_last,
                         {piece.begin(), piece.end()}});
    }
    for (auto& output : outputs) {
        const uint32_t checksum = output_checksum(output.bytes);
        append(OutputMark{checksum}, OutputNumber(++number), std::move(output));
    }
    passed_.store(exit_, std::memory_order_release);
    const Duration pause = MonotonicClock::now() - begin;
    stretch.interval.taken(pause, bytes);
    stretch.unacknowledged.taken(exit_, bytes, begin);
    stretch.last_taken = begin;
    stretch.changed = false;
    stretch.held_bytes = 0;
    deltas_total_.add();
    const std::lock_guard lock(stretch_mutex_);
    ++stretch_status_.deltas;
    stretch_status_.delta_bytes += bytes;
    stretch_status_.last_bytes = bytes;
    stretch_status_.last_pages = pages;
    stretch_status_.last_pause = pause;
    stretch_status_.interval = stretch.interval.interval();
    return {};
}

// The guest was interrupted at no exit. What waits for it is given to it here, for nobody has to
// come to the same point; a delta is taken where one is due.
Engine::Step Engine::stretch_kick(bool busy) {
    const Instant now = MonotonicClock::now();
    const auto due = delta_due();
    const bool delta = due && *due <= now;
    const bool forced = stand_wanted() || !controls_pending_.empty() || stretch_change_wanted();
    const bool events = busy && events_wait(now);
    if (!delta && !events && !(busy && forced)) return Step::go_on;
    const vmm::Exit exit = vcpu_.complete_access();
    if (exit.is_counted()) return handle_exit(exit);
    if (exit.kind != vmm::Exit::Kind::kicked) return finish(StopReason::failed, exit.detail);
    if (events) deliveries_by_kick_.fetch_add(1, std::memory_order_relaxed);
    // With interrupts off nothing could be delivered: let it run on.
    if (!delta && !forced && !vcpu_.can_inject()) return Step::go_on;
    at_exit_ = true;
    in_halt_ = false;
    if (!delta) return Step::go_on;
    const auto logged = log_delta();
    return logged ? Step::go_on : finish(StopReason::failed, logged.error().to_string());
}

// The bytes are those that the disk is given here: the guest may have others in their place by the
// next delta.
void Engine::collect_write(const vmm::BlockRequest& request) {
    if (request.operation == vmm::BlockOperation::read) return;
    if (request.operation != vmm::BlockOperation::write) {
        stretch_->writes.push_back(
            {request.device, request.operation, request.offset_bytes, request.length_bytes, {}});
        return;
    }
    std::span<const std::byte> rest(request.data);
    uint64_t offset_bytes = request.offset_bytes;
    while (!rest.empty()) {
        const auto piece = rest.first(std::min(rest.size(), StretchWrite::kBytesMax));
        rest = rest.subspan(piece.size());
        stretch_->writes.push_back({request.device,
                                    request.operation,
                                    offset_bytes,
                                    piece.size(),
                                    {piece.begin(), piece.end()}});
        offset_bytes += piece.size();
    }
    stretch_->held_bytes += request.data.size();
}

// A guest that has ended: the backup, which does not execute, has to be told.
Engine::Step Engine::announce_end() {
    if (const auto logged = log_delta(); !logged) {
        return finish(StopReason::failed, logged.error().to_string());
    }
    append(VmControl{VmControl::Kind::power_off});
    stretch_.reset();
    passed_.store(exit_, std::memory_order_release);
    return Step::go_on;
}

}  // namespace antipode::replay
