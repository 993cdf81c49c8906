#include "tiebreaker/sqlite_schema.h"

#include <cerrno>
#include <charconv>
#include <fcntl.h>
#include <initializer_list>
#include <sys/stat.h>
#include <unistd.h>

#include "common/env/posix/storage_file.h"
#include "common/wire/arbiter_frames.h"
#include "tiebreaker/atomic_file.h"
#include "tiebreaker/history_line.h"

namespace antipode::tiebreaker {

const char* const kPragmas =
    "PRAGMA journal_mode = WAL;"
    "PRAGMA synchronous = FULL;"
    "PRAGMA foreign_keys = ON;"
    "PRAGMA trusted_schema = OFF;"
    "PRAGMA wal_autocheckpoint = 4000;";

namespace {

constexpr int64_t kApplicationId = 0x41505442;  // "APTB"
// 1: without `pruned`; nothing could be taken out of history.
constexpr int64_t kFormat = 2;

constexpr const char* kHistoryLimitSchema = R"(
CREATE TABLE pruned (
    first INTEGER PRIMARY KEY,
    last INTEGER NOT NULL CHECK (last >= first),
    chain BLOB NOT NULL
);
CREATE TRIGGER history_is_not_deleted BEFORE DELETE ON history
    WHEN OLD.sequence > ifnull(
        (SELECT last FROM pruned WHERE first <= OLD.sequence ORDER BY first DESC LIMIT 1), 0)
    BEGIN SELECT RAISE(ABORT, 'history is only added to'); END;
)";

constexpr const char* kSchema = R"(
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE pair (
    name TEXT PRIMARY KEY,
    version INTEGER NOT NULL CHECK (version > 0),
    record BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE history (
    sequence INTEGER PRIMARY KEY,
    at_ms INTEGER NOT NULL,
    pair TEXT NOT NULL,
    by TEXT NOT NULL,
    request BLOB NOT NULL,
    kind INTEGER NOT NULL,
    reason INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    unlisted INTEGER NOT NULL,
    record BLOB,
    chain BLOB NOT NULL
);
CREATE TRIGGER history_is_not_changed BEFORE UPDATE ON history
    BEGIN SELECT RAISE(ABORT, 'history is only added to'); END;
CREATE TRIGGER pair_is_not_deleted BEFORE DELETE ON pair
    BEGIN SELECT RAISE(ABORT, 'a pair is forgotten, not deleted: its epoch is kept'); END;
)";

Result<int64_t> pragma(Database& database, const char* name) {
    FT_TRY(Statement read, database.prepare(fmt::format("PRAGMA {}", name)));
    FT_TRY(const Statement::Row row, read.step());
    if (row == Statement::Row::none) return fail(Errc::corrupt, "PRAGMA {} says nothing", name);
    return read.integer(0);
}

Result<std::string> meta(Database& database, std::string_view key) {
    FT_TRY(Statement read, database.prepare("SELECT value FROM meta WHERE key = ?1"));
    read.bind(1, key);
    FT_TRY(const Statement::Row row, read.step());
    if (row == Statement::Row::none) {
        return fail(Errc::corrupt, "database {}: meta has no '{}'", database.path(), key);
    }
    return std::string(read.bytes(0));
}

Result<> set_meta(Database& database, std::string_view key, std::string_view value) {
    FT_TRY(Statement write,
           database.prepare("INSERT OR REPLACE INTO meta (key, value) VALUES (?1, ?2)"));
    write.bind(1, key);
    write.bind(2, value);
    return write.run();
}

// Inode and time of birth: a copy that is put in the file's place has others.
Result<std::string> file_id(const std::string& path) {
    struct statx info {};
    if (::statx(AT_FDCWD, path.c_str(), 0, STATX_INO | STATX_BTIME, &info) != 0) {
        return fail_errno(errno, "database {}", path);
    }
    return fmt::format("{}-{}.{:09}", info.stx_ino, info.stx_btime.tv_sec, info.stx_btime.tv_nsec);
}

// The database without the log beside it would be an older one that nothing tells from the newest,
// and a log beside a database that it is not of would be read into that. So the database goes
// first, with its name, and whatever is put at `path` finds no log there: a crash at any moment
// leaves no database, or a whole one.
Result<> set_aside(const std::string& path, std::initializer_list<const char*> parts) {
    for (const char* part : parts) {
        const std::string kept = path + ".replaced" + part;
        if (::rename((path + part).c_str(), kept.c_str()) != 0 && errno != ENOENT) {
            return fail_errno(errno, "database {}{}", path, part);
        }
    }
    return sync_directory_of(path);
}

// Flushes and closes what was made at `partial`, and gives it its name.
Result<> put_in_place(const std::string& partial, const std::string& path) {
    const UniqueFd fd(::open(partial.c_str(), O_RDWR | O_CLOEXEC));
    if (!fd || ::fsync(fd.get()) != 0) return fail_errno(errno, "database {}", partial);
    FT_TRY_VOID(env::give_to_owner_of_directory(fd.get(), path));
    FT_TRY_VOID(set_aside(path, {"-wal", "-shm", "-journal"}));
    if (::rename(partial.c_str(), path.c_str()) != 0) {
        return fail_errno(errno, "database {}", path);
    }
    return sync_directory_of(path);
}

void remove_database(const std::string& path) {
    for (const char* part : {"", "-wal", "-shm", "-journal"}) ::unlink((path + part).c_str());
}

Result<> fill_new(const std::string& partial, wire::StoreIdentity identity) {
    FT_TRY(Database database, Database::open(partial, Database::Open::create));
    if (::chmod(partial.c_str(), 0600) != 0) return fail_errno(errno, "database {}", partial);
    FT_TRY_VOID(database.run(kPragmas));
    FT_TRY_VOID(database.run("BEGIN"));
    FT_TRY_VOID(database.run(kSchema));
    FT_TRY_VOID(database.run(kHistoryLimitSchema));
    FT_TRY_VOID(database.run(fmt::format("PRAGMA application_id = {}", kApplicationId).c_str()));
    FT_TRY_VOID(database.run(fmt::format("PRAGMA user_version = {}", kFormat).c_str()));
    FT_TRY_VOID(set_meta(database, "identity", fmt::format("{:016x}", identity.value())));
    FT_TRY(const std::string id, file_id(partial));
    FT_TRY_VOID(set_meta(database, "file", id));
    FT_TRY_VOID(database.run("COMMIT"));
    return database.run("PRAGMA wal_checkpoint(TRUNCATE)");
}

// In the history of each pair, so that who looks for what became of it sees why its epochs end
// here.
Result<> note_restore(Database& database, const std::string& by) {
    FT_TRY(HistoryEnd end, last_history_line(database));
    FT_TRY(Statement append, prepare_append(database));
    FT_TRY(Statement all, database.prepare("SELECT record FROM pair ORDER BY name"));
    while (true) {
        FT_TRY(const Statement::Row row, all.step());
        if (row == Statement::Row::none) return {};
        FT_TRY(const wire::Record record,
               wire::decode_record(std::as_bytes(std::span(all.bytes(0)))));
        const auto now =
            std::chrono::floor<std::chrono::milliseconds>(std::chrono::system_clock::now());
        Decided line = remark(now, by, record.pair, record.epoch);
        FT_TRY_VOID(append_history_line(append, line, end));
    }
}

Result<> copy_pages(Database& from, Database& to) {
    sqlite3_backup* copy = sqlite3_backup_init(to.handle(), "main", from.handle(), "main");
    if (copy == nullptr) return fail(to.error());
    const int stepped = sqlite3_backup_step(copy, -1);
    sqlite3_backup_finish(copy);
    if (stepped != SQLITE_DONE) {
        return fail(Errc::io, "database {}: copying it: {}", from.path(), sqlite3_errstr(stepped));
    }
    return {};
}

Result<> check_pairs(Database& database, const LastRecords& last, Verification& out) {
    FT_TRY(Statement all, database.prepare("SELECT name, record FROM pair ORDER BY name"));
    while (true) {
        FT_TRY(const Statement::Row row, all.step());
        if (row == Statement::Row::none) return {};
        ++out.pairs;
        check_pair(std::string(all.bytes(0)), std::string(all.bytes(1)), last, out);
    }
}

}  // namespace

