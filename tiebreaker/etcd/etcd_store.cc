#include "tiebreaker/etcd/etcd_store.h"

#include <algorithm>
#include <openssl/rand.h>
#include <set>

#include "common/base/check.h"
#include "common/base/log.h"
#include "common/wire/arbiter_frames.h"
#include "tiebreaker/history_line.h"

namespace antipode::tiebreaker {
namespace {

using etcd::Compare;
using etcd::KeyValue;
using etcd::Reply;
using etcd::Transaction;
using etcd::TransactionAnswer;

constexpr std::chrono::seconds kFollowInterval(1);
constexpr std::chrono::milliseconds kPauseMin(20);
constexpr std::chrono::milliseconds kPauseMax(1000);
constexpr int kMovesMax = 100;

// Where the keys stand among those that an attempt reads when its compares do not hold.
enum Read : size_t { kStore = 0, kEnd, kMarkHistory, kOwnHistory, kPairs };

spdlog::logger& log() {
    static spdlog::logger& instance = logger("tiebreaker");
    return instance;
}

std::unique_ptr<etcd::Gateway> gateway_of(const EtcdSettings& settings, std::string probe_key) {
    etcd::ClientSettings client = settings.client;
    client.probe_key = std::move(probe_key);
    if (settings.gateway) return settings.gateway(client);
    return std::make_unique<etcd::Client>(std::move(client));
}

std::string random_nonce() {
    std::string out(16, '\0');
    FT_CHECK(RAND_bytes(reinterpret_cast<unsigned char*>(out.data()), 16) == 1,
             "no random numbers");
    return out;
}

}  // namespace

EtcdStore::EtcdStore(const EtcdSettings& settings, boost::asio::io_context* core,
                     Registry& registry)
    : keys_(settings.prefix),
      patience_(3 * settings.client.request_limit),
      client_(gateway_of(settings, keys_.store())),
      size_interval_(settings.size_interval),
      size_looked_at_(MonotonicClock::now()),
      metrics_(registry),
      retries_(registry.counter("antipode_tiebreaker_etcd_retries_total",
                                "Transactions sent to etcd again for want of an answer")),
      registry_(registry),
      queue_(core) {}

EtcdStore::~EtcdStore() {
    queue_.stop();
}

Result<> EtcdStore::start(ChangedHandler changed) {
    FT_CHECK(mark_ != nullptr && end_revision_ != 0, "started without a mark, or before load()");
    changed_ = std::move(changed);
    followed_at_ = MonotonicClock::now();
    queue_.start([this] { run(); });
    return {};
}

void EtcdStore::run() {
    while (auto batch = queue_.take(kPairsPerTransaction, kFollowInterval)) {
        if (!batch->empty()) {
            const Instant begin = MonotonicClock::now();
            Results results = write(*batch);
            const std::chrono::duration<double> took = MonotonicClock::now() - begin;
            metrics_.batch_seconds.observe(took.count());
            queue_.deliver(std::move(*batch), std::move(results));
        }
        const bool due = MonotonicClock::now() - followed_at_ >= kFollowInterval;
        if (due && !ended_ && !queue_.stopping()) follow();
        if (due && !ended_ && !queue_.stopping()) look_at_size();
    }
}

EtcdStore::Results EtcdStore::all(const Batch& batch, CommitResult::Kind kind,
                                  const std::string& why) {
    return Results(batch.size(), CommitResult{kind, {}, why});
}

EtcdStore::Results EtcdStore::write(const Batch& batch) {
    Results results = all(batch, CommitResult::Kind::doubtful, ended_why_);
    std::vector<size_t> waiting;
    for (size_t i = 0; i < batch.size(); ++i) waiting.push_back(i);
    const auto end_with = [&](CommitResult::Kind kind, const std::string& why) {
        for (const size_t i : waiting) results[i] = CommitResult{kind, {}, why};
    };
    for (int moves = 0; !waiting.empty() && !ended_; ++moves) {
        const Attempt attempt = attempt_of(batch, waiting);
        const Settled settled = settle(attempt);
        Result<> told;
        switch (settled.how) {
            case Settled::How::done:
                told = on_done(batch, attempt, settled.answer.header.revision, waiting, results);
                break;
            case Settled::How::moved:
                if (moves == kMovesMax) {
                    end_with(CommitResult::Kind::failed, "other tiebreakers are too busy with it");
                    return results;
                }
                told = on_moved(batch, attempt, settled.answer, waiting, results);
                break;
            case Settled::How::failed:
                end_with(CommitResult::Kind::failed, settled.error);
                return results;
            case Settled::How::ended:
                told = fail(Errc::closed, "{}", settled.error);
                break;
        }
        if (told) continue;
        ended_ = true;
        ended_why_ = told.error().context;
        log().critical("{}", ended_why_);
    }
    // Once it has ended nothing is told any more, not even what is known to be written.
    return ended_ ? all(batch, CommitResult::Kind::doubtful, ended_why_) : results;
}

EtcdStore::Attempt EtcdStore::attempt_of(const Batch& batch,
                                         const std::vector<size_t>& waiting) const {
    Attempt out;
    Transaction& transaction = out.transaction;
    transaction.compares = {{keys_.store(), store_revision_, {}},
                            {keys_.end(), end_revision_, encode(end_)}};
    out.end = end_;
    out.end.nonce = random_nonce();
    etcd::Lines lines;
    lines.nonce = out.end.nonce;
    std::set<Name> pairs;
    for (const size_t i : waiting) {
        const Commit& commit = batch[i];
        if (!pairs.insert(commit.pair).second) break;  // after the first one is settled
        out.commits.push_back(i);
        transaction.compares.push_back({keys_.pair(commit.pair), commit.expected_version, {}});
        FT_CHECK(!commit.record || commit.history, "pair {}: a record without a line of history",
                 commit.pair);
        if (commit.record) {
            FT_CHECK(invalid(*commit.record) == nullptr, "record of {}: {}", commit.pair,
                     invalid(*commit.record));
            if (commit.expected_version == 0) ++out.end.pairs;
            transaction.puts.push_back(
                {keys_.pair(commit.pair), wire::encode_record(*commit.record)});
        }
        if (!commit.history) continue;
        lines.lines.push_back(encode_history_line(*commit.history, ++out.end.sequence));
        out.end.chain = chain_after(out.end.chain, lines.lines.back());
    }
    out.writes = !lines.lines.empty();
    const std::string own = keys_.history(out.end.sequence);
    if (out.writes) {
        lines.chain = out.end.chain;
        transaction.puts.push_back({own, encode(lines)});
        transaction.puts.push_back({keys_.end(), encode(out.end)});
    }
    transaction.otherwise = {keys_.store(), keys_.end(), keys_.history(mark_->mark()->sequence),
                             own};
    for (const size_t i : out.commits) {
        transaction.otherwise.push_back(keys_.pair(batch[i].pair));
    }
    return out;
}

// Until etcd has said what became of it. The same transaction may be sent as often as one likes:
// the first one that is applied moves the end of history, which each of them compares.
EtcdStore::Settled EtcdStore::settle(const Attempt& attempt) {
    using How = Settled::How;
    const std::string body = encode(attempt.transaction);
    const Instant begin = MonotonicClock::now();
    bool doubt = false;  // one was sent and not answered
    std::chrono::milliseconds pause = kPauseMin;
    for (size_t tries = 1;; ++tries) {
        queue_.step();
        Reply reply = client_->call("/v3/kv/txn", body);
        if (reply.kind == Reply::Kind::answered) {
            auto answer = etcd::decode_transaction(reply.body, attempt.transaction);
            if (answer) {
                const How how = answer->succeeded ? How::done : How::moved;
                return {how, std::move(*answer), {}};
            }
            reply = {Reply::Kind::doubtful, {}, answer.error().context};
            client_->leave();
        }
        doubt |= reply.kind == Reply::Kind::doubtful && attempt.writes;
        const bool round = tries % client_->endpoint_count() == 0;
        const bool tired = attempt.writes || MonotonicClock::now() - begin >= patience_;
        const bool refused = reply.kind == Reply::Kind::refused;
        const bool sent = reply.kind != Reply::Kind::not_sent;
        if (!doubt && (refused || (round && (!sent || tired)))) {
            return {How::failed, {}, reply.error};
        }
        if (queue_.stopping()) return {doubt ? How::ended : How::failed, {}, reply.error};
        retries_.add();
        log().warn("asking again: {}", reply.error);
        hand_back_what_waits(reply.error);
        if (!round) continue;
        std::this_thread::sleep_for(pause);
        pause = std::min(2 * pause, kPauseMax);
    }
}

void EtcdStore::hand_back_what_waits(const std::string& why) {
    Batch batch = queue_.take_older_than(MonotonicClock::now() - patience_);
    if (batch.empty()) return;
    Results results = all(batch, CommitResult::Kind::failed, why);
    queue_.deliver(std::move(batch), std::move(results));
}

Result<> EtcdStore::on_done(const Batch& batch, const Attempt& attempt, uint64_t revision,
                            std::vector<size_t>& waiting, Results& results) {
    if (attempt.writes) {
        end_ = attempt.end;
        end_revision_ = revision;
        FT_TRY_VOID(cover(end_));
    }
    committed(batch, attempt, revision, waiting, results);
    return {};
}

void EtcdStore::committed(const Batch& batch, const Attempt& attempt, uint64_t revision,
                          std::vector<size_t>& waiting, Results& results) {
    if (attempt.writes) metrics_.batches.add();
    for (const size_t i : attempt.commits) {
        results[i] = CommitResult{CommitResult::Kind::committed, {}, {}};
        if (!batch[i].record) continue;
        results[i].current = Stored{*batch[i].record, revision};
        metrics_.records.add();
    }
    waiting.erase(waiting.begin(), waiting.begin() + static_cast<long>(attempt.commits.size()));
}

// That it is still the store that we serve, and still holds what was told. Takes over its end.
Result<> EtcdStore::check_moved(const TransactionAnswer& answer) {
    const KeyValue& store = answer.read[kStore];
    if (store.mod_revision != store_revision_) {
        return fail(Errc::denied, "etcd {}: its identity was changed while we served it",
                    keys_.prefix());
    }
    if (auto sound = check_mark(answer.read[kMarkHistory]); !sound) {
        condemn(sound.error().context);
        return sound;
    }
    FT_TRY(end_, etcd::decode_end(answer.read[kEnd].value));
    end_revision_ = answer.read[kEnd].mod_revision;
    behind_ = true;
    return {};
}

// A compare did not hold: another tiebreaker has written, or we were decided on an outdated record,
// or an attempt before this one was applied and its answer lost.
Result<> EtcdStore::on_moved(const Batch& batch, const Attempt& attempt,
                             const TransactionAnswer& answer, std::vector<size_t>& waiting,
                             Results& results) {
    FT_TRY_VOID(check_moved(answer));
    FT_TRY_VOID(cover(end_));
    const KeyValue& own = answer.read[kOwnHistory];
    if (attempt.writes && own.there()) {
        FT_TRY(const etcd::Lines lines, etcd::decode_lines(own.value));
        if (lines.nonce == attempt.end.nonce) {
            committed(batch, attempt, own.mod_revision, waiting, results);
            return {};
        }
    }
    for (size_t n = 0; n < attempt.commits.size(); ++n) {
        const size_t i = attempt.commits[n];
        const KeyValue& pair = answer.read[kPairs + n];
        const bool as_expected = pair.mod_revision == batch[i].expected_version;
        if (!as_expected && !pair.there()) {
            condemn(fmt::format("pair {}: was deleted in etcd", batch[i].pair));
            return fail(Errc::corrupt, "etcd {}: pair {}: was deleted", keys_.prefix(),
                        batch[i].pair);
        }
        if (as_expected && batch[i].history) continue;  // again, behind the new end
        CommitResult& result = results[i];
        result = {
            as_expected ? CommitResult::Kind::committed : CommitResult::Kind::conflict, {}, {}};
        if (!as_expected) {
            FT_TRY(result.current, stored_from(pair));
        }
        waiting.erase(std::find(waiting.begin(), waiting.end(), i));
    }
    return {};
}

// Of the member that is talked to. History is never taken out of etcd, so somebody has to see it
// grow; a member that does not tell is no reason to do anything else otherwise.
void EtcdStore::look_at_size() {
    constexpr uint64_t kWarning = uint64_t{1536} << 20;  // of the 2 GB that etcd ends at by default
    constexpr uint64_t kStep = uint64_t{128} << 20;
    const Instant now = MonotonicClock::now();
    if (now - size_looked_at_ < size_interval_) return;
    size_looked_at_ = now;
    const Reply reply = client_->call("/v3/maintenance/status", "{}");
    if (reply.kind != Reply::Kind::answered) return log().debug("{}", reply.error);
    const auto bytes = etcd::decode_size(reply.body);
    if (!bytes) return log().debug("{}", bytes.error().context);
    registry_.gauge("antipode_tiebreaker_etcd_size_bytes", "The database of the etcd member in use")
        .set(static_cast<double>(*bytes));
    if (*bytes < kWarning || *bytes < size_said_ + kStep) return;
    size_said_ = *bytes;
    log().warn(
        "etcd {}: its database has {} MiB; when etcd is full (2 GB by default), nothing is "
        "decided: docs/OPERATIONS.md",
        keys_.prefix(), *bytes >> 20);
}

void EtcdStore::follow() {
    followed_at_ = MonotonicClock::now();
    Transaction transaction;
    transaction.compares = {{keys_.store(), store_revision_, {}},
                            {keys_.end(), end_revision_, encode(end_)}};
    transaction.otherwise = {keys_.store(), keys_.end(), keys_.history(mark_->mark()->sequence)};
    const Reply reply = client_->call("/v3/kv/txn", encode(transaction));
    if (reply.kind != Reply::Kind::answered) return log().warn("{}", reply.error);
    const auto answer = etcd::decode_transaction(reply.body, transaction);
    if (!answer) return log().warn("{}", answer.error().context);
    if (answer->succeeded && !behind_) return;
    Result<> followed;
    if (!answer->succeeded) followed = check_moved(*answer);
    if (followed) followed = cover(end_);
    if (!followed) {
        ended_ = true;
        ended_why_ = followed.error().context;
        return log().critical("{}", ended_why_);
    }
    const auto pairs = pairs_at(answer->header.revision, followed_revision_ + 1);
    if (!pairs) return log().warn("{}", pairs.error().context);
    followed_revision_ = answer->header.revision;
    behind_ = false;
    for (const Stored& stored : *pairs) {
        queue_.post([this, stored] { changed_(stored); });
    }
}

}  // namespace antipode::tiebreaker
