// A planned change of roles as people see it: an operation, two events, and how long the guest
// stood. The exchange itself is the failover core's (docs/PROTOCOL-failover.md).
#include "common/base/log.h"
#include "replicator/control/node.h"

namespace antipode::control {
namespace {

constexpr Duration kAskedLimit = std::chrono::seconds(30);
constexpr Duration kAskedInterval = std::chrono::milliseconds(20);
constexpr size_t kTextBytesMax = 512;

std::string text_of(std::span<const std::byte> payload) {
    const std::string_view text(reinterpret_cast<const char*>(payload.data()), payload.size());
    return printable(text, kTextBytesMax);
}

}  // namespace

Result<ActionReply> Node::switch_over(const ActionRequest& request) {
    if (switch_operation_ || switch_asked_) {
        return fail(Errc::busy, "a switchover is under way");
    }
    if (diverged_) {
        return fail(Errc::busy,
                    "the backup differs and is being put right: switch over when it is protected");
    }
    if (core_.state() == wire::SiteState::paired_backup) return ask_for_switchover(request);
    const failover::Command order{failover::CommandKind::switch_over, request.confirm};
    if (request.check) return foresee(Method::switchover, order);
    if (core_.state() != wire::SiteState::paired_primary) {
        return command(Method::switchover, order, request);
    }
    FT_TRY(const uint64_t operation,
           journal_.begin_operation(unix_ms(), Method::switchover, request.actor,
                                    fmt::format("to {}", peer_site())));
    switch_operation_ = operation;
    auto reply = command(Method::switchover, order, request);
    if (!reply) {
        switch_ended(OperationState::failed, reply.error().to_string());
        return reply;
    }
    reply->operation = operation;
    reply->consequence =
        fmt::format("the VM goes on at {}, this site becomes its backup", peer_site());
    event(EventCode::switchover_started,
          fmt::format("to {}, asked by {}", peer_site(), request.actor));
    return reply;
}

// The primary decides: it is asked over the channel, as if its own operator had.
Result<ActionReply> Node::ask_for_switchover(const ActionRequest& request) {
    if (!peer_ || !engine_ || engine_stopped_) {
        return fail(Errc::busy, "{} is not in step with its primary", config_.pair.site);
    }
    ActionReply reply;
    reply.consequence =
        fmt::format("the VM comes to {}, {} becomes its backup", config_.pair.site, peer_site());
    if (request.check) return reply;
    const std::string actor =
        printable(fmt::format("{} at {}", request.actor, config_.pair.site), kTextBytesMax);
    if (auto sent = channel_->send(wire::MessageClass::control,
                                   static_cast<uint8_t>(Message::switch_wanted), epoch_,
                                   std::as_bytes(std::span(actor)));
        !sent) {
        return fail(std::move(sent).error());
    }
    FT_TRY(const uint64_t operation,
           journal_.begin_operation(unix_ms(), Method::switchover, request.actor,
                                    fmt::format("from {}", peer_site())));
    switch_asked_ = operation;
    reply.operation = operation;
    event(EventCode::switchover_started,
          fmt::format("from {}, asked by {}", peer_site(), request.actor));
    wait_for_switchover(MonotonicClock::now() + kAskedLimit);
    return reply;
}

void Node::wait_for_switchover(Instant until) {
    if (!switch_asked_) return;
    if (core_.state() == wire::SiteState::paired_primary && recording_) {
        return asked_switch_ended(OperationState::succeeded, fmt::format("epoch {}", epoch_));
    }
    if (MonotonicClock::now() >= until) {
        return asked_switch_ended(OperationState::failed,
                                  fmt::format("{} has not handed over", peer_site()));
    }
    switch_timer_.expires_after(kAskedInterval);
    switch_timer_.async_wait([this, until](const boost::system::error_code& error) {
        if (!error && !shut_down_) wait_for_switchover(until);
    });
}

void Node::asked_switch_ended(OperationState state, const std::string& text) {
    if (!switch_asked_) return;
    journal_.end_operation(unix_ms(), *switch_asked_, state, text);
    switch_asked_.reset();
    switch_timer_.cancel();
    event(EventCode::switchover_finished, text,
          state == OperationState::succeeded ? Severity::info : Severity::warning);
}

void Node::receive_switch_wanted(Epoch epoch, std::span<const std::byte> payload) {
    if (epoch != epoch_ || *peer_ != partner_) return;
    ActionRequest request;
    request.actor = text_of(payload);
    request.confirm = std::string(config_.pair.pair.view());
    const auto reply =
        core_.state() == wire::SiteState::paired_primary
            ? switch_over(request)
            : Result<ActionReply>(fail(Errc::busy, "it is {}", wire::to_string(core_.state())));
    if (reply) return;
    const std::string text = reply.error().to_string();
    logger("control").info("switchover asked by {}: {}", request.actor, text);
    (void)channel_->send(wire::MessageClass::control, static_cast<uint8_t>(Message::switch_refused),
                         epoch_, std::as_bytes(std::span(text)));
}

void Node::receive_switch_refused(std::span<const std::byte> payload) {
    asked_switch_ended(OperationState::failed,
                       fmt::format("{}: {}", peer_site(), text_of(payload)));
}

void Node::switch_began() {
    switch_stood_ = MonotonicClock::now();
}

// The pause is the time from when this site knew that the guest stood until it knew that the guest
// runs at the other: the way back is in it.
void Node::switch_ended(OperationState state, const std::string& text) {
    std::string told = text;
    if (switch_stood_) {
        const std::chrono::duration<double, std::milli> pause =
            MonotonicClock::now() - *switch_stood_;
        told += fmt::format(" pause_ms={:.1f}", pause.count());
    }
    switch_stood_.reset();
    if (!switch_operation_) return;
    journal_.end_operation(unix_ms(), *switch_operation_, state, told);
    switch_operation_.reset();
    event(EventCode::switchover_finished, told,
          state == OperationState::succeeded ? Severity::info : Severity::warning);
}

}  // namespace antipode::control