Result<> make_database(const std::string& path, wire::StoreIdentity identity) {
    const std::string partial = path + ".partial";
    remove_database(partial);
    auto made = fill_new(partial, identity);
    if (made) made = put_in_place(partial, path);
    if (!made) remove_database(partial);
    return made;
}

Result<wire::StoreIdentity> check_database(Database& database) {
    FT_TRY(const int64_t application, pragma(database, "application_id"));
    FT_TRY(const int64_t format, pragma(database, "user_version"));
    if (application != kApplicationId) {
        return fail(Errc::corrupt, "database {}: is no tiebreaker's database", database.path());
    }
    if (format < 1 || format > kFormat) {
        return fail(Errc::version, "database {}: has format {}, this program knows {}",
                    database.path(), format, kFormat);
    }
    FT_TRY(Statement check, database.prepare("PRAGMA quick_check(1)"));
    FT_TRY(const Statement::Row row, check.step());
    if (row == Statement::Row::none || check.bytes(0) != "ok") {
        return fail(Errc::corrupt, "database {}: {}", database.path(),
                    row == Statement::Row::none ? "cannot be checked" : check.bytes(0));
    }
    FT_TRY(const std::string text, meta(database, "identity"));
    uint64_t identity = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), identity, 16);
    if (error != std::errc() || end != text.data() + text.size() || identity == 0) {
        return fail(Errc::corrupt, "database {}: identity '{}' is none", database.path(), text);
    }
    return wire::StoreIdentity(identity);
}

