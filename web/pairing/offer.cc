// The side of the site that offers a VM: see pairing.h.
#include <boost/asio/ip/address.hpp>

#include "common/base/log.h"
#include "web/pairing/code.h"
#include "web/pairing/parts.h"
#include "web/security/https.h"

namespace antipode::web {
namespace {

constexpr size_t kEndedMax = 200;

// "0.1" of "0.1.0": what differs in it does not work together.
std::string release_of(const std::string& version) {
    const size_t first = version.find('.');
    return version.substr(0, version.find('.', first == std::string::npos ? first : first + 1));
}

std::string span_text(int64_t milliseconds) {
    const int64_t seconds = std::abs(milliseconds) / 1000;
    if (seconds < 120) return fmt::format("{} s", seconds);
    if (seconds < 7200) return fmt::format("{} min", seconds / 60);
    return fmt::format("{} h {} min", seconds / 3600, seconds / 60 % 60);
}

Result<> check_place(const std::string& text, const char* name) {
    const size_t colon = text.rfind(':');
    for (const char c : text) {
        if (c <= ' ' || c == '"' || c == '\\' || c == 0x7f) {
            return fail(Errc::invalid_argument, "{}: has a character that no address has", name);
        }
    }
    if (colon == std::string::npos || colon == 0 || colon + 1 == text.size()) {
        return fail(Errc::invalid_argument, "{}: '{}' is not HOST:PORT", name, text.substr(0, 80));
    }
    return {};
}

}  // namespace

Result<std::string> Pairings::own_fingerprint() const {
    if (!settings_.tls) {
        return fail(Errc::unsupported,
                    "this page is served without TLS, so that no other site can reach it; set "
                    "listen.address and listen.tls in web.toml");
    }
    FT_TRY(const std::string text, fingerprint_of(settings_.https.certificate));
    return to_hex(from_hex(text));
}

// What the operator said, completed by the settings and checked.
Result<PairPlan> Pairings::plan_of(const PairingAsked& asked) const {
    PairPlan plan;
    const auto or_set = [](const std::string& given, const std::string& set) {
        return given.empty() ? set : given;
    };
    const std::string site = or_set(asked.site, settings_.site.name);
    if (site.empty()) {
        return fail(Errc::invalid_argument,
                    "site: is missing; give it, or set site.name in web.toml");
    }
    FT_TRY(plan.site, Name::parse(site, "site"));
    plan.own_address = or_set(asked.address, settings_.site.address);
    boost::system::error_code error;
    const auto address = boost::asio::ip::make_address(plan.own_address, error);
    if (error || address.is_unspecified()) {
        return fail(Errc::invalid_argument,
                    "address: '{}' is no IP address under which the other site can reach this one",
                    plan.own_address.substr(0, 80));
    }
    plan.own_address = address.to_string();
    plan.credentials = settings_.site.credentials;
    plan.channel_port = asked.port == 0 ? files_.free_ports() : asked.port;
    plan.heartbeat_port = static_cast<uint16_t>(plan.channel_port + 1);
    plan.tiebreaker = or_set(asked.tiebreaker, settings_.site.tiebreaker);
    return plan;
}

boost::asio::awaitable<Result<Pairings::Offered>> Pairings::offer(PairingAsked asked) {
    expire_offers();
    auto name = Name::parse(asked.pair, "pair");
    if (!name) co_return fail(name.error());
    auto plan = plan_of(asked);
    if (!plan) co_return fail(plan.error());
    plan->pair = *name;
    if (auto fine = check_place(plan->tiebreaker, "tiebreaker"); !fine)
        co_return fail(fine.error());
    auto fingerprint = own_fingerprint();
    if (!fingerprint) co_return fail(fingerprint.error());
    if (files_.is_paired(asked.pair)) {
        co_return fail(Errc::already_exists, "'{}' is paired already: {}", asked.pair,
                       files_.path(asked.pair, "pair.toml"));
    }
    if (auto defined = files_.definition(asked.pair); !defined) {
        co_return fail(Error(defined.error()).within("there is no VM of that name"));
    }
    const auto known = pairings_.find(asked.pair);
    if (known != pairings_.end() && known->second.state == PairingState::joining) {
        co_return fail(Errc::busy, "'{}' is being paired", asked.pair);
    }
    if (known != pairings_.end()) {
        if (auto gone = withdraw(asked.pair); !gone) co_return fail(gone.error());
    }
    if (offers_.size() >= kOffersMax) {
        co_return fail(Errc::limit, "{} codes are open already; withdraw one", offers_.size());
    }
    auto begin = [this, pair = asked.pair] { return files_.begin(pair); };
    auto public_key = co_await worker_.run<std::string>(executor_, std::move(begin));
    if (!public_key) co_return fail(public_key.error());

    PairingCode code;
    code.host = plan->own_address;
    code.port = page_port_;
    code.fingerprint = from_hex(*fingerprint).substr(0, PairingCode::kFingerprintBytes);
    code.secret = random_bytes(PairingCode::kSecretBytes);
    auto text = to_text(code);
    if (!text) co_return fail(text.error());
    const auto offer = std::make_shared<Offer>();
    offer->keys = PairingKeys::derive(code.secret, code.fingerprint);
    offer->id = offer->keys.id;
    offer->plan = *plan;
    offer->pair = asked.pair;
    offer->channel_pub = *public_key;
    offer->fingerprint = *fingerprint;
    offer->expires_unix_ms = unix_ms_now() + kOfferLifeMs;
    offers_[offer->id] = offer;
    Pairing pairing;
    pairing.pair = asked.pair;
    pairing.site = std::string(plan->site.view());
    pairing.tiebreaker = plan->tiebreaker;
    pairing.expires_unix_ms = offer->expires_unix_ms;
    const std::string site = pairing.site;
    auto trial = co_await try_tiebreaker(plan->tiebreaker, plan->credentials, site, asked.pair);
    step(pairing, "tiebreaker", trial.state, trial.text);
    step(pairing, "code", PairingStep::State::running, "shown; waiting for the other site");
    Offered offered;
    offered.code = *text;
    offered.pairing = std::move(pairing);
    co_return offered;
}

std::shared_ptr<Pairings::Offer> Pairings::find_offer(std::string_view id) {
    const auto at = offers_.find(id);
    return at == offers_.end() ? nullptr : at->second;
}

void Pairings::end_offer(Offer& offer, PairingState state, std::string text) {
    const auto at = pairings_.find(offer.pair);
    if (at == pairings_.end() || at->second.state == PairingState::paired) return;
    at->second.state = state;
    at->second.expires_unix_ms.reset();
    step(at->second, "end", PairingStep::State::failed, std::move(text));
    files_.abandon(offer.pair);
}

void Pairings::expire_offers() {
    const int64_t now = unix_ms_now();
    for (auto at = offers_.begin(); at != offers_.end();) {
        if (at->second->expires_unix_ms > now) {
            ++at;
            continue;
        }
        if (!at->second->finished) {
            end_offer(*at->second, PairingState::failed, "the code has expired; make a new one");
        }
        ended_[at->first] = now;
        at = offers_.erase(at);
    }
    while (ended_.size() > kEndedMax) {
        ended_.erase(
            std::min_element(ended_.begin(), ended_.end(),
                             [](const auto& a, const auto& b) { return a.second < b.second; }));
    }
}

json::object Pairings::own_hello(const PairPlan& plan, const std::string& channel_pub,
                                 const std::string& fingerprint) const {
    json::object out;
    out["protocol"] = kPairingProtocol;
    out["version"] = ANTIPODE_VERSION;
    out["site"] = plan.site.view();
    out["time_unix_ms"] = unix_ms_now();
    out["address"] = plan.own_address;
    out["channel_port"] = plan.channel_port;
    out["heartbeat_port"] = plan.heartbeat_port;
    out["channel_pub"] = channel_pub;
    out["page_port"] = page_port_;
    out["page_fingerprint"] = fingerprint;
    const auto authority = authority_fingerprint(plan.credentials);
    out["authority"] = authority ? *authority : "";
    return out;
}

Result<> Pairings::check_hello(const Offer& offer, const json::object& said) const {
    FT_TRY(const int64_t protocol, number_of(said, "protocol", 0, 1'000'000));
    FT_TRY(const std::string version, text_of(said, "version", 40));
    if (protocol != kPairingProtocol || release_of(version) != release_of(ANTIPODE_VERSION)) {
        return fail(Errc::version,
                    "versions: {} runs {}, the other site {}; install the same version at both",
                    offer.plan.site, ANTIPODE_VERSION, control::printable(version, 40));
    }
    FT_TRY(const std::string site, text_of(said, "site", 40));
    FT_TRY(const Name name, Name::parse(site, "site"));
    if (name == offer.plan.site) {
        return fail(Errc::invalid_argument,
                    "site: both sites are called '{}'; give the other one another name", site);
    }
    FT_TRY(const int64_t time, number_of(said, "time_unix_ms", 0, int64_t{1} << 52));
    const int64_t skew = time - unix_ms_now();
    if (std::abs(skew) > kSkewMaxMs) {
        return fail(Errc::invalid_argument,
                    "clocks: the clock of {} is {} {} the clock of {}; set both by NTP "
                    "(timedatectl)",
                    site, span_text(skew), skew > 0 ? "ahead of" : "behind", offer.plan.site);
    }
    FT_TRY(const std::string authority, text_of(said, "authority", 64));
    const auto own = authority_fingerprint(offer.plan.credentials);
    if (own && !authority.empty() && authority != *own) {
        return fail(Errc::invalid_argument,
                    "certificates: the ca.pem of {} and of {} are of different authorities; the "
                    "tiebreaker would take one of the sites only",
                    site, offer.plan.site);
    }
    return {};
}

// Accepting a hello again starts over: the other site may have been stopped in between.
Pairings::Answer Pairings::hello(std::shared_ptr<Offer> offer, json::object said) {
    if (offer->finished) co_return fail(Errc::denied, "the code was used already; make a new one");
    const auto refuse = [&](const Error& error) -> Failure {
        const auto at = pairings_.find(offer->pair);
        if (at != pairings_.end()) {
            step(at->second, "hello", PairingStep::State::failed, error.context);
        }
        return fail(error);
    };
    if (auto fine = check_hello(*offer, said); !fine) co_return refuse(fine.error());
    PairPlan& plan = offer->plan;
    const auto read = [&]() -> Result<> {
        FT_TRY(const std::string site, text_of(said, "site", 40));
        FT_TRY(plan.peer_site, Name::parse(site, "site"));
        FT_TRY(const std::string text, text_of(said, "address", 64));
        boost::system::error_code error;
        plan.peer_address = boost::asio::ip::make_address(text, error).to_string();
        if (error) return fail(Errc::protocol, "the other site's message: address: is none");
        FT_TRY(const int64_t channel, number_of(said, "channel_port", 1, 65535));
        FT_TRY(const int64_t heartbeat, number_of(said, "heartbeat_port", 1, 65535));
        FT_TRY(const int64_t page, number_of(said, "page_port", 1, 65535));
        plan.peer_channel_port = static_cast<uint16_t>(channel);
        plan.peer_heartbeat_port = static_cast<uint16_t>(heartbeat);
        FT_TRY(offer->peer_channel_pub, text_of(said, "channel_pub", 200));
        FT_TRY_VOID(check_key_text("channel_pub", offer->peer_channel_pub));
        FT_TRY(offer->peer_fingerprint, text_of(said, "page_fingerprint", 64));
        offer->peer_host = plan.peer_address;
        offer->peer_port = static_cast<uint16_t>(page);
        return {};
    };
    if (auto done = read(); !done) co_return refuse(done.error());
    auto definition = files_.definition(offer->pair);
    if (!definition) co_return refuse(definition.error());
    auto heartbeat = files_.prepared(offer->pair, "heartbeat.key");
    if (!heartbeat) co_return refuse(heartbeat.error());
    offer->greeted = true;
    if (const auto at = pairings_.find(offer->pair); at != pairings_.end()) {
        at->second.peer_site = std::string(plan.peer_site.view());
        step(at->second, "hello", PairingStep::State::good,
             fmt::format("{} at {} knows the code", plan.peer_site, plan.peer_address));
    }
    json::object out = own_hello(plan, offer->channel_pub, offer->fingerprint);
    out["pair"] = offer->pair;
    out["definition"] = *definition;
    out["heartbeat_key"] = *heartbeat;
    out["tiebreaker"] = plan.tiebreaker;
    co_return out;
}

Pairings::Answer Pairings::probe(std::shared_ptr<Offer> offer, json::object said) {
    auto text = text_of(said, "token", 64);
    if (!text) co_return fail(text.error());
    const std::string token = from_hex(*text);
    if (token.size() != kLinkTokenBytes) co_return fail(Errc::protocol, "token: is none");
    const PairPlan plan = offer->plan;
    if (echo_) echo_->stop();
    auto echo =
        LinkEcho::start(executor_, plan.own_address, plan.channel_port, plan.heartbeat_port, token);
    if (!echo) co_return fail(Error(echo.error()).within(fmt::format("at {}", plan.site)));
    echo_ = *echo;
    auto report = co_await probe_link(plan.own_address, plan.peer_address, plan.peer_channel_port,
                                      plan.peer_heartbeat_port, token);
    const LinkJudgment judged = judge_link(report, plan.site.view(), plan.peer_site.view(),
                                           plan.peer_channel_port, plan.peer_heartbeat_port);
    if (const auto at = pairings_.find(offer->pair); at != pairings_.end()) {
        step(at->second, "line",
             judged.verdict == LinkVerdict::good   ? PairingStep::State::good
             : judged.verdict == LinkVerdict::poor ? PairingStep::State::warning
                                                   : PairingStep::State::failed,
             judged.text);
    }
    co_return to_json(report);
}

Pairings::Answer Pairings::finish_offer(std::shared_ptr<Offer> offer) {
    json::object out;
    if (offer->finished) co_return out;
    if (echo_) echo_->stop();
    const std::string pair = offer->pair;
    if (auto put = files_.prepare(pair, "peer.pub", offer->peer_channel_pub); !put) {
        co_return fail(put.error());
    }
    if (auto put = files_.prepare(pair, "pair.toml", pair_toml(offer->plan)); !put) {
        co_return fail(put.error());
    }
    if (auto put = files_.finish(pair); !put) co_return fail(put.error());
    offer->finished = true;
    const auto at = pairings_.find(pair);
    if (at == pairings_.end()) co_return fail(Errc::denied, "the code was withdrawn");
    Pairing& pairing = at->second;
    pairing.state = PairingState::paired;
    pairing.expires_unix_ms.reset();
    pairing.lasting = to_hex(offer->keys.lasting);
    pairing.peer_host = offer->peer_host;
    pairing.peer_port = offer->peer_port;
    pairing.peer_fingerprint = offer->peer_fingerprint;
    step(pairing, "finish", PairingStep::State::good,
         fmt::format("paired; start it: systemctl enable --now antipode-replicator@{}; the first "
                     "start of both sites makes the pair's record at the tiebreaker",
                     pair));
    logger("web").info("{} is paired with {}", pair, pairing.peer_site);
    co_return out;
}

}  // namespace antipode::web
