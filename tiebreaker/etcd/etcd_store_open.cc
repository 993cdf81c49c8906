// EtcdStore: opening a store, saying which one it is, and reading it.
#include <set>

#include "common/base/check.h"
#include "common/base/log.h"
#include "common/wire/arbiter_frames.h"
#include "tiebreaker/etcd/etcd_store.h"
#include "tiebreaker/history_line.h"

namespace antipode::tiebreaker {
namespace {

using etcd::KeyValue;
using etcd::Mark;
using etcd::Range;
using etcd::RangeAnswer;
using etcd::Transaction;
using etcd::TransactionAnswer;

constexpr uint64_t kPairsPerPage = 1000;
constexpr uint64_t kHistoriesPerPage = 100;
constexpr int kLooksMax = 3;

constexpr const char* kRestoreHint =
    "If etcd was restored on purpose, `antipode-tiebreaker admin restore` gives the store a new "
    "identity; every pair must be enrolled again then";

enum Look : size_t { kStore = 0, kEnd, kMarkHistory };

}  // namespace

Result<Stored> EtcdStore::stored_from(const KeyValue& pair) const {
    const std::string name = pair.key.substr(keys_.pairs().size());
    auto record = wire::decode_record(std::as_bytes(std::span(pair.value)));
    if (!record) {
        return fail(std::move(record).error().within(
            fmt::format("etcd {}: pair {}", keys_.prefix(), name)));
    }
    const char* rule = invalid(*record);
    if (rule == nullptr && record->pair.view() != name) rule = "its record is of another pair";
    if (rule != nullptr) {
        return fail(Errc::corrupt, "etcd {}: pair {}: {}", keys_.prefix(), name, rule);
    }
    return Stored{*record, pair.mod_revision};
}

Result<std::unique_ptr<EtcdStore>> EtcdStore::open(const EtcdSettings& settings, Use use,
                                                   boost::asio::io_context* core,
                                                   Registry& registry) {
    FT_TRY(auto store, prepare(settings, use, core, registry));
    FT_TRY(const TransactionAnswer now, store->look());
    if (!now.read[kStore].there() && use == Use::serve) {
        const bool told = store->mark_->mark() && store->mark_->mark()->sequence > 0;
        if (told || now.read[kEnd].there()) {
            return fail(Errc::denied,
                        "etcd {}: the store is gone: etcd has lost what was decided. {}",
                        settings.prefix, kRestoreHint);
        }
        FT_TRY_VOID(store->make(now));
        return store;
    }
    FT_TRY_VOID(store->take_store(now));
    if (use != Use::read) FT_TRY_VOID(store->check_identity());
    return store;
}

Result<std::unique_ptr<EtcdStore>> EtcdStore::prepare(const EtcdSettings& settings, Use use,
                                                      boost::asio::io_context* core,
                                                      Registry& registry) {
    if (!settings.gateway) FT_TRY_VOID(etcd::check(settings.client));
    std::unique_ptr<EtcdStore> store(new EtcdStore(settings, core, registry));
    if (use != Use::read) {
        FT_TRY(store->mark_, etcd::MarkFile::open(settings.mark));
    }
    return store;
}

// The store's key, the end of history, and the history that the mark names, at one revision.
Result<TransactionAnswer> EtcdStore::look() {
    Transaction transaction;
    // Never holds, so that the keys are read: all at once, and by the leader's word.
    transaction.compares = {{keys_.store(), INT64_MAX, {}}};
    const uint64_t marked = mark_ && mark_->mark() ? mark_->mark()->sequence : 0;
    transaction.otherwise = {keys_.store(), keys_.end(), keys_.history(marked)};
    FT_TRY(const std::string body, client_->read("/v3/kv/txn", encode(transaction)));
    FT_TRY(TransactionAnswer answer, etcd::decode_transaction(body, transaction));
    if (answer.succeeded)
        return fail(Errc::protocol, "etcd's answer: succeeded with the impossible");
    return answer;
}

Result<> EtcdStore::take_store(const TransactionAnswer& now) {
    const KeyValue& store = now.read[kStore];
    if (!store.there()) {
        return fail(Errc::not_found, "etcd {}: holds no tiebreaker's store", keys_.prefix());
    }
    auto info = etcd::decode_store(store.value);
    if (!info) return fail(std::move(info).error().within("etcd " + store.key));
    auto end = etcd::decode_end(now.read[kEnd].value);
    if (!end) return fail(std::move(end).error().within("etcd " + keys_.end()));
    info_ = std::move(*info);
    store_revision_ = store.mod_revision;
    end_ = std::move(*end);
    end_revision_ = now.read[kEnd].mod_revision;
    return {};
}

// Whether what was told from this machine can rest on this store.
Result<> EtcdStore::check_identity() {
    const std::string where = "etcd " + keys_.prefix();
    if (!info_.condemned.empty()) {
        return fail(Errc::denied, "{}: was condemned: {}. {}", where, info_.condemned,
                    kRestoreHint);
    }
    if (info_.cluster_id != client_->cluster_id()) {
        return fail(Errc::denied,
                    "{}: cluster {:016x} holds a copy of the store of cluster {:016x}. {}", where,
                    client_->cluster_id(), info_.cluster_id, kRestoreHint);
    }
    const std::optional<Mark>& mark = mark_->mark();
    if (!mark) {
        return fail(Errc::denied,
                    "{}: store {:016x} was never served from this machine, which can therefore not "
                    "tell whether it is complete. If etcd was not restored from a backup, "
                    "`antipode-tiebreaker admin adopt` vouches for it",
                    where, info_.identity.value());
    }
    if (mark->store != info_.identity) {
        return fail(Errc::denied,
                    "{}: is store {:016x}, but this machine served store {:016x}. If it was given "
                    "a new identity on purpose, `antipode-tiebreaker admin adopt` follows it",
                    where, info_.identity.value(), mark->store.value());
    }
    return {};
}

Result<> EtcdStore::check_mark(const KeyValue& history) const {
    const std::optional<Mark>& mark = mark_->mark();
    if (!mark || mark->sequence == 0) return {};
    const auto lost = [&](std::string_view what) {
        return fail(Errc::denied,
                    "etcd {}: has lost decisions that were given: its history {} line {}. {}",
                    keys_.prefix(), what, mark->sequence, kRestoreHint);
    };
    if (!history.there()) return lost("does not have");
    FT_TRY(const etcd::Lines lines, etcd::decode_lines(history.value));
    if (lines.chain != mark->chain) return lost("differs up to");
    return {};
}

// Nothing that rests on `end` may be told before this returns.
Result<> EtcdStore::cover(const etcd::End& end) {
    const Mark mark{info_.identity, client_->cluster_id(), end.sequence, end.chain};
    if (mark_->mark() == mark) return {};
    return mark_->write(mark);
}

Result<> EtcdStore::make(const TransactionAnswer& now) {
    info_ = {random_identity(), now.header.cluster_id, {}};
    store_revision_ = 0;
    end_ = {};
    // The mark first: a store without one would have to be adopted.
    FT_TRY_VOID(cover(end_));
    FT_TRY_VOID(put_store(now.read[kEnd].mod_revision));
    logger("tiebreaker")
        .warn("etcd {}: made anew in cluster {:016x}, store {:016x}", keys_.prefix(),
              info_.cluster_id, info_.identity.value());
    return {};
}

// Writes info_, and an end if there is none, over what store_revision_ names.
Result<> EtcdStore::put_store(uint64_t end_revision) {
    Transaction transaction;
    transaction.compares = {{keys_.store(), store_revision_, {}}};
    transaction.puts = {{keys_.store(), encode(info_)}};
    if (end_revision == 0) {
        transaction.compares.push_back({keys_.end(), 0, {}});
        transaction.puts.push_back({keys_.end(), encode(end_)});
    }
    // Asked again it does not hold any more; whether it was applied is then seen by its value.
    auto written = client_->read("/v3/kv/txn", encode(transaction));
    if (!written) return fail(std::move(written).error());
    FT_TRY(const TransactionAnswer now, look());
    if (now.read[kStore].value != encode(info_)) {
        return fail(Errc::busy, "etcd {}: another tiebreaker is changing its identity",
                    keys_.prefix());
    }
    return take_store(now);
}

void EtcdStore::condemn(const std::string& why) {
    info_.condemned = why;
    const auto condemned = put_store(end_revision_);
    if (!condemned) {
        logger("tiebreaker").error("condemning the store: {}", condemned.error().context);
    }
}

// A page at a time, so that no answer grows with the store.
Result<> EtcdStore::walk(Range range, const Visit& visit) {
    while (true) {
        FT_TRY(const std::string body, client_->read("/v3/kv/range", encode(range)));
        FT_TRY(const RangeAnswer answer, etcd::decode_range(body));
        for (const KeyValue& key : answer.keys) {
            FT_TRY(const Walk next, visit(key));
            if (next == Walk::enough) return {};
        }
        if (!answer.more || answer.keys.empty()) return {};
        if (range.newest_first) {
            range.end = answer.keys.back().key;
        } else {
            range.key = answer.keys.back().key + '\0';
        }
    }
}

Range EtcdStore::pairs_range(uint64_t revision) const {
    Range range;
    range.key = keys_.pairs();
    range.end = etcd::end_of(keys_.pairs());
    range.keys_max = kPairsPerPage;
    range.revision = revision;
    return range;
}

Result<std::vector<Stored>> EtcdStore::pairs_at(uint64_t revision, uint64_t written_since) {
    std::vector<Stored> out;
    Range range = pairs_range(revision);
    range.written_since = written_since;
    FT_TRY_VOID(walk(range, [&](const KeyValue& pair) -> Result<Walk> {
        FT_TRY(Stored stored, stored_from(pair));
        out.push_back(std::move(stored));
        return Walk::on;
    }));
    return out;
}

Result<std::vector<Stored>> EtcdStore::load() {
    for (int looks = 1;; ++looks) {
        FT_TRY(const TransactionAnswer now, look());
        const wire::StoreIdentity opened = info_.identity;
        FT_TRY_VOID(take_store(now));
        if (info_.identity != opened) {
            return fail(Errc::denied, "etcd {}: its identity is being changed", keys_.prefix());
        }
        if (mark_) {
            if (auto sound = check_mark(now.read[kMarkHistory]); !sound) {
                condemn(sound.error().context);
                return fail(std::move(sound).error());
            }
        }
        auto pairs = pairs_at(now.header.revision, 0);
        if (!pairs && looks < kLooksMax) continue;  // that revision was compacted meanwhile
        if (!pairs) return pairs;
        if (pairs->size() != end_.pairs) {
            return fail(Errc::corrupt,
                        "etcd {}: holds {} pairs, expected {}: `antipode-tiebreaker admin verify` "
                        "says which were deleted. {}",
                        keys_.prefix(), pairs->size(), end_.pairs, kRestoreHint);
        }
        if (mark_) FT_TRY_VOID(cover(end_));
        followed_revision_ = now.header.revision;
        return pairs;
    }
}

Result<std::vector<Decided>> EtcdStore::history(const Name& pair, size_t lines_max) {
    std::vector<Decided> out;
    Range range;
    range.key = keys_.histories();
    range.end = etcd::end_of(keys_.histories());
    range.keys_max = kHistoriesPerPage;
    range.newest_first = true;
    FT_TRY_VOID(walk(range, [&](const KeyValue& key) -> Result<Walk> {
        FT_TRY(const etcd::Lines lines, etcd::decode_lines(key.value));
        for (auto line = lines.lines.rbegin(); line != lines.lines.rend(); ++line) {
            if (out.size() >= lines_max) return Walk::enough;
            auto decided = decode_history_line(*line);
            if (!decided) return fail(std::move(decided).error().within("etcd " + key.key));
            if (pair.empty() || decided->request.pair == pair) out.push_back(std::move(*decided));
        }
        return Walk::on;
    }));
    std::reverse(out.begin(), out.end());
    return out;
}

// Follows history up to `end`; returns each pair's last record, encoded, by name.
Result<LastRecords> EtcdStore::verify_history_up_to(const etcd::End& end, Verification& out) {
    HistoryCheck check(out);
    Range range;
    range.key = keys_.histories();
    range.end = keys_.history(end.sequence) + '\0';
    range.keys_max = kHistoriesPerPage;
    FT_TRY_VOID(walk(range, [&](const KeyValue& key) -> Result<Walk> {
        const auto lines = etcd::decode_lines(key.value);
        if (!lines) {
            check.found(lines.error().context);
            return check.full() ? Walk::enough : Walk::on;
        }
        for (const std::string& line : lines->lines) check.add(line);
        check.expect_chain(lines->chain);
        if (key.key != keys_.history(check.end().sequence)) check.found("stands at " + key.key);
        return check.full() ? Walk::enough : Walk::on;
    }));
    if (check.end().sequence != end.sequence) {
        check.found(fmt::format("history ends at line {}, expected {}", check.end().sequence,
                                end.sequence));
    }
    check.expect_chain(end.chain);
    return check.records();
}

Result<Verification> EtcdStore::verify() {
    Verification out;
    FT_TRY(const TransactionAnswer now, look());
    FT_TRY_VOID(take_store(now));
    if (!info_.condemned.empty()) out.findings.push_back("condemned: " + info_.condemned);
    std::vector<KeyValue> pairs;
    FT_TRY_VOID(walk(pairs_range(now.header.revision), [&](const KeyValue& pair) -> Result<Walk> {
        pairs.push_back(pair);
        return Walk::on;
    }));
    // History is only added to, so that it may be read later than the pairs.
    FT_TRY(const auto last, verify_history_up_to(end_, out));
    std::set<std::string> there;
    for (const KeyValue& pair : pairs) {
        ++out.pairs;
        const std::string name = pair.key.substr(keys_.pairs().size());
        check_pair(name, pair.value, last, out);
        there.insert(name);
    }
    for (const auto& [name, record] : last) {
        if (!there.contains(name))
            out.findings.push_back(fmt::format("pair {}: was deleted", name));
    }
    return out;
}

Result<> EtcdStore::backup(const std::string&) {
    return fail(
        Errc::unsupported,
        "backup: the records are in etcd: `etcdctl snapshot save FILE` copies them, with all "
        "else that is in it");
}

// Before a store is followed for a reason that only an administrator knows.
Result<> EtcdStore::expect_sound() {
    FT_TRY(const Verification verification, verify());
    for (const std::string& finding : verification.findings) {
        if (finding.starts_with("condemned: ")) continue;
        return fail(Errc::corrupt, "etcd {}: {}", keys_.prefix(), finding);
    }
    return {};
}

Result<wire::StoreIdentity> EtcdStore::renew_identity(const EtcdSettings& settings) {
    Registry registry;
    FT_TRY(auto store, prepare(settings, Use::change, nullptr, registry));
    FT_TRY(const TransactionAnswer now, store->look());
    if (!now.read[kStore].there()) {
        FT_TRY_VOID(store->make(now));
        return store->identity();
    }
    FT_TRY_VOID(store->expect_sound());
    store->info_ = {random_identity(), store->client_->cluster_id(), {}};
    FT_TRY_VOID(store->put_store(store->end_revision_));
    FT_TRY_VOID(store->cover(store->end_));
    return store->identity();
}

Result<wire::StoreIdentity> EtcdStore::adopt(const EtcdSettings& settings) {
    Registry registry;
    FT_TRY(auto store, prepare(settings, Use::change, nullptr, registry));
    FT_TRY_VOID(store->expect_sound());
    FT_TRY(const TransactionAnswer now, store->look());
    FT_TRY_VOID(store->take_store(now));
    const std::optional<Mark>& mark = store->mark_->mark();
    if (mark && mark->store == store->identity()) {
        // To forget what was told is for `restore`, which every site notices.
        FT_TRY_VOID(store->check_mark(now.read[kMarkHistory]));
    }
    const etcd::StoreInfo info = store->info_;
    if (info.condemned.empty() && info.cluster_id == store->client_->cluster_id()) {
        FT_TRY_VOID(store->cover(store->end_));
    }
    FT_TRY_VOID(store->check_identity());
    return store->identity();
}

}  // namespace antipode::tiebreaker
