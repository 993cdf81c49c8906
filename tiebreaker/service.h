// Service: the tiebreaker between its clients and its store. Holds every pair's record in memory,
// lets the arbiter decide, has the decision made durable, and only then answers; tells who watches.
//
// One decision of a pair is under way at a time, so that the arbiter always sees what is durable;
// different pairs run side by side, which is what the store gathers into one commit.
//
// Threads: the core thread only. INVARIANTS
//   - No answer leaves before the store has said `committed` for the version it was decided on.
//   - A client speaks for the site in its certificate only, and only about that site's pairs.
//   - Bounded: pairs, requests that wait for a pair, watches of a client and of a pair, and how
//     fast a pair's history grows.
// When the store is in doubt nothing more is answered and `fatal` is called: end the process, start
// anew, read what is there.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "common/base/clock.h"
#include "common/base/metrics.h"
#include "common/env/posix/tls.h"
#include "common/wire/arbiter_frames.h"
#include "tiebreaker/rate_limit.h"
#include "tiebreaker/store.h"

namespace antipode::tiebreaker {

struct ServiceLimits {
    size_t pairs_max = 20000;
    size_t waiting_per_pair_max = 16;
    size_t watches_per_client_max = 64;
    // Of one pair, so that neither of its sites can keep the other one out.
    size_t waiting_per_site_max = 8;
    size_t watches_per_site_max = 32;  // by how many of its connections a site watches one pair
    // How often one site may have the record of one pair changed. A failover and what follows takes
    // some five changes; what goes on without end is a fault or an attack, and fills the store.
    double changes_per_second = 0.2;
    double changes_burst = 500;
};

// A connected site. Calls come on the core thread and may end the client.
class Client {
  public:
    virtual ~Client() = default;
    virtual const env::CertificateIdentity& identity() const = 0;
    virtual const std::string& described() const = 0;  // "site-a 45DD... 10.0.0.1:4711"
    virtual void deliver(uint64_t number, wire::ArbiterBody body) = 0;
    // A watched record has changed; only the newest one of a pair matters.
    virtual void push(const wire::ArbiterRecord& record) = 0;
};

class Service {
  public:
    using Done = std::function<void(Result<wire::Answer>)>;

    Service(Store& store, ServiceLimits limits, Registry& registry,
            std::function<void(const std::string&)> fatal);
    // Reads all records and starts the store.
    Result<> start();

    void request(const std::shared_ptr<Client>& client, uint64_t number,
                 const wire::Request& request);
    void watch(const std::shared_ptr<Client>& client, uint64_t number,
               const wire::ArbiterWatch& watch);
    // Ends its watches, so that it counts as gone; what it asked is decided all the same.
    void leave(const Client& client);
    // The administrator's word; `by` is what history says of him.
    void forget(const Name& pair, std::string by, Done done);

    wire::StoreIdentity identity() const { return store_.identity(); }
    size_t pair_count() const { return record_count_; }
    size_t watch_count() const { return watch_count_; }
    size_t remembered_count() const { return pairs_.size(); }

  private:
    struct Pending {
        std::shared_ptr<Client> client;  // empty: the administrator
        uint64_t number = 0;
        wire::Request request;
        Done done;       // of the administrator
        std::string by;  // who that is
        Instant asked;
        int conflicts = 0;
    };
    struct Watcher {
        std::weak_ptr<Client> client;
        const Client* key = nullptr;
        Name site;
        Member me;
    };
    // What repeats itself is listed once in a while, with a count.
    struct Listing {
        uint64_t fingerprint = 0;
        uint64_t unlisted = 0;
        Instant at{};
        TokenBucket lines = listed_lines();
    };
    static TokenBucket listed_lines();
    // What a site may still have changed.
    struct Changes {
        Name site;
        TokenBucket bucket;
    };
    struct Pair {
        std::optional<Stored> stored;
        std::vector<Pending> waiting;  // the first one is under way if busy
        bool busy = false;
        std::vector<Watcher> watchers;
        Listing listing;
        std::vector<Changes> changes;  // of the sites that had it changed
    };
    using Pairs = std::unordered_map<std::string, Pair>;

    Result<> check_right(const Client& client, const wire::Request& request) const;
    void turn_away(Client& client, uint64_t number, const Error& why);
    const Pair* find(const Name& pair) const;
    Result<> check_waiting(const Client& client, const Name& name) const;
    Result<> check_watches(const Client& client, const Name& name) const;
    TokenBucket& changes_of(Pair& pair, const Name& site);
    bool too_many_changes(const Name& name, Pair& pair);
    Pair& pair_of(const Name& pair);
    void tidy(const Name& pair);
    void enqueue(Pending pending);
    void begin(const Name& name, Pair& pair);
    void on_result(const Name& name, Decision decision, CommitResult result);
    void on_changed_elsewhere(const Stored& stored);
    void conclude(const Name& name, Pair& pair, Result<wire::Answer> answer);
    void tell_watchers(const Name& name, const Pair& pair, const Client* asker);
    std::optional<Decided> history_line(Pair& pair, const Pending& pending,
                                        const Decision& decision);
    PeerPresence presence(const Pair& pair, const wire::Request& request) const;

    Store& store_;
    const ServiceLimits limits_;
    std::function<void(const std::string&)> fatal_;
    Pairs pairs_;
    std::unordered_map<const Client*, std::vector<Name>> watches_;
    size_t record_count_ = 0;
    size_t watch_count_ = 0;
    bool dead_ = false;

    Histogram& decision_seconds_;
    Counter& changed_;
    Counter& unchanged_;
    Counter& failed_;
    Counter& throttled_;
    TokenBucket turned_away_lines_;  // so that who is turned away cannot fill the log
    Gauge& pairs_gauge_;
};

}  // namespace antipode::tiebreaker
