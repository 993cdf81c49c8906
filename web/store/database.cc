#include "web/store/database.h"

#include <array>
#include <fcntl.h>
#include <sqlite3.h>

#include "common/base/check.h"
#include "common/base/unique_fd.h"

namespace antipode::web {
namespace {

// Version n is reached by running the first n scripts; a script that was released is never changed.
constexpr std::array kMigrations{
    R"(
CREATE TABLE users (
    name TEXT PRIMARY KEY, role TEXT NOT NULL, password TEXT NOT NULL,
    disabled INTEGER NOT NULL DEFAULT 0,
    created_unix_ms INTEGER NOT NULL, changed_unix_ms INTEGER NOT NULL) STRICT;
CREATE TABLE sessions (
    hash TEXT PRIMARY KEY, user TEXT NOT NULL REFERENCES users(name) ON DELETE CASCADE,
    csrf TEXT NOT NULL,
    remote TEXT NOT NULL, created_unix_ms INTEGER NOT NULL,
    seen_unix_ms INTEGER NOT NULL) STRICT;
CREATE TABLE tokens (
    id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, role TEXT NOT NULL,
    hash TEXT NOT NULL UNIQUE,
    created_by TEXT NOT NULL, created_unix_ms INTEGER NOT NULL, expires_unix_ms INTEGER,
    used_unix_ms INTEGER) STRICT;
CREATE TABLE audit (
    id INTEGER PRIMARY KEY AUTOINCREMENT, time_unix_ms INTEGER NOT NULL, actor TEXT NOT NULL,
    via TEXT NOT NULL,
    remote TEXT NOT NULL, action TEXT NOT NULL, target TEXT NOT NULL, outcome TEXT NOT NULL,
    detail TEXT NOT NULL) STRICT;
CREATE TABLE events (
    id INTEGER PRIMARY KEY AUTOINCREMENT, pair TEXT NOT NULL, site TEXT NOT NULL,
    incarnation TEXT NOT NULL,
    sequence INTEGER NOT NULL, time_unix_ms INTEGER NOT NULL, code TEXT NOT NULL,
    severity INTEGER NOT NULL,
    text TEXT NOT NULL, UNIQUE (pair, site, incarnation, sequence)) STRICT;
CREATE INDEX events_by_pair ON events (pair, id);
CREATE TABLE tasks (
    id TEXT PRIMARY KEY, number INTEGER NOT NULL UNIQUE, pair TEXT NOT NULL, site TEXT NOT NULL,
    action TEXT NOT NULL, actor TEXT NOT NULL, state TEXT NOT NULL, progress REAL,
    text TEXT NOT NULL,
    incarnation TEXT NOT NULL, operation INTEGER NOT NULL, created_unix_ms INTEGER NOT NULL,
    ended_unix_ms INTEGER) STRICT;
CREATE TABLE idempotency (
    actor TEXT NOT NULL, key TEXT NOT NULL, request TEXT NOT NULL, status INTEGER NOT NULL,
    body TEXT NOT NULL,
    created_unix_ms INTEGER NOT NULL, PRIMARY KEY (actor, key)) STRICT;
CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
)",
    R"(
CREATE TABLE pairings (
    pair TEXT PRIMARY KEY, document TEXT NOT NULL, lasting TEXT NOT NULL,
    changed_unix_ms INTEGER NOT NULL) STRICT;
)",
    R"(
CREATE TABLE drills (
    id TEXT PRIMARY KEY, number INTEGER NOT NULL UNIQUE, pair TEXT NOT NULL, kind TEXT NOT NULL,
    actor TEXT NOT NULL, scheduled INTEGER NOT NULL, step TEXT NOT NULL,
    created_unix_ms INTEGER NOT NULL, ended_unix_ms INTEGER, verdict TEXT,
    rpo_seconds REAL, rto_seconds REAL, document TEXT) STRICT;
CREATE TABLE drill_schedules (
    pair TEXT NOT NULL, kind TEXT NOT NULL, document TEXT NOT NULL,
    PRIMARY KEY (pair, kind)) STRICT;
CREATE TABLE hook_runs (
    id INTEGER PRIMARY KEY AUTOINCREMENT, hook TEXT NOT NULL, pair TEXT NOT NULL,
    site TEXT NOT NULL, code TEXT NOT NULL, attempt INTEGER NOT NULL, outcome TEXT NOT NULL,
    text TEXT NOT NULL, output TEXT NOT NULL, began_unix_ms INTEGER NOT NULL,
    took_ms INTEGER NOT NULL) STRICT;
)",
};

// One use of a prepared statement.
class Statement {
  public:
    explicit Statement(sqlite3_stmt* handle) : handle_(handle) {}
    ~Statement() { sqlite3_finalize(handle_); }
    Statement(const Statement&) = delete;
    Statement& operator=(const Statement&) = delete;
    sqlite3_stmt* get() const { return handle_; }

    int bind(const std::vector<SqlValue>& values) {
        int index = 0;
        for (const SqlValue& value : values) {
            ++index;
            int code = SQLITE_OK;
            if (const auto* number = std::get_if<int64_t>(&value)) {
                code = sqlite3_bind_int64(handle_, index, *number);
            } else if (const auto* real = std::get_if<double>(&value)) {
                code = sqlite3_bind_double(handle_, index, *real);
            } else if (const auto* text = std::get_if<std::string>(&value)) {
                code = sqlite3_bind_text64(handle_, index, text->data(), text->size(),
                                           SQLITE_TRANSIENT, SQLITE_UTF8);
            } else {
                code = sqlite3_bind_null(handle_, index);
            }
            if (code != SQLITE_OK) return code;
        }
        return SQLITE_OK;
    }

