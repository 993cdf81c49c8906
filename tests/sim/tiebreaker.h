// The tiebreaker in the simulation: the real arbiter over a store that can crash between deciding,
// writing and answering, lose everything, or be restored from an old backup.
#pragma once

#include <array>
#include <deque>
#include <functional>
#include <optional>
#include <vector>

#include "tests/sim/checker.h"
#include "tests/sim/network.h"
#include "tiebreaker/arbiter.h"

namespace antipode::sim {

class Tiebreaker {
  public:
    Tiebreaker(World& world, Network& network, Checker& checker, std::vector<Name> sites);

    // From site `from`; `deliver` is called with what is sent back, once it is durable.
    void receive(size_t from, const wire::Request& request);
    // `me` watches from here on: it is told the record now and whenever somebody else changes it,
    // in the form in which a site's client hands that on.
    void watch(size_t from, const Member& me);
    std::function<void(size_t site, const wire::Answer&)> deliver;

    bool alive() const { return alive_; }
    void crash();
    void restart() { alive_ = true; }
    void wipe();
    void back_up() { backup_ = record_; }
    void restore();
    // A deliberate mistake: a restored store keeps its identity.
    bool keeps_identity_on_restore = false;
    Duration slowness{};

    wire::StoreIdentity store() const { return store_; }
    const std::optional<wire::Record>& record() const { return record_; }
    uint64_t decisions() const { return decisions_; }

  private:
    struct Job {
        size_t from;
        wire::Request request;
    };
    void work();
    void push(size_t site);
    void push_others(size_t but);
    tiebreaker::PeerPresence presence(const wire::Request& request) const;
    tiebreaker::Decision decide(wire::Request request) const;
    Member namesake(const Member& me) const;
    void mistake(wire::Answer& answer, const Member& me) const;

    const std::vector<Name> sites_;  // by index
    World& world_;
    Network& network_;
    Checker& checker_;
    wire::StoreIdentity store_;
    std::optional<wire::Record> record_;       // durable
    std::optional<wire::Record> before_last_;  // as it was before the last decision
    std::optional<wire::Record> backup_;
    std::deque<Job> jobs_;
    std::array<Member, kSitesMax> watchers_;  // no incarnation: nobody
    bool busy_ = false;
    bool alive_ = true;
    uint64_t life_ = 0;
    uint64_t decisions_ = 0;
};

}  // namespace antipode::sim
