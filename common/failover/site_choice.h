// SiteChoice: to which of a pair's other sites a site turns, where there are two of them.
//
// The core has one peer (Failover::peer_site()). Where no promise binds it to that one
// (may_turn()), the shell asks at intervals whether it is the right one:
//   - a site that runs nothing turns to the site that the record names, since it is there that it
//     can join, or become a witness; without a record, to one after the other;
//   - a site that runs the VM alone stays with a peer that answers and joins; after `answer_limit`,
//     or after kAttemptsMax copies that led nowhere, it turns to the next one.
// So the two find each other: only the VM's site looks around, and the others wait where it will
// look. That the core may turn at all is its own business (docs/adr/0009-spare-sites.md); a choice
// that is wrong costs time and nothing else.
//
// Threads: one, the owner's. Pure: time is handed in.
#pragma once

#include <optional>
#include <vector>

#include "common/failover/failover.h"

namespace antipode::failover {

class SiteChoice {
  public:
    static constexpr int kAttemptsMax = 3;

    // `answer_limit`: how long a site that runs the VM alone waits for a new backup at one site.
    SiteChoice(const Config& config, Duration answer_limit);

    // The site to turn to now; nullopt: the present one is right.
    std::optional<Name> next(const Failover& core, Instant now);
    // An operator wants the backup there: it is the first to be tried, and once.
    void prefer(const Name& site) { preferred_ = known(site) ? site : Name(); }

  private:
    bool known(const Name& site) const;
    Name after(const Name& site) const;
    std::optional<Name> next_idle(const Failover& core, Instant now);
    std::optional<Name> next_solo(const Failover& core, Instant now);
    Name named_by(const wire::Record& record) const;

    const Name self_;
    std::vector<Name> others_;  // in the order of trying
    const Duration answer_limit_;
    Name preferred_;
    Name at_;  // since since_
    Instant since_{};
    bool was_bound_ = true;
    bool was_seeding_ = false;
    int attempts_ = 0;
};

}  // namespace antipode::failover
