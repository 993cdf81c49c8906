#include "web/headline.h"

#include <algorithm>

#include "common/base/check.h"

namespace antipode::web {
namespace {

using control::Protection;
using control::State;
using control::Status;

Mood mood_of(State state) {
    switch (state) {
        case State::primary:
        case State::backup:
            return Mood::good;
        case State::starting:
        case State::joining:
        case State::pairing:
        case State::switching:
        case State::going_live:
            return Mood::busy;
        case State::solo:
        case State::asking:
        case State::stopped:
            return Mood::warning;
        case State::waiting:
        case State::halted:
        case State::failed:
            return Mood::bad;
    }
    return Mood::unknown;
}

Mood mood_of(Protection protection) {
    switch (protection) {
        case Protection::protected_:
            return Mood::good;
        case Protection::degraded:
            return Mood::warning;
        case Protection::unprotected:
            return Mood::bad;
    }
    return Mood::unknown;
}

bool runs_vm(State state) {
    switch (state) {
        case State::primary:
        case State::solo:
        case State::pairing:
        case State::switching:
        case State::going_live:
            return true;
        default:
            return false;
    }
}

// Whose word on the whole pair counts most: who runs the VM, then who may have to.
int authority(const View& view) {
    if (!view.status) return 0;
    int points = view.reachable ? 100 : 1;
    switch (view.status->state) {
        case State::going_live:
            return points + 9;
        case State::primary:
            return points + 8;
        case State::solo:
        case State::pairing:
        case State::switching:
            return points + 7;
        case State::waiting:
        case State::asking:
            return points + 6;
        case State::backup:
            return points + 5;
        case State::joining:
            return points + 4;
        case State::failed:
        case State::halted:
            return points + 3;
        case State::starting:
        case State::stopped:
            return points + 2;
    }
    return points;
}

std::string spare_reason(const Status& status) {
    return fmt::format("a spare: the VM is at {}", status.tiebreaker.record->holder);
}

bool paired(State state) {
    return state == State::primary || state == State::backup;
}

SiteSummary own_summary(const View& view) {
    SiteSummary site;
    if (!view.status) {
        site.site = view.id;
        site.word = "unknown";
        site.reason = view.error;
        return site;
    }
    site.site = view.status->site;
    site.seen = view.reachable;
    if (!view.reachable) {
        site.word = "unknown";
        site.reason = fmt::format("was {}; its replicator does not answer",
                                  control::word(view.status->state));
        site.mood = Mood::bad;
        return site;
    }
    site.word = control::word(view.status->state);
    site.reason = view.status->reason;
    site.mood = mood_of(view.status->state);
    if (is_spare(*view.status)) {
        site.reason = spare_reason(*view.status);
        site.mood = Mood::unknown;
    }
    site.holds_vm = runs_vm(view.status->state);
    return site;
}

// What the other site must be, by what this one says.
SiteSummary inferred_peer(const View& view) {
    const Status& status = *view.status;
    SiteSummary site;
    site.site = status.peer_site;
    const auto guess = [&](std::string_view text, Mood mood, bool holds) {
        site.word = text;
        site.mood = mood;
        site.holds_vm = holds;
        site.reason = fmt::format("as {} sees it", status.site);
    };
    switch (status.state) {
        case State::primary:
            guess("backup", Mood::good, false);
            break;
        case State::backup:
            guess("primary", Mood::good, true);
            break;
        case State::joining:
            guess("pairing", Mood::busy, true);
            break;
        case State::pairing:
            guess("joining", Mood::busy, false);
            break;
        case State::switching:
            guess("switching", Mood::busy, false);
            break;
        default:
            site.word = "unknown";
            site.reason = status.link.session_up ? "connected, has not said what it is"
                                                 : "not reachable from " + status.site;
            break;
    }
    if (paired(status.state) && !status.link.session_up) {
        site.word = "unknown";
        site.reason = "not reachable from " + status.site;
        site.mood = Mood::unknown;
    }
    return site;
}

// Of a pair with three sites, the one to which the leader is not turned.
SiteSummary inferred_spare(const Status& status) {
    SiteSummary site;
    site.site = status.spare_site;
    site.word = "unknown";
    site.reason = paired(status.state) ? "a spare; not seen from " + status.site
                                       : "not seen from " + status.site;
    return site;
}

std::vector<SiteSummary> summarise(const std::vector<const View*>& views, const View& leader) {
    std::vector<SiteSummary> sites;
    for (const View* view : views) sites.push_back(own_summary(*view));
    const auto lacks = [&](const std::string& name) {
        return !name.empty() && std::none_of(sites.begin(), sites.end(),
                                             [&](const auto& site) { return site.site == name; });
    };
    if (leader.status && leader.reachable) {
        if (lacks(leader.status->peer_site)) sites.push_back(inferred_peer(leader));
        if (lacks(leader.status->spare_site)) sites.push_back(inferred_spare(*leader.status));
    }
    std::sort(sites.begin(), sites.end(),
              [](const SiteSummary& a, const SiteSummary& b) { return a.site < b.site; });
    return sites;
}

}  // namespace

std::string_view word(Mood mood) {
    switch (mood) {
        case Mood::good:
            return "good";
        case Mood::busy:
            return "busy";
        case Mood::warning:
            return "warning";
        case Mood::bad:
            return "bad";
        case Mood::unknown:
            return "unknown";
    }
    return "unknown";
}

bool is_spare(const Status& status) {
    const auto& record = status.tiebreaker.record;
    const bool idle = status.state == State::starting || status.state == State::halted;
    if (!idle || status.spare_site.empty() || !record || record->members.empty()) return false;
    return std::none_of(record->members.begin(), record->members.end(),
                        [&](const auto& member) { return member.site == status.site; });
}

Headline judge(const std::vector<const View*>& views) {
    FT_CHECK(!views.empty(), "a pair without a view");
    const View& leader = **std::max_element(
        views.begin(), views.end(),
        [](const View* a, const View* b) { return authority(*a) < authority(*b); });
    Headline headline;
    headline.leader = leader.id;
    headline.sites = summarise(views, leader);
    if (!leader.status || !leader.reachable) {
        headline.word = "unknown";
        headline.reason =
            leader.error.empty() ? "its replicator has not answered yet" : leader.error;
        headline.mood = leader.status ? Mood::bad : Mood::unknown;
        headline.since_unix_ms = leader.seen_unix_ms;
        return headline;
    }
    const Status& status = *leader.status;
    headline.since_unix_ms = status.state_since_unix_ms;
    headline.word = control::word(status.state);
    headline.reason = status.reason;
    headline.mood = mood_of(status.state);
    if (is_spare(status)) {
        headline.reason = spare_reason(status);
        headline.mood = Mood::unknown;
    }
    if (paired(status.state)) {
        headline.word = control::word(status.protection);
        headline.mood = mood_of(status.protection);
        if (!status.protection_reason.empty()) headline.reason = status.protection_reason;
    }
    return headline;
}

}  // namespace antipode::web
