// Carrying out what the failover core wants: one function an Output.
#include <boost/asio/post.hpp>

#include "common/base/check.h"
#include "common/base/log.h"
#include "common/base/overloaded.h"
#include "common/wire/failover_frames.h"
#include "replicator/checkpoint/checkpoint_engine.h"
#include "replicator/control/node.h"
#include "replicator/replay/engine.h"
#include "replicator/vmm/boot.h"

namespace antipode::control {
namespace {

constexpr Duration kRetryDelay = std::chrono::seconds(1);
constexpr int kExitRetired = 75;  // EX_TEMPFAIL: systemd starts us again

OutputGate::Mode gate_mode(failover::GateMode mode) {
    switch (mode) {
        case failover::GateMode::closed:
            return OutputGate::Mode::frozen;
        case failover::GateMode::acked:
            return OutputGate::Mode::gated;
        case failover::GateMode::open:
            return OutputGate::Mode::open;
    }
    return OutputGate::Mode::frozen;
}

}  // namespace

void Node::carry_out(const failover::Output& output) {
    using namespace failover;
    std::visit(
        Overloaded{
            [this](const Send& order) {
                flush_log();  // messages are in order with log frames
                const auto bytes = wire::encode(order.message);
                (void)send_as_log(Message::peer, order.message.epoch, bytes);
            },
            [this](const Ask& order) { tiebreaker_->ask(order.request); },
            [this](const SetGate& order) {
                gate_.set_mode(gate_mode(order.mode));
                if (order.mode == GateMode::acked) gate_.acknowledge(order.up_to);
                release_outputs();
            },
            [this](const UseEpoch& order) { use_epoch(order); },
            [this](const AcceptLog& order) { accept_log(order); },
            [this](const Acknowledge& order) { acknowledge(order); },
            [this](const Persist& order) { persist(order); },
            [this](const FenceDisk& order) { fence_disk(order); },
            [this](const FlushDisk&) {
                on_disk_thread([this] { return disks_->flush(); }, DiskFlushed{},
                               "flushing the disks");
            },
            [this](const RunVm& order) { run_vm(order); },
            [this](const FollowVm& order) { follow_vm(order); },
            [this](const ConsumeLog&) { consume_log(); },
            [this](const PauseVm&) { engine_->pause_at_exit(replay::VmEngine::Capture::no); },
            [this](const HaltVm&) { halt_vm(); },
            [this](const DropMemory&) { drop_vm(); },
            [this](const BeginSeed& order) { begin_seed(order); },
            [this](const CutSeed&) {
                if (seed_out_) seed_out_->cut();
            },
            [this](const AbortSeed&) {
                seed_out_.reset();
                seed_in_.reset();
                held_batches_.clear();
                held_batch_bytes_ = 0;
            },
            [this](const ReceiveSeed& order) { receive_seed(order); },
            [this](const StateChanged& change) { announce_state(change); },
            [this](const Alarm& alarm) { raise_alarm(alarm); },
            [this](const CommandRefused& refusal) { command_refused(refusal); },
            [this](const Retire& order) { end_soon(kExitRetired, "retired: " + order.reason); },
        },
        output);
}

// The work blocks (fdatasync); its completion is an input. A failure is retried: the core cannot go
// on without it, and must not be told that it is done.
void Node::on_disk_thread(std::function<Result<void>()> work, failover::Input done,
                          std::string what) {
    auto attempt = [this, work, done, what]() {
        const auto result = work();
        boost::asio::post(context_, [this, result, work, done, what] {
            if (shut_down_) return;
            if (result) return disk_work_done(done);
            event(EventCode::disk_failed, what + ": " + result.error().to_string());
            auto timer = std::make_shared<boost::asio::steady_timer>(context_, kRetryDelay);
            timer->async_wait([this, timer, work, done, what](const auto& error) {
                if (!error && !shut_down_) on_disk_thread(work, done, what);
            });
        });
    };
    boost::asio::post(disk_work_, std::move(attempt));
}

// A site that is about to be filled anew keeps what it has until the new copy is whole. A third
// site's disk that was never part of the pair is nothing to keep.
void Node::persist(const failover::Persist& order) {
    using failover::DurableRole;
    const failover::Durable before = std::exchange(persisted_, order.state);
    const bool held_something = before.role != DurableRole::none || before.live_epoch > Epoch(0) ||
                                before.disk == wire::DiskCopy::complete;
    const bool keeps = order.state.role == DurableRole::joining &&
                       before.role != DurableRole::joining && held_something;
    const DurableRecord record{order.state, boot_id_};
    on_disk_thread(
        [this, record, keeps, back_to = before.epoch]() -> Result<void> {
            if (keeps) FT_TRY_VOID(seed_undo_->begin(back_to));
            return durable_->store(record);
        },
        failover::Persisted{order.number}, "writing the failover state");
}

void Node::fence_disk(const failover::FenceDisk& order) {
    on_disk_thread(
        [this, order]() -> Result<void> {
            FT_TRY_VOID(disks_->fence(order.epoch));
            if (order.old_copy == failover::FenceDisk::OldCopy::stays) return {};
            return seed_undo_->put_back(order.epoch);
        },
        failover::DiskFenced{order.epoch}, "fencing the disks");
}

Result<void> Node::build_vm() {
    if (built_) return {};
    FT_TRY(built_, vmm::build_vm(*kvm_, config_.vm, disks_->sizes(), config_.pair.state_directory));
    boot_digest_ = vmm::boot_image_digest(built_->memory);
    tsc_ = built_->tsc;
    return {};
}

void Node::make_engine() {
    if (const auto built = build_vm(); !built) {
        return feed(failover::VmFailed{built.error().to_string()});
    }
    engine_ = new_engine();
    disks_->attach(engine_.get());
}

std::unique_ptr<replay::VmEngine> Node::new_engine() {
    replay::InFlightOptions in_flight;
    in_flight.interval.longest = config_.pair.checkpoint_output_delay;
    in_flight.interval.bandwidth_bytes_per_second = config_.pair.checkpoint_bandwidth;
    in_flight.in_flight_bytes_max = config_.pair.log_buffer_bytes;
    if (config_.vm.mode == vmm::ProtectionMode::checkpoint) {
        checkpoint::CheckpointOptions options{in_flight};
        options.reset = checkpoint::CheckpointOptions::Reset::reboots;
        return std::make_unique<checkpoint::CheckpointEngine>(std::move(built_), options, bridge_,
                                                              *disks_, bridge_, metrics_);
    }
    replay::EngineOptions options;
    options.digest_interval = config_.pair.digest_interval;
    options.reset = replay::EngineOptions::Reset::reboots;
    options.healing = replay::EngineOptions::Healing::on;
    options.stretch = {in_flight};
    return std::make_unique<replay::Engine>(std::move(built_), options, bridge_, *disks_, bridge_,
                                            metrics_);
}

void Node::run_vm(const failover::RunVm& order) {
    using failover::RunFrom;
    const auto protect = [this] {
        using Wanted = replay::VmEngine::Protection;
        engine_->protect(log_needed() ? Wanted::on : Wanted::off);
    };
    end_drill("this site goes live");
    if (order.from == RunFrom::disk) {
        drop_vm();
        seed_in_.reset();
        built_.reset();  // its memory may have parts of a seed that came to nothing
    }
    recording_ = true;
    if (order.from == RunFrom::image || order.from == RunFrom::disk) adopt_mode();
    disks_->release();
    switch (order.from) {
        case RunFrom::image:
        case RunFrom::disk:
            make_engine();
            if (!engine_) return;
            protect();
            engine_->start_recording(0);
            event(EventCode::vm_started, fmt::format("epoch {}", order.epoch));
            break;
        case RunFrom::log: {
            const Instant now = MonotonicClock::now();
            const Duration clock =
                clock_offset_ ? *clock_offset_ + now.time_since_epoch() : Duration::zero();
            protect();
            adopt_mode();
            disks_->restart_exits();
            engine_->resume();
            engine_->go_live(static_cast<uint64_t>(std::max<int64_t>(0, clock.count())),
                             log_clock_ns_);
            event(EventCode::went_live, fmt::format("epoch {}", order.epoch));
            break;
        }
        case RunFrom::memory:
            engine_->resume();
            switch_ended(OperationState::failed, "the VM goes on here: " + core_.reason());
            break;
    }
    if (order.from != RunFrom::memory) {
        outbox_.restart_after(engine_->applied());
        checkpoint_ends_.clear();
        forget_stretch_begin();
    }
    last_produced_ = outbox_.last();
    lag_.reset();
    open_ports(NetPort::State::open);
    release_outputs();
}

void Node::follow_vm(const failover::FollowVm& order) {
    recording_ = false;
    open_ports(NetPort::State::closed);
    consuming_ = false;
    disks_->release();
    if (order.from != failover::FollowFrom::seed) verify_base_exit_.reset();
    switch (order.from) {
        case failover::FollowFrom::image:
            make_engine();
            if (engine_) engine_->start_replaying();
            return;
        case failover::FollowFrom::seed:
            engine_->start_replaying();
            return;
        case failover::FollowFrom::memory:
            // What is held was made before the hand-over: the new primary has made it too, and
            // releases it.
            disks_->restart_exits();
            engine_->want_deltas(std::nullopt);
            engine_->follow();
            switch_ended(OperationState::succeeded, fmt::format("epoch {}", order.epoch));
            return;
    }
}

void Node::open_ports(NetPort::State state) {
    for (size_t i = 0; i < ports_.size(); ++i) {
        ports_[i]->set_state(state);
        if (state == NetPort::State::open) ports_[i]->announce(config_.vm.networks[i].guest_mac);
    }
}

void Node::halt_vm() {
    end_drill("this site halts");
    end_verify("this site halts");
    end_snapshot("this site halts");
    open_ports(NetPort::State::closed);
    disks_->hold();
    if (!engine_ || engine_stopped_) return feed(failover::VmHalted{});
    engine_->pause();
}

// Nothing of it is called, and nothing of it calls, afterwards.
void Node::end_engine() {
    end_snapshot("this site's VM is given up");
    end_verify("this site's VM is given up");
    seed_out_.reset();
    if (!engine_) return;
    engine_->stop();
    disks_->attach(nullptr);  // a disk thread may be telling the engine of a read
    engine_.reset();
}

void Node::drop_vm() {
    forget_heal();
    owed_acknowledgement_.reset();  // what it is owed for is not held any more
    end_drill("the backup's VM is given up");
    if (!engine_) return;
    end_engine();
    engine_stopped_ = false;
    last_words_.reset();
    last_words_timer_.cancel();
    guest_ended_ = false;
    recording_ = false;
    consuming_ = false;
    backlog_.clear();
    backlog_bytes_ = 0;
    while (bridge_.take(true)) {
    }
    gate_ = OutputGate();
}

void Node::use_epoch(const failover::UseEpoch& order) {
    flush_log();
    if (order.epoch != epoch_) end_verify(fmt::format("epoch {} begins", order.epoch));
    epoch_ = order.epoch;
    if (partner_ != order.partner && recording_ && diverged_) ++heals_given_up_;
    if (partner_ != order.partner && !(heal_in_ && heal_in_->committed())) forget_heal();
    partner_ = order.partner;
    disks_->set_epoch(order.epoch);
    if (heartbeat_) heartbeat_->set_epoch(order.epoch);
    if (heal_request_ && heal_in_ && !heal_in_->committed())
        ask_for_heal();  // the old epoch's is not answered
    if (partner_ != Member{}) return;
    outbox_.drop_all();
    checkpoint_ends_.clear();
    forget_stretch_begin();
    if (!engine_) return;
    engine_->protect(replay::VmEngine::Protection::off);
    engine_->want_deltas(std::nullopt);
}

}  // namespace antipode::control
