#include "web/pairing/pairing.h"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/json/serialize.hpp>

#include "common/base/log.h"
#include "web/pairing/parts.h"

namespace antipode::web {
namespace {

constexpr std::string_view kRestarted = "the page's service was restarted while it was under way";

std::string_view word(PairingStep::State state) {
    switch (state) {
        case PairingStep::State::running:
            return "running";
        case PairingStep::State::good:
            return "good";
        case PairingStep::State::warning:
            return "warning";
        case PairingStep::State::failed:
            return "failed";
    }
    return "failed";
}

PairingState pairing_state_from(std::string_view text) {
    for (const PairingState state :
         {PairingState::offered, PairingState::joining, PairingState::paired}) {
        if (text == web::word(state)) return state;
    }
    return PairingState::failed;
}

PairingStep::State step_state_from(std::string_view text) {
    for (const auto state :
         {PairingStep::State::running, PairingStep::State::good, PairingStep::State::warning}) {
        if (text == word(state)) return state;
    }
    return PairingStep::State::failed;
}

std::string text_in(const json::object& document, std::string_view name) {
    const json::value* found = document.if_contains(name);
    return found != nullptr && found->is_string() ? std::string(found->get_string()) : "";
}

Pairing pairing_from(const std::string& stored) {
    Pairing out;
    const auto parsed = control::parse_json(stored);
    const json::object* document = parsed ? parsed->if_object() : nullptr;
    if (document == nullptr) {
        out.state = PairingState::failed;
        return out;
    }
    out.site = text_in(*document, "site");
    out.peer_site = text_in(*document, "peer_site");
    out.tiebreaker = text_in(*document, "tiebreaker");
    out.state = pairing_state_from(text_in(*document, "state"));
    out.peer_fingerprint = text_in(*document, "peer_fingerprint");
    out.peer_host = text_in(*document, "peer_host");
    if (const json::value* port = document->if_contains("peer_port"); port && port->is_number()) {
        out.peer_port = static_cast<uint16_t>(port->to_number<int64_t>());
    }
    const json::value* steps = document->if_contains("steps");
    if (steps == nullptr || !steps->is_array()) return out;
    for (const json::value& item : steps->get_array()) {
        if (!item.is_object()) continue;
        const json::object& step = item.get_object();
        out.steps.push_back({text_in(step, "name"), step_state_from(text_in(step, "state")),
                             text_in(step, "text")});
    }
    return out;
}

}  // namespace

std::string_view word(PairingState state) {
    switch (state) {
        case PairingState::offered:
            return "offered";
        case PairingState::joining:
            return "joining";
        case PairingState::paired:
            return "paired";
        case PairingState::failed:
            return "failed";
    }
    return "failed";
}

json::object to_json(const Pairing& pairing) {
    json::object out;
    out["pair"] = pairing.pair;
    out["site"] = pairing.site;
    out["peer_site"] = pairing.peer_site;
    out["state"] = word(pairing.state);
    json::array steps;
    for (const PairingStep& step : pairing.steps) {
        json::object item;
        item["name"] = step.name;
        item["state"] = word(step.state);
        item["text"] = step.text;
        steps.push_back(std::move(item));
    }
    out["steps"] = std::move(steps);
    out["tiebreaker"] = pairing.tiebreaker;
    out["peer_host"] = pairing.peer_host;
    out["peer_port"] = pairing.peer_port;
    out["peer_fingerprint"] = pairing.peer_fingerprint;
    out["changed_unix_ms"] = pairing.changed_unix_ms;
    out["expires_unix_ms"] =
        pairing.expires_unix_ms ? json::value(*pairing.expires_unix_ms) : json::value(nullptr);
    return out;
}

Result<std::string> text_of(const json::object& said, std::string_view name, size_t bytes_max) {
    const json::value* found = said.if_contains(name);
    if (found == nullptr || !found->is_string() || found->get_string().size() > bytes_max) {
        return fail(Errc::protocol, "the other site's message: {}: expected a text", name);
    }
    return std::string(found->get_string());
}

Result<int64_t> number_of(const json::object& said, std::string_view name, int64_t least,
                          int64_t most) {
    const json::value* found = said.if_contains(name);
    boost::system::error_code error;
    const int64_t read =
        found != nullptr && found->is_number() ? found->to_number<int64_t>(error) : least - 1;
    if (error || read < least || read > most) {
        return fail(Errc::protocol, "the other site's message: {}: expected a number from {} to {}",
                    name, least, most);
    }
    return read;
}

Result<> check_key_text(std::string_view name, std::string_view text) {
    for (const char c : text) {
        if ((c > ' ' && c < 0x7f) || c == '\n') continue;
        return fail(Errc::protocol, "the other site's message: {}: is no key", name);
    }
    if (text.size() < 32 || text.size() > 200) {
        return fail(Errc::protocol, "the other site's message: {}: is no key", name);
    }
    return {};
}

Pairings::Pairings(boost::asio::any_io_executor executor, const Settings& settings,
                   Database& database, const Fleet& fleet)
    : executor_(std::move(executor)),
      settings_(settings),
      database_(database),
      fleet_(fleet),
      files_(settings.site.vms, settings.site.replicator) {}

Pairings::~Pairings() {
    worker_.join();
}

void Pairings::stop() {
    stopped_ = true;
    if (echo_) echo_->stop();
}

Result<> Pairings::load() {
    FT_TRY_VOID(database_.query("SELECT pair, document, lasting, changed_unix_ms FROM pairings", {},
                                [&](const SqlRow& row) {
                                    Pairing pairing = pairing_from(row.text(1));
                                    pairing.pair = row.text(0);
                                    pairing.lasting = row.text(2);
                                    pairing.changed_unix_ms = row.number(3);
                                    pairings_[pairing.pair] = std::move(pairing);
                                }));
    for (auto& [pair, pairing] : pairings_) {
        if (pairing.state == PairingState::paired || pairing.state == PairingState::failed)
            continue;
        pairing.state = PairingState::failed;
        step(pairing, "end", PairingStep::State::failed, std::string(kRestarted));
    }
    return {};
}

std::vector<Pairing> Pairings::list() const {
    std::vector<Pairing> out;
    for (const auto& [pair, pairing] : pairings_) out.push_back(pairing);
    return out;
}

Result<Pairing> Pairings::find(std::string_view pair) const {
    const auto at = pairings_.find(pair);
    if (at == pairings_.end()) {
        return fail(Errc::not_found, "there is no pairing of '{}' here", pair.substr(0, 40));
    }
    return at->second;
}

void Pairings::step(Pairing& pairing, std::string name, PairingStep::State state,
                    std::string text) {
    if (pairing.steps.empty() || pairing.steps.back().name != name) {
        pairing.steps.push_back({std::move(name), state, std::move(text)});
    } else {
        pairing.steps.back().state = state;
        pairing.steps.back().text = std::move(text);
    }
    keep(pairing);
}

void Pairings::keep(const Pairing& pairing) {
    Pairing& kept = pairings_[pairing.pair];
    if (&kept != &pairing) kept = pairing;
    kept.changed_unix_ms = unix_ms_now();
    auto stored = database_.run(
        "INSERT INTO pairings (pair, document, lasting, changed_unix_ms) VALUES (?,?,?,?) "
        "ON CONFLICT (pair) DO UPDATE SET document=excluded.document, lasting=excluded.lasting, "
        "changed_unix_ms=excluded.changed_unix_ms",
        {kept.pair, json::serialize(to_json(kept)), kept.lasting, kept.changed_unix_ms});
    if (!stored) logger("web").error("pairing: {}", stored.error().to_string());
}

Result<> Pairings::withdraw(std::string_view pair) {
    const auto at = pairings_.find(pair);
    if (at == pairings_.end() || at->second.state == PairingState::paired ||
        at->second.state == PairingState::joining) {
        return fail(Errc::not_found, "'{}' is not offered here", pair.substr(0, 40));
    }
    for (auto& [id, offer] : offers_) {
        if (offer->pair != pair || offer->finished) continue;
        end_offer(*offer, PairingState::failed, "withdrawn");
        ended_[id] = unix_ms_now();
    }
    std::erase_if(offers_, [&](const auto& entry) { return entry.second->pair == pair; });
    const std::string name = at->first;
    if (!files_.is_paired(name)) files_.abandon(name);
    pairings_.erase(at);
    return database_.run("DELETE FROM pairings WHERE pair=?", {name});
}

// A replicator that runs holds the keys that it was started with.
Result<> Pairings::not_running(std::string_view pair) const {
    for (const View* view : fleet_.views(pair)) {
        if (!view->reachable) continue;
        return fail(Errc::busy,
                    "the replicator of '{}' runs at this site; stop it first: systemctl disable "
                    "--now antipode-replicator@{}",
                    pair, pair);
    }
    return {};
}

Result<Pairings::Line> Pairings::line_to(const Pairing& pairing) const {
    Line line;
    line.key = from_hex(pairing.lasting);
    if (pairing.state != PairingState::paired || line.key.empty()) {
        return fail(Errc::not_found, "'{}' was not paired from this page", pairing.pair);
    }
    line.id = lasting_id(line.key);
    line.target.host = pairing.peer_host;
    line.target.port = pairing.peer_port;
    line.target.fingerprint = from_hex(pairing.peer_fingerprint);
    return line;
}

boost::asio::awaitable<Result<std::string>> Pairings::unpair(std::string pair) {
    auto found = find(pair);
    if (!found) co_return fail(found.error());
    if (auto idle = not_running(pair); !idle) co_return fail(idle.error());
    auto line = line_to(*found);
    if (!line) co_return fail(line.error());
    const std::chrono::seconds limit(8);
    json::object nothing;
    auto told = co_await call(*line, "unpair", std::move(nothing), limit);
    if (!told && told.error().code == Errc::busy) co_return fail(told.error());
    if (auto gone = files_.unpair(pair); !gone) co_return fail(gone.error());
    pairings_.erase(pair);
    auto forgotten = database_.run("DELETE FROM pairings WHERE pair=?", {pair});
    if (!forgotten) co_return fail(forgotten.error());
    const std::string there = told
                                  ? fmt::format("{} has taken its keys away, too", found->peer_site)
                                  : fmt::format("{} was not told ({}): unpair there as well",
                                                found->peer_site, told.error().context);
    co_return fmt::format(
        "the keys of '{}' are gone from this site, its definition and disks are kept; {}. The "
        "tiebreaker keeps its record until `antipode-tiebreaker admin forget {}`",
        pair, there, pair);
}

boost::asio::awaitable<Result<std::string>> Pairings::rekey(std::string pair) {
    auto found = find(pair);
    if (!found) co_return fail(found.error());
    if (auto idle = not_running(pair); !idle) co_return fail(idle.error());
    auto line = line_to(*found);
    if (!line) co_return fail(line.error());
    auto begin = [this, pair] { return files_.begin(pair); };
    auto own = co_await worker_.run<std::string>(executor_, std::move(begin));
    if (!own) co_return fail(own.error());
    auto heartbeat = files_.prepared(pair, "heartbeat.key");
    if (!heartbeat) co_return fail(heartbeat.error());
    json::object payload;
    payload["channel_pub"] = *own;
    payload["heartbeat_key"] = *heartbeat;
    const std::chrono::seconds limit(15);
    auto theirs = co_await call(*line, "rekey", std::move(payload), limit);
    if (!theirs) co_return fail(theirs.error());
    auto peer_pub = text_of(*theirs, "channel_pub", 200);
    if (!peer_pub) co_return fail(peer_pub.error());
    if (auto fine = check_key_text("channel_pub", *peer_pub); !fine) co_return fail(fine.error());
    if (auto put = files_.prepare(pair, "peer.pub", *peer_pub); !put) co_return fail(put.error());
    json::object nothing;
    auto done = co_await call(*line, "rekey-finish", std::move(nothing), limit);
    if (!done) {
        co_return fail(Error(done.error())
                           .within("the other site may have new keys already; do "
                                   "this again, whatever it has then is replaced"));
    }
    if (auto put = files_.replace(pair); !put) co_return fail(put.error());
    co_return fmt::format("both sites of '{}' have new keys; start the replicators again", pair);
}

Pairings::Answer Pairings::begin_rekey(const Pairing& pairing, json::object said) {
    const std::string pair = pairing.pair;
    auto peer_pub = text_of(said, "channel_pub", 200);
    auto heartbeat = text_of(said, "heartbeat_key", 200);
    if (!peer_pub) co_return fail(peer_pub.error());
    if (!heartbeat) co_return fail(heartbeat.error());
    if (auto fine = check_key_text("channel_pub", *peer_pub); !fine) co_return fail(fine.error());
    if (auto fine = check_key_text("heartbeat_key", *heartbeat); !fine)
        co_return fail(fine.error());
    auto begin = [this, pair] { return files_.begin(pair); };
    auto own = co_await worker_.run<std::string>(executor_, std::move(begin));
    if (!own) co_return fail(own.error());
    if (auto put = files_.prepare(pair, "peer.pub", *peer_pub); !put) co_return fail(put.error());
    if (auto put = files_.prepare(pair, "heartbeat.key", *heartbeat); !put) {
        co_return fail(put.error());
    }
    json::object out;
    out["channel_pub"] = *own;
    co_return out;
}

// What comes after the pairing, under the lasting key.
Pairings::Answer Pairings::answer_lasting(std::string step, Sealed sealed) {
    const auto at = std::find_if(pairings_.begin(), pairings_.end(), [&](const auto& entry) {
        return !entry.second.lasting.empty() &&
               lasting_id(from_hex(entry.second.lasting)) == sealed.id;
    });
    if (at == pairings_.end()) co_return fail(Errc::denied, "no pair of this site is known so");
    const Pairing pairing = at->second;
    const std::string key = from_hex(pairing.lasting);
    auto said = open_sealed(sealed, key, step + " request");
    if (!said) co_return fail(said.error());
    if (auto idle = not_running(pairing.pair); !idle) {
        co_return fail(Error(idle.error()).within("at " + pairing.site));
    }
    json::object out;
    if (step == "unpair") {
        if (auto gone = files_.unpair(pairing.pair); !gone) co_return fail(gone.error());
        pairings_.erase(pairing.pair);
        auto done = database_.run("DELETE FROM pairings WHERE pair=?", {pairing.pair});
        if (!done) co_return fail(done.error());
        logger("web").info("pairing of {} ended by {}", pairing.pair, pairing.peer_site);
    } else if (step == "rekey") {
        auto begun = co_await begin_rekey(pairing, std::move(*said));
        if (!begun) co_return fail(begun.error());
        out = std::move(*begun);
    } else if (auto put = files_.replace(pairing.pair); !put) {
        co_return fail(put.error());
    }
    co_return seal(sealed.id, key, step + " answer", out);
}

Pairings::Answer Pairings::answer(std::string step, Sealed sealed) {
    if (step == "unpair" || step == "rekey" || step == "rekey-finish") {
        co_return co_await answer_lasting(step, std::move(sealed));
    }
    if (step != "hello" && step != "probe" && step != "finish") {
        co_return fail(Errc::not_found, "there is no step '{}'", step.substr(0, 40));
    }
    expire_offers();
    const std::shared_ptr<Offer> offer = find_offer(sealed.id);
    if (!offer) {
        if (ended_.contains(sealed.id)) {
            co_return fail(Errc::denied,
                           "the code has expired, was withdrawn or was used; make a new one");
        }
        co_return fail(Errc::denied, "there is no such code at this site; make a new one there");
    }
    auto said = open_sealed(sealed, offer->keys.mac_key, step + " request");
    if (!said) {
        if (++offer->wrong_macs >= kWrongMacsMax) {
            end_offer(*offer, PairingState::failed, "tried with a wrong secret too often");
            ended_[offer->id] = unix_ms_now();
            offers_.erase(offer->id);
        }
        co_return fail(said.error());
    }
    Result<json::object> done = fail(Errc::protocol, "the steps of a pairing come in their order");
    if (step == "hello") {
        done = co_await hello(offer, std::move(*said));
    } else if (offer->greeted && step == "probe") {
        done = co_await probe(offer, std::move(*said));
    } else if (offer->greeted) {
        done = co_await finish_offer(offer);
    }
    if (!done) co_return fail(done.error());
    co_return seal(offer->id, offer->keys.mac_key, step + " answer", *done);
}

}  // namespace antipode::web
