#include "tiebreaker/service.h"

#include <algorithm>
#include <xxhash.h>

#include "common/base/check.h"
#include "common/base/log.h"

namespace antipode::tiebreaker {
namespace {

constexpr std::chrono::seconds kListingInterval(60);
constexpr int kConflictsMax = 8;
// Of decisions that change nothing, beside what repeats itself.
constexpr double kListedPerSecond = 1.0 / 60;
constexpr double kListedBurst = 60;
constexpr size_t kChangingSitesMax = 4;

spdlog::logger& log() {
    static spdlog::logger& instance = logger("tiebreaker");
    return instance;
}

std::string key_of(const Name& pair) {
    return std::string(pair.view());
}

UnixTime unix_now() {
    return std::chrono::floor<std::chrono::milliseconds>(std::chrono::system_clock::now());
}

uint64_t fingerprint_of(const Decided& line) {
    wire::Answer answer;
    answer.kind = line.kind;
    answer.reason = line.reason;
    answer.request = line.request;
    answer.record.epoch = line.epoch;
    std::string bytes;
    wire::encode(wire::ArbiterFrame{0, {}, answer}, bytes);
    return XXH64(bytes.data(), bytes.size(), 0);
}

}  // namespace

Service::Service(Store& store, ServiceLimits limits, Registry& registry,
                 std::function<void(const std::string&)> fatal)
    : store_(store),
      limits_(limits),
      fatal_(std::move(fatal)),
      decision_seconds_(registry.histogram("antipode_tiebreaker_decision_seconds",
                                           "Time from a request to its durable decision",
                                           delay_bounds_seconds())),
      changed_(registry.counter("antipode_tiebreaker_decisions_total", "Decisions by result",
                                {{"result", "changed"}})),
      unchanged_(registry.counter("antipode_tiebreaker_decisions_total", "Decisions by result",
                                  {{"result", "unchanged"}})),
      failed_(registry.counter("antipode_tiebreaker_decisions_total", "Decisions by result",
                               {{"result", "failed"}})),
      throttled_(registry.counter("antipode_tiebreaker_decisions_throttled_total",
                                  "Requests put off, since their site changes the pair too often")),
      turned_away_lines_(1, 20, MonotonicClock::now()),
      pairs_gauge_(registry.gauge("antipode_tiebreaker_pairs", "Pairs that have a record")) {}

TokenBucket Service::listed_lines() {
    return {kListedPerSecond, kListedBurst, MonotonicClock::now()};
}

Result<> Service::start() {
    FT_TRY(const std::vector<Stored> all, store_.load());
    for (const Stored& stored : all) pair_of(stored.record.pair).stored = stored;
    record_count_ = all.size();
    pairs_gauge_.set(static_cast<double>(record_count_));
    return store_.start([this](const Stored& stored) { on_changed_elsewhere(stored); });
}

const Service::Pair* Service::find(const Name& pair) const {
    const auto found = pairs_.find(key_of(pair));
    return found == pairs_.end() ? nullptr : &found->second;
}

Service::Pair& Service::pair_of(const Name& pair) {
    return pairs_[key_of(pair)];
}

// A pair without a record is remembered only while somebody asks or watches.
void Service::tidy(const Name& pair) {
    const auto found = pairs_.find(key_of(pair));
    if (found == pairs_.end()) return;
    const Pair& it = found->second;
    if (!it.stored && it.waiting.empty() && it.watchers.empty()) pairs_.erase(found);
}

// That the certificate lets its owner ask this at all; what comes of it is the arbiter's.
Result<> Service::check_right(const Client& client, const wire::Request& request) const {
    const env::CertificateIdentity& who = client.identity();
    const auto denied = [&](std::string_view why) {
        return fail(Errc::denied, "pair {}: {} may not {}: {}", request.pair, who.name,
                    to_string(request.kind), why);
    };
    if (request.pair.empty()) return fail(Errc::invalid_argument, "the request names no pair");
    if (who.role != env::PeerRole::site) return denied("its certificate is not that of a site");
    if (request.kind == wire::RequestKind::forget) return denied("only the administrator may");
    const bool about_nobody = request.kind == wire::RequestKind::query && request.me.site.empty();
    if (request.me.site != who.name && !about_nobody) {
        return denied(fmt::format("it speaks for itself only, not for '{}'", request.me.site));
    }
    const Pair* pair = find(request.pair);
    const bool known = pair != nullptr && pair->stored.has_value();
    if (!who.pairs.empty() && !who.covers(request.pair)) {
        return denied("its certificate does not cover this pair");
    }
    if (known && wire::names_site(pair->stored->record.sites, who.name)) return {};
    // A spare that no record names yet: its certificate lets it have this pair, so it may look.
    const bool looks = request.kind == wire::RequestKind::query && !who.pairs.empty();
    if (known && looks) return {};
    const bool vacant = !known || pair->stored->record.mode == wire::PairMode::none;
    if (!vacant) return denied("the pair belongs to other sites");
    if (who.pairs.empty()) return denied("its certificate lets it enrol no pairs (pairs=)");
    if (!known && request.kind == wire::RequestKind::create && record_count_ >= limits_.pairs_max) {
        return fail(Errc::limit, "pair {}: this tiebreaker serves {} pairs already, its limit",
                    request.pair, record_count_);
    }
    return {};
}

void Service::turn_away(Client& client, uint64_t number, const Error& why) {
    failed_.add();
    if (turned_away_lines_.take(MonotonicClock::now())) {
        log().warn("{}: turned away: {}", client.described(), why.context);
    }
    client.deliver(number, wire::ArbiterError{why.code, why.context});
}

// A pair's two sites have their own share each; who else may ask (about a pair that nobody has, or
// has any more) gets what is left.
Result<> Service::check_waiting(const Client& client, const Name& name) const {
    const Pair* pair = find(name);
    if (pair == nullptr) return {};
    const Name& site = client.identity().name;
    const auto waiting = static_cast<size_t>(
        std::count_if(pair->waiting.begin(), pair->waiting.end(), [&](const Pending& pending) {
            return pending.client && pending.client->identity().name == site;
        }));
    const bool named = pair->stored && wire::names_site(pair->stored->record.sites, site);
    const bool full = !named && pair->waiting.size() >= limits_.waiting_per_pair_max;
    if (waiting < limits_.waiting_per_site_max && !full) return {};
    return fail(Errc::busy, "pair {}: {} requests wait, {} of them of {}", name,
                pair->waiting.size(), waiting, site);
}

void Service::request(const std::shared_ptr<Client>& client, uint64_t number,
                      const wire::Request& request) {
    if (dead_) return;
    if (const auto right = check_right(*client, request); !right) {
        return turn_away(*client, number, right.error());
    }
    if (const auto room = check_waiting(*client, request.pair); !room) {
        failed_.add();
        client->deliver(number, wire::ArbiterError{room.error().code, room.error().context});
        return;
    }
    enqueue({client, number, request, {}, {}, MonotonicClock::now(), 0});
}

void Service::forget(const Name& pair, std::string by, Done done) {
    wire::Request request;
    request.kind = wire::RequestKind::forget;
    request.pair = pair;
    if (dead_) return done(fail(Errc::closed, "the tiebreaker is ending"));
    enqueue({nullptr, 0, request, std::move(done), std::move(by), MonotonicClock::now(), 0});
}

void Service::enqueue(Pending pending) {
    const Name name = pending.request.pair;
    Pair& pair = pair_of(name);
    pair.waiting.push_back(std::move(pending));
    if (!pair.busy) begin(name, pair);
}

PeerPresence Service::presence(const Pair& pair, const wire::Request& request) const {
    if (!pair.stored) return PeerPresence::absent;
    const bool there = std::any_of(pair.watchers.begin(), pair.watchers.end(), [&](const auto& w) {
        return forbids_force(pair.stored->record, request.me.site, w.site) && !w.client.expired();
    });
    return there ? PeerPresence::connected : PeerPresence::absent;
}

void Service::begin(const Name& name, Pair& pair) {
    FT_CHECK(!pair.busy && !pair.waiting.empty(), "pair {}: nothing to begin", name);
    pair.busy = true;
    const Pending& pending = pair.waiting.front();
    std::optional<wire::Record> record;
    if (pair.stored) record = pair.stored->record;
    Decision decision =
        decide(record, pending.request, {store_.identity(), presence(pair, pending.request)});
    if (decision.changed == Changed::yes && pending.client && too_many_changes(name, pair)) return;
    Commit commit;
    commit.pair = name;
    commit.expected_version = pair.stored ? pair.stored->version : 0;
    if (decision.changed == Changed::yes) commit.record = decision.record;
    commit.history = history_line(pair, pending, decision);
    commit.done = [this, name, decision = std::move(decision)](CommitResult result) mutable {
        on_result(name, std::move(decision), std::move(result));
    };
    store_.commit(std::move(commit));
}

TokenBucket& Service::changes_of(Pair& pair, const Name& site) {
    for (Changes& changes : pair.changes) {
        if (changes.site == site) return changes.bucket;
    }
    if (pair.changes.size() >= kChangingSitesMax) pair.changes.erase(pair.changes.begin());
    pair.changes.push_back(
        {site, {limits_.changes_per_second, limits_.changes_burst, MonotonicClock::now()}});
    return pair.changes.back().bucket;
}

// Puts the first request off if so. Not to decide is always safe; its site asks again.
bool Service::too_many_changes(const Name& name, Pair& pair) {
    const Client& client = *pair.waiting.front().client;
    const Instant now = MonotonicClock::now();
    if (changes_of(pair, client.identity().name).wait(now) == Duration::zero()) return false;
    throttled_.add();
    if (turned_away_lines_.take(now)) {
        log().warn("pair {}: {} changes it too often: put off", name, client.described());
    }
    conclude(name, pair,
             fail(Errc::busy, "pair {}: {} changes it too often, ask again later", name,
                  client.identity().name));
    return true;
}

std::optional<Decided> Service::history_line(Pair& pair, const Pending& pending,
                                             const Decision& decision) {
    if (pending.request.kind == wire::RequestKind::query) return std::nullopt;
    Decided line;
    line.at = unix_now();
    line.by = pending.client ? pending.client->described() : pending.by;
    line.request = pending.request;
    line.kind = decision.answer.kind;
    line.reason = decision.answer.reason;
    line.epoch = decision.answer.record.epoch;
    if (decision.changed == Changed::yes) {
        line.record = decision.record;
    } else if (!pair.stored) {
        return std::nullopt;  // asked about nothing: nothing was decided
    } else {
        const uint64_t fingerprint = fingerprint_of(line);
        const Instant now = MonotonicClock::now();
        const bool again = fingerprint == pair.listing.fingerprint;
        // Alike within a minute, or anything within a second: counted, and listed with the next.
        const Duration quiet = again ? Duration(kListingInterval) : std::chrono::seconds(1);
        const bool soon = pair.listing.at != Instant() && now - pair.listing.at < quiet;
        if (soon || !pair.listing.lines.take(now)) {
            ++pair.listing.unlisted;
            return std::nullopt;
        }
        pair.listing.fingerprint = fingerprint;
        pair.listing.at = now;
    }
    line.unlisted = std::exchange(pair.listing.unlisted, 0);
    return line;
}

void Service::on_result(const Name& name, Decision decision, CommitResult result) {
    if (dead_) return;
    Pair& pair = pair_of(name);
    FT_CHECK(pair.busy && !pair.waiting.empty(), "pair {}: a result for nothing", name);
    switch (result.kind) {
        case CommitResult::Kind::doubtful:
            dead_ = true;
            fatal_(result.error);
            return;
        case CommitResult::Kind::failed:
            failed_.add();
            log().error("pair {}: {} is not decided: {}", name,
                        to_string(pair.waiting.front().request.kind), result.error);
            conclude(name, pair, fail(Errc::busy, "not decided, ask again: {}", result.error));
            return;
        case CommitResult::Kind::conflict:
            if (!pair.stored && result.current) ++record_count_;
            pair.stored = std::move(result.current);
            tell_watchers(name, pair, nullptr);
            if (++pair.waiting.front().conflicts >= kConflictsMax) {
                failed_.add();
                conclude(name, pair,
                         fail(Errc::busy, "another tiebreaker is at work on this pair"));
                return;
            }
            pair.busy = false;
            begin(name, pair);
            return;
        case CommitResult::Kind::committed:
            break;
    }
    const bool changed = decision.changed == Changed::yes;
    (changed ? changed_ : unchanged_).add();
    if (changed) {
        FT_CHECK(result.current && result.current->record == *decision.record,
                 "pair {}: the store keeps another record than was decided", name);
        if (!pair.stored) ++record_count_;
        pair.stored = std::move(result.current);
        pairs_gauge_.set(static_cast<double>(record_count_));
        const Pending& asked = pair.waiting.front();
        if (asked.client) {
            (void)changes_of(pair, asked.client->identity().name).take(MonotonicClock::now());
        }
        log().info(
            "pair {}: {} of {} -> {} epoch {} holder {}", name, to_string(asked.request.kind),
            asked.client ? asked.client->described() : asked.by, to_string(decision.record->mode),
            decision.record->epoch, decision.record->holder.site);
    }
    const Client* asker = pair.waiting.front().client.get();
    if (changed) tell_watchers(name, pair, asker);
    conclude(name, pair_of(name), std::move(decision.answer));
}

void Service::conclude(const Name& name, Pair& pair, Result<wire::Answer> answer) {
    const Pending pending = std::move(pair.waiting.front());
    pair.waiting.erase(pair.waiting.begin());
    pair.busy = false;
    const std::chrono::duration<double> took = MonotonicClock::now() - pending.asked;
    decision_seconds_.observe(took.count());
    // Before the next one is begun, which may be put off at once: answers come in the order asked.
    if (pending.client) {
        if (answer) {
            pending.client->deliver(pending.number, std::move(*answer));
        } else {
            pending.client->deliver(
                pending.number, wire::ArbiterError{answer.error().code, answer.error().context});
        }
    } else {
        pending.done(std::move(answer));
    }
    // Meanwhile the client may have asked again, or have left.
    const auto found = pairs_.find(key_of(name));
    if (found == pairs_.end()) return;
    if (!found->second.busy && !found->second.waiting.empty()) begin(name, found->second);
    tidy(name);
}

void Service::on_changed_elsewhere(const Stored& stored) {
    if (dead_) return;
    const Name& name = stored.record.pair;
    Pair& pair = pair_of(name);
    if (pair.stored && pair.stored->version >= stored.version) return;
    if (!pair.stored) ++record_count_;
    pair.stored = stored;
    tell_watchers(name, pair, nullptr);
}

// Each change is told to all who watch.
Result<> Service::check_watches(const Client& client, const Name& name) const {
    const Pair* pair = find(name);
    if (pair == nullptr) return {};
    const Name& site = client.identity().name;
    const auto watches = static_cast<size_t>(
        std::count_if(pair->watchers.begin(), pair->watchers.end(),
                      [&](const Watcher& watcher) { return watcher.site == site; }));
    if (watches < limits_.watches_per_site_max) return {};
    return fail(Errc::limit, "pair {}: {} connections of {} watch it already", name, watches, site);
}

void Service::watch(const std::shared_ptr<Client>& client, uint64_t number,
                    const wire::ArbiterWatch& watch) {
    wire::Request request;
    request.kind = wire::RequestKind::query;
    request.pair = watch.pair;
    request.me = watch.me;
    auto right = check_right(*client, request);
    auto& watched = watches_[client.get()];
    const bool again = std::find(watched.begin(), watched.end(), watch.pair) != watched.end();
    if (right && !again && watched.size() >= limits_.watches_per_client_max) {
        right =
            fail(Errc::limit, "pair {}: {} pairs are watched already", watch.pair, watched.size());
    }
    if (right && !again) right = check_watches(*client, watch.pair);
    if (!right) {
        if (watched.empty()) watches_.erase(client.get());
        return turn_away(*client, number, right.error());
    }
    Pair& pair = pair_of(watch.pair);
    if (again) {
        for (Watcher& watcher : pair.watchers) {
            if (watcher.key == client.get()) watcher.me = watch.me;
        }
    } else {
        watched.push_back(watch.pair);
        pair.watchers.push_back({client, client.get(), client->identity().name, watch.me});
        ++watch_count_;
    }
    wire::ArbiterRecord body{watch.pair, {}};
    if (pair.stored) body.record = pair.stored->record;
    client->deliver(number, std::move(body));
}

void Service::leave(const Client& client) {
    const auto found = watches_.find(&client);
    if (found == watches_.end()) return;
    const std::vector<Name> watched = std::move(found->second);
    watches_.erase(found);
    for (const Name& name : watched) {
        auto& watchers = pair_of(name).watchers;
        const auto gone = std::remove_if(watchers.begin(), watchers.end(),
                                         [&](const Watcher& w) { return w.key == &client; });
        watch_count_ -= static_cast<size_t>(watchers.end() - gone);
        watchers.erase(gone, watchers.end());
        tidy(name);
    }
}

void Service::tell_watchers(const Name& name, const Pair& pair, const Client* asker) {
    std::vector<std::shared_ptr<Client>> clients;  // a push may end one, which changes the list
    for (const Watcher& watcher : pair.watchers) {
        if (watcher.key == asker) continue;
        if (auto client = watcher.client.lock()) clients.push_back(std::move(client));
    }
    wire::ArbiterRecord body{name, {}};
    if (pair.stored) body.record = pair.stored->record;
    for (const auto& client : clients) client->push(body);
}

}  // namespace antipode::tiebreaker
