// Rehearsed faults: this site's line to its peer or to its tiebreaker passes nothing for a while,
// or the process dies. Everything is in this process's memory, so that its end is an end of the
// fault as well; nothing is asked of the host's network.
//
// A fault is refused where its rehearsal could harm: where nobody could decide who goes on.
#include <algorithm>
#include <array>
#include <csignal>

#include "common/base/log.h"
#include "replicator/control/node.h"

namespace antipode::control {
namespace {

constexpr double kSecondsDefault = 10;
constexpr double kSecondsMax = 300;
constexpr Duration kPulse = std::chrono::milliseconds(100);
constexpr Duration kBeforeDeath = std::chrono::milliseconds(300);  // the answer leaves first

struct FaultKind {
    std::string_view name;
    std::string_view consequence;
};
constexpr std::array<FaultKind, 4> kKinds{{
    {"link_cut",
     "nothing passes the line to the peer, channel and heartbeats; beyond the time in "
     "which silence is suspected one site goes on alone, and the other is seeded again"},
    {"link_degrade", "the line to the peer passes nothing for half of each 200 ms"},
    {"tiebreaker_cut",
     "this site cannot reach the tiebreaker; a loss of the peer meanwhile would "
     "freeze the VM"},
    {"kill_primary",
     "this process is killed; the backup goes on, and this site comes back as its "
     "backup when systemd has started it again"},
}};

}  // namespace

// Whether it may be done now.
Result<> Node::may_inject(std::string_view fault) const {
    const bool primary = core_.state() == wire::SiteState::paired_primary;
    if (fault_) return fail(Errc::busy, "a rehearsed fault is under way: {}", fault_->name);
    if (!primary && core_.state() != wire::SiteState::paired_backup) {
        return fail(Errc::busy, "the VM is not protected: this site is {}",
                    wire::to_string(core_.state()));
    }
    if (!peer_ || suspected_) {
        return fail(Errc::busy, "{} cannot be reached", peer_site());
    }
    if (diverged_) return fail(Errc::busy, "the backup differs and is being put right");
    if (!tiebreaker_->connected()) {
        return fail(Errc::busy, "the tiebreaker cannot be reached: {}", tiebreaker_->last_error());
    }
    if (fault == "kill_primary" && !primary) {
        return fail(Errc::busy, "the VM runs at {}", peer_site());
    }
    return {};
}

Result<ActionReply> Node::inject_fault(const ActionRequest& request) {
    const auto kind = std::find_if(kKinds.begin(), kKinds.end(), [&](const FaultKind& each) {
        return each.name == request.fault;
    });
    if (kind == kKinds.end()) {
        return fail(Errc::invalid_argument,
                    "fault: is none of link_cut, link_degrade, tiebreaker_cut, kill_primary");
    }
    const double seconds = request.duration_seconds.value_or(kSecondsDefault);
    if (!(seconds >= 0.1 && seconds <= kSecondsMax)) {
        return fail(Errc::invalid_argument, "duration_seconds: is {}, not 0.1 to {}", seconds,
                    kSecondsMax);
    }
    FT_TRY_VOID(may_inject(kind->name));
    ActionReply reply;
    reply.consequence = kind->consequence;
    if (request.check) return reply;
    FT_TRY(const uint64_t operation,
           journal_.begin_operation(unix_ms(), Method::inject_fault, request.actor,
                                    fmt::format("{} for {} s", kind->name, seconds)));
    fault_ = Fault{operation, std::string(kind->name), unix_ms()};
    event(EventCode::fault_injected,
          fmt::format("{} for {} s, asked by {}", kind->name, seconds, request.actor));
    const bool kills = kind->name == "kill_primary";
    const auto time = std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds));
    fault_timer_.expires_after(kills ? kBeforeDeath : time);
    fault_timer_.async_wait([this, kills](const boost::system::error_code& error) {
        if (error || shut_down_) return;
        if (kills) (void)::raise(SIGKILL);
        end_fault("its time is up");
    });
    begin_fault(kind->name);
    reply.operation = operation;
    return reply;
}

void Node::begin_fault(std::string_view fault) {
    logger("control").warn("rehearses {}", fault);
    if (fault == "link_degrade") return degrade_line();
    if (fault == "link_cut") {
        channel_->set_line(stream::Line::cut);
        heartbeat_->set_line(stream::Line::cut);
    } else if (fault == "tiebreaker_cut") {
        tiebreaker_->set_line(ArbiterClient::Line::cut);
    }
}

void Node::degrade_line() {
    pulse_ = !pulse_;
    const auto line = pulse_ ? stream::Line::cut : stream::Line::open;
    channel_->set_line(line);
    heartbeat_->set_line(line);
    degrade_timer_.expires_after(kPulse);
    degrade_timer_.async_wait([this](const boost::system::error_code& error) {
        if (!error && !shut_down_ && fault_) degrade_line();
    });
}

void Node::end_fault(const std::string& why) {
    if (!fault_) return;
    const Fault fault = *std::exchange(fault_, std::nullopt);
    fault_timer_.cancel();
    degrade_timer_.cancel();
    pulse_ = false;
    channel_->set_line(stream::Line::open);
    heartbeat_->set_line(stream::Line::open);
    if (fault.name == "tiebreaker_cut") tiebreaker_->set_line(ArbiterClient::Line::open);
    journal_.end_operation(unix_ms(), fault.operation, OperationState::succeeded, why);
    event(EventCode::fault_ended, fmt::format("{}: {}", fault.name, why));
}

std::optional<Result<ActionReply>> Node::act_on_fault(Method method, const ActionRequest& request) {
    if (method == Method::inject_fault) return inject_fault(request);
    if (method != Method::cancel || !fault_ || request.operation != fault_->operation) {
        return std::nullopt;
    }
    ActionReply reply;
    reply.consequence = "the rehearsed fault ends";
    if (!request.check) end_fault("ended by " + request.actor);
    return reply;
}

}  // namespace antipode::control
