// The log, both ways, and the guest's outputs.
#include <algorithm>
#include <boost/asio/post.hpp>

#include "common/base/check.h"
#include "common/base/log.h"
#include "common/wire/failover_frames.h"
#include "replicator/checkpoint/checkpoint_part.h"
#include "replicator/control/node.h"

namespace antipode::control {
namespace {

constexpr Duration kBacklogRetry = std::chrono::milliseconds(2);
constexpr Duration kLagReportInterval = std::chrono::milliseconds(50);
constexpr Duration kLagRepeatInterval = std::chrono::seconds(1);
// Then heartbeats and timers get their turn: an item can be a delta of hundreds of pages.
constexpr size_t kItemsPerTurnMax = 4096;
constexpr Duration kTurnMax = std::chrono::milliseconds(10);
constexpr Duration kLastWordsMax = std::chrono::seconds(2);
constexpr Duration kResendAfter = std::chrono::seconds(1);
constexpr Duration kResendRequestInterval = std::chrono::milliseconds(20);

// The last entry of a checkpoint, or of a delta of a stretch: all of it is there then.
bool ends_delta(const replay::LogEntry& entry) {
    if (const auto* piece = std::get_if<replay::StretchState>(&entry.body)) {
        return piece->piece == replay::StretchState::Piece::last;
    }
    const auto* part = std::get_if<replay::CheckpointPart>(&entry.body);
    return part != nullptr && checkpoint::is_end(part->bytes);
}

}  // namespace

void Node::wait_for_vcpu() {
    bridge_event_.async_wait(boost::asio::posix::descriptor_base::wait_read,
                             [this](const boost::system::error_code& error) {
                                 if (error || shut_down_) return;
                                 bridge_.clear_event();
                                 drain_vcpu();
                                 wait_for_vcpu();
                             });
}

bool Node::log_has_room() const {
    return !log_needed() || outbox_.unacknowledged_bytes() < config_.pair.log_buffer_bytes;
}

void Node::drain_vcpu() {
    bool output = false;
    const Instant began = MonotonicClock::now();
    for (size_t i = 0; i < kItemsPerTurnMax && MonotonicClock::now() - began < kTurnMax; ++i) {
        auto item = bridge_.take(log_has_room());
        if (!item) break;
        output |= take_item(std::move(*item));
    }
    if (engine_) engine_->wake();  // it may have waited for room
    if (!log_needed()) {
        // Solo: nobody needs the log. It is numbered all the same, so that a new backup can begin
        // at any entry.
        outbox_.drop_all();
        flush_policy_.flushed();
    } else if (recording_) {
        schedule_flush(output);
    }
    release_outputs();
    if (!bridge_.empty() && log_has_room()) {
        boost::asio::post(context_, [this] {
            if (!shut_down_) drain_vcpu();
        });
    }
}

// True if the item was an output: what it depends on must go out at once.
bool Node::take_item(VcpuBridge::Item item) {
    if (auto* step = std::get_if<replay::Recorded>(&item)) {
        const bool output = step->output_number != OutputNumber();
        on_recorded(std::move(*step));
        return output;
    }
    if (auto* made = std::get_if<replay::ReplayedOutput>(&item)) {
        const bool gone = made->number <= gate_.released();
        if (gone && made->output.kind == vmm::Output::Kind::console) emit(made->output);
        gate_.hold({made->number, LogIndex(), std::move(made->output), MonotonicClock::now()});
    } else if (const auto* drained = std::get_if<VcpuBridge::Drained>(&item)) {
        feed(failover::LogDrained{drained->applied});
    } else if (std::holds_alternative<VcpuBridge::Paused>(item)) {
        feed(failover::VmHalted{});
    } else if (auto* standing = std::get_if<VcpuBridge::Standing>(&item)) {
        on_standing(std::move(*standing));
    } else if (const auto* dirty = std::get_if<VcpuBridge::DirtyPages>(&item)) {
        if (snapshot_ && !snapshot_->over()) {
            snapshot_->dirty_pages(dirty->bitmap);
        } else if (seed_out_) {
            seed_out_->dirty_pages(dirty->bitmap);
        }
    } else if (const auto* stopped = std::get_if<VcpuBridge::Stopped>(&item)) {
        on_stopped(*stopped);
    } else if (const auto* digest = std::get_if<VcpuBridge::DigestChecked>(&item)) {
        ++digests_checked_;
        if (digest->text.empty()) {
            last_ok_exit_ = digest->exit.value();
        } else {
            ++digest_mismatches_;
            diverged_ = true;
            digest_trouble_ = fmt::format("exit {}: {}", digest->exit, digest->text);
            logger("replay").error("this backup has diverged: {}", digest_trouble_);
            event(EventCode::digest_mismatch, digest_trouble_);
        }
    } else if (auto* wanted = std::get_if<VcpuBridge::HealWanted>(&item)) {
        on_heal_wanted(std::move(*wanted));
    } else if (auto* answered = std::get_if<VcpuBridge::HealAnswered>(&item)) {
        on_heal_answered(std::move(*answered));
    } else if (auto* healed = std::get_if<VcpuBridge::Healed>(&item)) {
        on_healed(std::move(*healed));
    } else if (const auto* trouble = std::get_if<VcpuBridge::DiskTrouble>(&item)) {
        logger("disksync").error("{}; trying again", trouble->text);
        event(EventCode::disk_failed, trouble->text);
    }
    return false;
}

void Node::on_recorded(replay::Recorded step) {
    log_entries_total_.add();
    const bool ends = ends_delta(step.entry);
    const bool begins = std::holds_alternative<replay::StretchBegin>(step.entry.body);
    const ExitNumber exit = step.entry.exit;
    flush_policy_.added(step.entry, MonotonicClock::now(),
                        engine_ ? engine_->halted() : Duration{});
    const LogIndex index = outbox_.add(std::move(step.entry));
    if (ends) checkpoint_ends_.emplace_back(index, exit);
    if (begins) stretch_begins(index);
    if (step.output_number == OutputNumber()) return;
    gate_.hold({step.output_number, index, std::move(step.output), step.time});
}

// The backup has whole checkpoints, or deltas: what was held for them may go on.
void Node::tell_acknowledged() {
    if (!recording_ || !engine_ || *peer_ != partner_) return;
    std::optional<ExitNumber> newest;
    while (!checkpoint_ends_.empty() && checkpoint_ends_.front().first <= outbox_.acknowledged()) {
        newest = checkpoint_ends_.front().second;
        checkpoint_ends_.pop_front();
    }
    if (newest) engine_->acknowledged(*newest);
}

void Node::on_stopped(const VcpuBridge::Stopped& stopped) {
    engine_stopped_ = true;
    const auto text = fmt::format("{}: {}", to_string(stopped.reason), stopped.text);
    logger("replay").info("vCPU stopped: {}", text);
    if (drill_waits()) fail_drill("the backup's VM has stopped: " + text);
    end_snapshot("the VM has stopped: " + text);
    switch (stopped.reason) {
        case replay::StopReason::stopped:
            return;
        case replay::StopReason::guest_reset:
        case replay::StopReason::guest_halted:
        case replay::StopReason::powered_off:
            event(EventCode::vm_stopped, text);
            if (recording_) {
                flush_log();
                wait_for_last_words();
            } else if (consuming_) {
                feed(failover::LogDrained{engine_->applied()});
            } else {
                guest_ended_ = true;  // the primary says so too, or this site has diverged
            }
            return;
        case replay::StopReason::failed:
        case replay::StopReason::diverged:
            event(EventCode::vm_error, text);
            feed(failover::VmFailed{text});
            return;
    }
}

// A guest that has ended is given up only when what it said last has left: that takes the backup's
// acknowledgement of its last entry, or nobody who has to give it.
void Node::wait_for_last_words() {
    last_words_ = outbox_.last();
    last_words_timer_.expires_after(kLastWordsMax);
    last_words_timer_.async_wait([this](const boost::system::error_code& error) {
        if (!error && !shut_down_) end_guest(LastWords::given_up);
    });
    end_guest(LastWords::acknowledged);
}

void Node::end_guest(LastWords words) {
    if (!last_words_ || !engine_ || !recording_) return;
    if (words == LastWords::acknowledged && log_needed() && outbox_.acknowledged() < *last_words_)
        return;
    last_words_.reset();
    last_words_timer_.cancel();
    feed(failover::GuestStopped{outbox_.last()});
}

void Node::schedule_flush(bool now) {
    const Duration halted = engine_ ? engine_->halted() : Duration{};
    if (now || flush_policy_.due(MonotonicClock::now(), halted)) return flush_log();
    if (!flush_policy_.oldest()) return;
    const Instant deadline = flush_policy_.deadline();
    if (flush_armed_ && *flush_armed_ <= deadline) return;
    flush_armed_ = deadline;
    flush_timer_.expires_at(std::chrono::steady_clock::time_point(deadline.time_since_epoch()));
    flush_timer_.async_wait([this](const boost::system::error_code& error) {
        if (error || shut_down_) return;  // another deadline took its place
        flush_armed_.reset();
        flush_log();
    });
}

// Sends everything that is recorded. What the channel does not take stays in the outbox, within the
// log's bound, until the channel is writable.
void Node::flush_log() {
    if (!recording_ || !engine_ || !log_needed()) return flush_policy_.flushed();
    // passed() first: all entries of exits up to it are in the bridge by now.
    const ExitNumber passed = engine_->passed();
    const ExitNumber complete = bridge_.empty() ? passed : ExitNumber();
    const Instant now = MonotonicClock::now();
    outbox_.make_batches(complete, gate_.released(), engine_->guest_clock_ns(now));
    const Instant recorded = flush_policy_.oldest().value_or(now);
    flush_policy_.flushed();
    if (outbox_.last() > last_produced_) {
        last_produced_ = outbox_.last();
        lag_.sent(last_produced_, recorded, now);
        feed(failover::LogProduced{last_produced_});
    }
    if (!peer_ || *peer_ != partner_) return;
    while (const auto* batch = outbox_.next_batch()) {
        if (!send_as_log(Message::log_batch, epoch_, batch->bytes)) return;
        (batch->sent_in ? log_repeated_bytes_total_ : log_bytes_total_).add(batch->bytes.size());
        outbox_.sent(epoch_);
    }
}

bool Node::send_as_log(Message type, Epoch epoch, std::span<const std::byte> bytes) {
    if (!channel_->send(wire::MessageClass::log, static_cast<uint8_t>(type), epoch, bytes)) {
        return false;
    }
    log_handed_bytes_ += bytes.size();
    return true;
}

// A backup that had stopped taking entries gets them again: nothing has been acknowledged for a
// while though something is out, and the channel has brought all of it. What is still on its way
// over a narrow line only takes its time.
void Node::resend_if_stalled() {
    const Instant now = MonotonicClock::now();
    if (outbox_.unacknowledged_count() == 0 || outbox_.acknowledged() != stall_position_) {
        stall_position_ = outbox_.acknowledged();
        stall_since_ = now;
        return;
    }
    if (!recording_ || !peer_ || *peer_ != partner_) return;
    const Duration round_trip = channel_->stats().rtt.value_or(Duration::zero());
    if (now - stall_since_ < kResendAfter + 4 * round_trip) return;
    if (channel_->unsent_bytes(wire::MessageClass::log) == 0) resend_all();
}

// While what was out at the last time is still on its way, the copy that was made of it is behind
// it: another one helps nobody. The backup asks again as long as it misses something.
void Node::resend_all() {
    const uint64_t unsent = channel_->unsent_bytes(wire::MessageClass::log);
    if (log_handed_bytes_ - unsent < resend_mark_) return;
    resend_mark_ = log_handed_bytes_;
    stall_since_ = MonotonicClock::now();
    outbox_.rewind();
    flush_log();
}

// Entries that this backup did not take are missing now. One request a round trip is enough.
void Node::ask_to_resend() {
    const Instant now = MonotonicClock::now();
    resend_owed_ = !peer_ || *peer_ != partner_;
    if (now < next_resend_request_ || resend_owed_) return;
    const Duration round_trip = channel_->stats().rtt.value_or(Duration::zero());
    next_resend_request_ = now + std::max(kResendRequestInterval, round_trip + round_trip / 2);
    (void)channel_->send(wire::MessageClass::control, static_cast<uint8_t>(Message::resend), epoch_,
                         encode_index(core_.log_end()));
}

void Node::release_outputs() {
    if (!recording_) return;
    const Instant now = MonotonicClock::now();
    if (!stall_guard_.may_act(now)) return;  // the proof comes back here
    for (const auto& held : gate_.take()) {
        emit(held.output);
        output_delay_.observe(std::chrono::duration<double>(now - held.time).count());
    }
}

void Node::emit(const vmm::Output& output) {
    if (output.kind == vmm::Output::Kind::console) {
        const std::string_view text(reinterpret_cast<const char*>(output.bytes.data()),
                                    output.bytes.size());
        journal_.add_console(text);
        console_log_.write(text);
    } else if (output.device < ports_.size()) {
        ports_[output.device]->send(output.bytes);
    }
}

// ---- Backup ----

void Node::receive_batch(Epoch epoch, std::span<const std::byte> payload) {
    if (seed_in_) {
        // The log goes on while the copy is still on its way. It is bounded as any backlog is.
        held_batch_bytes_ += payload.size();
        if (held_batch_bytes_ <= config_.pair.log_buffer_bytes) {
            held_batches_.emplace_back(epoch,
                                       std::vector<std::byte>(payload.begin(), payload.end()));
        }
        return;
    }
    auto batch = replay::decode_log_batch(payload);
    if (!batch) {
        batches_dropped_total_.add();
        logger("stream").error("{}: {}", peer_site(), batch.error().to_string());
        return;
    }
    const LogIndex last(batch->first.value() + batch->entries.size() - 1);
    const Duration offset = Duration(static_cast<int64_t>(batch->guest_clock_ns)) -
                            MonotonicClock::now().time_since_epoch();
    const LogIndex first = batch->first;
    const uint64_t guest_clock_ns = batch->guest_clock_ns;
    offered_ = std::move(*batch);
    feed(failover::LogReceived{epoch, *peer_, me_, first, last});
    if (offered_) {
        batches_dropped_total_.add();  // the core did not want it
        offered_.reset();
        if (core_.state() == wire::SiteState::paired_backup && first > core_.log_end().next()) {
            ask_to_resend();
        }
    } else {
        log_clock_ns_ = guest_clock_ns;
        clock_offset_ = clock_offset_ ? std::max(*clock_offset_, offset) : offset;
    }
}

void Node::accept_log(const failover::AcceptLog& order) {
    FT_CHECK(offered_.has_value(), "accepts entries that were not offered");
    if (!recording_) {
        // The console at this site shows all that the guest ever printed.
        for (const auto& held : gate_.released_elsewhere(offered_->released)) {
            if (held.output.kind == vmm::Output::Kind::console) emit(held.output);
        }
    }
    if (guest_ended_) {
        guest_ended_ = false;
        feed(failover::VmFailed{"the guest ended here and goes on at the primary"});
    }
    uint64_t index = offered_->first.value();
    for (auto& entry : offered_->entries) {
        if (LogIndex(index) >= order.first && LogIndex(index) <= order.last) {
            backlog_bytes_ += replay::encoded_bytes_max(entry);
            backlog_.emplace_back(LogIndex(index), std::move(entry));
        }
        ++index;
    }
    offered_.reset();
    if (heal_in_) heal_in_->log_is_at(order.last);
    feed_backlog();
}

void Node::feed_backlog() {
    while (engine_ && !backlog_.empty() && engine_->feed_room() > 0) {
        backlog_bytes_ -= replay::encoded_bytes_max(backlog_.front().second);
        auto [index, entry] = std::move(backlog_.front());
        backlog_.pop_front();
        FT_CHECK(engine_->feed(index, std::move(entry)), "room was there");
    }
    if (backlog_.empty()) {
        if (consuming_ && engine_) engine_->close_log();
        send_acknowledgement();
        return;
    }
    if (backlog_timer_armed_) return;
    backlog_timer_armed_ = true;
    backlog_timer_.expires_after(kBacklogRetry);
    backlog_timer_.async_wait([this](const boost::system::error_code& error) {
        backlog_timer_armed_ = false;
        if (!error && !shut_down_) feed_backlog();
    });
}

// An acknowledgement is owed until the backlog is within its bound: that is how a slow backup slows
// the primary before either runs out of memory.
void Node::acknowledge(const failover::Acknowledge& order) {
    owed_acknowledgement_ = order;
    send_acknowledgement();
}

void Node::send_acknowledgement() {
    if (!owed_acknowledgement_ || backlog_bytes_ > config_.pair.log_buffer_bytes) return;
    if (!peer_) return;  // it is told when it is there again
    const auto& owed = *owed_acknowledgement_;
    if (*peer_ == owed.to) {
        const auto bytes = encode_index(owed.last);
        if (!channel_->send(wire::MessageClass::control, static_cast<uint8_t>(Message::acknowledge),
                            owed.epoch, bytes)) {
            return;  // or when there is room
        }
    }
    owed_acknowledgement_.reset();
}

void Node::send_lag_report() {
    const Instant now = MonotonicClock::now();
    if (recording_ || !engine_ || !peer_ || *peer_ != partner_ || now < next_lag_report_) return;
    const LogIndex applied = engine_->applied();
    // Nothing new is said once in a while all the same: a report may have come before its batch's
    // sender was ready for it.
    if (applied == lag_reported_ && now < next_lag_report_ + kLagRepeatInterval) return;
    next_lag_report_ = now + kLagReportInterval;
    lag_reported_ = applied;
    const auto bytes = encode_index(applied);
    (void)channel_->send(wire::MessageClass::control, static_cast<uint8_t>(Message::lag_report),
                         epoch_, bytes);
}

Duration Node::round_trip() const {
    return heartbeat_ ? heartbeat_->stats().rtt.value_or(Duration::zero()) : Duration::zero();
}

// In checkpoint mode: how long the oldest checkpoint that the backup is not known to have is on its
// way, but for what the line takes in any case.
Duration Node::checkpoint_lag(const replay::CheckpointStatus& checkpoints) const {
    return std::max(Duration::zero(), checkpoints.oldest_age - round_trip());
}

Duration Node::execution_lag(Instant now) const {
    if (const auto checkpoints = engine_->checkpoint_status()) return checkpoint_lag(*checkpoints);
    const Duration waiting = flush_policy_.oldest() ? now - *flush_policy_.oldest() : Duration{};
    return std::max(lag_.seconds(now, round_trip()), waiting);
}

// A heal holds the backup up and says nothing of its speed.
void Node::control_lag() {
    const Instant now = MonotonicClock::now();
    if (!engine_ || now < next_lag_step_) return;
    next_lag_step_ = now + LagController::kStep;
    if (!recording_ || !log_needed()) {
        lag_controller_.reset();
    } else if (const auto checkpoints = engine_->checkpoint_status()) {
        lag_controller_.step(checkpoint_lag(*checkpoints));
    } else if (!diverged_) {
        lag_controller_.step(lag_.since_sent(now, round_trip()));
    }
    engine_->set_run_share(lag_controller_.share());
    engine_->set_round_trip(round_trip());
}

// ---- The channel ----

void Node::on_session_up(const Member& peer, std::span<const std::byte> hello) {
    if (peer.site != peer_site()) {
        logger("stream").error("the channel's other end says it is {}, expected {}", peer.site,
                               peer_site());
        return;
    }
    if (!understood(hello)) return;
    peer_ = peer;
    // A session that goes on has kept what it was given. What it was given in an epoch that is over
    // is refused at the other end.
    const bool goes_on = channel_->session().start == stream::SessionStart::resumed;
    if (!goes_on || !outbox_.sent_all_in(epoch_)) outbox_.rewind();
    event(EventCode::peer_connected,
          fmt::format("{} incarnation {:016x}", peer.site, peer.incarnation.value()));
    feed(failover::SessionUp{});
    flush_log();
    send_acknowledgement();
    if (resend_owed_ && core_.state() == wire::SiteState::paired_backup) ask_to_resend();
}

void Node::on_session_down(const std::string& reason) {
    if (!peer_) return;
    event(EventCode::peer_lost, reason);
    peer_.reset();
    interrupt_verify("the session broke");
    feed(failover::SessionDown{});
}

void Node::on_message(wire::MessageClass, uint8_t type, Epoch epoch,
                      std::span<const std::byte> payload) {
    if (!peer_) return;
    detector_.heard(MonotonicClock::now());
    if (is_stale(static_cast<Message>(type), epoch, epoch_)) {
        stale_epoch_messages_total_.add();
        return;
    }
    switch (static_cast<Message>(type)) {
        case Message::log_batch:
            return receive_batch(epoch, payload);
        case Message::acknowledge:
            if (const auto index = decode_index(payload)) {
                if (epoch == epoch_ && *index <= outbox_.last()) {
                    outbox_.acknowledge(*index);
                    tell_acknowledged();
                    if (*peer_ == partner_) epoch_acknowledged(*index);
                }
                feed(failover::AckReceived{epoch, *peer_, me_, *index});
                if (!bridge_.empty()) drain_vcpu();
                if (last_words_) end_guest(LastWords::acknowledged);
                return;
            }
            break;
        case Message::peer: {
            const auto message = wire::decode_peer_message(payload);
            if (message) return feed(failover::PeerSays{*message});
            logger("stream").error("{}: {}", peer_site(), message.error().to_string());
            return;
        }
        case Message::lag_report:
            if (const auto index = decode_index(payload)) {
                lag_.applied(*index);
                if (epoch == epoch_ && *peer_ == partner_) stretch_followed(*index);
                return;
            }
            break;
        case Message::resend:
            if (epoch == epoch_ && recording_ && *peer_ == partner_) resend_all();
            return;
        case Message::seed_piece:
            if (seed_in_) seed_in_->receive(payload);
            return;
        case Message::seed_progress:
            return receive_seed_progress(payload);
        case Message::seed_digests:
            return receive_seed_digests(payload);
        case Message::seed_ratio:
            return receive_seed_ratio(payload);
        case Message::heal:
            return receive_heal(epoch, payload);
        case Message::verify:
            return receive_verify(epoch, payload);
        case Message::switch_wanted:
            return receive_switch_wanted(epoch, payload);
        case Message::switch_refused:
            return receive_switch_refused(payload);
    }
    logger("stream").warn("{}: message type {} with {} bytes makes no sense, dropped", peer_site(),
                          type, payload.size());
}

void Node::on_writable() {
    flush_log();
    send_acknowledgement();
    if (seed_out_) seed_out_->pump();
    if (heal_out_) heal_out_->pump();
}

}  // namespace antipode::control
