// What operators ask of the failover core: an operation each, from when it is asked for until the
// core has come to what was wanted, has refused, or has come to something else.
//
// An operation that nothing decides in its time ends as failed and says what is still being waited
// for; what was asked of the core stays asked, as the core has no taking back. While a new backup
// is being seeded there is no limit: its progress is the operation's.
#include <algorithm>

#include "common/base/log.h"
#include "replicator/control/node.h"

namespace antipode::control {
namespace {

using failover::CommandKind;
using wire::SiteState;

constexpr Duration kDecisionLimit = std::chrono::seconds(60);
constexpr std::string_view kSwear =
    "peer_is_down: a force needs your word that the other site is down and stays down";

std::optional<CommandKind> kind_of(Method method) {
    switch (method) {
        case Method::switchover:
            return CommandKind::switch_over;
        case Method::failover:
            return CommandKind::take_over;
        case Method::force:
            return CommandKind::force;
        case Method::rejoin:
            return CommandKind::rejoin;
        case Method::reclaim:
            return CommandKind::reclaim;
        case Method::protect:
            return CommandKind::protect;
        case Method::unprotect:
        case Method::seed:  // first; then it is protected again
        case Method::move_backup:
            return CommandKind::unprotect;
        case Method::enrol:
            return CommandKind::enrol_again;
        default:
            return std::nullopt;
    }
}

std::string_view consequence_of(Method method) {
    switch (method) {
        case Method::switchover:
            return "the VM goes on at the other site, and this one becomes its backup";
        case Method::failover:
            return "this site asks the tiebreaker for the pair; if it wins, the primary halts and "
                   "the VM goes on here";
        case Method::force:
            return "the VM goes on here, whether or not it runs at the other site";
        case Method::rejoin:
            return "this site's copy is given up and filled again from the other site";
        case Method::reclaim:
            return "if the tiebreaker and the other site agree that no process of the VM is left, "
                   "it boots here from this site's disks";
        case Method::protect:
            return "a backup is looked for, and seeded while the VM runs";
        case Method::unprotect:
            return "the VM goes on here alone; a loss of this site would lose it";
        case Method::seed:
            return "the backup is given up and filled again, memory and disks; until it is in step "
                   "again a loss of this site would lose the VM";
        case Method::move_backup:
            return "the backup is given up and another one filled at the site named, memory and "
                   "disks; until that is in step a loss of this site would lose the VM";
        case Method::enrol:
            return "the pair's record is made anew at this tiebreaker";
        default:
            return "";
    }
}

bool goes_on_alone(SiteState state) {
    return state == SiteState::solo || state == SiteState::unprotected ||
           state == SiteState::forced;
}

bool is_seeding(SiteState state) {
    return state == SiteState::seeding || state == SiteState::pairing ||
           state == SiteState::rejoining;
}

// First given up, then protected again, as one operation.
bool seeds_anew(Method method) {
    return method == Method::seed || method == Method::move_backup;
}

}  // namespace

// Where the backup is to be moved to.
Result<Name> Node::move_target(const ActionRequest& request) const {
    FT_TRY(const Name to, Name::parse(request.to, "to"));
    const PairConfig& pair = config_.pair;
    const bool other = to == pair.peer_site || (pair.next_site && to == pair.next_site->site);
    if (!other) {
        return fail(Errc::invalid_argument, "to: {} is no other site of {} (pair.toml)", to,
                    pair.pair);
    }
    if (core_.partner().site == to) {
        return fail(Errc::denied, "to: the backup is at {} already", to);
    }
    return to;
}

// What the core would say, by a copy of it: nothing is carried out.
ActionReply Node::foresee(Method method, const failover::Command& command) const {
    ActionReply reply;
    reply.consequence = consequence_of(method);
    failover::Failover copy = core_;
    for (const auto& output : copy.step(command, MonotonicClock::now())) {
        const auto* refused = std::get_if<failover::CommandRefused>(&output);
        if (refused == nullptr) continue;
        reply.allowed = false;
        reply.findings.push_back({Severity::error, refused->reason});
    }
    return reply;
}

std::optional<Result<ActionReply>> Node::act_on_core(Method method, const ActionRequest& request) {
    const auto kind = kind_of(method);
    if (!kind) return std::nullopt;
    Name to;
    if (method == Method::move_backup) {
        auto target = move_target(request);
        if (!target) return Result<ActionReply>(fail(std::move(target).error()));
        to = *target;
    }
    const bool force = *kind == CommandKind::force;
    const auto loss = request.accept_loss ? failover::Loss::accepted : failover::Loss::refused;
    failover::Command order{*kind, request.confirm, loss};
    if (request.check) {
        order.confirmation = config_.pair.pair.view();
        ActionReply reply = foresee(method, order);
        if (force && !request.peer_is_down) {
            reply.allowed = false;
            reply.findings.push_back({Severity::error, std::string(kSwear)});
        }
        if (force && seed_undo_->counts()) {
            const auto kept = seed_undo_->status();
            reply.findings.push_back(
                {Severity::warning,
                 fmt::format("the copy that broke off is taken back first: the VM boots from the "
                             "disks as they were in epoch {} ({} blocks of 64 KiB)",
                             kept.back_to, kept.blocks)});
        }
        if (order.kind == CommandKind::reclaim && config_.pair.reclaim == SelfHelp::automatic) {
            reply.findings.push_back({Severity::warning,
                                      "pair.reclaim is automatic: this site boots the VM by itself "
                                      "as soon as it may"});
        }
        return reply;
    }
    if (force && !request.peer_is_down) {
        return Result<ActionReply>(fail(Errc::denied, "{}", kSwear));
    }
    // Another of the kind takes its place: the core knows of one only.
    end_wish(method, OperationState::cancelled, "asked for again");
    auto operation = journal_.begin_operation(unix_ms(), method, request.actor,
                                              std::string(consequence_of(method)));
    if (!operation) return Result<ActionReply>(fail(std::move(operation).error()));
    const Method step = seeds_anew(method) ? Method::unprotect : method;
    wishes_.push_back(
        {method, step, *operation, core_.epoch(), MonotonicClock::now() + kDecisionLimit, to});
    site_choice_.prefer(to);
    auto reply = command(method, order, request);
    if (!reply) {
        site_choice_.prefer({});
        end_wish(method, OperationState::failed, reply.error().context);
        return reply;
    }
    reply->operation = *operation;
    follow_wishes();
    return reply;
}

Result<ActionReply> Node::command(Method method, failover::Command order,
                                  const ActionRequest& request) {
    // Kept before it is done: what it leads to comes after it in the journal. What the core will
    // refuse at once has not forced anything.
    const bool grave =
        (order.kind == CommandKind::force || order.kind == CommandKind::enrol_again) &&
        foresee(method, order).allowed;
    const auto text = fmt::format("{} asked by {}{}{}", info(method).name, request.actor,
                                  request.note.empty() ? "" : ": ", request.note);
    if (grave) logger("control").warn("{}", text);
    event(grave ? EventCode::forced : EventCode::operator_action, text);
    refusals_.clear();
    commanding_ = true;
    feed(std::move(order));
    commanding_ = false;
    ActionReply reply;
    reply.consequence = consequence_of(method);
    if (refusals_.empty()) return reply;
    event(EventCode::operator_action,
          fmt::format("{} refused: {}", info(method).name, refusals_.front()), Severity::warning);
    return fail(Errc::denied, "{}", refusals_.front());
}

// At once, or when the tiebreaker has answered: then nobody waits for it but its operation.
void Node::command_refused(const failover::CommandRefused& refusal) {
    if (commanding_) return refusals_.push_back(refusal.reason);
    logger("control").warn("a command is refused: {}", refusal.reason);
    event(EventCode::operator_action, "refused: " + refusal.reason, Severity::warning);
    const auto found = std::find_if(wishes_.begin(), wishes_.end(), [&](const Wish& wish) {
        return kind_of(wish.step) == refusal.kind;
    });
    if (found != wishes_.end()) end_wish(found->method, OperationState::failed, refusal.reason);
}

// ---- How it ends

// Whether the core has come to what was wanted, or to something else; nullopt: neither yet.
std::optional<Node::WishEnd> Node::end_of(const Wish& wish) const {
    const SiteState state = core_.state();
    const auto done = [&] {
        return WishEnd{OperationState::succeeded, fmt::format("epoch {}", core_.epoch())};
    };
    const auto failed = [&] { return WishEnd{OperationState::failed, core_.reason()}; };
    const bool halts =
        state == SiteState::halting || state == SiteState::halted || state == SiteState::stopped;
    switch (wish.step) {
        case Method::failover:
            if (goes_on_alone(state) || state == SiteState::paired_primary) return done();
            if (halts || state == SiteState::paired_backup) return failed();
            return std::nullopt;
        case Method::force:
            if (goes_on_alone(state) && core_.epoch() > wish.epoch) return done();
            return std::nullopt;
        case Method::rejoin:
            if (state == SiteState::paired_backup) return done();
            if (goes_on_alone(state)) return failed();
            return std::nullopt;
        case Method::reclaim:
            if (goes_on_alone(state) || state == SiteState::paired_primary) return done();
            if (state == SiteState::rejoining || state == SiteState::paired_backup) return failed();
            return std::nullopt;
        case Method::protect:
            if (state == SiteState::paired_primary) {
                const Name& at = core_.partner().site;
                if (wish.to.empty() || at == wish.to) return done();
                return WishEnd{OperationState::failed, fmt::format("the backup is at {}", at)};
            }
            if (halts) return failed();
            return std::nullopt;
        case Method::unprotect:
            if (state == SiteState::unprotected) return done();
            if (halts) return failed();
            return std::nullopt;
        case Method::enrol:
            if (core_.epoch() > wish.epoch && core_.tiebreaker_usable()) return done();
            if (halts) return failed();
            return std::nullopt;
        default:
            return WishEnd{OperationState::failed, "nothing is known of it"};
    }
}

void Node::follow_wishes() {
    const Instant now = MonotonicClock::now();
    for (size_t i = 0; i < wishes_.size();) {
        Wish& wish = wishes_[i];
        auto end = end_of(wish);
        if (end && end->state == OperationState::succeeded && seeds_anew(wish.method) &&
            wish.step == Method::unprotect) {
            // First it turns, or the backup that was given up would be the first to come.
            if (!wish.to.empty() && peer_site() != wish.to) {
                ++i;
                continue;
            }
            wish.step = Method::protect;
            wish.until = now + kDecisionLimit;
            feed(failover::Command{CommandKind::protect, {}});
            return;  // what it led to was followed from within, or is in a moment
        }
        const bool seeding = is_seeding(core_.state());
        if (!end && seeding) {
            wish.until = now + kDecisionLimit;
            journal_.progress(wish.operation, seed_ratio(), core_.reason());
        }
        if (!end && now >= wish.until) {
            end = WishEnd{OperationState::failed,
                          fmt::format("nothing has come of it yet, and it stays asked for: {}",
                                      core_.reason())};
        }
        if (!end) {
            ++i;
            continue;
        }
        const uint64_t operation = wish.operation;
        wishes_.erase(wishes_.begin() + static_cast<ptrdiff_t>(i));
        journal_.end_operation(unix_ms(), operation, end->state, end->text);
    }
}

void Node::end_wish(Method method, OperationState state, const std::string& text) {
    const auto found = std::find_if(wishes_.begin(), wishes_.end(),
                                    [&](const Wish& wish) { return wish.method == method; });
    if (found == wishes_.end()) return;
    journal_.end_operation(unix_ms(), found->operation, state, text);
    wishes_.erase(found);
}

}  // namespace antipode::control
