#include "tiebreaker/sqlite_store.h"

#include <openssl/evp.h>
#include <openssl/rand.h>
#include <sys/stat.h>

#include "common/base/check.h"
#include "common/base/log.h"
#include "common/wire/arbiter_frames.h"
#include "tiebreaker/atomic_file.h"
#include "tiebreaker/history_line.h"
#include "tiebreaker/sqlite_schema.h"

namespace antipode::tiebreaker {
namespace {

constexpr size_t kBatchCommitsMax = 1024;

std::span<const std::byte> as_bytes(std::string_view text) {
    return std::as_bytes(std::span(text));
}

// Full disks roll back cleanly; what else can fail a COMMIT leaves it open what is on the disk.
CommitResult failure_of(const Error& error) {
    const bool sure = error.code == Errc::no_space || error.code == Errc::busy;
    return {sure ? CommitResult::Kind::failed : CommitResult::Kind::doubtful, {}, error.context};
}

Result<Stored> stored_from(const Statement& row, int record_column, int version_column) {
    FT_TRY(const wire::Record record, wire::decode_record(as_bytes(row.bytes(record_column))));
    if (const char* rule = invalid(record)) return fail(Errc::corrupt, "stored record: {}", rule);
    return Stored{record, static_cast<uint64_t>(row.integer(version_column))};
}

}  // namespace

struct SqliteStore::Statements {
    Statement begin;
    Statement commit;
    Statement rollback;
    Statement find;
    Statement put;
    Statement append;
};

std::string administrator(uid_t uid) {
    return fmt::format("administrator uid {}", uid);
}

wire::StoreIdentity random_identity() {
    uint64_t value = 0;
    while (value == 0) {
        FT_CHECK(RAND_bytes(reinterpret_cast<unsigned char*>(&value), sizeof(value)) == 1,
                 "no random numbers");
    }
    return wire::StoreIdentity(value);
}

SqliteStore::SqliteStore(Database database, boost::asio::io_context* core, Registry& registry)
    : database_(std::move(database)),
      metrics_(registry),
      lines_taken_out_(registry.counter("antipode_tiebreaker_history_lines_taken_out_total",
                                        "Lines of history beyond what is kept of a pair")),
      queue_(core) {}

SqliteStore::~SqliteStore() {
    stop();
}

Result<std::unique_ptr<SqliteStore>> SqliteStore::open(const std::string& path, Use use,
                                                       boost::asio::io_context* core,
                                                       Registry& registry) {
    UniqueFd lock;
    if (use != Use::read) {
        FT_TRY(lock, lock_file(path + ".lock", "a running antipode-tiebreaker?"));
    }
    struct stat info {};
    if (::stat(path.c_str(), &info) != 0) {
        if (errno != ENOENT || use != Use::serve) return fail_errno(errno, "database {}", path);
        const wire::StoreIdentity identity = random_identity();
        FT_TRY_VOID(make_database(path, identity));
        logger("tiebreaker").warn("database {}: made anew, store {:016x}", path, identity.value());
    }
    FT_TRY(Database database,
           Database::open(path, use == Use::read ? Database::Open::read : Database::Open::write));
    std::unique_ptr<SqliteStore> store(new SqliteStore(std::move(database), core, registry));
    store->lock_ = std::move(lock);
    if (use != Use::read) FT_TRY_VOID(store->database_.run(kPragmas));
    FT_TRY(store->identity_, check_database(store->database_));
    if (use != Use::read) {
        FT_TRY_VOID(check_file_is_original(store->database_));
        FT_TRY_VOID(upgrade_database(store->database_));
        // What a process before us wrote and could not flush is written and flushed again: an fsync
        // that failed once may leave pages that are read back but are not on the disk.
        FT_TRY_VOID(store->database_.run("PRAGMA wal_checkpoint(TRUNCATE)"));
    }
    FT_TRY_VOID(store->prepare());
    return store;
}

Result<> SqliteStore::prepare() {
    FT_TRY(Statement begin, database_.prepare("BEGIN IMMEDIATE"));
    FT_TRY(Statement commit, database_.prepare("COMMIT"));
    FT_TRY(Statement rollback, database_.prepare("ROLLBACK"));
    FT_TRY(Statement find, database_.prepare("SELECT record, version FROM pair WHERE name = ?1"));
    FT_TRY(Statement put,
           database_.prepare("INSERT INTO pair (name, version, record) VALUES (?1, ?2, ?3) ON "
                             "CONFLICT (name) DO UPDATE SET version = ?2, record = ?3"));
    FT_TRY(Statement append, prepare_append(database_));
    statements_.reset(new Statements{std::move(begin), std::move(commit), std::move(rollback),
                                     std::move(find), std::move(put), std::move(append)});
    return {};
}

Result<std::vector<Stored>> SqliteStore::load() {
    std::vector<Stored> out;
    FT_TRY(Statement all,
           database_.prepare("SELECT record, version, name FROM pair ORDER BY name"));
    while (true) {
        FT_TRY(const Statement::Row row, all.step());
        if (row == Statement::Row::none) break;
        auto stored = stored_from(all, 0, 1);
        if (!stored) {
            return fail(std::move(stored).error().within(
                fmt::format("database {}: pair {}", database_.path(), all.bytes(2))));
        }
        out.push_back(std::move(*stored));
    }
    FT_TRY(last_line_, last_history_line(database_));
    if (!lock_) return out;  // only reads
    FT_TRY_VOID(history_limit_.prepare(database_));
    FT_TRY_VOID(history_limit_.load(database_));
    return out;
}

Result<> SqliteStore::start(ChangedHandler) {
    queue_.start([this] {
        while (auto batch = queue_.take(kBatchCommitsMax, Duration::max())) {
            std::vector<CommitResult> results = write(*batch);
            queue_.deliver(std::move(*batch), std::move(results));
        }
    });
    return {};
}

void SqliteStore::commit(Commit commit) {
    queue_.push(std::move(commit));
}

CommitResult SqliteStore::commit_now(Commit commit) {
    FT_CHECK(!queue_.started(), "commit_now beside the store's thread");
    Batch batch;
    batch.push_back(std::move(commit));
    return write(batch).front();
}

void SqliteStore::set_pages_max(size_t pages_max) {
    // SQLite takes a limit below what the file has as what it has.
    (void)database_.run(
        fmt::format("PRAGMA max_page_count = {}", std::max<size_t>(pages_max, 1)).c_str());
}

std::vector<CommitResult> SqliteStore::write(const Batch& batch) {
    if (!doubtful_) {
        const Instant begin = MonotonicClock::now();
        auto results = write_in_transaction(batch);
        if (results) {
            const std::chrono::duration<double> took = MonotonicClock::now() - begin;
            metrics_.batch_seconds.observe(took.count());
            return std::move(*results);
        }
        const CommitResult failed = failure_of(results.error());
        history_limit_.rolled_back();
        doubtful_ = failed.kind == CommitResult::Kind::doubtful;
        if (sqlite3_get_autocommit(database_.handle()) == 0) {
            if (!statements_->rollback.run()) doubtful_ = true;
        }
        return std::vector(batch.size(), failed);
    }
    return std::vector(
        batch.size(), CommitResult{CommitResult::Kind::doubtful, {}, "the database failed before"});
}

Result<std::vector<CommitResult>> SqliteStore::write_in_transaction(const Batch& batch) {
    std::vector<CommitResult> results;
    results.reserve(batch.size());
    HistoryEnd end = last_line_;
    uint64_t written = 0;
    bool begun = false;
    for (const Commit& commit : batch) {
        const bool writes = commit.record || commit.history;
        if (writes && !begun) {
            FT_TRY_VOID(statements_->begin.run());
            begun = true;
        }
        FT_TRY(CommitResult result, write_one(commit, end));
        written += commit.record && result.kind == CommitResult::Kind::committed ? 1 : 0;
        results.push_back(std::move(result));
    }
    if (!begun) return results;
    FT_TRY_VOID(history_limit_.prune(statements_->append, end));
    FT_TRY_VOID(statements_->commit.run());
    last_line_ = std::move(end);
    lines_taken_out_.add(history_limit_.committed());
    metrics_.batches.add();
    metrics_.records.add(written);
    return results;
}

Result<CommitResult> SqliteStore::write_one(const Commit& commit, HistoryEnd& end) {
    FT_TRY(std::optional<Stored> current, find(commit.pair));
    if ((current ? current->version : 0) != commit.expected_version) {
        return CommitResult{CommitResult::Kind::conflict, std::move(current), {}};
    }
    if (commit.record) {
        FT_CHECK(invalid(*commit.record) == nullptr, "record of {}: {}", commit.pair,
                 invalid(*commit.record));
        const std::string bytes = wire::encode_record(*commit.record);
        const uint64_t version = commit.expected_version + 1;
        Statement& put = statements_->put;
        put.bind(1, commit.pair.view());
        put.bind(2, static_cast<int64_t>(version));
        put.bind_blob(3, bytes);
        FT_TRY_VOID(put.run());
        current = Stored{*commit.record, version};
    }
    if (commit.history) {
        FT_TRY_VOID(append_history_line(statements_->append, *commit.history, end));
        history_limit_.added(*commit.history, end.sequence);
    }
    return CommitResult{CommitResult::Kind::committed, std::move(current), {}};
}

Result<std::optional<Stored>> SqliteStore::find(const Name& pair) {
    Statement& find = statements_->find;
    find.bind(1, pair.view());
    auto row = find.step();
    std::optional<Result<Stored>> stored;
    if (row && *row == Statement::Row::there) stored = stored_from(find, 0, 1);
    find.reset();
    if (!row) return fail(std::move(row).error());
    if (!stored) return std::nullopt;
    if (!*stored) return fail(std::move(*stored).error().within(fmt::format("pair {}", pair)));
    return std::optional<Stored>(std::move(**stored));
}

Result<std::vector<Decided>> SqliteStore::history(const Name& pair, size_t lines_max) {
    return read_history(database_, pair, lines_max);
}

Result<Verification> SqliteStore::verify() {
    return verify_database(database_);
}

Result<> SqliteStore::backup(const std::string& path) {
    return copy_database(database_, path);
}

Result<wire::StoreIdentity> SqliteStore::restore(const std::string& from, const std::string& path) {
    FT_TRY(const UniqueFd lock, lock_file(path + ".lock", "stop antipode-tiebreaker first"));
    const wire::StoreIdentity identity = random_identity();
    FT_TRY_VOID(restore_database(from, path, identity));
    return identity;
}

}  // namespace antipode::tiebreaker
