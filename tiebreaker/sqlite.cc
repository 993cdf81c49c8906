#include "tiebreaker/sqlite.h"

namespace antipode::tiebreaker {
namespace {

Error error_of(sqlite3* database, const std::string& path) {
    const int code = sqlite3_extended_errcode(database);
    Errc kind = Errc::io;
    switch (code & 0xff) {
        case SQLITE_CORRUPT:
        case SQLITE_NOTADB:
            kind = Errc::corrupt;
            break;
        case SQLITE_FULL:
            kind = Errc::no_space;
            break;
        case SQLITE_BUSY:
        case SQLITE_LOCKED:
            kind = Errc::busy;
            break;
        case SQLITE_CANTOPEN:
            kind = Errc::not_found;
            break;
        case SQLITE_READONLY:
        case SQLITE_PERM:
            kind = Errc::denied;
            break;
        default:
            break;
    }
    return {kind, fmt::format("database {}: {} (SQLite {})", path, sqlite3_errmsg(database), code)};
}

}  // namespace

Result<Database> Database::open(const std::string& path, Open how) {
    int flags = SQLITE_OPEN_NOMUTEX;
    switch (how) {
        case Open::create:
            flags |= SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
            break;
        case Open::write:
        case Open::read:
            flags |= SQLITE_OPEN_READWRITE;
            break;  // a WAL's reader writes its index
    }
    sqlite3* raw = nullptr;
    const int code = sqlite3_open_v2(path.c_str(), &raw, flags, nullptr);
    Database database(raw, path);
    if (code != SQLITE_OK) {
        if (raw == nullptr) return fail(Errc::io, "database {}: out of memory", path);
        return fail(error_of(raw, path));
    }
    sqlite3_extended_result_codes(raw, 1);
    sqlite3_busy_timeout(raw, 5000);
    if (how == Open::read) FT_TRY_VOID(database.run("PRAGMA query_only = 1"));
    return database;
}

Error Database::error() const {
    return error_of(database_.get(), path_);
}

Result<> Database::run(const char* sql) {
    if (sqlite3_exec(database_.get(), sql, nullptr, nullptr, nullptr) != SQLITE_OK) {
        return fail(error());
    }
    return {};
}

Result<Statement> Database::prepare(std::string_view sql) {
    sqlite3_stmt* raw = nullptr;
    if (sqlite3_prepare_v3(database_.get(), sql.data(), static_cast<int>(sql.size()),
                           SQLITE_PREPARE_PERSISTENT, &raw, nullptr) != SQLITE_OK) {
        return fail(error());
    }
    return Statement(raw, path_);
}

Result<Statement::Row> Statement::step() {
    switch (sqlite3_step(statement_.get())) {
        case SQLITE_ROW:
            return Row::there;
        case SQLITE_DONE:
            return Row::none;
        default:
            return fail(error_of(sqlite3_db_handle(statement_.get()), path_));
    }
}

Result<> Statement::run() {
    auto stepped = step();
    reset();
    if (!stepped) return fail(std::move(stepped).error());
    return {};
}

std::string_view Statement::bytes(int column) const {
    const void* data = sqlite3_column_blob(statement_.get(), column);
    const int length = sqlite3_column_bytes(statement_.get(), column);
    return {static_cast<const char*>(data), static_cast<size_t>(length)};
}

}  // namespace antipode::tiebreaker
