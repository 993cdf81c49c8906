#include "common/failover/site_choice.h"

#include <algorithm>

#include "common/failover/deliberate_bugs.h"

namespace antipode::failover {

namespace {

// Longer than it takes to suspect a site that does not answer.
constexpr Duration kIdleLimitMin = std::chrono::seconds(3);

}  // namespace

SiteChoice::SiteChoice(const Config& config, Duration answer_limit)
    : self_(config.site), answer_limit_(answer_limit) {
    others_.push_back(config.peer_site);
    for (const Name& site : config.sites) {
        if (!site.empty() && site != self_ && site != config.peer_site) others_.push_back(site);
    }
}

bool SiteChoice::known(const Name& site) const {
    return std::find(others_.begin(), others_.end(), site) != others_.end();
}

Name SiteChoice::after(const Name& site) const {
    const auto at = std::find(others_.begin(), others_.end(), site);
    return at == others_.end() || at + 1 == others_.end() ? others_.front() : *(at + 1);
}

std::optional<Name> SiteChoice::next(const Failover& core, Instant now) {
    if (others_.size() < 2) return std::nullopt;
    const State state = core.state();
    if (state == State::pairing && bug(Bug::turn_while_pairing) && core.pair_asked()) {
        return after(core.peer_site());
    }
    if (!core.may_turn()) {
        was_bound_ = true;
        if (state == State::seeding || state == State::pairing) was_seeding_ = true;
        if (state == State::paired_primary) {
            was_seeding_ = false;
            attempts_ = 0;
            if (core.peer_site() == preferred_) preferred_ = {};
        }
        return std::nullopt;
    }
    if (was_bound_ || core.peer_site() != at_) {
        if (was_bound_ && was_seeding_) ++attempts_;
        at_ = core.peer_site();
        since_ = now;
        was_bound_ = was_seeding_ = false;
    }
    const bool idle = state == State::starting || state == State::halted;
    const std::optional<Name> chosen = idle ? next_idle(core, now) : next_solo(core, now);
    if (!chosen || *chosen == core.peer_site()) return std::nullopt;
    return chosen;
}

// The site from which the record can go on: the holder's, or, seen from there, the one that knows
// with it how the record ended. Empty if this site alone can.
Name SiteChoice::named_by(const wire::Record& record) const {
    if (record.mode == wire::PairMode::none) return {};
    if (record.holder.site != self_) return record.holder.site;
    if (record.mode == wire::PairMode::solo && record.sites[2].empty()) {
        return record.sites[record.sites[0] == self_ ? 1 : 0];
    }
    return wire::last_partner(record);
}

std::optional<Name> SiteChoice::next_idle(const Failover& core, Instant now) {
    const wire::Record* record = core.told_record();
    if (record != nullptr && record->epoch >= core.epoch() && !bug(Bug::third_site_vouches)) {
        const Name named = named_by(*record);
        return known(named) ? std::optional(named) : std::nullopt;
    }
    // Whoever runs the VM is worth waiting for; else both others are passed while it looks here.
    if (core.peer() && wire::runs_vm(core.peer()->state)) return std::nullopt;
    if (now < since_ + std::max(answer_limit_ / 4, kIdleLimitMin)) return std::nullopt;
    return after(core.peer_site());
}

std::optional<Name> SiteChoice::next_solo(const Failover& core, Instant now) {
    if (core.state() == State::forced) return std::nullopt;
    if (!preferred_.empty() && core.peer_site() != preferred_) {
        attempts_ = 0;
        return preferred_;
    }
    if (core.state() == State::unprotected) return std::nullopt;
    if (attempts_ < kAttemptsMax && now < since_ + answer_limit_) return std::nullopt;
    attempts_ = 0;
    preferred_ = {};
    return after(core.peer_site());
}

}  // namespace antipode::failover