Result<> upgrade_database(Database& database) {
    FT_TRY(const int64_t format, pragma(database, "user_version"));
    if (format != 1) return {};
    FT_TRY_VOID(database.run("BEGIN IMMEDIATE"));
    auto upgraded = database.run("DROP TRIGGER history_is_not_deleted");
    if (upgraded) upgraded = database.run(kHistoryLimitSchema);
    if (upgraded) upgraded = database.run("PRAGMA user_version = 2");
    if (upgraded) upgraded = database.run("COMMIT");
    if (!upgraded) (void)database.run("ROLLBACK");
    return upgraded;
}

Result<> check_file_is_original(Database& database) {
    FT_TRY(const std::string made, meta(database, "file"));
    FT_TRY(const std::string now, file_id(database.path()));
    if (made == now) return {};
    return fail(
        Errc::denied,
        "database {}: is a copy. A copy may be older than decisions that were given: put it "
        "back with `antipode-tiebreaker admin restore`, then enrol the pairs again",
        database.path());
}

Result<Verification> verify_database(Database& database) {
    Verification out;
    FT_TRY_VOID(database.run("BEGIN"));  // one snapshot for all that follows
    auto checked = [&]() -> Result<> {
        FT_TRY(Statement check, database.prepare("PRAGMA integrity_check(20)"));
        while (true) {
            FT_TRY(const Statement::Row row, check.step());
            if (row == Statement::Row::none) break;
            if (check.bytes(0) != "ok") out.findings.emplace_back(check.bytes(0));
        }
        FT_TRY(const auto last, verify_history(database, out));
        return check_pairs(database, last, out);
    }();
    FT_TRY_VOID(database.run("COMMIT"));
    if (!checked) return fail(std::move(checked).error());
    return out;
}

Result<> copy_database(Database& database, const std::string& path) {
    if (::access(path.c_str(), F_OK) == 0) {
        return fail(Errc::already_exists, "{}: exists", path);
    }
    const std::string partial = path + ".partial";
    remove_database(partial);
    auto copied = [&]() -> Result<> {
        FT_TRY(Database copy, Database::open(partial, Database::Open::create));
        if (::chmod(partial.c_str(), 0600) != 0) return fail_errno(errno, "{}", partial);
        FT_TRY_VOID(copy_pages(database, copy));
        FT_TRY_VOID(copy.run("PRAGMA journal_mode = DELETE"));  // one file, without a log beside it
        return {};
    }();
    if (copied) copied = put_in_place(partial, path);
    if (!copied) remove_database(partial);
    return copied;
}

Result<> restore_database(const std::string& from, const std::string& path,
                          wire::StoreIdentity identity) {
    const std::string partial = path + ".partial";
    remove_database(partial);
    auto restored = [&]() -> Result<> {
        FT_TRY(Database source, Database::open(from, Database::Open::read));
        FT_TRY(const wire::StoreIdentity old, check_database(source));
        FT_TRY(Database copy, Database::open(partial, Database::Open::create));
        if (::chmod(partial.c_str(), 0600) != 0) return fail_errno(errno, "{}", partial);
        FT_TRY_VOID(copy_pages(source, copy));
        FT_TRY(const Verification verified, verify_database(copy));
        if (!verified.findings.empty()) {
            return fail(Errc::corrupt, "database {}: {}", from, verified.findings.front());
        }
        FT_TRY_VOID(copy.run(kPragmas));
        FT_TRY_VOID(copy.run("BEGIN"));
        FT_TRY_VOID(set_meta(copy, "identity", fmt::format("{:016x}", identity.value())));
        FT_TRY_VOID(set_meta(copy, fmt::format("restored {:016x}", identity.value()),
                             fmt::format("from {} of store {:016x}", from, old.value())));
        FT_TRY_VOID(note_restore(copy, fmt::format("{}, who restored the store from {}, of store "
                                                   "{:016x}",
                                                   administrator(::getuid()), from, old.value())));
        FT_TRY(const std::string id, file_id(partial));
        FT_TRY_VOID(set_meta(copy, "file", id));
        FT_TRY_VOID(copy.run("COMMIT"));
        return copy.run("PRAGMA wal_checkpoint(TRUNCATE)");
    }();
    if (restored && ::access(path.c_str(), F_OK) == 0) {
        // What was set aside before goes, its log first. The log of this one follows it.
        for (const char* part : {"-wal", "-shm", ""}) ::unlink((path + ".replaced" + part).c_str());
        restored = set_aside(path, {""});
    }
    if (restored) restored = put_in_place(partial, path);
    if (!restored) remove_database(partial);
    return restored;
}

}  // namespace antipode::tiebreaker