  private:
    sqlite3_stmt* handle_;
};

Errc code_of(int sqlite_code) {
    switch (sqlite_code & 0xff) {
        case SQLITE_FULL:
            return Errc::no_space;
        case SQLITE_CORRUPT:
        case SQLITE_NOTADB:
            return Errc::corrupt;
        case SQLITE_BUSY:
        case SQLITE_LOCKED:
            return Errc::busy;
        case SQLITE_CONSTRAINT:
            return Errc::already_exists;
        case SQLITE_PERM:
        case SQLITE_READONLY:
            return Errc::denied;
        default:
            return Errc::io;
    }
}

}  // namespace

int64_t SqlRow::number(int column) const {
    return sqlite3_column_int64(statement_, column);
}

double SqlRow::real(int column) const {
    return sqlite3_column_double(statement_, column);
}

std::string SqlRow::text(int column) const {
    const auto* bytes = reinterpret_cast<const char*>(sqlite3_column_text(statement_, column));
    if (bytes == nullptr) return {};
    return {bytes, static_cast<size_t>(sqlite3_column_bytes(statement_, column))};
}

bool SqlRow::is_null(int column) const {
    return sqlite3_column_type(statement_, column) == SQLITE_NULL;
}

Database::~Database() {
    const int code = sqlite3_close(handle_);
    FT_CHECK(code == SQLITE_OK, "a statement of {} outlives it", path_);
}

Error Database::failure(std::string_view what) const {
    return {code_of(sqlite3_extended_errcode(handle_)),
            fmt::format("database {}: {}: {}", path_, what, sqlite3_errmsg(handle_))};
}

Result<std::unique_ptr<Database>> Database::open(const std::string& path) {
    if (path != ":memory:") {
        // SQLite would make it with the umask's mode; it holds password hashes.
        const UniqueFd made(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
        if (!made) return fail_errno(errno, "database {}", path);
    }
    sqlite3* handle = nullptr;
    const int code =
        sqlite3_open_v2(path.c_str(), &handle, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, nullptr);
    if (handle == nullptr) return fail(Errc::io, "database {}: out of memory", path);
    std::unique_ptr<Database> database(new Database(handle, path));
    if (code != SQLITE_OK) return fail(database->failure("open"));
    sqlite3_busy_timeout(handle, 5000);
    FT_TRY_VOID(database->execute(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA foreign_keys=ON; "
        "PRAGMA trusted_schema=OFF;"));
    FT_TRY_VOID(database->migrate());
    return database;
}

Result<> Database::execute(const char* script) {
    if (sqlite3_exec(handle_, script, nullptr, nullptr, nullptr) != SQLITE_OK) {
        return fail(failure("statement"));
    }
    return {};
}

Result<> Database::migrate() {
    int64_t version = 0;
    FT_TRY_VOID(
        query("PRAGMA user_version", {}, [&](const SqlRow& row) { version = row.number(0); }));
    if (version > static_cast<int64_t>(kMigrations.size())) {
        return fail(Errc::version, "database {}: is of version {}, this program knows up to {}",
                    path_, version, kMigrations.size());
    }
    for (auto at = static_cast<size_t>(version); at < kMigrations.size(); ++at) {
        auto done = transaction([&]() -> Result<> {
            FT_TRY_VOID(execute(kMigrations[at]));
            return execute(fmt::format("PRAGMA user_version={}", at + 1).c_str());
        });
        if (!done) return done;
    }
    return {};
}

Result<> Database::run(std::string_view sql, const std::vector<SqlValue>& values) {
    return query(sql, values, [](const SqlRow&) {});
}

Result<> Database::query(std::string_view sql, const std::vector<SqlValue>& values,
                         const std::function<void(const SqlRow&)>& each) {
    sqlite3_stmt* handle = nullptr;
    if (sqlite3_prepare_v2(handle_, sql.data(), static_cast<int>(sql.size()), &handle, nullptr) !=
        SQLITE_OK) {
        return fail(failure("prepare"));
    }
    Statement statement(handle);
    FT_CHECK(sqlite3_bind_parameter_count(handle) == static_cast<int>(values.size()),
             "{} values for: {}", values.size(), sql);
    if (statement.bind(values) != SQLITE_OK) return fail(failure("bind"));
    for (;;) {
        const int code = sqlite3_step(handle);
        if (code == SQLITE_DONE) return {};
        if (code != SQLITE_ROW) return fail(failure("step"));
        each(SqlRow(handle));
    }
}

int64_t Database::last_row_id() const {
    return sqlite3_last_insert_rowid(handle_);
}

int64_t Database::changed_rows() const {
    return sqlite3_changes64(handle_);
}

Result<> Database::transaction(const std::function<Result<>()>& work) {
    const std::string point = fmt::format("nested{}", depth_);
    const bool outer = depth_ == 0;
    FT_TRY_VOID(execute(outer ? "BEGIN IMMEDIATE" : ("SAVEPOINT " + point).c_str()));
    ++depth_;
    auto done = work();
    --depth_;
    if (done) done = execute(outer ? "COMMIT" : ("RELEASE " + point).c_str());
    if (done) return done;
    const std::string undo = outer ? "ROLLBACK" : "ROLLBACK TO " + point + "; RELEASE " + point;
    (void)execute(undo.c_str());
    return done;
}

}  // namespace antipode::web
