// A planned change of roles as people see it: an operation, two events, and how long the guest
// stood. The exchange itself is the failover core's (docs/PROTOCOL-failover.md).
#include "replicator/control/node.h"

namespace antipode::control {

Result<ActionReply> Node::switch_over(const ActionRequest& request) {
    if (switch_operation_) return fail(Errc::busy, "a switchover is under way");
    if (diverged_) {
        return fail(Errc::busy,
                    "the backup differs and is being put right: switch over when it is protected");
    }
    if (request.check || core_.state() != wire::SiteState::paired_primary) {
        return command(failover::CommandKind::switch_over, request);
    }
    FT_TRY(const uint64_t operation,
           journal_.begin_operation(unix_ms(), Method::switchover, request.actor,
                                    fmt::format("to {}", config_.pair.peer_site)));
    switch_operation_ = operation;
    auto reply = command(failover::CommandKind::switch_over, request);
    if (!reply) {
        switch_ended(OperationState::failed, reply.error().to_string());
        return reply;
    }
    reply->operation = operation;
    reply->consequence =
        fmt::format("the VM goes on at {}, this site becomes its backup", config_.pair.peer_site);
    event(EventCode::switchover_started,
          fmt::format("to {}, asked by {}", config_.pair.peer_site, request.actor));
    return reply;
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
