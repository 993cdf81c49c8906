// Snapshots of the VM at this site, to a file, while it runs: at the primary, at the backup, solo.
#include "common/base/log.h"
#include "replicator/control/node.h"

namespace antipode::control {

std::string Node::snapshot_path(const Name& name) const {
    return fmt::format("{}/snapshots/{}.snapshot", config_.pair.state_directory, name);
}

std::optional<Result<ActionReply>> Node::act_on_snapshot(Method method,
                                                         const ActionRequest& request) {
    using Answer = Result<ActionReply>;
    if (method == Method::snapshot) return take_snapshot(request);
    const bool runs = snapshot_ && !snapshot_->over();
    if (method != Method::cancel || !runs || request.operation != snapshot_operation_) {
        return std::nullopt;
    }
    ActionReply reply;
    reply.consequence = "nothing of the snapshot is kept";
    if (!request.check) end_snapshot("cancelled by " + request.actor);
    return Answer(std::move(reply));
}

Result<ActionReply> Node::take_snapshot(const ActionRequest& request) {
    FT_TRY(const Name name, Name::parse(request.text, "text"));
    if (!engine_ || engine_stopped_) {
        return fail(Errc::busy, "no VM runs at {}", config_.pair.site);
    }
    if (engine_->held()) return fail(Errc::busy, "the VM is paused: resume it first");
    if (engine_->paused()) return fail(Errc::busy, "the VM stands: {}", core_.reason());
    if (diverged_) {
        return fail(Errc::busy, "the VM of {} differs from the primary's and is being put right",
                    config_.pair.site);
    }
    if (snapshot_ && !snapshot_->over()) return fail(Errc::busy, "a snapshot is being taken");
    if (drill_waits()) return fail(Errc::busy, "a drill is about to begin");
    if (seed_out_ && !seed_out_->done()) return fail(Errc::busy, "a new backup is being seeded");
    const std::string path = snapshot_path(name);
    ActionReply reply;
    reply.consequence = fmt::format("the VM, with memory and disks, is written to {}", path);
    if (request.check) return reply;
    SnapshotShape shape = shape_of(config_.vm, disks_->sizes());
    shape.pair = config_.pair.pair.view();
    shape.site = config_.pair.site.view();
    shape.epoch = epoch_.value();
    shape.created_unix_ms = unix_ms();
    shape.software = ANTIPODE_VERSION;
    FT_TRY(const uint64_t operation,
           journal_.begin_operation(unix_ms(), Method::snapshot, request.actor, path));
    snapshot_.reset();
    snapshot_operation_ = operation;
    auto task = SnapshotTask::begin(
        context_, *engine_, *disks_, path, shape,
        [this, path](const Result<SnapshotTask::Figures>& done) { snapshot_done(path, done); });
    if (!task) {
        journal_.end_operation(unix_ms(), operation, OperationState::failed,
                               task.error().to_string());
        return antipode::fail(std::move(task).error());
    }
    snapshot_ = std::move(*task);
    reply.operation = operation;
    return reply;
}

void Node::snapshot_standing(std::unique_ptr<replay::VmState> state) {
    if (diverged_) return end_snapshot("this VM differs from the primary's");
    if (!recording_ && clock_offset_) {
        const Duration clock = *clock_offset_ + MonotonicClock::now().time_since_epoch();
        state->guest_clock_ns = static_cast<uint64_t>(std::max<int64_t>(0, clock.count()));
    }
    const LogIndex position = recording_ ? outbox_.last() : engine_->applied();
    snapshot_->standing(std::move(state), position, gate_);
}

void Node::snapshot_done(const std::string& path, const Result<SnapshotTask::Figures>& done) {
    std::string text;
    if (done) {
        text = fmt::format("{}: {} bytes, {} before compression, in {:.1f} s; pause_ms={:.1f}",
                           path, done->file_bytes, done->plain_bytes,
                           std::chrono::duration<double>(done->took).count(),
                           std::chrono::duration<double, std::milli>(done->stood).count());
    } else {
        text = fmt::format("{}: {}", path, done.error().to_string());
    }
    journal_.end_operation(unix_ms(), snapshot_operation_,
                           done ? OperationState::succeeded : OperationState::failed, text);
    event(EventCode::operator_action, "snapshot " + text,
          done ? Severity::info : Severity::warning);
}

void Node::end_snapshot(const std::string& why) {
    if (!snapshot_) return;
    snapshot_->fail(why);
    snapshot_.reset();
}

}  // namespace antipode::control
