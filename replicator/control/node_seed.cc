// Copying the VM to a new backup, and being one.
#include <algorithm>
#include <boost/asio/post.hpp>

#include "common/base/log.h"
#include "replicator/control/node.h"

namespace antipode::control {
namespace {

constexpr double kRatioWhole = 1e6;

}  // namespace

void Node::begin_seed(const failover::BeginSeed& order) {
    const uint64_t attempt = order.attempt;
    SeedSender::Hooks hooks;
    hooks.send = [this](std::span<const std::byte> bytes) {
        return channel_
            ->send(wire::MessageClass::seed, static_cast<uint8_t>(Message::seed_piece), epoch_,
                   bytes)
            .has_value();
    };
    hooks.on_ready = [this, attempt] { feed(failover::SeedReady{attempt}); };
    hooks.on_cut = [this, attempt](LogIndex position, Duration stood) {
        const std::chrono::duration<double, std::milli> pause = stood;
        const auto disks = seed_out_->disk_figures();
        event(EventCode::seed_finished,
              fmt::format("the copy is cut; what is left is on its way. pause_ms={:.1f} "
                          "disk_sent_bytes={} disk_equal_bytes={}",
                          pause.count(), disks.sent_bytes, disks.equal_bytes));
        feed(failover::SeedCut{attempt, position});
    };
    hooks.on_failed = [this, attempt](const std::string& text) {
        event(EventCode::disk_failed, "seeding: " + text);
        feed(failover::SeedFailed{attempt, text});
    };
    seed_cut_ = false;
    end_snapshot("a new backup is being seeded");
    seed_out_ = std::make_unique<SeedSender>(attempt, *engine_, *disks_, SeedSender::Cut::follow,
                                             std::move(hooks));
    event(EventCode::seed_started, fmt::format("to {}", order.to.site));
    seed_out_->begin();
}

// The recorder stands at an exit: for a switchover, or for the cut of a seed.
void Node::on_standing(VcpuBridge::Standing standing) {
    if (standing.state && standing.state->snapshot != 0) {
        if (snapshot_ && snapshot_->waits_for(standing.state->snapshot)) {
            return snapshot_standing(std::move(standing.state));
        }
        return drill_standing(*standing.state);
    }
    if (!recording_) return;
    if (!standing.state) {
        switch_began();
        flush_log();
        return feed(failover::VmPaused{outbox_.last()});
    }
    if (!seed_out_) {
        if (partner_ == Member{}) engine_->protect(replay::VmEngine::Protection::off);
        return engine_->resume();
    }
    // Nobody needs the log up to here; the new backup needs it from here on.
    outbox_.drop_all();
    checkpoint_ends_.clear();
    seed_cut_ = true;
    lag_.reset();
    seed_out_->standing(std::move(standing.state), outbox_.last(), gate_);
}

void Node::receive_seed_progress(std::span<const std::byte> payload) {
    const auto taken = decode_seed_figure(payload);
    if (taken && seed_out_ && taken->attempt == seed_out_->attempt()) {
        seed_out_->progress(taken->value);
    }
}

void Node::receive_seed_digests(std::span<const std::byte> payload) {
    auto answer = decode_seed_digests(payload);
    if (!answer) {
        logger("stream").error("{}: {}", peer_site(), answer.error().to_string());
        return;
    }
    if (seed_out_ && answer->attempt == seed_out_->attempt()) {
        seed_out_->digests(std::move(*answer));
    }
}

// The sender alone knows how much there is. For people: nothing is decided by it.
void Node::tell_seed_ratio() {
    if (!seed_out_ || !peer_ || *peer_ != partner_) return;
    const auto whole = static_cast<uint64_t>(seed_out_->ratio() * kRatioWhole);
    (void)channel_->send(wire::MessageClass::control, static_cast<uint8_t>(Message::seed_ratio),
                         epoch_, encode(SeedFigure{seed_out_->attempt(), whole}));
}

void Node::receive_seed_ratio(std::span<const std::byte> payload) {
    const auto said = decode_seed_figure(payload);
    if (!said || !seed_in_ || said->attempt != seed_in_->attempt()) return;
    seed_in_ratio_ = std::clamp(static_cast<double>(said->value) / kRatioWhole, 0.0, 1.0);
}

std::optional<double> Node::seed_ratio() const {
    if (seed_out_) return seed_out_->ratio();
    return seed_in_ ? seed_in_ratio_ : std::nullopt;
}

void Node::receive_seed(const failover::ReceiveSeed& order) {
    const uint64_t attempt = order.attempt;
    drop_vm();
    feed(failover::MemoryLost{});  // whatever stood here, the copy takes its place
    built_.reset();
    held_batches_.clear();
    held_batch_bytes_ = 0;
    seed_in_ratio_.reset();
    if (const auto built = build_vm(); !built) {
        return feed(failover::SeedFailed{attempt, built.error().to_string()});
    }
    SeedReceiver::Hooks hooks;
    hooks.progress = [this, attempt](uint64_t bytes) {
        (void)channel_->send(wire::MessageClass::control,
                             static_cast<uint8_t>(Message::seed_progress), epoch_,
                             encode(SeedFigure{attempt, bytes}));
    };
    hooks.answer = [this](const SeedDigests& answer) {
        (void)channel_->send(wire::MessageClass::control,
                             static_cast<uint8_t>(Message::seed_digests), epoch_, encode(answer));
    };
    hooks.save_before = [this](const DriveChunk& chunk, std::function<void(Result<void>)> saved) {
        seed_undo_->save_then(chunk, std::move(saved));
    };
    hooks.on_loaded = [this](SeedEnd end) { seed_loaded(std::move(end)); };
    hooks.on_failed = [this, attempt](const std::string& text) {
        event(EventCode::disk_failed, "being seeded: " + text);
        feed(failover::SeedFailed{attempt, text});
    };
    event(EventCode::seed_started, fmt::format("from {}", order.from.site));
    if (disks_->drive_count() > 0) {
        event(EventCode::disk_sync_started,
              fmt::format("{} disks are filled from {}", disks_->drive_count(), order.from.site));
    }
    seed_in_ = std::make_unique<SeedReceiver>(attempt, *built_, *disks_, std::move(hooks));
    // What the VM before, or the attempt before, still had under way could land on top of this one.
    channel_->set_delivery(wire::MessageClass::seed, stream::Channel::Delivery::paused);
    disks_->when_idle([this, attempt] {
        if (!seed_in_ || seed_in_->attempt() != attempt) return;
        channel_->set_delivery(wire::MessageClass::seed, stream::Channel::Delivery::flowing);
    });
}

// Before the core starts. Whoever has a whole copy, or replays, has no use for an older one.
Result<void> Node::open_seed_undo() {
    SeedUndo::Hooks hooks;
    hooks.on_given_up = [this](const std::string& why) {
        event(EventCode::disk_undo_dropped, "what the copy overwrites here is not kept: " + why);
    };
    hooks.on_put_back = [this](Epoch back_to, uint64_t blocks) {
        event(EventCode::disk_put_back,
              fmt::format("the disks are again as they were in epoch {}, before a copy that broke "
                          "off: {} blocks of 64 KiB were put back",
                          back_to, blocks));
    };
    seed_undo_ = std::make_unique<SeedUndo>(*disks_, context_, disk_work_,
                                            config_.pair.seed_undo_bytes_max, std::move(hooks));
    if (durable_->loaded()) persisted_ = durable_->loaded()->state;
    const bool may_count = durable_->loaded() && persisted_.disk == wire::DiskCopy::incomplete &&
                           persisted_.role != failover::DurableRole::backup;
    return may_count ? seed_undo_->load() : seed_undo_->forget();
}

// Everything is in place; the disks are made durable before anybody hears of it.
void Node::seed_loaded(SeedEnd end) {
    auto shared = std::make_shared<SeedEnd>(std::move(end));
    const uint64_t attempt = shared->attempt;
    boost::asio::post(disk_work_, [this, shared, attempt] {
        auto flushed = disks_->flush();
        if (flushed) flushed = seed_undo_->forget();
        boost::asio::post(context_, [this, shared, attempt, flushed] {
            if (shut_down_ || !seed_in_ || seed_in_->attempt() != attempt) return;
            if (flushed) {
                if (disks_->drive_count() > 0) {
                    event(EventCode::disk_sync_finished, "they are whole, and flushed");
                }
                return start_loaded(*shared);
            }
            feed(failover::SeedFailed{attempt, flushed.error().to_string()});
        });
    });
}

void Node::start_loaded(const SeedEnd& end) {
    make_engine();
    if (!engine_) return;
    if (const auto restored = engine_->restore(end.state, end.position); !restored) {
        return feed(failover::SeedFailed{end.attempt, restored.error().to_string()});
    }
    verify_base_exit_ = end.state.exit.value();
    verify_record_.all_equal(unix_ms());  // all of the disks has been compared, or written
    gate_.begin_after(end.released);
    for (const auto& held : end.held) {
        gate_.hold({held.number, LogIndex(), held.output, MonotonicClock::now()});
    }
    log_clock_ns_ = end.state.guest_clock_ns;
    clock_offset_ = Duration(static_cast<int64_t>(end.state.guest_clock_ns)) -
                    MonotonicClock::now().time_since_epoch();
    seed_in_.reset();
    channel_->set_delivery(wire::MessageClass::seed, stream::Channel::Delivery::paused);
    event(EventCode::seed_finished, fmt::format("at entry {}", end.position));
    feed(failover::SeedLoaded{end.attempt, end.position});
    auto held = std::move(held_batches_);
    held_batches_.clear();
    held_batch_bytes_ = 0;
    for (const auto& [epoch, bytes] : held) receive_batch(epoch, bytes);
}

}  // namespace antipode::control
