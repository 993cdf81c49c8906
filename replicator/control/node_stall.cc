// A site that has stood still: it neither writes nor lets anything out until somebody has said that
// its epoch stands (stall_guard.h). Who can say so:
//   - the tiebreaker, whose record it is;
//   - the backup, by acknowledging an entry that was handed to the channel after the gap: a site
//     stops acknowledging before it asks (docs/PROTOCOL-failover.md), so it had not;
//   - to a backup, the primary, by a heartbeat of this epoch that echoes one sent after the gap.
// A site that is the only member of its record, with no tiebreaker to be had, goes on after
// kSoloWait: nobody can have been granted its VM, only an operator can have forced the other site,
// and a tiebreaker that is away must not keep the one VM there is from its disk.
#include "common/base/log.h"
#include "replicator/control/node.h"

namespace antipode::control {
namespace {

constexpr Duration kAskAgain = std::chrono::milliseconds(250);
constexpr Duration kSoloWait = std::chrono::seconds(2);

}  // namespace

void Node::look_for_stall(Instant now) {
    if (stall_guard_.turn(now)) {
        stalls_total_.add();
        logger("control").warn(
            "this site stood still: it asks whether epoch {} stands before it writes", epoch_);
        stall_log_end_ = outbox_.last();
        stall_next_question_ = now;
    }
    if (!stall_guard_.doubtful()) return;
    if (gate_.mode() == OutputGate::Mode::open && !tiebreaker_->connected() &&
        now - stall_guard_.doubtful_since() >= kSoloWait) {
        return epoch_proved(now, "it is the only member, and the tiebreaker is away");
    }
    if (now < stall_next_question_) return;
    stall_next_question_ = now + kAskAgain;
    ask_whether_epoch_stands(now);
}

void Node::ask_whether_epoch_stands(Instant now) {
    wire::Request request;
    request.kind = wire::RequestKind::query;
    request.pair = config_.pair.pair;
    request.epoch = epoch_;
    request.me = me_;
    tiebreaker_->ask(request, [this, now](const Result<wire::Answer>& answer) {
        if (shut_down_ || !answer || answer->kind != wire::AnswerKind::record) return;
        // A higher one comes to the core by itself, before this answer: it watches the record.
        if (answer->record.epoch <= epoch_) epoch_proved(now, "the tiebreaker says so");
    });
}

void Node::epoch_acknowledged(LogIndex last) {
    if (last > stall_log_end_)
        epoch_proved(stall_guard_.doubtful_since(), "the backup acknowledges");
}

void Node::epoch_echoed(const stream::HeartbeatEvent& seen) {
    const bool tells = !recording_ && seen.from == partner_ && seen.epoch == epoch_;
    if (tells && seen.echo_of) epoch_proved(*seen.echo_of, "the primary says so");
}

void Node::epoch_proved(Instant asked, std::string_view how) {
    if (!stall_guard_.proved(asked)) return;
    logger("control").info("epoch {} stands: {}", epoch_, how);
    disks_->retry_parked();
    release_outputs();
}

}  // namespace antipode::control
