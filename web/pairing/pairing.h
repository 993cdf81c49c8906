// Pairing two sites for a VM, from their pages. The site that has the VM offers it and shows a
// code; the other is told the code, asks the first over TLS pinned to the fingerprint in it, proves
// that it knows the secret, and both try the tiebreaker and the line, make keys, and put the pair's
// files in place (vm_files.h). Secret keys never leave their site, but for the heartbeats' key,
// which is the same at both and crosses inside the pinned TLS.
//
// Life of an offer: offered -> (hello -> probe -> finish) -> paired; or failed when it is
// withdrawn, ten minutes old, or tried with wrong MACs too often. Its secret is in memory only: a
// restart of the daemon voids it. Until `finish` nothing but NAME/.pairing was made at either site,
// and the same code may be tried again. `finish` may be repeated, for its answer can be lost.
//
// Afterwards both keep a lasting key and each other's pinned certificate: unpairing and new keys
// are said over these.
//
// Threads: the web thread only; files and children on the worker.
// INVARIANTS
//   - No secret is in a log, in the audit log, or in an answer but the offer's own.
//   - Who does not know the code learns nothing of the VM, its addresses or its keys.
//   - At most kOffersMax offers are open; a pair has one offer or one join at a time.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/json/object.hpp>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "web/fleet.h"
#include "web/http/https_client.h"
#include "web/pairing/link_test.h"
#include "web/pairing/seal.h"
#include "web/pairing/vm_files.h"
#include "web/security/worker.h"
#include "web/settings.h"
#include "web/store/database.h"

namespace antipode::web {

constexpr int64_t kPairingProtocol = 1;

enum class PairingState { offered = 1, joining, paired, failed };
std::string_view word(PairingState state);

struct PairingStep {
    enum class State { running = 1, good, warning, failed };
    std::string name;
    State state = State::running;
    std::string text;
};

struct Pairing {
    std::string pair;
    std::string site;
    std::string peer_site;  // empty before it is known
    PairingState state = PairingState::offered;
    std::vector<PairingStep> steps;
    std::string tiebreaker;
    std::string peer_host;  // of its page
    uint16_t peer_port = 0;
    std::string peer_fingerprint;  // SHA-256 in hexadecimal
    std::string lasting;           // the key for later messages, in hexadecimal; never shown
    int64_t changed_unix_ms = 0;
    std::optional<int64_t> expires_unix_ms;  // of an offer
};
json::object to_json(const Pairing& pairing);  // without `lasting`

// What an operator says at either site; empty = as the settings have it.
struct PairingAsked {
    std::string pair;  // offering only
    std::string site;
    std::string address;  // of the line, an IP address
    std::string tiebreaker;
    uint16_t port = 0;  // of the channel, the heartbeats' is the next; 0 = the first free ones
    std::string code;   // joining only
};

class Pairings {
  public:
    static constexpr int64_t kOfferLifeMs = 10 * 60 * 1000;
    static constexpr size_t kOffersMax = 16;
    static constexpr int kWrongMacsMax = 5;
    static constexpr int64_t kSkewMaxMs = 5 * 60 * 1000;

    Pairings(boost::asio::any_io_executor executor, const Settings& settings, Database& database,
             const Fleet& fleet);
    ~Pairings();

    Result<> load();
    void stop();
    void tick() { expire_offers(); }  // about once a second
    void set_page_port(uint16_t port) { page_port_ = port; }

    const VmFiles& files() const { return files_; }
    std::vector<Pairing> list() const;
    Result<Pairing> find(std::string_view pair) const;

    struct Offered {
        std::string code;
        Pairing pairing;
    };
    boost::asio::awaitable<Result<Offered>> offer(PairingAsked asked);
    // Checks the code at once and goes on by itself; find() tells how far it is.
    Result<Pairing> join(PairingAsked asked);
    Result<> withdraw(std::string_view pair);  // an offer, or what is left of a failed pairing
    // Tells the other site, too; what it said, or why it could not be told, is in the text.
    boost::asio::awaitable<Result<std::string>> unpair(std::string pair);
    boost::asio::awaitable<Result<std::string>> rekey(std::string pair);

    // The other site asks. `step` is hello, probe, finish, unpair, rekey or rekey-finish.
    // Errc::denied: the caller counts it against the address.
    boost::asio::awaitable<Result<json::object>> answer(std::string step, Sealed sealed);

  private:
    struct Offer;
    struct Line;  // to the other site
    struct Join;
    using Answer = boost::asio::awaitable<Result<json::object>>;

    // offer.cc
    Result<PairPlan> plan_of(const PairingAsked& asked) const;
    Result<std::string> own_fingerprint() const;
    Answer hello(std::shared_ptr<Offer> offer, json::object said);
    Result<> check_hello(const Offer& offer, const json::object& said) const;
    Answer probe(std::shared_ptr<Offer> offer, json::object said);
    Answer finish_offer(std::shared_ptr<Offer> offer);
    std::shared_ptr<Offer> find_offer(std::string_view id);
    void expire_offers();
    void end_offer(Offer& offer, PairingState state, std::string text);
    json::object own_hello(const PairPlan& plan, const std::string& channel_pub,
                           const std::string& fingerprint) const;

    // join.cc
    boost::asio::awaitable<void> run_join(std::shared_ptr<Join> join);
    boost::asio::awaitable<Result<>> join_steps(Join& join);
    boost::asio::awaitable<Result<>> greet(Join& join);
    boost::asio::awaitable<Result<>> try_line(Join& join);
    boost::asio::awaitable<Result<>> conclude(Join& join);
    boost::asio::awaitable<Result<json::object>> call(const Line& line, std::string step,
                                                      json::object payload,
                                                      std::chrono::seconds limit);

    // pairing.cc
    void step(Pairing& pairing, std::string name, PairingStep::State state, std::string text);
    void keep(const Pairing& pairing);
    Answer answer_lasting(std::string step, Sealed sealed);
    Answer begin_rekey(const Pairing& pairing, json::object said);
    Result<Line> line_to(const Pairing& pairing) const;
    Result<> not_running(std::string_view pair) const;

    const boost::asio::any_io_executor executor_;
    const Settings& settings_;
    Database& database_;
    const Fleet& fleet_;
    VmFiles files_;
    uint16_t page_port_ = 0;
    std::map<std::string, Pairing, std::less<>> pairings_;
    std::map<std::string, std::shared_ptr<Offer>, std::less<>> offers_;  // by id
    std::map<std::string, int64_t, std::less<>> ended_;                  // ids, when
    std::shared_ptr<LinkEcho> echo_;
    bool stopped_ = false;
    Worker worker_;
};

// The tiebreaker, tried with this site's certificate.
struct TiebreakerTrial {
    PairingStep::State state = PairingStep::State::good;
    std::string text;
};
boost::asio::awaitable<TiebreakerTrial> try_tiebreaker(std::string address, std::string credentials,
                                                       std::string site, std::string pair);
// SHA-256 of the authority's certificate, in hexadecimal.
Result<std::string> authority_fingerprint(const std::string& credentials);

}  // namespace antipode::web
